"""A run of a fleet whose workers are killed at random moments, and its driver once; who is alive is read from /proc."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.05
"""Seconds between two looks at the processes."""
GRACE = 60.0
"""Seconds that processes have to end after their driver has."""
LATER = 0.4
"""Most seconds from the output that a shot waits for to the shot: a tiny conversion is at any of its steps then."""
_IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(frozen=True)
class Process:
    """One process; the time of its start tells it from a later one with the same number."""

    number: int
    start: int
    parent: int
    words: str

    @property
    def is_busy_worker(self) -> bool:
        """Whether it converts: a task of Ray, or a process of a pool."""
        if self.words.startswith("ray::"):
            return not self.words.startswith(_IDLE)
        return "multiprocessing.spawn" in self.words and "resource_tracker" not in self.words

    @property
    def is_alive(self) -> bool:
        """Whether it is still there, as more than an entry that nobody has waited for."""
        now = _look(self.number)
        return now is not None and now.start == self.start


@dataclass
class Ran:
    """What came of a run: exit code or minus the signal, seconds, shots, and every process that was seen below it."""

    status: int = 0
    seconds: float = 0.0
    shots: list[str] = field(default_factory=list)
    seen: dict[int, Process] = field(default_factory=dict)

    def survivors(self) -> list[Process]:
        """Those that are alive long after the run has ended."""
        end = time.monotonic() + GRACE
        while (alive := [one for one in self.seen.values() if one.is_alive]) and time.monotonic() < end:
            time.sleep(POLL)
        return alive


def moments(rng: random.Random, kills: int, first: int, last: int) -> list[int]:
    """Numbers of finished outputs at which something is shot, in their order."""
    return sorted(rng.sample(range(first, last), kills))


def run_under_fire(
    command: Sequence[str],
    log: Path,
    finished: Callable[[], int],
    *,
    rng: random.Random,
    shots: Iterable[int] = (),
    driver: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a fleet; shoot a worker whenever there are as many outputs as `shots` says, and the driver at `driver`.

    Args:
        command: of the driver.
        log: where its output goes.
        finished: how many outputs there are.
        rng: which worker, and how long after the output.
        shots: numbers of outputs, in their order.
        driver: number of outputs at which the driver dies; None lets it live.
        environment: more variables of it.
    """
    ran, waiting = Ran(), list(shots)
    began = time.perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(POLL)
            below = descendants(process.pid)
            ran.seen |= {one.number: one for one in below}
            done = finished()
            if driver is not None and done >= driver:
                time.sleep(rng.uniform(0, LATER))
                ran.seen |= {one.number: one for one in descendants(process.pid)}
                process.send_signal(signal.SIGKILL)
                ran.shots.append(f"driver after {done} outputs")
                break
            if waiting and done >= waiting[0]:
                time.sleep(rng.uniform(0, LATER))
                if hit := _shoot(process.pid, rng):
                    waiting.pop(0)
                    ran.shots.append(f"{hit} after {done} outputs")
        ran.status = process.wait()
    ran.seconds = time.perf_counter() - began
    return ran


def _shoot(driver: int, rng: random.Random) -> str:
    """Kill one that works; what it was, or nothing where none does."""
    busy = sorted((one for one in descendants(driver) if one.is_busy_worker), key=lambda one: one.number)
    if not busy:
        return ""
    victim = rng.choice(busy)
    try:
        os.kill(victim.number, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return victim.words.split(" ")[0].rpartition("/")[2]


def descendants(root: int) -> list[Process]:
    """All processes below one."""
    every = [found for path in Path("/proc").iterdir() if path.name.isdigit() and (found := _look(int(path.name)))]
    children: dict[int, list[Process]] = {}
    for one in every:
        children.setdefault(one.parent, []).append(one)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [one.number for one in below]
    return found


def _look(number: int) -> Process | None:
    """A process; None where it is gone, or dead and not waited for."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
        words = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Process(number, int(fields[19]), int(fields[1]), words)
