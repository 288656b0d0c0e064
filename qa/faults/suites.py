"""The suites of faults: which points there are of each scene, and what was counted of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qa.faults.client import Run, Server
from qa.faults.moments import (
    HEARD,
    SIGNALS,
    disk_round,
    disk_sizes,
    limited_round,
    shuffled,
    signal_round,
    small_disk,
    stopped,
    writers_round,
)  # fmt: skip
from qa.faults.runs import (
    READ_BACK,
    READ_MODES,
    WRITE_MODES,
    Point,
    counted,
    points_of,
    run_point,
    sample,
    verify_point,
    verify_points,
)  # fmt: skip
from qa.faults.scenes import READING, WRITING, Kind, Scene, make_scene
from qa.faults.shim import MODES, Fault
from qa.faults.verbs import VERBS

EVERY = (*WRITING, *VERBS)


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
class Options:
    """What is to be run."""

    every: bool
    seed: int
    count: int
    scene: str
    mode: str
    at: int

    def chosen(self, points: list[Point]) -> list[Point]:
        """All of the points, or a sample, or the one that was asked for."""
        points = [point for point in points if self.mode in {"", point.fault.mode} and self.at in {0, point.fault.at}]
        return points if self.every or self.at else sample(self.seed, points, self.count)

    def rounds(self, few: int, many: int) -> int:
        """How often something random is done."""
        return many if self.every else few


def scenes(options: Options, server: Server, folder: Path, kinds: Iterable[Kind], *overs: bool) -> Iterator[Scene]:
    """The scenes that are asked for; each is made when its turn comes."""
    for kind in kinds:
        for over in overs:
            if options.scene in {"", f"{kind.name}-{'over' if over else 'new'}"}:
                yield make_scene(server, folder, kind, over=over)


def injected(
    options: Options, tally: Tally, points: list[Point], run: Callable[[Point], tuple[Run, list[str]]]
) -> Tally:
    """Every chosen point."""
    for point in options.chosen(points):
        tally.add(point.fault.mode, point, *run(point))
    return tally


def writing(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    for scene in scenes(options, server, folder, EVERY, False, True):
        calls = counted(server, scene)
        points = points_of(scene, calls, WRITE_MODES)
        yield injected(
            options, Tally("writing", scene.name, len(calls)), points, lambda point: run_point(server, point)
        )


def reading(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    for scene in scenes(options, server, folder, (*READING, *VERBS), True):
        calls = counted(server, scene, "source", reads=True)
        points = points_of(scene, calls, READ_MODES, "source", reads=True)
        yield injected(
            options, Tally("reading", scene.name, len(calls)), points, lambda point: run_point(server, point)
        )


def readback(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    for scene in scenes(options, server, folder, EVERY, True):
        calls = counted(server, scene, reads=True)
        points = points_of(scene, calls, READ_BACK, reads=True)
        yield injected(
            options, Tally("readback", scene.name, len(calls)), points, lambda point: run_point(server, point)
        )


def verify(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    digested = [kind for kind in EVERY if "none" not in kind.words]
    for scene in scenes(options, server, folder, digested, False):
        points = verify_points(server, scene)
        calls = len({point.fault.at for point in points})
        yield injected(
            options,
            Tally("verify", scene.name, calls),
            points,
            lambda point: verify_point(server, point.scene, point.fault),
        )


def signals(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    chance = random.Random(options.seed)
    for scene in scenes(options, server, folder, EVERY, True):
        calls = counted(server, scene)
        tally = Tally("signals", scene.name, len(calls))
        points = [(at, number) for at in range(1, len(calls) + 1) for number in SIGNALS if options.at in {0, at}]
        for at, number in points if options.every or options.at else chance.sample(points, options.count):
            scene.reset()
            run = server.run_with(
                scene.arguments(), scene.work, Fault("signal", at, value=number, no_exchange=not scene.kind.exchange)
            )
            tally.add("at a call", f"{scene.name}: signal {number} at call {at}", run, stopped(scene, run, number))
        for _ in range(0 if options.at else options.rounds(6, 150)):
            number, delay = chance.choice(SIGNALS), chance.uniform(0, HEARD)
            run, problems = signal_round(server, scene, number, delay)
            tally.add("at a moment", f"{scene.name}: signal {number} after {delay:.4f} s", run, problems)
        yield tally


def disk(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    place = folder / "mounted"
    place.mkdir(parents=True)
    for scene in scenes(options, server, folder, EVERY, False, True):
        tally = Tally("disk", scene.name)
        for size in disk_sizes(scene, options.rounds(10, 20)):
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


def writers(options: Options, server: Server, folder: Path) -> Iterator[Tally]:

    kinds = (Kind("pt", "safetensors", ("convert", "--to", "pt")), WRITING[2], WRITING[3])
    rivals = [
        make_scene(server, folder / f"rival{number}", kinds[number % 3], over=False, type_vocab_size=2 + number)
        for number in range(8)
    ]
    tally = Tally("writers", "8 models")
    for number in range(options.rounds(16, 1000)):
        chosen = shuffled(options.seed + number, rivals, 2 + number % 7)
        old = rivals[-1].new if number % 2 else {}
        codes, problems = writers_round(server, chosen, folder / "top" / "made" / "out", old)
        tally.add("round", f"round {number}, exit codes {codes}", Run(None, ""), problems)
        tally.ends.update(map(str, codes))
    del tally.ends["None"]
    yield tally


SUITES = {suite.__name__: suite for suite in (writing, reading, readback, verify, signals, disk, writers)}
