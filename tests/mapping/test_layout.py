"""From one layout to the other: checked on distinct numbers, the inverse back, and the fewest axes."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bertconv.errors import BadTable
from bertconv.mapping.layout import Axis, Layout, Transpose, both, is_transposed, transpose_between

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
    """Two layouts of the same axes in any order, each flattened in its own way."""
    axes = draw(AXES)
    other = draw(st.permutations(axes))
    cuts = st.lists(st.booleans(), min_size=len(axes), max_size=len(axes))
    return grouped(axes, draw(cuts)), grouped(other, draw(cuts)), axes, other


def numbers(axes: Axes) -> np.ndarray:
    return np.arange(math.prod(size for _, size in axes)).reshape([size for _, size in axes])


def moved(flat: np.ndarray, transpose: Transpose | None) -> np.ndarray:
    return flat if transpose is None else flat.reshape(transpose.shape).transpose(transpose.order).reshape(-1)


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
def test_the_way_back_is_the_inverse(case: tuple[Layout, Layout, Axes, Axes]) -> None:
    source, target, axes, _ = case
    there, back = transpose_between(source, target), transpose_between(target, source)
    assert there == (back.inverse if back else None)
    flat = numbers(axes).reshape(-1)
    assert (moved(moved(flat, there), back) == flat).all()


@settings(deadline=None)
@given(turned())
def test_its_axes_are_the_elements_and_the_fewest(case: tuple[Layout, Layout, Axes, Axes]) -> None:
    source, target, axes, other = case
    count = math.prod(size for _, size in axes)
    assert math.prod(source.shape) == math.prod(target.shape) == count
    transpose = transpose_between(source, target)
    if transpose is None:
        assert [axis for axis in axes if axis[1] > 1] == [axis for axis in other if axis[1] > 1]
        return
    assert math.prod(transpose.shape) == count
    assert min(transpose.shape) > 1
    assert all(one + 1 != two for one, two in pairwise(transpose.order))
    assert transpose.reduced == transpose


@settings(deadline=None)
@given(turned(), st.data())
def test_one_after_the_other(case: tuple[Layout, Layout, Axes, Axes], data: st.DataObject) -> None:
    """Two changes are one, though each cuts the elements between them as it needs."""
    source, middle, axes, _ = case
    last = data.draw(st.permutations(axes))
    target = Layout(tuple((axis,) for axis in last))
    there, on = transpose_between(source, middle), transpose_between(middle, target)
    assert both(there, on) == transpose_between(source, target)
    assert both(there, there and there.inverse) is None


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_three_axes_turn_in_every_way(order: tuple[str, ...]) -> None:
    sizes = {"a": 2, "b": 3, "c": 5}
    one, two = (Layout(tuple(((axis, sizes[axis]),) for axis in found)) for found in ("abc", order))
    wanted = {
        "abc": None,
        "bca": Transpose.of_matrix(2, 15),
        "cab": Transpose.of_matrix(6, 5),
        "cba": Transpose((2, 3, 5), (2, 1, 0)),
        "acb": Transpose((2, 3, 5), (0, 2, 1)),
        "bac": Transpose((2, 3, 5), (1, 0, 2)),
    }
    assert transpose_between(one, two) == wanted["".join(order)]


def test_axes_of_one_element_change_nothing_but_are_another_order() -> None:
    one, two = Layout(((("a", 1),), (("b", 7),))), Layout(((("b", 7),), (("a", 1),)))
    assert transpose_between(one, two) is None
    assert is_transposed(one, two)
    assert not is_transposed(one, Layout((one.axes,)))


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
    assert transpose_between(flat, Layout(((hidden,), (heads,), (head,)))) == Transpose.of_matrix(32, 32)


def test_a_single_axis_and_none_at_all_stay() -> None:
    assert transpose_between(Layout(((("dim", 3),),)), Layout(((("dim", 3),),))) is None
    assert transpose_between(Layout(()), Layout(())) is None
    assert Layout(()).shape == ()
