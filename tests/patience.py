"""How tests wait: for something to happen, never for a time; and what ends a test that waits for ever.

No result may depend on how busy the machine is. A test that waits for a process, a file or a thread waits `until` it is
there; what takes little is distinguished from what takes much by work that can be counted (calls, bytes, peak memory).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 600.0
"""Seconds until a test counts as one that hangs: the only limit in seconds that tests have.

It is many times what the slowest test takes on a busy machine, and nobody waits for it while everything works.
"""


class Hangs(BaseException):
    """No code under test may catch it."""


@contextmanager
def in_time(seconds: float | None = None) -> Iterator[None]:
    """Raises Hangs in a block that does not end, as one does that opens a FIFO; conftest.py has every test in one."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    limit = PATIENCE if seconds is None else seconds

    def ring(_: int, __: FrameType | None) -> None:
        raise Hangs(f"not over after {limit:g} s")

    handler = signal.signal(signal.SIGALRM, ring)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, outer)
        signal.signal(signal.SIGALRM, handler)


def until(condition: Callable[[], object]) -> None:
    """Wait until something has happened; the guard of every test ends one in which it never does."""
    while not condition():
        time.sleep(0.001)
