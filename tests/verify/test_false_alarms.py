"""Good conversions of random models pass: a sample of what `scripts/calibrate.py` does for as many as one likes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CALIBRATE = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "calibrate.py"))


@pytest.mark.parametrize("seed", range(7000, 7009))
def test_no_false_alarm(seed: int) -> None:
    """One model of each class, of 2 to 24 layers, in every element type."""
    done = CALIBRATE["run"](seed, ("float64", "float32", "bfloat16", "float16"))
    assert done.ok, done.verdict
    assert set(done.ratios) == {"float32", "bfloat16", "float16"}


def test_the_sample_has_every_class() -> None:
    assert len(CALIBRATE["load_table"]().heads) == 9
