"""Who writes a destination in a store: an object beside it, renewed while he does. It also says what he began.

A store has no locks. Where it can create an object only if there is none, two runs do not begin together; a run that
was taken for dead finds, before it commits, that the object is another's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import OutputError
from bertconv.formats import leftovers
from bertconv.formats.remote.site import Site
from bertconv.records import dataclass
from bertconv.source.remote.patience import failures

BEAT = 20.0
"""Seconds between renewals."""
DEAD = 120.0
"""Seconds without a renewal after which a run on another machine is taken for dead."""

_own: set[str] = set()
"""Tokens of the runs of this process."""


@dataclass(frozen=True)
class Record:
    """What the object says.

    Attributes:
        token: of the run.
        machine: that it is on, as far as process ids have a meaning.
        pid: of its process.
        started: when the process was started, by its machine's clock.
        staged: the folder beside the destination that it writes to; empty where it writes in place.
        names: of the files that it writes in place.
        old: names of the files of an output that is being replaced.
        replacing: whether that has begun.
    """

    token: str
    machine: str = ""
    pid: int = 0
    started: str = ""
    staged: str = ""
    names: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    replacing: bool = False

    @classmethod
    def read(cls, raw: bytes) -> Record:
        """Of the object's bytes; a record of nothing where they are something else."""
        try:
            found = json.loads(raw)
            token, machine, started, staged = (str(found[key]) for key in ("token", "machine", "started", "staged"))
            names, old = (tuple(map(str, found[key])) for key in ("names", "old"))
            record = cls(token, machine, int(found["pid"]), started, staged, names, old, bool(found["replacing"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls("")
        named = (*record.names, *record.old, *filter(None, (record.staged,)))
        is_sound = not any({"", ".", ".."} & set(name.split("/")) for name in named) and "/" not in record.staged
        return record if is_sound else cls("")

    def to_bytes(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self)).encode()

    def is_dead(self, age: float) -> bool:
        """Whether its run has ended, so far as can be told; `age` is how long ago it was written."""
        if self.token in _own:
            return False
        if self.machine == _machine():
            return self.started != _started(self.pid) or self.pid == os.getpid()
        return age > DEAD


class Lock:
    """The right to write a destination.

    Args:
        site: the destination.
    """

    def __init__(self, site: Site) -> None:
        self._site = site.parent
        self._shown = site.url
        self._name = leftovers.lock_of(Path(site.name)).name
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None
        self.record = Record(os.urandom(8).hex(), _machine(), os.getpid(), _started(os.getpid()))

    def there(self) -> Record | None:
        """What it says now; None where nobody has it."""
        raw = self._site.get(self._name)
        return None if raw is None else Record.read(raw)

    def is_free(self, record: Record) -> bool:
        """Whether the run that wrote it has ended."""
        try:
            return record.is_dead(self._site.age(self._name))
        except FileNotFoundError:
            return True

    def take(self) -> Record | None:
        """Take it; what the run that had it and was killed had begun, or None.

        Raises:
            OutputError: another run has it.
        """
        there = self.there()
        if there is not None and not self.is_free(there):
            raise self._busy()
        try:
            self._put(new=there is None)
        except FileExistsError as error:
            raise self._busy() from error
        _own.add(self.record.token)
        try:
            self.check()
        except BaseException:
            self.abandon()
            raise
        self._beating = threading.Thread(target=self._beat, daemon=True, name="bertconv-lock")
        self._beating.start()
        return there

    def change(self, **changes: Any) -> None:
        """Write down more."""
        with self._changing:
            self.record = replace(self.record, **changes)
            self._site.put(self._name, self.record.to_bytes())

    def check(self) -> None:
        """OutputError where another run has taken it."""
        there = self.there()
        if there is None or there.token != self.record.token:
            raise self._busy()

    def is_own(self) -> bool:
        """Whether it is still this run's, so far as the store tells."""
        with contextlib.suppress(*failures()):
            there = self.there()
            return there is not None and there.token == self.record.token
        return False

    def drop(self) -> None:
        """Let it go."""
        self._end()
        if self.is_own():
            self._site.remove([self._name])
        _own.discard(self.record.token)

    def abandon(self) -> None:
        """Leave it, for another run to find what this one began."""
        self._end()
        _own.discard(self.record.token)

    def _end(self) -> None:
        self._ended.set()
        if self._beating is not None:
            self._beating.join()
            self._beating = None

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(*failures()):  # the next one may get through; `check` decides
                if self.is_own():
                    self.change()

    def _put(self, *, new: bool) -> None:
        try:
            self._site.put(self._name, self.record.to_bytes(), new=new)
        except (TypeError, NotImplementedError):  # a store that cannot; `check` looks who came last
            self._site.put(self._name, self.record.to_bytes())

    def _busy(self) -> OutputError:
        return OutputError("is being written by another bertconv.", hint="Wait until it is done.", file=self._shown)


@cache
def _machine() -> str:
    """What tells this machine from others: its name, when it was started, and the numbers of its processes."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(facts)


def _started(pid: int) -> str:
    """When a process was started; empty where there is none, or it has ended and nobody has looked."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]
