"""A run of a fleet whose workers are killed at random moments, and its driver once; who is alive is read from /proc."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.02
"""Seconds between two looks at the processes."""
GRACE = 180.0
"""Seconds that processes have to end after their driver has: two agents of Ray's ask a dead server for a minute."""
LATER = 0.4
"""Most seconds from the output that a shot waits for to the shot: a tiny conversion is at any of its steps then, where
processes share a processor. A short list on an idle machine is done sooner, and asks for less."""
MOST_HITS = 2
"""Workers that are shot at one item."""
_OF_ITEM = re.compile(r"/(?:src|out)/\.?((?:tiny|mini|base|bad)-[\w-]+)")
_CHILD = "bertconv.fleet.engines.child"
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
        """Whether it converts: a task of Ray, or a process of the local engine, which may have nothing to do."""
        if self.words.startswith("ray::"):
            return not self.words.startswith(_IDLE)
        return _CHILD in self.words

    @property
    def is_alive(self) -> bool:
        """Whether it is still there, as more than an entry that nobody has waited for."""
        now = _look(self.number)
        return now is not None and now.start == self.start


@dataclass
class Ran:
    """What came of a run: exit code or minus the signal, seconds, output, shots, and every process seen below it."""

    status: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    out: str = ""
    shots: list[str] = field(default_factory=list)
    seen: dict[int, Process] = field(default_factory=dict)

    def survivors(self) -> list[Process]:
        """Those that are alive long after the run has ended."""
        end = time.monotonic() + GRACE
        while (alive := [one for one in self.seen.values() if one.is_alive]) and time.monotonic() < end:
            time.sleep(POLL)
        return alive


@dataclass
class Fire:
    """Who is shot: by a random choice, but nobody who works on an item that lost `MOST_HITS` workers already.

    A fleet does such an item alone then, and takes the death of that process for the item's own doing.
    """

    rng: random.Random
    later: float = LATER
    hits: Counter[str] = field(default_factory=Counter)


def moments(rng: random.Random, kills: int, first: int, last: int) -> list[int]:
    """Numbers of finished outputs at which something is shot, in their order."""
    return sorted(rng.sample(range(first, last), kills))


def run_under_fire(
    command: Sequence[str],
    log: Path,
    finished: Callable[[], int],
    *,
    fire: Fire,
    shots: Iterable[int] = (),
    driver: int | None = None,
) -> Ran:
    """Run a fleet; shoot a worker whenever there are as many outputs as `shots` says, and the driver at `driver`.

    Args:
        command: of the driver.
        log: where its messages go.
        finished: how many outputs there are.
        fire: who.
        shots: numbers of outputs, in their order.
        driver: number of outputs at which the driver dies; None lets it live.
    """
    ran, waiting, used = Ran(), list(shots), _processor_seconds()
    began = time.perf_counter()
    with log.open("ab") as file, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=file, start_new_session=True
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(POLL)
            below = descendants(process.pid)
            ran.seen |= {one.number: one for one in below}
            done = finished()
            if driver is not None and done >= driver:
                time.sleep(fire.rng.uniform(0, fire.later))
                ran.seen |= {one.number: one for one in descendants(process.pid)}
                process.send_signal(signal.SIGKILL)
                ran.shots.append(f"driver after {done} outputs")
                break
            if waiting and done >= waiting[0]:
                time.sleep(fire.rng.uniform(0, fire.later))
                if hit := _shoot(process.pid, fire):
                    waiting.pop(0)
                    ran.shots.append(f"{hit} after {done} outputs")
        ran.status = process.wait()
        out.seek(0)
        ran.out = out.read().decode()
    ran.seconds, ran.processor = time.perf_counter() - began, _processor_seconds() - used
    return ran


def _processor_seconds() -> float:
    """Of all children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _shoot(driver: int, fire: Fire) -> str:
    """Kill one that works; what it was, and at which item; nothing where none may be shot."""
    busy = sorted((one.number, one) for one in descendants(driver) if one.is_busy_worker)
    fire.rng.shuffle(busy)
    for number, victim in busy:
        try:
            os.kill(number, signal.SIGSTOP)  # it stays at what it is seen to do
            item = _item_of(number)
            is_target = item != "" and fire.hits[item] < MOST_HITS
            os.kill(number, signal.SIGKILL if is_target else signal.SIGCONT)
        except ProcessLookupError:
            continue
        if is_target:
            fire.hits[item] += 1
            return f"{victim.words.split(' ')[0].rpartition('/')[2]} {number} at {item}"
    return ""


def _item_of(number: int) -> str:
    """The item that a process works on, by the files that it has open; empty where it has none of a checkpoint."""
    for path in Path(f"/proc/{number}/fd").iterdir():
        try:
            found = _OF_ITEM.search(str(path.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
        if found is not None:
            return found[1]
    return ""


def descendants(root: int) -> list[Process]:
    """All processes below one."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    every = [one for number in numbers if (one := _look(number))]
    children: dict[int, list[Process]] = {}
    for one in every:
        children.setdefault(one.parent, []).append(one)
    found: list[Process] = []
    todo = [root]
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
