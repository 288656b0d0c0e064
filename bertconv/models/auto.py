"""TFAutoModel and its kin: the class that config.json's model_type asks for, for one task."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from bertconv import tasks
from bertconv.config import Config
from bertconv.config_auto import AutoConfig, said_family
from bertconv.config_content import MAX_BYTES, keys_of, read_json
from bertconv.errors import MissingConfig, RequestError, UnsupportedCheckpoint
from bertconv.families import Family
from bertconv.models.arguments import settle_loading, source_options
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.source import open_source


def class_for(family: Family, task: str, *others: str) -> type[TFPreTrainedModel]:
    """The class of a family for a task, or where it has none for the first of others that it has one for.

    Raises:
        UnsupportedCheckpoint: there is none.
    """
    place = f"bertconv.models.families.{family.path.stem}"
    if importlib.util.find_spec(place) is None:
        raise UnsupportedCheckpoint(
            f"there are no TensorFlow classes for {family.model_type!r}.", hint="Convert it to PyTorch's format."
        )
    head = next(filter(None, map(family.head_for, (task, *others))), None)
    found: type[TFPreTrainedModel] | None = getattr(importlib.import_module(place), f"TF{head}", None)
    if found is None:
        raise UnsupportedCheckpoint(
            f"{family.title} has no TensorFlow class for {task.replace('_', ' ')}.",
            hint=f"It has {', '.join(other for other, own in family.tasks.items() if own != task)}.",
        )
    return found


def _family(keys: Mapping[str, Any], file: str = "") -> Family:
    """The family that the keys of a config name."""
    try:
        return said_family(keys, file)
    except RequestError as error:
        raise UnsupportedCheckpoint(error.message, hint=error.hint) from error


class _AutoModel:
    """Never made itself: `from_pretrained` and `from_config` give the class of the checkpoint's architecture.

    Attributes:
        task: what the class is for.
        others: tasks that take its place in a family that has no class for it, the first one first.
    """

    task: ClassVar[str]
    others: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *_: Any, **__: Any) -> NoReturn:
        raise RequestError(
            f"{type(self).__name__} is never made itself.", hint="Use its from_pretrained or from_config."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """A model with the weights of a checkpoint; arguments as for `TFPreTrainedModel.from_pretrained`.

        Raises:
            UnsupportedCheckpoint: an architecture that bertconv has no classes for.
        """
        settle_loading(pretrained_model_name_or_path, kwargs)
        config = kwargs.get("config")
        source = open_source(pretrained_model_name_or_path, source_options(kwargs))
        if isinstance(config, str | os.PathLike):
            kwargs["config"] = config = AutoConfig.from_pretrained(config)
        if config is not None:
            family = AutoConfig.coerce(config).family
        elif source.config is None:
            raise MissingConfig(
                "has no config.json.", hint="Pass config=: an object such as BertConfig(...).", file=str(source.folder)
            )
        else:
            family = _family(read_json(source.config, MAX_BYTES), source.config.name)
        return class_for(family, cls.task, *cls.others).from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """A model with fresh weights; errors as for `from_pretrained`."""
        if not isinstance(config, Config):
            _family(keys_of(config, "config"))
        family = AutoConfig.coerce(config).family
        return class_for(family, cls.task, *cls.others).from_config(config, **kwargs)


class TFAutoModel(_AutoModel):
    """The bare model."""

    task = tasks.BASE


class TFAutoModelForPreTraining(_AutoModel):
    """Masked words and next sentences, or what else the architecture is pretrained for."""

    task = tasks.PRETRAINING
    others = (tasks.DISCRIMINATOR, tasks.MASKED_LM)


class TFAutoModelForMaskedLM(_AutoModel):
    """Masked words."""

    task = tasks.MASKED_LM


class TFAutoModelForCausalLM(_AutoModel):
    """The next word."""

    task = tasks.CAUSAL_LM


class TFAutoModelForNextSentencePrediction(_AutoModel):
    """Next sentences."""

    task = tasks.NEXT_SENTENCE


class TFAutoModelForSequenceClassification(_AutoModel):
    """Classes of sequences."""

    task = tasks.SEQUENCE_CLASSIFICATION


class TFAutoModelForMultipleChoice(_AutoModel):
    """Choices."""

    task = tasks.MULTIPLE_CHOICE


class TFAutoModelForTokenClassification(_AutoModel):
    """Classes of tokens."""

    task = tasks.TOKEN_CLASSIFICATION


class TFAutoModelForQuestionAnswering(_AutoModel):
    """Where an answer starts and ends."""

    task = tasks.QUESTION_ANSWERING
