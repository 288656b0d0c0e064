"""A fleet whose workers are killed at random moments, and its driver once: everything good is done all the same.

    python -m qa.fleet                                  300 checkpoints on Ray, 12 kills: some 15 minutes
    python -m qa.fleet --engine local --count 60 --no-larger
    python -m qa.fleet --root DIR                       keep the checkpoints there, and use them again

It makes checkpoints of all families, classes and formats, some of them hostile or broken, and converts each by itself;
runs `bertconv fleet run` over all, kills workers (SIGKILL), kills the driver, and runs again. Then every good output
must have the bytes of its single run, every bad one must be on record with its exit code, nothing may be left behind
(files, processes, folders of Ray), and one more run must do nothing. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertconv.formats.destination import MANIFEST
from qa.fleet.checking import Checked, check_outputs, check_reported, check_summary, snapshot
from qa.fleet.killing import LATER, Fire, Ran, moments, run_under_fire
from qa.fleet.making import Case, canary_of, make_fleet

SHOWN = 20
"""Problems that are printed; all of them go into the JSON."""


@dataclass(frozen=True)
class Options:
    """What a campaign does.

    Attributes:
        engine: of `bertconv fleet run`.
        workers: of it.
        kills: workers to be shot.
        seed: of values, moments and victims.
        kill_driver: whether the driver is shot, too.
        later: most seconds that a shot waits.
    """

    engine: str
    workers: int
    kills: int
    seed: int
    kill_driver: bool = True
    later: float = LATER


@dataclass
class Campaign:
    """What was seen.

    Attributes:
        cases: the items.
        runs: those under fire; the last one came to its end.
        idle: one more.
        checked: what is there.
    """

    cases: Sequence[Case]
    runs: list[Ran]
    idle: Ran
    checked: Checked

    @property
    def shots(self) -> list[str]:
        """Who was shot, and when."""
        return [shot for run in self.runs for shot in run.shots]


def campaign(root: Path, cases: Sequence[Case], options: Options) -> Campaign:
    """Run the fleet under fire, and judge what is left.

    Args:
        root: with the checkpoints; `root/out` and `root/run.log` are made.
        cases: of `make_fleet`.
        options: see there.
    """
    out, log, listing = root / "out", root / "run.log", root / "list.jsonl"
    shutil.rmtree(out, ignore_errors=True)
    log.unlink(missing_ok=True)
    listing.write_text("".join(json.dumps(_line(case)) + "\n" for case in cases))
    command = _command(listing, out, options)
    rng, good = random.Random(options.seed), sum(case.single is not None for case in cases)
    shots = moments(rng, options.kills, 1, max(good - 2 * options.workers, options.kills + 2))
    driver = rng.randrange(good // 3, 2 * good // 3) if options.kill_driver else None

    def finished() -> int:
        return sum(1 for _ in out.glob(f"*/{MANIFEST}"))

    fire = Fire(rng, options.later)
    early = [shot for shot in shots if driver is None or shot < driver]
    runs = [run_under_fire(command, log, finished, fire=fire, shots=early, driver=driver)]
    if driver is not None:  # at once, as whoever sees it end would do
        runs.append(run_under_fire(command, log, finished, fire=fire, shots=shots[len(early) :]))
    problems = [problem for run in runs for problem in alive(run)]
    state = snapshot(out)
    idle = run_under_fire(command, log, finished, fire=fire)
    if snapshot(out) != state:
        problems.append("a run with nothing to do changed the outputs")
    problems += check_summary(cases, runs[-1], "") + check_summary(cases, idle, "kept")
    checked = check_outputs(cases, out)
    checked.problems += problems + check_reported(cases, out)
    checked.problems += ["a payload ran"] * canary_of(root).exists()
    checked.problems += [f"left behind: {name}" for name in sorted(_folders_of_ray(runs))]
    return Campaign(cases, runs, idle, checked)


def alive(run: Ran) -> list[str]:
    """Processes that outlive their driver."""
    return [f"alive after the run: {one.number} {one.words[:80]}" for one in run.survivors()]


def _line(case: Case) -> dict[str, Any]:
    return {"src": str(case.source), "dst": str(case.source.parents[1] / "out" / case.name),
            "options": {"to": case.to, **case.options}}  # fmt: skip


def _command(listing: Path, out: Path, options: Options) -> list[str]:
    own = [sys.executable, "-c", "from bertconv.cli import main; main()", "fleet", "run", str(listing), str(out)]
    return [*own, "--json", "--to", "tf", "--engine", options.engine, "--workers", str(options.workers)]


def _folders_of_ray(runs: Sequence[Ran]) -> set[str]:
    """Those of the runs' clusters, by the words of their processes, as far as they are there."""
    named = {
        each for run in runs for one in run.seen.values() for each in re.findall(r"/\S*bertconv-ray-\w+", one.words)
    }
    return {name for name in named if Path(name).exists()}


def made(root: Path, count: int, bad: int, seed: int, *, larger: bool) -> list[Case]:
    """The checkpoints; those of an earlier campaign with the same arguments where they are there."""
    record, asked = root / "cases.pickle", (count, bad, seed, larger)
    if record.exists():
        there, cases = pickle.loads(record.read_bytes())
        if there == asked:
            return list(cases)
    for name in ("src", "single"):
        shutil.rmtree(root / name, ignore_errors=True)
    cases = make_fleet(root, count, bad, seed, larger=larger)
    record.write_bytes(pickle.dumps((asked, cases)))
    return cases


def show(seen: Campaign, seconds: float) -> None:
    """What was seen, for people."""
    good = [case for case in seen.cases if case.single is not None]
    nbytes = sum(path.stat().st_size for case in seen.cases for path in case.source.rglob("*") if path.is_file())
    print(f"{len(seen.cases)} items, {nbytes / 1e6:,.1f} MB, made and converted one by one in {seconds:.0f} s")
    print("  classes", len({case.what for case in good}), " sources", dict(Counter(case.form for case in good)))
    print("  targets", dict(Counter(case.to for case in good)))
    for number, run in enumerate(seen.runs, 1):
        print(f"run {number}: {run.seconds:.1f} s, exit status {run.status}")
        print("".join(f"    shot {shot}\n" for shot in run.shots), end="")
    idle = seen.idle
    print(f"one more run: {idle.seconds:.2f} s, {idle.processor:.2f} s of a processor, exit status {idle.status}")
    checked = seen.checked
    print(
        f"{checked.identical} of {len(good)} outputs identical: {checked.files} files, {checked.nbytes / 1e6:,.1f} MB"
    )
    print(f"{sum(case.single is None for case in seen.cases)} bad ones; {len(checked.problems)} problems")
    print("".join(f"    BAD {problem}\n" for problem in checked.problems[:SHOWN]), end="")


def main() -> int:
    """Run a campaign; the exit code is 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="ray", choices=("local", "ray"))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--bad", type=int, default=10)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--no-larger", action="store_true", help="tiny ones only")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--root", type=Path, help="where everything is made [default: a temporary folder]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was seen there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bertconv-fleet-") as name:
        root = (given.root or Path(name)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        cases = made(root, given.count, given.bad, given.seed, larger=not given.no_larger)
        seconds = time.perf_counter() - began
        seen = campaign(root, cases, Options(given.engine, given.workers, given.kills, given.seed))
        show(seen, seconds)
    if given.json is not None:
        facts = {
            **{name: getattr(given, name) for name in ("engine", "workers", "seed", "count", "bad")},
            "shots": seen.shots,
            "seconds": [run.seconds for run in seen.runs],
            "idle": [seen.idle.seconds, seen.idle.processor],
            "identical": seen.checked.identical,
            "problems": seen.checked.problems,
            "processors": os.cpu_count(),
        }
        given.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(bool(seen.checked.problems))


if __name__ == "__main__":
    sys.exit(main())
