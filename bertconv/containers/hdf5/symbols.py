"""The names in a group: a tree of nodes whose leaves are tables, and a heap that holds the names.

Source: sections III.A.1, III.B, III.C and III.D of the HDF5 File Format Specification 3.0.
"""

from __future__ import annotations

from operator import lt
from struct import Struct

from bertconv.containers.hdf5.constants import (
    CACHED_GROUP,
    CACHED_NOTHING,
    HEAP_HEADER,
    LEAF_SIZE,
    NO_FREE_BLOCK,
    NODE_SIZE,
    NOWHERE,
    PER_LEAF,
    PER_NODE,
)
from bertconv.containers.hdf5.pages import Pages, require
from bertconv.records import dataclass

MOST_LEVELS = 6
"""Deepest tree: 8 names in a table, and at least 16 children in all nodes but the last."""
MOST_NAME = 4096
"""Bytes of a name: more than the walk takes."""

_TREE = Struct("<4sBBHQQ").unpack
_HEAP = Struct("<4sIQQQ").unpack
_TABLE = Struct("<4sBBH").unpack
_ENTRY = Struct("<QQIIQQ")
_FREE = Struct("<QQ").unpack_from


@dataclass(frozen=True)
class Symbol:
    """Where a name leads: the address of a header, and the tree and heap that are said to be its, if it is a group."""

    address: int
    cached: tuple[int, int] | None


def symbol_of(entry: tuple[int, int, int, int, int, int]) -> Symbol:
    """What an entry says, without its name.

    Raises:
        NotClassic: a soft link, or one of another kind.
    """
    _, address, kind, reserved, tree, heap = entry
    require(kind in (CACHED_NOTHING, CACHED_GROUP) and not reserved, "a name of another kind")
    return Symbol(address, (tree, heap) if kind == CACHED_GROUP else None)


def root_of(superblock: bytes) -> Symbol:
    """The root's, of the 96 bytes of a superblock."""
    entry = _ENTRY.unpack_from(superblock, 56)
    require(entry[0] == 0, "a root with a name")
    return symbol_of(entry)


def read_symbols(pages: Pages, tree: int, heap: int) -> dict[bytes, Symbol]:
    """All names of a group, ascending.

    Raises:
        NotClassic: anything that libhdf5 does not write so.
    """
    reading = _Reading(pages, _read_heap(pages, heap))
    reading.read_root(tree)
    return reading.found


@dataclass(frozen=True)
class _Node:
    """A node of a tree that is to be read.

    Attributes:
        address: where it lies.
        low: the names in it come after this one.
        high: none comes after this one.
    """

    address: int
    low: bytes
    high: bytes


class _Reading:
    """A tree that is being read, and the names found so far."""

    def __init__(self, pages: Pages, heap: bytes) -> None:
        self.pages = pages
        self.heap = heap
        self.found: dict[bytes, Symbol] = {}

    def read_root(self, address: int) -> None:
        level, left, right, rows = self._tree(address)
        require(level <= MOST_LEVELS and left == right == NOWHERE, "a tree whose root is odd")
        if not rows:
            require(level == 0, "a tree of nothing")
            return
        nodes = rows
        while level:
            level -= 1
            nodes = self._next_level(nodes, level)
        for node in nodes:
            self._table(node)

    def _next_level(self, nodes: list[_Node], level: int) -> list[_Node]:
        """The children of nodes that follow each other on one level."""
        children: list[_Node] = []
        before = NOWHERE
        for node, after in zip(nodes, [*(node.address for node in nodes[1:]), NOWHERE], strict=True):
            own, left, right, rows = self._tree(node.address)
            require(own == level and (left, right) == (before, after) and rows != [], "a tree whose nodes are odd")
            require(rows[0].low == node.low and rows[-1].high == node.high, "a tree whose bounds are odd")
            children += rows
            before = node.address
        return children

    def _tree(self, address: int) -> tuple[int, int, int, list[_Node]]:
        data = self.pages.take(address, NODE_SIZE)
        magic, kind, level, used, left, right = _TREE(data[:24])
        require(magic == b"TREE" and kind == 0 and used <= PER_NODE, "a tree of another kind")
        numbers = Struct(f"<{2 * used + 1}Q").unpack_from(data, 24)
        keys = [self._name(offset) for offset in numbers[::2]]
        require(not used or all(map(lt, keys, keys[1:])), "a tree that is out of order")
        return level, left, right, list(map(_Node, numbers[1::2], keys, keys[1:]))

    def _table(self, node: _Node) -> None:
        data = self.pages.take(node.address, LEAF_SIZE)
        magic, version, reserved, used = _TABLE(data[:8])
        require(magic == b"SNOD" and version == 1 and not reserved and 0 < used <= PER_LEAF, "a table of another kind")
        last = node.low
        for number in range(used):
            entry = _ENTRY.unpack_from(data, 8 + number * _ENTRY.size)
            name = self._name(entry[0])
            require(last < name <= node.high and b"/" not in name and name != b".", "names that are out of order")
            self.found[name] = symbol_of(entry)
            last = name

    def _name(self, offset: int) -> bytes:
        end = self.heap.find(b"\0", offset, offset + MOST_NAME + 1)
        require(offset % 8 == 0 and offset < len(self.heap) and end >= 0, "a name outside of its heap")
        self.pages.charge(end - offset)  # names may lie in each other
        return self.heap[offset:end]


def _read_heap(pages: Pages, address: int) -> bytes:
    magic, version, size, free, segment = _HEAP(pages.take(address, HEAP_HEADER))
    require(magic == b"HEAP" and version == 0, "a heap of another kind")
    require(size >= 8 and size % 8 == 0, "a heap of an odd size")
    heap = pages.take(segment, size)
    gaps: list[tuple[int, int]] = []
    while free != NO_FREE_BLOCK:
        require(free % 8 == 0 and free + 16 <= size and len(gaps) < size // 16, "a gap at an odd place")
        following, length = _FREE(heap, free)
        require(length >= 16 and length % 8 == 0 and free + length <= size, "a gap that does not fit")
        gaps.append((free, free + length))
        free = following
    end = 8  # the empty name comes first
    for start, stop in sorted(gaps):
        require(start >= end, "gaps that overlap")
        end = stop
    require(heap[:8] == bytes(8), "a heap without the empty name")
    return heap
