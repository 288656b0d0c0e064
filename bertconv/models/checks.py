"""What is checked of the numbers that a model is called with: at once where they are known, in the graph where not."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.keras_internals import is_asked_for_shapes

OTHER_TOKENIZER = "Use the tokenizer that belongs to this checkpoint, or enlarge the table."
TRUNCATE = "Truncate them (tokenizer: truncation=True, max_length)."


def check_axes(tensor: tf.Tensor | None, name: str, sizes: list[int | None]) -> None:
    """Refuse a tensor without these axes, as far as its shape is known.

    Args:
        tensor: an argument; None passes.
        name: of the argument.
        sizes: of the axes; None for any.

    Raises:
        RequestError: it has other axes.
    """
    if tensor is None or tf.TensorShape(tensor.shape).is_compatible_with(sizes):
        return
    axes = ", ".join(("batch", "sequence", *(f"{size}" for size in sizes[2:])))
    raise RequestError(f"{name} has the shape {tf.TensorShape(tensor.shape)}.", hint=f"Give [{axes}].")


def checked_ids(ids: tf.Tensor, limit: int, name: str, key: str, hint: str = OTHER_TOKENIZER) -> tf.Tensor:
    """The ids as int32, each of them from 0 to `limit` - 1.

    Args:
        ids: integers of any shape; where Keras traces somebody's model around ours from shapes alone also floats.
        limit: size of the table that they index.
        name: of the argument.
        key: of the config, which gives the limit.
        hint: what to do about ids out of range.

    Raises:
        RequestError: ids out of range, or no integers.
        tf.errors.InvalidArgumentError: the same in a graph. XLA leaves such checks out.
    """
    if not ids.dtype.is_integer and not is_asked_for_shapes():
        raise RequestError(f"{name} is {ids.dtype.name}, not integers.", hint="Cast it to int32 or int64.")
    problem = f"{name} must lie between 0 and {limit - 1}, since {key} is {limit} in the config"
    if tf.executing_eagerly():
        lowest, highest = int(tf.reduce_min(ids)), int(tf.reduce_max(ids))
        if int(tf.size(ids)) and (lowest < 0 or highest >= limit):
            raise RequestError(f"{problem}; there is {lowest if lowest < 0 else highest}.", hint=hint)
        return tf.cast(ids, tf.int32)
    ids = tf.cast(ids, tf.int64) if ids.dtype.is_floating else ids
    good = tf.reduce_all((ids >= 0) & (ids < limit))
    with tf.control_dependencies([tf.debugging.Assert(good, [f"{problem}. {hint}"])]):
        return tf.cast(ids, tf.int32) + 0  # an operation of its own, which waits for the check


def checked_length(length: Any, past: Any, limit: int) -> Any:
    """The length of a sequence that fits behind `past` positions; errors as for `checked_ids`."""
    problem = f"sequences must be no longer than max_position_embeddings in the config, {limit}"
    if isinstance(length, int) and isinstance(past, int):
        if past + length > limit:
            raise RequestError(f"{problem}; there is one of {past + length} positions.", hint=TRUNCATE)
        return length
    if tf.executing_eagerly():
        return checked_length(int(length), int(past), limit)
    with tf.control_dependencies([tf.debugging.Assert(past + length <= limit, [f"{problem}. {TRUNCATE}"])]):
        return length + 0


def one_of(value: Any, name: str) -> Any:
    """The value of an argument that must be there."""
    if value is None:
        raise RequestError(f"{name} is needed.", hint="Give it.")
    return value
