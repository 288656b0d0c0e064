"""The blocks that every family is stacked from: embeddings, residuals, attention and feed-forward, encoder, pooler.

A family says which layers there are, what they are called and in which order; what is computed is written once, here
and in `attention`. Blocks take the Settings of a model and the neutral ids of their modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from bertconv.config.checks import check_counted_positions
from bertconv.models.activations import activation
from bertconv.models.attention import Attended, SelfAttention
from bertconv.models.checks import TRUNCATE, checked_ids, checked_length, one_of
from bertconv.models.layers import BaseLayer, Dropout, Embedding, LayerNorm, Linear
from bertconv.models.replacing import run
from bertconv.models.settings import Settings
from bertconv.records import dataclass


def linear(settings: Settings, inputs: int, units: int, name: str, module: str) -> Linear:
    """A linear map of a model with these settings."""
    return Linear(inputs, units, name=name, module=module, dtype=settings.dtype, spread=settings.spread)


def norm(settings: Settings, module: str, name: str = "LayerNorm", dim: int | None = None) -> LayerNorm:
    """Layer normalisation of hidden states, or of `dim` numbers."""
    return LayerNorm(dim or settings.hidden, settings.epsilon, name=name, module=module, dtype=settings.dtype)


def dropout(settings: Settings, rate: float | None = None) -> Dropout:
    """Dropout as behind hidden states, or at another rate."""
    return Dropout(settings.dropout if rate is None else rate, dtype=settings.dtype)


def added(x: tf.Tensor, hidden: tf.Tensor, drop: Any, normalise: Any, *, training: bool) -> tf.Tensor:
    """Dropout, the residual and layer normalisation: x and hidden `[rows hidden]` -> the same shape."""
    return run(normalise, run(drop, x, training=training) + hidden)


class Embeddings(BaseLayer):
    """Word, position and token type vectors, added and normalised.

    Args:
        settings: of the model; without segments there are no token types.
        from_ids: whether positions are counted from the ids, `padding + 1` first, padding itself staying there.
        name: of the layer.
    """

    def __init__(self, settings: Settings, *, from_ids: bool = False, name: str = "embeddings") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        dim = settings.embedding
        common: dict[str, Any] = {"dtype": settings.dtype, "spread": settings.spread}
        self.word_embeddings = Embedding(
            settings.vocab, dim, leaf="weight", name="word_embeddings", padding=settings.padding,
            module="embeddings.word", **common,
        )  # fmt: skip
        self.has_segments = settings.segments > 0
        if self.has_segments:
            self.token_type_embeddings = Embedding(
                settings.segments, dim, name="token_type_embeddings", module="embeddings.segment", **common
            )
        if from_ids:
            check_counted_positions(settings.padding, settings.positions)
        self.first_position = int(settings.padding or 0) + 1 if from_ids else 0
        self.position_embeddings = Embedding(
            settings.positions, dim, name="position_embeddings", module="embeddings.position",
            padding=settings.padding if from_ids else None, **common,
        )  # fmt: skip
        self.LayerNorm = norm(settings, "embeddings.norm", dim=dim)
        self.dropout = dropout(settings)
        self.has_positions = settings.relative == "absolute"

    @property
    def weight(self) -> Any:
        """The word embeddings: `[vocab dim]`."""
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
        """ids: `[batch sequence]`, or embeds: `[batch sequence dim]` -> `[batch sequence dim]`."""
        if input_ids is not None:
            input_ids = checked_ids(input_ids, self.vocab_size, "input_ids", "vocab_size")
            found = run(self.word_embeddings, input_ids)
        else:
            found = tf.cast(one_of(inputs_embeds, "inputs_embeds"), self.compute_dtype)
        if self.has_positions:
            found += self._positions(found, position_ids, past_length, input_ids)
        if self.has_segments:
            found += self._segments(token_type_ids)
        return run(self.dropout, run(self.LayerNorm, found), training=training)

    def _segments(self, token_type_ids: tf.Tensor | None) -> tf.Tensor:
        table = self.token_type_embeddings
        if token_type_ids is None:
            return table.first(0, 1)
        return run(table, checked_ids(token_type_ids, table.rows, "token_type_ids", "type_vocab_size"))

    def _positions(
        self,
        found: tf.Tensor,
        position_ids: tf.Tensor | None,
        past_length: int | tf.Tensor,
        input_ids: tf.Tensor | None = None,
    ) -> tf.Tensor:
        table, limit = self.position_embeddings, "max_position_embeddings"
        if position_ids is not None:
            return run(table, checked_ids(position_ids, table.rows, "position_ids", limit))
        if self.first_position and input_ids is not None:
            padding = self.first_position - 1
            counts = tf.cast(input_ids != padding, tf.int32)
            places = (tf.cumsum(counts, -1) + past_length) * counts + padding
            return run(table, checked_ids(places, table.rows, "positions, counted from the ids,", limit, TRUNCATE))
        length = found.shape[1] if found.shape[1] is not None else tf.shape(found)[1]
        start = past_length + self.first_position
        return table.first(start, checked_length(length, start, table.rows))


class Residual(BaseLayer):
    """A linear map, dropout, the residual and layer normalisation; behind attention and the feed-forward layer."""

    def __init__(
        self, settings: Settings, inputs: int, *, modules: tuple[str, str] = ("", ""), name: str = "output"
    ) -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, inputs, settings.hidden, "dense", modules[0])
        self.LayerNorm = norm(settings, modules[1])
        self.dropout = dropout(settings)

    def call(self, x: tf.Tensor, residual: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x: `[rows in]`, residual: `[rows hidden]` -> `[rows hidden]`."""
        return added(run(self.dense, x), residual, self.dropout, self.LayerNorm, training=training)


class Attention(BaseLayer):
    """Self-attention, or attention to an encoder, with its output layer; `at` as for SelfAttention."""

    def __init__(
        self, settings: Settings, *, at: str = "", relative: str = "absolute", name: str = "attention"
    ) -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.self_attention = SelfAttention(settings, at=at, relative=relative)
        self.dense_output = Residual(settings, settings.hidden, modules=(f"{at}attention_out", f"{at}attention_norm"))

    def call(self, hidden: tf.Tensor, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, Attended]:
        """hidden: `[rows hidden]`; the other arguments are those of SelfAttention."""
        attended = run(self.self_attention, hidden, *args, **kwargs)
        return run(self.dense_output, attended.context, hidden, training=kwargs["training"]), attended


class Intermediate(BaseLayer):
    """The wide half of the feed-forward layer."""

    def __init__(self, settings: Settings, *, module: str = "", name: str = "intermediate") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, settings.hidden, settings.ffn, "dense", module)
        self.intermediate_act_fn = activation(settings.activation)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[rows hidden]` -> `[rows intermediate]`."""
        return self.intermediate_act_fn(run(self.dense, x))


@dataclass(frozen=True)
class Context:
    """What every layer of the encoder is given beside the hidden states.

    Attributes:
        batch: number of sequences.
        bias: added to the scores of self-attention: `[batch|1 heads|1 queries|1 keys]`.
        encoder: states to attend to: `[batch|1 encoder_sequence hidden]`.
        encoder_bias: added to the scores of cross-attention.
        training: whether dropout is on.
        queries: number of positions of a sequence.
        past_length: positions before these, in the cache.
    """

    batch: int | tf.Tensor
    bias: tf.Tensor | None
    encoder: tf.Tensor | None
    encoder_bias: tf.Tensor | None
    training: bool
    queries: int | tf.Tensor = 0
    past_length: int | tf.Tensor = 0

    @property
    def size(self) -> tuple[int | tf.Tensor, int | tf.Tensor]:
        """Number of sequences, and of positions of each: rows alone do not tell them where there are none."""
        return self.batch, self.queries


@dataclass(frozen=True)
class LayerResult:
    """What one layer of the encoder gives: states `[rows hidden]`, probabilities, and its cache."""

    hidden: tf.Tensor
    attention: tf.Tensor
    cross_attention: tf.Tensor | None
    cache: tuple[tf.Tensor, ...]


class EncoderLayer(BaseLayer):
    """One layer: `attend`, attention to an encoder where there is any, `feed`; a family's own sets both.

    The plain one is BERT's: `attention`, `crossattention`, `intermediate`, `bert_output` (named output).

    Args:
        settings: of the model.
        at: what the neutral ids of its modules begin with, `layer.3.`.
        name: of the layer.
    """

    def __init__(self, settings: Settings, *, at: str = "", name: str) -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.make_layers(settings, at)

    def make_layers(self, settings: Settings, at: str) -> None:
        """Make what is in the layer, in the order in which checkpoints have it."""
        self.attention = Attention(settings, at=at, relative=settings.relative)
        self.has_cross_attention = settings.is_crossed
        if self.has_cross_attention:
            self.crossattention = Attention(settings, at=f"{at}cross_", name="crossattention")
        self.intermediate = Intermediate(settings, module=f"{at}ffn_in")
        self.bert_output = Residual(settings, settings.ffn, modules=(f"{at}ffn_out", f"{at}ffn_norm"))

    def attend(
        self, hidden: tf.Tensor, context: Context, head_mask: tf.Tensor | None, past: tuple[tf.Tensor, ...] | None
    ) -> tuple[tf.Tensor, Attended]:
        """Self-attention with its residual: states `[rows hidden]`, and what attention gave."""
        return run(self.attention, hidden, context.size, context.bias, head_mask, past=past, training=context.training)

    def feed(self, hidden: tf.Tensor, training: bool) -> tf.Tensor:
        """The feed-forward layer with its residual: `[rows hidden]` -> the same shape."""
        return run(self.bert_output, run(self.intermediate, hidden), hidden, training=training)

    def call(
        self,
        hidden: tf.Tensor,
        context: Context,
        head_mask: tf.Tensor | None = None,
        past: tuple[tf.Tensor, ...] | None = None,
    ) -> LayerResult:
        """hidden: `[rows hidden]`; past: the layer's cache, 2 tensors, or 4 with those of cross-attention."""
        hidden, own = self.attend(hidden, context, head_mask, past and past[:2])
        cache: tuple[tf.Tensor, ...] = own.cache
        cross: Attended | None = None
        if context.encoder is not None:
            hidden, cross = run(
                self.crossattention,
                hidden, context.size, context.encoder_bias, head_mask, context.encoder,
                past=past[2:] if past and len(past) == 4 else None, training=context.training,
            )  # fmt: skip
            cache += cross.cache
        hidden = self.feed(hidden, context.training)
        return LayerResult(hidden, own.probabilities, cross and cross.probabilities, cache)


class Encoder(BaseLayer):
    """The layers, one after the other.

    Args:
        settings: of the model.
        layer: class of a layer.
        name: of the encoder.

    Attributes:
        inner: how many steps make one layer of the config, behind which hidden states are reported.
    """

    inner: int = 1

    def __init__(self, settings: Settings, *, layer: type[EncoderLayer] = EncoderLayer, name: str = "encoder") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.make_shared(settings)
        self.make_layers(settings, layer)

    def make_shared(self, settings: Settings) -> None:
        """Make what the layers share, which checkpoints have before them."""

    def make_layers(self, settings: Settings, layer: type[EncoderLayer]) -> None:
        """Make the layers."""
        self.layer = [
            layer(settings, at=f"layer.{number}.", name=f"layer_._{number}") for number in range(settings.layers)
        ]

    def call(
        self,
        hidden: tf.Tensor,
        context: Context,
        head_masks: Sequence[tf.Tensor | None],
        past: Sequence[tuple[tf.Tensor, ...] | None],
    ) -> list[LayerResult]:
        """hidden: `[rows hidden]`."""
        results = []
        for layer, head_mask, cache in zip(self.steps(), head_masks, past, strict=True):
            results.append(run(layer, hidden, context, head_mask, cache))
            hidden = results[-1].hidden
        return results

    def steps(self) -> Sequence[Any]:
        """The layers in the order in which they are run; one may come several times."""
        return self.layer


class Pooler(BaseLayer):
    """A linear map and tanh on the first position."""

    def __init__(self, settings: Settings, *, module: str = "pooler.dense", name: str = "pooler") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, settings.hidden, settings.hidden, "dense", module)

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[batch sequence hidden]` -> `[batch hidden]`."""
        return tf.tanh(run(self.dense, hidden[:, 0]))
