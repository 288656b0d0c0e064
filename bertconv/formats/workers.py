"""Two threads that work on tensors: the copies release the interpreter's lock, and buffers are reused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bertconv.formats.streaming import Workspace

THREADS = 2
"""Enough to reach the memory's bandwidth on the machines that were measured."""
BUFFER = 1 << 20
"""Bytes that are copied at a time where the kernel does not do it: small enough for a processor's cache."""
TURN_SECONDS = 0.25
"""A signal that comes just before the main thread begins to wait does not end that: it is heard after so long."""

Job = TypeVar("Job")
Result = TypeVar("Result")
Tick = Callable[[int], None]
"""Reported of every piece, in bytes; it raises when the work is to stop."""


class _StoppedError(Exception):
    """Another tensor failed, or the user interrupted: give up at the next piece."""


class Local(threading.local):
    """What every thread makes for itself when it first needs it."""

    @cached_property
    def workspace(self) -> Workspace:
        """Buffers for elements; they need numpy."""
        from bertconv.formats.streaming import Workspace

        return Workspace()

    @cached_property
    def buffer(self) -> memoryview:
        """`BUFFER` bytes."""
        return memoryview(bytearray(BUFFER))


def run(
    jobs: Sequence[Job],
    work: Callable[[Job, Workspace, Tick], Result],
    progress: Tick,
    turn: Callable[[Job], tuple[int, int]],
) -> list[Result]:
    """`work` on every job, the one of the least `turn` (`stored.turn_of`) first; results in the order of `jobs`.

    The first error, or an interrupt, stops the others at their next piece and is raised.
    """
    local = Local()
    order = sorted(range(len(jobs)), key=lambda number: turn(jobs[number]))
    tasks = [partial(_work, work, jobs[number], local) for number in order]
    results = dict(zip(order, run_batches([tasks], progress), strict=True))
    return [results[number] for number in range(len(jobs))]


def run_batches(batches: Iterable[Iterable[Callable[[Tick], Result]]], progress: Tick) -> list[Result]:
    """Tasks, batch by batch: the threads work on one while the iterator prepares the next.

    Returns:
        The results, in the order of the tasks. Errors as for `run`.
    """
    stop = threading.Event()
    lock = threading.Lock()

    def tick(count: int) -> None:
        if stop.is_set():  # guard: workers-stop
            raise _StoppedError
        with lock:
            progress(count)

    futures: list[Future[Result]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for batch in batches:
                futures += [pool.submit(task, tick) for task in batch]
            _wait(futures)
        finally:
            stop.set() if any(not future.done() for future in futures) else None
            for future in futures:
                future.cancel()
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    if errors:
        raise next((error for error in errors if not isinstance(error, _StoppedError)), errors[0])
    return [future.result() for future in futures]


def _wait(futures: Collection[Future[Result]]) -> None:
    """Until all are done, or one has failed."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, TURN_SECONDS, FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            return


def _work(work: Callable[[Job, Workspace, Tick], Result], job: Job, local: Local, tick: Tick) -> Result:
    return work(job, local.workspace, tick)
