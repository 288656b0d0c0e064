"""The encodings of classic HDF5 that are written: superblock 0, object headers of version 1, symbol tables.

"HDF5 File Format Specification 3.0", docs.hdfgroup.org; sections in brackets. libhdf5 1.8 and all later ones read them.
Every address and length has eight bytes; everything that has an address is a multiple of eight bytes long.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bertconv.containers.hdf5.constants import (
    ATTRIBUTE,
    CACHED_GROUP,
    CACHED_NOTHING,
    FILL,
    HEAP_HEADER,
    HEAP_LEAST,
    HEAP_START,
    LAYOUT,
    LEAF_K,
    LEAF_SIZE,
    NO_FREE_BLOCK,
    NODE_K,
    NODE_SIZE,
    NOWHERE,
    PER_LEAF,
    PER_NODE,
    SIGNATURE,
    SPACE,
    SYMBOLS,
    TYPE,
)

_BYTE = struct.pack("<4BI2H", 0x10, 0, 0, 0, 1, 0, 8)
"""The type of the bytes of a text: an unsigned integer."""
_CONSTANT = 1
"""Flag of a message that never changes."""


class Member(NamedTuple):
    """What a group has under a name: the address of an object header, and of its symbol table where it is a group."""

    header: int
    tree: int = 0
    heap: int = 0


def padded(content: bytes) -> bytes:
    """With zeros up to the next multiple of eight bytes."""
    return content + bytes(-len(content) % 8)


def superblock(root: Member, size: int) -> bytes:
    """The first bytes of a file of `size` bytes [II.A]."""
    start = struct.pack("<8s8B2HI", SIGNATURE, 0, 0, 0, 0, 0, 8, 8, 0, LEAF_K, NODE_K, 0)
    return start + struct.pack("<4Q", 0, NOWHERE, size, NOWHERE) + _entry(0, root)


# Object headers


def object_header(messages: Sequence[bytes], links: int) -> bytes:
    """An object header of version 1 in one piece, of an object that has so many names [IV.A.1.a]."""
    content = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), links, len(content)) + content


def symbol_table_message(tree: int, heap: int) -> bytes:
    """Where a group's members stand [IV.A.2.r]."""
    return _message(SYMBOLS, struct.pack("<2Q", tree, heap))


def dataset_messages(datatype: bytes, shape: tuple[int, ...], address: int, size: int) -> list[bytes]:
    """What a dataset is: one range of bytes in the file, allocated early and never filled.

    Args:
        datatype: what states the type of its elements.
        shape: its sizes.
        address: of its first byte.
        size: in bytes; 0 has no address.
    """
    return [
        _message(SPACE, _dataspace(shape)),
        _message(TYPE, datatype, _CONSTANT),
        _message(FILL, struct.pack("<4BI", 2, 1, 1, 1, 0), _CONSTANT),
        _message(LAYOUT, struct.pack("<2B2Q", 3, 1, address if size else NOWHERE, size)),
    ]


def text_attribute(name: bytes, value: bytes) -> bytes:
    """An attribute that is one text."""
    return _attribute(name, _dataspace(()), max(len(value), 1), padded(value or b"\0"))


def list_attribute(name: bytes, values: Sequence[bytes], width: int) -> bytes:
    """An attribute that is a list of texts, each with zeros up to a width of so many bytes."""
    content = b"".join(value.ljust(width, b"\0") for value in values)
    return _attribute(name, _dataspace((len(values),)), width, padded(content))


def loose_attribute(name: bytes, length: int, heap: int, number: int) -> bytes:
    """An attribute that is one UTF-8 text of a variable length, as h5py writes it [IV.A.2.d].

    Args:
        name: of the attribute.
        length: of the text in bytes.
        heap: address of the collection in which it lies.
        number: of the text there.
    """
    datatype = struct.pack("<4BI", 0x19, 1, 1, 0, 16) + _BYTE
    head = struct.pack("<Bx3H", 1, len(name) + 1, len(datatype), len(_dataspace(())))
    content = padded(datatype) + _dataspace(()) + struct.pack("<IQI", length, heap, number)
    return _message(ATTRIBUTE, head + padded(name + b"\0") + content)


def heap(texts: Sequence[bytes]) -> bytes:
    """A collection of the global heap with these texts, numbered from 1 [III.E]; nothing where there are none."""
    if not texts:
        return b""
    objects = [padded(struct.pack("<HHIQ", n, 0, 0, len(text)) + text) for n, text in enumerate(texts, 1)]
    content = b"".join(objects)
    size = max(HEAP_LEAST, 16 + len(content) + 16)
    free = size - 16 - len(content)
    return (HEAP_START + struct.pack("<Q", size) + content + struct.pack("<HHIQ", 0, 0, 0, free)).ljust(size, b"\0")


def text_width(values: Sequence[bytes]) -> int:
    """Bytes of every text of a list."""
    return max(map(len, values), default=1) or 1


def _attribute(name: bytes, dataspace: bytes, width: int, content: bytes) -> bytes:
    datatype = struct.pack("<4BI", 0x13, 1, 0, 0, width)  # a text that ends with zeros [IV.A.2.d]
    head = struct.pack("<Bx3H", 1, len(name) + 1, len(datatype), len(dataspace))
    return _message(ATTRIBUTE, head + padded(name + b"\0") + datatype + dataspace + content)


def _dataspace(shape: tuple[int, ...]) -> bytes:
    """Sizes that are their own limits [IV.A.2.b]."""
    return struct.pack("<3B5x", 1, len(shape), bool(shape)) + struct.pack(f"<{2 * len(shape)}Q", *shape, *shape)


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    content = padded(content)
    return struct.pack("<2HB3x", kind, len(content), flags) + content


# Symbol tables


class SymbolTable:
    """The members of a group: a heap of names, and a B-tree over leaves in their order [III.A.1, III.B, III.C, III.D].

    All of it lies together: the heap, the nodes of the tree from its root downwards, then the leaves.

    Args:
        names: of the members.
        address: where it begins.
    """

    def __init__(self, names: Sequence[bytes], address: int) -> None:
        self.names = sorted(names)
        self.heap = address
        self._segment, self._offsets = self._named()
        self.tree = self.heap + HEAP_HEADER + len(self._segment)
        counts = [-(-len(names) // PER_LEAF)]
        while len(counts) == 1 or counts[-1] > 1:
            counts.append(max(-(-counts[-1] // PER_NODE), 1))
        self._counts = counts[:0:-1]
        self._leaves = self.tree + sum(self._counts) * NODE_SIZE
        self.end = self._leaves + counts[0] * LEAF_SIZE

    def to_bytes(self, members: Mapping[bytes, Member]) -> bytes:
        """All of it, now that the members' addresses are known."""
        head = struct.pack("<4sB3x3Q", b"HEAP", 0, len(self._segment), NO_FREE_BLOCK, self.heap + HEAP_HEADER)
        return b"".join((head, self._segment, *self._nodes(), *self._filled(members)))

    def _named(self) -> tuple[bytes, list[int]]:
        """The names, each with its end, behind an empty one; and where each begins."""
        pieces, offsets, end = [bytes(8)], [], 8
        for name in self.names:
            offsets.append(end)
            pieces.append(padded(name + b"\0"))
            end += len(pieces[-1])
        return b"".join(pieces), offsets

    def _nodes(self) -> Iterator[bytes]:
        """Every node says of its children where they are, and after each the last name in it."""
        address, span = self.tree, PER_LEAF * PER_NODE ** len(self._counts)
        for depth, count in enumerate(self._counts):
            below = address + count * NODE_SIZE
            size = NODE_SIZE if depth + 1 < len(self._counts) else LEAF_SIZE
            span //= PER_NODE
            for number in range(count):
                left = address + (number - 1) * NODE_SIZE if number else NOWHERE
                right = address + (number + 1) * NODE_SIZE if number + 1 < count else NOWHERE
                first = number * PER_NODE
                children = range(first, min(first + PER_NODE, -(-len(self.names) // span)))
                keys = [self._last(child * span) for child in (*children, children.stop)] if children else [0]
                pairs = [
                    word for key, child in zip(keys, children, strict=False) for word in (key, below + child * size)
                ]
                head = struct.pack("<4s2BH2Q", b"TREE", 0, len(self._counts) - 1 - depth, len(children), left, right)
                yield (head + struct.pack(f"<{len(pairs) + 1}Q", *pairs, keys[-1])).ljust(NODE_SIZE, b"\0")
            address = below

    def _last(self, count: int) -> int:
        """Where the last of the first `count` names begins; 0, which is an empty one, before the first."""
        return self._offsets[min(count, len(self.names)) - 1] if count else 0

    def _filled(self, members: Mapping[bytes, Member]) -> Iterator[bytes]:
        for first in range(0, len(self.names), PER_LEAF):
            there = range(first, min(first + PER_LEAF, len(self.names)))
            entries = b"".join(_entry(self._offsets[number], members[self.names[number]]) for number in there)
            yield (struct.pack("<4sBxH", b"SNOD", 1, len(there)) + entries).ljust(LEAF_SIZE, b"\0")


def _entry(name: int, member: Member) -> bytes:
    """A symbol table entry: the name's offset in the heap, and what it names [III.C]."""
    cached = CACHED_GROUP if member.tree else CACHED_NOTHING
    return struct.pack("<2QI4x2Q", name, member.header, cached, member.tree, member.heap)
