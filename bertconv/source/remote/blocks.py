"""Ranges of a file elsewhere, each fetched once where it is read in its order, with some fetched ahead.

Elements are read in large blocks that follow each other. Headers, and what lies between elements, are read in pages,
so that looking at a file costs little more than what is looked at.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import count

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

_Key = tuple[int, int]
"""Which file, and which of its blocks."""
Fetch = Callable[[int, int], bytes | bytearray]
"""Gives the bytes from one place to another; all of them, or an error."""


@cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(FETCHERS, thread_name_prefix="bertconv-fetch")


_keys = count()


class Blocks:
    """The bytes of one file.

    Args:
        fetch: gets a range; called from several threads.
        size: length of the file.
    """

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._size = size
        self.key = next(_keys)
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, memoryview] = OrderedDict()

    def fill(self, buffers: Iterable[memoryview], offset: int) -> None:
        """Fill buffers, one after the other, with bytes that lie in the file, from blocks; errors as those of `fetch`.

        Rows of a matrix are many and short: a block is looked up once for all that lie in it.
        """
        number, block, used = -1, memoryview(b""), 0
        for buffer in buffers:
            done = 0
            while done < len(buffer):
                here, start = divmod(offset + done, BLOCK)
                if here != number:
                    _kept.used(self, number, used)
                    number, block, used = here, memoryview(self._block(here)), 0
                count = min(len(buffer) - done, len(block) - start)
                buffer[done : done + count] = block[start : start + count]
                done += count
                used += count
            offset += done
        _kept.used(self, number, used)

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
        return _kept.get(self, number, (self._size - 1) // BLOCK).result()

    def fetched(self, number: int) -> bytes | bytearray:
        """A block as the store gives it."""
        return self._fetch(number * BLOCK, min((number + 1) * BLOCK, self._size))

    def close(self) -> None:
        """Give up everything."""
        _kept.drop(self)
        with self._lock:
            self._pages.clear()

    def forget(self) -> None:
        """The same for the collector of garbage, which may come to any thread at any place: it waits for no lock."""
        _kept.gone.append(self.key)


class _Kept:
    """The blocks of all files that were used last, and those that were fetched ahead of their use.

    Threads read side by side, in files that may be many. What a thread asked for last of a file stays whatever the
    others do. Of the rest go first the blocks that were read from end to end, then those of which something is left to
    read, and last those that were fetched ahead: a thread that waits would find its next blocks gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[_Key, Future[bytes | bytearray]] = OrderedDict()
        self._used: dict[_Key, int] = {}
        self._latest: dict[tuple[int, int], _Key] = {}
        self.gone: deque[int] = deque()

    def of(self, file: Blocks, number: int) -> Future[bytes | bytearray] | None:
        """A block that is here or on its way."""
        with self._lock:
            return self._blocks.get((file.key, number))

    def get(self, file: Blocks, number: int, last: int) -> Future[bytes | bytearray]:
        """A block, after which those that follow are fetched too, up to the last one of the file."""
        with self._lock:
            while self.gone:
                self._drop(self.gone.popleft())
            key = (file.key, number)
            if key not in self._blocks or (self._blocks[key].done() and not _is_good(self._blocks[key])):
                self._blocks[key] = _fetchers().submit(file.fetched, number)
            self._blocks.move_to_end(key)
            self._latest[file.key, threading.get_ident()] = key
            for one in range(number + 1, min(number + AHEAD, last) + 1):
                if (file.key, one) not in self._blocks and self._used.get((file.key, one), 0) < BLOCK:
                    self._blocks[file.key, one] = _fetchers().submit(file.fetched, one)
            found = self._blocks[key]
            self._shrink()
        return found

    def used(self, file: Blocks, number: int, count: int) -> None:
        """So many bytes of a block were read once more."""
        if count:
            with self._lock:
                key = (file.key, number)
                self._used[key] = self._used.get(key, 0) + count

    def _shrink(self) -> None:
        """Give up blocks that are too many; none is cancelled: another thread may wait for it."""
        excess = len(self._blocks) - KEEP
        if excess <= 0:
            return
        pinned = set(self._latest.values())
        free = [key for key in self._blocks if key not in pinned]
        for key in sorted(free, key=self._is_wanted)[:excess]:
            del self._blocks[key]

    def _is_wanted(self, key: _Key) -> int:
        used = self._used.get(key, 0)
        return 0 if used >= BLOCK else 1 if used else 2

    def drop(self, file: Blocks) -> None:
        """Give up the blocks of a file."""
        with self._lock:
            self._drop(file.key)

    def _drop(self, gone: int) -> None:
        for key in [key for key in self._blocks if key[0] == gone]:
            self._blocks.pop(key).cancel()
        for key in [key for key in self._used if key[0] == gone]:
            del self._used[key]
        for reader in [reader for reader in self._latest if reader[0] == gone]:
            del self._latest[reader]


def _is_good(block: Future[bytes | bytearray]) -> bool:
    return block.done() and not block.cancelled() and block.exception() is None


_kept = _Kept()
