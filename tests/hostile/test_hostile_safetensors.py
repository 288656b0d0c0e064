"""Hostile safetensors files on the command line, and what other readers say of the same files."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints as cp
import pytest
from hostile_case import CONFIG, attack, watched
from hostile_safetensors import CASES, DATA, ESCAPING, FILE, SOUND, more
from safetensors import SafetensorError, deserialize


@pytest.mark.parametrize("name", CASES)
def test_hostile_safetensors_files(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    attack(cli, tmp_path, earlier, CASES[name])


def test_the_model_around_the_flaws_is_sound(cli, tmp_path: Path, earlier: Path) -> None:
    folder = cp.write_config(tmp_path / "model", CONFIG)
    (folder / FILE).write_bytes(SOUND)
    assert cli("inspect", folder).code == 0
    assert cli("pt2tf", folder, tmp_path / "out").code == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.written(earlier))


@pytest.mark.parametrize("name", ESCAPING)
def test_names_are_never_paths(cli, tmp_path: Path, name: str) -> None:
    """Sound files by the format: the name is refused as unknown to every table, and nothing of it is opened."""
    folder = cp.write_config(tmp_path / "model", CONFIG)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [len(DATA), len(DATA) + 4]}
    (folder / FILE).write_bytes(more(f"{json.dumps(name)}:{json.dumps(entry)}", bytes(4)))
    before = cp.snapshot(tmp_path)
    with watched(folder) as seen:
        outcome = cli("pt2tf", folder, tmp_path / "out", "--json")
    assert outcome.code == 3
    assert json.loads(outcome.out)["error"]["kind"] == "UnknownTensors"
    assert not seen
    assert cp.snapshot(tmp_path) == before


def accepted_by_rust(name: str) -> bool:
    try:
        deserialize(CASES[name].make(Path()))
    except (SafetensorError, OverflowError):
        return False
    return True


def test_the_reference_reader_accepts_some_of_them() -> None:
    """The cases go beyond the reference: what it accepts is against its own rules, or hides something."""
    accepted = {name for name in CASES if accepted_by_rust(name)}
    assert len(CASES) - len(accepted) >= 49
    assert {"text: a tensor twice, once escaped", "file: padded with tabs", "field: an unknown field"} <= accepted


def test_there_are_enough_safetensors_cases() -> None:
    assert len(CASES) >= 66
