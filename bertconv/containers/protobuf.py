"""The wire format of protocol buffers, read with bounds and written: numbers and bytes under numbered fields.

Nothing here knows a message: its reader asks for the fields by their numbers. Groups, which nobody writes any more, are
refused, and so is every length that leads out of what was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bertconv.containers.stored import SourceFile

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields (wire types)."""
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10
"""Bytes of a number of 64 bits."""


class WireError(ValueError):
    """What was read is no message; the text ends a sentence that begins with the file."""


class Field(NamedTuple):
    """One field.

    Attributes:
        number: of the field in its message.
        kind: VARINT, FIXED64, BYTES or FIXED32.
        value: the number, unsigned; of BYTES, their length.
        start: place of the first byte of its content, in what was given.
    """

    number: int
    kind: int
    value: int
    start: int


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, of 64 bits at most, and the place behind it; WireError where there is none."""
    if at < len(data) and data[at] < 128:  # nearly always
        return data[at], at + 1
    value = 0
    for place in range(at, min(at + _LONGEST, len(data))):
        byte = data[place]
        value |= (byte & 127) << 7 * (place - at)
        if byte < 128:
            if value >> 64:
                break
            return value, place + 1
    raise WireError("has a number that does not end, or is too large")


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message in their order; WireError where it is none."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        field = _field(data, key, at, len(data))
        at = field.start + (field.value if field.kind == BYTES else 0)
        if field.kind in _FIXED:
            size = _FIXED[field.kind]
            field = field._replace(value=int.from_bytes(data[at : at + size], "little"))
            at += size
        elif field.kind == VARINT:
            at = field.start
        yield field


def fields_in(file: SourceFile, start: int, length: int) -> Iterator[Field]:
    """The fields of a message that lies in a file, of whose contents nothing is read: `start` counts from the file's.

    Args:
        file: the file.
        start: the message's first byte.
        length: of the message.

    Raises:
        WireError: it is no message, or does not lie in the file.
        DamagedCheckpoint: the file cannot be read.
    """
    at, end = start, start + length
    if not 0 <= start <= end <= file.size:
        raise WireError(f"has a message that ends at byte {end:,}, and the file at {file.size:,}")
    while at < end:
        head = file.read(at, min(2 * _LONGEST, end - at))
        key, behind = read_varint(head, 0)
        field = _field(head, key, behind, end - at)
        field = field._replace(start=at + field.start)
        at = field.start + (field.value if field.kind == BYTES else _FIXED.get(field.kind, 0))
        if field.kind in _FIXED:
            field = field._replace(value=int.from_bytes(file.read(field.start, _FIXED[field.kind]), "little"))
        yield field


def _field(data: bytes, key: int, at: int, end: int) -> Field:
    """A field whose key was read: `end` is where its message ends, in the counting of `at`.

    Of a VARINT, `start` is behind it, so that the next field begins there whatever the kind.
    """
    number, kind = key >> 3, key & 7
    if not 0 < number < 1 << 29:
        raise WireError(f"has a field of number {number:,}")
    if kind in (VARINT, BYTES):
        value, at = read_varint(data, at)
        size = value if kind == BYTES else 0
    elif kind in _FIXED:
        value, size = 0, _FIXED[kind]
    else:
        raise WireError(f"has a field of kind {kind}")
    if size > end - at:
        raise WireError(f"has a field of {size:,} bytes where {max(end - at, 0):,} are left")
    return Field(number, kind, value, at)


def content(data: bytes, field: Field) -> bytes:
    """The bytes of a field of `data`; WireError where it is a number."""
    if field.kind != BYTES:
        raise WireError(f"has a number in field {field.number}, which should be bytes")
    return data[field.start : field.start + field.value]


def text(data: bytes, field: Field) -> str:
    """The text of a field of `data`; WireError where it is none."""
    try:
        return content(data, field).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"has a text in field {field.number} that is no UTF-8") from error


def number(field: Field) -> int:
    """The unsigned number of a field; WireError where it is no varint."""
    if field.kind != VARINT:
        raise WireError(f"has something else in field {field.number}, which should be a number")
    return field.value


def signed(field: Field) -> int:
    """The number of a field of type int64; WireError where it is no varint."""
    value = number(field)
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """A number as it is written."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_number(number: int, value: int) -> bytes:
    """A varint field; nothing where it is zero, as the third version of the language has it."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def write_fixed32(number: int, value: int) -> bytes:
    """A fixed32 field; nothing where it is zero."""
    return varint(number << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""


def write_bytes(number: int, value: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value
