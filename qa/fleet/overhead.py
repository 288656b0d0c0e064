"""What a fleet costs beyond its conversions: one worker, tiny checkpoints, time of the run less that of the items.

    python -m qa.fleet.overhead                         each engine in turn, 100 items, 3 rounds
    python -m qa.fleet.overhead --engine ray --rounds 5

A first list, not counted, starts the engine and has the worker import what it needs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import checkpoints as cp

from bertconv.fleet.driver import run_fleet
from bertconv.fleet.engines.engine import Engine, Finished
from bertconv.fleet.engines.local import LocalEngine
from bertconv.fleet.engines.ray import RayEngine
from bertconv.fleet.items import Item
from bertconv.fleet.ledger import Ledger

ENGINES = {"local": LocalEngine, "ray": RayEngine}
WARM = 3
SMALL = {"num_hidden_layers": 1}


class Lasting:
    """An engine that goes on when a run ends; it adds up the seconds that items took."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []

    @property
    def slots(self) -> int:
        """As the engine's."""
        return self.engine.slots

    def submit(self, item: Item, *, alone: bool) -> None:
        """As the engine's."""
        self.engine.submit(item, alone=alone)

    def wait(self, timeout: float) -> list[Finished]:
        """As the engine's."""
        found = self.engine.wait(timeout)
        self.seconds += [one.outcome.seconds for one in found if one.outcome is not None]
        return found

    def close(self, *, stop: bool = False) -> None:
        """Later."""


def measure(root: Path, engine: Engine, sources: Sequence[Path], rounds: int) -> list[tuple[float, float]]:
    """Seconds of an item, and what the fleet adds, of each round."""
    lasting, found = Lasting(engine), []
    try:
        for number in range(rounds + 1):
            out = root / f"out-{number}"
            chosen = sources if number else sources[:WARM]
            items = [Item(str(src), str(out / src.name), options={"to": "tf-safetensors"}) for src in chosen]
            lasting.seconds.clear()
            with Ledger(out / "ledger.db") as ledger:
                summary = run_fleet(items, lasting, ledger)
            if not summary.ok:
                raise AssertionError(f"not all items were done: {summary.failures[0][1].message}")
            work = sum(lasting.seconds)
            if number:
                found.append((work / len(items), (summary.seconds - work) / len(items)))
    finally:
        engine.close()
    return found


def main() -> None:
    """Print one line for each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bertconv-overhead-") as name:
        root = Path(name)
        sources = [
            cp.save(
                root / "src" / f"m{number:04}", "BertModel", cp.state_dict("BertModel", seed=number, **SMALL), **SMALL
            )
            for number in range(given.count)
        ]
        for engine in given.engine or ENGINES:
            rounds = measure(root / engine, ENGINES[engine](workers=1), sources, given.rounds)
            added = [1000 * each[1] for each in rounds]
            item = 1000 * statistics.median(each[0] for each in rounds)
            said = f"{statistics.median(added):.1f} ms ({min(added):.1f} to {max(added):.1f} in {len(rounds)} rounds)"
            print(f"{engine:6} item {item:.1f} ms, the fleet adds {said}", flush=True)


if __name__ == "__main__":
    main()
