"""A file elsewhere with the interface of one that lies here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.source.remote.blocks import PAGE, Blocks
from bertconv.source.remote.patience import explained, patiently
from bertconv.source.remote.store import Facts, Store, changed

_numbers = count(1)
_GLANCES = 64 * PAGE
"""Longest read that is served from pages."""
_TINY = 1 << 20
"""Longest file that is fetched with one request, whatever is read of it."""


class RemoteFile(SourceFile):
    """One file of a store, held to be the same until the end.

    Args:
        store: where it is.
        path: of it in the store.
        facts: what the store said of it.
        place: where it would lie in the local folder that stands for the remote one.
        name: what to call it in messages.
        beside: opens another file of the same folder.
        address: of it, without secrets.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        facts: Facts,
        *,
        place: Path,
        name: str,
        beside: Callable[[str], SourceFile],
        address: str,
    ) -> None:
        self.path = place
        self.name = name
        self._fd = -1
        self._number = next(_numbers)
        self._store = store
        self._remote = path
        self._facts = facts
        self._beside = beside
        self._address = address
        self._closed = False
        self._blocks = Blocks(self._fetch, facts.size)

    @property
    def size(self) -> int:
        """Length in bytes when it was opened."""
        return self._facts.size

    @property
    def is_remote(self) -> bool:
        """It is."""
        return True

    @property
    def number(self) -> int:
        """How many were opened before it, and one."""
        return self._number

    def beside(self, name: str) -> SourceFile:
        """Open another file of the same folder."""
        return self._beside(name)

    def read(self, offset: int, length: int, what: str = "") -> bytes:
        """As `SourceFile.read`; short ones fetch no more than about what is asked for."""
        if length > _GLANCES or offset < 0 or self.size <= _TINY:
            return super().read(offset, length, what)
        if offset + length > self.size:
            raise self.too_short(self.size, offset + length - self.size, what)
        if not length:
            return b""
        with explained(self._address):
            return self._blocks.glance(offset, length)

    def pieces(self, start: int, end: int, what: str = "") -> Iterator[memoryview]:
        """As `SourceFile.pieces`; what is short, as that which lies between tensors, from pages."""
        if end - start > _GLANCES:
            yield from super().pieces(start, end, what)
        elif start < end:
            yield memoryview(self.read(start, end - start, what))

    def _preadv(self, buffers: list[memoryview], offset: int, what: str) -> int:  # noqa: ARG002  (it has no word in it)
        room, lacking = sum(map(len, buffers)), max(self.size - offset, 0)
        if room > lacking:  # the caller asks for the rest, and hears that there is none
            buffers, room = [buffers[0][:lacking]], min(len(buffers[0]), lacking)
        with explained(self._address):
            self._blocks.fill(buffers, offset)
        return room

    def _fetch(self, start: int, end: int) -> bytes | bytearray:
        return patiently(lambda: self._store.read(self._remote, start, end, self._facts), lambda: self._closed)

    def check_unchanged(self) -> None:
        """Refuse a file that is another now, by what the store says of it."""
        with explained(self._address):
            now = patiently(lambda: self._store.facts(self._remote), lambda: self._closed)
        if self._facts.differs(now):
            raise changed(self._address)

    def close(self) -> None:
        """Give up what was fetched; reading is an error from here on."""
        self._closed = True
        self._blocks.close()

    def __del__(self) -> None:
        if hasattr(self, "_blocks"):
            self._closed = True
            self._blocks.forget()
