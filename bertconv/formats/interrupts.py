"""Signals that ask the process to end, held back until the work has stopped at a piece and cleaned up.

A handler that raises wherever the main thread happens to be can leave a lock of a thread pool taken for ever.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

pending: list[int] = []
"""Signals that are being held back: a handler that is called while there are any has a second one."""

SAME_SECONDS = 0.5
"""A signal so soon after the first is the same one: timeout(1), for one, signals the process and then its group."""


class StopRequested(BaseException):
    """The work gives up at this piece; the signal's own handler is called when it has."""


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold back the first signal until the block is left; its handler gets a second one at once.

    Yields:
        What the work calls from time to time, from any thread: it raises StopRequested once a signal has come.
    """
    from bertconv.progress import stopping  # here: `--help` holds nothing back, and starts without it

    def check() -> None:
        if pending:
            raise StopRequested

    if threading.current_thread() is not threading.main_thread():
        yield check  # Python delivers signals to the main thread only
        return
    handlers = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}

    since: list[float] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if not pending:
            pending.append(number)
            stopping.append(number)
            since.append(time.monotonic())
        elif time.monotonic() - since[0] > SAME_SECONDS:
            handlers[number](number, frame)

    try:
        for number in handlers:
            signal.signal(number, hold)
        yield check
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        came = pending[:]
        pending.clear()
        stopping.clear()
        for number in came:
            handlers[number](number, None)
