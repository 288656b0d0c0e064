"""Good conversions of random models pass: a sample of what `scripts/calibrate.py` does for as many as one likes."""

from __future__ import annotations

import runpy
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest

from bertconv.families import family_of

CALIBRATE = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "calibrate.py"))


SEEDS = (7044, 7146, 7231, 7310, 7358, 7360, 7415, 7473, 7480)
"""Chosen for what they draw, which the last test holds, and for narrow models: depth is what errors grow with."""


@pytest.mark.parametrize("seed", SEEDS)
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


def test_the_sample_has_every_class_and_what_errors_depend_on() -> None:
    """Also where the configs of calibrate.py come to be drawn in another way."""
    bert = family_of("bert")
    heads = {tuple(bert.tasks)[seed % len(bert.tasks)]: seed for seed in SEEDS}
    assert len(heads) == len(bert.tasks) == 9
    configs = [CALIBRATE["random_config"](np.random.default_rng(seed), bert, head) for head, seed in heads.items()]
    drawn = {key: {config[key] for config in configs} for key in configs[0] if key != "architectures"}
    assert drawn["num_hidden_layers"] >= {2, 3, 4, 12, 16, 24}
    assert drawn["hidden_act"] == set(CALIBRATE["ACTIVATIONS"])
    assert drawn["position_embedding_type"] == {"absolute", "relative_key", "relative_key_query"}
    assert len(drawn["layer_norm_eps"]) == 2
