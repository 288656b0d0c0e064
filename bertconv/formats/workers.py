"""Two threads that work on tensors: the copies release the interpreter's lock, and buffers are reused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from bertconv.formats.streaming import Workspace

THREADS = 2
"""Enough to reach the memory's bandwidth on the machines that were measured."""

Job = TypeVar("Job")
Result = TypeVar("Result")
Tick = Callable[[int], None]
"""Reported of every piece, in bytes; it raises when the work is to stop."""


class _StoppedError(Exception):
    """Another tensor failed, or the user interrupted: give up at the next piece."""


def run(
    jobs: Sequence[Job], work: Callable[[Job, Workspace, Tick], Result], progress: Tick, size: Callable[[Job], int]
) -> list[Result]:
    """`work` on every job, the largest first; results in the order of `jobs`.

    The first error, or an interrupt, stops the others at their next piece and is raised.
    """
    stop = threading.Event()
    local = threading.local()
    lock = threading.Lock()

    def tick(count: int) -> None:
        if stop.is_set():  # guard: workers-stop
            raise _StoppedError
        with lock:
            progress(count)

    def task(job: Job) -> Result:
        if not hasattr(local, "workspace"):
            local.workspace = Workspace()
        return work(job, local.workspace, tick)

    order = sorted(range(len(jobs)), key=lambda number: -size(jobs[number]))
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {number: pool.submit(task, jobs[number]) for number in order}
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            stop.set() if any(not future.done() for future in futures.values()) else None
            for future in futures.values():
                future.cancel()
    errors = [error for future in futures.values() if not future.cancelled() and (error := future.exception())]
    if errors:
        raise next((error for error in errors if not isinstance(error, _StoppedError)), errors[0])
    return [futures[number].result() for number in range(len(jobs))]
