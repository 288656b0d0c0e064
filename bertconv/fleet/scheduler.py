"""Scheduler: which item is next, and what a failure leads to. Pure: no thread, no clock, no file.

Whoever drives it says what time it is. Each step costs O(log n) in the items that are left, so a simulation can run it
on a fake clock with as many items as it likes.

    next() -> runs -> finished(code) -> done | final | retried later | quarantined
                   -> lost()         -> retried later | retried alone | quarantined
"""

from __future__ import annotations

import heapq
from itertools import count
from zlib import crc32

from bertconv.fleet.outcome import BUG, DONE, FAILED, LOST, QUARANTINED, WAITING
from bertconv.records import dataclass

RETRIED_CODES = (7, 8)
"""Exit codes of what may be otherwise in a minute: a destination that cannot be written, a Hub that did not answer."""
SIGNALS = 128
"""Codes from here on are those of signals: somebody stopped the worker, not the item."""


def may_pass(code: int) -> bool:
    """Whether what ended with an exit code may end otherwise another time."""
    return code in RETRIED_CODES or code >= SIGNALS


@dataclass(frozen=True)
class Policy:
    """How often and when an item is tried again.

    Attributes:
        retries: tries after the first, of an item that failed in a way that may pass.
        first_delay: seconds before the second try; each later one waits twice as long.
        most_delay: most seconds before a try.
        lost_limit: workers that an item may lose before it is run in a process of its own.
    """

    retries: int = 3
    first_delay: float = 1.0
    most_delay: float = 300.0
    lost_limit: int = 2

    def delay(self, name: str, failures: int) -> float:
        """Seconds before the next try: between half and all of the step, so that items do not come back at once."""
        step = min(self.first_delay * 2.0 ** min(failures - 1, 60), self.most_delay)
        return step * (0.5 + 0.5 * (crc32(f"{name}:{failures}".encode()) / 0xFFFFFFFF))


@dataclass(frozen=True)
class Task:
    """An item that is to run now; `alone`: in a process of its own, with limits; `attempt` counts from 1."""

    name: str
    attempt: int
    alone: bool


@dataclass(frozen=True)
class Verdict:
    """What an end of a try leads to: DONE, FAILED, QUARANTINED, or WAITING until `due` (then also whether `alone`)."""

    state: str
    due: float = 0.0
    alone: bool = False


class _Tries:
    """What the scheduler knows of an item that is not finished."""

    __slots__ = ("alone", "attempts", "failures", "lost", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.attempts = self.failures = self.lost = 0
        self.alone = False


class Scheduler:
    """The order of a fleet's work.

    Args:
        policy: how failures are treated.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._items: dict[str, _Tries] = {}
        self._ready: list[tuple[int, int, str]] = []
        self._waiting: list[tuple[float, int, str]] = []
        self._number = count()
        self.running = 0

    def add(self, name: str, size: int = 0, *, lost: int = 0) -> None:
        """An item that is to be done. Large ones go first: one that begins last keeps all others waiting.

        Args:
            name: its id; one that is there already is a ValueError.
            size: bytes.
            lost: workers that it lost in earlier runs.
        """
        if name in self._items:
            raise ValueError(f"{name} is scheduled already")
        tries = self._items[name] = _Tries(size)
        tries.lost, tries.alone = lost, lost >= self.policy.lost_limit
        heapq.heappush(self._ready, (-size, next(self._number), name))

    @property
    def left(self) -> int:
        """Items that are not finished: ready, waiting or running."""
        return len(self._items)

    @property
    def waiting(self) -> int:
        """Items that wait for another try."""
        return len(self._waiting)

    def next(self, now: float) -> Task | None:
        """The item that is to run now; None where none is ready."""
        while self._waiting and self._waiting[0][0] <= now:
            _, number, name = heapq.heappop(self._waiting)
            heapq.heappush(self._ready, (-self._items[name].size, number, name))
        if not self._ready:
            return None
        name = heapq.heappop(self._ready)[2]
        tries = self._items[name]
        tries.attempts += 1
        self.running += 1
        return Task(name, tries.attempts, tries.alone)

    def due(self) -> float | None:
        """When the next of the waiting items is ready; None where none waits."""
        return self._waiting[0][0] if self._waiting else None

    def finished(self, name: str, code: int, now: float) -> Verdict:
        """A try ended with an exit code."""
        tries = self._items[name]
        if code >= SIGNALS and tries.alone:
            return self._end(name, QUARANTINED)
        if code == 0:
            return self._end(name, DONE)
        if code == BUG:
            return self._end(name, QUARANTINED)
        if not may_pass(code):
            return self._end(name, FAILED)
        tries.failures += 1
        if tries.failures > self.policy.retries:
            return self._end(name, FAILED)
        return self._again(name, now, tries.failures)

    def lost(self, name: str, now: float) -> Verdict:
        """The worker of a try died, which may be the item's doing."""
        tries = self._items[name]
        if tries.alone:
            return self.finished(name, LOST, now)
        tries.lost += 1
        tries.alone = tries.lost >= self.policy.lost_limit
        return self._again(name, now, tries.lost)

    def _end(self, name: str, state: str) -> Verdict:
        del self._items[name]
        self.running -= 1
        return Verdict(state)

    def _again(self, name: str, now: float, failures: int) -> Verdict:
        due = now + self.policy.delay(name, failures)
        self.running -= 1
        heapq.heappush(self._waiting, (due, next(self._number), name))
        return Verdict(WAITING, due, self._items[name].alone)
