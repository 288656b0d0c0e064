"""Work over time: what ended in each of some tens of equal spans, without the hours in which nothing ran."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bertconv.records import dataclass

MOST_BARS = 72
"""About how many spans there are."""
MOST_SESSIONS = 8
"""Pauses are cut out as long as no more sessions come of it."""
PAUSE = 600.0
"""Seconds without work that end a session."""
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
"""Seconds of a span that people can read; of longer ones it is whole days."""


@dataclass(frozen=True)
class Bar:
    """A span of time.

    Attributes:
        start: in seconds since 1970.
        seconds: how long it is.
        good: how many items ended well in it, `bad` how many failed.
        size: bytes of weights of those that ended well.
        begins: whether nothing ran right before it.
    """

    start: float
    seconds: float
    good: int = 0
    bad: int = 0
    size: int = 0
    begins: bool = False


def timeline(ended: Iterable[tuple[float, float, bool, int]]) -> tuple[Bar, ...]:
    """The spans in which items ran.

    Args:
        ended: of each item when it ended, how many seconds it took, whether it ended well, and its size.
    """
    items = sorted(ended)
    sessions = _sessions([(end - max(seconds, 0.0), end) for end, seconds, *_ in items])
    if not sessions:
        return ()
    width = _width(sum(end - start for start, end in sessions))
    bars: list[Bar] = []
    place = 0
    for start, end in sessions:
        # What ended at the very end is in the last span.
        number = max(1, math.ceil((end - start) / width))
        good, bad, size = [0] * number, [0] * number, [0] * number
        while place < len(items) and items[place][0] <= end:
            at, _, is_good, nbytes = items[place]
            column = min(int((at - start) / width), number - 1)
            good[column] += is_good
            bad[column] += not is_good
            size[column] += nbytes if is_good else 0
            place += 1
        lengths = [min(width, max(end - start - width * column, 0.001)) for column in range(number)]
        bars += [
            Bar(start + width * column, lengths[column], good[column], bad[column], size[column], column == 0)
            for column in range(number)
        ]
    return tuple(bars)


def _sessions(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When anything ran: spans joined over pauses, longer and longer ones until they are few."""
    pause = PAUSE
    while True:
        found: list[tuple[float, float]] = []
        for start, end in sorted(spans):
            if found and start - found[-1][1] <= pause:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        if len(found) <= MOST_SESSIONS:
            return found
        pause *= 2


def _width(seconds: float) -> float:
    least = seconds / MOST_BARS
    return next((float(width) for width in _WIDTHS if width >= least), math.ceil(least / 86400) * 86400.0)
