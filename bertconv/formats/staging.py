"""The write protocol: a staged folder beside the destination, filled, fsynced and renamed; whole or not at all.

Follows the usual POSIX practice (write temporary, fsync file, rename, fsync folder), with `renameat2(RENAME_EXCHANGE)`
where an older output is replaced, so that a reader finds the old folder or the new one and never a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bertconv.containers.stored import SourceFile
from bertconv.errors import BertconvError, OutputError
from bertconv.formats import leftovers
from bertconv.formats.destination import check_destination, refusal

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)

Keep = Callable[[str], bool] | None
"""Whether a file of the destination stays, by its name relative to it; None: the destination must be ours."""


class StagedFolder:
    """A folder that appears at its destination when `commit` is called, and leaves nothing when it is not.

    Args:
        destination: the folder to make.
        overwrite: replace an earlier output there.
        inputs: the files that are read, which must not be replaced.
        keep: with it the destination may hold anything, whatever `overwrite` is: files for which it is true stay
            unless a new one takes their place, the others go. Without it only an earlier output is replaced.

    Raises:
        OutputError: the destination exists, is a link, is or holds an input, or is being written by another process;
            with `keep`: it is or holds the working folder or a mount point.
    """

    def __init__(
        self, destination: Path, *, overwrite: bool = False, inputs: tuple[Path, ...] = (), keep: Keep = None
    ) -> None:
        self.destination = Path(os.path.abspath(destination))  # noqa: PTH100  (resolve() would follow a link)
        self.overwrite = overwrite
        self.inputs = inputs
        self.keep = keep
        self._prefix = leftovers.prefix_of(self.destination)
        self.path = self.destination.parent / f"{self._prefix}{os.urandom(6).hex()}"
        self._lock = leftovers.lock_of(self.destination)
        self._lock_fd = -1
        self._made_parents: list[Path] = []

    stream = None
    """Files of weights are written at any place."""

    @property
    def readable(self) -> Path:
        """What opens it as a checkpoint before it is in its place."""
        return self.path

    def __enter__(self) -> Self:
        try:
            self.check()
            self._make_parents()
            self._acquire()
            with self.writing():
                self._remove_leftovers()  # guard: leftovers
                self.check()  # once more, under the lock
                self.path.mkdir(mode=0o755)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def check(self) -> None:
        """Refuse a destination that cannot or must not be written; nothing is changed."""
        check_destination(
            self.destination, overwrite=self.overwrite, inputs=self.inputs, holds_anything=self.keep is not None
        )

    def reserve(self, needed: int) -> None:
        """Make sure that so many bytes fit; OutputError before the first one is written."""
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise refusal(
                self.destination,
                f"needs {needed:,} bytes and the disk has {free:,}",
                "Make room, or choose another disk.",
            )

    def announce(self, names: Iterable[str]) -> None:
        """Say which files will be written next: nothing, since the folder goes as a whole."""

    def names(self) -> Sequence[str]:
        """The files that were written, sorted."""
        found = sorted(path for path in self.path.rglob("*") if path.is_file())
        return [path.relative_to(self.path).as_posix() for path in found]

    def write(self, name: str, content: bytes) -> None:
        """A small file, written and fsynced; folders in its name are made."""
        self._write(name, (content,))

    def copy(self, name: str, source: SourceFile) -> None:
        """A file of the source as it is, written and fsynced piece by piece; folders in its name are made.

        Raises:
            DamagedCheckpoint: the source ends too early or cannot be read.
            OutputError: it cannot be written.
        """
        self._write(name, source.pieces(0, source.size))

    def _write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        path = self.path / name
        with self.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # guard: write-once
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())  # guard: files-fsync

    def commit(self) -> None:
        """Put the folder in its place, in one step."""
        with self.writing():
            self._carry_over()
            for folder, _, _ in os.walk(self.path):
                _fsync(Path(folder))  # guard: folders-fsync
            if self.destination.is_dir() and any(self.destination.iterdir()):
                self._exchange()
            else:
                self.path.rename(self.destination)
        self._made_parents = []
        try:
            _fsync(self.destination.parent)  # guard: rename-fsync
        except OSError as error:
            raise OutputError(
                f"was written, but may not survive a power cut: {error.strerror}.",
                hint="Check the disk, then run `bertconv verify` on it.",
                file=str(self.destination),
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the system refuses while files are written into an OutputError."""
        try:
            yield
        except BertconvError:
            raise
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: OSError) -> OutputError:
        """The error of a call that the system refused while writing."""
        return refusal(
            self.destination,
            f"could not be written, and nothing was changed: {error.strerror or error}",
            "Check space and permissions.",
        )

    def _carry_over(self) -> None:
        """Link what stays of the destination into the staged folder; folders that were empty stay too."""
        if self.keep is None or not self.destination.exists():
            return
        for folder, folders, files in os.walk(self.destination, topdown=False, onerror=_raise):  # guard: list-errors
            old = Path(folder)
            new = self.path / old.relative_to(self.destination)
            for name in (*files, *(name for name in folders if (old / name).is_symlink())):
                if self.keep((old / name).relative_to(self.destination).as_posix()):
                    _carry(old / name, new / name)
            if not folders and not files:
                new.mkdir(parents=True, exist_ok=True)
            if new.is_dir():
                _copy_owner_and_mode(old, new)

    def _make_parents(self) -> None:
        missing = [folder for folder in (self.destination.parent, *self.destination.parents) if not folder.exists()]
        for folder in sorted(set(missing)):
            try:
                folder.mkdir()
            except OSError as error:
                raise self.failed(error) from error
            self._made_parents.append(folder)

    def _acquire(self) -> None:
        try:
            fd = leftovers.take_lock(self._lock)
        except OSError as error:
            raise self.failed(error) from error
        if fd is None:
            raise refusal(self.destination, "is being written by another bertconv", "Wait until it is done.")
        self._lock_fd = fd

    def _remove_leftovers(self) -> None:
        """Staged folders of runs that were killed; only the holder of the lock may."""
        for left in sorted(self.destination.parent.glob(f"{glob.escape(self._prefix)}*")):
            leftovers.put_away(left, self.destination)

    def _exchange(self) -> None:
        """Swap the staged and the old folder, then remove the old one."""
        try:
            _renameat2(self.path, self.destination, _RENAME_EXCHANGE)  # guard: exchange
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            aside = self.path.with_name(self.path.name + leftovers.ASIDE)
            self.destination.rename(aside)
            try:
                self.path.rename(self.destination)
            except OSError:
                self._put_back(aside)  # guard: put-back
                raise
            shutil.rmtree(aside, ignore_errors=True)

    def _put_back(self, aside: Path) -> None:
        try:
            aside.rename(self.destination)
        except OSError as error:
            raise OutputError(
                f"could not be replaced ({error.strerror}), and what was there lies in {aside.name} beside it.",
                hint="The next conversion to this folder puts it back; or rename it yourself.",
                file=str(self.destination),
            ) from error

    def _clean_up(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # guard: clean-up
        if self._lock_fd >= 0:
            leftovers.drop_lock(self._lock, self._lock_fd)
            self._lock_fd = -1
        for folder in reversed(self._made_parents):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _carry(old: Path, new: Path) -> None:
    """The same file, or the same symbolic link, under another name; nothing where a new file has that name."""
    if os.path.lexists(new):
        if new.is_dir() and not new.is_symlink():  # a copy would land inside it
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new, follow_symlinks=False)  # guard: keep-links
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(old, new, follow_symlinks=False)  # guard: copy-links
        if not new.is_symlink():
            _copy_owner_and_mode(old, new)
            _fsync(new)  # guard: copy-fsync


def _copy_owner_and_mode(old: Path, new: Path) -> None:
    status = old.stat()
    with contextlib.suppress(PermissionError):  # only root gives files to others
        os.chown(new, status.st_uid, status.st_gid)
    shutil.copymode(old, new)


def _raise(error: OSError) -> None:
    raise error


def _renameat2(old: Path, new: Path, flags: int) -> None:
    """The Linux call; OSError(ENOSYS) where the C library has none."""
    import ctypes  # most outputs replace nothing

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
