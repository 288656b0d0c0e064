"""Attention masks, and multi-head attention (Vaswani et al. 2017, arXiv:1706.03762) with caches and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.layers import BaseLayer, Dropout, Embedding, Linear
from bertconv.models.replacing import run
from bertconv.models.settings import Settings
from bertconv.records import dataclass

KeyValue = tuple[tf.Tensor, tf.Tensor]
"""Keys and values of the positions seen so far: `[batch heads positions head]` each."""


@dataclass(frozen=True)
class Attended:
    """What attention gives: context `[rows hidden]`, probabilities `[batch heads queries keys]`, keys and values."""

    context: tf.Tensor
    probabilities: tf.Tensor
    cache: KeyValue


def mask_bias(mask: tf.Tensor, dtype: str, name: str, sizes: tuple[Any, Any], *, causal: bool = False) -> tf.Tensor:
    """What is added to the scores: 0 where a query may look, the most negative number where it may not.

    Args:
        mask: `[batch keys]`, `[batch queries keys]` or `[batch heads|1 queries keys]`; anything but 0 and False means
            "may look". A floating-point mask of four axes is added as it is, as PyTorch does.
        dtype: of the scores.
        name: of the argument, for errors.
        sizes: number of queries and of keys.
        causal: whether a query must not look at later positions. A mask that tells queries apart takes the place of
            this rule, as in PyTorch.

    Returns:
        `[batch heads|1 queries|1 keys]`.

    Raises:
        RequestError: the mask has another number of axes or keys.
    """
    rank = mask.shape.rank
    if rank not in (2, 3, 4):
        raise RequestError(
            f"{name} has {rank} axes.",
            hint="Give [batch, keys], [batch, queries, keys] or [batch, heads, queries, keys].",
        )
    if isinstance(sizes[1], int) and mask.shape[-1] not in (None, sizes[1]):
        raise RequestError(
            f"{name} is for {mask.shape[-1]} positions, and there are {sizes[1]}.",
            hint="Give it a column for every position that can be looked at, those in past_key_values included.",
        )
    if rank == 4 and mask.dtype.is_floating:
        return tf.cast(mask, dtype)
    seen = tf.cast(mask, tf.bool)
    if rank == 2:
        seen = _with_axes(seen, 1, 1)
        return _hidden(tf.logical_and(seen, causal_mask(*sizes)) if causal else seen, dtype)
    return _hidden(_with_axes(seen, 1) if rank == 3 else seen, dtype)


def causal_mask(queries: int | tf.Tensor, keys: int | tf.Tensor) -> tf.Tensor:
    """`[1 1 queries keys]`: the last query sees every key, the one before it one less, and so on."""
    rows = tf.range(queries)[:, tf.newaxis] + (keys - queries)
    return _with_axes(tf.range(keys)[tf.newaxis, :] <= rows, 0, 0)


def _with_axes(mask: tf.Tensor, *places: int) -> tf.Tensor:
    """A mask with more axes, of size 1: TensorFlow Lite cannot index booleans, with tf.newaxis neither."""
    for place in places:
        mask = tf.expand_dims(mask, place)
    return mask


def _hidden(seen: tf.Tensor, dtype: str) -> tf.Tensor:
    kind = tf.as_dtype(dtype)
    return tf.where(seen, tf.zeros((), kind), tf.constant(kind.min, kind))


class SelfAttention(BaseLayer):
    """Queries, keys, values and what they give; also attends to an encoder's states.

    Args:
        settings: of the model.
        at: what the neutral ids of its modules begin with: `layer.3.` or `layer.3.cross_`.
        names: of the layers of queries, keys and values, and of the output's where it is in here; attributes are
            called the same.
        relative: how distances between positions take part, as `position_embedding_type` says.
        name: of the layer.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        at: str = "",
        names: Sequence[str] = ("query", "key", "value"),
        relative: str = "absolute",
        name: str = "self",
    ) -> None:
        super().__init__(name=name, dtype=settings.dtype)
        hidden, self.heads, self.head_size = settings.hidden, settings.heads, settings.head_size
        common: dict[str, Any] = {"dtype": settings.dtype, "spread": settings.spread}
        self.names = tuple(names)
        for module, own in zip(("query", "key", "value", "attention_out"), names, strict=False):
            setattr(self, own, Linear(hidden, hidden, name=own, module=f"{at}{module}", **common))
        self.relative = relative
        if self.relative != "absolute":
            self.positions = settings.positions
            self.distance_embedding = Embedding(
                2 * self.positions - 1, self.head_size, name="distance_embedding", module=f"{at}distance", **common
            )
        self.dropout = Dropout(settings.attention_dropout, dtype=settings.dtype)

    def call(
        self,
        hidden: tf.Tensor,
        size: tuple[int | tf.Tensor, int | tf.Tensor],
        bias: tf.Tensor | None = None,
        head_mask: tf.Tensor | None = None,
        encoder: tf.Tensor | None = None,
        past: KeyValue | None = None,
        training: bool = False,
    ) -> Attended:
        """hidden: `[rows hidden]`; size: batch, sequence; encoder: `[batch|1 keys hidden]`, whose cache is final."""
        layers = [getattr(self, name) for name in self.names]
        query = self._split(run(layers[0], hidden), size)
        if encoder is not None and past is not None:
            key, value = past
        else:
            source, sizes = (hidden, size) if encoder is None else (encoder, tuple(tf.unstack(tf.shape(encoder)[:2])))
            key, value = (self._split(run(layer, source), sizes) for layer in layers[1:3])
            if past is not None:
                key, value = tf.concat([past[0], key], 2), tf.concat([past[1], value], 2)
        scale = tf.constant(1 / math.sqrt(self.head_size), query.dtype)
        scores = tf.cast(tf.matmul(query * scale, key, transpose_b=True), self.wide_dtype)
        if self.relative != "absolute":
            scores += tf.cast(self._distances(query, key) * scale, scores.dtype)
        if bias is not None:
            scores += bias
        probabilities = tf.cast(tf.nn.softmax(scores), query.dtype)
        probabilities = run(self.dropout, probabilities, training=training)
        if head_mask is not None:
            probabilities *= tf.cast(head_mask, query.dtype)
        context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])
        context = tf.reshape(context, [-1, self.heads * self.head_size])
        return Attended(run(layers[3], context) if layers[3:] else context, probabilities, (key, value))

    def _split(self, rows: tf.Tensor, size: tuple[int | tf.Tensor, int | tf.Tensor]) -> tf.Tensor:
        return tf.transpose(tf.reshape(rows, [*size, self.heads, self.head_size]), [0, 2, 1, 3])

    def _distances(self, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Scores of relative positions, where for `relative_key_query` keys take part as well.

        Sources: Shaw et al. 2018 (arXiv:1803.02155), and method 4 of Huang et al. 2020 (arXiv:2009.13658).
        """
        queries, keys = tf.shape(query)[2], tf.shape(key)[2]
        distance = (tf.range(queries) + keys - queries)[:, tf.newaxis] - tf.range(keys)[tf.newaxis, :]
        table = run(self.distance_embedding, distance + self.positions - 1)
        scores = tf.einsum("bhqd,qkd->bhqk", query, table)
        return scores if self.relative == "relative_key" else scores + tf.einsum("bhkd,qkd->bhqk", key, table)
