"""A sample of `python -m qa.fleet`: workers of a local fleet are killed, and its driver; every output is whole."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from qa.fleet.__main__ import Options, campaign
from qa.fleet.making import make_fleet

SEED = int(os.environ.get("BERTCONV_FAULTS_SEED", "5"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="processes are looked at in /proc")
def test_workers_and_driver_are_killed(tmp_path: Path) -> None:
    cases = make_fleet(tmp_path, 8, 2, SEED, larger=False, by_hand=("safetensors", "sharded", "h5"))
    for seed in count(SEED):  # until somebody was shot: a quick machine may be done before
        seen = campaign(tmp_path, cases, Options("local", workers=2, kills=1, seed=seed, later=0.03))
        assert seen.checked.problems == []
        assert seen.checked.identical == 6
        if seen.shots:
            break
