"""The scheduler: order, retries by exit code, lost workers; and that names cost nothing, however many there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertconv.fleet.outcome import DONE, FAILED, QUARANTINED, WAITING
from bertconv.fleet.scheduler import Policy, Scheduler, Task

STEADY = Policy(retries=2, first_delay=10.0, most_delay=25.0)


def of(*names: str, policy: Policy = STEADY) -> Scheduler:
    scheduler = Scheduler(policy)
    for name in names:
        scheduler.add(name)
    return scheduler


def test_large_items_go_first_and_equal_ones_in_their_order() -> None:
    scheduler = Scheduler()
    for name, size in (("a", 1), ("b", 5), ("c", 1), ("d", 5), ("e", 0)):
        scheduler.add(name, size)
    assert [task.name for _ in range(5) if (task := scheduler.next(0))] == ["b", "d", "a", "c", "e"]
    assert scheduler.next(0) is None
    assert (scheduler.running, scheduler.left) == (5, 5)


def test_an_item_is_scheduled_once() -> None:
    with pytest.raises(ValueError, match="already"):
        of("a").add("a")


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, DONE), *((code, FAILED) for code in (1, 2, 3, 4, 5, 6)), (9, QUARANTINED),
     *((code, WAITING) for code in (7, 8, 130, 137, 143))],
)  # fmt: skip
def test_the_exit_code_decides(code: int, state: str) -> None:
    scheduler = of("a")
    scheduler.next(0)
    assert scheduler.finished("a", code, 0).state == state
    assert scheduler.left == (state == WAITING)
    assert scheduler.running == 0


def test_what_may_pass_is_tried_again_later_and_not_for_ever() -> None:
    scheduler, now, delays = of("a"), 0.0, []
    for _ in range(STEADY.retries):
        assert scheduler.next(now) is not None
        verdict = scheduler.finished("a", 7, now)
        assert verdict.state == WAITING
        assert scheduler.next(now) is None
        assert scheduler.due() == verdict.due
        delays.append(verdict.due - now)
        now = verdict.due
    assert 5 <= delays[0] <= 10 <= delays[1] <= 20
    assert scheduler.next(now) == Task("a", 3, alone=False)
    assert scheduler.finished("a", 8, now).state == FAILED
    assert scheduler.due() is None


def test_delays_have_a_ceiling_and_differ_from_item_to_item() -> None:
    assert all(STEADY.delay(f"{number}", 5000) <= 25 for number in range(50))
    assert len({STEADY.delay(f"{number}", 1) for number in range(50)}) > 40


def test_an_item_that_loses_two_workers_is_run_alone_and_then_quarantined() -> None:
    scheduler, now = of("a", policy=Policy(retries=0)), 0.0
    for alone in (False, True):
        scheduler.next(now)
        verdict = scheduler.lost("a", now)
        assert (verdict.state, verdict.alone) == (WAITING, alone)
        now = verdict.due
    task = scheduler.next(now)
    assert task is not None
    assert task.alone
    assert scheduler.lost("a", now).state == QUARANTINED
    assert scheduler.left == 0


def test_an_item_that_ends_well_alone_is_done() -> None:
    scheduler = Scheduler()
    scheduler.add("a", lost=2)
    task = scheduler.next(0)
    assert task is not None
    assert task.alone
    assert scheduler.finished("a", 0, 0).state == DONE


@given(
    st.lists(st.sampled_from([0, 1, 5, 7, 8, 9, 143, "lost"]), min_size=1, max_size=200),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_every_item_ends_once_whatever_happens(ends: list[int | str], items: int, slots: int) -> None:
    scheduler = of(*(str(number) for number in range(items)))
    now, ended, running = 0.0, [], []
    script = iter(ends * 50)
    while scheduler.left:
        while len(running) < slots and (task := scheduler.next(now)):
            running.append(task.name)
        if not running:
            now = scheduler.due() or now
            continue
        name, end = running.pop(0), next(script, 0)
        verdict = scheduler.lost(name, now) if end == "lost" else scheduler.finished(name, int(end), now)
        assert scheduler.running == len(running)
        if verdict.state == WAITING:
            assert verdict.due > now
        else:
            ended.append(name)
    assert sorted(ended) == sorted(str(number) for number in range(items))


class Counted(str):
    """A name that counts how often it is compared, which is what a heap does."""

    __slots__ = ()
    comparisons = 0

    def __lt__(self, other: str) -> bool:
        type(self).comparisons += 1
        return super().__lt__(other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("items", [1000, 8000])
def test_no_names_are_compared(items: int) -> None:
    """Places in the heaps are numbered: names, which may be long, decide nothing."""
    Counted.comparisons = 0
    scheduler = of(*(Counted(number) for number in range(items)))
    while task := scheduler.next(0):
        scheduler.finished(task.name, 0, 0)
    assert Counted.comparisons == 0
