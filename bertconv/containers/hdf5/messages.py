"""Messages of version 1 object headers, as libhdf5 writes them; whatever else they may hold is left to libhdf5.

Source: sections IV.A.1 and IV.A.2 of the HDF5 File Format Specification 3.0; equal bytes mean equal things there.
"""

from __future__ import annotations

import math
from struct import Struct

from bertconv.containers.hdf5.constants import (
    ATTRIBUTE,
    CONTINUATION,
    FILL,
    LAYOUT,
    NIL,
    NOWHERE,
    NUMBERS,
    OPAQUE,
    OPAQUE_DTYPE,
    SPACE,
    SYMBOLS,
    TIME,
    TYPE,
)
from bertconv.containers.hdf5.objects import Attribute
from bertconv.containers.hdf5.pages import NotClassic, Pages, require
from bertconv.containers.stored import MAX_RANK
from bertconv.records import dataclass

_FLAGS = {SPACE: (0, 1), TYPE: (1,), FILL: (1,), LAYOUT: (0, 1), ATTRIBUTE: (0,), SYMBOLS: (0,), TIME: (0,)}
_PREFIX = Struct("<BBHIII").unpack
_MESSAGE = Struct("<HHBBH").unpack_from
_TWO = Struct("<QQ").unpack_from
_MOST_SIZE = 1 << 40

_PADDED = {written + bytes(-len(written) % 8): name for name, written in NUMBERS.items()}
_UNPADDED = frozenset(NUMBERS.values())
_BYTE = NUMBERS["uint8"]
_VARIABLE = {bytes((0x19, 1 | pad << 4, text, 0, 16, 0, 0, 0)) + _BYTE for pad in (0, 1) for text in (0, 1)}
"""Text of a variable length: padding and alphabet may differ."""
_FIXED = {bytes((0x13, pad | text << 4, 0, 0)) for pad in (0, 1) for text in (0, 1)}
"""Text of a fixed length, which ends with a zero or is padded with them; the length follows."""


@dataclass(frozen=True)
class Messages:
    """A header's messages: those of which there is one, by kind, and the attributes by name, with their bytes."""

    single: dict[int, bytes]
    attributes: dict[str, tuple[Attribute, bytes]]


def read_messages(pages: Pages, address: int) -> Messages:
    """All messages of an object, each whole and of a kind that is known.

    Raises:
        NotClassic: anything else.
    """
    version, reserved, count, links, size, padding = _PREFIX(pages.take(address, 16))
    require(version == 1 and not reserved and not padding and links > 0, "an object header of another kind")
    found = Messages({}, {})
    blocks = [(address + 16, size)]
    for start, length in blocks:  # which grow on the way
        require(length > 0 and length % 8 == 0, "a block of a header of an odd size")
        data = pages.take(start, length)
        offset = 0
        while offset < length:
            kind, size, flags, reserved, more = _MESSAGE(data, offset)
            begin, offset = offset + 8, offset + 8 + size
            count -= 1
            require(count >= 0 and size % 8 == 0 and offset <= length, "a message that does not fit")
            require(not reserved and not more, "a message with reserved bits")
            if kind == CONTINUATION:
                require(size == 16 and not flags, "a continuation of another kind")
                blocks.append(_TWO(data, begin))
            elif kind != NIL:
                require(flags in _FLAGS.get(kind, ()), "a message of another kind")
                _add(found, kind, data[begin:offset])
            else:
                require(not flags, "a gap with flags")
    require(count == 0, "messages that are missing")
    return found


def _add(found: Messages, kind: int, body: bytes) -> None:
    if kind == ATTRIBUTE:
        name, attribute, value = _attribute(body)
        require(name not in found.attributes, "an attribute that is there twice")
        found.attributes[name] = attribute, value
        return
    require(kind not in found.single, "a message that is there twice")
    if kind == TIME:
        require(len(body) == 8 and body[:4] == b"\1\0\0\0", "a time of another kind")
    elif kind == FILL:
        known = len(body) == 8 and body[0] == 2 and body[1] in (1, 2, 3) and body[2] in (0, 1, 2)
        require(known and body[3:] == b"\1\0\0\0\0", "a fill value of another kind")
    found.single[kind] = body


def shape_of(body: bytes) -> tuple[int, ...]:
    """The sizes that a message of a dataspace says."""
    require(len(body) >= 8 and body[0] == 1 and body[2] in (0, 1) and not any(body[3:8]), "a dataspace of another kind")
    rank, limited = body[1], body[2]
    require(rank <= MAX_RANK and len(body) == 8 + 8 * rank * (1 + limited), "a dataspace of an odd size")
    require(limited == (rank > 0), "a dataspace without limits")
    numbers = Struct(f"<{rank * (1 + limited)}Q").unpack_from(body, 8)
    shape = numbers[:rank]
    require(not limited or shape == numbers[rank:], "a dataspace that can grow")
    require(all(size < _MOST_SIZE for size in shape), "a dataspace that is too large")
    return shape


def dtype_of(body: bytes, says: str | None) -> str:
    """The element type that a message of a dataset's type says, or its attribute where Keras 3 keeps opaque bytes."""
    if body == OPAQUE and says == OPAQUE_DTYPE:
        return OPAQUE_DTYPE
    if body not in _PADDED:
        raise NotClassic("elements of another kind")
    return _PADDED[body]


def data_of(body: bytes) -> tuple[int | None, int]:
    """Address and size that a message of a layout says, None for none."""
    require(len(body) == 24 and body[:2] == b"\3\1" and not any(body[18:]), "a layout of another kind")
    address, size = _TWO(body, 2)
    return (None if address == NOWHERE else address), size


def symbols_of(body: bytes) -> tuple[int, int]:
    """Addresses of the tree and the heap that a group's message says."""
    require(len(body) == 16, "a group's message of another kind")
    tree, heap = _TWO(body, 0)
    return tree, heap


def _attribute(body: bytes) -> tuple[str, Attribute, bytes]:
    require(len(body) >= 8 and body[:2] == b"\1\0", "an attribute of another kind")
    sizes = Struct("<HHH").unpack_from(body, 2)
    parts, offset = [], 8
    for size in sizes:
        padded = body[offset : offset + size + -size % 8]
        offset += size + -size % 8
        require(not any(padded[size:]), "an attribute with reserved bytes")
        parts.append(padded[:size])
    require(sizes[2] % 8 == 0, "an attribute whose dataspace is odd")
    require(offset <= len(body), "an attribute that is cut")
    name = _name(parts[0])
    fixed, loose, item = _item(parts[1])
    shape = shape_of(parts[2])
    nbytes = math.prod(shape) * item
    require(len(body) == offset + nbytes + -nbytes % 8, "an attribute that does not fit")
    return name, Attribute(fixed, shape, nbytes, loose), body[offset : offset + nbytes]


def _name(stored: bytes) -> str:
    require(stored.find(b"\0") == len(stored) - 1 > 0, "a name that is not whole")
    try:
        return stored[:-1].decode()
    except UnicodeDecodeError as error:
        raise NotClassic("an attribute whose name is not UTF-8") from error


def _item(kind: bytes) -> tuple[bool, bool, int]:
    """Whether an attribute's type is text of a fixed length, or of a variable one, and its size in bytes."""
    size = int.from_bytes(kind[4:8], "little")
    if kind in _UNPADDED or kind in _VARIABLE:
        return False, kind in _VARIABLE, size
    require(len(kind) == 8 and kind[:4] in _FIXED and size > 0, "an attribute of another type")
    return True, False, size
