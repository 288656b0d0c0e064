"""W + scale * B A, in float64 and rounded once, in flat memory.

The product is summed one rank after the other, in the same order whatever the threads, the pieces and the format of the
output, so that the same input gives the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bertconv.containers.stored import StoredTensor
from bertconv.errors import MappingError
from bertconv.formats.arithmetic import STEP, Operand, Rounding, widen
from bertconv.formats.streaming import Elements, Workspace, as_floats, pieces
from bertconv.manage.adapter.names import Pair
from bertconv.mapping.layout import is_transposed
from bertconv.mapping.plan import Move

Matrix = np.ndarray[tuple[int, ...], np.dtype[Any]]


def with_product(move: Move, source: StoredTensor, dtype: str, pair: Pair) -> Callable[[Workspace], Iterator[Elements]]:
    """What computes a weight with its product, in the order of the output.

    Args:
        move: of the weight.
        source: what is added to, with the transpose of the move: the weight in the base, or the adapter's own.
        dtype: element type of the output.
        pair: the two matrices.

    Returns:
        As `formats.content.Origin.compute`. It raises MappingError where no element of the weight changes, and
        RequestError where a number does not fit into its type.
    """

    def compute(workspace: Workspace) -> Iterator[Elements]:
        left, right = _factors(move, pair, workspace)
        yield from _added(
            move, source, dtype, lambda start, out: _product(left, right, pair.scale, start, out), workspace
        )

    return compute


def with_bias(
    move: Move, source: StoredTensor, dtype: str, added: StoredTensor, scale: float
) -> Callable[[Workspace], Iterator[Elements]]:
    """What computes a bias to which another one is added; as `with_product`."""

    def compute(workspace: Workspace) -> Iterator[Elements]:
        more = _whole(added, workspace) * scale

        def fill(start: int, out: Matrix) -> None:
            out[:] = more[start : start + out.size]

        yield from _added(move, source, dtype, fill, workspace)

    return compute


def _added(
    move: Move, source: StoredTensor, dtype: str, term: Callable[[int, Matrix], None], workspace: Workspace
) -> Iterator[Elements]:
    """Elements of a tensor with something added; `term` fills in what it is from an element on."""
    size = min(STEP, source.count)
    numbers, more = np.empty(size), np.empty(size)
    rounded = Rounding(dtype, [Operand(source, move.transpose, None)])
    start, changed = 0, False
    for piece in pieces(source, move.transpose, workspace):
        for first in range(0, piece.size, size):
            part = piece[first : first + size]
            total, extra = numbers[: part.size], more[: part.size]
            widen(part, source.dtype, total)
            term(start, extra)
            np.add(total, extra, out=total)
            elements = rounded(total, (as_floats(part, source.dtype), extra))
            if source.dtype == dtype:
                np.copyto(elements, part, where=extra == 0)  # the payload of a NaN stays
            changed = changed or source.dtype != dtype or not np.array_equal(elements, part)
            start += part.size
            yield elements
    if not changed:
        raise MappingError(
            "is not changed by the adapter in a single element.",
            hint="It was saved before it was trained, or was made for another base.",
            file=source.file.name,
            tensor=source.name,
        )


def _factors(move: Move, pair: Pair, workspace: Workspace) -> tuple[Matrix, Matrix]:
    """The two matrices [rows, rank] and [rank, columns] of the output's own order."""
    a, b = (_whole(one, workspace).reshape(one.shape) for one in (pair.a, pair.b))
    left, right = (a.T, b.T) if pair.is_embedding else (b, a)
    turned = is_transposed(move.target.layout, move.target.canonical)
    return (right.T, left.T) if turned else (left, right)


def _whole(tensor: StoredTensor, workspace: Workspace) -> Matrix:
    """A small tensor as float64."""
    parts = [as_floats(piece, tensor.dtype).astype(np.float64) for piece in pieces(tensor, None, workspace.second)]
    return np.concatenate(parts) if parts else np.empty(0)


def _product(left: Matrix, right: Matrix, scale: float, start: int, out: Matrix) -> None:
    """Elements of `scale * left right` from one on, as they lie in memory."""
    columns = right.shape[1]
    top, bottom = start // columns, -(-(start + out.size) // columns)
    total = np.zeros((bottom - top, columns))
    term = np.empty_like(total)
    for rank in range(right.shape[0]):
        np.multiply(left[top:bottom, rank, None], right[rank], out=term)
        np.add(total, term, out=total)
    np.multiply(total, scale, out=total)
    out[:] = total.reshape(-1)[start - top * columns :][: out.size]
