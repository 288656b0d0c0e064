"""Child: the process of a worker, as its parent has it. What that process does is in `worker.py`.

It begins in a session of its own, so that Ctrl-C is for the driver alone, which then asks its workers to stop.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from bertconv.errors import RequestError
from bertconv.fleet.items import Item
from bertconv.fleet.outcome import Outcome

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; from bertconv.fleet.engines.worker import main; main(*sys.argv[1:3])"
)
_PIECE = 1 << 20
_LAST_WORDS = 2000
"""Characters of what a worker said before it died that are kept."""
GRACE = 20.0
"""Seconds in which a worker that was asked to stop cleans up, before it is killed."""


class Child:
    """A worker, as its parent has it.

    Args:
        memory: most bytes of address space; 0 sets no limit.

    Raises:
        RequestError: the system starts no more processes.
    """

    def __init__(self, memory: int = 0) -> None:
        path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  (an entry may be a zip file)
        own = str(Path(__file__).resolve().parents[3])
        self.socket, theirs = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the worker lives)
        environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}  # nothing is multiplied
        if memory:  # what is reserved for each processor counts, too
            environment |= {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        command = [sys.executable, "-c", _PROGRAM, f"{theirs.fileno()}", f"{memory}"]
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (this interpreter, and nothing from a list)
                    [*command, *dict.fromkeys([*path, own])], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=self._said, pass_fds=(theirs.fileno(),), env=environment, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                self.socket.close()
                self._said.close()
                raise RequestError(
                    f"a worker cannot be started: {error.strerror}.",
                    hint="Take fewer workers, or look for what uses up memory and processes.",
                ) from error
        self._answer = bytearray()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, item: Item, *, alone: bool = False) -> None:
        """Give it an item; OSError where it is dead."""
        self.socket.sendall(json.dumps({"item": item.to_json(), "alone": alone}).encode() + b"\n")

    def receive(self) -> Outcome | None:
        """The outcome, once its last piece is there; None before. EOFError where it died."""
        try:
            piece = self.socket.recv(_PIECE)
        except ConnectionResetError as error:
            raise EOFError from error
        if not piece:
            raise EOFError
        self._answer += piece
        if not piece.endswith(b"\n"):
            return None
        facts = json.loads(self._answer)
        self._answer.clear()
        return Outcome(**facts)

    def why(self) -> str:
        """How a dead worker ended, and the last that it said."""
        code = self._wait(GRACE)
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        self._said.seek(max(self._said.seek(0, os.SEEK_END) - _LAST_WORDS, 0))
        last = self._said.read().decode(errors="replace").strip()
        return f"the worker died ({how})" + (f": {last}" if last else "")

    def ask_to_stop(self) -> None:
        """It gives up what it does, cleans up, and ends."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self, seconds: float = GRACE) -> None:
        """Let it end, and wait for that; it is killed where it does not."""
        self.socket.close()
        self._wait(seconds)
        self._said.close()

    def _wait(self, seconds: float) -> int:
        try:
            return self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def receive_before(child: Child, deadline: float) -> Outcome | None:
    """The outcome of what a worker was given; None where it did not come before a time of time.monotonic().

    Raises:
        EOFError: the worker died.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(child.socket, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left) and (outcome := child.receive()) is not None:
                return outcome
    return None
