"""A process under the shim that has imported bertconv and forks for every run: `server.py FOLDER_OF_TESTS`.

Reads requests as lines of JSON and answers each with one:
    {"do": "warm", "argv": [...]}                            the command line in this process
    {"do": "start", "argv": [...], "output": PATH, ...}      in a child: {"pid": N}
    {"do": "wait", "pid": N, "seconds": S}                   {"status": exit code or -signal}, null when it was late
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    import checkpoints as cp

    answers: Any = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm":
            answer: dict[str, Any] = {"status": cp.call(*request["argv"])}
        elif request["do"] == "start":
            gc.freeze()
            answer = {"pid": os.fork()}
            if answer["pid"] == 0:
                answers = None  # the child's copy has nothing in it
                _run(request)
        else:
            answer = {"status": _wait(request["pid"], request["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


def _run(request: dict[str, Any]) -> None:
    """The command line, as a process of its own would run it; does not return."""
    from bertconv.cli import main
    from bertconv.formats import interrupts, writing

    vars(writing)["threading"] = SimpleNamespace(Event=_OneTurn)
    interrupts.SAME_SECONDS = request.get("same_seconds", interrupts.SAME_SECONDS)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if limit := request.get("file_size"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if request.get("sigxfsz") == "default":  # Python ignores it
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        main(request["argv"])
    except SystemExit as error:
        if request.get("to_the_end"):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(error.code or 0))  # to take the interpreter apart takes longer than to convert


class _OneTurn(threading.Event):
    """The flusher has one turn, however long a conversion takes: so the number of its calls depends on no clock."""

    had = False

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  (FLUSH_SECONDS)
        if self.had:
            return super().wait()
        self.had = True
        return False


def _wait(pid: int, seconds: float) -> int | None:
    end = os.pidfd_open(pid)
    is_over = bool(select.select([end], [], [], seconds)[0])
    os.close(end)
    if not is_over:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if is_over else None


if __name__ == "__main__":
    main()
