"""Hostile tensor bundles on the command line: nothing foreign is opened, refusals are typed, readers come to an end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import checkpoints as cp
import pytest
from hostile_bundle import CASES, DATA, INDEX, Case
from hostile_watch import state, watched_call


@pytest.mark.parametrize("name", CASES)
def test_hostile_bundles(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """Given to `inspect`, or over an earlier output to `pt2tf`: refused as the case says, and nothing else."""
    case = CASES[name]
    folder, output = case.write(tmp_path), tmp_path / "out"
    (tmp_path / "secret").write_text("secret")
    before = state(tmp_path)
    outcome = watched_call(cli, tmp_path, "inspect", folder)
    if case.later:
        assert outcome.code == 0, outcome
        shutil.copytree(earlier, output)
        before = state(tmp_path)
        outcome = watched_call(cli, tmp_path, "pt2tf", folder, output, "--overwrite")
    assert state(tmp_path) == before, "something was written"
    if case.error is None:
        assert outcome.code == 0, outcome
        return
    assert outcome.code == case.error.exit_code, outcome
    facts = json.loads(outcome.out)["error"]
    assert facts["kind"] == case.error.__name__ or case.error.exit_code == 3, facts
    assert case.words in facts["message"], facts
    assert facts["hint"], facts
    assert case.error.exit_code == 3 or facts["file"] in {str(folder / one) for one in (INDEX, DATA)}, facts
    assert outcome.err == ""


def test_what_is_around_them_is_sound(cli, tmp_path: Path, earlier: Path) -> None:
    assert cli("pt2tf", Case().write(tmp_path), tmp_path / "out").code == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.written(earlier))


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 100
