"""A tensor in several chunks, each a box of it that lies in a file of its own or beside others: read as if it were one.

Readers ask for bytes in the tensor's order; here is worked out which chunk has which of them. Nothing is assembled in
memory beyond the buffer that was asked to be filled.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter, mul
from typing import NamedTuple

from bertconv.containers.stored import ITEM_SIZE, SourceFile, Span, StoredTensor
from bertconv.records import dataclass

MAX_CHUNKS = 4096
"""Of one tensor: as many as processes that trained it."""
MAX_COMPARED = 500_000
"""Pairs of chunks that are held against each other; sharded over one axis, there are none."""
_AT_ONCE = 512
"""Buffers that one call fills; Linux takes 1,024."""


class Box(NamedTuple):
    """A part of a tensor: its first index along every axis, and its sizes."""

    corner: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def volume(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def meets(self, other: Box) -> bool:
        """Whether both have an element in common."""
        sides = zip(self.corner, self.shape, other.corner, other.shape, strict=True)
        return all(one < there + length and there < one + size for one, size, there, length in sides)


def fault(shape: tuple[int, ...], boxes: Sequence[Box]) -> str:
    """What is wrong with boxes that should fill a shape, each element once; empty where nothing is."""
    if len(boxes) > MAX_CHUNKS:
        return f"has more than {MAX_CHUNKS:,} chunks"
    for box in boxes:
        if len(box.corner) != len(shape) or len(box.shape) != len(shape):
            return "has a chunk with another number of axes"
        if any(start + size > length for start, size, length in zip(*box, shape, strict=True)):
            return "has a chunk that lies outside of it"
    filled = [box for box in boxes if box.volume]
    if (total := sum(box.volume for box in filled)) != math.prod(shape):
        return f"has chunks of {total:,} elements in all instead of {math.prod(shape):,}"
    if not filled or not shape:
        return ""
    axis = max(range(len(shape)), key=lambda axis: len({box.corner[axis] for box in filled}))
    return _overlap(sorted(filled, key=lambda box: box.corner[axis]), axis)


def _overlap(boxes: Iterable[Box], axis: int) -> str:
    """Look for two boxes that meet, from front to back along an axis."""
    compared = 0
    reaching: list[Box] = []
    for box in boxes:
        reaching = [other for other in reaching if other.corner[axis] + other.shape[axis] > box.corner[axis]]
        compared += len(reaching)
        if compared > MAX_COMPARED:
            return "has more chunks beside each other than are compared"
        if any(box.meets(other) for other in reaching):
            return "has chunks that overlap"
        reaching.append(box)
    return ""


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor that was found: its first index along every axis, and where it lies, in C order."""

    corner: tuple[int, ...]
    stored: StoredTensor


@dataclass(frozen=True)
class ChunkedTensor(StoredTensor):
    """A tensor whose elements lie in chunks that fill it; `file` and `offset` are those of its first chunk.

    Attributes:
        chunks: none is empty, and each element is in exactly one.
    """

    chunks: tuple[Chunk, ...] = ()

    @property
    def is_range(self) -> bool:
        """It is not: something lies between any two chunks."""
        return False

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of its chunks."""
        return tuple(dict.fromkeys(chunk.stored.file for chunk in self.chunks))

    @property
    def place(self) -> tuple[object, ...]:
        """Where each of its chunks lies."""
        return tuple((chunk.corner, chunk.stored.place) for chunk in self.chunks)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """As `StoredTensor.read_into`."""
        self.read_rows([buffer], start)

    def read_rows(self, rows: list[memoryview], start: int) -> None:
        """As `StoredTensor.read_rows`: parts that follow each other in a chunk are read with one call."""
        waiting: dict[int, _Waiting] = {}
        for part in self._parts(rows, start):
            found = waiting.get(id(part.chunk))
            if found is not None and (found.end != part.offset or len(found.buffers) == _AT_ONCE):
                self._fill(found)
                found = None
            if found is None:
                found = waiting[id(part.chunk)] = _Waiting(part.chunk.stored.file, part.offset)
            found.buffers.append(part.buffer)
            found.end += len(part.buffer)
        for found in waiting.values():
            self._fill(found)

    def _fill(self, waiting: _Waiting) -> None:
        waiting.file.read_rows(waiting.buffers, waiting.start, self.name)

    @cached_property
    def _lines(self) -> _Lines:
        return _Lines(self.shape, self.chunks, ITEM_SIZE[self.dtype])

    def _parts(self, rows: list[memoryview], start: int) -> Iterator[_Part]:
        """The buffers cut where one chunk ends and another begins, in the tensor's order."""
        lines = self._lines
        for row in rows:
            done = 0
            while done < len(row):
                line, column = divmod(start + done, lines.length)
                index = lines.index(line)
                sides = lines.at(index)
                for side in sides[bisect_right(sides, column, key=attrgetter("left")) - 1 :]:
                    length = min(side.right - column, len(row) - done)
                    offset = side.base + sum(map(mul, index, side.steps)) + column
                    yield _Part(side.chunk, offset, row[done : done + length])
                    done += length
                    column += length
                    if done == len(row):
                        break
            start += len(row)


class _Part(NamedTuple):
    """Bytes of a chunk, from `offset` of its file on, and where they go."""

    chunk: Chunk
    offset: int
    buffer: memoryview


class _Waiting:
    """Buffers that one call can fill: their bytes follow each other in a file."""

    def __init__(self, file: SourceFile, start: int) -> None:
        self.file = file
        self.start = self.end = start
        self.buffers: list[memoryview] = []


class _Side(NamedTuple):
    """What a chunk has of every line that it is a part of: bytes from `left` to `right` of the line.

    A byte of a line lies in the chunk's file at `base`, plus `steps` times the line's index, and its place in the line.
    """

    left: int
    right: int
    chunk: Chunk
    base: int
    steps: tuple[int, ...]


class _Lines:
    """A tensor as lines of bytes, each along the last axis that is cut; the axes behind it are in the line as a whole.

    Lines have an index along each axis before that one. Between two cuts of these axes all lines have the same chunks.
    """

    def __init__(self, shape: tuple[int, ...], chunks: tuple[Chunk, ...], item: int) -> None:
        cut = [axis for axis, size in enumerate(shape) if any(one.stored.shape[axis] != size for one in chunks)]
        self._axis = cut[-1] if cut else 0
        self._outer = shape[: self._axis]
        self._unit = math.prod(shape[self._axis + 1 :]) * item
        self.length = shape[self._axis] * self._unit
        self._cuts = [sorted({one.corner[axis] for one in chunks}) for axis in range(self._axis)]
        self._among: dict[tuple[int, ...], tuple[Chunk, ...]] = {(): chunks}
        self._cells: dict[tuple[int, ...], list[_Side]] = {}

    def at(self, index: tuple[int, ...]) -> list[_Side]:
        """The chunks that a line is cut into, from left to right."""
        cell = tuple(bisect_right(cuts, place) for cuts, place in zip(self._cuts, index, strict=True))
        found = self._cells.get(cell)
        if found is None:
            found = self._cells[cell] = sorted(self._sides(cell, index), key=attrgetter("left"))
        return found

    def _sides(self, cell: tuple[int, ...], index: tuple[int, ...]) -> Iterator[_Side]:
        for axis, place in enumerate(index):  # what an axis leaves is shared by all cells that begin alike
            if cell[: axis + 1] not in self._among:
                around = self._among[cell[:axis]]
                fitting = (one for one in around if 0 <= place - one.corner[axis] < one.stored.shape[axis])
                self._among[cell[: axis + 1]] = tuple(fitting)
        for chunk in self._among[cell]:
            left = chunk.corner[self._axis]
            right = left + chunk.stored.shape[self._axis]
            width = (right - left) * self._unit
            steps = [width] * self._axis
            for axis in range(self._axis - 1, 0, -1):
                steps[axis - 1] = steps[axis] * chunk.stored.shape[axis]
            base = chunk.stored.offset - sum(map(mul, chunk.corner, steps)) - left * self._unit
            yield _Side(left * self._unit, right * self._unit, chunk, base, tuple(steps))

    def index(self, line: int) -> tuple[int, ...]:
        """The index of a line along each axis before its own."""
        if self._axis <= 1:
            return (line,)[: self._axis]
        found = []
        for size in reversed(self._outer):
            line, place = divmod(line, size)
            found.append(place)
        return tuple(reversed(found))


def assemble(name: str, shape: tuple[int, ...], chunks: Sequence[Chunk]) -> StoredTensor:
    """Chunks that fill a shape (`fault`) as one tensor; a chunk that is all of it, as itself."""
    filled = tuple(sorted((one for one in chunks if one.stored.count), key=lambda chunk: chunk.corner))
    first = (filled or tuple(chunks))[0].stored
    if len(filled) <= 1:
        return StoredTensor(name, first.dtype, shape, first.file, first.offset, first.strides)
    return ChunkedTensor(name, first.dtype, shape, first.file, first.offset, chunks=filled)


@dataclass(frozen=True)
class PiecedTensor(StoredTensor):
    """A tensor whose bytes in C order lie in several pieces of one file; `offset` is where the first begins.

    Attributes:
        pieces: in the tensor's order, as many bytes as it has; they may be cut anywhere, also within a row.
    """

    pieces: tuple[Span, ...] = ()

    @property
    def is_range(self) -> bool:
        """It is not: something lies between any two pieces."""
        return False

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its pieces."""
        return self.pieces

    @property
    def place(self) -> tuple[object, ...]:
        """Where its pieces lie and how they are read."""
        return self.file, self.pieces, self.dtype

    def read_into(self, buffer: memoryview, start: int) -> None:
        """As `StoredTensor.read_into`."""
        for offset, part in apart(self.pieces, buffer, start):
            self.file.read_into(part, offset, self.name)

    def read_rows(self, rows: list[memoryview], start: int) -> None:
        """As `StoredTensor.read_rows`: rows of one piece are read with one call."""
        end, last = start + sum(map(len, rows)), 0
        for piece in self.pieces:
            if last <= start and end <= last + piece.nbytes:
                self.file.read_rows(rows, piece.start + start - last, self.name)
                return
            last += piece.nbytes
        for row in rows:
            self.read_into(row, start)
            start += len(row)


def apart(pieces: Iterable[Span], content: memoryview, start: int) -> Iterator[tuple[int, memoryview]]:
    """Bytes that stand from `start` on in a tensor of these pieces: offset in the file and the part that goes there."""
    done, first = 0, 0
    for piece in pieces:
        low, high = max(start + done, first), min(start + len(content), first + piece.nbytes)
        if low < high:
            yield piece.start + low - first, content[low - start : high - start]
            done = high - start
        first += piece.nbytes


def in_file(name: str, dtype: str, shape: tuple[int, ...], file: SourceFile, spans: Sequence[Span]) -> StoredTensor:
    """A tensor that lies in these spans of a file, of which there is one at the least."""
    if len(spans) == 1:
        return StoredTensor(name, dtype, shape, file, spans[0].start)
    return PiecedTensor(name, dtype, shape, file, spans[0].start, pieces=tuple(spans))
