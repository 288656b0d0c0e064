"""What a command opens, how long it takes and what it leaves, whatever links and FIFOs it meets."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import checkpoints as cp
from hostile_case import SECONDS, reads_hdf5, watched
from hostile_folders import SECRET
from kernel_watch import opened

LARGE = 10_000_000
PATIENCE = 5
"""Seconds until a command counts as one that waits for ever."""


class Waits(BaseException):
    """Not for the command line to catch."""


@contextlib.contextmanager
def in_time(seconds: float = PATIENCE) -> Iterator[None]:
    """Ends a call that waits for ever, as one does that opens a FIFO."""

    def ring(_: int, __: FrameType | None) -> None:
        raise Waits

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def untouched(*paths: Path) -> contextlib.AbstractContextManager[list[Path]]:
    """Those files, given or below folders, that are opened meanwhile: under whatever name and by whatever link."""
    below = (each for path in paths for each in (path, *path.rglob("*")))
    return opened({each for each in below if each.is_file() and not each.is_symlink()})


def state(root: Path) -> dict[str, object]:
    """Every path with what it is and holds; of large files the size."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            content: object = facts.st_size if stat.S_ISREG(facts.st_mode) else None
            if path.is_symlink():
                content = path.readlink()
            elif stat.S_ISREG(facts.st_mode) and facts.st_size < LARGE:
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (stat.S_IFMT(facts.st_mode), content)
    return found


def foreign(seen: list[str], root: Path) -> list[str]:
    """What was done beside reading the model and making an output; what became of files is for `state` to tell.

    The check of an output reads HDF5 in a process of its own.
    """
    acts = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate", "shutil.rmtree", f"open {root}/out/")
    marks = (".bertconv-tmp-", ".bertconv-lock", "/bertconv.json")

    def is_own(act: str) -> bool:
        inside = act.startswith(f"open {root}/") and any(mark in act for mark in marks)
        return inside or act.startswith(acts) or act == f"open {root}" or reads_hdf5(act)

    return [each for each in seen if not is_own(each)]


def watched_call(
    cli: Callable[..., cp.Outcome], root: Path, *words: object, unread: tuple[str, ...] = ()
) -> cp.Outcome:
    """One command, of which nothing may be seen but its own work."""
    with (
        in_time(),
        untouched(root / "secret", root / "precious", *(root / "model" / name for name in unread)) as leaked,
        watched(root / "model") as seen,
    ):
        started, busy = time.perf_counter(), time.process_time()
        outcome = cli(*words, "--json")
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    assert leaked == [], words
    assert not foreign(seen, root), words
    assert busy < SECONDS, words
    assert seconds < 5 * SECONDS, words  # other work on the machine does not count, waiting does
    assert SECRET not in outcome.out
    return outcome
