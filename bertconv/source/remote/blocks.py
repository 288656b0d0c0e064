"""Ranges of a file elsewhere, each fetched once where it is read in its order, with some fetched ahead.

Elements are read in large blocks that follow each other. Headers, and what lies between elements, are read in pages,
so that looking at a file costs little more than what is looked at.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

BLOCK = 8 << 20
"""Bytes that are fetched at a time where elements are read."""
KEEP = 10
"""Blocks of all files that are kept, those that are on their way among them."""
AHEAD = 2
"""Blocks that are fetched before they are asked for."""
PAGE = 16 << 10
"""Bytes that are fetched at the least."""
MOST_PAGES = 1024
"""Pages of a file that are kept."""
FETCHERS = 4
"""Requests that are on their way at a time, of all files."""

Fetch = Callable[[int, int], bytes | bytearray]
"""Gives the bytes from one place to another; all of them, or an error."""


@cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(FETCHERS, thread_name_prefix="bertconv-fetch")


class Blocks:
    """The bytes of one file.

    Args:
        fetch: gets a range; called from several threads.
        size: length of the file.
    """

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, memoryview] = OrderedDict()

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with bytes that lie in the file, from blocks; errors as those of `fetch`."""
        done = 0
        while done < len(buffer):
            number, start = divmod(offset + done, BLOCK)
            block = self._block(number)
            count = min(len(buffer) - done, len(block) - start)
            buffer[done : done + count] = memoryview(block)[start : start + count]
            done += count

    def glance(self, offset: int, length: int) -> bytes:
        """A few bytes that lie in the file, fewer than pages are kept, from pages; errors as those of `fetch`."""
        first, last = offset // PAGE, -(-(offset + length) // PAGE)
        with self._lock:
            there = self._within_a_block(offset, length)
            lacking = [number for number in range(first, last) if number not in self._pages]
        if there is not None:
            return bytes(there)
        if lacking:
            start, end = lacking[0] * PAGE, min((lacking[-1] + 1) * PAGE, self._size)
            content = memoryview(self._fetch(start, end))
            self._keep((lacking[0] + at // PAGE, content[at : at + PAGE]) for at in range(0, len(content), PAGE))
        with self._lock:
            parts = [self._pages.get(number) for number in range(first, last)]
        if any(part is None for part in parts):  # another thread read so much meanwhile that they are gone
            return bytes(self._fetch(offset, offset + length))
        whole = b"".join(part for part in parts if part is not None)
        return whole[offset - first * PAGE :][:length]

    def _within_a_block(self, offset: int, length: int) -> memoryview | None:
        number, start = divmod(offset, BLOCK)
        found = _kept.of(self, number)
        if found is None or start + length > BLOCK or not _is_good(found):
            return None
        return memoryview(found.result())[start : start + length]

    def _keep(self, pages: Iterable[tuple[int, memoryview]]) -> None:
        with self._lock:
            for number, page in pages:
                self._pages[number] = memoryview(bytes(page))  # not a part of what was fetched, which would stay
                self._pages.move_to_end(number)
            while len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)

    def _block(self, number: int) -> bytes | bytearray:
        last = min(number + AHEAD, (self._size - 1) // BLOCK)
        return _kept.get(self, range(number, last + 1)).result()

    def fetched(self, number: int) -> bytes | bytearray:
        """A block as the store gives it."""
        return self._fetch(number * BLOCK, min((number + 1) * BLOCK, self._size))

    def close(self) -> None:
        """Give up everything."""
        _kept.drop(self)
        with self._lock:
            self._pages.clear()


class _Kept:
    """The blocks of all files that were used last.

    Many files may be read side by side: of each the block that was asked for last stays, whatever the others need.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[int, int], Future[bytes | bytearray]] = OrderedDict()
        self._latest: dict[int, int] = {}

    def of(self, file: Blocks, number: int) -> Future[bytes | bytearray] | None:
        """A block that is here or on its way."""
        with self._lock:
            return self._blocks.get((id(file), number))

    def get(self, file: Blocks, numbers: range) -> Future[bytes | bytearray]:
        """The first of some blocks; all of them are fetched."""
        with self._lock:
            for one in numbers:
                key = (id(file), one)
                known = self._blocks.get(key)
                if known is None or (known.done() and not _is_good(known)):
                    self._blocks[key] = _fetchers().submit(file.fetched, one)
                self._blocks.move_to_end(key)
            self._latest[id(file)] = numbers[0]
            found = self._blocks[id(file), numbers[0]]
            self._shrink()
        return found

    def _shrink(self) -> None:
        excess = len(self._blocks) - KEEP
        for key in [key for key in self._blocks if self._latest.get(key[0]) != key[1]][: max(excess, 0)]:
            del self._blocks[key]  # not cancelled: another thread may wait for it

    def drop(self, file: Blocks) -> None:
        """Give up the blocks of a file."""
        with self._lock:
            for key in [key for key in self._blocks if key[0] == id(file)]:
                self._blocks.pop(key).cancel()
            self._latest.pop(id(file), None)


def _is_good(block: Future[bytes | bytearray]) -> bool:
    return block.done() and not block.cancelled() and block.exception() is None


_kept = _Kept()
