"""MPNet (Song et al. 2020, arXiv:2004.09297): every layer's scores get a bias by distance, one table for all layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from bertconv.config import MPNetConfig
from bertconv.errors import RequestError
from bertconv.models import blocks
from bertconv.models.attention import Attended, SelfAttention
from bertconv.models.body import MainLayer
from bertconv.models.heads import tuned
from bertconv.models.heads.base import Base
from bertconv.models.heads.words import LMHead, MaskedLM
from bertconv.models.layers import BaseLayer, Embedding
from bertconv.models.replacing import run
from bertconv.models.settings import Settings

PADDING, BUCKETS, FARTHEST = 1, 32, 128
"""What PyTorch's classes take whatever the config says: the padding's id, the number of buckets, and the distance from
which on all are one bucket."""


def buckets() -> np.ndarray:
    """The bucket of every distance from -FARTHEST to FARTHEST: half of them for each side (arXiv:1910.10683, 2.1).

    Of those, the first half are one distance each, and the others grow as its logarithm.
    """
    side, exact = BUCKETS // 2, BUCKETS // 4
    distances = np.arange(-FARTHEST, FARTHEST + 1)
    far = np.abs(distances)
    grown = np.log(np.maximum(far, exact) / exact) / np.log(FARTHEST / exact) * (side - exact)
    own = np.where(far < exact, far, np.minimum(exact + grown.astype(int), side - 1))
    found: np.ndarray = (own + side * (distances > 0)).astype(np.int32)
    return found


_BUCKETS = buckets()


class _Attention(BaseLayer):
    """Self-attention with its output's map inside, the residual and layer normalisation."""

    def __init__(self, settings: Settings, at: str) -> None:
        super().__init__(name="attention", dtype=settings.dtype)
        self.attn = SelfAttention(settings, at=at, names=("q", "k", "v", "o"), name="attn")
        self.LayerNorm = blocks.norm(settings, f"{at}attention_norm")
        self.dropout = blocks.dropout(settings)

    def call(self, hidden: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Attended]:
        """hidden: `[rows hidden]`; the other arguments are those of SelfAttention."""
        attended = run(self.attn, hidden, *args, **kwargs)
        states = blocks.added(attended.context, hidden, self.dropout, self.LayerNorm, training=kwargs["training"])
        return states, attended


class _Layer(blocks.EncoderLayer):
    """One layer."""

    def make_layers(self, settings: Settings, at: str) -> None:
        """See EncoderLayer."""
        self.attention = _Attention(settings, at)
        self.intermediate = blocks.Intermediate(settings, module=f"{at}ffn_in")
        self.bert_output = blocks.Residual(settings, settings.ffn, modules=(f"{at}ffn_out", f"{at}ffn_norm"))


class _Encoder(blocks.Encoder):
    """The layers, and before them the table that they share: `[buckets heads]`."""

    def make_shared(self, settings: Settings) -> None:
        """See Encoder."""
        self.relative_attention_bias = Embedding(
            BUCKETS, settings.heads, name="relative_attention_bias", module="relative.bias", dtype=settings.dtype,
            spread=settings.spread,
        )  # fmt: skip

    def call(self, hidden: tf.Tensor, context: blocks.Context, *args: Any) -> list[blocks.LayerResult]:
        """See Encoder."""
        places = tf.range(context.queries)
        distances = tf.clip_by_value(places[tf.newaxis, :] - places[:, tf.newaxis], -FARTHEST, FARTHEST)
        biases = run(self.relative_attention_bias, tf.gather(_BUCKETS, distances + FARTHEST))
        bias = tf.cast(tf.transpose(biases, [2, 0, 1])[tf.newaxis], self.wide_dtype)  # [1 heads queries keys]
        return super().call(hidden, replace(context, bias=bias if context.bias is None else bias + context.bias), *args)


class TFMPNetMainLayer(MainLayer, is_family=True):
    """MPNet without a head, as a Keras layer of its own; positions are counted from the ids, behind the padding's."""

    config_class = MPNetConfig
    base_name = "mpnet"
    model_inputs = ("position_ids",)
    is_cached = False

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        count = int(self.config.values["relative_attention_num_buckets"])
        if count != BUCKETS:
            raise RequestError(
                f"relative_attention_num_buckets is {count}; PyTorch's classes know {BUCKETS} buckets alone.",
                hint=f"Set it to {BUCKETS}, as every checkpoint does.",
            )
        self.encoder = _Encoder(settings, layer=_Layer)
        self.pooler = blocks.Pooler(settings) if add_pooling_layer else None
        self.embeddings = blocks.Embeddings(replace(settings, padding=PADDING), from_ids=True)


class TFMPNetPreTrainedModel(LMHead):
    """The base of every MPNet: subclass it for a head of your own, with a TFMPNetMainLayer as `self.mpnet`.

    Only classes that use the pooler have one. TensorFlow's of transformers all make it: a converted model would hold
    weights that nobody trained, and their files, which may lack it, load in either.
    """

    config_class = MPNetConfig
    main_layer = TFMPNetMainLayer
    base_model_prefix = "mpnet"


class TFMPNetModel(Base, TFMPNetPreTrainedModel, is_head=True):
    """The body without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""


class TFMPNetForMaskedLM(MaskedLM, TFMPNetPreTrainedModel, is_head=True):
    """Predicts masked words."""


class TFMPNetForSequenceClassification(tuned.DeepSequenceClassification, TFMPNetPreTrainedModel, is_head=True):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""

    dropout_keys = ("hidden_dropout_prob",)


class TFMPNetForMultipleChoice(tuned.MultipleChoice, TFMPNetPreTrainedModel, is_head=True):
    """Chooses one of several continuations."""

    dropout_keys = ("hidden_dropout_prob",)


class TFMPNetForTokenClassification(tuned.TokenClassification, TFMPNetPreTrainedModel, is_head=True):
    """Classifies tokens."""

    dropout_keys = ("hidden_dropout_prob",)


class TFMPNetForQuestionAnswering(tuned.QuestionAnswering, TFMPNetPreTrainedModel, is_head=True):
    """Finds where an answer starts and ends."""
