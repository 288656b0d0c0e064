"""The global heap of a file, where texts of a variable length lie: section III.E of the format's specification.

Keras 3 keeps the names of its layers there. A damaged one can make libhdf5 hang: it is read to the last byte.
"""

from __future__ import annotations

from struct import Struct

from bertconv.containers.hdf5.constants import HEAP_LEAST, HEAP_START
from bertconv.containers.hdf5.pages import Pages, require
from bertconv.containers.stored import MAX_NAME

MOST_COLLECTION = 4 << 20
"""Bytes of one collection: libhdf5 makes them of 4,096, and ours holds the names of all layers of a model."""

_PLACE = Struct("<IQI").unpack
_OBJECT = Struct("<HHIQ").unpack_from


class Heap:
    """The collections of one file, each read once."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._known: dict[int, dict[int, bytes]] = {}

    def text(self, value: bytes) -> bytes:
        """The text that an attribute's value leads to: its length, its collection and its number there.

        Raises:
            NotClassic: it leads to nothing that libhdf5 would have written.
        """
        length, address, number = _PLACE(value)
        require(length <= MAX_NAME, "a text that is too long")
        if address not in self._known:
            self._known[address] = self._collection(address)
        found = self._known[address].get(number)
        require(found is not None and len(found) == length and b"\0" not in found, "a text that is not there")
        return found or b""

    def _collection(self, address: int) -> dict[int, bytes]:
        start, size = Struct("<8sQ").unpack(self._pages.take(address, 16))
        sound = start == HEAP_START and HEAP_LEAST <= size <= MOST_COLLECTION and size % 8 == 0
        require(sound, "a heap of another kind")
        data = self._pages.take(address + 16, size - 16)
        found: dict[int, bytes] = {}
        at = 0
        while len(data) - at >= 16:
            number, _, reserved, length = _OBJECT(data, at)
            require(not reserved, "an object of a heap with reserved bits")
            if number == 0:  # the rest is free
                require(length == len(data) - at, "a gap within a heap")
                return found
            at += 16
            end = at + length
            require(end <= len(data) and number not in found, "an object of a heap that does not fit")
            found[number] = data[at:end]
            at = end + -length % 8
        require(at <= len(data) and not any(data[at:]), "a heap that goes on behind its end")
        return found
