"""Casts of every pair of types against exact arithmetic, and what is counted of them."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import checkpoints as cp
import numpy as np
import pytest

from bertconv.formats.casting import BLOCK
from bertconv.formats.content import Tally
from bertconv.formats.streaming import cast

PAIRS = list(permutations(cp.FLOATS, 2))
FORMATS = {
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
}
"""Bits of precision, and the least and largest exponent."""


def rounded(value: Fraction, dtype: str) -> Fraction | None:
    """To nearest, ties to even; None where the result is infinite."""
    bits, least, largest = FORMATS[dtype]
    if value == 0:
        return value
    size = abs(value)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length(), least)
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > least and size < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (exponent - bits + 1)
    found = round(size / step) * step  # Python rounds halves to even
    return None if found >= Fraction(2) ** (largest + 1) else found * (1 if value > 0 else -1)


def bits_of(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1).view(f"u{values.dtype.itemsize}")


def edges(source: str, target: str) -> np.ndarray:
    """Numbers of a type around every place where a cast to the other can go wrong, with both signs."""
    kind = cp.numpy_type(source)
    bits, least, largest = FORMATS[target]
    found = [0.0]
    for exponent in (
        0,
        1,
        -1,
        least,
        least - 1,
        least + 1,
        least - bits + 1,
        least - bits,
        least - bits - 1,
        largest,
        -7,
    ):
        if -1074 <= exponent <= 1023:
            one = 2.0**exponent
            places = [0.0, 1.0, 0.5, 1.5, 0.75, 0.25, 2.0 ** (bits - 1) - 1, 2.0 ** (bits - 1) - 1.5]
            steps = [one + place * one * 2.0 ** (1 - bits) for place in places]
            found += [step * (1 + tail) for step in steps for tail in (0, 2.0**-25, -(2.0**-25), 2.0**-40, -(2.0**-40))]
    with np.errstate(all="ignore"):
        values = np.array([*found, *(-one for one in found)]).astype(kind)
    random = np.random.default_rng(5).integers(0, 1 << 16, 500, np.uint16)
    words = kind.itemsize // 2
    anything = np.random.default_rng(7).integers(0, 1 << 16, 400 * words, np.uint16).view(kind)
    values = np.concatenate([values, anything, np.resize(random, 400 * words).view(kind)])
    return values[np.isfinite(values.astype(np.float64))]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_number_is_rounded_once(source: str, target: str) -> None:
    values = edges(source, target)
    tally = Tally()
    found = cast(bits_of(values), source, target, tally).view(cp.numpy_type(target)).astype(np.float64)
    exact = [Fraction(float(one)) for one in values.astype(np.float64)]
    expected = [rounded(one, target) for one in exact]
    for value, wanted, got in zip(values.astype(np.float64), expected, found, strict=True):
        assert (abs(got) == np.inf) if wanted is None else Fraction(float(got)) == wanted, float(value).hex()
        assert np.signbit(got) == np.signbit(value)
    _, least, _ = FORMATS[target]
    assert tally.counts() == {
        "rounded": sum(a != b for a, b in zip(exact, expected, strict=True)),
        "flushed": sum(a != 0 and b == 0 for a, b in zip(exact, expected, strict=True)),
        "subnormal": 0 if sum(a != b for a, b in zip(exact, expected, strict=True)) == 0 else sum(
            b is not None and 0 < abs(b) < Fraction(2) ** least for b in expected),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "float16"), ("float32", "bfloat16"), ("float64", "bfloat16")]
)
@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e-42, 0.0])
def test_blocks_of_their_own_are_as_one_number_at_a_time(source: str, target: str, scale: float) -> None:
    """The quick ways, and where they give way: small numbers among others, many of them, infinity, NaN."""
    values = (np.random.default_rng(3).standard_normal(2 * BLOCK + 77) * scale).astype(source)
    values[BLOCK + 5 : BLOCK + 8] = (np.nan, np.inf, -np.inf)
    values[7], values[11] = 1e-7, -0.0
    counted, single = Tally(), Tally()
    found = cast(bits_of(values), source, target, counted)
    np.testing.assert_array_equal(found, cast(bits_of(values), source, target))
    places = [*range(20), *range(BLOCK - 10, BLOCK + 20), 2 * BLOCK + 76]
    for place in places:
        one = cast(bits_of(values[place : place + 1]), source, target, single)
        assert one[0] == found[place] or np.isnan(values[place])
    wide = [part.astype(np.float64) for part in (values, found.view(cp.numpy_type(target)))]
    assert counted.rounded == np.count_nonzero((wide[0] != wide[1]) & ~np.isnan(wide[0]))
    assert counted.flushed == np.count_nonzero((wide[0] != 0) & (wide[1] == 0))


def test_a_nan_stays_one_of_the_same_sign() -> None:
    bits = np.array([0x7F800001, 0xFF800001, 0x7FC01234, 0xFFFFFFFF], np.uint32)
    for target in ("float16", "bfloat16", "float64"):
        found = cast(bits, "float32", target, Tally()).view(cp.numpy_type(target)).astype(np.float64)
        assert np.isnan(found).all()
        np.testing.assert_array_equal(np.signbit(found), [False, True, False, True])


def test_nothing_and_one_type_are_left_alone() -> None:
    empty = np.empty(0, np.uint32)
    for target in cp.FLOATS:
        assert cast(empty, "float32", target, Tally()).size == 0
    assert cast(empty, "float32", "float32") is empty
