"""Arithmetic over several tensors that are read side by side: in float64, one rounding at the end, in flat memory.

Sums are taken in the order of the operands, element by element, so that neither threads nor the size of a piece nor the
format of a file shows in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bertconv.containers.stored import StoredTensor
from bertconv.errors import RequestError
from bertconv.formats.streaming import PANEL, Elements, Workspace, as_floats, cast, lockstep, not_finite, pieces
from bertconv.mapping.layout import Transpose
from bertconv.text import listed

STEP = 1 << 16
"""Most elements that are computed at a time: in float64 half a processor's cache."""
ROOM = 24 << 20
"""Bytes that one thread reads at most of all tensors together, before it computes."""
NUMBERS = 6 << 20
"""Bytes of numbers in float64 that one thread holds at a time."""
_LOOK = 16
"""Elements that are compared before all of a slice are."""

Compute = Callable[[Workspace], Iterator[Elements]]
"""Gives the elements of an output, piece by piece, as `formats.content.Origin.compute`."""


class Operand(NamedTuple):
    """A tensor that goes into an output.

    Attributes:
        tensor: where it is stored.
        turn: brings its elements into the order of the output.
        canonical: brings them into PyTorch's order.
    """

    tensor: StoredTensor
    turn: Transpose | None
    canonical: Transpose | None


def common_type(dtypes: Sequence[str]) -> str:
    """The narrowest floating-point type that holds the numbers of all."""
    found = dict.fromkeys(dtypes)
    if len(found) == 1:
        return dtypes[0]
    return "float64" if "float64" in found else "float32"


def step_of(buffers: int) -> int:
    """How many elements are computed at a time where so many numbers of each are in memory."""
    return max(min(STEP, NUMBERS // (8 * buffers)), 1 << 10)


def side_by_side(
    operands: Sequence[Operand], workspace: Workspace, most: int, *, canonical: bool = False
) -> Iterator[tuple[int, tuple[Elements, ...]]]:
    """The elements of several tensors of one size: the place of the first, and a slice of each, of equal length.

    Args:
        operands: the tensors.
        workspace: of the thread; a slice is overwritten by what is read next.
        most: most elements of a slice.
        canonical: in PyTorch's order instead of the output's.

    Raises:
        ParityError: they are not of one size.
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    spaces = workspace.several(len(operands), min(ROOM // len(operands), PANEL))
    streams = [
        pieces(one.tensor, one.canonical if canonical else one.turn, space)
        for one, space in zip(operands, spaces, strict=True)
    ]
    start = 0
    for parts in lockstep(*streams, most=most):
        yield start, parts
        start += parts[0].size


def widen(elements: Elements, dtype: str, out: Elements) -> None:
    """Put numbers into an array of float64, which holds those of every type."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        np.copyto(out, as_floats(elements, dtype))


def floats_of(parts: Sequence[Elements], operands: Sequence[Operand]) -> Iterator[Elements]:
    """Slices of operands as numbers of their own types."""
    return (as_floats(part, one.tensor.dtype) for part, one in zip(parts, operands, strict=True))


class Rounding:
    """Numbers in float64 to elements of a type, rounded once to nearest, ties to even.

    Args:
        dtype: the type.
        operands: what they were computed from; one of them is named where a number does not fit.
    """

    def __init__(self, dtype: str, operands: Sequence[Operand]) -> None:
        self.dtype = dtype
        self._tensor = operands[0].tensor

    def __call__(self, numbers: Elements, given: Iterable[Elements]) -> Elements:
        """The elements, valid until the numbers change.

        Args:
            numbers: in float64.
            given: the numbers that these were computed from, in any types.

        Raises:
            RequestError: one of them is not finite any more, and all that it was computed from are.
        """
        out = cast(numbers.view(np.uint64), "float64", self.dtype)
        if not_finite(out, self.dtype):
            with np.errstate(invalid="ignore"):  # a signalling NaN
                new = ~np.isfinite(as_floats(out, self.dtype))
                for one in given:
                    new &= np.isfinite(one)
            if new.any():
                raise self._refused()
        return out

    def _refused(self) -> RequestError:
        types = [one for one in ("float32", "bfloat16", "float64") if one != self.dtype]
        hint = (
            f"Use --dtype {listed(types)}." if self.dtype != "float64" else "Look at the largest numbers of the inputs."
        )
        return RequestError(
            f"becomes a number that {self.dtype} cannot hold.", hint=hint,
            file=self._tensor.file.name, tensor=self._tensor.name,
        )  # fmt: skip


def weighted_sum(
    operands: Sequence[Operand], weights: Sequence[float], dtype: str, *, is_mean: bool, divisor: float = 1
) -> Compute:
    """The sum of tensors, each times its weight, divided in the end; those with the weight 0 do not count.

    The division comes last since whole numbers as weights leave the sum of float32 exact as a rule: a mean that lies
    halfway between two numbers is seen to do so.

    Args:
        operands: the tensors.
        weights: one for each.
        dtype: of the result.
        is_mean: the weights sum to the divisor, but for their rounding: an element whose bits are equal in all tensors
            keeps them.
        divisor: what the sum is divided by.
    """
    pairs = [(one, weight) for one, weight in zip(operands, weights, strict=True) if weight != 0]
    used = [one for one, _ in pairs]
    alike = is_mean and all(one.tensor.dtype == dtype for one in used)

    def compute(workspace: Workspace) -> Iterator[Elements]:
        size = min(STEP, used[0].tensor.count)
        total, term = np.empty(size), np.empty(size)
        rounded = Rounding(dtype, used)
        for _, parts in side_by_side(used, workspace, size):
            if alike and _all_equal(parts):
                yield parts[0]
                continue
            numbers = total[: parts[0].size]
            with np.errstate(over="ignore", invalid="ignore"):
                _sum(parts, pairs, numbers, term)
                if divisor != 1:
                    np.divide(numbers, divisor, out=numbers)
            elements = rounded(numbers, floats_of(parts, used))
            if alike and (dtype == "float64" or not_finite(elements, dtype)):  # else the rounding gives it back
                keep(elements, parts[0], equal_in_all(parts))
            yield elements

    return compute


def _sum(parts: Sequence[Elements], pairs: Sequence[tuple[Operand, float]], numbers: Elements, term: Elements) -> None:
    """Parts times their weights into `numbers`; `term` is room for one of them."""
    into = numbers
    for part, (operand, weight) in zip(parts, pairs, strict=True):
        widen(part, operand.tensor.dtype, into)
        if weight != 1:
            np.multiply(into, weight, out=into)
        if into is not numbers:
            np.add(numbers, into, out=numbers)
        into = term[: numbers.size]


def _all_equal(parts: Sequence[Elements]) -> bool:
    first, *others = parts
    if any(not np.array_equal(first[:_LOOK], other[:_LOOK]) for other in others):
        return False
    return all(np.array_equal(first, other) for other in others)


def equal_in_all(parts: Sequence[Elements]) -> Elements:
    """Where elements of one type have the same bits in all parts."""
    first, *others = parts
    same = np.ones(first.size, np.bool_)
    for other in others:
        same &= first == other
    return same


def keep(elements: Elements, original: Elements, where: Elements) -> None:
    """Put the bits of an original back where they are to stay."""
    np.copyto(elements, original, where=where)
