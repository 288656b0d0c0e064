"""A sorted table of keys and values in one file, as LevelDB has it: what a bundle's index is.

Blocks of entries, each with a checksum; an index of the blocks, whose entries are the last key of a block or one that
lies behind it, and the block's place; at the end 48 bytes that say where that index is. TensorFlow looks a key up by
bisection, so the order of everything is checked here: what is read entry by entry is then what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.constants import MAGIC
from bertconv.containers.bundle.snappy import decompress
from bertconv.containers.protobuf import WireError, read_varint, varint

MAX_ENTRIES = 100_000
"""Most entries that are read: tensors and their slices."""
MAX_KEY = 8192
"""Longest key in bytes."""
_FOOTER = 48
_TRAILER = 5
_PLAIN, _SNAPPY = 0, 1
_MAX_CONTENT = 16_000_000
"""Most bytes of all blocks together, once they are decompressed."""
_MAX_COMPRESSED = 2_000_000
"""Most bytes of a compressed block: TensorFlow writes none of any length, and LevelDB's have four thousand."""
_RESTART = 16
_BLOCK = 4096

Handle = tuple[int, int]


class UnknownCompressionError(WireError):
    """Blocks that are compressed in a way that is not read."""


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in their order, of a file's bytes.

    Raises:
        WireError: it is no such table, or a checksum differs.
        UnknownCompressionError: its blocks are compressed in a way that is not read.
    """
    if len(data) < _FOOTER or not data.endswith(MAGIC):
        raise WireError("does not end as an index of TensorFlow does")
    limit = len(data) - _FOOTER
    meta, at = _handle(data, limit)
    index, at = _handle(data, at)
    if data[at:-8].strip(b"\0"):
        raise WireError("has something else in its last bytes than an index has")
    room = _Room()
    blocks = [(key, *_whole_handle(value)) for key, value in _entries(_block(data, index, limit, room))]
    places = [(offset, size) for _, offset, size in blocks]
    _check_places([*places, meta, index], limit)
    for _ in _entries(_block(data, meta, limit, room)):
        raise WireError("has an index of something else than its blocks")
    last, bound, count = b"", None, 0
    for most, offset, size in blocks:
        first = True
        for key, value in _entries(_block(data, (offset, size), limit, room)):
            if (count and key <= last) or (bound is not None and key <= bound):
                raise WireError("has keys that are not in order")
            last, first = key, False
            count += 1
            if count > MAX_ENTRIES:
                raise WireError(f"has more than {MAX_ENTRIES:,} entries")
            yield key, value
        if first or most < last:
            raise WireError("has a block that its own index describes wrongly")
        bound = most


class _Room:
    """How many bytes blocks may still have."""

    def __init__(self) -> None:
        self.left = _MAX_CONTENT

    def take(self, size: int) -> None:
        """Some of it."""
        self.left -= size
        if self.left < 0:
            raise WireError(f"has blocks of more than {_MAX_CONTENT:,} bytes")


def _handle(data: bytes, at: int) -> tuple[Handle, int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _whole_handle(value: bytes) -> Handle:
    handle, end = _handle(value, 0)
    if end != len(value):
        raise WireError("has a block whose place is said with too many bytes")
    return handle


def _check_places(places: Sequence[Handle], limit: int) -> None:
    """Blocks one after the other, from the first byte to the last 48: no byte is anybody else's."""
    at = 0
    for offset, size in places:
        if offset != at:
            raise WireError(f"has a block at byte {offset:,} where one ends at byte {at:,}")
        at = offset + size + _TRAILER
    if at != limit:
        raise WireError(f"has blocks up to byte {at:,} and its last {_FOOTER} from byte {limit:,} on")


def _block(data: bytes, handle: Handle, limit: int, room: _Room) -> bytes:
    """The content of a block."""
    offset, size = handle
    if offset + size + _TRAILER > limit:
        raise WireError(f"has a block that ends at byte {offset + size + _TRAILER:,}, after the last one")
    content, kind = data[offset : offset + size], data[offset + size]
    stored = int.from_bytes(data[offset + size + 1 : offset + size + _TRAILER], "little")
    if masked([content, bytes([kind])]) != stored:  # guard: block-checksum
        raise WireError(f"has a block at byte {offset:,} that differs from its checksum")
    if kind == _PLAIN:
        room.take(size)
        return content
    if kind != _SNAPPY:
        raise UnknownCompressionError(f"is compressed in a way that is not known (number {kind})")
    if size > _MAX_COMPRESSED:
        raise WireError(f"has a compressed block of {size:,} bytes (limit {_MAX_COMPRESSED:,})")
    room.take(size)
    found = decompress(content, room.left)
    room.take(len(found))
    return found


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, whose places for a bisection must be those of entries with a whole key."""
    if len(block) < 8:
        raise WireError("has a block that is too short")
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * count
    if count < 1 or end < 0:
        raise WireError("has a block that is too short for its own list of places")
    if count > MAX_ENTRIES:
        raise WireError(f"has a block of more than {MAX_ENTRIES:,} entries")
    restarts = [int.from_bytes(block[place : place + 4], "little") for place in range(end, len(block) - 4, 4)]
    whole: set[int] = set()
    key, at, number = b"", 0, 0
    while at < end:
        start = at
        number += 1
        if number > MAX_ENTRIES:
            raise WireError(f"has a block of more than {MAX_ENTRIES:,} entries")
        shared, at = read_varint(block, at)
        rest, at = read_varint(block, at)
        size, at = read_varint(block, at)
        if shared > len(key) or shared + rest > MAX_KEY or at + rest + size > end:
            raise WireError("has an entry that leads out of its block")
        key = key[:shared] + block[at : at + rest]
        at += rest
        if not shared:
            whole.add(start)
        yield key, block[at : at + size]
        at += size
    plain = restarts[0] == 0 and all(one < other for one, other in pairwise(restarts))
    if not plain or not (whole.issuperset(restarts) or (end == 0 and restarts == [0])):
        raise WireError("has a block whose list of places is not one of its entries")


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a table of these keys and values, which must be in the order of the keys."""
    out = bytearray()

    def put(block: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(block))
        kind = bytes([_PLAIN])
        out.extend(block + kind + masked([block, kind]).to_bytes(4, "little"))
        return handle

    index: list[tuple[bytes, bytes]] = []
    group: list[tuple[bytes, bytes]] = []
    for key, value in items:
        group.append((key, value))
        if sum(len(one) + len(other) for one, other in group) >= _BLOCK:
            index.append((key, put(_packed(group, _RESTART))))
            group = []
    if group:
        index.append((group[-1][0], put(_packed(group, _RESTART))))
    places = put(_packed([], _RESTART)) + put(_packed(index, 1))
    return bytes(out) + places.ljust(_FOOTER - len(MAGIC), b"\0") + MAGIC


def _packed(items: Sequence[tuple[bytes, bytes]], restart: int) -> bytes:
    """A block, with every so manieth key whole."""
    out, starts, last = bytearray(), [], b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % restart == 0:
            starts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    places = starts or [0]
    return bytes(out) + b"".join(one.to_bytes(4, "little") for one in (*places, len(places)))
