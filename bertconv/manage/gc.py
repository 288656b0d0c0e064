"""collect_leftovers(): what killed runs of bertconv left in a folder, removed; and folders that hold one model twice.

Only bertconv's own leftovers are touched, and only under their lock. No link is followed, and the cache of the Hub is
passed over: `hf cache` looks after that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bertconv.errors import RequestError, check_path
from bertconv.formats import leftovers
from bertconv.formats.destination import is_of_hub_cache
from bertconv.manage.twins import Twins, find_twins
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import SHARED_MARKER
from bertconv.text import is_url, printable, public

REMOVED, PUT_BACK, KEPT = leftovers.REMOVED, leftovers.PUT_BACK, "kept"


@dataclass(frozen=True)
class Leftover:
    """Something that a run left.

    Attributes:
        path: where it is.
        destination: the output that was being written.
        nbytes: bytes that it takes and that nothing else shares.
        action: "removed", "put back" (an earlier output that had lost its place) or "kept"; of a dry run what would be.
        why: it is kept.
    """

    path: str
    destination: str
    nbytes: int
    action: str
    why: str = ""


@dataclass(frozen=True)
class Leftovers:
    """What was found.

    Attributes:
        folder: that was looked into.
        found: the leftovers, by path.
        twins: folders with one model, where these were asked for.
        problems: what could not be looked at or removed, one sentence each.
        dry_run: nothing was changed.
    """

    folder: str
    found: tuple[Leftover, ...]
    twins: Twins
    problems: tuple[str, ...]
    dry_run: bool

    @property
    def freed(self) -> int:
        """Bytes of what was removed."""
        return sum(one.nbytes for one in self.found if one.action == REMOVED)

    @property
    def ok(self) -> bool:
        """Whether everything could be looked at and removed."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {"ok": self.ok, "freed": self.freed, **asdict(self)}


def collect_leftovers(
    folder: str | os.PathLike[str], *, dry_run: bool = False, duplicates: bool = False, verify: bool = False
) -> Leftovers:
    """Remove what killed runs left in a folder and below it.

        from bertconv import collect_leftovers

        collect_leftovers("checkpoints/", dry_run=True).freed

    Args:
        folder: to look into, or the address of one in an object store.
        dry_run: say what would be removed, and change nothing.
        duplicates: also look for folders that hold one model; nothing of these is removed.
        verify: compute the digests of all of them, instead of believing their manifests.

    Returns:
        What was found, and what became of it. What another process is writing, and what is another user's, is kept.

    Raises:
        RequestError: there is no such folder, it is a link, or it lies in the cache of the Hub.
    """
    check_path(folder, "the folder")
    if is_url(folder):
        from bertconv.manage.remote_gc import collect_remote

        if duplicates:
            raise RequestError(
                "models that are twice are looked for in folders of the disk.", hint="Leave --duplicates out.",
                file=public(folder),
            )  # fmt: skip
        address, left, troubles = collect_remote(str(folder), dry_run=dry_run)
        return Leftovers(address, tuple(Leftover(*one) for one in left), Twins(), tuple(troubles), dry_run)
    top = _checked(Path(folder))
    problems: list[str] = []
    folders = list(_walk(top, problems))
    found = []
    for destination, paths in _by_destination(folders).items():
        found += _of_one(destination, paths, problems, dry_run=dry_run)
    twins = find_twins(folders, problems, verify=verify) if duplicates else Twins()
    return Leftovers(str(top), tuple(sorted(found, key=lambda one: one.path)), twins, tuple(problems), dry_run)


def collect_beside(destinations: Iterable[str | os.PathLike[str]]) -> tuple[Leftover, ...]:
    """Remove what killed runs left in the folders in which destinations lie, and not below these.

    Args:
        destinations: local ones; of folders in a store there is nothing to look at here.

    Returns:
        What was found, and what became of it; what cannot be removed is kept, with the reason.
    """
    given = {os.path.dirname(os.path.abspath(one)) for one in destinations if not is_url(one)}  # noqa: PTH100, PTH120
    folders = [folder for one in sorted(given) if (folder := Path(one)).is_dir()]
    found: list[Leftover] = []
    for destination, paths in _by_destination(folders).items():
        found += _of_one(destination, paths, [], dry_run=False)
    return tuple(found)


def _checked(folder: Path) -> Path:
    given = str(folder)
    if folder.is_symlink():
        raise RequestError("is a symbolic link.", hint="Give the folder that it points to.", file=given)
    if not folder.is_dir():
        raise RequestError("there is no such folder.", hint="Check the path.", file=given)
    real = folder.resolve()
    if any(is_of_hub_cache(one) or _is_shared(one) for one in (real, *real.parents)):
        raise RequestError(
            "lies in the cache of the Hub, which many programs share.", hint="Use `hf cache prune`.", file=given
        )
    return folder


def _is_shared(folder: Path) -> bool:
    return folder.name == "blobs" and os.path.lexists(folder / SHARED_MARKER)


def _walk(top: Path, problems: list[str]) -> Iterator[Path]:
    """A folder and those below it, without links, leftovers and the Hub's cache."""

    def refused(error: OSError) -> None:
        problems.append(f"{printable(str(error.filename))} cannot be looked at: {error.strerror}")

    for place, names, _ in os.walk(top, onerror=refused):
        here = Path(place)
        yield here
        names[:] = sorted(
            name
            for name in names
            if leftovers.destination_of(here / name) is None
            and not is_of_hub_cache(here / name)
            and not _is_shared(here / name)
        )


def _by_destination(folders: Iterable[Path]) -> dict[Path, list[Path]]:
    """Destination -> what lies beside it, without its lock; the lock alone is a leftover too."""
    found: dict[Path, list[Path]] = {}
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError:  # `_walk` said it
            continue
        for name in names:
            destination = leftovers.destination_of(folder / name)
            if destination is not None:
                found.setdefault(destination, []).append(folder / name)
    return found


def _of_one(destination: Path, paths: list[Path], problems: list[str], *, dry_run: bool) -> list[Leftover]:
    """What becomes of the leftovers of one destination, under its lock."""
    lock = leftovers.lock_of(destination)
    if (stranger := _stranger(paths)) is not None:
        return _kept(destination, paths, f"belongs to another user (uid {stranger})")
    try:
        fd = leftovers.take_lock(lock, create=not dry_run)
    except FileNotFoundError:  # of a dry run: nobody holds what is not there
        return [replace(one, action=_planned(one, destination)) for one in _kept(destination, paths)]
    except OSError as error:
        problems.append(f"{printable(str(lock))} cannot be locked: {error.strerror}")
        return _kept(destination, paths, "cannot be locked")
    if fd is None:
        return _kept(destination, paths, "another bertconv is writing it")
    if dry_run:
        os.close(fd)
        return [replace(one, action=_planned(one, destination)) for one in _kept(destination, paths)]
    try:
        return [_put_away(one, lock, destination, problems) for one in _kept(destination, paths)]
    finally:
        leftovers.drop_lock(lock, fd)


def _kept(destination: Path, paths: list[Path], why: str = "") -> list[Leftover]:
    """Those that are still there, as they are."""
    return [Leftover(str(path), str(destination), _size(path), KEPT, why) for path in paths if os.path.lexists(path)]


def _stranger(paths: list[Path]) -> int | None:
    """Another user who owns one of them."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # its run has just ended
            if (owner := path.lstat().st_uid) != os.geteuid():
                return owner
    return None


def _planned(one: Leftover, destination: Path) -> str:
    path = Path(one.path)
    is_output = not path.is_symlink() and leftovers.is_output(path, destination)
    return PUT_BACK if is_output else REMOVED


def _put_away(one: Leftover, lock: Path, destination: Path, problems: list[str]) -> Leftover:
    path = Path(one.path)
    if path == lock:  # goes when it is let go
        return replace(one, action=REMOVED)
    try:
        return replace(one, action=leftovers.put_away(path, destination, shutil.rmtree))
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else one.path
        problems.append(f"{printable(place)} cannot be removed: {error.strerror}")
        return replace(one, why=f"cannot be removed: {error.strerror}")


def _size(path: Path) -> int:
    """Bytes of files that have no other name, such as one in an output that stays; 0 for what is gone meanwhile."""
    if path.is_dir() and not path.is_symlink():
        return sum(_size(Path(place, name)) for place, _, names in os.walk(path) for name in names)
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        return status.st_size if status.st_nlink == 1 else 0
    return 0
