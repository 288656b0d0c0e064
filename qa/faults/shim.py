"""The preloaded library: compiled from shim.c, and the page through which a test tells it what to do."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MODES = (
    "count", "kill", "killmid", "nospace", "eio", "short", "eintr", "zero", "truncate", "scribble", "swap", "signal",
    "pause",
)  # fmt: skip
"""In the order of the enumeration in shim.c."""
DATA, SPACE, WAITS = 1, 2, 4
ENTRIES = 8192


@dataclass(frozen=True)
class Fault:
    """What happens at which call.

    Attributes:
        mode: one of MODES; "pause" lasts until the shim is disarmed.
        at: number of the call, from one.
        reads: calls that read are counted, else those that change something.
        value: signal, or the place in the file in per cent.
        other: folder with the files that are swapped in.
        only: count calls of this name alone, whose numbers do not change with the threads' turns.
        no_exchange: the file system cannot swap two names in one step, as some network file systems.
    """

    mode: str
    at: int = 0
    reads: bool = False
    value: int = 0
    other: str = ""
    only: str = ""
    no_exchange: bool = False


@dataclass(frozen=True)
class Call:
    """One counted call: its name, what it is (DATA, SPACE, WAITS), and the end of the path."""

    name: str
    flags: int
    path: str

    def can(self, mode: str) -> bool:
        """Whether a fault means something for it."""
        need = {"nospace": SPACE, "short": DATA, "zero": DATA, "eintr": WAITS}
        return self.flags & need.get(mode, -1) != 0 or mode not in need


class _Entry(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 20), ("flags", ctypes.c_uint32), ("path", ctypes.c_char * 104))


class FaultPage(ctypes.Structure):
    """`struct page` of shim.c."""

    _fields_ = (
        ("armed", ctypes.c_int32), ("mode", ctypes.c_int32), ("reads", ctypes.c_int32), ("value", ctypes.c_int32),
        ("at", ctypes.c_int64), ("count", ctypes.c_int64), ("fired", ctypes.c_int64),
        ("prefix", ctypes.c_char * 512), ("other", ctypes.c_char * 512),
        ("only", ctypes.c_char * 24), ("no_exchange", ctypes.c_int64), ("log", _Entry * ENTRIES),
    )  # fmt: skip


class Shim:
    """The library and its page, shared by every process that runs under it."""

    def __init__(self, library: Path, page: Path) -> None:
        self.library = library
        self.page_path = page
        page.write_bytes(bytes(ctypes.sizeof(FaultPage)))
        with page.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._page = FaultPage.from_buffer(self._map)

    def arm(self, prefix: Path, fault: Fault) -> None:
        """From now on calls below `prefix` are counted, and the one that is meant fails."""
        page = self._page
        page.armed = 0
        page.mode, page.reads, page.value, page.at = MODES.index(fault.mode), fault.reads, fault.value, fault.at
        page.count = page.fired = 0
        page.prefix, page.other = f"{prefix}/".encode(), fault.other.encode()
        page.only, page.no_exchange = fault.only.encode(), fault.no_exchange
        page.armed = 1

    def disarm(self) -> None:
        self._page.armed = 0

    @property
    def count(self) -> int:
        """Calls since it was armed."""
        return int(self._page.count)

    @property
    def fired(self) -> int:
        """How many calls got the fault."""
        return int(self._page.fired)

    def calls(self) -> list[Call]:
        """The calls since it was armed, in their order."""
        entries = self._page.log[: min(self.count, ENTRIES)]
        return [Call(entry.name.decode(), entry.flags, entry.path.decode(errors="replace")) for entry in entries]


def obstacle() -> str:
    """Why there can be no shim here; empty when there can."""
    if not sys.platform.startswith("linux"):
        return "faults are injected on Linux only"
    return "" if _compiler() else "faults are injected by a library that needs a C compiler (cc, gcc or clang)"


def build(folder: Path) -> Shim:
    """Compile the library into a folder."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([str(_compiler()), "-O1", "-w", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return Shim(library, folder / "page")


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
