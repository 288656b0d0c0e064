"""LocalEngine: processes of this machine, one item at a time each.

Not concurrent.futures: one worker that dies breaks its pool, and every item in it is lost. multiprocessing.Pool waits
for the dead one for ever. Here a worker has a socket of its own, whose end tells that it died, and with which item.
"""

from __future__ import annotations

import selectors
import time

from bertconv.fleet.engines.child import GRACE, Child
from bertconv.fleet.engines.engine import Finished, processors
from bertconv.fleet.items import Item

MOST_ITEMS = 200
"""Items after which a worker is replaced: what a library does not give back does not add up."""


class _Worker:
    """A child, and what it does."""

    def __init__(self) -> None:
        self.child = Child()
        self.item: Item | None = None
        self.left = MOST_ITEMS


class LocalEngine:
    """Runs items in so many processes; an `Engine`.

    Args:
        workers: how many; by default as many as there are processors to use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._slots = workers or processors()
        self._idle: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    @property
    def slots(self) -> int:
        """How many items it takes at a time."""
        return self._slots

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are at work."""
        return tuple(key.data.child.pid for key in self._selector.get_map().values() if key.data.item is not None)

    def submit(self, item: Item, *, alone: bool) -> None:
        """Begin an item; see `Engine`."""
        while True:
            worker = self._idle.pop() if self._idle else self._started()
            worker.item = item
            try:
                worker.child.send(item, alone=alone)
            except OSError:  # it died while it had nothing to do
                self._drop(worker)
            else:
                return

    def wait(self, timeout: float) -> list[Finished]:
        """The tries that ended; see `Engine`."""
        found = []
        for key, _ in self._selector.select(max(timeout, 0)):
            if (finished := self._heard(key.data)) is not None:
                found.append(finished)
        return found

    def close(self, *, stop: bool = False) -> None:
        """End the workers; see `Engine`."""
        workers = [key.data for key in self._selector.get_map().values()]
        for worker in workers:
            if stop:
                worker.child.ask_to_stop()
            worker.child.socket.shutdown(1)  # it reads no further item
        until = time.monotonic() + GRACE
        for worker in workers:
            self._selector.unregister(worker.child.socket)
            worker.child.close(until - time.monotonic() if stop else GRACE)
        self._idle.clear()
        self._selector.close()

    def _started(self) -> _Worker:
        worker = _Worker()
        self._selector.register(worker.child.socket, selectors.EVENT_READ, worker)
        return worker

    def _heard(self, worker: _Worker) -> Finished | None:
        item = worker.item
        try:
            outcome = worker.child.receive()
        except EOFError:
            if worker in self._idle:
                self._idle.remove(worker)
            why = worker.child.why()
            self._drop(worker)
            return None if item is None else Finished(item.id, None, why)
        if outcome is None or item is None:
            return None
        worker.item = None
        worker.left -= 1
        if worker.left:
            self._idle.append(worker)
        else:
            self._drop(worker)
        return Finished(item.id, outcome)

    def _drop(self, worker: _Worker) -> None:
        self._selector.unregister(worker.child.socket)
        worker.child.close()
