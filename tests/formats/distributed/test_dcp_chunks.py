"""A tensor in chunks reads as the array that it was cut from: whole, in rows, and in any order of its axes."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from bertconv.containers.chunks import MAX_CHUNKS, MAX_COMPARED, Box, Chunk, ChunkedTensor, assemble, fault
from bertconv.containers.stored import SourceFile, StoredTensor
from bertconv.errors import DamagedCheckpoint
from bertconv.formats import streaming
from bertconv.formats.streaming import Workspace, pieces
from bertconv.mapping.layout import Transpose

SHAPES = [(7,), (1,), (13, 11), (64, 3), (5, 4, 6), (3, 1, 5, 4)]


def cut(rng: random.Random, box: Box, depth: int) -> list[Box]:
    """A box in boxes, cut and cut again along any axis: no grid."""
    axes = [axis for axis, size in enumerate(box.shape) if size > 1]
    if not depth or not axes:
        return [box]
    axis = rng.choice(axes)
    at = rng.randrange(1, box.shape[axis])
    corner, first, second = list(box.corner), list(box.shape), list(box.shape)
    corner[axis] += at
    first[axis], second[axis] = at, box.shape[axis] - at
    one, other = Box(box.corner, tuple(first)), Box(tuple(corner), tuple(second))
    return [*cut(rng, one, depth - 1), *cut(rng, other, depth - 1)]


def tiles(rng: random.Random, shape: tuple[int, ...]) -> list[Box]:
    found = cut(rng, Box((0,) * len(shape), shape), rng.randrange(1, 6))
    empty = Box((*shape[:1], *(0,) * (len(shape) - 1)), (0, *shape[1:]))
    return [*found, *([empty] if rng.random() < 0.5 else [])]


def stored(folder: Path, rng: random.Random, array: np.ndarray, boxes: list[Box]) -> StoredTensor:
    """The boxes of an array in two files, with something between them."""
    data = [bytearray(b"x" * 3), bytearray()]
    chunks, order = [], list(boxes)
    rng.shuffle(order)
    places = {}
    for box in order:
        number = rng.randrange(2)
        part = array[tuple(slice(a, a + b) for a, b in zip(*box, strict=True))]
        places[box] = number, len(data[number])
        data[number] += part.tobytes() + b"between"
    files = []
    for number, content in enumerate(data):
        (folder / str(number)).write_bytes(content)
        files.append(SourceFile(folder / str(number)))
    for box in boxes:
        number, offset = places[box]
        chunks.append(Chunk(box.corner, StoredTensor("t", array.dtype.name, box.shape, files[number], offset)))
    return assemble("t", array.shape, chunks)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_reads_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], seed: int) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(streaming, "PIECE", rng.choice([16, 100, 1 << 20]))
    monkeypatch.setattr(streaming, "PANEL", rng.choice([64, 16 << 20]))
    array = np.arange(np.prod(shape), dtype=rng.choice([np.int64, np.float32, np.uint16])).reshape(shape)
    boxes = tiles(rng, shape)
    assert fault(shape, boxes) == ""
    tensor = stored(tmp_path, rng, array, boxes)
    for order in permutations(range(len(shape))):
        turn = Transpose(shape, order) if order != tuple(range(len(shape))) else None
        read = np.concatenate([piece.copy() for piece in pieces(tensor, turn, Workspace())])
        assert read.tobytes() == array.transpose(order).tobytes(), order
    if isinstance(tensor, ChunkedTensor):
        raw = array.tobytes()
        for _ in range(20):
            start = rng.randrange(len(raw))
            buffers = [memoryview(bytearray(rng.randrange(1, 9))) for _ in range(rng.randrange(1, 5))]
            length = sum(map(len, buffers))
            if start + length <= len(raw):
                tensor.read_rows(buffers, start)
                assert b"".join(buffers) == raw[start : start + length]


def test_one_call_for_each_chunk_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of two processes: the rows of a piece come of each with one call for 512 of them, not one each."""
    array = np.arange(2000 * 6, dtype=np.float32).reshape(2000, 6)
    tensor = stored(tmp_path, random.Random(0), array, [Box((0, 0), (2000, 4)), Box((0, 4), (2000, 2))])
    calls = []
    read = SourceFile.read_rows
    monkeypatch.setattr(SourceFile, "read_rows", lambda *given: calls.append(len(given[1])) or read(*given))
    assert b"".join(piece.tobytes() for piece in pieces(tensor, None, Workspace())) == array.tobytes()
    assert calls == [512, 512, 512, 512, 512, 512, 464, 464]


def test_a_file_that_is_cut_off_later(tmp_path: Path) -> None:
    array = np.arange(40, dtype=np.float32).reshape(10, 4)
    tensor = stored(tmp_path, random.Random(0), array, [Box((0, 0), (10, 2)), Box((0, 2), (10, 2))])
    for number in "01":
        (tmp_path / number).write_bytes((tmp_path / number).read_bytes()[:20])
    with pytest.raises(DamagedCheckpoint, match="too early"):
        list(pieces(tensor, None, Workspace()))


@pytest.mark.parametrize("seed", range(10))
def test_faults(seed: int) -> None:
    """A box that is moved, left out, doubled or made larger is found, whatever the cut."""
    rng = random.Random(seed)
    shape = rng.choice([(9, 8), (6, 5, 4), (30,)])
    boxes = cut(rng, Box((0,) * len(shape), shape), 4)
    number = rng.randrange(len(boxes))
    box = boxes[number]
    axis = rng.randrange(len(shape))
    moved = list(box.corner)
    moved[axis] += 1 if moved[axis] == 0 else -1
    larger = list(box.shape)
    larger[axis] += 1
    for wrong in ([], [box, box], [Box(tuple(moved), box.shape)], [Box(box.corner, tuple(larger))]):
        assert fault(shape, [*boxes[:number], *wrong, *boxes[number + 1 :]]) != ""


def test_work_is_bounded() -> None:
    side = int((3 * MAX_COMPARED) ** 0.5)
    tall = [Box((0, column), (side, 1)) for column in range(side)]
    wide = [Box((row, side), (1, side)) for row in range(side)]
    assert "beside each other" in fault((side, 2 * side), [*tall, *wide])
    rows = [Box((row,), (1,)) for row in range(MAX_CHUNKS + 1)]
    assert "more than 4,096" in fault((len(rows),), rows)
    assert fault((MAX_CHUNKS,), rows[:MAX_CHUNKS]) == ""
