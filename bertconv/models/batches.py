"""Batches of Python generators and of `keras.utils.Sequence`, as Keras 2 took them and Keras 3 does not.

Keras 3 refuses lists of arrays in a batch, lists of numbers and a batch of features alone; a size that its first two
batches share must be that of all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from bertconv.models.inputs import is_mapping, plain_batch, whole_batch
from bertconv.models.keras_internals import generator_adapter, sequence_adapter


def adapted(x: Any, *, shuffle: bool = False, class_weight: Any = None) -> Any:
    """What Keras is given as x: a generator or a Sequence with batches of any form and length; all else as it is.

    Args:
        x: what `fit`, `evaluate` or `predict` was given.
        shuffle: whether a Sequence gives its batches in another order each epoch.
        class_weight: class id -> weight, for a Sequence.
    """
    if isinstance(x, keras.utils.PyDataset):
        return sequence_adapter(_Batches(x), _of_any_size, shuffle=shuffle, class_weight=class_weight)
    if isinstance(x, Iterator):
        return generator_adapter(map(_batch, x), _of_any_size)
    return x


def _of_any_size(spec: Any) -> Any:
    """The same kind of tensor, of any size."""
    return tf.TensorSpec([None] * spec.shape.rank, spec.dtype) if isinstance(spec, tf.TensorSpec) else spec


class _Batches(keras.utils.PyDataset):
    """A Sequence whose batches are tuples."""

    def __init__(self, of: Any) -> None:
        super().__init__(of.workers, of.use_multiprocessing, of.max_queue_size)
        self.of = of

    @property
    def num_batches(self) -> Any:
        return self.of.num_batches

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return _batch(self.of[index])

    def on_epoch_begin(self) -> None:
        self.of.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.of.on_epoch_end()


def _batch(batch: Any) -> tuple[Any, ...]:
    """Features, labels and sample weights, as far as they are there, without lists."""
    parts = batch if isinstance(batch, list | tuple) else (batch,)
    return tuple(map(_part, parts))


def _part(value: Any) -> Any:
    if is_mapping(value):
        return plain_batch(value)
    value = whole_batch(value)
    return tuple(value) if isinstance(value, list) else value
