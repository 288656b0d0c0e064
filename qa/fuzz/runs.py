"""One run of a campaign: make an input, read it, and say what became of it."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from bertconv.errors import BertconvError
from qa.fuzz.mutations import mutate

if TYPE_CHECKING:
    from qa.fuzz.targets.common import Target

CPU_SECONDS = 2.0
"""Processor time that a reader may use."""
MOST_CPU_SECONDS = 10
"""Processor time at which the kernel ends a run that cannot be interrupted."""
HANG_SECONDS = 300.0
"""After which a process of its own that waits for something is ended, however busy the machine is."""
MORE_MEMORY = 256 << 20
"""Bytes by which a run may raise the most that the process ever used."""


@dataclass(frozen=True)
class Verdict:
    """What became of one input: accepted, refused, known or finding; `text` is the error's class, or what happened."""

    kind: str
    text: str = ""


class SlowError(BaseException):
    """The processor time is used up; no reader may catch it."""


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise SlowError when this process has computed for so long; time spent waiting for a busy machine is free."""

    def stop(_signal: int, _frame: object) -> None:
        raise SlowError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def ended_by_the_kernel(seconds: float) -> Iterator[None]:
    """The same for code that no handler interrupts: it costs the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def make(target: Target, seed: int, number: int) -> bytes:
    """The input of one run."""
    return mutate(Random(seed * 1_000_003 + number), target.seeds, target.tokens, inside=target.inside)


def examine(target: Target, path: Path, data: bytes) -> Verdict:
    """Write one input to a file and read it."""
    path.write_bytes(data)
    with ended_by_the_kernel(MOST_CPU_SECONDS):
        return _examined(target, path, data)


def _examined(target: Target, path: Path, data: bytes) -> Verdict:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict, found = _look(target, path)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if more > MORE_MEMORY and verdict.kind != "finding":
        return Verdict("finding", f"takes {more:,} bytes more memory")
    if verdict.kind != "accepted":
        return verdict
    try:
        differs = target.agree(data, found)
    except Exception as error:  # noqa: BLE001  (the other reader fails on what ours accepts)
        differs = f"is accepted; the other reader: {type(error).__name__}: {error}"
    return Verdict("finding", differs) if differs else verdict


def _look(target: Target, path: Path) -> tuple[Verdict, Any]:
    """What our reader alone makes of the file, and what it found."""
    try:
        with processor_time(CPU_SECONDS):
            return Verdict("accepted"), target.read(path)
    except BertconvError as error:
        name, wrong = type(error).__name__, complaint(error, path)
        return (Verdict("finding", f"{name} {wrong}") if wrong else Verdict("refused", name)), None
    except SlowError:
        return Verdict("finding", f"computes for more than {CPU_SECONDS:g} s"), None
    except Exception as error:  # noqa: BLE001  (any other exception is what is looked for)
        return Verdict("finding", f"{type(error).__name__}: {error}"), None


def complaint(error: BertconvError, path: Path) -> str:
    """What is wrong with an error itself: it names the file, says what to do, and is safe for a terminal."""
    if type(error) is BertconvError:
        return "is of no kind"
    if error.file != str(path):
        return "does not name the file"
    if not error.hint:
        return "does not say what to do"
    return "" if str(error).replace("\n", "").isprintable() else "holds control characters"


def examine_forked(target: Target, path: Path, data: bytes) -> Verdict:
    """`examine` in a process of its own, which may hang or crash as libhdf5 is known to."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        verdict = examine(target, path, data)
        os.write(writing, json.dumps(asdict(verdict)).encode())
        os._exit(0)
    os.close(writing)
    answer = b""
    if select.select([reading], [], [], HANG_SECONDS)[0]:
        answer = os.read(reading, 1 << 16)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if answer:
        return Verdict(**json.loads(answer))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        is_hang = number in {signal.SIGKILL, signal.SIGXCPU}
        return Verdict("known", "hang" if is_hang else signal.Signals(number).name)
    return Verdict("finding", f"ends the process with status {status}")


def runs(target: Target, path: Path, seed: int, start: int, end: int | None) -> Iterator[tuple[int, Verdict]]:
    """One verdict after the other, in this process."""
    look = examine_forked if target.forked else examine
    number = start
    while end is None or number < end:
        yield number, look(target, path, make(target, seed, number))
        number += 1
