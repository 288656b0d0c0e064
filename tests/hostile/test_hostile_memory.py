"""The whole corpus in one small process: bounded memory, no module loaded for a file's sake, nothing written."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import hdf5_model
import hostile_hdf5
import hostile_safetensors
import hostile_torch
import pytest
from hostile_case import CONFIG, Case
from sweep import Fact, sweep
from torch_model import legacy, model, zipped

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of one step of a process"
)

MEGABYTES = 1_000_000
TARGET = 200 * MEGABYTES
"""Beside the file's size, over what a process needs that has converted sound models."""
ADDRESSES = 1_000 * MEGABYTES
CASES = {
    **{f"torch: {name}": case for name, case in hostile_torch.CASES.items()},
    **{f"safetensors: {name}": case for name, case in hostile_safetensors.CASES.items()},
    "safetensors: 400,000 tensors": hostile_safetensors.MANY,
}
HDF5 = {name: case for name, case in hostile_hdf5.CASES.items() if case.control or name.startswith("t")}
"""Those that harm who trusts the library, or might: each takes the start of a process."""


def sound_models(root: Path) -> list[Path]:
    files = {
        "zip": ("pytorch_model.bin", zipped(model())),
        "legacy": ("pytorch_model.bin", legacy(model())),
        "safetensors": (hostile_safetensors.FILE, hostile_safetensors.SOUND),
        "hdf5": (hdf5_model.FILE, hdf5_model.SOUND),
        "hdf5 that libhdf5 reads": (hdf5_model.FILE, hdf5_model.whole(libver="latest")),
    }
    for name, (file, content) in files.items():
        (cp.write_config(root / name, CONFIG) / file).write_bytes(content)
    return [root / name for name in files]


def size(root: Path, case: Case) -> int:
    return (root / "model" / case.file).stat().st_size


def swept(root: Path, cases: dict[str, Case], commands: int = 2) -> dict[str, Fact]:
    folders = {case.write(root / str(number)): name for number, (name, case) in enumerate(cases.items())}
    work = root / "work"
    work.mkdir()
    sound = sound_models(root)
    before = {folder: cp.snapshot(folder.parent) for folder in folders}
    facts = sweep(list(folders), sound, work, ADDRESSES, commands)
    assert {folder: cp.snapshot(folder.parent) for folder in folders} == before
    assert {path.name for path in work.iterdir()} == {f"out-sound-{number}" for number in range(len(sound))}
    return {folders[folder]: fact for folder, fact in facts.items()}


def test_memory_and_modules(tmp_path: Path) -> None:
    facts = swept(tmp_path, CASES)
    assert list(facts) == list(CASES)
    for number, (name, case) in enumerate(CASES.items()):
        kind = case.error.__name__
        assert facts[name].kinds == ["" if case.header_only else kind, kind], name
        assert facts[name].modules == [], name
        assert facts[name].memory < TARGET + size(tmp_path / str(number), case), name


def test_memory_of_hdf5(tmp_path: Path) -> None:
    """Of this process, and of that which reads metadata."""
    facts = swept(tmp_path, HDF5, commands=1)
    for number, (name, case) in enumerate(HDF5.items()):
        assert facts[name].kinds == [case.error.__name__], name
        assert facts[name].modules == [], name
        assert max(facts[name].memory, facts[name].children) < TARGET + size(tmp_path / str(number), case), name
