"""Checks of the writer, of reading back and of the certificate that no other test would miss."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import derive, manifest
from bertconv.containers.container import FileLayout
from bertconv.containers.stored import SourceFile
from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint, OutputError, ParityError, RequestError
from bertconv.formats import destination as destinations
from bertconv.formats import staging, writing
from bertconv.formats.content import OutputFile
from bertconv.formats.staging import StagedFolder
from bertconv.formats.streaming import lockstep
from bertconv.verification import check_checkpoint
from bertconv.verify import certificate

HEAD = "BertModel"


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD))


def put(destination: Path, name: str = "file", **options: Any) -> None:
    with StagedFolder(destination, **options) as staged:
        staged.write(name, b"content")
        staged.write(destinations.MANIFEST, b'{"files": {"%s": {}}}' % name.encode())
        staged.commit()


def fill(folder: Path, files: list[OutputFile]) -> None:
    writing.write_weights(folder, files, lambda _: None)


# The folder


def test_a_rename_that_may_not_last_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = staging._fsync

    def refuse(path: Path) -> None:
        if path == tmp_path:
            raise OSError(errno.EIO, "lost")
        fsync(path)

    monkeypatch.setattr(staging, "_fsync", refuse)
    with pytest.raises(OutputError, match=r"may not survive a power cut: lost\.") as caught:
        put(tmp_path / "out")
    assert caught.value.file == str(tmp_path / "out")
    assert caught.value.hint
    assert (tmp_path / "out/file").read_bytes() == b"content"


def test_a_system_without_the_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "out", "old")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    put(tmp_path / "out", "new", overwrite=True)
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"new", destinations.MANIFEST}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_old_output_that_cannot_be_put_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "out", "old")
    rename, renamed = Path.rename, []

    def once(self: Path, target: Path) -> Path:
        if renamed:
            raise OSError(errno.EIO, "broken")
        renamed.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(OutputError, match=r"\(broken\), and what was there lies in") as caught:
        put(tmp_path / "out", "new", overwrite=True)
    monkeypatch.undo()
    assert renamed[0] in caught.value.message
    assert caught.value.file == str(tmp_path / "out")
    put(tmp_path / "out", "new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"new", destinations.MANIFEST}


def test_an_exchange_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        staging._renameat2(tmp_path / "a", tmp_path / "b", 2)


def test_a_file_is_written_once(tmp_path: Path) -> None:
    with StagedFolder(tmp_path / "out") as staged:
        staged.write("file", b"first")
        with pytest.raises(OutputError, match="exists"):
            staged.write("file", b"second")
        assert (staged.path / "file").read_bytes() == b"first"
        with closing(cp.open_file(staged.path / "file")) as source, pytest.raises(OutputError, match="exists"):
            staged.copy("file", source)


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again"])
def test_a_lock_that_is_removed_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Its holder may have removed it: who locks the old file must not take it for the lock."""
    lock, flock, taken = tmp_path / ".out.bertconv-lock", fcntl.flock, []

    def late(fd: int, how: int) -> None:
        if not taken:
            lock.rename(tmp_path / "old")
            if again:
                lock.touch()
        taken.append(fd)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with StagedFolder(tmp_path / "out"):
        assert len(taken) == 2
        with pytest.raises(OutputError, match="being written by another"):
            put(tmp_path / "out")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match="nothing was changed: no locks here"):
        put(tmp_path / "out")


def test_only_a_cache_of_the_hub_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "snapshots"
    put(folder / "out")
    assert (folder / "out/file").exists()
    put(tmp_path / "models--mine" / "other" / "out")
    assert (tmp_path / "models--mine/other/out/file").exists()
    with pytest.raises(OutputError, match="cache of the Hub"):
        put(tmp_path / "models--mine" / "snapshots" / "out")


def test_every_file_reaches_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, seen = os.fsync, set()

    def spy(fd: int) -> None:
        seen.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    (tmp_path / "vocab.txt").write_bytes(b"a\nb\n")
    with StagedFolder(tmp_path / "out") as staged:
        staged.write("config.json", b"{}")
        staged.copy("vocab.txt", SourceFile(tmp_path / "vocab.txt"))
        assert {path.stat().st_ino for path in staged.path.iterdir()} == seen
        staged.commit()
    assert (tmp_path / "out/vocab.txt").read_bytes() == b"a\nb\n"
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "out")} <= seen


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("file")])
def test_a_manifest_that_is_no_file_lists_nothing(tmp_path: Path, make: Callable[[Path], object]) -> None:
    put(tmp_path / "out")
    (tmp_path / "out" / destinations.MANIFEST).unlink()
    make(tmp_path / "out" / destinations.MANIFEST)
    with pytest.raises(OutputError, match="did not write"):
        put(tmp_path / "out", overwrite=True)


def test_errors_of_its_own_stay_what_they_are(tmp_path: Path) -> None:
    """Some are an OSError too."""
    said = OutputError("is full.", hint="none")
    with StagedFolder(tmp_path / "out") as staged, pytest.raises(OutputError) as caught, staged.writing():
        raise said
    assert caught.value is said


def test_an_old_manifest_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "out")
    monkeypatch.setattr(destinations, "MANIFEST_BYTES", 10)
    with pytest.raises(OutputError, match="did not write"):
        put(tmp_path / "out", overwrite=True)


def test_an_old_manifest_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    put(tmp_path / "out")
    (tmp_path / "out" / destinations.MANIFEST).rename(tmp_path / "manifest")
    (tmp_path / "out" / destinations.MANIFEST).symlink_to(tmp_path / "manifest")
    with pytest.raises(OutputError, match="did not write"):
        put(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/file").read_bytes() == b"content"


@pytest.mark.parametrize("work", [writing.sync, fill])
def test_weights_are_not_written_through_a_link(tmp_path: Path, work: Callable[..., None]) -> None:
    (tmp_path / "others").write_bytes(b"precious")
    (tmp_path / "weights").symlink_to("others")
    with pytest.raises(OSError, match="symbolic links"):
        work(tmp_path, [OutputFile("weights", FileLayout(100, ()), ())])
    assert (tmp_path / "others").read_bytes() == b"precious"


# A conversion


def test_a_signal_at_the_last_moment(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = SourceFile.check_unchanged

    def interrupted(self: SourceFile) -> None:
        signal.raise_signal(signal.SIGINT)
        check(self)

    monkeypatch.setattr(SourceFile, "check_unchanged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(src, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("touched", [False, True])
def test_what_differs_is_the_source_s_fault_where_it_changed(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched: bool
) -> None:
    def differs(*_: object, **__: object) -> None:
        if touched:
            os.utime(src / "model.safetensors", (1, 1))
        raise ParityError("differs.", hint="none")

    monkeypatch.setattr(derive, "save_weights", differs)
    with pytest.raises(DamagedCheckpoint if touched else ParityError, match="was modified" if touched else "differs"):
        convert_checkpoint(src, tmp_path / "out")


@pytest.mark.parametrize("wanted", [{"to": "h5"}, {"dtype": "int8"}, {"verify": "all"}, {"source_dialect": "jax"}])
def test_requests_that_cannot_be_met(src: Path, tmp_path: Path, wanted: dict[str, str]) -> None:
    (key,) = wanted
    with pytest.raises(RequestError, match=f"^{key} is") as caught:
        convert_checkpoint(src, tmp_path / "out", **wanted)
    assert "Choose one of" in caught.value.hint


# Reading


@pytest.mark.parametrize("lengths", [(3, 2), (2, 3), (0, 1), (1, 0)])
def test_streams_of_different_lengths(lengths: tuple[int, int]) -> None:
    one, other = (np.arange(length, dtype="u4") for length in lengths)
    with pytest.raises(ParityError, match="different lengths"):
        list(lockstep(iter([one]), iter([other])))


def test_what_the_system_cannot_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    file = SourceFile(tmp_path / "file")
    file.close()
    with pytest.raises(DamagedCheckpoint, match="cannot be read at byte 3") as caught:
        file.read(3, 4, "weight")
    assert (caught.value.file, caught.value.tensor) == (str(tmp_path / "file"), "weight")


def test_a_manifest_of_any_size_is_not_read(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_checkpoint(src, tmp_path / "out", to="pt")
    assert check_checkpoint(tmp_path / "out").ok
    monkeypatch.setattr(manifest, "MANIFEST_BYTES", 100)
    with pytest.raises(DamagedCheckpoint):
        check_checkpoint(tmp_path / "out")


@pytest.mark.parametrize(("name", "spans"), [("config.json", 0), ("model.safetensors", 1)])
def test_a_file_that_can_no_longer_be_read_is_a_change(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spans: int
) -> None:
    convert_checkpoint(src, tmp_path / "out", to="pt")
    digest = certificate.frame_digest

    def refuse(file: SourceFile, found: Any) -> str:
        if bool(found) == bool(spans):
            raise DamagedCheckpoint("is on a broken disk.", hint="none")
        return digest(file, found)

    monkeypatch.setattr(certificate, "frame_digest", refuse)
    changes = check_checkpoint(tmp_path / "out").changes
    assert [(change.file, change.tensor) for change in changes] == [(name, "")]
    assert changes[0].what == "can no longer be read: is on a broken disk."


def test_a_tensor_that_can_no_longer_be_read_is_a_change(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_checkpoint(src, tmp_path / "out", to="pt")

    def refuse(*_: object) -> str:
        raise DamagedCheckpoint("is on a broken disk.", hint="none")

    monkeypatch.setattr(certificate, "digest_of", refuse)
    changes = check_checkpoint(tmp_path / "out").changes
    assert changes
    assert {change.what for change in changes} == {"can no longer be read: is on a broken disk."}
