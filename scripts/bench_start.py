"""How long a command takes to import what it uses, in groups: medians of runs of `python -X importtime`.

    python scripts/bench_start.py CHECKPOINT                 of a conversion, `pt2tf --verify none`
    python scripts/bench_start.py CHECKPOINT --tree DIR      another version of bertconv, beside this one
    python scripts/bench_start.py CHECKPOINT --runs 21 inspect

Measuring makes every import slower by some hundredths of a millisecond: compare columns, not with a clock. The last row
is of a process that is not measured so, copying included: `user` and `sys`. Prints Markdown, for docs/performance.md.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_parts import ENVIRONMENT, heading

ROOT = Path(__file__).parents[1]
CODE = "from bertconv.cli import main; main()"
COMMANDS = {
    "pt2tf": ("pt2tf", "--quiet", "--verify", "none"),
    "dry-run": ("pt2tf", "--quiet", "--dry-run", "--verify", "none"),
    "inspect": ("inspect",),
    "help": ("--help",),
}
WITH_ALL = ("click", "numpy", "h5py")
"""Packages that are counted with what they are the first to import."""
LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)")


def main() -> None:
    """Print a row for each group and a column for each version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("command", nargs="?", default="pt2tf", choices=COMMANDS)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="folder that holds another bertconv/")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    trees = [*options.tree, ROOT]
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for number in range(options.runs + 1):
        for tree in trees:  # in turns; the first run compiles byte code and is not counted
            took = measured(tree, options.command, options.checkpoint)
            found[tree] += [took] if number else []
    print("\n".join(heading()))
    print(
        "| median of milliseconds |", " | ".join("this version" if tree == ROOT else tree.name for tree in trees), "|"
    )
    print("|---|" + "---|" * len(trees))
    for group in found[ROOT][0]:
        print(
            f"| {group} |",
            " | ".join(f"{statistics.median(run[group] for run in found[tree]):.1f}" for tree in trees),
            "|",
        )


def measured(tree: Path, command: str, checkpoint: Path) -> dict[str, float]:
    """Milliseconds that one process took to import the modules of each group, and those of another one in all."""
    places = {"help": (), "inspect": (checkpoint.absolute(),)}.get(command, (checkpoint.absolute(), "out"))
    words = ["-c", CODE, *COMMANDS[command][:1], *map(str, places), *COMMANDS[command][1:]]
    processor = used(tree, words)[1]  # without the measuring, which costs
    return grouped(used(tree, ["-X", "importtime", *words])[0].splitlines()) | {
        "processor time of the process": processor
    }


def used(tree: Path, words: Sequence[str]) -> tuple[str, float]:
    """What a process of Python wrote to its standard error, and the milliseconds of processors that it took."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tree)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *words], env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, check=True,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stderr, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def grouped(lines: Sequence[str]) -> dict[str, float]:
    """The lines of `-X importtime`, in which a module stands below what it imports, as milliseconds by group."""
    sums = dict.fromkeys(("what Python imports by itself", *WITH_ALL, "bertconv's own modules", "the rest"), 0.0)
    within: list[tuple[int, str]] = []  # the packages of WITH_ALL that the lines above belong to, by their depth
    started = False
    for line in reversed([line for line in lines if LINE.match(line)]):
        own, _, indent, name = LINE.findall(line)[0]
        depth = len(indent)
        within = [(at, package) for at, package in within if at < depth]
        started = started or name == "site"
        if name in WITH_ALL and not within:
            within.append((depth, name))
        group = within[0][1] if within else "bertconv's own modules" if name.startswith("bertconv") else "the rest"
        group = "what Python imports by itself" if started else group
        sums[group] += int(own) / 1000
    return sums | {"all imports": sum(sums.values())}


if __name__ == "__main__":
    main()
