"""TFAutoModel and its kin: the class that config.json's model_type asks for, for one task."""

from __future__ import annotations

import importlib
import os
from typing import Any, ClassVar, NoReturn

from bertconv import tasks
from bertconv.config import BertConfig
from bertconv.errors import RequestError
from bertconv.mapping.table import table_for
from bertconv.models.pretrained import TFPreTrainedModel


def class_for(model_type: str, task: str) -> type[TFPreTrainedModel]:
    """The class of a model type for a task.

    Raises:
        RequestError: there is none.
    """
    table = table_for(model_type)
    head = table.head_for(task)
    module = importlib.import_module(f"bertconv.models.families.{table.path.stem}")
    found: type[TFPreTrainedModel] | None = getattr(module, f"TF{head}", None)
    if found is None:
        others = [other for other, own in table.tasks.items() if own != task]
        raise RequestError(
            f"{model_type} has no class for {task.replace('_', ' ')}.", hint=f"There are {', '.join(others)}."
        )
    return found


class _AutoModel:
    """Never made itself: `from_pretrained` and `from_config` give the class of the checkpoint's architecture.

    Attributes:
        task: what the class is for.
    """

    task: ClassVar[str]

    def __init__(self, *_: Any, **__: Any) -> NoReturn:
        raise RequestError(
            f"{type(self).__name__} is never made itself.", hint="Use its from_pretrained or from_config."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """A model with the weights of a checkpoint; arguments as for `TFBertModel.from_pretrained`.

        Raises:
            UnsupportedCheckpoint: an architecture that bertconv has no classes for.
        """
        return class_for(BertConfig.model_type, cls.task).from_pretrained(
            pretrained_model_name_or_path, *args, **kwargs
        )

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """A model with fresh weights; errors as for `from_pretrained`."""
        config = BertConfig.coerce(config)
        return class_for(config.model_type, cls.task).from_config(config, **kwargs)


class TFAutoModel(_AutoModel):
    """The bare model."""

    task = tasks.BASE


class TFAutoModelForPreTraining(_AutoModel):
    """Masked words and next sentences, or what else the architecture is pretrained for."""

    task = tasks.PRETRAINING


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
