"""What is summed of two streams of elements, block by block in float64, and which of them is the other one rounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bertconv.containers.stored import FLOATS, ITEM_SIZE
from bertconv.formats.streaming import Elements, as_floats, cast
from bertconv.manage.difference.records import Change

BLOCK = 1 << 16
"""Elements that are summed at a time: three blocks of float64 lie in a processor's cache."""

START = 1 << 10
"""Elements by which most roundings are ruled out before a whole piece is rounded."""

NUMBERS = (*FLOATS, "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
"""Types of which differences are computed."""

SHORT = ("bfloat16", "float16", "float32")
"""Types that numbers are rounded to."""

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def comparable(a: str, b: str) -> bool:
    """Whether numbers of two types can be held to each other."""
    return a in NUMBERS and (a == b or {a, b} <= set(FLOATS))


def common_type(*types: str) -> str:
    """A type that holds the numbers of all these exactly: the type itself, where it is one."""
    if len(set(types)) == 1:
        return types[0]
    return "float64" if "float64" in types else "float32"


class Floats:
    """Room for blocks of numbers in float64, one for each stream and for what is computed of them."""

    def __init__(self, count: int) -> None:
        self._room = np.empty((count, BLOCK))

    def take(self, number: int, elements: Elements, dtype: str) -> Numbers:
        """Elements of a type as float64."""
        numbers = self._room[number, : elements.size]
        np.copyto(numbers, as_floats(elements, dtype))
        return numbers

    def minus(self, number: int, one: Numbers, other: Numbers) -> Numbers:
        """The difference of two blocks."""
        numbers = self._room[number, : one.size]
        np.subtract(one, other, out=numbers)
        return numbers


def squares(*blocks: Numbers) -> list[float]:
    """Sums of squares."""
    return [float(np.dot(block, block)) for block in blocks]


def strange_numbers() -> np.errstate:
    """No warnings of NaN, also of the signalling kind, and of infinities: they are counted."""
    return np.errstate(invalid="ignore", over="ignore")


class Sums:
    """Sums over the elements of two tensors.

    Args:
        a: A's element type.
        b: B's.
    """

    def __init__(self, a: str, b: str) -> None:
        self._types, self._common = (a, b), common_type(a, b)
        self._floats = Floats(3)
        self._elements = self._differing = 0
        self._strange = [0, 0]
        self._squares = [0.0, 0.0, 0.0]
        self._largest = 0.0

    def add(self, one: Elements, other: Elements) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Add A's elements and B's; which of them differ."""
        mask = np.empty(one.size, bool)
        with strange_numbers():
            for start in range(0, one.size, BLOCK):
                part = slice(start, start + BLOCK)
                self._add(one[part], other[part], mask[part])
        return mask

    def _add(self, one: Elements, other: Elements, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        one, other = (
            cast(part, dtype, self._common) if dtype != self._common else part
            for part, dtype in zip((one, other), self._types, strict=True)
        )
        np.not_equal(one, other, out=mask)
        self._elements += one.size
        self._differing += int(np.count_nonzero(mask))
        a, b = self._floats.take(0, one, self._common), self._floats.take(1, other, self._common)
        change = self._floats.minus(2, b, a)
        found = squares(a, b, change)
        if not all(map(math.isfinite, found)):
            finite = [np.isfinite(block) for block in (a, b)]
            for side, which in enumerate(finite):
                self._strange[side] += which.size - int(np.count_nonzero(which))
            both = finite[0] & finite[1]
            a, b, change = a[both], b[both], change[both]
            found = squares(a, b, change)
        self._squares = [total + more for total, more in zip(self._squares, found, strict=True)]
        self._largest = max(self._largest, float(np.abs(change, out=change).max(initial=0.0)))

    def change(self) -> Change:
        """What was found."""
        norm_a, norm_b, norm = map(math.sqrt, self._squares)
        return Change(self._elements, self._differing, self._largest, norm_a, norm_b, norm, *self._strange)


class Roundings:
    """Which of two tensors may be the other one rounded: the possibilities that no element has ruled out so far.

    Args:
        a: A's element type.
        b: B's.
    """

    def __init__(self, a: str, b: str) -> None:
        self._types = {"A": a, "B": b}
        self._left: list[tuple[str, str]] = []
        if a != b and {a, b} <= set(FLOATS):
            self._left = sorted((("B", b), ("A", a)), key=lambda one: ITEM_SIZE[one[1]])
        elif a in FLOATS:
            self._left = [(side, short) for short in SHORT if ITEM_SIZE[short] < ITEM_SIZE[a] for side in "BA"]

    def add(self, one: Elements, other: Elements) -> None:
        """Look at more elements of A and of B."""
        for length in (START, one.size):
            self._left = [left for left in self._left if self._holds(*left, one[:length], other[:length])]

    def _holds(self, side: str, short: str, one: Elements, other: Elements) -> bool:
        given, found = (one, other) if side == "B" else (other, one)
        before, after = (self._types[letter] for letter in ("AB" if side == "B" else "BA"))
        return bool(np.array_equal(cast(cast(given, before, short), short, after), found))

    def found(self) -> tuple[str, str]:
        """The side that is the other one rounded, and the type that it was rounded to; empty where neither is."""
        return self._left[0] if self._left else ("", "")
