"""Ranges: runs of them, blocks that files share, and headers that are padded for it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv.containers.container import FileLayout
from bertconv.containers.stored import SourceFile, StoredTensor
from bertconv.convert import convert_checkpoint
from bertconv.errors import OutputError
from bertconv.formats import ranges
from bertconv.formats.content import Content, Origin, OutputFile, Placed
from bertconv.mapping.layout import Transpose
from bertconv.saving import extra_spec

HEAD = "BertForMaskedLM"
BLOCK = ranges.BLOCK


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return aligned(cp.save(tmp_path / "in", HEAD, dict(sorted(cp.state_dict(HEAD).items()))))


def aligned(folder: Path) -> Path:
    """A header as the reference writer pads it, and 800 bytes that it would not have."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    path.write_bytes(cp.with_header(raw[8:end] + b" " * (-end % 8 + 800), raw[end:]))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SourceFile]:
    path = tmp_path / "source"
    path.write_bytes(bytes(9))
    opened = SourceFile(path)
    yield opened
    opened.close()


def placed(file: SourceFile, start: int, offset: int, length: int = 10, **options: Any) -> Placed:
    """A tensor of bytes from one place to another."""
    name = f"from{start}"
    stored = StoredTensor(name, "uint8", (length,), file, start, options.get("strides"))
    origin = Origin(stored, options.get("transpose"))
    return Placed(Content(extra_spec(name, (length,)), options.get("dtype", "uint8"), origin), offset)


def places(found: list[ranges.Run]) -> list[tuple[int, int, int]]:
    return [(run.start, run.offset, run.end) for run in found]


def test_tensors_that_follow_each_other_are_one_run(file: SourceFile) -> None:
    tensors = [placed(file, 110, 30), placed(file, 100, 20), placed(file, 120, 40, 5)]
    assert places(ranges.runs(tensors)) == [(100, 20, 45)]
    assert [one.offset for one in ranges.runs(tensors)[0].tensors] == [20, 30, 40]


def test_what_ends_a_run(file: SourceFile, tmp_path: Path) -> None:
    other = SourceFile(tmp_path / "source")
    first, apart = placed(file, 100, 20), [(100, 20, 30), (110, 30, 40)]
    assert places(ranges.runs([first, placed(file, 111, 30)])) == [(100, 20, 30), (111, 30, 40)]
    assert places(ranges.runs([first, placed(file, 110, 31)])) == [(100, 20, 30), (110, 31, 41)]
    assert places(ranges.runs([first, placed(file, 111, 31)])) == [(100, 20, 30), (111, 31, 41)]
    assert places(ranges.runs([first, placed(other, 110, 30)])) == apart
    other.close()


def test_what_is_no_range(file: SourceFile) -> None:
    turned = placed(file, 0, 0, transpose=Transpose.of_matrix(2, 5))
    made = Placed(Content(extra_spec("made", (2,)), "uint8", Origin()), 0)
    others = [placed(file, 0, 0, 0), placed(file, 0, 0, dtype="bool"), placed(file, 0, 0, strides=(1,)), turned, made]
    assert ranges.runs(others) == []


def test_parts_are_cut_between_tensors(file: SourceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PART", 20)
    [run] = ranges.runs([placed(file, 100 + start, start) for start in range(0, 70, 10)])
    assert places(list(ranges.parts(run))) == [(100, 0, 20), (120, 20, 40), (140, 40, 60), (160, 60, 70)]


# Padding


@pytest.mark.parametrize(
    ("start", "rest", "expected"),
    [(8 + 4000, 0, 3928), (80, 0, 0), (80 + 5 * BLOCK, 0, 0), (81, 0, 0), (96, 1 << 19, 16), (96, 1 << 21, 0)],
)
def test_padding(file: SourceFile, start: int, rest: int, expected: int) -> None:
    """Where the largest run is most of the file, and its place can be kept with whole words."""
    one = placed(file, start, 80, ranges.LEAST_SHARED)
    layout = FileLayout(80 + ranges.LEAST_SHARED + rest, (80,), {})
    assert ranges.padding(OutputFile("a", layout, (one.content,))) == expected


def test_no_padding_for_a_small_file(file: SourceFile) -> None:
    one = placed(file, 96, 80, ranges.LEAST_SHARED - 1)
    layout = FileLayout(80 + one.content.nbytes, (80,), {})
    assert ranges.padding(OutputFile("a", layout, (one.content,))) == 0
    assert ranges.padding(OutputFile("a", FileLayout(80, (), {}), ())) == 0


def data_begins(folder: Path) -> int:
    return 8 + int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")


def test_a_padded_output(tmp_path: Path, src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other readers read it; what it is does not depend on whether blocks are shared; another conversion is as good."""
    convert_checkpoint(src, tmp_path / "plain", to="pt")
    assert (data_begins(tmp_path / "plain") - data_begins(src)) % BLOCK
    monkeypatch.setattr(ranges, "LEAST_SHARED", BLOCK)
    report = convert_checkpoint(src, tmp_path / "out", to="pt")
    assert (data_begins(tmp_path / "out") - data_begins(src)) % BLOCK == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.state_dict(HEAD))
    again = convert_checkpoint(tmp_path / "out", tmp_path / "again", to="pt")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()
    assert again.digest == report.digest
    monkeypatch.setattr(fcntl, "ioctl", shared_by_copying)
    convert_checkpoint(src, tmp_path / "shared", to="pt")
    assert cp.snapshot(tmp_path / "shared") == cp.snapshot(tmp_path / "out")


# Sharing, where the file system is made up


def shared_by_copying(fd: int, request: int, wanted: bytes) -> None:
    """FICLONERANGE as it is documented, on any file system."""
    source, start, length, offset = struct.unpack("=qQQQ", wanted)
    assert request == 0x4020940D
    if start % BLOCK or length % BLOCK or offset % BLOCK or length == 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.pwrite(fd, os.pread(source, length, start), offset)


@pytest.mark.parametrize("verify", ["none", "weights"])
@pytest.mark.parametrize("part", [1000, 32 << 20])
def test_what_is_shared_is_not_copied(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: str, part: int
) -> None:
    copied, done = [], []
    copy, pwrite = os.copy_file_range, os.pwrite

    def in_kernel(source: int, target: int, length: int, start: int, offset: int) -> int:
        count = copy(source, target, length, start, offset)
        copied.append(range(offset, offset + count))
        return count

    def by_hand(fd: int, content: memoryview, offset: int) -> int:
        copied.append(range(offset, offset + len(content)))
        return pwrite(fd, content, offset)

    def share(*arguments: Any) -> None:
        monkeypatch.setattr(os, "pwrite", pwrite)
        shared_by_copying(*arguments)
        _, _, length, offset = struct.unpack("=qQQQ", arguments[2])
        done.append(range(offset, offset + length))
        monkeypatch.setattr(os, "pwrite", by_hand)

    monkeypatch.setattr(ranges, "LEAST_SHARED", BLOCK)
    monkeypatch.setattr(ranges, "PART", part)
    monkeypatch.setattr(os, "copy_file_range", in_kernel)
    monkeypatch.setattr(fcntl, "ioctl", share)
    seen: list[int] = []
    report = convert_checkpoint(
        src, tmp_path / "out", to="pt", verify=verify,
        progress=lambda step, now, _: seen.append(now) if step == "writing" else None,
    )  # fmt: skip
    assert len(done) == 1
    assert len(done[0]) > report.nbytes - 2 * BLOCK
    assert not any(set(span) & set(done[0]) for span in copied)
    assert seen[-1] == report.nbytes
    cp.assert_same(cp.written(tmp_path / "out"), cp.state_dict(HEAD))


@pytest.mark.parametrize("code", ["EOPNOTSUPP", "EXDEV", "EINVAL", "ENOTTY", "EPERM", "ENOSYS"])
def test_a_file_system_that_does_not_share(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    asked = []

    def refuse(fd: int, *_: object) -> None:
        asked.append(fd)
        raise OSError(getattr(errno, code), "no")

    monkeypatch.setattr(ranges, "LEAST_SHARED", BLOCK)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.state_dict(HEAD))
    assert len(asked) == 1


def test_a_pair_of_files_is_given_up(file: SourceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(fd: int, *_: object) -> None:
        asked.append(fd)
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    [run] = ranges.runs([placed(file, 0, 0, ranges.LEAST_SHARED)])
    sharing = ranges.Sharing()
    assert [sharing.share(run, fd) for fd in (3, 3, 4)] == [run, run, run]
    assert asked == [3, 4]


@pytest.mark.parametrize("run", [(0, 8, ranges.LEAST_SHARED + BLOCK), (8, 8, ranges.LEAST_SHARED)], ids=str)
def test_what_is_not_tried(file: SourceFile, monkeypatch: pytest.MonkeyPatch, run: tuple[int, int, int]) -> None:
    """Another place within a block, or too little that is whole."""
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: pytest.fail("asked"))
    [found] = ranges.runs([placed(file, *run)])
    assert ranges.Sharing().share(found, 3) == found


def test_a_disk_that_fails(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ranges, "LEAST_SHARED", BLOCK)
    monkeypatch.setattr(fcntl, "ioctl", fail)
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError, match=os.strerror(errno.EIO)):
        convert_checkpoint(src, tmp_path / "out", to="pt")
    assert cp.snapshot(tmp_path) == before


# Sharing, on XFS


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A file system with reflinks, in a file; skipped where the machine does not let us mount one."""
    if not (os.geteuid() == 0 and shutil.which("mkfs.xfs") and shutil.which("mount")):
        pytest.skip("needs root, xfsprogs and mount: FICLONERANGE was not tried on a real file system")
    image, folder = tmp_path / "image", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    folder.mkdir()
    for command in (["mkfs.xfs", "-q", "-m", "reflink=1", image], ["mount", "-o", "loop", image, folder]):
        if (done := subprocess.run(command, capture_output=True, check=False)).returncode:
            pytest.skip(f"cannot mount XFS: {done.stderr.decode(errors='replace')}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def used(folder: Path) -> int:
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.skipif(sys.platform != "linux", reason="FICLONERANGE is Linux's")
@pytest.mark.parametrize("verify", ["none", "weights"])
def test_blocks_are_shared(xfs: Path, verify: str) -> None:
    """Twelve megabytes take no room a second time, and are what they were."""
    state = cp.state_dict(HEAD)
    word = "bert.embeddings.word_embeddings.weight"
    width = state[word].shape[1]
    state[word] = cp.random_array(((12 << 20) // (4 * width), width), "float32", 1)
    for name in ("cls.predictions.bias", "cls.predictions.decoder.bias", "cls.predictions.decoder.weight"):
        if name in state:
            state[name] = state[word].copy() if name.endswith("weight") else np.zeros(len(state[word]), np.float32)
    src = aligned(cp.save(xfs / "in", HEAD, state, vocab_size=len(state[word])))
    nbytes = (src / "model.safetensors").stat().st_size
    before = used(xfs)
    convert_checkpoint(src, xfs / "out", to="pt", verify=verify)
    assert used(xfs) - before < nbytes // 4
    cp.assert_same(cp.written(xfs / "out"), state)
