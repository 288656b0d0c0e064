"""How one tensor of a merge is computed: slerp, task arithmetic, TIES and DARE, each in float64 and in flat memory.

slerp is Shoemake's (Animating rotation with quaternion curves, 1985), over a tensor as one vector. The others add to a
base what fine-tuning changed, a task vector for each input: Ilharco et al. (Editing models with task arithmetic, 2022),
Yadav et al. (TIES-Merging, 2023) and Yu et al. (Language models are super Mario, 2023). docs/merge.md has the formulas.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bertconv.formats.arithmetic import (
    STEP,
    Compute,
    Operand,
    Rounding,
    floats_of,
    keep,
    side_by_side,
    step_of,
    weighted_sum,
    widen,
)
from bertconv.formats.streaming import Elements, Workspace
from bertconv.manage.merge_settings import Settings
from bertconv.mapping.layout import Transpose
from bertconv.records import dataclass

PARALLEL = 0.9995
"""Cosine from which two vectors count as parallel: the arc between them is a line then, and its formula 0 / 0."""
_DIGIT = 16
"""Bits of a magnitude that are counted in one reading."""
_GOLDEN, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
"""Constants of SplitMix64 (Steele, Lea and Flood 2014)."""


@dataclass(frozen=True)
class Task:
    """One tensor of a merge.

    Attributes:
        id: neutral id, which the random numbers of DARE depend on.
        inputs: the tensor in every input.
        base: the tensor in the base; None for slerp.
        dtype: of the output.
        canonical: brings the elements of the output into PyTorch's order.
        settings: the numbers.
    """

    id: str
    inputs: tuple[Operand, ...]
    base: Operand | None
    dtype: str
    canonical: Transpose | None
    settings: Settings


Update = Callable[[int, list[Elements]], Elements]
"""From the place of the first element and a slice of every task vector to what is added to the base."""


def slerp(task: Task) -> Compute:
    """Along the arc between two tensors; along the line where they are parallel or one of them is zero."""

    def compute(workspace: Workspace) -> Iterator[Elements]:
        cosine, t = _cosine(task.inputs, workspace), task.settings.t
        weights, is_line = (1 - t, t), not abs(cosine) <= PARALLEL  # NaN is no arc either
        if not is_line:
            angle = math.acos(cosine)
            weights = (math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))
        yield from weighted_sum(task.inputs, weights, task.dtype, is_mean=is_line)(workspace)

    return compute


def task_arithmetic(task: Task) -> Compute:
    """The base, and the weighted sum of the task vectors."""

    def update(_: int, deltas: list[Elements]) -> Elements:
        return _weighted(deltas, task.settings)

    return lambda workspace: _updated(task, workspace, update)


def dare(task: Task) -> Compute:
    """The same with elements of the task vectors dropped at random, and the others larger for it."""
    density, count = task.settings.density, len(task.inputs)
    keys = [_key(task.settings.seed, task.id, number) for number in range(count)]
    limit = np.uint64(min(math.ceil(density * 2**64), 2**64 - 1))

    def update(start: int, deltas: list[Elements]) -> Elements:
        places = _places(np.arange(start, start + deltas[0].size), task.canonical)
        for key, delta in zip(keys, deltas, strict=True):
            if density < 1:
                np.divide(delta, density, out=delta)
                np.copyto(delta, 0.0, where=random_bits(key, places) >= limit)
        return _weighted(deltas, task.settings)

    return lambda workspace: _updated(task, workspace, update)


def ties(task: Task) -> Compute:
    """Each task vector trimmed to its largest elements; of every element the mean of those with the elected sign."""

    def compute(workspace: Workspace) -> Iterator[Elements]:
        trims = [_trim(task, number, workspace) for number in range(len(task.inputs))]
        weights, scale = task.settings.weights, task.settings.scale

        def update(start: int, deltas: list[Elements]) -> Elements:
            for trim, delta, weight in zip(trims, deltas, weights, strict=True):
                trim.apply(delta, start, task.canonical)
                np.multiply(delta, weight, out=delta)
            votes = _sum(deltas)
            elected = votes >= 0
            total, share = np.zeros_like(votes), np.zeros_like(votes)
            for delta, weight in zip(deltas, weights, strict=True):
                agrees = ((delta > 0) == elected) & (delta != 0)
                total += np.where(agrees, delta, 0.0)  # a mask in the ufunc is five times as slow
                share += agrees * weight
            np.copyto(share, 1.0, where=share == 0)
            np.divide(total, share, out=total)
            return np.multiply(total, scale, out=total)

        yield from _updated(task, workspace, update)

    return compute


METHODS: Mapping[str, Callable[[Task], Compute]] = {
    "slerp": slerp,
    "task-arithmetic": task_arithmetic,
    "ties": ties,
    "dare": dare,
}
"""Name of a method -> what makes the computation of one tensor."""


def random_bits(key: int, places: Elements) -> Elements:
    """64 random bits for every place: a counter that is mixed, so that each depends on its place alone."""
    bits = places.astype(np.uint64)
    bits *= _GOLDEN
    bits += np.uint64((key + int(_GOLDEN)) % 2**64)
    shifted = np.empty_like(bits)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, None)):
        np.right_shift(bits, np.uint64(shift), out=shifted)
        bits ^= shifted
        if factor is not None:
            bits *= factor
    return bits


def _key(seed: int, place: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{place}\0{number}".encode()).digest()[:8], "little")


def _places(written: Elements, canonical: Transpose | None) -> Elements:
    """Where elements of an output stand in PyTorch's order."""
    if canonical is None:
        return written
    index = np.unravel_index(written, canonical.shape)
    return np.ravel_multi_index([index[axis] for axis in canonical.order], canonical.result)


def _updated(task: Task, workspace: Workspace, update: Update) -> Iterator[Elements]:
    """The base and what is added to it; an element to which nothing is added keeps its bits."""
    base = _base(task)
    operands = (base, *task.inputs)
    size = min(step_of(len(operands) + 3), max(base.tensor.count, 1))
    room = np.empty((len(operands), size))
    rounded = Rounding(task.dtype, operands)
    for start, parts in side_by_side(operands, workspace, size):
        numbers, *deltas = room[:, : parts[0].size]
        _differences(parts, operands, numbers, deltas)
        with np.errstate(over="ignore", invalid="ignore"):
            added = update(start, deltas)
            same = added == 0
            np.add(numbers, added, out=numbers)
        elements = rounded(numbers, floats_of(parts, operands))
        if base.tensor.dtype == task.dtype:
            keep(elements, parts[0], same)
        yield elements


def _differences(
    parts: Sequence[Elements], operands: Sequence[Operand], base: Elements, deltas: Sequence[Elements]
) -> None:
    """The numbers of the base, and what each input has more; nothing where both are one infinity or NaN."""
    widen(parts[0], operands[0].tensor.dtype, base)
    for part, operand, delta in zip(parts[1:], operands[1:], deltas, strict=True):
        widen(part, operand.tensor.dtype, delta)
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(np.add.reduce(delta)) and np.isfinite(np.add.reduce(base))
            same = None if finite else delta.view(np.uint64) == base.view(np.uint64)
            np.subtract(delta, base, out=delta)
        if same is not None:
            delta[same] = 0


def _base(task: Task) -> Operand:
    if task.base is None:
        raise ValueError("a task vector needs a base")
    return task.base


def _weighted(deltas: Sequence[Elements], settings: Settings) -> Elements:
    for delta, weight in zip(deltas, settings.weights, strict=True):
        np.multiply(delta, weight, out=delta)
    return _sum(deltas) * settings.scale


def _sum(deltas: Sequence[Elements]) -> Elements:
    total = deltas[0].copy()
    for delta in deltas[1:]:
        np.add(total, delta, out=total)
    return total


# The angle of slerp


def _cosine(operands: Sequence[Operand], workspace: Workspace) -> float:
    """Of the angle between two tensors; NaN where one has no direction.

    Products are summed in blocks that begin at the same elements in every format, and the blocks exactly.
    """
    blocks: list[tuple[float, float, float]] = []
    one, other = np.empty((2, STEP))
    filled = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for _, parts in side_by_side(operands, workspace, STEP, canonical=True):
            taken = 0
            while taken < parts[0].size:
                length = min(parts[0].size - taken, STEP - filled)
                for part, operand, room in zip(parts, operands, (one, other), strict=True):
                    widen(part[taken : taken + length], operand.tensor.dtype, room[filled : filled + length])
                filled, taken = (filled + length) % STEP, taken + length
                if filled == 0:
                    blocks.append(_products(one, other))
        if filled:
            blocks.append(_products(one[:filled], other[:filled]))
    if not blocks or not all(math.isfinite(number) for block in blocks for number in block):
        return math.nan
    squares, products, others = (math.fsum(column) for column in zip(*blocks, strict=True))
    if squares == 0 or others == 0:
        return math.nan
    return max(-1.0, min(1.0, products / math.sqrt(squares) / math.sqrt(others)))


def _products(one: Elements, other: Elements) -> tuple[float, float, float]:
    pairs = (one, one), (one, other), (other, other)
    squares, products, others = (float(np.add.reduce(np.multiply(*pair))) for pair in pairs)
    return squares, products, others


# The largest elements of a task vector


@dataclass(frozen=True)
class Trim:
    """Which elements of a task vector are its largest.

    Attributes:
        dtype: in which magnitudes are compared.
        least: bits of the smallest magnitude that is kept.
        last: place in PyTorch's order of the last element of that magnitude that is kept; None keeps all of them.
        is_whole: everything is kept.
    """

    dtype: str
    least: int
    last: int | None
    is_whole: bool = False

    def apply(self, delta: Elements, start: int, canonical: Transpose | None) -> None:
        """Make the other elements zero; `start` is the place of the first one in the output."""
        if self.is_whole:
            return
        ranks = _ranks(delta, self.dtype)
        np.copyto(delta, 0.0, where=ranks < self.least)
        if self.last is not None:
            tied = np.flatnonzero(ranks == self.least)
            delta[tied[_places(tied + start, canonical) > self.last]] = 0


def _ranks(delta: Elements, dtype: str) -> Elements:
    """Whole numbers in the order of magnitudes, NaN above all."""
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.abs(delta).astype(dtype)
    return floats.view(f"u{floats.itemsize}")


def _trim(task: Task, number: int, workspace: Workspace) -> Trim:
    """The k-th largest magnitude, found digit by digit by counting; of equal ones the first in PyTorch's order stay."""
    pair = (_base(task), task.inputs[number])
    count = pair[0].tensor.count
    most = max(1, int(task.settings.density * count))
    dtype = "float64" if "float64" in (one.tensor.dtype for one in pair) else "float32"
    if most >= count:
        return Trim(dtype, 0, None, is_whole=True)
    least, wanted, there = 0, most, 0
    for shift in range(np.dtype(dtype).itemsize * 8 - _DIGIT, -1, -_DIGIT):
        counts = np.zeros(1 << _DIGIT, np.int64)
        for _, ranks in _all_ranks(pair, dtype, workspace):
            within = ranks[ranks >> (shift + _DIGIT) == least] if shift + _DIGIT < ranks.itemsize * 8 else ranks
            counts += np.bincount((within >> shift) & ((1 << _DIGIT) - 1), minlength=counts.size)
        above = np.cumsum(counts[::-1])
        steps = int(np.searchsorted(above, wanted))
        digit = counts.size - 1 - steps
        wanted, there = wanted - int(above[steps] - counts[digit]), int(counts[digit])
        least = least << _DIGIT | digit
    last = _last_of(pair, dtype, workspace, least, wanted) if least and wanted < there else None
    return Trim(dtype, least, last)


def _all_ranks(
    pair: Sequence[Operand], dtype: str, workspace: Workspace, *, canonical: bool = False
) -> Iterator[tuple[int, Elements]]:
    size = min(STEP, pair[0].tensor.count)
    room = np.empty((2, size))
    for start, parts in side_by_side(pair, workspace, size, canonical=canonical):
        base, delta = room[:, : parts[0].size]
        _differences(parts, pair, base, [delta])
        yield start, _ranks(delta, dtype)


def _last_of(pair: Sequence[Operand], dtype: str, workspace: Workspace, least: int, wanted: int) -> int:
    """Where, in PyTorch's order, the last of so many elements of one magnitude stands."""
    for start, ranks in _all_ranks(pair, dtype, workspace, canonical=True):
        found = np.flatnonzero(ranks == least)
        if found.size >= wanted:
            return start + int(found[wanted - 1])
        wanted -= found.size
    raise ValueError("the counted magnitudes are not there")
