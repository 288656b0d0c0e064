"""One simulated run: the fleet's own scheduler gives out the items, the modelled engine takes them, no time passes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bertconv.fleet.items import Item
from bertconv.fleet.outcome import WAITING
from bertconv.fleet.scheduler import Scheduler, Verdict
from qa.scale.engine import ModelledEngine
from qa.scale.node import Seconds
from qa.scale.rates import GB, World


@dataclass
class Result:
    """What a run came to."""

    items: int
    nbytes: int
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    lost_workers: int = 0
    alone: int = 0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    kept_bytes: float = 0.0
    gets: float = 0.0
    puts: float = 0.0
    api_calls: float = 0.0
    resolver_calls: float = 0.0
    held_up: Seconds = field(default_factory=Seconds)
    dollars: dict[str, float] = field(default_factory=dict)

    @property
    def bottleneck(self) -> str:
        """What the workers waited for most."""
        return max(self.held_up, key=lambda why: self.held_up[why])

    def share(self, why: str) -> float:
        """The share of all worker-seconds that one reason has."""
        return self.held_up[why] / (self.held_up.total or 1.0)


def listed(sizes: Iterable[int]) -> list[Item]:
    """Items of those sizes, as `bertconv fleet plan` would list a bucket.

    Args:
        sizes: bytes of each.
    """
    return [
        Item(f"s3://models/{number:06d}", f"s3://converted/{number:06d}", options={"to": "tf"}, size=size)
        for number, size in enumerate(sizes)
    ]


def simulate(items: list[Item], world: World, seed: int = 0) -> Result:
    """Run a list to its end.

    Args:
        items: the list.
        world: machines, rates, and what goes wrong.
        seed: of what goes wrong.
    """
    scheduler, engine = Scheduler(), ModelledEngine(world, seed)
    by_name = {item.id: item for item in items}
    for item in items:
        scheduler.add(item.id, item.size)
    result = Result(len(items), sum(item.size for item in items))
    while scheduler.left:
        while engine.free and (task := scheduler.next(engine.now)):
            result.alone += task.alone
            engine.submit(by_name[task.name], alone=task.alone)
        due = scheduler.due()
        # with no worker free, an item that becomes ready changes nothing
        timeout = due - engine.now if due is not None and engine.free else math.inf
        for end in engine.wait(timeout):
            verdict = _verdict(scheduler, end.name, end.outcome.code if end.outcome else None, engine.now)
            if verdict.state != WAITING:
                result.states[verdict.state] += 1
                result.kept_bytes += by_name[end.name].size if end.outcome and end.outcome.code == 0 else 0
    return _summed(result, engine, world)


def _verdict(scheduler: Scheduler, name: str, code: int | None, now: float) -> Verdict:
    return scheduler.lost(name, now) if code is None else scheduler.finished(name, code, now)


def _summed(result: Result, engine: ModelledEngine, world: World) -> Result:
    store, machine = world.store, world.machine
    written = sum(node.moved[0] for node in engine.nodes)
    checked = sum(node.moved[1] for node in engine.nodes)
    result.seconds, result.tries, result.lost_workers = engine.now, engine.tries, engine.lost_workers
    result.bytes_in, result.bytes_out = written + checked, written
    result.gets = (written + checked) / store.block + engine.opened * store.small_reads
    result.puts = written / store.part + engine.committed * store.small_writes
    for node in engine.nodes:
        result.held_up.add(node.bound_seconds)
    result.held_up.add(engine.waited)
    idle = engine.now * world.nodes * machine.workers - result.held_up.total
    result.held_up["nothing to do, or a machine that is gone"] = max(0.0, idle)
    if engine.hub:
        result.api_calls, result.resolver_calls = engine.hub.api.calls, engine.hub.resolvers.calls
    result.dollars = {
        "machines": world.nodes * machine.price * engine.now / 3600,
        "requests": result.gets * store.get_price + result.puts * store.put_price,
        "a month of keeping the outputs": result.kept_bytes * store.month_price,
    }
    return result


def text_bytes(number: float) -> str:
    """So many bytes, in GB or TB."""
    return f"{number / GB / 1000:,.1f} TB" if number >= 1000 * GB else f"{number / GB:,.1f} GB"
