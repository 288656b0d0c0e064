"""Two tensors, element by element: equal bits, or how far apart; piece by piece, so that neither is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from bertconv.checkpoint import Tensor
from bertconv.formats import workers
from bertconv.formats.streaming import Elements, Workspace, lockstep
from bertconv.manage.difference.records import CHANGED, EQUAL, ONLY_A, ONLY_B, Change, TensorDiff
from bertconv.manage.difference.rows import RowAlignment, RowFlags, compare_rows
from bertconv.manage.difference.sums import BLOCK, Floats, Roundings, Sums, comparable, squares, strange_numbers
from bertconv.mapping.indices import TensorId
from bertconv.records import dataclass
from bertconv.text import printable


@dataclass(frozen=True)
class Pair:
    """One tensor of both sides; `alignment` is given where it has a row for each token."""

    id: str
    a: Tensor
    b: Tensor
    alignment: RowAlignment | None = None

    @property
    def same_shape(self) -> bool:
        """Whether the sizes are the same on both sides."""
        return self.a.spec.canonical.shape == self.b.spec.canonical.shape

    @property
    def in_place(self) -> bool:
        """Whether elements belong together as they lie."""
        return self.alignment is None or self.alignment.in_place

    @property
    def is_compared(self) -> bool:
        """Whether the elements can be held to each other: in one shape, or row by row."""
        one, other = (side.spec.canonical.shape for side in (self.a, self.b))
        return one == other or (self.alignment is not None and one[1:] == other[1:])


def layer_of(place: str) -> str:
    """What a tensor is counted to: its group, with the number of the layer; the folder of a module beside the model."""
    folder, slash, _ = place.rpartition("/")
    return printable(folder) if slash else TensorId.parse(place).at


def compare_pair(pair: Pair, workspace: Workspace, tick: workers.Tick) -> TensorDiff:
    """Compare one tensor.

    Args:
        pair: the tensor on both sides.
        workspace: buffers.
        tick: called with the bytes of B that were read.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    slices, same = _slices(pair, workspace), pair.same_shape and pair.a.stored.dtype == pair.b.stored.dtype
    read = 0
    for one, other in slices if same else ():
        if not np.array_equal(one, other):
            same = False
            # what was trained on differs from its first slice on, and is read once
            slices = _slices(pair, workspace) if read else chain([(one, other)], slices)
            break
        read += other.nbytes
        tick(other.nbytes)
    facts: Mapping[str, Any] = {}
    if pair.is_compared and not (same and pair.in_place):
        facts = _apart(pair, slices, lambda: tick(0))
    tick(pair.b.stored.nbytes - read)
    return _diff(pair.id, pair.a, pair.b, EQUAL if same else CHANGED, facts)


def _slices(pair: Pair, workspace: Workspace) -> Iterator[tuple[Elements, ...]]:
    """The elements of both sides in PyTorch's order, nothing of it read yet."""
    return lockstep(pair.a.elements(workspace.second), pair.b.elements(workspace))


def _apart(pair: Pair, slices: Iterator[tuple[Elements, ...]], tick: Callable[[], None]) -> dict[str, Any]:
    """Fields of a `TensorDiff` of which the elements differ, or the places of rows.

    Args:
        pair: the tensor on both sides.
        slices: all their elements, for those that belong together as they lie.
        tick: called from time to time.
    """
    a, b = pair.a.stored.dtype, pair.b.stored.dtype
    if not comparable(a, b):
        return {}
    sums, roundings, alignment = Sums(a, b), Roundings(a, b), pair.alignment
    changed = None
    if alignment is not None and not alignment.in_place:
        changed = compare_rows(pair.a, pair.b, alignment, sums, roundings, tick)
    else:
        flags = None if alignment is None else RowFlags(alignment.rows_b, pair.b.spec.count // max(alignment.rows_b, 1))
        for one, other in slices:
            mask = sums.add(one, other)
            roundings.add(one, other)
            if flags is not None:
                flags.add(mask)
            tick()
        changed = None if flags is None else flags.changed
    change = sums.change()
    rows = None if alignment is None or changed is None else alignment.rows(changed)
    if rows is not None and not (change.differing or rows.moved or rows.new or rows.dropped):
        rows = None
    rounded, rounded_to = roundings.found() if change.differing or (change.elements and a != b) else ("", "")
    return {"change": change, "rounded": rounded, "rounded_to": rounded_to, "rows": rows}


def norm_of(job: tuple[str, Tensor], workspace: Workspace, tick: workers.Tick) -> tuple[str, Change]:
    """The norm of a tensor that is equal on both sides, as a change that is none."""
    place, tensor = job
    dtype, total, floats = tensor.stored.dtype, 0.0, Floats(1)
    if not comparable(dtype, dtype):
        return place, Change(0, 0, 0.0, 0.0, 0.0, 0.0)
    strange = 0
    for piece in tensor.elements(workspace):
        with strange_numbers():
            for start in range(0, piece.size, BLOCK):
                block = floats.take(0, piece[start : start + BLOCK], dtype)
                found = squares(block)[0]
                if not np.isfinite(found):
                    finite = block[np.isfinite(block)]
                    strange += block.size - finite.size
                    found = squares(finite)[0]
                total += found
        tick(piece.nbytes)
    norm = float(np.sqrt(total))
    return place, Change(tensor.spec.count, 0, 0.0, norm, norm, 0.0, strange, strange)


def alone(place: str, tensor: Tensor, *, in_a: bool) -> TensorDiff:
    """A tensor of one side."""
    return _diff(place, tensor if in_a else None, None if in_a else tensor, ONLY_A if in_a else ONLY_B, {})


def _diff(place: str, a: Tensor | None, b: Tensor | None, state: str, facts: Mapping[str, Any]) -> TensorDiff:
    return TensorDiff(
        id=place, layer=layer_of(place), state=state,
        a=printable(a.stored.name) if a else "", b=printable(b.stored.name) if b else "",
        shape_a=a.spec.canonical.shape if a else None, shape_b=b.spec.canonical.shape if b else None,
        dtype_a=a.stored.dtype if a else "", dtype_b=b.stored.dtype if b else "",
        **facts,
    )  # fmt: skip
