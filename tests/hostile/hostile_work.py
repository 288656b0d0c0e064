"""How much work a command is, counted so that it is the same on a busy machine."""

from __future__ import annotations

import cProfile
import os
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CALLS = 8_000_000
"""Calls of functions, Python's and C's: a pickle's 2,000,000 steps take most, some 6,000,000."""
PROCESSOR_SECONDS = 30.0
"""Forty times what the heaviest case takes on an idle machine: only what is quadratic inside of one call gets there."""


def _processor_time() -> float:
    """Seconds of this process and of those that it has started and seen end."""
    return sum(os.times()[:4])


@contextmanager
def little_work(most: int = MOST_CALLS) -> Iterator[None]:
    """Fails when the block makes more calls, or computes for long."""
    profile, busy = cProfile.Profile(), _processor_time()
    with profile:
        yield
    calls = sum(entry.callcount for entry in profile.getstats())
    busy = _processor_time() - busy
    assert calls <= most, f"{calls:,} calls"
    assert busy < PROCESSOR_SECONDS, f"{busy:.1f} s of processor time"
