"""Hostile msgpack files on the command line, and what the `msgpack` package says of the same files."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import msgpack
import pytest
from flax_files import FILE
from hostile_case import CONFIG, attack
from hostile_msgpack import CASES, SOUND


@pytest.mark.parametrize("name", CASES)
def test_hostile_msgpack_files(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    attack(cli, tmp_path, earlier, CASES[name])


def test_the_flax_model_around_the_flaws_is_sound(cli, tmp_path: Path, earlier: Path) -> None:
    folder = cp.write_config(tmp_path / "model", CONFIG)
    (folder / FILE).write_bytes(SOUND)
    assert cli("inspect", folder).code == 0
    assert cli("convert", folder, tmp_path / "out", "--to", "tf").code == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.written(earlier))


def accepted_by_msgpack(name: str) -> bool:
    try:
        msgpack.unpackb(CASES[name].make(Path()), strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return False
    return True


def test_there_are_enough_msgpack_cases_and_most_are_sound_msgpack() -> None:
    """What the package refuses is not even msgpack; the others are no files of Flax, or too much of one."""
    assert len(CASES) >= 60
    assert sum(map(accepted_by_msgpack, CASES)) >= 30
