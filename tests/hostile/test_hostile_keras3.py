"""Hostile files of Keras 3 on the command line."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import keras3_files as k3
import pytest
from hostile_case import CONFIG, STATE, attack
from hostile_keras3 import CASES, TENSORS, records, shards, sound
from torch_cases import archive

SOUND = {
    "weights": lambda: {k3.WEIGHTS: sound()},
    "of another version of HDF5": lambda: {k3.WEIGHTS: k3.weights(TENSORS, libver="latest")},
    "an archive": lambda: {"model.keras": archive(records())},
    "an archive, as zipfile writes it": lambda: {"model.keras": k3.archive(sound())},
    "in several files": shards,
}


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_hostile_files_of_keras_3(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    attack(cli, tmp_path, earlier, CASES[name], "tf2pt")


@pytest.mark.parametrize("name", SOUND)
def test_the_model_around_the_flaws_is_sound(cli, tmp_path: Path, name: str) -> None:
    folder = cp.write_config(tmp_path / "model", CONFIG)
    for file, content in SOUND[name]().items():
        (folder / file).write_bytes(content)
    assert cli("inspect", folder).code == 0
    assert cli("tf2pt", folder, tmp_path / "out").code == 0
    cp.assert_same(cp.written(tmp_path / "out"), STATE)
