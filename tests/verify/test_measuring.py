"""How far B is from the truth, and how far it may be: with runners that are made of plain numbers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from bertconv.errors import ParityError
from bertconv.verify import outputs
from bertconv.verify.cases import Batch
from bertconv.verify.outputs import FACTOR, FLOOR, SAME_FUNCTION, Limits, measure
from bertconv.verify.parity import Case, Measurement
from bertconv.verify.places import ATTENTIONS, HIDDEN, MODULE, OUTPUT, Array, Passes, Place, Tell, placed

# measure, with runners that only tell


QUERY, HALF, FULL = (Passes().places(name)[1] for name in ("layer.0.query", "embeddings.norm", "pooler.dense"))
EMBEDDINGS, LAYER, SCORES, LOGITS = (
    place for place, _ in placed({"hidden_states": (0, 0), "attentions": (0,), "logits": 0})
)
EVERY = (HALF, EMBEDDINGS, QUERY, SCORES, LAYER, LOGITS)

Change = Callable[[str, int, Place, Array], Any]
"""From element type, number of the batch, place and the truth to what a runner shows; None shows nothing."""


RELEASE = outputs.release_memory


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


def truth_at(batch: int, place: Place) -> Array:
    return np.random.default_rng([batch, EVERY.index(place)]).standard_normal((2, 50 + batch))


def exact(_dtype: str, _batch: int, _place: Place, truth: Array) -> Array:
    return truth


def off_by(errors: Mapping[str, float], places: Sequence[Place] = EVERY) -> Change:
    """Everything too large by this part, so that the relative error is just that."""

    def change(dtype: str, _batch: int, place: Place, truth: Array) -> Array:
        return truth * (1 + errors.get(dtype, 0.0)) if place in places else truth

    return change


@dataclass
class Fake:
    change: Change = exact
    places: Sequence[Place] = EVERY
    framework: str = "none"
    ran: list[str] = field(default_factory=list)

    def run(self, dtype: str, batches: Sequence[Batch], tell: Tell) -> None:
        self.ran.append(dtype)
        for number, _ in enumerate(batches):
            for place in self.places:
                values = self.change(dtype, number, place, truth_at(number, place))
                if values is not None:
                    tell(number, place, values)


OWN = Limits()
BATCHES = [Batch(Case(name, "", (2, 3), 0), {}) for name in ("short", "long", "padded")]


def measured(
    a: Fake, b: Fake, dtypes: Sequence[str] = ("float64",), limits: Limits = OWN, **keywords: Any
) -> tuple[Measurement, ...]:
    return measure(a, b, BATCHES, dtypes, limits, lambda: None, **keywords)


def at(rows: Sequence[Measurement], place: Place, dtype: str = "float64") -> Measurement:
    (row,) = (row for row in rows if (row.place, row.dtype) == (place.name, dtype))
    return row


def test_places_stand_in_the_order_of_execution() -> None:
    backwards = Fake(places=EVERY[::-1])
    for a in (Fake(), backwards):
        rows = measured(a, Fake(places=(LAYER, HALF, LOGITS, QUERY, EMBEDDINGS, SCORES)))
        assert [row.place for row in rows] == [
            "embeddings.norm", "embeddings", "layer.0.query", "layer.0.attentions", "layer.0", "logits",
        ]  # fmt: skip
        assert [row.kind for row in rows] == [MODULE, HIDDEN, MODULE, ATTENTIONS, HIDDEN, OUTPUT]


def test_layers_stand_in_the_order_of_numbers() -> None:
    places = [Place(f"layer.{number}.query", MODULE, number, "query") for number in (10, 2, 1, 11)]
    truth = outputs.Truth()
    for place in (*places, LOGITS, EMBEDDINGS):
        truth.tell(0, place, np.ones(3))
    names = [place.name for place in truth.ordered()]
    assert names == ["embeddings", *(f"layer.{number}.query" for number in (1, 2, 10, 11)), "logits"]


def test_the_norm_behind_the_layers_comes_before_the_state_that_it_gives() -> None:
    states = [Place(f"layer.{number}", HIDDEN, number, "output") for number in (0, 1)]
    places = [Place(name, MODULE, None, name) for name in ("final.norm", "mlm.dense")]
    truth = outputs.Truth()
    for place in (*places, EMBEDDINGS, *states, LOGITS):
        truth.tell(0, place, np.ones(3))
    names = [place.name for place in truth.ordered()]
    assert names == ["embeddings", "layer.0", "final.norm", "layer.1", "mlm.dense", "logits"]


def test_facts_of_a_place() -> None:
    row = at(measured(Fake(), Fake()), SCORES)
    assert (row.layer, row.module, row.case) == (0, "attentions", "short")
    assert (row.a, row.b, row.max_difference, row.limit, row.ok) == (0, 0, 0, SAME_FUNCTION, True)


def test_modules_have_no_limit() -> None:
    rows = measured(Fake(), Fake(off_by({"float64": 0.5}, [QUERY, HALF])))
    assert {row.place for row in rows if row.limit is None} == {QUERY.name, HALF.name}
    assert all(row.ok for row in rows)
    assert at(rows, QUERY).b == pytest.approx(0.5)


@pytest.mark.parametrize("place", [EMBEDDINGS, SCORES, LAYER, LOGITS], ids=lambda one: one.name)
@pytest.mark.parametrize(("error", "ok"), [(0.9e-10, True), (1.1e-10, False)])
def test_float64_says_whether_it_is_the_same_function(place: Place, error: float, ok: bool) -> None:
    rows = measured(Fake(), Fake(off_by({"float64": error}, [place])))
    assert at(rows, place).b == pytest.approx(error, rel=1e-4)
    assert [row.place for row in rows if not row.ok] == ([] if ok else [place.name])


@pytest.mark.parametrize("dtype", FLOOR)
@pytest.mark.parametrize("own", [0.0, 1e-9, 0.02, 0.3])
@pytest.mark.parametrize(("times", "ok"), [(0.98, True), (1.02, False)])
def test_shorter_types_may_be_as_far_as_a_is(dtype: str, own: float, times: float, ok: bool) -> None:
    limit = FACTOR * max(own, FLOOR[dtype])
    rows = measured(Fake(off_by({dtype: own})), Fake(off_by({dtype: times * limit})), ("float64", dtype))
    row = at(rows, LOGITS, dtype)
    assert row.limit == pytest.approx(limit)
    assert (row.a, row.b) == (pytest.approx(own), pytest.approx(times * limit))
    assert row.ok is ok
    assert at(rows, LOGITS).ok


def test_the_factor_is_the_callers() -> None:
    rows = measured(
        Fake(off_by({"float32": 0.01})), Fake(), ("float64", "float32"), Limits(factor=3, same_function=0.1)
    )
    assert at(rows, LAYER, "float32").limit == pytest.approx(0.03)
    assert at(rows, LAYER).limit == 0.1


def test_a_model_that_makes_much_of_rounding_does_so_in_float64() -> None:
    """Huge attention scores: A in float32 is off by 0.43, so float64 cannot be distinguished below 2^-29 of that."""
    wild = off_by({"float32": 0.43}, [SCORES])
    rows = measured(Fake(wild), Fake(wild), ("float64", "float32"))
    assert at(rows, SCORES).limit == pytest.approx(FACTOR * 0.43 * 2.0**-29)
    assert at(rows, LOGITS).limit == SAME_FUNCTION


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("limits", [OWN, Limits(max_error=1e30)], ids=["own", "forced"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_number_that_is_not_finite_fails(bad: float, limits: Limits, dtype: str) -> None:
    def change(now: str, batch: int, place: Place, truth: Array) -> Array:
        if (now, batch, place) == (dtype, 1, LOGITS):
            truth = truth.copy()
            truth.reshape(-1)[3] = bad
        return truth

    rows = measured(Fake(), Fake(change), ("float64", "float32"), limits)
    assert [(row.place, row.dtype, row.case) for row in rows if not row.ok] == [("logits", dtype, "long")]


def test_the_worst_batch_is_named() -> None:
    def change(_dtype: str, batch: int, place: Place, truth: Array) -> Array:
        return truth + {0: 1e-13, 1: 1e-12, 2: 1e-14}[batch] if place is LAYER else truth

    assert at(measured(Fake(), Fake(change)), LAYER).case == "long"


def test_max_error_is_absolute_and_for_everything() -> None:
    change = off_by({"float64": 0.1, "float32": 0.1})
    rows = measured(Fake(), Fake(change), ("float64", "float32"), Limits(max_error=0.2))
    for row in rows:
        place = next(one for one in EVERY if one.name == row.place)
        largest = 0.1 * max(np.abs(truth_at(batch, place)).max() for batch in range(3))
        if place.kind == MODULE:
            assert row.limit is None
        else:
            assert row.b == pytest.approx(largest)
            assert row.limit == 0.2
            assert row.ok == (largest <= 0.2)


def test_max_hidden_error_is_for_hidden_states_and_attentions() -> None:
    both = measured(Fake(), Fake(), ("float64",), Limits(max_error=0.2, max_hidden_error=0.3))
    assert {row.place: row.limit for row in both if row.limit} == {
        "embeddings": 0.3, "layer.0.attentions": 0.3, "layer.0": 0.3, "logits": 0.2,
    }  # fmt: skip
    alone = measured(Fake(), Fake(), ("float64",), Limits(max_hidden_error=0.3))
    assert at(alone, LOGITS).limit == SAME_FUNCTION
    assert at(alone, LAYER).limit == 0.3


@pytest.mark.parametrize("place", [EMBEDDINGS, SCORES, LOGITS], ids=lambda one: one.name)
def test_an_output_that_b_lacks_is_an_error(place: Place) -> None:
    less = [one for one in EVERY if one is not place]
    with pytest.raises(ParityError, match=f"B gives no {place.name}, which A gives") as caught:
        measured(Fake(), Fake(places=less))
    assert "--head" in caught.value.hint
    rows = measured(Fake(), Fake(places=less), partial=True)
    assert [row.place for row in rows] == [one.name for one in less]


def test_a_module_that_b_does_not_show_is_none() -> None:
    rows = measured(Fake(), Fake(places=[one for one in EVERY if one is not QUERY]))
    assert QUERY.name not in {row.place for row in rows}


def test_what_only_b_shows_is_left_aside() -> None:
    rows = measured(Fake(places=EVERY[1:]), Fake())
    assert [row.place for row in rows] == [place.name for place in EVERY[1:]]


def test_batches_may_show_less() -> None:
    """A full-length batch shows hidden states only."""

    def change(_dtype: str, batch: int, place: Place, truth: Array) -> Array | None:
        return truth if batch != 2 or place.kind == HIDDEN else None

    rows = measured(Fake(change), Fake(change), ("float64", "float32"))
    assert len(rows) == 2 * len(EVERY)
    assert all(row.ok for row in rows)


def test_runs_and_ticks() -> None:
    """The truth is computed once, every other run once; each is reported."""
    a, b, ticks = Fake(), Fake(), []
    measure(a, b, BATCHES, ("float64", "float32", "bfloat16"), Limits(), lambda: ticks.append(1))
    assert a.ran == b.ran == ["float64", "float32", "bfloat16"]
    assert len(ticks) == 6


# Memory


@pytest.fixture
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is collected but by `release_memory`, and of the thousands of tests before nothing at all: it is left."""
    monkeypatch.setattr(outputs, "release_memory", RELEASE)
    gc.disable()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()


class Model:
    """Something that only the collector frees: it refers to itself, as Keras's models do."""

    def __init__(self) -> None:
        self.me = self


@pytest.mark.usefixtures("_no_collector")
def test_every_model_is_freed_before_the_next_is_made() -> None:
    alive: list[weakref.ref[Model]] = []

    def change(_dtype: str, batch: int, place: Place, truth: Array) -> Array:
        if (batch, place) == (0, HALF):
            assert [one() for one in alive] == [None] * len(alive)
            alive.append(weakref.ref(Model()))
        return truth

    measured(Fake(change), Fake(change), ("float64", "float32"))
    assert len(alive) == 4
    assert [one() for one in alive] == [None] * 4


def test_weights_that_are_used_again() -> None:
    """Every pass through them is a place of its own, in the layer that it is of."""
    passes = Passes()
    ran = ["layer.0.0.query", "layer.0.1.query", "layer.0.0.query", "layer.0.1.query", "layer.1.0.query"]
    found = [passes.places(module)[1] for module in ran]
    assert [place.name for place in found] == [*ran[:2], "layer.0.0.query #2", "layer.0.1.query #2", ran[4]]
    assert [place.layer for place in found] == [0, 0, 1, 1, 2]
    outputs = {"hidden_states": (0,) * 4, "attentions": (0,) * 6}
    inner = [place for place, _ in placed(outputs) if place.kind == ATTENTIONS]
    assert [place.name for place in inner][:3] == [
        "layer.0.0.attentions",
        "layer.0.1.attentions",
        "layer.1.0.attentions",
    ]
    assert [place.layer for place in inner] == [0, 0, 1, 1, 2, 2]
