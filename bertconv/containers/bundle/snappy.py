"""Snappy, in which a table may keep its blocks (format: github.com/google/snappy, format_description.txt)."""

from __future__ import annotations

from bertconv.containers.protobuf import WireError, read_varint

_LITERAL, _SHORT, _MIDDLE = 0, 1, 2
_INLINE = 60
"""From this length on a literal's length has bytes of its own."""


def decompress(data: bytes, limit: int) -> bytes:
    """What was compressed.

    Args:
        data: the compressed bytes.
        limit: most bytes of it.

    Raises:
        WireError: no such bytes, or more than the limit.
    """
    length, at = read_varint(data, 0)
    if length > limit:
        raise WireError(f"has a compressed block of {length:,} bytes (limit {limit:,})")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == _LITERAL:
            size, at = _literal(data, tag, at)
            out += data[at : at + size]
            at += size
        else:
            size, back, at = _copy(data, tag, at)
            if not 0 < back <= len(out):
                raise WireError("has a compressed block that repeats what was not there")
            part = bytes(out[-back:][:size])
            out += (part * (size // len(part) + 1))[:size]
        if at > len(data) or len(out) > length:
            raise WireError("has a compressed block that does not end where it should")
    if len(out) != length:
        raise WireError("has a compressed block that does not end where it should")
    return bytes(out)


def _literal(data: bytes, tag: int, at: int) -> tuple[int, int]:
    """Size of a literal, and where it begins."""
    size = tag >> 2
    if size >= _INLINE:
        width = size - _INLINE + 1
        size = int.from_bytes(data[at : at + width], "little")
        at += width
    return size + 1, at


def _copy(data: bytes, tag: int, at: int) -> tuple[int, int, int]:
    """Size of a copy, how far back it lies, and what follows it."""
    if tag & 3 == _SHORT:
        return (tag >> 2 & 7) + 4, tag >> 5 << 8 | int.from_bytes(data[at : at + 1], "little"), at + 1
    width = 2 if tag & 3 == _MIDDLE else 4
    return (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little"), at + width
