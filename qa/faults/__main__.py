"""Faults, signals, full disks and rivals for every verb that writes a folder: its old content or the new one, whole.

    python -m qa.faults                                    a sample of every suite
    python -m qa.faults --every --json faults.json         every call with every fault: some hours
    python -m qa.faults --suite writing --scene tf-over --mode eio --at 37         one point again

Suites: `writing` (each call that changes something x kill -9 before it, kill -9 in its middle, no space from there on,
one EIO, a short write, EINTR), `reading` (each read of the source x EIO, short, EINTR, end of file, and the file cut,
written over or replaced), `readback` (each read of what was written), `verify` (of `bertconv verify DST`), `signals`
(INT, TERM, HUP at each call, and at random moments), `disk` (a full tmpfs, with root; RLIMIT_FSIZE), `writers` (two to
eight at once). A point is bad when the destination is neither old nor new, when success is claimed falsely, when an
error has no type and no name, when something is left behind, or when `bertconv gc` or the next run does not put it
right.
A sample runs in tests/faults. Linux with a C compiler only.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from qa.faults.client import serving
from qa.faults.shim import obstacle
from qa.faults.suites import SUITES, Options, Tally

SHOWN = 3
"""Bad points that are printed of each scene; all of them go into the JSON."""


def survey(options: Options, names: Iterable[str]) -> list[Tally]:
    """The suites, one line for each scene as it ends."""
    found = []
    print(f"{'suite':9} {'scene':28} {'calls':>5} {'points':>6} {'happened':>8} {'bad':>4} {'s':>6}  ends")
    with tempfile.TemporaryDirectory(prefix="bertconv-faults-") as name, serving(Path(name)) as server:
        for suite in names:
            began = time.perf_counter()
            for tally in SUITES[suite](options, server, Path(name) / suite):
                tally.seconds, began = time.perf_counter() - began, time.perf_counter()
                ends = ", ".join(f"{end}: {count}" for end, count in sorted(tally.ends.items()))
                print(
                    f"{suite:9} {tally.scene:28} {tally.calls:5} {tally.points.total():6} {tally.happened:8} "
                    f"{len(tally.bad):4} {tally.seconds:6.1f}  {ends}", flush=True,
                )  # fmt: skip
                for problem in tally.bad[:SHOWN]:
                    print("    BAD", " ".join(problem.split())[:400], flush=True)
                found.append(tally)
    return found


def main() -> int:
    """Run the suites; the exit code is 1 when a point was bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", action="store_true", help="every point instead of a sample")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--scene", default="", help="one scene of the suite, as tf-over")
    parser.add_argument("--mode", default="", help="one kind of fault, as eio")
    parser.add_argument("--at", type=int, default=0, help="one number of a call")
    parser.add_argument("--points", type=int, default=24, help="points of each scene in a sample")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts and all bad points there")
    arguments = parser.parse_args()
    if problem := obstacle():
        print(f"nothing was run: {problem}")
        return 0
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}")
    options = Options(arguments.every, seed, arguments.points, arguments.scene, arguments.mode, arguments.at)
    found = survey(options, arguments.suite)
    modes = sum((Counter({f"{each.suite}/{mode}": n for mode, n in each.points.items()}) for each in found), Counter())
    print("".join(f"{count:6} {mode}\n" for mode, count in sorted(modes.items())), end="")
    bad = sum(len(each.bad) for each in found)
    print(f"{modes.total()} points, {bad} complaints")
    if arguments.json is not None:
        facts = {
            "seed": seed,
            "every": options.every,
            "points": modes.total(),
            "scenes": [vars(each) for each in found],
        }
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
