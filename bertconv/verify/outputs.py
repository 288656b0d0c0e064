"""Both sides on the same inputs: every module, hidden state, attention and output, and how far each is from the truth.

The truth is side A in float64. B is the same function when it equals that to `SAME_FUNCTION`, or to what rounding makes
of A when that is more; in a shorter element type it may be as far from the truth as A itself is in that type, times
`FACTOR`. docs/verify.md has the calibration.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import math
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

import numpy as np

from bertconv.errors import ParityError
from bertconv.records import dataclass
from bertconv.verify.cases import Batch
from bertconv.verify.parity import GradientComparison, Measurement
from bertconv.verify.places import ATTENTIONS, HIDDEN, MODULE, OUTPUT, Array, Place, Tell

SAME_FUNCTION = 1e-10
"""Largest relative error in float64 of two programs that compute the same function."""

SAME_GRADIENT = 1e-9
"""The same for gradients, relative to the largest element of the tensor's gradient."""

SLICE = 1 << 18
"""Elements that are compared at a time."""

SMALL = 1e-4
"""Gradients smaller than this part of the largest of all are held to that part."""

FACTOR = 8.0
"""How many times A's own error B's may be in an element type shorter than float64."""

DOUBLE_TO_SINGLE = 2.0**-29
"""Unit roundoff of float64 / that of float32: a model that makes much of rounding does so in both."""

FLOOR = {"float32": 2.0**-21, "bfloat16": 2.0**-6, "float16": 2.0**-9}
"""Errors below this are never held against B: four units in the last place, which A may have hit by luck."""

DTYPES = ("float64", "float32", "bfloat16", "float16")
"""Element types that outputs are computed in."""


class Outputs(Protocol):
    """Something that can be run: one side in its framework, or a SavedModel."""

    framework: str

    def run(self, dtype: str, batches: Sequence[Batch], tell: Tell) -> None:
        """Run every batch in this element type, and tell of all that is to be seen."""


class Runner(Outputs, Protocol):
    """One side in its framework."""

    def gradients(self, batch: Batch, weigh: Any) -> dict[str, Array]:
        """Gradients of the weighted sum of the outputs, by neutral id."""


@dataclass(frozen=True)
class Limits:
    """What is demanded.

    Attributes:
        same_function: largest error in float64.
        factor: of A's own error, in shorter element types.
        max_error: largest absolute difference of an output that the caller allows, in place of the rules above.
        max_hidden_error: the same for hidden states and attentions; None takes `max_error`.
    """

    same_function: float = SAME_FUNCTION
    factor: float = FACTOR
    max_error: float | None = None
    max_hidden_error: float | None = None


@dataclass(frozen=True)
class Error:
    """The distance of an array from the truth.

    Attributes:
        square: sum of the squared differences.
        size: sum of the truth's squares.
        absolute: the largest difference.
        greatest: the truth's largest absolute value.
    """

    square: float
    size: float
    absolute: float
    greatest: float

    @property
    def rms(self) -> float:
        """Root mean square of the difference, relative to that of the truth."""
        return _ratio(math.sqrt(self.square), math.sqrt(self.size))

    @property
    def largest(self) -> float:
        """The largest difference, relative to the truth's largest value."""
        return _ratio(self.absolute, self.greatest)


def pooled(errors: Iterable[Error]) -> Error:
    """The error of several arrays together: one array of few numbers may be near the truth by luck."""
    every = list(errors)
    return Error(
        sum(one.square for one in every),
        sum(one.size for one in every),
        _highest(one.absolute for one in every),
        _highest(one.greatest for one in every),
    )


def _highest(values: Iterable[float]) -> float:
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)


def error_of(found: Array, truth: Array) -> Error:
    """How far an array is from the truth; NaN and infinities count as equal where both have the same."""
    found, truth = found.reshape(-1), truth.reshape(-1)
    if found.size != truth.size:
        return Error(math.inf, 1.0, math.inf, 1.0)
    square = size = absolute = greatest = 0.0
    for start in range(0, truth.size, SLICE):
        wanted = truth[start : start + SLICE].astype(np.float64, copy=False)
        gaps, wanted = _gaps(found[start : start + SLICE].astype(np.float64, copy=False), wanted)
        with np.errstate(over="ignore"):  # a damaged number may be huge
            square += float(np.dot(gaps, gaps))
            size += float(np.dot(wanted, wanted))
        absolute = max(absolute, float(np.abs(gaps).max(initial=0)))
        greatest = max(greatest, float(np.abs(wanted).max(initial=0)))
    return Error(square, size, absolute, greatest)


def _gaps(found: Array, truth: Array) -> tuple[Array, Array]:
    """The differences, and the truth with zeros where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = found - truth
    if np.isfinite(gaps).all():
        return gaps, truth
    gaps[(found == truth) | (np.isnan(found) & np.isnan(truth))] = 0
    gaps[np.isnan(gaps)] = math.inf
    return gaps, np.where(np.isfinite(truth), truth, 0)


def _ratio(part: float, whole: float) -> float:
    return 0.0 if part == 0 else part / whole if whole > 0 else math.inf


@dataclasses.dataclass
class Truth:
    """Checkpoint A in float64: per batch every place with its values, in the order of execution."""

    values: dict[tuple[int, str], Array] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def tell(self, batch: int, place: Place, values: Array) -> None:
        """Keep what was seen."""
        self.values[batch, place.name] = values.astype(np.float64, copy=False)
        self.places.setdefault(place.name, place)

    def ordered(self) -> list[Place]:
        """Modules as they ran, each layer's attentions and hidden state after its modules, outputs last."""
        seen = {name: number for number, name in enumerate(self.places)}
        block = blocks({place.name: place.layer for place in self.places.values()})
        return sorted(
            self.places.values(), key=lambda place: (*block(place.name), KINDS.index(place.kind), seen[place.name])
        )


_BELOW = ("embeddings", "project", "relative")
"""Groups that are run before the layers."""

_FINAL = (1, sys.maxsize)
"""The block between the layers and the heads: group `final`."""

KINDS = (MODULE, ATTENTIONS, HIDDEN, OUTPUT)
"""Kinds of places, as they follow each other in a block."""


def block_of(name: str, layer: int | None = None) -> tuple[int, int]:
    """Where a place stands in the model: what comes before the layers, layers by number, what is above them."""
    if layer is not None:
        return 1, layer
    first, _, rest = name.partition(".")
    if first in _BELOW:
        return 0, 0
    if first == "final":
        return _FINAL
    return (1, int(rest.partition(".")[0])) if first == "layer" else (2, 0)


def blocks(layers: Mapping[str, int | None]) -> Callable[[str], tuple[int, int]]:
    """Where these places (name -> layer) stand: as `block_of`, the last state behind the norm that gives it.

    Where there is a `final.norm`, the state that is reported for the last layer is what this norm makes of it.
    """
    numbers = [number for number in layers.values() if number is not None]
    last = f"layer.{max(numbers)}" if numbers and "final.norm" in layers else ""
    return lambda place: _FINAL if place == last else block_of(place, layers.get(place))


@dataclass(frozen=True)
class _Seen:
    """Errors of one side in one element type: place -> batch -> error."""

    errors: dict[str, dict[int, Error]]

    @classmethod
    def of(cls, runner: Outputs, dtype: str, batches: Sequence[Batch], truth: Truth) -> _Seen:
        errors: dict[str, dict[int, Error]] = {}

        def tell(batch: int, place: Place, values: Array) -> None:
            if (expected := truth.values.get((batch, place.name))) is not None:
                errors.setdefault(place.name, {})[batch] = error_of(values, expected)

        runner.run(dtype, batches, tell)
        return cls(errors)


def measure(
    a: Outputs,
    b: Outputs,
    batches: Sequence[Batch],
    dtypes: Sequence[str],
    limits: Limits,
    tick: Callable[[], None],
    *,
    partial: bool = False,
) -> tuple[Measurement, ...]:
    """Run both sides on every batch in every element type.

    Args:
        a: the original; in float64 it is the truth.
        b: what is held to it.
        batches: the inputs.
        dtypes: element types, of which float64 is always computed.
        limits: what is demanded.
        tick: called after each of the `2 * len(dtypes)` runs.
        partial: B may show less than A.

    Returns:
        Per element type every place in the order of execution, in its worst batch.

    Raises:
        ParityError: A has an output that B has not.
    """
    truth = Truth()
    a.run("float64", batches, truth.tell)

    def finished() -> None:
        release_memory()
        tick()

    def seen(runner: Outputs, dtype: str) -> _Seen:
        errors = _Seen.of(runner, dtype, batches, truth)
        finished()
        return errors

    finished()
    none = Error(0, 1, 0, 1)
    own = {"float64": _Seen({name: dict.fromkeys(range(len(batches)), none) for name in truth.places})}
    own |= {dtype: seen(a, dtype) for dtype in dtypes if dtype != "float64"}
    names = [batch.case.name for batch in batches]
    found: list[Measurement] = []
    for dtype in dtypes:
        there = seen(b, dtype)
        if not partial:
            _check_outputs(truth, there)
        judge = _Judge(limits, dtype, own[dtype], own.get("float32"))
        found += [
            judge.row(place, there.errors[place.name], names) for place in truth.ordered() if place.name in there.errors
        ]
    return tuple(found)


def release_memory() -> None:
    """Give back what the last model took: Keras's models are freed by the collector, glibc keeps what was freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _check_outputs(truth: Truth, there: _Seen) -> None:
    lacking = [name for name, place in truth.places.items() if place.kind != MODULE and name not in there.errors]
    if lacking:
        raise ParityError(
            f"B gives no {', '.join(lacking[:5])}, which A gives.", hint="Compare the two as one class: pass --head."
        )


@dataclass(frozen=True)
class _Judge:
    """What B's errors in one element type are held to: A's own, and for float64 A's in float32."""

    limits: Limits
    dtype: str
    own: _Seen
    single: _Seen | None

    def row(self, place: Place, errors: Mapping[int, Error], names: Sequence[str]) -> Measurement:
        """The measurement of one place, all batches together."""
        a, b = pooled(self.own.errors[place.name][batch] for batch in errors), pooled(errors.values())
        worst = max(errors, key=lambda batch: _highest([errors[batch].rms]))
        limit, forced = self.limit(place, a, list(errors)), self.forced(place)
        if forced is not None:
            a_error, b_error, limit = a.absolute, b.absolute, forced
        else:
            a_error, b_error = a.rms, b.rms
        return Measurement(
            place.name, place.kind, place.layer, place.module, self.dtype, names[worst], a_error, b_error, b.largest,
            limit,
        )  # fmt: skip

    def forced(self, place: Place) -> float | None:
        """The limit that the caller set for places of this kind."""
        if place.kind == MODULE:
            return None
        hidden = place.kind in (HIDDEN, ATTENTIONS) and self.limits.max_hidden_error is not None
        return self.limits.max_hidden_error if hidden else self.limits.max_error

    def limit(self, place: Place, a: Error, batches: Sequence[int]) -> float | None:
        """The largest error allowed; none is asked of modules."""
        if place.kind == MODULE:
            return None
        if self.dtype != "float64":
            return self.limits.factor * max(a.rms, FLOOR[self.dtype])
        if self.single is None or place.name not in self.single.errors:
            return self.limits.same_function
        rough = pooled(self.single.errors[place.name][batch] for batch in batches)
        return max(self.limits.same_function, self.limits.factor * rough.rms * DOUBLE_TO_SINGLE)


def compare_gradients(a: Runner, b: Runner, batch: Batch) -> tuple[GradientComparison, ...]:
    """Gradients in float64 of a weighted sum of the outputs, in every tensor that has one on either side."""
    one, other = (runner.gradients(batch, weights_of) for runner in (a, b))
    sizes = {place: float(np.abs(gradient).max(initial=0)) for place, gradient in one.items()}
    least = SMALL * max(sizes.values(), default=0.0)  # a key's bias has a gradient of zero but for rounding

    def error(place: str) -> float:
        if place not in one or place not in other:
            return math.inf
        return _ratio(error_of(other[place], one[place]).absolute, max(sizes[place], least))

    return tuple(GradientComparison(place, error(place), SAME_GRADIENT) for place in dict.fromkeys((*one, *other)))


def weights_of(name: str, shape: tuple[int, ...]) -> Array:
    """The weights with which an output enters the sum whose gradients are compared: normal, the same on both sides."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
