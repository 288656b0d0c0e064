"""Files that are written at any place in anonymous memory, sent from their beginning, and forgotten behind it.

The threads that write are held back when they are too far ahead of what was sent, so that memory is bounded.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate
from typing import TYPE_CHECKING

from bertconv.formats.ranges import pwrite
from bertconv.formats.remote.site import PART, Site

if TYPE_CHECKING:
    from bertconv.containers.stored import Span
    from bertconv.formats.content import OutputFile
    from bertconv.formats.workers import Tick

AHEAD = 32 << 20
"""Most bytes that are written and not sent yet, of each thread; more than a part."""
_GLANCE = 0.2
"""Seconds after which a thread that waits looks whether the work has been given up."""
_PUNCH_HOLE = 0x01 | 0x02
"""Linux, include/uapi/linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE."""


class Task:
    """A thread's way through the bytes of one tensor or of several; places are counted through all files.

    Args:
        spans: its bytes, in their order.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._ends = list(accumulate(span.nbytes for span in spans))
        self._done = self._number = 0

    @property
    def is_done(self) -> bool:
        """Whether all of it is written."""
        return self._number == len(self._spans)

    @property
    def place(self) -> int:
        """Before it all of its bytes are written."""
        if self.is_done:
            return self._spans[-1].start + self._spans[-1].nbytes
        return self._spans[self._number].start + self._done - (self._ends[self._number - 1] if self._number else 0)

    def move(self, count: int) -> None:
        """So many more are written."""
        self._done += count
        while not self.is_done and self._done >= self._ends[self._number]:
            self._number += 1


class Flow:
    """The files of one output on their way.

    Args:
        site: where to.
        files: in the order in which they are sent.
    """

    def __init__(self, site: Site, files: Sequence[OutputFile]) -> None:
        self._site = site
        self._files = files
        self._stack = ExitStack()
        self._changed = threading.Condition()
        self._tasks: list[Task] = []
        self._low = 0
        self._sent = 0
        self._given_up = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bertconv-send")
        self._sending: Future[None] | None = None
        self.starts = [0, *accumulate(file.size for file in files)]
        self.fds: list[int] = []
        try:
            self.fds += [self._made(file) for file in files]
        except BaseException:  # such as more files than may be open
            self._stack.close()
            raise

    def start(self, tasks: Sequence[Task]) -> None:
        """Begin to send; tasks are begun in this order, that of their bytes."""
        self._tasks = list(tasks)
        self._sending = self._pool.submit(self._run)
        self._sending.add_done_callback(self._ended)

    def moving(self, task: Task, tick: Tick) -> Tick:
        """What a task calls with the bytes that it has written; it waits there until there is room for more."""

        def moved(count: int) -> None:
            with self._changed:
                task.move(count)
                self._changed.notify_all()
            tick(count)
            while self._is_ahead(task):
                tick(0)  # which raises when the work is to stop

        return moved

    def finish(self, *, given_up: bool) -> None:
        """Wait until all is sent, or give it up; errors of the sending are raised."""
        with self._changed:
            self._given_up = self._given_up or given_up
            self._changed.notify_all()
        self._pool.shutdown()
        self._stack.close()
        if self._sending is not None and not given_up:
            self._sending.result()

    def _is_ahead(self, task: Task) -> bool:
        with self._changed:
            if self._sending is not None and self._sending.done():
                self._sending.result()
            if task.place - self._sent <= AHEAD:
                return False
            self._changed.wait(_GLANCE)
        return True

    def _ready(self) -> int:
        """All bytes before it are written."""
        while self._low < len(self._tasks) and self._tasks[self._low].is_done:
            self._low += 1
        return self._tasks[self._low].place if self._low < len(self._tasks) else self.starts[-1]

    def _made(self, file: OutputFile) -> int:
        """A file in memory with all that is no tensor."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create(file.name)
            self._stack.callback(os.close, fd)
        else:  # only Linux has such
            fd = self._stack.enter_context(tempfile.TemporaryFile()).fileno()  # noqa: SIM115  (it is entered)
        for start, part in sorted(file.layout.parts.items()):
            pwrite(fd, memoryview(part), start)
        os.ftruncate(fd, file.size)
        return fd

    def _run(self) -> None:
        """Send the files one after the other."""
        for number, file in enumerate(self._files):
            if not self._send(number, file):
                return

    def _ended(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify_all()

    def _send(self, number: int, file: OutputFile) -> bool:
        """Whether all of a file was sent."""
        fd, start, punch = self.fds[number], self.starts[number], _puncher()
        buffer = memoryview(bytearray(min(PART, file.size)))
        try:
            with self._site.sending(file.name, file.size) as out:
                for offset in range(0, file.size, PART):
                    piece = buffer[: file.size - offset]
                    self._await(start + offset + len(piece))
                    _fill(fd, piece, offset)
                    out.write(piece)
                    punch(fd, offset, len(piece))
                    with self._changed:
                        self._sent = start + offset + len(piece)
                        self._changed.notify_all()
        except _GivenUpError:
            return False
        return True

    def _await(self, place: int) -> None:
        with self._changed:
            while self._ready() < place:
                if self._given_up:
                    raise _GivenUpError
                self._changed.wait()


class _GivenUpError(Exception):
    """Those who write have failed."""


def _fill(fd: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        done += os.preadv(fd, [buffer[done:]], offset + done)


def _puncher() -> Callable[[int, int, int], None]:
    """What gives the memory of bytes back that are not needed any more."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)

    def punch(fd: int, offset: int, size: int) -> None:
        if call is not None:
            call(fd, _PUNCH_HOLE, ctypes.c_longlong(offset), ctypes.c_longlong(size))

    return punch
