"""The process of a worker: reads items from a socket, a JSON line each, and answers with their outcomes."""

from __future__ import annotations

import json
import os
import signal
import socket
from types import FrameType
from typing import Any

from bertconv.fleet.engines.alone import run_alone
from bertconv.fleet.items import item_of
from bertconv.fleet.work import run_item


class _Stopped(BaseException):
    """A signal asked the worker to end."""


def main(fd: str, memory: str) -> None:
    """Work until the parent closes its end, or asks to stop.

    Args:
        fd: the socket.
        memory: most bytes of address space; 0 sets no limit.
    """
    import faulthandler

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    faulthandler.enable()
    os.set_inheritable(int(fd), False)  # else a process that this one starts would keep a dead worker's socket open
    if int(memory):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    with socket.socket(fileno=int(fd)) as parent, parent.makefile("rb") as lines:
        try:
            _work(parent, lines)
        except ConnectionError:
            pass  # the driver is gone; what it had asked for is done, and its next run finds that
        except _Stopped:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            parent.close()
            os.kill(os.getpid(), signal.SIGTERM)  # so that whoever waits sees why


def _work(parent: socket.socket, lines: Any) -> None:
    for line in lines:
        asked = json.loads(line)
        item = item_of(asked["item"])
        outcome = run_alone(item) if asked["alone"] else run_item(item)
        parent.sendall(json.dumps(outcome.to_json()).encode() + b"\n")


def _stop(number: int, _: FrameType | None) -> None:
    raise _Stopped(number)
