"""TFAutoModel and its kin: the class that config.json's model_type asks for, for one task."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

from bertconv import tasks
from bertconv.config import Config
from bertconv.config.auto import AutoConfig, check_class, config_class, said_class, said_family
from bertconv.config.content import MAX_BYTES, keys_of, read_json
from bertconv.errors import MissingConfig, RequestError, UnsupportedModel
from bertconv.families import Family
from bertconv.models.arguments import settle_loading, source_options
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.source import open_source


def class_for(family: Family, task: str, *others: str) -> type[TFPreTrainedModel]:
    """The class of a family for a task, or where it has none for the first of others that it has one for.

    Raises:
        UnsupportedModel: there is none.
    """
    place = f"bertconv.models.families.{family.path.stem}"
    if importlib.util.find_spec(place) is None:
        raise UnsupportedModel(
            f"there are no TensorFlow classes for {family.model_type!r}.", hint="Convert it to PyTorch's format."
        )
    head = next(filter(None, map(family.head_for, (task, *others))), None)
    found: type[TFPreTrainedModel] | None = getattr(importlib.import_module(place), f"TF{head}", None)
    if found is None:
        raise UnsupportedModel(
            f"{family.title} has no TensorFlow class for {task.replace('_', ' ')}.",
            hint=f"It has {', '.join(other for other, own in family.tasks.items() if own != task)}.",
        )
    return found


def _has_own(kind: Any, task: str) -> bool:
    """Whether there is a class of bertconv's for a class of configs, bertconv's or transformers'."""
    try:
        family = said_family({"model_type": getattr(kind, "model_type", "")})
        class_for(family, task)
    except (RequestError, UnsupportedModel):
        return False
    return config_class(family).__name__ == str(kind.__name__)


def _said(look_up: Callable[[Mapping[str, Any], str], Any], keys: Mapping[str, Any], file: str = "") -> Any:
    """The family or the class that the keys of a config name, as said_family or said_class tell it.

    Raises:
        UnsupportedModel: nobody knows it.
    """
    try:
        return look_up(keys, file)
    except RequestError as error:
        raise UnsupportedModel(error.message, hint=error.hint) from error


def _key(config_class: Any) -> tuple[str, str]:
    """What tells classes of configs apart, of which transformers and bertconv may each have one."""
    return str(getattr(config_class, "model_type", "")), config_class.__name__


class _AutoModel:
    """Never made itself: `from_pretrained` and `from_config` give the class of the checkpoint's architecture.

    Attributes:
        task: what the class is for.
        others: tasks that take its place in a family that has no class for it, the first one first.
    """

    task: ClassVar[str]
    others: ClassVar[tuple[str, ...]] = ()
    _registered: ClassVar[dict[tuple[str, str], Any]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._registered = {}

    def __init__(self, *_: Any, **__: Any) -> NoReturn:
        raise RequestError(
            f"{type(self).__name__} is never made itself.", hint="Use its from_pretrained or from_config."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """A model with the weights of a checkpoint; arguments as for `TFPreTrainedModel.from_pretrained`.

        Raises:
            UnsupportedModel: an architecture that bertconv has no classes for.
        """
        settle_loading(pretrained_model_name_or_path, kwargs)
        config = kwargs.get("config")
        source = open_source(pretrained_model_name_or_path, source_options(kwargs))
        if isinstance(config, str | os.PathLike):
            kwargs["config"] = config = AutoConfig.from_pretrained(config)
        if config is not None:
            kind = cls._class_for_config(config)
        elif source.config is None:
            raise MissingConfig(
                "has no config.json.", hint="Pass config=: an object such as BertConfig(...).", file=str(source.folder)
            )
        else:
            keys, name = read_json(source.config, MAX_BYTES), source.config.name
            kind = cls._class_of(_said(said_class, keys, name), lambda: _said(said_family, keys, name))
        return kind.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def register(cls, config_class: Any, model_class: Any, exist_ok: bool = False) -> None:
        """Let a class of configs mean a class of models of the user's own, for this automatic class alone.

        Args:
            config_class: of bertconv's or transformers' configs; `AutoConfig.register` makes its model type known.
            model_class: which has this `config_class`; it takes the place of one registered before.
            exist_ok: let it take the place of one of bertconv's.

        Raises:
            RequestError: no such classes, the model's class has another config, or there is one already.
        """
        check_class(config_class)
        if not (isinstance(model_class, type) and callable(getattr(model_class, "from_config", None))):
            raise RequestError(
                f"a class of models was expected, not {model_class!r:.80}.",
                hint="Give a class derived from TFBertModel.",
            )
        own = getattr(model_class, "config_class", None)
        if own is not None and own.__name__ != config_class.__name__:
            raise RequestError(
                f"{model_class.__name__} has the config {own.__name__}, and is to be registered for "
                f"{config_class.__name__}.",
                hint="Set config_class of the model to that class.",
            )
        if not exist_ok and _has_own(config_class, cls.task):
            raise RequestError(
                f"{cls.__name__} has a class for {config_class.__name__} already.", hint="Pass exist_ok=True."
            )
        cls._registered[_key(config_class)] = model_class

    @classmethod
    def _class_of(cls, kind: Any, family: Callable[[], Family]) -> Any:
        """The class for configs of a kind, which are of that family where nobody registered another one."""
        registered = cls._registered.get(_key(kind))
        return class_for(family(), cls.task, *cls.others) if registered is None else registered

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """A model with fresh weights; errors as for `from_pretrained`."""
        return cls._class_for_config(config).from_config(config, **kwargs)

    @classmethod
    def _class_for_config(cls, config: Any) -> Any:
        if isinstance(config, Mapping):
            return cls._class_of(_said(said_class, config), lambda: _said(said_family, config))
        if isinstance(config, Config):
            return cls._class_of(type(config), lambda: AutoConfig.coerce(config).family)
        return cls._class_of(type(config), lambda: _said(said_family, keys_of(config, "config")))


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


class TFAutoModelWithLMHead(_AutoModel):
    """Masked words; the older name."""

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
