"""What the fleet's own code costs for each item, at several lengths of a list: processor time, and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bertconv.fleet.driver import Summary, run_fleet
from bertconv.fleet.engines.engine import Finished
from bertconv.fleet.items import Item, placed, read_items, shard, write_items
from bertconv.fleet.ledger import Ledger
from bertconv.fleet.outcome import DONE, Outcome
from bertconv.fleet.scheduler import Scheduler
from qa.scale.run import listed
from qa.scale.sizes import drawn_sizes

STORE_DOWN = 8


@dataclass
class Cost:
    """Microseconds of processor time for each item, by part, and bytes of memory for each."""

    items: int
    micros: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0


def measured(count: int, folder: Path) -> Cost:
    """The cost of a list of that length.

    Args:
        count: items.
        folder: an empty folder, for the list.
    """
    cost = Cost(count)
    items = listed(drawn_sizes(count, "both", seed=1))
    path = folder / f"{count}.jsonl"
    with _timed(cost, "list written"):
        path.write_text("".join(write_items(items)))
    with _timed(cost, "list read"):
        read = read_items(path)
    with _timed(cost, "placed"):
        there = placed(read, "s3://converted")
    with _timed(cost, "shards"):
        shard(there, "0/2")
    ids = [(item.id, item.size) for item in there]
    with _timed(cost, "scheduler"):
        drive(ids)
    with _timed(cost, "driver and ledger"):
        driven(there, folder / f"{count}.db")
    with _timed(cost, "a second run"):
        driven(there, folder / f"{count}.db")
    cost.memory = _memory(lambda: _kept(path)) / count
    return cost


def drive(ids: list[tuple[str, int]], slots: int = 64) -> int:
    """Have the scheduler give out a list to its end; every fiftieth try fails for now, every two-hundredth is lost.

    Args:
        ids: id and size of each item.
        slots: workers.
    """
    scheduler, now, running, tries = Scheduler(), 0.0, list[str](), 0
    for name, size in ids:
        scheduler.add(name, size)
    while scheduler.left:
        while len(running) < slots and (task := scheduler.next(now)):
            running.append(task.name)
        due = scheduler.due()
        if not running:
            now = max(now, due or now)
            continue
        tries, now, name = tries + 1, now + 0.01, running.pop()
        if tries % 200 == 0:
            scheduler.lost(name, now)
        else:
            scheduler.finished(name, 0 if tries % 50 else STORE_DOWN, now)
    return tries


class Instant:
    """An engine whose items are done as soon as somebody asks: what is left is the driver's own cost."""

    slots = 64

    def __init__(self) -> None:
        self._begun: list[Item] = []

    def submit(self, item: Item, *, alone: bool) -> None:
        """Begin an item; `alone` makes no difference."""
        del alone
        self._begun.append(item)

    def wait(self, timeout: float) -> list[Finished]:
        """All that have begun, after no time."""
        del timeout
        found, self._begun = self._begun, []
        return [Finished(item.id, _outcome(item)) for item in found]

    def close(self, *, stop: bool = False) -> None:
        """There is nothing to end."""


def _outcome(item: Item) -> Outcome:
    return Outcome(
        DONE, digest=item.id * 2, nbytes=item.size, family="bert", head="BertForSequenceClassification",
        source_format="safetensors, pytorch", target_format="tf", result={"verified": "weights", "notes": []},
        seconds=1.0, worker="node-1:1234",
    )  # fmt: skip


def driven(items: list[Item], path: Path) -> Summary:
    """Run a list with the fleet's driver; nothing is converted.

    Args:
        items: placed.
        path: of the ledger.
    """
    with Ledger(path) as ledger:
        return run_fleet(items, Instant(), ledger)


def _kept(path: Path) -> tuple[list[Item], Scheduler]:
    """What a driver keeps for as long as it runs."""
    items, scheduler = placed(read_items(path), "s3://converted"), Scheduler()
    for item in items:
        scheduler.add(item.id, item.size)
    return items, scheduler


def _memory(make: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        kept = make()
        size = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return size


@contextmanager
def _timed(cost: Cost, part: str) -> Iterator[None]:
    begin = time.process_time()
    yield
    cost.micros[part] = (time.process_time() - begin) / cost.items * 1e6
