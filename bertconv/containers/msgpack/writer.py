"""The bytes of a msgpack file around its arrays: what `flax.serialization.to_bytes` makes of the same tree.

Flax hands its tree to JAX, which has the keys of every map in their order as texts ("10" before "2"). An array of more
than `CHUNK` bytes becomes a map of flat arrays.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from bertconv.containers.container import Entry, FileLayout
from bertconv.containers.msgpack.constants import ARRAY, CHUNKED, SEPARATOR
from bertconv.containers.stored import ITEM_SIZE, Span
from bertconv.errors import MappingError

CHUNK = 1 << 30
"""Most bytes of an array in one piece: `flax.serialization.MAX_CHUNK_SIZE`."""

Tree = dict[str, "Tree | int"]

_TEXT = ((0xD9, "B"), (0xDA, "H"), (0xDB, "I"))
_BINARY = ((0xC4, "B"), (0xC5, "H"), (0xC6, "I"))
_EXTENSION = ((0xC7, "B"), (0xC8, "H"), (0xC9, "I"))
_UNSIGNED = ((0xCC, "B"), (0xCD, "H"), (0xCE, "I"), (0xCF, "Q"))
_LIST = ((0xDC, "H"), (0xDD, "I"))
_MAP = ((0xDE, "H"), (0xDF, "I"))
_FIXED = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}


def lay_out(entries: Sequence[Entry], chunk: int | None = None) -> FileLayout:
    """A file with room for every tensor.

    Args:
        entries: the tensors.
        chunk: most bytes of an array in one piece; by default `CHUNK`.
    """
    writer = _Writer(entries, CHUNK if chunk is None else chunk)
    writer.map(_tree(entries))
    writer.flush()
    offsets = tuple(writer.spans[number][0].start for number in range(len(entries)))
    spans = {number: tuple(spans) for number, spans in writer.spans.items() if len(spans) > 1}
    return FileLayout(writer.size, offsets, writer.parts, spans)


class _Writer:
    """Goes through the file, from piece of structure to piece of structure."""

    def __init__(self, entries: Sequence[Entry], chunk: int) -> None:
        self.entries = entries
        self.chunk = chunk
        self.size = 0
        self.parts: dict[int, bytes] = {}
        self.spans: dict[int, list[Span]] = {}
        self.open = bytearray()

    def map(self, tree: Tree) -> None:
        self.open += _head(len(tree), _MAP, (0x80, 16))
        for key, value in sorted(tree.items()):
            self.open += _text(key)
            if isinstance(value, dict):
                self.map(value)
            elif self.entries[value].nbytes > self.chunk:
                self.pieces(value)
            else:
                self.array(value, self.entries[value].shape)

    def pieces(self, number: int) -> None:
        entry = self.entries[number]
        count, step = math.prod(entry.shape), max(self.chunk // ITEM_SIZE[entry.dtype], 1)
        lengths = [min(step, count - start) for start in range(0, count, step)]
        self.open += _head(3, _MAP, (0x80, 16)) + _text(CHUNKED) + b"\xc3" + _text("shape")
        self.open += _head(len(entry.shape), _MAP, (0x80, 16))
        for axis, size in enumerate(entry.shape):
            self.open += _text(str(axis)) + _unsigned(size)
        self.open += _text("chunks") + _head(len(lengths), _MAP, (0x80, 16))
        for piece, length in enumerate(lengths):
            self.open += _text(str(piece))
            self.array(number, (length,))

    def array(self, number: int, shape: tuple[int, ...]) -> None:
        dtype = self.entries[number].dtype
        nbytes = math.prod(shape) * ITEM_SIZE[dtype]
        inner = b"\x93" + _head(len(shape), _LIST, (0x90, 16)) + b"".join(map(_unsigned, shape)) + _text(dtype)
        inner += _head(nbytes, _BINARY)
        size = len(inner) + nbytes
        head = bytes([_FIXED[size]]) if size in _FIXED else _head(size, _EXTENSION)
        self.open += head + bytes([ARRAY]) + inner
        self.flush()
        self.spans.setdefault(number, []).append(Span(self.size, nbytes))
        self.size += nbytes

    def flush(self) -> None:
        """Put down what came since the last array."""
        if self.open:
            self.parts[self.size] = bytes(self.open)
            self.size += len(self.open)
            self.open.clear()


def _tree(entries: Sequence[Entry]) -> Tree:
    """The numbers of the entries, by the parts of their names."""
    root: Tree = {}
    for number, entry in enumerate(entries):
        *parts, last = entry.name.split(SEPARATOR)
        place: Tree | int = root
        for part in parts:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place
        if not isinstance(place, dict) or last in place:
            hint = "Report this as a bug."
            raise MappingError("has the name of another tensor, or of a part of one.", hint=hint, tensor=entry.name)
        place[last] = number
    return root


def _head(size: int, codes: Sequence[tuple[int, str]], short: tuple[int, int] = (0, 0)) -> bytes:
    """A length behind the first code that has room for it; `short` is a code that holds lengths below a limit."""
    if size < short[1]:
        return bytes([short[0] | size])
    code, form = next(pair for pair in codes if size < 256 ** struct.calcsize(pair[1]))
    return bytes([code]) + struct.pack(f">{form}", size)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _head(len(raw), _TEXT, (0xA0, 32)) + raw


def _unsigned(number: int) -> bytes:
    return _head(number, _UNSIGNED, (0, 128))
