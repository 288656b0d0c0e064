"""Hostile HDF5 files on the command line, and what h5py's users get of the same files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import checkpoints as cp
import pytest
from hdf5_model import FILE, NAME, SECRET, SOUND, VALUES, hide, whole
from hostile_case import CONFIG, STATE, attack, reads_hdf5, watched
from hostile_hdf5 import CASES, MISFITS
from hostile_hdf5_traps import HARMLESS
from kernel_watch import opened
from naive_hdf5 import naive

CONTROLS = ("another", "bomb", "crash", "hang", "secret", "zeros")


def laid(root: Path, content: bytes) -> Path:
    folder = cp.write_config(root / "model", CONFIG)
    (folder / FILE).write_bytes(content)
    return folder


def plainly(folders: list[Path]) -> dict[Path, str]:
    return naive(folders, NAME, "/stash/w", VALUES.tobytes(), SECRET)


@pytest.mark.parametrize("name", CASES)
def test_hostile_hdf5_files(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    attack(cli, tmp_path, earlier, CASES[name], "tf2pt")


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_the_model_around_the_flaws_is_sound(cli, tmp_path: Path, libver: str) -> None:
    """Also over an earlier output, and with nothing started but the one process that reads."""
    folder = laid(tmp_path, SOUND if libver == "earliest" else whole(libver=libver))
    assert cli("inspect", folder).code == 0
    for words in ((), ("--overwrite",)):
        assert cli("tf2pt", folder, tmp_path / "out", *words).code == 0
        cp.assert_same(cp.written(tmp_path / "out"), STATE)


@pytest.mark.parametrize("name", MISFITS)
def test_misfits(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """Sound to the reader, and refused for what they hold; names are never paths."""
    make, error = MISFITS[name]
    folder = laid(tmp_path, make(tmp_path / "canary"))
    (tmp_path / "secret").write_bytes(SECRET)
    shutil.copytree(earlier, tmp_path / "out")
    before = cp.snapshot(tmp_path)
    with opened([tmp_path / "secret"]) as leaked, watched(folder) as seen:
        assert cli("inspect", folder).code == 0
        outcome = cli("tf2pt", folder, tmp_path / "out", "--overwrite", "--json")
    assert outcome.code == error.exit_code
    facts = json.loads(outcome.out)["error"]
    assert facts["kind"] == error.__name__
    assert facts["hint"]
    assert not leaked
    assert all(map(reads_hdf5, seen)), seen
    assert cp.snapshot(tmp_path) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_traps_that_are_never_stepped_on(cli, tmp_path: Path, name: str) -> None:
    """The weights are sound, and nothing else of the file is looked at: they convert to the same bits."""
    folder = laid(tmp_path, HARMLESS[name][0](tmp_path / "canary"))
    secrets = [path for path in tmp_path.iterdir() if not path.is_dir()]
    before = cp.snapshot(tmp_path)
    with opened(secrets) as leaked, watched(folder) as seen:
        outcome = cli("inspect", folder)
    assert outcome.code == 0, outcome
    assert outcome.out.isprintable() or "\x1b" not in outcome.out
    assert not leaked
    assert len(seen) <= 1
    assert all(map(reads_hdf5, seen)), seen
    assert cp.snapshot(tmp_path) == before
    with opened(secrets) as leaked:
        assert cli("tf2pt", folder, tmp_path / "out").code == 0
    assert not leaked
    cp.assert_same(cp.written(tmp_path / "out"), STATE)
    assert not any(SECRET[:32] in (content or b"") for content in cp.snapshot(tmp_path / "out").values())


# What the cases do to those who trust the library


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Case -> what h5py makes of it."""
    root = tmp_path_factory.mktemp("trusting")
    folders = {}
    for number, (name, case) in enumerate(CASES.items()):
        (root / str(number)).mkdir()
        folders[case.write(root / str(number))] = name
    return {folders[folder]: answer for folder, answer in plainly(list(folders)).items()}


def test_every_payload_fires_under_plain_h5py(trusting: dict[str, str]) -> None:
    """The positive control: secrets are read, bytes invented, memory and time taken, the process crashed."""
    expected = {name: case.control for name, case in CASES.items() if case.control}
    assert {name: trusting[name] for name in expected} == expected
    assert set(expected.values()) == set(CONTROLS)


def test_plain_h5py_accepts_most_of_them(trusting: dict[str, str]) -> None:
    """The cases go beyond the library: what it accepts has another file's bytes, or none, or hides something."""
    kinds = Counter("error" if ":" in answer else answer for answer in trusting.values())
    assert kinds["secret"] >= 16, kinds
    assert kinds["zeros"] >= 10, kinds
    assert sum(kinds[each] for each in ("sound", "secret", "zeros", "another")) >= 80, kinds
    assert min(kinds[each] for each in ("bomb", "crash", "hang")) >= 1, kinds


def test_harmless_files_are_not_so_for_everyone(tmp_path: Path) -> None:
    folders = {}
    for number, (name, (make, _)) in enumerate(HARMLESS.items()):
        (tmp_path / str(number)).mkdir()
        folders[laid(tmp_path / str(number), make(tmp_path / str(number) / "canary"))] = name
    found = {folders[folder]: "error" if ":" in said else said for folder, said in plainly(list(folders)).items()}
    assert found == {name: expected for name, (_, expected) in HARMLESS.items()}


def test_the_kernel_tells_who_opens_a_secret(tmp_path: Path) -> None:
    """The watch's own positive control: a library in another process is seen."""
    case = CASES["link: external, absolute"]
    folder = case.write(tmp_path)
    secrets = [tmp_path / "secret", tmp_path / "secret.h5"]
    with opened(secrets) as leaked:
        assert plainly([folder]) == {folder: "secret"}
    assert set(leaked) == {tmp_path / "secret.h5"}
    with opened(secrets) as leaked:
        pass
    assert leaked == []


def test_there_are_enough_hdf5_cases(tmp_path: Path) -> None:
    assert len(CASES) >= 140
    assert len(SECRET) == VALUES.nbytes
    hide(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "secret.h5", "pipe"}
    assert SECRET in (tmp_path / "secret.h5").read_bytes()
