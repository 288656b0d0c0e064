"""What a fleet costs on one machine: beside each item's own work, and against a plain loop.

    python scripts/bench_fleet.py                    400 empty items; 30 tiny ones in a loop, with 1 and with 2 workers
    python scripts/bench_fleet.py FOLDER             the same of the checkpoints in a folder, such as 40 of BERT-base

An empty item is refused at once, so all of its time is the fleet's own: scheduler, ledger, pipe. Processor time stands
beside the clock's: on a machine that others use, too, that one alone means something. A benchmark, not a test.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import checkpoints as cp

from bertconv.convert import convert_checkpoint
from bertconv.fleet.driver import run_fleet
from bertconv.fleet.engines.local import LocalEngine
from bertconv.fleet.items import Item, placed
from bertconv.fleet.ledger import Ledger

TINY = {"hidden_size": 48, "num_attention_heads": 2, "intermediate_size": 96, "vocab_size": 400}
HEAD = "BertForMaskedLM"


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, items: int, work: Callable[[], object]) -> None:
    """A line of a table."""
    before, started = processor_seconds(), time.perf_counter()
    work()
    wall, busy = time.perf_counter() - started, processor_seconds() - before
    print(f"| {name} | {items} | {wall:.2f} | {1000 * wall / items:.1f} | {1000 * busy / items:.1f} |", flush=True)


def fleet(items: list[Item], workers: int, state: Path) -> None:
    with Ledger(state / "ledger.db") as ledger:
        run_fleet(items, LocalEngine(workers), ledger)


def loop(sources: list[Path], out: Path) -> None:
    for source in sources:
        convert_checkpoint(source, out / source.name, to="tf", verify="weights")


def empty(folder: Path, number: int) -> None:
    """Items that are refused for an option that nothing has."""
    source = cp.write_config(folder / "empty", {})
    items = [Item(str(source), f"{folder}/refused/{index}", options={"none": 1}) for index in range(number)]
    measure("empty items, 1 worker", number, lambda: fleet(items, 1, folder / "empty-state"))
    measure("the same again", number, lambda: fleet(items, 1, folder / "empty-state"))


def conversions(folder: Path, sources: list[Path]) -> None:
    convert_checkpoint(sources[0], folder / "warm", to="tf", verify="weights")
    measure("a plain loop", len(sources), lambda: loop(sources, folder / "loop"))
    shutil.rmtree(folder / "loop")
    for workers in (1, 2):
        out, state = folder / f"fleet-{workers}", folder / f"state-{workers}"
        items = placed((Item(str(source), options={"to": "tf"}) for source in sources), str(out))
        measure(f"{workers} workers", len(sources), lambda: fleet(items, workers, state))  # noqa: B023  (called now)
        measure("the same again", len(sources), lambda: fleet(items, workers, state))  # noqa: B023
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="checkpoints, a folder each")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder and given.folder.parent) as name:
        place = Path(name)
        print("| what | items | seconds | ms an item | processor ms an item |\n|---|---|---|---|---|")
        if given.folder is not None:
            conversions(place, sorted(path for path in given.folder.iterdir() if path.is_dir()))
            return
        empty(place, 400)
        made = [
            cp.save(place / f"model-{seed}", HEAD, cp.state_dict(HEAD, seed=seed, **TINY), **TINY) for seed in range(30)
        ]
        conversions(place, made)


if __name__ == "__main__":
    main()
