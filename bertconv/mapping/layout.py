"""How the elements of one tensor lie in memory, as lists of axis names; two layouts give the transform both ways."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import NamedTuple

from bertconv.errors import BadTable
from bertconv.records import dataclass

Axis = tuple[str, int]
"""A factor that never splits further: its name, unique within the tensor, and its size."""


@dataclass(frozen=True)
class Layout:
    """The dimensions of a stored tensor, outermost first; each is the axes that were flattened into it."""

    dims: tuple[tuple[Axis, ...], ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(math.prod(size for _, size in dim) for dim in self.dims)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis in memory order."""
        return tuple(axis for dim in self.dims for axis in dim)


class Transpose(NamedTuple):
    """A change of the order of elements, as of `numpy.transpose`: axes of these sizes change places.

    Attributes:
        shape: sizes of the axes as they are stored.
        order: for every axis of the result the stored axis that it is.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of_matrix(cls, rows: int, columns: int) -> Transpose:
        """Rows and columns, as they are stored, change places."""
        return cls((rows, columns), (1, 0))

    @property
    def result(self) -> tuple[int, ...]:
        """Sizes of the axes of the result."""
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def inverse(self) -> Transpose:
        """What brings the elements back."""
        return Transpose(self.result, tuple(self.order.index(axis) for axis in range(len(self.order))))

    def then(self, other: Transpose) -> Transpose | None:
        """This change followed by another, with the fewest axes; both may cut the elements between them differently."""
        ends = sorted({*_ends(self.result), *_ends(other.shape)}, reverse=True)
        sizes = [end // inner for end, inner in zip(ends, [*ends[1:], 1], strict=True)]
        here, there = ([ends.index(end) for end in _ends(shape)] for shape in (self.result, other.shape))
        runs = [range(start, end) for start, end in zip(here, [*here[1:], len(ends)], strict=True)]
        after = [range(start, end) for start, end in zip(there, [*there[1:], len(ends)], strict=True)]
        stored = [axis for run in self.inverse.order for axis in runs[run]]
        order = tuple(stored.index(axis) for run in other.order for axis in after[run])
        return Transpose(tuple(sizes[axis] for axis in stored), order).reduced

    @property
    def reduced(self) -> Transpose | None:
        """The same change with the fewest axes: neighbours that stay neighbours are one; None where nothing moves."""
        kept = [axis for axis in self.order if self.shape[axis] != 1]
        rank = {axis: number for number, axis in enumerate(sorted(kept))}
        runs: list[list[int]] = []
        for axis in kept:
            if runs and rank[runs[-1][-1]] + 1 == rank[axis]:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        if len(runs) < 2 or 0 in self.shape:
            return None
        stored = sorted(runs)
        sizes = tuple(math.prod(self.shape[axis] for axis in run) for run in stored)
        return Transpose(sizes, tuple(stored.index(run) for run in runs))


@lru_cache(4096)  # many times as many as a model has; the layers of one share theirs
def transpose_between(source: Layout, target: Layout) -> Transpose | None:
    """What turns `source` into `target`, with the fewest axes; None where the elements keep their order.

    With the arguments swapped it is the inverse.

    Raises:
        BadTable: the layouts are not of the same axes.
    """
    if sorted(source.axes) != sorted(target.axes):
        raise BadTable(f"layouts {source.axes} and {target.axes} are not of the same axes.", hint="Fix the table.")
    order = tuple(source.axes.index(axis) for axis in target.axes)
    return Transpose(tuple(size for _, size in source.axes), order).reduced


def both(one: Transpose | None, other: Transpose | None) -> Transpose | None:
    """One change followed by another, either of which may be none."""
    return one.then(other) if one and other else one or other


def is_transposed(layout: Layout, canonical: Layout) -> bool:
    """Whether dimensions stand in another order, be it that they are of one element and nothing moves."""
    return layout.axes != canonical.axes


def _ends(shape: tuple[int, ...]) -> list[int]:
    """For every axis how many elements it and those within it are: what names a place between two axes."""
    return [math.prod(shape[number:]) for number in range(len(shape))]
