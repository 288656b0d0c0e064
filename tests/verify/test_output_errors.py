"""The distance of an array from the truth, in one number; and the gradients, held to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from bertconv.verify import outputs
from bertconv.verify.cases import Batch
from bertconv.verify.outputs import compare_gradients, error_of
from bertconv.verify.parity import Case
from bertconv.verify.places import Array

BOUNDED = settings(deadline=None)
NUMBERS = st.floats(-1e6, 1e6).filter(lambda one: one == 0 or abs(one) > 1e-6)
ARRAYS = nps.arrays(np.float64, st.integers(1, 40), elements=NUMBERS)
PAIRS = st.integers(1, 40).flatmap(lambda size: st.tuples(*[nps.arrays(np.float64, size, elements=NUMBERS)] * 2))


# error_of


@BOUNDED
@given(nps.arrays(st.sampled_from([np.float64, np.float32, np.float16]), nps.array_shapes()))
def test_an_array_is_no_way_from_itself(array: Array) -> None:
    """NaN and infinities included."""
    error = error_of(array.copy(), array)
    assert (error.rms, error.largest, error.absolute) == (0, 0, 0)


@BOUNDED
@given(PAIRS)
def test_errors_are_what_they_are_called(pair: tuple[Array, Array]) -> None:
    found, truth = pair
    error = error_of(found, truth)
    if not truth.any():
        assert error.rms == error.largest == (math.inf if found.any() else 0)
        return
    gaps = found - truth
    assert error.rms == pytest.approx(np.sqrt((gaps**2).mean()) / np.sqrt((truth**2).mean()), rel=1e-12)
    assert error.largest == pytest.approx(np.abs(gaps).max() / np.abs(truth).max(), rel=1e-12)
    assert error.absolute == np.abs(gaps).max()


@BOUNDED
@given(PAIRS, st.integers(-300, 300))
def test_errors_do_not_depend_on_the_unit(pair: tuple[Array, Array], power: int) -> None:
    found, truth = pair
    scale = 2.0**power
    one, other = error_of(found, truth), error_of(scale * found, scale * truth)
    assert (other.rms, other.largest, other.absolute) == (
        pytest.approx(one.rms, rel=1e-12), pytest.approx(one.largest, rel=1e-12), one.absolute * scale,
    )  # fmt: skip


@BOUNDED
@given(ARRAYS, st.data())
def test_the_order_of_elements_is_no_matter(truth: Array, data: st.DataObject) -> None:
    found = data.draw(nps.arrays(np.float64, truth.size, elements=NUMBERS))
    order = np.array(data.draw(st.permutations(range(truth.size))), np.int64)
    assert error_of(found[order], truth[order]).rms == pytest.approx(error_of(found, truth).rms, rel=1e-12)


@pytest.mark.parametrize(("found", "truth"), [
    (np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0, -np.inf), (np.inf, -np.inf), (np.nan, np.inf), (np.inf, np.nan),
])  # fmt: skip
def test_what_is_not_finite_on_one_side_is_infinitely_wrong(found: float, truth: float) -> None:
    error = error_of(np.array([1.0, found]), np.array([1.0, truth]))
    assert (error.rms, error.largest, error.absolute) == (math.inf,) * 3


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_on_both_sides_counts_as_equal(odd: float) -> None:
    error = error_of(np.array([3.0, odd, 4.0]), np.array([3.0, odd, 5.0]))
    assert error.absolute == 1
    assert error.rms == pytest.approx(1 / math.sqrt(34))
    assert error.largest == pytest.approx(1 / 5)


@pytest.mark.parametrize("where", [0, 1, 6, 7, 8, 20])
def test_long_arrays_are_compared_in_slices(where: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.random.default_rng(0).standard_normal((3, 7))
    found = truth.copy()
    found.reshape(-1)[where] += 2
    whole = error_of(found, truth)
    monkeypatch.setattr(outputs, "SLICE", 7)
    sliced = error_of(found, truth)
    assert whole.absolute == sliced.absolute == pytest.approx(2)
    assert sliced.rms == pytest.approx(whole.rms, rel=1e-12)
    assert sliced.largest == whole.largest


def test_more_elements_than_a_slice() -> None:
    truth = np.ones(outputs.SLICE + 3)
    found = truth.copy()
    found[-1] = 3
    assert error_of(found, truth).absolute == 2
    assert error_of(found[:-1], truth[:-1]).absolute == 0


def test_other_sizes_are_infinitely_wrong() -> None:
    error = error_of(np.ones((2, 3)), np.ones(5))
    assert (error.rms, error.largest, error.absolute) == (math.inf,) * 3


def test_nothing_equals_nothing() -> None:
    assert error_of(np.ones((0, 3)), np.ones((0, 3))).rms == 0


def test_a_truth_of_zeros_allows_no_difference() -> None:
    assert error_of(np.zeros(4), np.zeros(4)).rms == 0
    assert error_of(np.full(4, 1e-30), np.zeros(4)).rms == math.inf


# Gradients


BATCH = Batch(Case("short", "", (2, 3), 0), {})


@dataclass
class Slopes:
    found: Mapping[str, Array]

    def gradients(self, batch: Batch, weigh: Any) -> Mapping[str, Array]:
        del batch, weigh
        return self.found


def compared(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, Any]:
    rows = compare_gradients(Slopes(a), Slopes(b), BATCH)  # type: ignore[arg-type]
    return {row.id: row for row in rows}


def test_gradients_are_relative_to_their_largest_element() -> None:
    rows = compared({"one": np.array([4.0, 1.0])}, {"one": np.array([4.0, 1.0 + 8e-9])})
    assert rows["one"].error == pytest.approx(2e-9)
    assert not rows["one"].ok
    assert compared({"one": np.array([4.0, 1.0])}, {"one": np.array([4.0, 1.0 + 2e-9])})["one"].ok


def test_small_gradients_are_held_to_a_part_of_the_largest() -> None:
    """A key's bias has a gradient of nothing but rounding."""
    a = {"key.bias": np.array([1e-17, -3e-17]), "word.weight": np.array([[2.0, 50.0]])}
    b = {"key.bias": np.array([-2e-17, 1e-17]), "word.weight": np.array([[2.0, 50.0]])}
    assert all(row.ok for row in compared(a, b).values())
    b["key.bias"] = np.array([0.0, 1e-10])
    assert compared(a, b)["key.bias"].error == pytest.approx(1e-10 / (50 * outputs.SMALL), rel=1e-6)


@pytest.mark.parametrize("a_has", [True, False])
def test_a_gradient_on_one_side_only(a_has: bool) -> None:
    both, one = {"x": np.ones(3), "y": np.ones(2)}, {"x": np.ones(3)}
    rows = compared(*((both, one) if a_has else (one, both)))
    assert rows["x"].ok
    assert rows["y"].error == math.inf


def test_a_gradient_of_nan_fails() -> None:
    assert not compared({"x": np.ones(3)}, {"x": np.array([1, np.nan, 1])})["x"].ok


def test_no_gradients() -> None:
    assert compared({}, {}) == {}


def test_weights_of_an_output_are_always_the_same() -> None:
    one, same, other = (outputs.weights_of(name, (3, 4)) for name in ("logits", "logits", "pooler_output"))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
