"""What a fleet has left, held to single runs of the same checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertconv.fleet.items import FOLDER
from bertconv.formats.destination import MANIFEST
from qa.fleet.killing import Ran
from qa.fleet.making import Case

VOLATILE: frozenset[str] = frozenset()
"""Places of a manifest that may differ between two runs: none, a manifest has no times."""


@dataclass
class Checked:
    """Problems, and what was compared."""

    problems: list[str] = field(default_factory=list)
    identical: int = 0
    files: int = 0
    nbytes: int = 0
    manifest_differences: set[str] = field(default_factory=set)


def check_outputs(cases: Sequence[Case], out: Path) -> Checked:
    """Every good one is there with the bytes of its single run, and nothing else is."""
    found = Checked()
    for case in cases:
        if case.single is None:
            if (out / case.name).exists():
                found.problems.append(f"{case.name}: must be refused, and there is an output")
        elif not (out / case.name / MANIFEST).is_file():
            found.problems.append(f"{case.name}: not done")
        else:
            before = len(found.problems)
            _compare(case, out / case.name, found)
            found.identical += len(found.problems) == before
    wanted = {case.name for case in cases if case.single is not None} | {FOLDER}
    left = sorted(path.name for path in out.iterdir() if path.name not in wanted)
    found.problems += [f"left behind: {name}" for name in left]
    return found


def check_reported(cases: Sequence[Case], out: Path) -> list[str]:
    """`bertconv fleet status` has every bad one with the exit code of its single run, and no other."""
    command = [sys.executable, "-c", "from bertconv.cli import main; main()", "fleet", "status", str(out), "--json"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    reported = {one["src"]: one["code"] for one in said["failures"]}
    expected = {str(case.source): case.code for case in cases if case.single is None}
    return [
        f"{name}: reported with {reported.get(name)}, and a single run ends with {expected.get(name)}"
        for name in sorted(reported.keys() | expected.keys()) if reported.get(name) != expected.get(name)
    ]  # fmt: skip


def check_summary(cases: Sequence[Case], run: Ran, state: str) -> list[str]:
    """A run that came to its end printed its summary and nothing else; all good ones are in a state."""
    bad = sum(case.single is None for case in cases)
    if run.status != bool(bad):
        return [f"the run ended with {run.status}: {run.out[-300:]}"]
    try:
        summary = json.loads(run.out)
    except ValueError:
        return [f"standard output holds more than the summary: {run.out[:300]!r}"]
    wrong = (
        summary["ok"] == bool(bad) or len(summary["failures"]) != bad or sum(summary["counts"].values()) != len(cases)
    )
    wrong = wrong or (state != "" and summary["counts"].get(state, 0) != len(cases) - bad)
    return [f"the summary says {summary['counts']}"] if wrong else []


def _compare(case: Case, made: Path, found: Checked) -> None:
    assert case.single is not None
    names, expected = _names(made), _names(case.single)
    if names != expected:
        found.problems.append(f"{case.name}: files {sorted(names ^ expected)}")
        return
    for name in sorted(names - {MANIFEST}):
        one, other = (folder / name for folder in (made, case.single))
        found.files, found.nbytes = found.files + 1, found.nbytes + one.stat().st_size
        if not _same_bytes(one, other):
            found.problems.append(f"{case.name}: {name} differs from the single run's")
    ours, single = (json.loads((folder / MANIFEST).read_bytes()) for folder in (made, case.single))
    for place in differences(ours, single):
        if place in VOLATILE:
            found.manifest_differences.add(place)
        else:
            found.problems.append(f"{case.name}: {MANIFEST} differs in {place}")


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while block := left.read(1 << 22):
            if block != right.read(1 << 22):
                return False
    return True


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two values of JSON differ, as paths."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{place}/{key}".lstrip("/"))
    elif one != other:
        yield place


def snapshot(folder: Path) -> Mapping[str, tuple[int, int, int]]:
    """Inode, size and time of every file of the outputs, to show that a run wrote none."""
    every = ((path, path.lstat()) for path in folder.rglob("*") if FOLDER not in path.parts)
    return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in every}
