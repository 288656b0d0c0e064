"""Deletes every check of the readers and the writer, one at a time, and looks for a test that turns red.

    python -m qa.guards                                 all of them; 1 when the tests miss one
    python -m qa.guards --list                          what is a guard
    python -m qa.guards --only containers/safetensors.py
    python -m qa.guards --sample 12 --seed 3 --tests 'tests/formats/test_*.py'

Guards are found in the source (`find`); protections that are no refusals are marked in it (`marks`).
They are deleted in a copy. First every test runs once with a probe at each guard, which tells the tests that make it
refuse (kept in the temporary folder, by the digest of the sources); then only those run, and the first red one ends it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from qa import ROOT
from qa.guards.bench import TESTS, Bench, Reach, prepare
from qa.guards.campaign import Campaign, Outcome
from qa.guards.find import Guard, find
from qa.guards.marks import unmatched


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
    """The command line; 1 when a deletion goes unnoticed, 2 when a mark has no change, or a change no mark."""
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
    if arguments.root == ROOT and (wrong := unmatched(ROOT)):
        print(*wrong, sep="\n", file=sys.stderr)
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
