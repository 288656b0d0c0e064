"""Checks of the process that reads HDF5 which no file that libhdf5 makes comes to."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from bertconv.containers.hdf5 import child, library, process, sandbox, walk
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "tf_model.h5", "w") as root:
        root["layer/bias:0"] = np.arange(3, dtype="f4")
    return tmp_path / "tf_model.h5"


def test_the_end_of_the_file_is_no_zeros(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open("rb") as stream:
        opened = child.OpenFile(stream.fileno())
        monkeypatch.setattr(os, "preadv", lambda *_: 0)
        with pytest.raises(OSError, match="the file ends at byte 0"):
            opened.readinto(bytearray(8))


def test_a_place_behind_the_end_of_the_file_is_told(file: Path) -> None:
    with file.open("rb") as stream:
        opened = child.OpenFile(stream.fileno())
        opened.seek(file.stat().st_size)
        with pytest.raises(OSError, match="behind its end"):
            opened.readinto(bytearray(1))


def test_an_answer_that_did_not_end_is_none(tmp_path: Path) -> None:
    asked: Any = SimpleNamespace(path=tmp_path / "tf_model.h5")
    with pytest.raises(UnsafeCheckpoint, match="hang") as caught:
        process.checked(asked, None, 0)
    assert caught.value.file == str(tmp_path / "tf_model.h5")
    assert process.checked(asked, b"{}", 0) == b"{}"


class Group:
    """One whose children libhdf5 cannot open."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.id = SimpleNamespace(links=SimpleNamespace(get_info=lambda _: SimpleNamespace(type=h5py.h5l.TYPE_HARD)))

    def __getitem__(self, name: str) -> None:
        raise self._error


@pytest.mark.parametrize("kind", [KeyError, IndexError, OSError, RuntimeError, TypeError, ValueError])
def test_what_cannot_be_opened_is_named(kind: type[Exception]) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"cannot be opened: .*no such thing") as caught:
        walk._Walk().child(library.Group(Group(kind("no such thing"))), "bias:0", "layer/bias:0")
    assert caught.value.tensor == "layer/bias:0"


@pytest.mark.parametrize(
    "kind", [ArithmeticError, OverflowError, LookupError, KeyError, OSError, RuntimeError, TypeError, ValueError]
)
def test_whatever_h5py_raises_is_damage(file: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def confused(_: Any) -> None:
        raise kind("confused")

    monkeypatch.setattr(child, "walk", confused)
    with file.open("rb") as stream:
        reported = child.answer(child.OpenFile(stream.fileno()))
    assert reported["error"]["kind"] == "DamagedCheckpoint"
    assert "confused" in reported["error"]["message"]


def test_data_of_the_right_size_that_lie_nowhere(file: Path) -> None:
    with h5py.File(file) as root:
        own = root["layer/bias:0"].id
        kind = SimpleNamespace(
            get_create_plist=own.get_create_plist, get_type=own.get_type, get_offset=lambda: None,
            get_storage_size=own.get_storage_size,
        )  # fmt: skip
        with pytest.raises(DamagedCheckpoint, match="declares 12 bytes but stores 0"):
            walk._Walk().tensor(library.Dataset(SimpleNamespace(id=kind, shape=(3,))), "bias:0", "layer")


def test_metadata_that_take_too_much_memory_are_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(child, "walk", exhausted)
    with file.open("rb") as stream:
        reported = child.answer(child.OpenFile(stream.fileno()))
    assert reported["error"]["kind"] == "UnsafeCheckpoint"
    assert "MiB of memory" in reported["error"]["message"]


def test_a_system_that_does_not_tell_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise FileNotFoundError

    assert sandbox._address_space()
    monkeypatch.setattr(Path, "read_text", refuse)
    assert sandbox._address_space() is None


def test_a_filter_on_data_in_one_piece(file: Path) -> None:
    """libhdf5 writes filters for chunks only, but a file need not be written by it."""

    class Properties:
        get_nfilters = staticmethod(lambda: 1)

        def __init__(self, own: Any) -> None:
            self._own = own

        def __getattr__(self, name: str) -> Any:
            return getattr(self._own, name)

    with h5py.File(file) as root:
        own = root["layer/bias:0"]
        steps = walk._Walk()
        assert steps.tensor(library.Dataset(own), "bias:0", "layer").shape == (3,)
        kind = SimpleNamespace(get_create_plist=lambda: Properties(own.id.get_create_plist()), get_type=own.id.get_type)
        with pytest.raises(UnsupportedCheckpoint, match="chunked or compressed"):
            steps.tensor(library.Dataset(SimpleNamespace(id=kind, shape=own.shape)), "bias:0", "layer")
