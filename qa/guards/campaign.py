"""A campaign of deletions: each guard is taken away in a copy, and the tests that reach it must turn red."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from qa.guards.bench import SECONDS, Bench, Reach, Watchdog
from qa.guards.find import Guard, apply

STAGES = (0, 3, 15, 400)
"""Tests are tried in three runs: the first three, a dozen more, and the others up to this many."""


@dataclass(frozen=True)
class Outcome:
    """What became of one deletion: "killed", "survived" or "unreached", and by which test."""

    guard: Guard
    status: str
    by: str = ""

    def row(self) -> dict[str, object]:
        """Plain data."""
        guard = self.guard
        return {
            "file": guard.file, "line": guard.line, "function": guard.function, "kind": guard.kind,
            "text": guard.text, "status": self.status, "by": self.by,
        }  # fmt: skip


class Campaign:
    """Deletes guards in a copy of a repository."""

    def __init__(self, bench: Bench, guards: list[Guard], reach: Reach, tell: Callable[[str], None]) -> None:
        self._bench, self._guards, self._reach, self._tell = bench, guards, reach, tell
        self._shaky: set[str] = set()

    def run(self, numbers: list[int]) -> list[Outcome]:
        """Delete these guards, one at a time."""
        outcomes = {number: self._delete(number) for number in numbers}
        while doubted := self._doubted({outcome.by for outcome in outcomes.values()}):
            self._shaky |= doubted
            again = [number for number in numbers if outcomes[number].by in doubted]
            outcomes |= {number: self._delete(number) for number in again}
        return list(outcomes.values())

    def _delete(self, number: int) -> Outcome:
        """Delete one guard and run the tests that make it refuse."""
        guard, began = self._guards[number], time.monotonic()
        tests = [test for test in self._reach.tests(number, guard) if test not in self._shaky]
        outcome = Outcome(guard, "unreached")
        if tests:
            self._bench.change(guard.file, apply(self._bench.original(guard.file), guard.deletion))
            try:
                runs = (self._first_red(tests[begin:end]) for begin, end in pairwise(STAGES))
                red = next((test for test in runs if test), "")
            finally:
                self._bench.change(guard.file, self._bench.original(guard.file))
            outcome = Outcome(guard, "killed" if red else "survived", red)
        self._tell(f"{outcome.status:9} {time.monotonic() - began:5.1f} s  {guard}")
        return outcome

    def _first_red(self, tests: list[str], extra: tuple[str, ...] = ()) -> str:
        if not tests:
            return ""
        seconds = {test: self._reach.seconds[test] for test in tests}
        code = self._bench.pytest([*extra, *tests], 3 * SECONDS + 5 * sum(seconds.values()), [Watchdog(seconds)])
        if code == 0:
            return ""
        found = self._red()
        return found[0] if found else f"{'it hangs' if code is None else f'status {code}'}: {tests[0]}"

    def _red(self) -> list[str]:
        return re.findall(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", self._bench.said(), re.MULTILINE)

    def _doubted(self, tests: set[str]) -> set[str]:
        """Of tests that were red, those that are red without the others of their file too, while nothing is deleted."""
        files: dict[str, list[str]] = {}
        for test in sorted(tests & self._reach.seconds.keys() - self._shaky):
            files.setdefault(test.partition("::")[0], []).append(test)
        found = set()
        for own in files.values():
            if self._first_red(own, ("--maxfail=1000000",)):
                found |= set(self._red()) & tests or set(own)
        return found
