"""A table of examples as a `tf.data.Dataset` that `fit` takes: known columns, padded batches, labels apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.losses import IGNORED

Columns = Mapping[str, Any]
"""Column name to the column's values, one per row."""

_TOKENIZED = ("input_ids", "attention_mask", "token_type_ids")
_ALIASES = ("label", "label_ids")
_NUMBERS = (bool, int, float, np.number, np.bool_)


def prepare_tf_dataset(
    model_inputs: tuple[str, ...],
    label_names: tuple[str, ...],
    dataset: Any,
    *,
    batch_size: int = 8,
    shuffle: bool = True,
    tokenizer: Any = None,
    collate_fn: Callable[..., Columns] | None = None,
    collate_fn_args: Mapping[str, Any] | None = None,
    drop_remainder: bool | None = None,
    prefetch: bool = True,
) -> tf.data.Dataset:
    """Make batches of a table's rows, in another order each epoch (the same after `keras.utils.set_random_seed`).

    Columns that are neither arguments of the model nor labels are dropped; "label" and "label_ids" count as "labels" if
    the model has that. Columns whose rows differ in length are padded to the longest row of the batch, labels with -100
    and all else with 0 or as the tokenizer pads. Without a tokenizer no `attention_mask` is made up: where ids differ
    in length, the data should have one.

    Args:
        model_inputs: arguments of the model's `call`.
        label_names: those of them that are labels.
        dataset: a `datasets.Dataset`, a mapping of columns, or rows (anything with a length), each a mapping.
        batch_size: rows per batch.
        shuffle: whether the order is another one each epoch.
        tokenizer: whose `pad` pads ids, masks and token types; not used if `collate_fn` is given.
        collate_fn: makes the columns of a batch of a list of rows, each a dict.
        collate_fn_args: keyword arguments for it.
        drop_remainder: drop a last batch that is not full; None means if `shuffle`.
        prefetch: prepare batches while the model computes.

    Returns:
        A data set of known length. Elements are features, `{name: [batch ...]}`, or `(features, labels)`; one column of
        labels is an array, several are a dict. Whole numbers are int64, others float32; no size is fixed.

    Raises:
        RequestError: no column that the model takes, columns of different lengths, no rows, values that are no numbers.
            What shows only in a later batch arrives as TensorFlow's InvalidArgumentError with the same sentence.
    """
    dataset = _by_column(dataset)
    names = _known_columns(_column_names(dataset), model_inputs, label_names)
    read, size = _reader(dataset, names)
    drops = shuffle if drop_remainder is None else drop_remainder
    _check_sizes(size, batch_size, drops=drops)
    collate = _collation(label_names, tokenizer, collate_fn, collate_fn_args or {})

    def batch_of(rows: list[int]) -> dict[str, Any]:
        return _model_columns(collate(read(rows)), model_inputs, label_names)

    order = tf.data.Dataset.range(size)
    order = order.shuffle(size, reshuffle_each_iteration=True) if shuffle else order
    load = _loader(batch_of, list(range(min(2, size))), label_names)
    batches = order.batch(batch_size, drop_remainder=drops).map(load)
    return batches.prefetch(tf.data.AUTOTUNE) if prefetch else batches


# where rows come from


def _by_column(dataset: Any) -> Any:
    """A list of rows as a mapping of columns; anything else as it is."""
    if not (isinstance(dataset, list | tuple) and dataset and all(isinstance(row, Mapping) for row in dataset)):
        return dataset
    names = dataset[0].keys()
    differing = next((number for number, row in enumerate(dataset) if row.keys() != names), None)
    if differing is not None:
        raise RequestError(
            f"Row {differing} has the columns {_listed(dataset[differing])}, row 0 has {_listed(names)}.",
            hint="Give every row the same columns.",
        )
    return {name: [row[name] for row in dataset] for name in names}


def _column_names(dataset: Any) -> tuple[str, ...]:
    names = dataset if isinstance(dataset, Mapping) else _declared(dataset) or _first_row(dataset)
    if names is None or not hasattr(dataset, "__len__"):
        raise RequestError(
            f"A {type(dataset).__name__} is not a table of rows and columns with a length.",
            hint="Give a datasets.Dataset, a dict of columns or a list of dicts, with at least one row; "
            "a tf.data.Dataset goes straight into fit().",
        )
    return tuple(names)


def _declared(dataset: Any) -> Any:
    """The columns of a `datasets.Dataset` or what looks like one; None for anything else."""
    return getattr(dataset, "column_names", None) or getattr(dataset, "features", None)


def _first_row(dataset: Any) -> Columns | None:
    try:
        row = dataset[0]
    except (IndexError, KeyError, NotImplementedError, TypeError):
        return None
    return row if isinstance(row, Mapping) else None


def _known_columns(columns: tuple[str, ...], inputs: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    features = [name for name in inputs if name not in labels]
    if not set(features) & set(columns):
        raise RequestError(
            f"None of the columns is one that the model takes: the data has {_listed(columns)}.",
            hint=f"The model takes {_listed(features)}; tokenise texts first, and of a dict of splits give one.",
        )
    aliases = _ALIASES if "labels" in labels and "labels" not in columns else ()
    return tuple(name for name in columns if name in {*inputs, *labels, *aliases})


def _reader(dataset: Any, names: tuple[str, ...]) -> tuple[Callable[[list[int]], Columns], int]:
    """What reads some rows of the named columns, and how many rows there are."""
    if isinstance(dataset, Mapping):
        columns = {name: _column(name, dataset[name]) for name in names}
        return lambda rows: {name: _chosen(column, rows) for name, column in columns.items()}, _common_size(columns)
    if not _declared(dataset):
        return lambda rows: {name: [dataset[row][name] for row in rows] for name in names}, len(dataset)
    if hasattr(dataset, "select_columns"):  # which spares it decoding the others
        dataset = dataset.select_columns(list(names))
    return lambda rows: {name: column for name, column in dataset[rows].items() if name in names}, len(dataset)


def _column(name: str, values: Any) -> Any:
    """A column; as an array where it holds plain numbers, so that all of them are of one type."""
    if isinstance(values, list | tuple) and not all(isinstance(value, _NUMBERS) for value in values):
        return values
    array = np.asarray(values)
    if not array.ndim:
        raise RequestError(
            f"The column {name} is a {type(values).__name__} and not a list or an array.",
            hint="A column holds one value per row.",
        )
    return array


def _chosen(column: Any, rows: list[int]) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def _common_size(columns: Columns) -> int:
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        counted = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise RequestError(f"Columns differ in their number of rows: {counted}.", hint="Give one value per row.")
    return next(iter(sizes.values()))


def _check_sizes(size: int, batch_size: int, *, drops: bool) -> None:
    if not size:
        raise RequestError("The data has no rows.", hint="Give at least one row.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise RequestError(f"batch_size={batch_size!r} is not a number of rows.", hint="Give a whole number from 1 up.")
    if drops and size < batch_size:
        raise RequestError(
            f"The data has {size} rows and a batch {batch_size}: dropping a batch that is not full leaves none.",
            hint="Give drop_remainder=False, which shuffle=True would otherwise set, or a smaller batch_size.",
        )


# what becomes of the rows of a batch


def _collation(
    labels: tuple[str, ...], tokenizer: Any, collate_fn: Callable[..., Columns] | None, arguments: Mapping[str, Any]
) -> Callable[[Columns], Columns]:
    """What brings the rows of a batch to one length."""
    if collate_fn is not None:
        return lambda columns: collate_fn(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], **arguments
        )
    ignored = {*labels, *_ALIASES}
    left = getattr(tokenizer, "padding_side", "right") == "left"

    def pad(columns: Columns) -> Columns:
        known = {name: _as_lists(columns[name]) for name in _TOKENIZED if name in columns}
        padded = (
            dict(tokenizer.pad(known, return_tensors="np")) if tokenizer is not None and "input_ids" in known else {}
        )
        own = {
            name: _stack(name, values, IGNORED if name in ignored else 0, left=left)
            for name, values in columns.items()
            if name not in padded
        }
        return padded | own

    return pad


def _as_lists(rows: Any) -> list[Any]:
    return [np.asarray(row).tolist() if hasattr(row, "__array__") else row for row in rows]


def _stack(name: str, values: Any, fill: int, *, left: bool = False) -> np.ndarray:
    """Rows as one array; where their sizes differ, on any level, filled up behind or, if `left`, before the values."""
    try:
        whole = np.asarray(values)
    except ValueError:  # sizes differ
        whole = np.asarray(None)
    if whole.dtype != object or not isinstance(values, list | tuple | np.ndarray):
        return whole
    parts = [_stack(name, value, fill, left=left) for value in values]
    if len({part.ndim for part in parts}) > 1:
        raise RequestError(f"The rows of {name} are nested to different depths.", hint="Give rows of one kind.")
    sizes = [max(each) for each in zip(*(part.shape for part in parts), strict=True)]
    if not sizes:
        return np.stack(parts)
    kinds = [part for part in parts if part.size] or parts  # an empty list would count as float
    stacked = np.full((len(parts), *sizes), fill, np.result_type(*kinds))
    for row, part in zip(stacked, parts, strict=True):
        extents = zip(sizes, part.shape, strict=True)
        row[tuple(slice(size - taken, None) if left else slice(taken) for size, taken in extents)] = part
    return stacked


def _model_columns(batch: Columns, inputs: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, Any]:
    """What the model takes of a collated batch, under its names."""
    if not isinstance(batch, Mapping):
        raise RequestError(f"collate_fn made a {type(batch).__name__}.", hint="Let it make a dict of columns.")
    found = dict(batch)
    alias = next((name for name in _ALIASES if name in found), None)
    if alias and "labels" in labels:
        found.setdefault("labels", found[alias])
    if not any(name in found and name not in labels for name in inputs):
        raise RequestError(f"collate_fn made {_listed(found)}, which the model does not take.",
                           hint=f"The model takes {_listed(inputs)}.")  # fmt: skip
    return {name: found[name] for name in dict.fromkeys((*inputs, *labels)) if name in found}


def _loader(batch_of: Callable[[list[int]], dict[str, Any]], first: list[int], labels: tuple[str, ...]) -> Any:
    """What `tf.data` maps over batches of row numbers; the first rows tell columns, types and ranks."""
    sample = {name: _stack(name, values, 0) for name, values in batch_of(first).items()}
    kinds = {name: _kind(name, values) for name, values in sample.items()}

    def read(rows: np.ndarray) -> list[np.ndarray]:
        batch = batch_of(rows.tolist())
        return [_like(name, batch.get(name), kinds[name], sample[name].ndim) for name in sample]

    def load(rows: tf.Tensor) -> Any:
        tensors = tf.numpy_function(read, [rows], list(kinds.values()))
        for tensor, values in zip(tensors, sample.values(), strict=True):
            tensor.set_shape([None] * values.ndim)
        columns = dict(zip(sample, tensors, strict=True))
        targets = {name: columns.pop(name) for name in labels if name in columns}
        if not targets:
            return columns
        return columns, next(iter(targets.values())) if len(targets) == 1 else targets

    return load


def _kind(name: str, values: np.ndarray) -> type[np.generic]:
    if values.dtype.kind in "biu" or not values.size:
        return np.int64
    if values.dtype.kind == "f":
        return np.float32
    raise RequestError(
        f"The column {name} does not hold numbers ({values.dtype}).",
        hint="Turn labels and inputs into numbers; None is none. Texts go through a tokenizer first.",
    )


def _like(name: str, values: Any, kind: type[np.generic], rank: int) -> np.ndarray:
    """A column of a later batch, if it is as the first rows made expect."""
    if values is None:
        raise RequestError(f"A batch lacks the column {name}.", hint="Let collate_fn make the same columns each time.")
    array = _stack(name, values, 0)
    if (_kind(name, array) is not np.int64 and kind is np.int64) or array.ndim != rank:
        raise RequestError(
            f"The column {name} is not the same in all rows: {array.ndim} axes of {array.dtype}, "
            f"after {rank} axes of {np.dtype(kind)} in the first rows.",
            hint="Give values of one kind and depth; with 1.0 in the first row all of them are floats.",
        )
    return array.astype(kind)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "none"
