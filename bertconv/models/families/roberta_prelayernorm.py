"""RoBERTa-PreLayerNorm (Ott et al. 2019, arXiv:1904.01038): layer normalisation before each half of a layer.

The sums are never normalised, so the last states are, once.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.config import RobertaPreLayerNormConfig
from bertconv.models.activations import activation
from bertconv.models.attention import Attended, SelfAttention
from bertconv.models.blocks import Embeddings, Encoder, EncoderLayer, Pooler, dropout, linear, norm
from bertconv.models.body import MainLayer
from bertconv.models.heads.base import Base
from bertconv.models.heads.tuned import (
    DeepSequenceClassification,
    MultipleChoice,
    QuestionAnswering,
    TokenClassification,
)
from bertconv.models.heads.words import CausalLM, LMHead, MaskedLM
from bertconv.models.layers import BaseLayer
from bertconv.models.replacing import run
from bertconv.models.settings import Settings


class _Sum(BaseLayer):
    """A linear map, dropout and the residual."""

    def __init__(self, settings: Settings, inputs: int, module: str) -> None:
        super().__init__(name="output", dtype=settings.dtype)
        self.dense = linear(settings, inputs, settings.hidden, "dense", module)
        self.dropout = dropout(settings)

    def call(self, x: tf.Tensor, residual: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x: `[rows in]`, residual: `[rows hidden]` -> `[rows hidden]`."""
        return run(self.dropout, run(self.dense, x), training=training) + residual


class _Attention(BaseLayer):
    """Layer normalisation, attention of what it gives, and the sum with what it was given."""

    def __init__(self, settings: Settings, *, at: str, relative: str = "absolute", name: str = "attention") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.self_attention = SelfAttention(settings, at=at, relative=relative)
        self.dense_output = _Sum(settings, settings.hidden, f"{at}attention_out")
        self.LayerNorm = norm(settings, f"{at}attention_norm")

    def call(self, hidden: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Attended]:
        """hidden: `[rows hidden]`; the other arguments are those of SelfAttention."""
        attended = run(self.self_attention, run(self.LayerNorm, hidden), *args, **kwargs)
        return run(self.dense_output, attended.context, hidden, training=kwargs["training"]), attended


class _Intermediate(BaseLayer):
    """Layer normalisation and the wide half of the feed-forward layer."""

    def __init__(self, settings: Settings, at: str) -> None:
        super().__init__(name="intermediate", dtype=settings.dtype)
        self.LayerNorm = norm(settings, f"{at}ffn_norm")
        self.dense = linear(settings, settings.hidden, settings.ffn, "dense", f"{at}ffn_in")
        self.intermediate_act_fn = activation(settings.activation)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[rows hidden]` -> `[rows intermediate]`."""
        return self.intermediate_act_fn(run(self.dense, run(self.LayerNorm, x)))


class _Layer(EncoderLayer):
    """One layer; its parts are called as the plain one's are."""

    def make_layers(self, settings: Settings, at: str) -> None:
        """See EncoderLayer."""
        self.attention = _Attention(settings, at=at, relative=settings.relative)
        self.has_cross_attention = settings.is_crossed
        if self.has_cross_attention:
            self.crossattention = _Attention(settings, at=f"{at}cross_", name="crossattention")
        self.intermediate = _Intermediate(settings, at)
        self.bert_output = _Sum(settings, settings.ffn, f"{at}ffn_out")


class TFRobertaPreLayerNormMainLayer(MainLayer, is_family=True):
    """RoBERTa-PreLayerNorm without a head, as a Keras layer of its own; positions are counted from the ids."""

    config_class = RobertaPreLayerNormConfig
    base_name = "roberta_prelayernorm"

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        self.encoder = Encoder(settings, layer=_Layer)
        self.LayerNorm = norm(settings, "final.norm")
        self.pooler = Pooler(settings) if add_pooling_layer else None
        self.embeddings = Embeddings(settings, from_ids=True)

    def finish(self, hidden: tf.Tensor) -> tf.Tensor:
        """See MainLayer."""
        return run(self.LayerNorm, hidden)


class TFRobertaPreLayerNormPreTrainedModel(LMHead):
    """The base of every one: subclass it for a head of your own, with a main layer as `self.roberta_prelayernorm`."""

    config_class = RobertaPreLayerNormConfig
    main_layer = TFRobertaPreLayerNormMainLayer
    base_model_prefix = "roberta_prelayernorm"


class TFRobertaPreLayerNormModel(Base, TFRobertaPreLayerNormPreTrainedModel, is_head=True):
    """The body without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""


class TFRobertaPreLayerNormForMaskedLM(MaskedLM, TFRobertaPreLayerNormPreTrainedModel, is_head=True):
    """Predicts masked words."""


class TFRobertaPreLayerNormForCausalLM(CausalLM, TFRobertaPreLayerNormPreTrainedModel, is_head=True):
    """A decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""


class TFRobertaPreLayerNormForSequenceClassification(
    DeepSequenceClassification, TFRobertaPreLayerNormPreTrainedModel, is_head=True
):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""


class TFRobertaPreLayerNormForMultipleChoice(MultipleChoice, TFRobertaPreLayerNormPreTrainedModel, is_head=True):
    """Chooses one of several continuations."""

    dropout_keys = ("hidden_dropout_prob",)


class TFRobertaPreLayerNormForTokenClassification(
    TokenClassification, TFRobertaPreLayerNormPreTrainedModel, is_head=True
):
    """Classifies tokens."""


class TFRobertaPreLayerNormForQuestionAnswering(QuestionAnswering, TFRobertaPreLayerNormPreTrainedModel, is_head=True):
    """Finds where an answer starts and ends."""
