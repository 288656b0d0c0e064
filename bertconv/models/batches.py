"""Batches of Python generators and of `keras.utils.Sequence`, as Keras 2 took them and Keras 3 does not.

Keras 3 refuses lists of arrays in a batch, lists of numbers and a batch of features alone; a size that its first two
batches share must be that of all others.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.inputs import is_mapping, plain_batch, whole_batch


def as_dataset(x: Any, *, shuffle: bool = False) -> Any:
    """A generator or a Sequence as a dataset, its batches of any form and length; all else as it is.

    One that wants several workers is read by Keras, which has them, and fixes the sizes that its first batches share.

    Args:
        x: what `fit`, `evaluate` or `predict` was given.
        shuffle: whether a Sequence gives its batches in another order each epoch.

    Raises:
        RequestError: a generator that gives nothing.
    """
    if isinstance(x, keras.utils.PyDataset):
        if x.workers > 1 or x.use_multiprocessing:
            return Sequence(x)
        found = _dataset(_batch(x[0]), partial(_epoch, x, shuffle=shuffle))
        return found if x.num_batches is None else found.apply(tf.data.experimental.assert_cardinality(x.num_batches))
    if isinstance(x, Iterator):
        batches = map(_batch, x)
        first = next(batches, None)
        if first is None:
            raise RequestError("the generator gives no batches.", hint="Make it anew: a generator can be read once.")
        return _dataset(first, partial(itertools.chain, [first], batches))
    return x


class Sequence(keras.utils.PyDataset):
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


def _dataset(first: Any, make: Callable[[], Iterable[Any]]) -> tf.data.Dataset:
    found = tf.data.Dataset.from_generator(make, output_signature=keras.tree.map_structure(_of_any_size, first))
    return found.prefetch(tf.data.AUTOTUNE)


def _of_any_size(value: Any) -> Any:
    """The specification of a tensor or array, of any size."""
    spec = tf.type_spec_from_value(value)
    return tf.TensorSpec([None] * spec.shape.rank, spec.dtype) if isinstance(spec, tf.TensorSpec) else spec


def _epoch(sequence: Any, *, shuffle: bool) -> Iterator[Any]:
    count = sequence.num_batches
    order: Iterable[int] = itertools.count() if count is None else range(count)
    if shuffle and count is not None:
        order = random.sample(range(count), count)
    sequence.on_epoch_begin()
    for number in order:
        yield _batch(sequence[number])
    sequence.on_epoch_end()


def _batch(batch: Any) -> tuple[Any, ...]:
    """Features, labels and sample weights, as far as they are there, without lists."""
    parts = list(batch) if isinstance(batch, list | tuple) else [batch]
    while len(parts) > 1 and parts[-1] is None:
        parts.pop()
    return tuple(map(_part, parts))


def _part(value: Any) -> Any:
    if is_mapping(value):
        return plain_batch(value)
    value = whole_batch(value)
    return tuple(value) if isinstance(value, list) else value
