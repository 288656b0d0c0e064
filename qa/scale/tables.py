"""The tables of docs/scale.md, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from qa.scale.cost import measured
from qa.scale.rates import PLANS, HubUse, World
from qa.scale.run import Result, listed, simulate, text_bytes
from qa.scale.sizes import drawn_sizes

TO_HUB = HubUse(api=4.5, resolvers=16)
"""Calls for one item that is read from the Hub and goes back to it (harvest of 2026-09-20)."""


def one_run(result: Result, world: World) -> Iterable[str]:
    """Everything about one run.

    Args:
        result: of the run.
        world: that it was simulated in.
    """
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(result.states.items()))
    seconds = result.seconds or 1.0
    rows = {
        "checkpoints, weights": f"{result.items:,}, {text_bytes(result.nbytes)}",
        "nodes, workers": f"{world.nodes}, {world.nodes * world.machine.workers}",
        "ends": states,
        "tries, workers lost, run alone": f"{result.tries:,}, {result.lost_workers:,}, {result.alone:,}",
        "hours": f"{seconds / 3600:,.1f}",
        "read, written": f"{text_bytes(result.bytes_in)}, {text_bytes(result.bytes_out)}",
        "requests to read, a second": f"{result.gets / 1e6:,.1f} million, {result.gets / seconds:,.0f}",
        "requests to write, a second": f"{result.puts / 1e6:,.1f} million, {result.puts / seconds:,.0f}",
        **{f"dollars: {what}": f"{dollars:,.2f}" for what, dollars in result.dollars.items()},
        **{
            f"workers' time: {why}": f"{result.share(why):.0%}"
            for why in sorted(result.held_up, key=result.share, reverse=True)
        },
    }
    if result.api_calls:
        rows["calls: API, resolvers"] = f"{result.api_calls:,.0f}, {result.resolver_calls:,.0f}"
    return ["| what | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]


def scenarios(count: int, world: World) -> Iterable[str]:
    """The same list in other circumstances, one line each.

    Args:
        count: checkpoints.
        world: what is changed in them.
    """
    machine, store = world.machine, world.store
    worlds = {
        "as built": world,
        "three parts uploaded at a time": replace(world, store=replace(store, uploads_at_once=3)),
        "two workers for each vCPU": replace(world, machine=replace(machine, workers=2 * machine.workers)),
        "both": replace(
            world,
            store=replace(store, uploads_at_once=3),
            machine=replace(machine, workers=2 * machine.workers),
        ),
        "outputs not read back": replace(world, conversion=replace(world.conversion, reads_back=False)),
        "four times the nodes": replace(world, nodes=4 * world.nodes),
    }
    yield "| circumstances | weights | hours | machines | requests | held up by | its share |"
    yield "|---|---|---|---|---|---|---|"
    for which in ("downloads", "embeddings"):
        yield _line(f"as built, sizes of the list `{which}`", count, world, which)
    for name, changed in worlds.items():
        yield _line(name, count, changed, "both")


def hub(count: int, world: World) -> Iterable[str]:
    """The Hub as source and destination, on each of its plans.

    Args:
        count: checkpoints.
        world: the machines.
    """
    each_block = replace(TO_HUB, resolver_per_block=True)
    items = listed(drawn_sizes(count, "both", seed=1))
    yield "| plan | hours | held up by | hours, the resolver asked for each block | held up by |"
    yield "|---|---|---|---|---|"
    for plan in PLANS:
        once, often = (simulate(items, replace(world, plan=plan, hub=use)) for use in (TO_HUB, each_block))
        yield f"| {plan.name} | {_hours(once)} | {_hours(often)} |"


def cost(counts: Iterable[int]) -> Iterable[str]:
    """What the fleet's own code costs, by length of the list.

    Args:
        counts: the lengths.
    """
    with TemporaryDirectory() as folder:
        measured(200, Path(folder))  # imports and caches
        costs = [measured(count, Path(folder)) for count in counts]
    parts = list(costs[0].micros)
    yield f"| checkpoints | {' | '.join(f'{part}, µs' for part in parts)} | memory, bytes |"
    yield "|---" * (len(parts) + 2) + "|"
    for one in costs:
        yield f"| {one.items:,} | {' | '.join(f'{one.micros[part]:.1f}' for part in parts)} | {one.memory:,.0f} |"


def _hours(run: Result) -> str:
    return f"{run.seconds / 3600:,.1f} | {run.bottleneck} ({run.share(run.bottleneck):.0%})"


def _line(name: str, count: int, world: World, which: str) -> str:
    run = simulate(listed(drawn_sizes(count, which, seed=1)), world)
    return (
        f"| {name} | {text_bytes(run.nbytes)} | {run.seconds / 3600:,.2f} | ${run.dollars['machines']:,.2f} "
        f"| ${run.dollars['requests']:,.2f} | {run.bottleneck} | {run.share(run.bottleneck):.0%} |"
    )
