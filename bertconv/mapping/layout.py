"""How the elements of one tensor lie in memory, as lists of axis names; two layouts give the transform both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertconv.errors import BadTable

Axis = tuple[str, int]
"""A factor that never splits further: its name, unique within the tensor, and its size."""


@dataclass(frozen=True)
class Layout:
    """The dimensions of a stored tensor, outermost first; each is the axes that were flattened into it."""

    dims: tuple[tuple[Axis, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(math.prod(size for _, size in dim) for dim in self.dims)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis in memory order."""
        return tuple(axis for dim in self.dims for axis in dim)


def transpose_between(source: Layout, target: Layout) -> tuple[int, int] | None:
    """The one matrix transpose that turns `source` into `target`.

    Returns:
        Rows and columns of the matrix as it lies in `source`, or None where the elements keep their order. Its own
        inverse: with the arguments swapped, rows and columns are swapped.

    Raises:
        BadTable: the layouts are not of the same axes, or differ by more than one transpose.
    """
    if sorted(source.axes) != sorted(target.axes):
        raise BadTable(f"layouts {source.axes} and {target.axes} are not of the same axes.", hint="Fix the table.")
    if source.axes == target.axes:
        return None
    split = source.axes.index(target.axes[0])
    if source.axes[split:] + source.axes[:split] != target.axes:
        raise BadTable(
            f"layouts {source.axes} and {target.axes} differ by more than one transpose.", hint="Fix the table."
        )
    return math.prod(size for _, size in source.axes[:split]), math.prod(size for _, size in source.axes[split:])
