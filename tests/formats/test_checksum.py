"""Checksums: of the source as it is read, and of what was written; and the faults that only they show."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import saving
from bertconv.convert import convert_checkpoint
from bertconv.errors import ParityError
from bertconv.formats import ranges, readback, streaming, transfer
from bertconv.formats.checksum import Checksum, PanelChecksum, Taken
from bertconv.formats.content import OutputFile

HEAD = "BertForMaskedLM"
FORMATS = ("pt", "tf", "tf-safetensors")
EACH = pytest.mark.parametrize("form", FORMATS)
DTYPES = pytest.mark.parametrize("dtype", ["keep", "bfloat16"])


@pytest.fixture(params=["safetensors", "bin", "h5"])
def src(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD), request.param)


@pytest.fixture(params=[16 << 20, 1000], ids=["whole", "panels"])
def panel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a panel: matrices fit into it or do not."""
    monkeypatch.setattr(streaming, "PANEL", request.param)


def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksums have to do: a difference of theirs is one, and no source is read again without one."""
    monkeypatch.setattr(readback, "_compare", lambda *_, **__: pytest.fail("compared"))


# Both passes agree


@pytest.mark.usefixtures("panel")
@EACH
@DTYPES
def test_sound_outputs_need_no_second_look(
    src: Path, tmp_path: Path, form: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_second_look(monkeypatch)
    report = convert_checkpoint(src, tmp_path / "out", to=form, dtype=dtype)
    monkeypatch.undo()
    assert convert_checkpoint(src, tmp_path / "again", to="pt", dtype=dtype).digest == report.digest


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_panels_and_whole_rows_agree(rows: int) -> None:
    matrix = np.arange(64 * 50, dtype=np.uint16).reshape(64, 50)
    whole, parts = PanelChecksum(50, 13), PanelChecksum(50, 13)
    for top in range(0, 64, rows):
        whole.update(matrix[top : top + rows].copy().reshape(-1).data)
    for left in range(0, 50, 13):
        for top in range(0, 64, 16):
            parts.rows(matrix[top : top + 16, left : left + 13], top, left)
    assert whole.value() == parts.value()
    for other in (matrix[::-1], matrix[:, ::-1], np.roll(matrix, 13, 1), matrix ^ np.uint16(1)):
        found = PanelChecksum(50, 13)
        found.update(np.ascontiguousarray(other).reshape(-1).data)
        assert found.value() != whole.value()


def test_rows_and_bytes_agree() -> None:
    padded = np.arange(120, dtype=np.uint32).reshape(10, 12)[:, :9]
    rows, flat = Checksum(), Checksum()
    rows.rows(padded, 0, 0)
    flat.update(memoryview(np.ascontiguousarray(padded)).cast("B"))
    assert rows.value() == flat.value()
    assert len(flat.value()) == 16
    assert Checksum().value() != flat.value()


# Sources are read once


@EACH
def test_every_source_is_read_once(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    src = cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD))
    path, preadv, counted, lock = src / "model.safetensors", os.preadv, [], threading.Lock()

    def count(fd: int, buffers: list[Any], offset: int) -> int:
        done = preadv(fd, buffers, offset)
        if os.path.samestat(os.fstat(fd), path.stat()):
            with lock:
                counted.append(done)
        return done

    monkeypatch.setattr(os, "preadv", count)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: pytest.fail("copied unseen"))
    report = convert_checkpoint(src, tmp_path / "out", to=form)
    header = path.stat().st_size - report.nbytes
    assert report.nbytes <= sum(counted) <= report.nbytes + 3 * header + 4096  # recognised, and its header read


def test_ranges_need_no_numpy(tmp_path: Path) -> None:
    """They are copied while it is imported, or are all that there is to do."""
    src = cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD))
    watch = (
        "import sys, bertconv.formats.writing as w; batches, seen = w._batches, []\n"
        "def watched(*a, **k):\n"
        " for batch in batches(*a, **k):\n"
        "  print('numpy' in sys.modules, len(batch) > 0, file=sys.stderr)\n"
        "  yield batch\n"
        "w._batches = watched"
    )
    done = cp.run("convert", src, tmp_path / "out", "--to", "tf-safetensors", "--verify", "none", before=watch)
    assert [line for line in done.err.splitlines() if line.startswith(("True", "False"))] == ["False True", "True True"]


# Faults


def failed(src: Path, out: Path, form: str, **options: Any) -> ParityError:
    before = cp.snapshot(out.parent)
    with pytest.raises(ParityError) as caught:
        convert_checkpoint(src, out, to=form, **options)
    assert cp.snapshot(out.parent) == before
    return caught.value


def reversed_columns(piece: np.ndarray, rows: int) -> np.ndarray:
    return np.ascontiguousarray(piece.reshape(-1, rows)[:, ::-1]).reshape(-1)


@pytest.mark.usefixtures("panel")
@pytest.mark.parametrize("wrong", ["not at all", "rows reversed"])
@pytest.mark.parametrize(
    ("container", "form"),
    [("safetensors", "tf"), ("safetensors", "tf-safetensors"), ("h5", "pt"), ("tf-safetensors", "pt")],
)
def test_a_wrong_transpose(
    tmp_path: Path, container: str, form: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD), container)
    right = transfer.pieces

    def pieces(tensor: Any, turn: Any, workspace: Any, as_read: Any = None) -> Iterator[np.ndarray]:
        if turn is None:
            yield from right(tensor, turn, workspace)
            return
        found = [piece.copy() for piece in right(tensor, turn, workspace, as_read)]
        if wrong == "not at all":
            yield from right(tensor, None, workspace)
        else:
            yield from (reversed_columns(piece, turn.shape[0]) for piece in found)

    monkeypatch.setattr(transfer, "pieces", pieces)
    error = failed(src, tmp_path / "out", form)
    assert "differs from its source at element" in error.message
    assert error.tensor is not None


@EACH
@DTYPES
def test_a_lost_write(src: Path, tmp_path: Path, form: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk says that it has the bytes, and does not."""
    lost: list[int] = []

    def losing(pwrite: Callable[..., None]) -> Callable[..., None]:
        def write(fd: int, content: memoryview, offset: int) -> None:
            if lost or len(content) < 2048 or not any(content):
                pwrite(fd, content, offset)
            else:
                lost.append(offset)

        return write

    monkeypatch.setattr(ranges, "pwrite", losing(ranges.pwrite))
    assert "differs from its source at element 0 " in failed(src, tmp_path / "out", form, dtype=dtype).message
    assert len(lost) == 1


@EACH
def test_a_swapped_pair(src: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors of one shape in each other's place."""
    write = saving.write_weights

    def swapped(folder: Path, files: list[OutputFile], *rest: Any, **options: Any) -> Any:
        found = write(folder, files, *rest, **options)
        one, other = (
            placed for placed in files[0].tensors if placed.content.id in {"layer.0.query.weight", "layer.0.key.weight"}
        )
        with (folder / files[0].name).open("r+b") as file:
            parts = [os.pread(file.fileno(), each.content.nbytes, each.offset) for each in (one, other)]
            os.pwrite(file.fileno(), parts[1], one.offset)
            os.pwrite(file.fileno(), parts[0], other.offset)
        return found

    monkeypatch.setattr(saving, "write_weights", swapped)
    assert "element 0 " in failed(src, tmp_path / "out", form).message


def test_what_was_read_wrongly_at_first(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source and output are equal when they are looked at again, and the checksum was of something else."""
    write = saving.write_weights

    def other(*arguments: Any, **options: Any) -> dict[str, Taken]:
        return {name: taken._replace(checksum=bytes(16)) for name, taken in write(*arguments, **options).items()}

    monkeypatch.setattr(saving, "write_weights", other)
    error = failed(src, tmp_path / "out", "tf")
    assert "differs from what was first read of its source" in error.message
    assert error.hint


@pytest.mark.parametrize("flip", [False, True])
def test_without_a_checksum_the_source_is_read_again(
    src: Path, tmp_path: Path, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = saving.write_weights

    def none(folder: Path, files: list[OutputFile], *rest: Any, **options: Any) -> dict[str, Taken]:
        write(folder, files, *rest, **options)
        if flip:
            with (folder / files[0].name).open("r+b") as file:
                file.seek(files[0].tensors[3].offset)
                file.write(b"\x01\x02\x03\x04")
        return {}

    monkeypatch.setattr(saving, "write_weights", none)
    if flip:
        assert "element" in failed(src, tmp_path / "out", "tf").message
    else:
        assert convert_checkpoint(src, tmp_path / "out", to="tf").verified == "weights"
