"""What lies beside a destination while it is written, its lock, and what becomes of what a killed run left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

MARK = ".bertconv-tmp-"
"""In the name of every staged folder: `.NAME.bertconv-tmp-0123456789ab`."""
ASIDE = "-old"
"""At the end of the name of an earlier output that waits to be replaced."""
_LOCK = ".bertconv-lock"
_OWN = re.compile(rf"\.(?P<name>.+?)(?:{re.escape(MARK)}[0-9a-f]{{12}}(?:{ASIDE})?|{re.escape(_LOCK)})", re.DOTALL)

REMOVED, PUT_BACK = "removed", "put back"


def prefix_of(destination: Path) -> str:
    """How the names of a destination's staged folders begin."""
    return f".{destination.name}{MARK}"


def lock_of(destination: Path) -> Path:
    """The lock file of a destination; who holds it may write there."""
    return destination.parent / f".{destination.name}{_LOCK}"


def destination_of(path: Path) -> Path | None:
    """The destination whose staged folder, old output or lock a path is; None for anything else."""
    found = _OWN.fullmatch(path.name)
    return path.parent / found["name"] if found and found["name"] not in {".", ".."} else None


def take_lock(lock: Path, *, create: bool = True) -> int | None:
    """Lock a file, and return its descriptor; None where another process holds it.

    Args:
        lock: the file.
        create: make it where it is not there; otherwise that is a FileNotFoundError.

    Raises:
        OSError: the system refuses.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    while True:
        # guard: lock-link
        fd = os.open(lock, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # guard: lock
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        if _is_still(lock, fd):  # guard: lock-removed
            return fd
        os.close(fd)  # another process removed it between open and lock: take the new one


def drop_lock(lock: Path, fd: int) -> None:
    """Remove a lock file that `take_lock` gave, and let it go."""
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(fd)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def put_away(left: Path, destination: Path, remove: Callable[[Path], None] = _remove) -> str:
    """Remove what a killed run left, or put it back; only the holder of the lock may.

    Args:
        left: a staged folder or an old output.
        destination: whose it is.
        remove: removes a folder.

    Returns:
        `REMOVED` or `PUT_BACK`.
    """
    if left.is_symlink():  # guard: leftover-link
        left.unlink()
    elif is_output(left, destination):
        # guard: leftover-output
        left.rename(destination)  # killed between the two renames of a file system without exchange
        return PUT_BACK
    else:
        remove(left)
    return REMOVED


def is_output(left: Path, destination: Path) -> bool:
    """Whether it is the old output, set aside, of a destination that has no new one."""
    return left.name.endswith(ASIDE) and not os.path.lexists(destination)


def _is_still(path: Path, fd: int) -> bool:
    """Whether a path leads to an open file."""
    try:
        return path.stat(follow_symlinks=False).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
