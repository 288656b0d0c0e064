"""BERT (Devlin et al. 2018, arXiv:1810.04805): its layers by the names that users know, and its classes."""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow as tf

from bertconv.config import BertConfig, Config
from bertconv.models.blocks import Embeddings, Encoder, Pooler, linear
from bertconv.models.body import MainLayer
from bertconv.models.heads.base import Base
from bertconv.models.heads.layers import Transform, WordScores
from bertconv.models.heads.tuned import MultipleChoice, QuestionAnswering, SequenceClassification, TokenClassification
from bertconv.models.heads.words import CausalLM, MaskedLM, NextSentence, PreTraining, Sentences
from bertconv.models.layers import BaseLayer
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.replacing import run
from bertconv.models.settings import Settings


class TFBertEmbeddings(Embeddings):
    """Word, position and token type vectors, added and normalised."""

    def __init__(self, config: Config, *, name: str = "embeddings", dtype: Any = None) -> None:
        super().__init__(Settings.of(config, dtype), name=name)


class TFBertPooler(Pooler):
    """A linear map and tanh on the first position."""

    def __init__(self, config: Config, *, name: str = "pooler", dtype: Any = None) -> None:
        super().__init__(Settings.of(config, dtype), name=name)


class TFBertMainLayer(MainLayer, is_family=True):
    """BERT without a head, as a Keras layer of its own: use it in functional models and in models of your own."""

    config_class: ClassVar[type[Config]] = BertConfig
    base_name = "bert"

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        self.embeddings = TFBertEmbeddings(self.config, dtype=settings.dtype)
        self.encoder = Encoder(settings)
        self.pooler = TFBertPooler(self.config, dtype=settings.dtype) if add_pooling_layer else None


class TFBertLMPredictionHead(WordScores):
    """Scores of every word, behind a linear map, the activation and layer normalisation."""

    def make_transform(self, settings: Settings, act: str, norm_name: str) -> None:
        """See WordScores."""
        self.transform = Transform(settings, act=act)

    def transformed(self, rows: tf.Tensor) -> tf.Tensor:
        """See WordScores."""
        return run(self.transform, rows)


class TFBertMLMHead(BaseLayer):
    """The head that predicts words."""

    def __init__(self, config: Config, *, name: str = "mlm___cls", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.predictions = TFBertLMPredictionHead(Settings.of(config, dtype), name="predictions")

    def call(self, hidden: tf.Tensor, words: Any) -> tf.Tensor:
        """hidden: `[batch sequence hidden]`, words: `[vocab hidden]` -> `[batch sequence vocab]`."""
        return run(self.predictions, hidden, words)


class TFBertNSPHead(BaseLayer):
    """The head that tells whether the second sentence follows the first."""

    def __init__(self, config: Config, *, name: str = "nsp___cls", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        settings = Settings.of(config, dtype)
        self.seq_relationship = linear(settings, settings.hidden, 2, "seq_relationship", "nsp.dense")

    def call(self, pooled: tf.Tensor) -> tf.Tensor:
        """pooled: `[batch hidden]` -> `[batch 2]`."""
        return run(self.seq_relationship, pooled)


class TFBertPreTrainedModel(TFPreTrainedModel):
    """The base of every BERT: subclass it for a head of your own, with a TFBertMainLayer as `self.bert`."""

    config_class: ClassVar[type[Config]] = BertConfig
    main_layer = TFBertMainLayer
    base_model_prefix = "bert"

    def make_words(self, settings: Settings) -> None:
        """See TFPreTrainedModel."""
        self.mlm = TFBertMLMHead(self.config, dtype=settings.dtype)

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """See TFPreTrainedModel."""
        return self.mlm(hidden, self.bert.embeddings.weight)

    def get_lm_head(self) -> Any:
        """See TFPreTrainedModel."""
        head = getattr(self, "mlm", None)
        return None if head is None else head.predictions


class _Sentences(Sentences):
    """Whether the second sentence follows the first."""

    def make_sentences(self, settings: Settings) -> None:
        """See Sentences."""
        self.nsp = TFBertNSPHead(self.config, dtype=settings.dtype)

    def score_sentences(self, outputs: Any, training: bool) -> Any:
        """See Sentences."""
        return self.nsp(outputs.pooler_output)


class TFBertModel(Base, TFBertPreTrainedModel, is_head=True):
    """BERT without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""


class TFBertForPreTraining(_Sentences, PreTraining, TFBertPreTrainedModel, is_head=True):
    """BERT as it is pretrained: masked words and next sentences."""


class TFBertForMaskedLM(MaskedLM, TFBertPreTrainedModel, is_head=True):
    """BERT that predicts masked words."""


class TFBertLMHeadModel(CausalLM, TFBertPreTrainedModel, is_head=True):
    """BERT as a decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""


class TFBertForNextSentencePrediction(_Sentences, NextSentence, TFBertPreTrainedModel, is_head=True):
    """BERT that tells whether the second sentence follows the first."""


class TFBertForSequenceClassification(SequenceClassification, TFBertPreTrainedModel, is_head=True):
    """BERT that classifies sequences: one label, several labels, or a number, as `problem_type` says."""


class TFBertForMultipleChoice(MultipleChoice, TFBertPreTrainedModel, is_head=True):
    """BERT that chooses one of several continuations."""


class TFBertForTokenClassification(TokenClassification, TFBertPreTrainedModel, is_head=True):
    """BERT that classifies tokens."""


class TFBertForQuestionAnswering(QuestionAnswering, TFBertPreTrainedModel, is_head=True):
    """BERT that finds where an answer starts and ends."""
