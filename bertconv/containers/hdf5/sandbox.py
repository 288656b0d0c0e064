"""Take from this process everything that parsing a hostile file does not need, before the first byte of it is parsed.

Limits of POSIX, setrlimit(2), where the system has them; Landlock, landlock(7), where the kernel has it.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from pathlib import Path

MEMORY = 160 << 20
"""Bytes that the process may take beyond what it has now."""
CPU_SECONDS = 2
"""The kernel ends the process after so much more processor time: a walk takes some hundredths of a second."""

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""Numbers of the system calls, the same on every architecture of Linux."""
_VERSION = 1
_NO_NEW_PRIVILEGES = 38
_FILE_RIGHTS = (13, 14, 15, 15, 16)
"""Rights that versions 1 to 5 of Landlock know; each bit that is handled and not granted is refused."""
_NET_RIGHTS, _SCOPES = (4, 0b11), (6, 0b11)
"""The version that brought them, and their bits: bind and connect; signals and abstract sockets."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def confine() -> None:
    """Open no file, connect nowhere, write no file, take little memory and processor time, from here to the end."""
    if sys.platform == "win32":
        return
    import resource

    taken = _address_space()
    limits = {
        "RLIMIT_AS": None if taken is None else taken + MEMORY,  # guard: hdf5-memory
        "RLIMIT_CPU": math.ceil(time.process_time() + CPU_SECONDS),  # guard: hdf5-time
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,  # guard: hdf5-writes
        "RLIMIT_NOFILE": 0,  # what is open stays so, nothing more can be; guard: hdf5-opens
    }
    landlock()  # guard: hdf5-landlock
    for name, value in limits.items():
        if value is not None and hasattr(resource, name):
            limit = getattr(resource, name)
            hard = resource.getrlimit(limit)[1]
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            # between the two the kernel ends the process by SIGXCPU, at the hard one by SIGKILL
            resource.setrlimit(limit, (soft, hard if name == "RLIMIT_CPU" else soft))


def landlock() -> int:
    """Refuse this thread every file and every connection; the version of Landlock that does, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    if version < 1:
        return 0
    rights = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
    net, scopes = ((bits if version >= since else 0) for since, bits in (_NET_RIGHTS, _SCOPES))
    ruleset = _Ruleset(rights, net, scopes)
    # an older kernel refuses a structure that is longer than its own unless the rest is zero, as it is here
    fd = int(libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), ctypes.c_uint32(0)))
    if fd < 0:
        return 0
    done = libc.prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0
    done = done and libc.syscall(_RESTRICT_SELF, fd, ctypes.c_uint32(0)) == 0
    os.close(fd)
    return version if done else 0


def _address_space() -> int | None:
    """Bytes of address space that this process has; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
