"""Faults, signals, full disks and rivals for conversions: the destination is the old output or the new one, whole.

    python scripts/faults.py                                    a sample of every suite
    python scripts/faults.py --every --json faults.json         every call with every fault: about an hour
    python scripts/faults.py --suite writing --scene tf-over --mode eio --at 37         one point again

Suites: `writing` (each call that changes something x kill -9 before it, kill -9 in its middle, no space from there on,
one EIO, a short write, EINTR), `reading` (each read of the source x EIO, short, EINTR, end of file, and the file cut,
written over or replaced), `readback` (each read of what was written), `verify` (of `bertconv verify DST`), `signals`
(INT, TERM, HUP at each call, and at random moments), `disk` (a full tmpfs, with root; RLIMIT_FSIZE), `writers` (two to
eight at once). A point is bad when the destination is neither old nor new, when success is claimed falsely, when an
error has no type and no name, when something is left behind, or when the next run does not put it right.
The same machinery as in tests/faults, where a sample runs; Linux with a C compiler only.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from fault_shim import MODES, obstacle  # noqa: E402  (it lies in a folder of the tests)

if TYPE_CHECKING:
    from fault_client import Run, Server
    from fault_runs import Point
    from fault_scenes import Kind, Scene

SHOWN = 3
"""Bad points that are printed of each scene; all of them go into the JSON."""


@dataclass
class Tally:
    """One scene of a suite.

    Attributes:
        suite: its name.
        scene: the conversion.
        calls: how many were counted in a run without a fault.
        points: runs, by mode.
        happened: runs in which the fault did happen: threads take turns, and the K-th call may be another one.
        ends: exit codes, or signals with a minus.
        bad: what was wrong, with the point.
        seconds: wall time.
    """

    suite: str
    scene: str
    calls: int = 0
    points: Counter[str] = field(default_factory=Counter)
    happened: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, mode: str, point: object, run: Run, problems: list[str]) -> None:
        """Count one run."""
        self.points[mode] += 1
        self.happened += bool(run.fired) or mode not in MODES
        self.ends[str(run.status)] += 1
        self.bad += [f"{point} ({run.hit}): {problem}" for problem in problems]


@dataclass(frozen=True)
class Wish:
    """What is to be run."""

    every: bool
    seed: int
    count: int
    scene: str
    mode: str
    at: int

    def chosen(self, points: list[Point]) -> list[Point]:
        """All of the points, or a sample, or the one that was asked for."""
        from fault_runs import sample

        points = [point for point in points if self.mode in {"", point.fault.mode} and self.at in {0, point.fault.at}]
        return points if self.every or self.at else sample(self.seed, points, self.count)

    def rounds(self, few: int, many: int) -> int:
        """How often something random is done."""
        return many if self.every else few


def scenes(wish: Wish, server: Server, folder: Path, kinds: Iterable[Kind], *overs: bool) -> Iterator[Scene]:
    """The scenes that are asked for; each is made when its turn comes."""
    from fault_scenes import make_scene

    for kind in kinds:
        for over in overs:
            if wish.scene in {"", f"{kind.name}-{'over' if over else 'new'}"}:
                yield make_scene(server, folder, kind, over=over)


def injected(wish: Wish, tally: Tally, points: list[Point], run: Callable[[Point], tuple[Run, list[str]]]) -> Tally:
    """Every chosen point."""
    for point in wish.chosen(points):
        tally.add(point.fault.mode, point, *run(point))
    return tally


def writing(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_runs import WRITE_MODES, counted, points_of, run_point
    from fault_scenes import WRITING

    for scene in scenes(wish, server, folder, WRITING, False, True):
        calls = counted(server, scene)
        points = points_of(scene, calls, WRITE_MODES)
        yield injected(wish, Tally("writing", scene.name, len(calls)), points, lambda point: run_point(server, point))


def reading(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_runs import READ_MODES, counted, points_of, run_point
    from fault_scenes import READING

    for scene in scenes(wish, server, folder, READING, True):
        calls = counted(server, scene, "source", reads=True)
        points = points_of(scene, calls, READ_MODES, "source", reads=True)
        yield injected(wish, Tally("reading", scene.name, len(calls)), points, lambda point: run_point(server, point))


def readback(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_runs import READ_BACK, counted, points_of, run_point
    from fault_scenes import WRITING

    for scene in scenes(wish, server, folder, WRITING, True):
        calls = counted(server, scene, reads=True)
        points = points_of(scene, calls, READ_BACK, reads=True)
        yield injected(wish, Tally("readback", scene.name, len(calls)), points, lambda point: run_point(server, point))


def verify(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_runs import verify_point, verify_points
    from fault_scenes import WRITING

    digested = [kind for kind in WRITING if "none" not in kind.words]
    for scene in scenes(wish, server, folder, digested, False):
        points = verify_points(server, scene)
        calls = len({point.fault.at for point in points})
        yield injected(
            wish,
            Tally("verify", scene.name, calls),
            points,
            lambda point: verify_point(server, point.scene, point.fault),
        )


def signals(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_moments import HEARD, SIGNALS, signal_round, stopped
    from fault_runs import counted
    from fault_scenes import WRITING
    from fault_shim import Fault

    chance = random.Random(wish.seed)
    for scene in scenes(wish, server, folder, WRITING, True):
        calls = counted(server, scene)
        tally = Tally("signals", scene.name, len(calls))
        points = [(at, number) for at in range(1, len(calls) + 1) for number in SIGNALS if wish.at in {0, at}]
        for at, number in points if wish.every or wish.at else chance.sample(points, wish.count):
            scene.reset()
            run = server.run_with(
                scene.arguments(), scene.work, Fault("signal", at, value=number, no_exchange=not scene.kind.exchange)
            )
            tally.add("at a call", f"{scene.name}: signal {number} at call {at}", run, stopped(scene, run, number))
        for _ in range(0 if wish.at else wish.rounds(6, 150)):
            number, delay = chance.choice(SIGNALS), chance.uniform(0, HEARD)
            run, problems = signal_round(server, scene, number, delay)
            tally.add("at a moment", f"{scene.name}: signal {number} after {delay:.4f} s", run, problems)
        yield tally


def disk(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_moments import disk_round, disk_sizes, limited_round, small_disk
    from fault_scenes import WRITING

    place = folder / "mounted"
    place.mkdir(parents=True)
    for scene in scenes(wish, server, folder, WRITING, False, True):
        tally = Tally("disk", scene.name)
        for size in disk_sizes(scene, wish.rounds(10, 20)):
            with small_disk(place, size) as obstacle:
                if obstacle:
                    print(f"no full disks: {obstacle}")
                    break
                tally.add("full disk", f"{scene.name}: disk of {size} bytes", *disk_round(server, scene, place))
        largest = max(len(content or b"") for content in scene.new.values())
        for limit in sorted({8192, largest // 3, largest // 2, largest - 1, largest} if scene.over else ()):
            for ignored in (True, False):
                run, problems = limited_round(server, scene, limit, ignored=ignored)
                tally.add("RLIMIT_FSIZE", f"{scene.name}: {limit} bytes, ignored={ignored}", run, problems)
        yield tally


def writers(wish: Wish, server: Server, folder: Path) -> Iterator[Tally]:
    from fault_client import Run
    from fault_moments import shuffled, writers_round
    from fault_scenes import WRITING, Kind, make_scene

    kinds = (Kind("pt", "safetensors", ("convert", "--to", "pt")), WRITING[2], WRITING[3])
    rivals = [
        make_scene(server, folder / f"rival{number}", kinds[number % 3], over=False, type_vocab_size=2 + number)
        for number in range(8)
    ]
    tally = Tally("writers", "8 models")
    for number in range(wish.rounds(16, 1000)):
        chosen = shuffled(wish.seed + number, rivals, 2 + number % 7)
        old = rivals[-1].new if number % 2 else {}
        codes, problems = writers_round(server, chosen, folder / "top" / "made" / "out", old)
        tally.add("round", f"round {number}, exit codes {codes}", Run(None, ""), problems)
        tally.ends.update(map(str, codes))
    del tally.ends["None"]
    yield tally


SUITES = {suite.__name__: suite for suite in (writing, reading, readback, verify, signals, disk, writers)}


def survey(wish: Wish, names: Iterable[str]) -> list[Tally]:
    """The suites, one line for each scene as it ends."""
    from fault_client import serving

    found = []
    print(f"{'suite':9} {'scene':28} {'calls':>5} {'points':>6} {'happened':>8} {'bad':>4} {'s':>6}  ends")
    with tempfile.TemporaryDirectory(prefix="bertconv-faults-") as name, serving(Path(name)) as server:
        for suite in names:
            began = time.perf_counter()
            for tally in SUITES[suite](wish, server, Path(name) / suite):
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
    wish = Wish(arguments.every, seed, arguments.points, arguments.scene, arguments.mode, arguments.at)
    found = survey(wish, arguments.suite)
    modes = sum((Counter({f"{each.suite}/{mode}": n for mode, n in each.points.items()}) for each in found), Counter())
    print("".join(f"{count:6} {mode}\n" for mode, count in sorted(modes.items())), end="")
    bad = sum(len(each.bad) for each in found)
    print(f"{modes.total()} points, {bad} complaints")
    if arguments.json is not None:
        facts = {"seed": seed, "every": wish.every, "points": modes.total(), "scenes": [vars(each) for each in found]}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
