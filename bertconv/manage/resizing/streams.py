"""Tensors with a row for each token, resized: what they are then, and where their elements come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bertconv.containers.stored import StoredTensor
from bertconv.errors import UnsupportedCheckpoint
from bertconv.formats.content import Origin
from bertconv.manage.resizing.vocabulary import NewRows, RowPlan
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.layout import Layout
from bertconv.mapping.plan import Move
from bertconv.mapping.table import VOCABULARY, Table

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.formats.streaming import Elements, Workspace


def vocabulary_sizes(table: Table) -> tuple[str, ...]:
    """Names of a table's sizes that are the number of rows.

    Raises:
        UnsupportedCheckpoint: a size is something else that depends on it, which only a table of the user's own has.
    """
    for name, size in table.sizes.items():
        if VOCABULARY in size.keys and name not in table.token_sizes:
            raise UnsupportedCheckpoint(
                f"the size {name} of the table is reckoned from {VOCABULARY}, and not that number itself.",
                hint="Only tables with one row for each token are resized.",
                file=str(table.path),
            )
    return tuple(name for name in table.sizes if name in table.token_sizes)


def vocabulary_axis(spec: TensorSpec, sizes: Collection[str]) -> int | None:
    """Which dimension of a tensor, as it is stored, has an index for each token; None where none has.

    Args:
        spec: the tensor.
        sizes: names of the table's sizes that are the vocabulary's.

    Raises:
        UnsupportedCheckpoint: it is no vector or matrix.
    """
    axes = [number for number, dim in enumerate(spec.layout.dims) if any(_is_one(name, sizes) for name, _ in dim)]
    if not axes:
        return None
    if len(axes) > 1 or len(spec.shape) > 2 or len(spec.layout.dims[axes[0]]) > 1:
        raise UnsupportedCheckpoint(
            f"has the shape {list(spec.shape)}, which is no table with a row for each token.",
            hint="Only vectors and matrices are resized.",
            tensor=spec.name,
        )
    return axes[0]


def resized(spec: TensorSpec, sizes: Collection[str], rows: int) -> TensorSpec:
    """The same tensor with another number of rows."""

    def changed(layout: Layout) -> Layout:
        dims = [tuple((name, rows if _is_one(name, sizes) else size) for name, size in dim) for dim in layout.dims]
        return Layout(tuple(dims))

    return replace(spec, layout=changed(spec.layout), canonical=changed(spec.canonical))


def resized_origin(move: Move, stored: StoredTensor, axis: int, rows: RowPlan, new: NewRows) -> Origin:
    """Where the elements of a resized tensor come from.

    Args:
        move: the tensor, and how it is turned.
        stored: where it is.
        axis: its dimension of tokens in the target.
        rows: which row becomes which.
        new: what the others are.
    """

    def compute(workspace: Workspace) -> Iterator[Elements]:
        from bertconv.manage.resizing.fresh import Fresh
        from bertconv.manage.resizing.tables import NewTable, OldTable

        by_row = axis == 0
        turn = move.transpose.reduced if move.transpose else None
        old = OldTable(stored, rows.before, stored.count // rows.before, by_row == (turn is None))
        return NewTable(old, rows, by_row, turn, Fresh(rows, new).of).elements(workspace)

    return Origin(compute=compute)


def _is_one(name: str, sizes: Collection[str]) -> bool:
    return name.rpartition(".")[2] in sizes
