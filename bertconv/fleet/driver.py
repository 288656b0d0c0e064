"""run_fleet(): joins the scheduler, an engine, the ledger and the clock. The one writer of the ledger."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from bertconv import __version__
from bertconv.fleet.engines.engine import Engine, Finished
from bertconv.fleet.items import Item
from bertconv.fleet.kept import look_at, stamp_of
from bertconv.fleet.ledger import Ledger, Row
from bertconv.fleet.outcome import DONE, FAILED, KEPT, QUARANTINED, WAITING, Outcome, lost
from bertconv.fleet.scheduler import Policy, Scheduler, may_pass
from bertconv.formats.interrupts import held_back
from bertconv.manage.gc import collect_beside
from bertconv.records import dataclass
from bertconv.text import is_url, public

_TICK = 0.2
"""Seconds after which the driver looks up: for a signal, and to say how far it is."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total: items of its list.
        counts: state -> how many ended so.
        running: at work now; `waiting` for another try.
        nbytes: of weights that were written, or read.
        seconds: since its start.
    """

    total: int
    counts: Mapping[str, int]
    running: int
    waiting: int
    nbytes: int
    seconds: float

    @property
    def ended(self) -> int:
        """Items that ended."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        counts: state -> how many items ended so.
        nbytes: of weights that were written, or read.
        seconds: that it took.
        failures: the items that failed or are quarantined, in this run or for good in an earlier one.
        leftovers: how many things of killed workers were removed.
    """

    counts: Mapping[str, int]
    nbytes: int
    seconds: float
    failures: tuple[tuple[Item, Outcome], ...] = ()
    leftovers: int = 0

    @property
    def ok(self) -> bool:
        """Whether every item is done."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        failures = [
            {"src": public(item.src), "dst": public(item.dst), "verb": item.verb, "state": outcome.state,
             "code": outcome.code, "kind": outcome.kind, "message": outcome.message, "hint": outcome.hint,
             "file": outcome.file}
            for item, outcome in self.failures
        ]  # fmt: skip
        return {
            "ok": self.ok, "counts": dict(self.counts), "bytes": self.nbytes, "seconds": self.seconds,
            "leftovers": self.leftovers, "failures": failures,
        }  # fmt: skip


@dataclass(frozen=True)
class Run:
    """How a fleet is run.

    Attributes:
        policy: how failures are treated.
        again: also do items anew that failed for good.
        about: what the ledger keeps of the run: its command, its engine.
        watch: called with how far it is, some times a second.
    """

    policy: Policy = field(default_factory=Policy)
    again: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[Progress], None] = lambda _: None


def run_fleet(items: Iterable[Item], engine: Engine, ledger: Ledger, run: Run | None = None) -> Summary:
    """Do what is not done yet of a list.

    Args:
        items: placed, and with options that their verbs have (`work.check_options`).
        engine: where they run; it is closed in the end.
        ledger: what is known of them.
        run: how.

    Returns:
        What it came to. A signal ends it after all workers have cleaned up.

    Raises:
        OutputError: the ledger cannot be written.
    """
    with held_back() as check_signals:
        return _Driver(list(items), engine, ledger, run or Run(), check_signals).done()


class _Driver:
    """One run."""

    def __init__(
        self, items: list[Item], engine: Engine, ledger: Ledger, run: Run, check_signals: Callable[[], None]
    ) -> None:
        self.items = {item.id: item for item in items}
        self.engine, self.ledger, self.run, self.check_signals = engine, ledger, run, check_signals
        self.scheduler = Scheduler(run.policy)
        self.started = self.shown = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.nbytes = self.leftovers = 0
        self.failures: list[tuple[Item, Outcome]] = []
        self.any_lost = False

    def done(self) -> Summary:
        is_over, number = False, 0
        try:
            self._clean_up()
            self._schedule()
            if self.scheduler.left:
                number = self._begin()
                self._loop()
            is_over = True
        finally:
            self.engine.close(stop=not is_over)
            if self.any_lost or not is_over:
                self._clean_up()
            if number:
                self.ledger.end_run(number)
            self.ledger.flush()
        self._show(due=False)
        return Summary(
            dict(self.counts), self.nbytes, time.monotonic() - self.started, tuple(self.failures), self.leftovers
        )

    def _clean_up(self) -> None:
        """What a killed driver or worker left beside outputs; where another one writes, it stays."""
        found = collect_beside(item.dst for item in self.items.values() if item.verb == "convert")
        self.leftovers += sum(one.action != "kept" for one in found)

    def _schedule(self) -> None:
        """Sort out what is done, or failed for good, already; only what is local is looked at, and no weights."""
        todo: list[tuple[Item, str]] = []
        for item in list(self.items.values()):
            self.check_signals()
            seen = look_at(item)
            key, row = seen.key(item), self.ledger.row(item)
            is_same = row is not None and row.key == key != ""
            if is_same and row is not None and self._has_ended(item, row):
                continue
            if is_same and row is not None and is_url(item.dst):  # a worker asks the store whether it is still there
                self.items[item.id] = replace(item, stamp=row.stamp)
            todo.append((item, key))
            lost_before = row.lost if is_same and row is not None and not self.run.again else 0
            self.scheduler.add(item.id, item.size or seen.size, lost=lost_before)
        self.ledger.add(todo)

    def _has_ended(self, item: Item, row: Row) -> bool:
        """Whether an item with this key needs no more work; it is counted then."""
        if row.state in (DONE, KEPT) and (item.verb != "convert" or _is_there(item, row)):
            self.counts[KEPT] += 1
            return True
        is_final = row.state in (FAILED, QUARANTINED) and (row.state == QUARANTINED or not may_pass(row.code))
        if is_final and not self.run.again:
            outcome = Outcome(row.state, row.code, row.kind, row.message, row.hint, row.file, row.tensor)
            self._ends(item, row.state, outcome)
        return is_final and not self.run.again

    def _begin(self) -> int:
        facts = {"started": time.time(), "version": __version__, "host": socket.gethostname(), "pid": os.getpid(),
                 "workers": self.engine.slots}  # fmt: skip
        return self.ledger.begin_run({**facts, **self.run.about})

    def _loop(self) -> None:
        while self.scheduler.left:
            self.check_signals()
            while self.scheduler.running < self.engine.slots and (task := self.scheduler.next(time.monotonic())):
                item = self.items[task.name]
                self.ledger.begin(item)
                self.engine.submit(item, alone=task.alone)
            due = self.scheduler.due()
            rest = _TICK if due is None else min(max(due - time.monotonic(), 0.0), _TICK)
            for finished in self.engine.wait(rest):
                self._finished(finished)
            self.ledger.flush(due=True)
            self._show(due=True)

    def _finished(self, finished: Finished) -> None:
        item, now = self.items[finished.name], time.monotonic()
        outcome = lost(finished.why) if finished.outcome is None else finished.outcome
        if finished.outcome is None:
            self.any_lost = True
            verdict = self.scheduler.lost(item.id, now)
        else:
            verdict = self.scheduler.finished(item.id, outcome.code, now)
        state = outcome.state if verdict.state == DONE else verdict.state
        self.ledger.record(item, state, outcome, is_lost=finished.outcome is None)
        if state != WAITING:
            self._ends(item, state, outcome)

    def _ends(self, item: Item, state: str, outcome: Outcome) -> None:
        self.counts[state] += 1
        if state in (FAILED, QUARANTINED):
            self.failures.append((item, replace(outcome, state=state)))
        elif state == DONE:
            self.nbytes += outcome.nbytes

    def _show(self, *, due: bool) -> None:
        now = time.monotonic()
        if due and now - self.shown < _TICK:
            return
        self.shown = now
        self.run.watch(
            Progress(
                len(self.items), dict(self.counts), self.scheduler.running, self.scheduler.waiting, self.nbytes,
                now - self.started,
            )
        )  # fmt: skip


def _is_there(item: Item, row: Row) -> bool:
    """Whether the output is the one that the ledger knows; of one in a store a worker has to ask."""
    return row.stamp != "" and stamp_of(item.dst) == row.stamp
