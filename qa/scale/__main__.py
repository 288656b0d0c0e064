"""What a fleet of 100,000 checkpoints costs, without running one: docs/scale.md's tables, printed as Markdown.

    python -m qa.scale simulate --checkpoints 100000 --nodes 4      one run: bytes, hours, dollars, what it waits for
    python -m qa.scale scenarios                                    other circumstances, a line each
    python -m qa.scale hub                                          the Hub on both sides, on each of its plans
    python -m qa.scale cost                                         the fleet's own code, 1,000 to 100,000 items

The scheduler is bertconv's own; machines, network and Hub are modelled (qa/scale/rates.py says from which numbers), and
time is a number. `cost` alone measures: processor time on this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace

from qa.scale import tables
from qa.scale.rates import PLANS, Machine, Store, Trouble, World
from qa.scale.run import listed, simulate
from qa.scale.sizes import LISTS, drawn_sizes


def main(arguments: list[str] | None = None) -> None:
    """Print the tables that were asked for."""
    options = _options(arguments)
    for line in _lines(options):
        print(line, flush=True)


def _lines(options: argparse.Namespace) -> Iterable[str]:
    world = World(
        nodes=options.nodes,
        machine=replace(Machine(), workers=options.workers),
        store=replace(Store(), uploads_at_once=options.uploads),
        trouble=Trouble() if options.trouble else Trouble(0.0, 0.0, 0.0, 0.0, 0.0, ()),
        plan=next((plan for plan in PLANS if plan.name == options.plan), None),
        hub=tables.TO_HUB,
    )
    if options.what == "simulate":
        items = listed(drawn_sizes(options.checkpoints, options.sizes, options.seed))
        return tables.one_run(simulate(items, world, options.seed), world)
    if options.what == "scenarios":
        return tables.scenarios(options.checkpoints, world)
    if options.what == "hub":
        return tables.hub(options.checkpoints, world)
    return tables.cost([number for number in (1_000, 10_000, 100_000) if number <= options.checkpoints])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m qa.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("simulate", "scenarios", "hub", "cost"))
    parser.add_argument("--checkpoints", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=4, help="machines of 16 vCPU with 25 Gbit/s")
    parser.add_argument("--workers", type=int, default=16, help="of each machine")
    parser.add_argument("--uploads", type=int, default=1, help="parts that a worker uploads at a time")
    parser.add_argument("--sizes", choices=(*LISTS, "both"), default="both", help="where sizes are drawn from")
    parser.add_argument("--plan", choices=[plan.name for plan in PLANS], help="the Hub on both sides, not a bucket")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-trouble", dest="trouble", action="store_false", help="nothing fails")
    options = parser.parse_args(arguments)
    if min(options.checkpoints, options.nodes, options.workers, options.uploads) < 1:
        parser.error("numbers begin at 1")
    return options


if __name__ == "__main__":
    main()
