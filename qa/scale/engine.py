"""An engine of the fleet whose workers are modelled: it takes and reports items as real ones do, on its own clock.

An item opens its source (latency, and what every item costs), is written while it is read, read back, and committed.
What goes wrong is drawn from the item's id and the number of its try, so a run can be repeated.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from dataclasses import dataclass
from itertools import count

from bertconv.fleet.engines.engine import Finished
from bertconv.fleet.items import Item
from bertconv.fleet.outcome import DONE, FAILED, Outcome
from qa.scale.hub import Hub
from qa.scale.node import CHECK, WRITE, Node, Seconds
from qa.scale.rates import World

REFUSED, STORE_DOWN, BUG = 5, 8, 9
GONE = -1
"""The worker dies instead of reporting a code."""


@dataclass
class _Try:
    name: str
    node: int
    size: int
    code: int
    share: float  # of the item that is written before it ends in `code`


class ModelledEngine:
    """Machines, workers, a network and what goes wrong with them.

    Args:
        world: the rates.
        seed: of what goes wrong.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self.now = 0.0
        self.waited = Seconds()  # beside what the nodes count
        self.tries = self.opened = self.committed = self.lost_workers = 0
        self.nodes = [Node(world) for _ in range(world.nodes)]
        self.hub = Hub(world.plan, world.hub, world.store.block) if world.plan else None
        self._world, self._seed = world, seed
        self._free = deque(node for _ in range(world.machine.workers) for node in range(world.nodes))
        self._up = [True] * world.nodes
        self._running: dict[int, _Try] = {}
        self._of_node: list[set[int]] = [set() for _ in range(world.nodes)]
        self._counts: Counter[str] = Counter()
        self._looks = [-1] * world.nodes  # the number of the event that looks at each machine's streams
        self._number = count()
        self._events: list[tuple[float, int, str, int]] = []
        self._finished: list[Finished] = []
        for at, node in zip(world.trouble.node_losses, range(world.nodes), strict=False):
            self._at(at, "node lost", node)

    @property
    def slots(self) -> int:
        """Workers of the machines that are there."""
        return len(self._running) + len(self._free)

    @property
    def free(self) -> bool:
        """A worker has nothing to do."""
        return bool(self._free)

    def submit(self, item: Item, *, alone: bool) -> None:
        """Begin an item on the machine whose worker has waited longest."""
        node, job = self._free.popleft(), next(self._number)
        code, share = self._fate(item)
        self._running[job] = _Try(item.id, node, item.size, code, share)
        self._of_node[node].add(job)
        self.tries += 1
        store = self._world.store
        begin = self.now + (self._world.conversion.attempt_restart if alone else 0.0)
        if self.hub:
            answered, why = self.hub.answered(begin, item.size)
            self.waited[why] += answered - begin
            begin = answered
        took = store.latency * store.small_reads + self._world.conversion.fixed
        self.waited["start and end of an item"] += took
        self._at(begin + took, "opened", job)

    def wait(self, timeout: float) -> list[Finished]:
        """Let time pass until a try ends, or for so many seconds."""
        end = self.now + timeout
        while not self._finished and self._events and self._events[0][0] <= end:
            self.now, event, kind, number = heapq.heappop(self._events)
            if kind != "streams" or self._looks[number] == event:
                self._happen(kind, number)
        if not self._finished and math.isfinite(end):
            self.now = end
        found, self._finished = self._finished, []
        return found

    def close(self, *, stop: bool = False) -> None:
        """Nothing is left running that would have to be stopped."""

    def _at(self, time: float, kind: str, number: int) -> int:
        event = next(self._number)
        heapq.heappush(self._events, (time, event, kind, number))
        return event

    def _fate(self, item: Item) -> tuple[int, float]:
        """The code that this try ends with, and how much of the item is written by then."""
        trouble = self._world.trouble
        self._counts[item.id] += 1
        of_item = random.Random(f"{self._seed}:{item.id}").random() * 1000
        drawn = random.Random(f"{self._seed}:{item.id}:{self._counts[item.id]}")
        of_try, share = drawn.random() * 1000, drawn.random()
        for code, below in ((REFUSED, trouble.refused), (BUG, trouble.internal), (GONE, trouble.poison)):
            if of_item < below:
                return code, 0.0 if code == REFUSED else share
            of_item -= below
        for code, below in ((STORE_DOWN, trouble.transient), (GONE, trouble.lost)):
            if of_try < below:
                return code, share
            of_try -= below
        return 0, 1.0

    def _happen(self, kind: str, number: int) -> None:
        if kind == "opened":
            self._opened(number)
        elif kind == "committed":
            if number in self._running:
                self.committed += 1
                self._end(number, 0)
        elif kind == "streams":
            for stream, job in self.nodes[number].ended(self.now):
                self._streamed(stream, job)
            self._watch(number)
        elif kind == "node lost":
            self._node_lost(number)
        elif kind == "node back":
            self._up[number] = True
            self._free.extend([number] * self._world.machine.workers)
        elif kind == "worker back" and self._up[number]:
            self._free.append(number)

    def _opened(self, job: int) -> None:
        if job not in self._running:
            return  # its machine is gone
        self.opened += 1
        this = self._running[job]
        if this.code == REFUSED:
            self._end(job, REFUSED)
        else:
            self.nodes[this.node].start(self.now, WRITE, job, this.size * this.share)
            self._watch(this.node)

    def _streamed(self, stream: int, job: int) -> None:
        this = self._running[job]
        if this.code:
            self._end(job, this.code)
        elif stream == WRITE and self._world.conversion.reads_back:
            self.nodes[this.node].start(self.now, CHECK, job, this.size)
        else:
            took = self._world.store.latency * self._world.store.small_writes
            self.waited["start and end of an item"] += took
            self._at(self.now + took, "committed", job)

    def _end(self, job: int, code: int) -> None:
        this = self._running.pop(job)
        self._of_node[this.node].discard(job)
        if code == GONE:
            self.lost_workers += 1
            self._finished.append(Finished(this.name, None, "killed"))
            self._at(self.now + self._world.conversion.attempt_restart, "worker back", this.node)
        else:
            self._finished.append(Finished(this.name, Outcome(FAILED if code else DONE, code, nbytes=this.size)))
            self._free.append(this.node)

    def _node_lost(self, node: int) -> None:
        self._up[node] = False
        jobs = set(self._of_node[node])
        self.nodes[node].drop(self.now, jobs)
        for job in jobs:
            self.lost_workers += 1
            self._finished.append(Finished(self._running.pop(job).name, None, "its machine is gone"))
        self._of_node[node].clear()
        self._looks[node] = -1
        self._free = deque(one for one in self._free if one != node)
        self._at(self.now + self._world.trouble.node_away, "node back", node)

    def _watch(self, node: int) -> None:
        """Look at a machine when its next stream ends, and not when that was thought to be before."""
        end = self.nodes[node].next_end()
        self._looks[node] = self._at(max(end, self.now), "streams", node) if end < math.inf else -1
