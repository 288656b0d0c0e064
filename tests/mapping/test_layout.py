"""From one layout to the other: checked on distinct numbers, its own inverse, and nothing but one transpose."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bertconv.errors import BadTable
from bertconv.mapping.layout import Axis, Layout, transpose_between

AXES = st.lists(st.integers(1, 5), max_size=6).map(lambda sizes: [(f"axis{n}", size) for n, size in enumerate(sizes)])
Axes = list[Axis]


def grouped(axes: Axes, cuts: list[bool]) -> Layout:
    """The axes in order, flattened into dimensions that end where `cuts` says."""
    dims: list[list[Axis]] = [[]]
    for axis, cut in zip(axes, cuts, strict=False):
        dims[-1].append(axis)
        if cut:
            dims.append([])
    return Layout(tuple(tuple(dim) for dim in dims if dim))


@st.composite
def turned(draw: st.DrawFn) -> tuple[Layout, Layout, Axes, Axes]:
    """Two layouts of the same axes that one matrix transpose apart, each flattened in its own way."""
    axes = draw(AXES)
    split = draw(st.integers(0, len(axes)))
    other = axes[split:] + axes[:split]
    cuts = st.lists(st.booleans(), min_size=len(axes), max_size=len(axes))
    return grouped(axes, draw(cuts)), grouped(other, draw(cuts)), axes, other


def numbers(axes: Axes) -> np.ndarray:
    return np.arange(math.prod(size for _, size in axes)).reshape([size for _, size in axes])


def moved(flat: np.ndarray, transpose: tuple[int, int] | None) -> np.ndarray:
    return flat if transpose is None else flat.reshape(transpose).T.reshape(-1)


def reference(axes: Axes, other: Axes) -> np.ndarray:
    """What numpy makes of distinct numbers when the named axes change places."""
    return numbers(axes).transpose([axes.index(axis) for axis in other]).reshape(-1)


@settings(deadline=None)
@given(turned())
def test_elements_go_where_their_axes_go(case: tuple[Layout, Layout, Axes, Axes]) -> None:
    source, target, axes, other = case
    flat = numbers(axes).reshape(-1)
    assert (moved(flat, transpose_between(source, target)) == reference(axes, other)).all()


@settings(deadline=None)
@given(turned())
def test_it_is_its_own_inverse(case: tuple[Layout, Layout, Axes, Axes]) -> None:
    source, target, axes, _ = case
    there, back = transpose_between(source, target), transpose_between(target, source)
    assert there == (back[::-1] if back else None)
    flat = numbers(axes).reshape(-1)
    assert (moved(moved(flat, there), back) == flat).all()


@settings(deadline=None)
@given(turned())
def test_rows_times_columns_are_the_elements_and_the_shape(case: tuple[Layout, Layout, Axes, Axes]) -> None:
    source, target, axes, _ = case
    count = math.prod(size for _, size in axes)
    assert math.prod(source.shape) == math.prod(target.shape) == count
    transpose = transpose_between(source, target)
    assert transpose is None or math.prod(transpose) == count


@settings(deadline=None)
@given(AXES, st.data())
def test_any_order_of_the_axes_is_moved_rightly_or_refused(axes: Axes, data: st.DataObject) -> None:
    other = data.draw(st.permutations(axes))
    one, two = (Layout(tuple((axis,) for axis in found)) for found in (axes, other))
    try:
        transpose = transpose_between(one, two)
    except BadTable as refusal:
        assert "more than one transpose" in refusal.message  # noqa: PT017  (it may also pass)
        assert all(axes[split:] + axes[:split] != other for split in range(len(axes)))
        return
    assert (moved(numbers(axes).reshape(-1), transpose) == reference(axes, other)).all()


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_three_axes_turn_in_a_circle_and_no_other_way(order: tuple[str, ...]) -> None:
    sizes = {"a": 2, "b": 3, "c": 5}
    one, two = (Layout(tuple(((axis, sizes[axis]),) for axis in found)) for found in ("abc", order))
    circle = {"abc": None, "bca": (2, 15), "cab": (6, 5)}
    if "".join(order) in circle:
        assert transpose_between(one, two) == circle["".join(order)]
    else:
        with pytest.raises(BadTable, match="more than one transpose"):
            transpose_between(one, two)


@settings(deadline=None)
@given(AXES, AXES)
def test_other_axes_are_refused(axes: Axes, other: Axes) -> None:
    assume(axes != other)
    one, two = (Layout((tuple(found),)) for found in (axes, other))
    with pytest.raises(BadTable, match="not of the same axes"):
        transpose_between(one, two)


def test_flattening_alone_moves_nothing() -> None:
    heads, head, hidden = ("heads", 4), ("head", 8), ("hidden", 32)
    flat, apart = Layout(((heads, head), (hidden,))), Layout(((heads,), (head,), (hidden,)))
    assert (flat.shape, apart.shape) == ((32, 32), (4, 8, 32))
    assert transpose_between(flat, apart) is None
    assert transpose_between(flat, Layout(((hidden,), (heads,), (head,)))) == (32, 32)


def test_a_single_axis_and_none_at_all_stay() -> None:
    assert transpose_between(Layout(((("dim", 3),),)), Layout(((("dim", 3),),))) is None
    assert transpose_between(Layout(()), Layout(())) is None
    assert Layout(()).shape == ()
