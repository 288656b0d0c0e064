"""Runs of the command line in children of the server under the shim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import PATIENCE

from qa import TESTS
from qa.faults.shim import Call, Fault, Shim, build

HUNG = PATIENCE / 2
"""Seconds until a run has hung: the server says so before the test itself counts as one that hangs."""


@dataclass(frozen=True)
class Run:
    """What a run did: exit code (or minus the signal; None: it hung), its messages, and the calls that were counted."""

    status: int | None
    text: str
    fired: int = 0
    hit: Call | None = None
    calls: tuple[Call, ...] = ()


class Server:
    """The forking server and its shim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shim: Shim = build(folder)
        self._outputs: dict[int, Path] = {}
        environment = {
            **os.environ, "LD_PRELOAD": str(self.shim.library), "FAULT_PAGE": str(self.shim.page_path),
            "BERTCONV_VERIFY": "weights", "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), str(TESTS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """End it; it has no children then."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()

    def warm(self, *arguments: object) -> int:
        """A run in the server itself, which imports what it needs once for all; its exit code."""
        return int(self._ask(do="warm", argv=[str(argument) for argument in arguments])["status"])

    def start(self, arguments: Sequence[object], **options: Any) -> int:
        """Begin a run; its process id.

        Args:
            arguments: of the command line.
            options: `file_size` in bytes, `sigxfsz="default"`, `to_the_end=True` to leave by way of the interpreter's
                own end, `same_seconds` in which a further signal is the same one: see the server.
        """
        descriptor, output = tempfile.mkstemp(dir=self.folder)
        os.close(descriptor)
        argv = [str(argument) for argument in arguments]
        pid = int(self._ask(do="start", argv=argv, output=output, **options)["pid"])
        self._outputs[pid] = Path(output)
        return pid

    def wait(self, pid: int) -> Run:
        """Its end; it is killed when it hangs."""
        status = self._ask(do="wait", pid=pid, seconds=HUNG)["status"]
        output = self._outputs.pop(pid)
        text = output.read_text(errors="replace")
        output.unlink()
        return Run(status, text)

    def run(self, arguments: Sequence[object], **options: Any) -> Run:
        """A run without a fault."""
        self.shim.disarm()
        return self.wait(self.start(arguments, **options))

    def run_with(self, arguments: Sequence[object], prefix: Path, fault: Fault) -> Run:
        """A run with a fault, or with mode "count" only watched, in what happens below `prefix`."""
        self.shim.arm(prefix, fault)
        try:
            run = self.wait(self.start(arguments))
        finally:
            self.shim.disarm()
        calls = self.shim.calls()
        hit = calls[fault.at - 1] if 0 < fault.at <= len(calls) else None
        return Run(run.status, run.text, self.shim.fired, hit, tuple(calls))

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the server has no pipes")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server under the shim died: {self._process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server that ends with the block."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()
