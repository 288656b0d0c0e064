"""TFAutoModel and its kin: the class that config.json's model_type asks for, for one task."""

from __future__ import annotations

import os
from typing import Any, ClassVar, NoReturn

from bertconv.config import BertConfig
from bertconv.errors import RequestError
from bertconv.models import bert_heads, bert_task_heads
from bertconv.models.pretrained import TFPreTrainedModel


class _AutoModel:
    """Never made itself: `from_pretrained` and `from_config` give the class of the checkpoint's architecture.

    Attributes:
        classes: model_type -> class.
    """

    classes: ClassVar[dict[str, type[TFPreTrainedModel]]] = {}

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
        return cls.classes["bert"].from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """A model with fresh weights; errors as for `from_pretrained`."""
        return cls.classes["bert"].from_config(BertConfig.coerce(config), **kwargs)


class TFAutoModel(_AutoModel):
    """The bare model."""

    classes: ClassVar = {"bert": bert_heads.TFBertModel}


class TFAutoModelForPreTraining(_AutoModel):
    """Masked words and next sentences."""

    classes: ClassVar = {"bert": bert_heads.TFBertForPreTraining}


class TFAutoModelForMaskedLM(_AutoModel):
    """Masked words."""

    classes: ClassVar = {"bert": bert_heads.TFBertForMaskedLM}


class TFAutoModelForCausalLM(_AutoModel):
    """The next word."""

    classes: ClassVar = {"bert": bert_heads.TFBertLMHeadModel}


class TFAutoModelForNextSentencePrediction(_AutoModel):
    """Next sentences."""

    classes: ClassVar = {"bert": bert_heads.TFBertForNextSentencePrediction}


class TFAutoModelForSequenceClassification(_AutoModel):
    """Classes of sequences."""

    classes: ClassVar = {"bert": bert_task_heads.TFBertForSequenceClassification}


class TFAutoModelForMultipleChoice(_AutoModel):
    """Choices."""

    classes: ClassVar = {"bert": bert_task_heads.TFBertForMultipleChoice}


class TFAutoModelForTokenClassification(_AutoModel):
    """Classes of tokens."""

    classes: ClassVar = {"bert": bert_task_heads.TFBertForTokenClassification}


class TFAutoModelForQuestionAnswering(_AutoModel):
    """Where an answer starts and ends."""

    classes: ClassVar = {"bert": bert_task_heads.TFBertForQuestionAnswering}
