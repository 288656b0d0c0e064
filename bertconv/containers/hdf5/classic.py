"""A reader of classic HDF5 in plain Python: what Keras 2, h5py by default, transformers and we write.

Superblock 0, version 1 object headers, groups of symbol tables, data in one piece, of little-endian numbers. It knows
no more than that, and accepts nothing that libhdf5 would not write: all else is `NotClassic`, and left to libhdf5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from bertconv.containers.hdf5 import constants, messages, objects
from bertconv.containers.hdf5.constants import SIGNATURE, SUPERBLOCK
from bertconv.containers.hdf5.heap import Heap
from bertconv.containers.hdf5.messages import Messages, read_messages
from bertconv.containers.hdf5.pages import NotClassic, Pages, require
from bertconv.containers.hdf5.symbols import Symbol, read_symbols, root_of
from bertconv.containers.hdf5.walk import Found, walk
from bertconv.containers.stored import ITEM_SIZE, MAX_NAME, SourceFile

_START = SIGNATURE + bytes((0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0)) + bytes(12) + b"\xff" * 8
"""Signature, versions, widths of 8 bytes, room in tables and trees, flags, base address, no list of free space."""
_END, _DRIVER = slice(40, 48), slice(48, 56)


def read_classic(file: SourceFile) -> Found:
    """What `walk` finds in a file.

    Raises:
        NotClassic: not of this kind to the last byte, or too large for this reader.
        UnsafeCheckpoint, DamagedCheckpoint, UnsupportedCheckpoint: as for `walk`.
    """
    require(file.size >= SUPERBLOCK, "too short")
    pages = Pages(file)
    block = pages.take(0, SUPERBLOCK)
    require(block.startswith(_START) and block[_DRIVER] == b"\xff" * 8, "a superblock of another kind")
    require(int.from_bytes(block[_END], "little") == file.size, "an end at another place")
    root = _Tree(pages).open(root_of(block))
    if not isinstance(root, Group):
        raise NotClassic("a root that is no group")
    found = walk(root)
    pages.check_apart()
    return found


class _Tree:
    """A file's objects, each read once."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.heap = Heap(pages)
        self._known: dict[int, Group | Dataset] = {}

    def open(self, symbol: Symbol) -> Group | Dataset:
        """The object that a name leads to."""
        found = self._known.get(symbol.address)
        if found is None:
            found = self._known[symbol.address] = self._read(symbol.address)
        require(symbol.cached in (None, found.table if isinstance(found, Group) else None), "a group of two places")
        return found

    def _read(self, address: int) -> Group | Dataset:
        held = read_messages(self.pages, address)
        if constants.SYMBOLS in held.single:
            require(len(held.single) == 1, "a group of another kind")
            return Group(self, address, held)
        require(_OF_DATASETS <= held.single.keys() <= _OF_DATASETS | {constants.TIME}, "a dataset of another kind")
        return Dataset(self.pages, held, _label(self, held.attributes, constants.OPAQUE_ATTRIBUTE))


_OF_DATASETS = {constants.SPACE, constants.TYPE, constants.FILL, constants.LAYOUT}


class Group(objects.Group):
    """A group, whose names are read when they are asked for."""

    def __init__(self, tree: _Tree, address: int, held: Messages) -> None:
        self._tree = tree
        self._address = address
        self._attributes = held.attributes
        self.table = messages.symbols_of(held.single[constants.SYMBOLS])
        self._read: dict[str | bytes, Symbol] | None = None

    @property
    def address(self) -> int:
        """Where its header lies."""
        return self._address

    @property
    def _symbols(self) -> dict[str | bytes, Symbol]:
        if self._read is None:
            symbols = read_symbols(self._tree.pages, *self.table)
            self._read = {_text(name): symbol for name, symbol in symbols.items()}
        return self._read

    def count(self) -> int:
        """How many names are in it."""
        return len(self._symbols)

    def names(self) -> Iterable[str | bytes]:
        """Its names, ascending."""
        return iter(self._symbols)

    def has(self, name: str) -> bool:
        """Whether a name is in it."""
        return name in self._symbols

    def is_hard(self, name: str) -> bool:
        """Whether a name is in it: others than hard links are not read."""
        return name in self._symbols

    def open(self, name: str) -> objects.Group | objects.Dataset:
        """What a name leads to."""
        return self._tree.open(self._symbols[name])

    def attributes(self) -> Iterable[str]:
        """Names of its attributes."""
        return iter(self._attributes)

    def attribute(self, name: str) -> objects.Attribute | None:
        """One of its attributes."""
        return self._attributes[name][0] if name in self._attributes else None

    def text(self, name: str) -> bytes:
        """The value of an attribute that is one text of a fixed length."""
        return _fixed(self._attributes[name][1])

    def label(self, name: str) -> str | None:
        """The value of an attribute that is one text of any length."""
        return _label(self._tree, self._attributes, name)


class Dataset(objects.Dataset):
    """A dataset.

    Args:
        pages: of its file.
        held: its messages.
        says: what its attribute says of its elements, where they are of a type that HDF5 does not know.
    """

    def __init__(self, pages: Pages, held: Messages, says: str | None) -> None:
        self._dtype = messages.dtype_of(held.single[constants.TYPE], says)
        self._shape = messages.shape_of(held.single[constants.SPACE])
        self._extent = messages.data_of(held.single[constants.LAYOUT])
        offset, size = self._extent
        if offset is not None:
            nbytes = math.prod(self._shape) * ITEM_SIZE[self._dtype]
            require(size == nbytes > 0 and offset + size <= pages.size, "data outside of the file")
            pages.reserve(offset, size)

    def is_elsewhere(self) -> bool:
        """Data elsewhere are not read."""
        return False

    def element(self) -> objects.Element:
        """Its elements."""
        return objects.Element(number=True, dtype=self._dtype, nbytes=ITEM_SIZE[self._dtype])

    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self._shape

    def is_plain(self) -> bool:
        """Data of other kinds are not read."""
        return True

    def extent(self) -> tuple[int | None, int]:
        """Offset of its data, and their size."""
        return self._extent


def _label(tree: _Tree, attributes: Mapping[str, tuple[objects.Attribute, bytes]], name: str) -> str | None:
    if name not in attributes:
        return None
    known, value = attributes[name]
    if known.shape != () or not (known.fixed_text or known.loose_text):
        return None
    require(known.loose_text or known.nbytes <= MAX_NAME, "a text that is too long")
    text = _text(_fixed(value) if known.fixed_text else tree.heap.text(value))
    if not isinstance(text, str):
        raise NotClassic("a text that is not UTF-8")
    return text


def _fixed(value: bytes) -> bytes:
    value = value.rstrip(b"\0")
    require(b"\0" not in value, "a text that goes on behind its end")
    return value


def _text(name: bytes) -> str | bytes:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name
