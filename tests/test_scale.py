"""qa.scale: the simulation of a fleet, held to arithmetic. What the fleet's own code costs is counted, not timed."""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.fleet.items import Item
from bertconv.fleet.scheduler import Scheduler
from qa.scale.__main__ import main
from qa.scale.cost import drive, driven
from qa.scale.engine import ModelledEngine
from qa.scale.hub import Budget
from qa.scale.node import CHECK, WRITE, Node
from qa.scale.rates import GB, MB, PLANS, WINDOW, Conversion, HubUse, Machine, Store, Trouble, World
from qa.scale.run import Result, listed, simulate
from qa.scale.sizes import LISTS, drawn_sizes, real_sizes

CALM = Trouble(refused=0, internal=0, poison=0, transient=0, lost=0, node_losses=())
FREE = Store(latency=0, connection=math.inf, small_reads=0, small_writes=0)
NOTHING = Conversion(write_rate=math.inf, check_rate=math.inf, fixed=0, reads_back=False)


# What is drawn


def test_lists_are_as_their_module_says() -> None:
    assert {which: len(real_sizes(which)) for which in (*LISTS, "both")} == {
        "downloads": 35,
        "embeddings": 207,
        "both": 242,
    }
    assert set(drawn_sizes(500, "both", 1)) <= set(real_sizes("both"))
    assert drawn_sizes(50, "both", 1) == drawn_sizes(50, "both", 1) != drawn_sizes(50, "both", 2)


# A machine


def rates(world: World, writing: int, checking: int) -> tuple[float, float]:
    """Bytes a second of each worker that writes and of each that reads back, on one machine."""
    node = Node(world)
    for stream, count in ((WRITE, writing), (CHECK, checking)):
        for job in range(count):
            node.start(0.0, stream, 100 * stream + job, 1e18)
    node.ended(1.0)
    return node.moved[WRITE] / max(1, writing), node.moved[CHECK] / max(1, checking)


@pytest.mark.parametrize(
    ("network", "writing", "checking", "expected"),
    [
        (math.inf, 1, 0, (90 * MB, 0)),  # one connection goes out
        (math.inf, 0, 1, (0, 270 * MB)),  # three come in
        (math.inf, 64, 0, (90 * MB, 0)),
        (450 * MB, 10, 0, (45 * MB, 0)),  # the way out is full
        (450 * MB, 0, 10, (0, 45 * MB)),
        (450 * MB, 5, 5, (45 * MB, 45 * MB)),  # the way in is for both
        (600 * MB, 2, 2, (90 * MB, 210 * MB)),  # who writes cannot take its part; who reads back has it
    ],
)
def test_workers_share_a_machine(network: float, writing: int, checking: int, expected: tuple[float, float]) -> None:
    world = World(machine=Machine(cores=1000, network=network))
    assert rates(world, writing, checking) == pytest.approx(expected)


def test_workers_share_processors() -> None:
    conversion = Conversion(write_rate=40 * MB, check_rate=80 * MB)
    world = World(machine=Machine(cores=2, network=math.inf), conversion=conversion)
    assert rates(world, 2, 0) == pytest.approx((40 * MB, 0))
    assert rates(world, 8, 0) == pytest.approx((10 * MB, 0))
    write, check = rates(world, 4, 4)
    assert write == check
    assert 4 * write / (40 * MB) + 4 * check / (80 * MB) == pytest.approx(2)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.sampled_from((WRITE, CHECK)), st.floats(0, 2 * GB)), max_size=30),
    st.floats(10 * MB, 5 * GB),
)
def test_a_machine_moves_what_it_was_given_and_no_faster_than_its_network(
    starts: list[tuple[float, int, float]], network: float
) -> None:
    node, ended, now = Node(World(machine=Machine(network=network))), Counter[int](), 0.0
    for job, (at, stream, size) in enumerate(sorted(starts)):
        while node.next_end() <= at:
            now = node.next_end()
            ended.update(job for _, job in node.ended(now))
        now = at
        node.start(at, stream, job, size)
    while node.next_end() < math.inf:
        now = node.next_end()
        ended.update(job for _, job in node.ended(now))
    assert ended == Counter(range(len(starts)))
    lost_in_rounding = len(starts) * network * 1e-6  # a microsecond of each
    assert sum(node.moved) == pytest.approx(sum(size for _, _, size in starts), abs=lost_in_rounding)
    assert sum(node.moved) <= network * now * (1 + 1e-6) + 1
    assert node.bound_seconds.total <= now * len(starts) + 1e-6


# The Hub


@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(0, 250)), max_size=40), st.integers(1, 100))
@settings(max_examples=50)
def test_no_window_answers_more_calls_than_a_plan_has(takes: list[tuple[float, int]], limit: int) -> None:
    budget, last = Budget(limit), 0.0
    for now, calls in sorted(takes):
        answered = budget.take(now, calls)
        assert answered >= max(now, last if calls else 0)
        last = max(last, answered)
    total, begun = sum(calls for _, calls in takes), min((now for now, _ in takes), default=0.0)
    # all windows from the first to the last are full at most
    assert total <= limit * (last // WINDOW - begun // WINDOW + 1)


# A run


def test_a_run_takes_what_arithmetic_says() -> None:
    world = World(
        nodes=2, machine=Machine(network=1 * GB), store=FREE, conversion=replace(NOTHING, fixed=0.5), trouble=CALM
    )
    # 32 workers: each takes one item of 100 MB in a wave; 16 of a machine share 1 GB/s
    run = simulate(listed([100 * MB] * 64), world)
    assert run.seconds == pytest.approx(2 * (0.5 + 16 * 0.1), rel=1e-3)
    assert (run.bytes_in, run.bytes_out) == pytest.approx((6.4 * GB, 6.4 * GB))
    assert run.states == {"done": 64}
    assert run.bottleneck == "network in"
    assert run.held_up.total == pytest.approx(run.seconds * 32, rel=1e-3)


def test_reading_back_moves_the_bytes_in_again() -> None:
    run = simulate(listed([10 * MB] * 20), World(trouble=CALM))
    assert (run.bytes_in, run.bytes_out) == pytest.approx((400 * MB, 200 * MB))
    assert run.kept_bytes == 200 * MB


@pytest.mark.parametrize(
    ("trouble", "states"),
    [
        (replace(CALM, refused=1000), {"failed": 40}),
        (replace(CALM, internal=1000), {"quarantined": 40}),
        (replace(CALM, poison=1000), {"quarantined": 40}),
        (replace(CALM, transient=1000), {"failed": 40}),
        (replace(CALM, transient=300), {"done": 40}),
        (replace(CALM, node_losses=(1.0, 2.0, 3.0, 4.0)), {"done": 40}),
    ],
    ids=["refused", "bugs", "killers", "store down", "store down at times", "machines lost"],
)
def test_every_item_ends(trouble: Trouble, states: dict[str, int]) -> None:
    run = simulate(listed([500 * MB] * 40), World(trouble=trouble))
    assert run.states == states


def test_killers_of_workers_end_alone() -> None:
    run = simulate(listed([500 * MB] * 10), World(trouble=replace(CALM, poison=1000)))
    assert (run.tries, run.lost_workers, run.alone) == (30, 30, 10)


def test_lost_machines_take_their_items_and_come_back() -> None:
    world = World(nodes=1, trouble=replace(CALM, node_losses=(1.0,), node_away=50.0))
    run = simulate(listed([500 * MB] * 16), world)
    assert (run.lost_workers, run.tries, run.states) == (16, 32, {"done": 16})
    calm = simulate(listed([500 * MB] * 16), replace(world, trouble=CALM))
    assert run.seconds == pytest.approx(51 + calm.seconds, abs=0.01)
    assert run.bytes_out > calm.bytes_out


def test_a_run_can_be_repeated() -> None:
    def once(seed: int) -> Result:
        return simulate(listed(drawn_sizes(300, "both", 1)), World(trouble=replace(Trouble(), transient=50)), seed)

    assert once(1) == once(1)
    assert once(1) != once(2)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_hub_takes_as_long_as_its_plan_says(plan: object) -> None:
    use = HubUse(api=plan.api / 10, resolvers=1)
    run = simulate(listed([1 * MB] * 200), World(plan=plan, hub=use, trouble=CALM))
    # ten items in each of twenty windows
    assert 19 * WINDOW < run.seconds < 19 * WINDOW + 1
    assert run.bottleneck == "Hub: API"
    assert run.api_calls == pytest.approx(200 * use.api)


def test_the_engine_waits_no_longer_than_it_is_told() -> None:
    engine = ModelledEngine(World(trouble=CALM))
    assert engine.wait(5.0) == []
    assert engine.now == 5.0
    engine.submit(Item("a", size=100 * MB), alone=False)
    assert engine.wait(0.001) == []
    assert [end.outcome.code for end in engine.wait(math.inf)] == [0]
    assert engine.slots == 64


# What the fleet's own code costs: counted


class Size(int):
    """A size that counts how often heaps compare it."""

    compared = 0

    def __neg__(self) -> Size:
        return Size(-int(self))

    def __lt__(self, other: int) -> bool:
        Size.compared += 1
        return int(self) < int(other)


class Name(str):
    """An id that counts how often it is compared with another: a dictionary finds it without."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str(self) == other


def steps(run: object) -> int:
    """Instructions of Python that something takes."""
    count = 0

    def local(_frame: object, event: str, _: object) -> object:
        nonlocal count
        count += event == "opcode"
        return local

    def entered(frame: object, _event: str, _: object) -> object:
        frame.f_trace_opcodes = True
        return local

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def test_the_scheduler_costs_an_item_the_same_in_a_long_list() -> None:
    def each(count: int) -> tuple[float, float, float]:
        ids = [(Name(number), Size(number * 7919 % 1000)) for number in range(count)]
        Size.compared = Name.compared = 0
        taken = steps(lambda: drive(ids))
        return taken / count, Size.compared / count, Name.compared / count

    (few, few_sizes, few_names), (many, many_sizes, many_names) = each(400), each(2000)
    assert many < 1.15 * few
    assert many_sizes < 1.25 * few_sizes * math.log2(2000) / math.log2(400)
    assert max(few_names, many_names) < 1


def test_a_simulation_costs_an_item_the_same_in_a_long_list() -> None:
    def each(count: int) -> float:
        items = listed(drawn_sizes(count, "both", 1))
        return steps(lambda: simulate(items, World())) / count

    assert each(400) < 1.1 * each(100)


def test_driving_ends_every_item() -> None:
    ids = [(str(number), number) for number in range(1000)]
    assert drive(ids) > 1000
    assert Scheduler().left == 0


def test_the_driver_keeps_little_of_each_item_in_memory(tmp_path: Path) -> None:
    """The rows of a long list are in the ledger, and not in memory beside it."""

    def peak(count: int) -> int:
        items = listed([1000] * count)
        driven(items, tmp_path / f"{count}.db")
        tracemalloc.start()
        try:
            assert driven(items, tmp_path / f"{count}.db").counts == {"done": count}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(200), peak(1200)
    assert (many - few) / 1000 < 1500


# The command


@pytest.mark.parametrize("what", ["simulate", "scenarios", "hub", "cost"])
def test_tables_are_printed(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([what, "--checkpoints", "1000" if what == "cost" else "40"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert {line.count("|") for line in lines} == {lines[1].count("|")}
