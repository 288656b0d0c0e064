"""Hostile distributed checkpoints on the command line: nothing runs, nothing foreign is opened, refusals are typed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import checkpoints as cp
import pytest

pytest.importorskip("torch")

from distributed_model import INDEX, sound
from hostile_distributed import CASES, PAYLOADS
from hostile_folders import payload
from hostile_watch import state, watched_call
from sweep import sweep

MEGABYTES = 1_000_000


@pytest.mark.parametrize("name", CASES)
def test_hostile_distributed_checkpoints(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """Given to `inspect` and, over an earlier output, to `pt2tf`: refused as the case says, and nothing else."""
    case = CASES[name]
    folder, output = case.write(tmp_path), tmp_path / "out"
    shutil.copytree(earlier, output)
    before = state(tmp_path)
    for words in (("inspect", folder), ("pt2tf", folder, output, "--overwrite")):
        outcome = watched_call(cli, tmp_path, *words)
        assert state(tmp_path) == before, "something was written"  # the canary too
        if case.said is not None and words[0] == "inspect":
            assert outcome.code == 0, outcome
            continue
        assert outcome.code == case.error.exit_code, outcome
        facts = json.loads(outcome.out)["error"]
        assert facts["kind"] == case.error.__name__, facts
        assert case.words in facts["message"], facts
        assert facts["hint"], facts
        assert case.file is None or facts["file"] == str(folder / case.file), facts
        assert case.tensor == "*" or facts["tensor"] == case.tensor, facts
        assert outcome.err == ""


def test_what_is_around_them_is_sound(cli, tmp_path: Path, earlier: Path) -> None:
    assert cli("pt2tf", sound(tmp_path / "in"), tmp_path / "out").code == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.written(earlier))


def test_the_payloads_fire_for_a_naive_reader(tmp_path: Path) -> None:
    """The positive control: without it a payload that never worked would count as one that was stopped."""
    fired = 0
    for number, (name, case) in enumerate(PAYLOADS.items()):
        if name.startswith("a call ") and name != "a call of an old protocol":
            folder = case.write(tmp_path / str(number)) if (tmp_path / str(number)).mkdir() is None else tmp_path
            pickle.loads((folder / INDEX).read_bytes())
            assert (folder.parent / "canary").is_dir(), name
            fired += 1
    assert fired == 6
    assert payload(tmp_path).startswith(b"\x80")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 90


def test_memory_and_modules_of_distributed_checkpoints(tmp_path: Path) -> None:
    """All of them in one small process, as in test_hostile_memory.py."""
    (tmp_path / "work").mkdir()
    for number in range(len(CASES)):
        (tmp_path / str(number)).mkdir()
    folders = {case.write(tmp_path / str(number)): name for number, (name, case) in enumerate(CASES.items())}
    facts = sweep(list(folders), [sound(tmp_path / "sound")], tmp_path / "work", 1_000 * MEGABYTES)
    for folder, name in folders.items():
        kind = CASES[name].error.__name__
        assert facts[folder].kinds == ["" if CASES[name].said is not None else kind, kind], name
        assert facts[folder].memory < 150 * MEGABYTES, name
        assert facts[folder].modules == [], name
