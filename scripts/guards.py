"""Deletes every check of the readers and the writer, one at a time, and looks for a test that turns red.

    python scripts/guards.py                                 all of them; 1 when the tests miss one
    python scripts/guards.py --list                          what is a guard
    python scripts/guards.py --only containers/safetensors.py
    python scripts/guards.py --sample 12 --seed 3 --tests 'tests/formats/test_*.py'

Guards are found in the source (`guards_find.py`); protections that are not refusals are listed in `guards_texts.py`.
They are deleted in a copy. First every test runs once with a probe at each guard, which tells the tests that make it
refuse (kept in the temporary folder, by the digest of the sources); then only those run, and the first red one ends it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from guards_find import Guard, apply, find, stale
from guards_run import SECONDS, TESTS, Bench, Reach, Watchdog, prepare

ROOT = Path(__file__).resolve().parents[1]
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


def run(arguments: argparse.Namespace, guards: list[Guard], tell: Callable[[str], None]) -> tuple[list[Outcome], Reach]:
    """What the command line asks for."""
    prepare()
    cache = Path(tempfile.gettempdir()) / "bertconv-guards"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bertconv-guards-") as work:
        bench = Bench(arguments.root, Path(work))
        reach = bench.reach(guards, arguments.tests or TESTS, cache, tell)
        numbers = [number for number, guard in enumerate(guards) if arguments.only in guard.file]
        if arguments.tests:
            numbers = [number for number in numbers if reach.by_guard[number]]
        if arguments.sample:
            numbers = sorted(random.Random(arguments.seed).sample(numbers, min(arguments.sample, len(numbers))))
        return Campaign(bench, guards, reach, tell).run(numbers), reach


def main() -> int:
    """The command line; 1 when a deletion goes unnoticed, 2 when there is a textual one that does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only list the guards")
    parser.add_argument("--only", default="", metavar="PATH", help="guards of the files whose path holds this")
    parser.add_argument("--sample", type=int, help="so many guards, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", action="append", metavar="GLOB", help="only these tests, and the guards they reach")
    parser.add_argument("--json", action="store_true", help="print every guard and its outcome as JSON")
    parser.add_argument("--quiet", action="store_true", help="do not tell of each step on standard error")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    arguments = parser.parse_args()
    guards = find(arguments.root)
    if arguments.list:
        chosen = [Outcome(guard, "") for guard in guards if arguments.only in guard.file]
        print(
            json.dumps([one.row() for one in chosen]) if arguments.json else "\n".join(str(one.guard) for one in chosen)
        )
        return 0
    if arguments.root == ROOT and (old := stale(ROOT)):
        print("scripts/guards_texts.py is out of date:", *old, sep="\n", file=sys.stderr)
        return 2
    outcomes, reach = run(
        arguments, guards, lambda text: None if arguments.quiet else print(text, file=sys.stderr, flush=True)
    )
    missed = [outcome for outcome in outcomes if outcome.status != "killed"]
    if arguments.json:
        print(json.dumps([outcome.row() for outcome in outcomes]))
    else:
        for test in reach.red:
            print(f"left out, it is red or skipped by itself: {test}")
        for outcome in missed:
            print(f"{outcome.status}: {outcome.guard}")
        print(f"{len(outcomes)} guards deleted, {len(outcomes) - len(missed)} noticed, seed {arguments.seed}")
    return 1 if missed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
