"""One machine: its network and its cores, shared fairly by the workers that read, convert, write and read back.

All workers that write go at one speed, and all that read back at another, so the machine keeps two numbers, how far
each of the two has come, and of each worker only where it ends: an event costs O(log workers).
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass, field

from qa.scale.rates import World

WRITE, CHECK = 0, 1
READING, SENDING = "reads at a time", "uploads at a time"
FULL = 1e-9  # a share of a byte per second is none: rounding


class Seconds(defaultdict[str, float]):
    """Seconds of workers, by what they were waited for."""

    def __init__(self) -> None:
        super().__init__(float)

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.values())

    def add(self, other: Seconds) -> None:
        """Count those of another, too.

        Args:
            other: the other.
        """
        for why, seconds in other.items():
            self[why] += seconds


@dataclass
class _Stream:
    """The workers of a machine that do the same: `done` is what each of them would have moved since the beginning."""

    cap: float
    why: str
    done: float = 0.0
    rate: float = 0.0
    ends: list[tuple[float, int]] = field(default_factory=list)


class Node:
    """A machine of the fleet.

    Args:
        world: its rates.
    """

    def __init__(self, world: World) -> None:
        self._now = 0.0
        machine, store, conversion = world.machine, world.store, world.conversion
        read, write = store.reads_at_once * store.connection, store.uploads_at_once * store.connection
        self._streams = [
            _Stream(*min((conversion.write_rate, "processor"), (read, READING), (write, SENDING))),
            _Stream(*min((conversion.check_rate, "processor"), (read, READING))),
        ]
        # what each has, and how much of it a byte of each stream needs
        self._shared = [
            (machine.network, (1.0, 1.0), "network in"),
            (machine.network, (1.0, 0.0), "network out"),
            (float(machine.cores), (1 / conversion.write_rate, 1 / conversion.check_rate), "processor"),
        ]
        self._bound = [self._streams[0].why, self._streams[1].why]
        self._known: dict[tuple[int, int], list[tuple[float, str]]] = {}
        self.bound_seconds = Seconds()  # worker-seconds by what held the worker up
        self.moved = [0.0, 0.0]

    def start(self, now: float, stream: int, job: int, size: float) -> None:
        """Have one worker begin to write, or to read back.

        Args:
            now: the time.
            stream: WRITE or CHECK.
            job: the worker's attempt; a number used once.
            size: bytes to move.
        """
        self._advance(now)
        part = self._streams[stream]
        heapq.heappush(part.ends, (part.done + size, job))
        self._share()

    def drop(self, now: float, jobs: set[int]) -> None:
        """Forget attempts whose workers are gone.

        Args:
            now: the time.
            jobs: theirs; those that do not stream are ignored.
        """
        self._advance(now)
        for stream in self._streams:
            stream.ends = [end for end in stream.ends if end[1] not in jobs]
            heapq.heapify(stream.ends)
        self._share()

    def next_end(self) -> float:
        """The time at which the next worker will have moved its bytes, if nothing else happens."""
        return min(
            (self._now + max(0.0, s.ends[0][0] - s.done) / s.rate for s in self._streams if s.ends),
            default=math.inf,
        )

    def ended(self, now: float) -> list[tuple[int, int]]:
        """The streams that have ended by now: (WRITE or CHECK, attempt) of each.

        Args:
            now: the time, not after `next_end`.
        """
        self._advance(now)
        out = []
        for which, stream in enumerate(self._streams):
            # what is left after rounding takes less than a microsecond
            while stream.ends and stream.ends[0][0] - stream.done <= stream.rate * 1e-6:
                out.append((which, heapq.heappop(stream.ends)[1]))
        if out:
            self._share()
        return out

    def _advance(self, now: float) -> None:
        passed, self._now = now - self._now, now
        for which, stream in enumerate(self._streams):
            moved = stream.rate * passed
            stream.done += moved
            self.moved[which] += moved * len(stream.ends)
            self.bound_seconds[self._bound[which]] += passed * len(stream.ends)

    def _share(self) -> None:
        counts = (len(self._streams[WRITE].ends), len(self._streams[CHECK].ends))
        if counts not in self._known:
            self._known[counts] = self._fair(counts)
        for which, stream in enumerate(self._streams):
            stream.rate, self._bound[which] = self._known[counts][which]

    def _fair(self, counts: tuple[int, int]) -> list[tuple[float, str]]:
        """Max-min fairness: both get faster together until something is used up; who does not need it goes on."""
        open_ = {which for which in (WRITE, CHECK) if counts[which]}
        fair = [(0.0, self._streams[WRITE].why), (0.0, self._streams[CHECK].why)]
        while open_:
            limits = [(self._streams[which].cap, self._streams[which].why, {which}) for which in open_]
            for have, needs, why in self._shared:
                users = {which for which in open_ if needs[which]}
                if users:
                    used = sum(counts[which] * needs[which] * fair[which][0] for which in {WRITE, CHECK} - open_)
                    level = max(FULL, have - used) / sum(counts[which] * needs[which] for which in users)
                    limits.append((level, why, users))
            level, why, held = min(limits, key=lambda limit: limit[0])
            for which in held:
                fair[which] = (level, why)
            open_ -= held
        return fair
