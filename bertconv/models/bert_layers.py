"""The layers that BERT is stacked from: embeddings, attention, feed-forward, encoder, pooler.

The tree of layers and their names are those that checkpoints for TensorFlow have; tests hold it to the mapping table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.models.activations import activation
from bertconv.models.attention import Attended, TFBertSelfAttention
from bertconv.models.checks import checked_ids, checked_length, one_of
from bertconv.models.layers import BertLayer, Dropout, Embedding, LayerNorm, Linear
from bertconv.models.replacing import run


class TFBertEmbeddings(BertLayer):
    """Word, position and token type vectors, added and normalised."""

    def __init__(self, config: BertConfig, *, name: str = "embeddings", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        values = config.values
        hidden = int(values["hidden_size"])
        pad = values["pad_token_id"]
        self.word_embeddings = Embedding(
            config, int(values["vocab_size"]), hidden, leaf="weight", name="word_embeddings", dtype=dtype, padding=pad
        )
        self.token_type_embeddings = Embedding(
            config, int(values["type_vocab_size"]), hidden, name="token_type_embeddings", dtype=dtype
        )
        self.position_embeddings = Embedding(
            config, int(values["max_position_embeddings"]), hidden, name="position_embeddings", dtype=dtype
        )
        self.LayerNorm = LayerNorm(config, dtype=dtype)
        self.dropout = Dropout(float(values["hidden_dropout_prob"]), dtype=dtype)
        self.has_positions = values["position_embedding_type"] == "absolute"

    @property
    def weight(self) -> Any:
        """The word embeddings: `[vocab hidden]`."""
        return self.word_embeddings.table

    @property
    def vocab_size(self) -> int:
        """Number of words."""
        return self.word_embeddings.rows

    def call(
        self,
        input_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        inputs_embeds: tf.Tensor | None = None,
        past_length: int | tf.Tensor = 0,
        training: bool = False,
    ) -> tf.Tensor:
        """ids: `[batch sequence]`, or embeds: `[batch sequence hidden]` -> `[batch sequence hidden]`."""
        if input_ids is not None:
            found = run(self.word_embeddings, checked_ids(input_ids, self.vocab_size, "input_ids", "vocab_size"))
        else:
            found = tf.cast(one_of(inputs_embeds, "inputs_embeds"), self.compute_dtype)
        if self.has_positions:
            found += self._positions(found, position_ids, past_length)
        if token_type_ids is None:
            found += self.token_type_embeddings.first(0, 1)
        else:
            types = checked_ids(token_type_ids, self.token_type_embeddings.rows, "token_type_ids", "type_vocab_size")
            found += run(self.token_type_embeddings, types)
        return run(self.dropout, run(self.LayerNorm, found), training=training)

    def _positions(self, found: tf.Tensor, position_ids: tf.Tensor | None, past_length: int | tf.Tensor) -> tf.Tensor:
        table = self.position_embeddings
        if position_ids is not None:
            return run(table, checked_ids(position_ids, table.rows, "position_ids", "max_position_embeddings"))
        length = found.shape[1] if found.shape[1] is not None else tf.shape(found)[1]
        return table.first(past_length, checked_length(length, past_length, table.rows))


class TFBertSelfOutput(BertLayer):
    """A linear map, dropout, the residual and layer normalisation; behind attention and the feed-forward layer."""

    def __init__(self, config: BertConfig, inputs: int, *, name: str = "output", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.dense = Linear(config, inputs, int(config.values["hidden_size"]), name="dense", dtype=dtype)
        self.LayerNorm = LayerNorm(config, dtype=dtype)
        self.dropout = Dropout(float(config.values["hidden_dropout_prob"]), dtype=dtype)

    def call(self, x: tf.Tensor, residual: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x: `[rows in]`, residual: `[rows hidden]` -> `[rows hidden]`."""
        return run(self.LayerNorm, run(self.dropout, run(self.dense, x), training=training) + residual)


class TFBertAttention(BertLayer):
    """Self-attention, or attention to an encoder, with its output layer."""

    def __init__(self, config: BertConfig, *, name: str, relative: bool, dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.self_attention = TFBertSelfAttention(config, relative=relative, dtype=dtype)
        self.dense_output = TFBertSelfOutput(config, int(config.values["hidden_size"]), dtype=dtype)

    def call(self, hidden: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Attended]:
        """hidden: `[rows hidden]`; the other arguments are those of TFBertSelfAttention."""
        attended = run(self.self_attention, hidden, *args, **kwargs)
        return run(self.dense_output, attended.context, hidden, training=kwargs["training"]), attended


class TFBertIntermediate(BertLayer):
    """The wide half of the feed-forward layer."""

    def __init__(self, config: BertConfig, *, name: str = "intermediate", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        values = config.values
        self.dense = Linear(
            config, int(values["hidden_size"]), int(values["intermediate_size"]), name="dense", dtype=dtype
        )
        self.intermediate_act_fn = activation(values["hidden_act"])

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[rows hidden]` -> `[rows intermediate]`."""
        return self.intermediate_act_fn(run(self.dense, x))


@dataclass(frozen=True)
class Context:
    """What every layer of the encoder is given beside the hidden states.

    Attributes:
        batch: number of sequences.
        bias: added to the scores of self-attention: `[batch heads|1 queries|1 keys]`.
        encoder: states to attend to: `[batch|1 encoder_sequence hidden]`.
        encoder_bias: added to the scores of cross-attention.
        training: whether dropout is on.
    """

    batch: int | tf.Tensor
    bias: tf.Tensor | None
    encoder: tf.Tensor | None
    encoder_bias: tf.Tensor | None
    training: bool


@dataclass(frozen=True)
class LayerResult:
    """What one layer of the encoder gives: states `[rows hidden]`, probabilities, and its cache."""

    hidden: tf.Tensor
    attention: tf.Tensor
    cross_attention: tf.Tensor | None
    cache: tuple[tf.Tensor, ...]


class TFBertLayer(BertLayer):
    """One layer: attention, attention to an encoder where the config adds it, feed-forward."""

    def __init__(self, config: BertConfig, *, name: str, dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.attention = TFBertAttention(config, name="attention", relative=True, dtype=dtype)
        self.has_cross_attention = bool(config.values["add_cross_attention"])
        if self.has_cross_attention:
            self.crossattention = TFBertAttention(config, name="crossattention", relative=False, dtype=dtype)
        self.intermediate = TFBertIntermediate(config, dtype=dtype)
        self.bert_output = TFBertSelfOutput(config, int(config.values["intermediate_size"]), dtype=dtype)

    def call(
        self,
        hidden: tf.Tensor,
        context: Context,
        head_mask: tf.Tensor | None = None,
        past: tuple[tf.Tensor, ...] | None = None,
    ) -> LayerResult:
        """hidden: `[rows hidden]`; past: the layer's cache, 2 tensors, or 4 with those of cross-attention."""
        hidden, own = run(
            self.attention,
            hidden,
            context.batch,
            context.bias,
            head_mask,
            past=past and past[:2],
            training=context.training,
        )
        cache: tuple[tf.Tensor, ...] = own.cache
        cross: Attended | None = None
        if context.encoder is not None:
            hidden, cross = run(
                self.crossattention,
                hidden, context.batch, context.encoder_bias, head_mask, context.encoder,
                past=past[2:] if past and len(past) == 4 else None, training=context.training,
            )  # fmt: skip
            cache += cross.cache
        hidden = run(self.bert_output, run(self.intermediate, hidden), hidden, training=context.training)
        return LayerResult(hidden, own.probabilities, cross and cross.probabilities, cache)


class TFBertEncoder(BertLayer):
    """The layers, one after the other."""

    def __init__(self, config: BertConfig, *, name: str = "encoder", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        count = int(config.values["num_hidden_layers"])
        self.layer = [TFBertLayer(config, name=f"layer_._{number}", dtype=dtype) for number in range(count)]

    def call(
        self,
        hidden: tf.Tensor,
        context: Context,
        head_masks: Sequence[tf.Tensor | None],
        past: Sequence[tuple[tf.Tensor, ...] | None],
    ) -> list[LayerResult]:
        """hidden: `[rows hidden]`."""
        results = []
        for layer, head_mask, cache in zip(self.layer, head_masks, past, strict=True):
            results.append(run(layer, hidden, context, head_mask, cache))
            hidden = results[-1].hidden
        return results


class TFBertPooler(BertLayer):
    """A linear map and tanh on the first position."""

    def __init__(self, config: BertConfig, *, name: str = "pooler", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        hidden = int(config.values["hidden_size"])
        self.dense = Linear(config, hidden, hidden, name="dense", dtype=dtype)

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[batch sequence hidden]` -> `[batch hidden]`."""
        return tf.tanh(run(self.dense, hidden[:, 0]))
