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

Batch = tuple[Any, ...]
"""Features, labels and sample weights, as far as they are there."""


def as_dataset(x: Any, see: Callable[[Batch], None], *, shuffle: bool = False, steps: int | None = None) -> Any:
    """A generator or a Sequence as a dataset, its batches of any form and length; all else as it is.

    One that wants several workers is read by Keras, which has them, and fixes the sizes that its first batches share.

    Args:
        x: what `fit`, `evaluate` or `predict` was given.
        see: is shown the first batch before anything is read of the dataset.
        shuffle: whether a Sequence gives its batches in another order each epoch.
        steps: batches per epoch, if not all of a Sequence.

    Raises:
        RequestError: a generator that gives nothing.
    """
    if isinstance(x, keras.utils.PyDataset):
        if x.workers > 1 or x.use_multiprocessing:
            return _InTuples(x)
        first, count = _batch(x[0]), x.num_batches
        see(first)
        count = count and min(count, steps or count)
        found = _dataset(first, partial(_epoch, x, count, shuffle=shuffle)).prefetch(tf.data.AUTOTUNE)
        return found if count is None else found.apply(tf.data.experimental.assert_cardinality(count))
    if isinstance(x, Iterator):
        batches = map(_batch, x)
        first = next(batches, ())
        if not first:
            raise RequestError("the generator gives no batches.", hint="Make it anew: a generator can be read once.")
        see(first)
        every = itertools.chain([first], batches)  # one pass, in which each epoch goes on; nothing is read ahead
        return _dataset(first, lambda: every)
    return x


def _dataset(first: Batch, make: Callable[[], Iterable[Batch]]) -> tf.data.Dataset:
    specs = tuple(
        keras.tree.map_structure(partial(_of_any_size, is_label=place > 0), part) for place, part in enumerate(first)
    )
    dtypes = [spec.dtype for spec in keras.tree.flatten(specs)]
    return tf.data.Dataset.from_generator(lambda: (_alike(batch, dtypes) for batch in make()), output_signature=specs)


def _of_any_size(value: Any, *, is_label: bool) -> Any:
    """The specification of a tensor or array, of any size; a column of labels, which tells their kind, stays one."""
    spec = tf.type_spec_from_value(value)
    if not isinstance(spec, tf.TensorSpec):
        return spec
    is_column = is_label and spec.shape.rank > 1 and spec.shape[-1] == 1
    return tf.TensorSpec([None] * (spec.shape.rank - is_column) + [1] * is_column, spec.dtype)


def _alike(batch: Batch, dtypes: Iterable[tf.DType]) -> Batch:
    """The batch, if TensorFlow does not cut its fractions to the whole numbers of the first batch."""
    for value, first in zip(keras.tree.flatten(batch), dtypes, strict=False):
        dtype = tf.as_dtype(getattr(value, "dtype", tf.int32))
        if dtype.is_floating and first.is_integer:
            raise RequestError(
                f"a batch holds {dtype.name} where the first one holds {first.name}.",
                hint="Give all batches the same dtypes.",
            )
    return batch


class _InTuples(keras.utils.PyDataset):
    """A Sequence whose batches are tuples."""

    def __init__(self, of: Any) -> None:
        super().__init__(of.workers, of.use_multiprocessing, of.max_queue_size)
        self.of = of

    @property
    def num_batches(self) -> Any:
        return self.of.num_batches

    def __getitem__(self, index: int) -> Batch:
        return _batch(self.of[index])

    def on_epoch_begin(self) -> None:
        self.of.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.of.on_epoch_end()


def _epoch(sequence: Any, count: int | None, *, shuffle: bool) -> Iterator[Batch]:
    """As many batches as the first epoch had, even where the Sequence has become shorter; all of one without an end."""
    sequence.on_epoch_begin()
    order: Iterable[int] = itertools.count()
    if count is not None:
        numbers = range(sequence.num_batches)
        order = itertools.islice(itertools.cycle(random.sample(numbers, len(numbers)) if shuffle else numbers), count)
    for number in order:
        yield _batch(sequence[number])
    sequence.on_epoch_end()


def _batch(batch: Any) -> Batch:
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
