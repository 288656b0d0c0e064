"""When outputs are compared unasked: the frameworks are there, and the memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from compared import Models

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.verify import requirements


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    ("meminfo", "most", "used", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:       7 kB\n", None, None, 7168),
        ("MemTotal: 9 kB\nMemAvailable:       7 kB\n", "max", "1000", 7168),
        ("MemTotal: 9 kB\nMemAvailable:       7 kB\n", "5000", "1000", 4000),
        ("MemTotal: 9 kB\nMemAvailable:       3 kB\n", "5000", "1000", 3072),
        ("MemTotal: 9 kB\n", None, None, None),
        (None, "5000", "1000", 4000),
        (None, None, None, None),
    ],
)
def test_available_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str, most: str, used: str, free: int | None
) -> None:
    for name, content in (("meminfo", meminfo), ("memory.max", most), ("memory.current", used)):
        if content is not None:
            (tmp_path / name).write_text(content + "\n")
    monkeypatch.setattr(requirements, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(requirements, "_CGROUP", tmp_path)
    assert requirements.available_memory() == free


def test_this_machine_says() -> None:
    free = requirements.available_memory()
    assert free is None or 1 << 20 < free < 1 << 50


def test_too_little_memory(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights alone, and said so; outputs all the same where they are asked for."""
    a, b = models(), models("BertModel", "h5")
    monkeypatch.setattr(requirements, "available_memory", lambda: 1000)
    parity = verify_checkpoint(a, b)
    assert (parity.ok, parity.level) == (True, "weights")
    assert parity.notes[-1].startswith("outputs were not compared: that takes up to ")
    assert parity.notes[-1].endswith("kB are free")
    report = convert_checkpoint(a, tmp_path / "out", verify="auto")
    assert report.verified == "weights"
    assert report.notes[-1].startswith("outputs were not compared: that takes up to ")
    assert verify_checkpoint(a, b, level="outputs", dtypes=("float64",)).measurements


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (("torch",), "PyTorch is not installed"),
        (("tensorflow",), "TensorFlow is not installed"),
        (("torch", "tensorflow"), "PyTorch and TensorFlow are not installed"),
    ],
)
def test_frameworks_that_are_missing(
    models: Models, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...], words: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else find(name))
    parity = verify_checkpoint(models(), models("BertModel", "h5"))
    assert parity.notes[-1] == f"outputs were not compared: {words}"
