"""Good conversions of random models pass: a sample of what `scripts/calibrate.py` does for as many as one likes."""

from __future__ import annotations

import runpy
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv.families import family_of

CALIBRATE = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "calibrate.py"))


@pytest.mark.parametrize("seed", range(7000, 7009))
def test_no_false_alarm(seed: int) -> None:
    """One model of each class, of 2 to 24 layers, in every element type."""
    done = CALIBRATE["run"](seed, ("float64", "float32", "bfloat16", "float16"))
    assert done.ok, done.verdict
    assert set(done.ratios) == {"float32", "bfloat16", "float16"}


OTHERS = [family.model_type for family in cp.FIRST if family.model_type != "bert"]


@pytest.mark.parametrize("number", range(len(OTHERS)), ids=OTHERS)
def test_no_false_alarm_in_other_families(number: int) -> None:
    """One model of each table, of another task each time."""
    done = CALIBRATE["run"](7010 + number, ("float64", "float32"), OTHERS[number])
    assert done.ok, done.verdict


def test_the_sample_has_every_class() -> None:
    assert len(family_of("bert").tasks) == 9
