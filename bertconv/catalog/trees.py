"""Folders of the disk as trees of outputs: which manifests there are, by which each is known again, and their bytes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import field
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from bertconv.errors import RequestError
from bertconv.formats.destination import MANIFEST
from bertconv.manage.history.search import checked_root, walk_folders
from bertconv.manifest import stored_manifest
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import open_in
from bertconv.text import printable

MOST_FOLDERS = 2_000_000
"""How many folders are looked at in all, and at how many entries of each at most."""
MOST_DEPTH = 60
MOST_PLACE = 2_000
"""Bytes of a folder's path: PostgreSQL has no longer ones in an index."""
UNSETTLED = ""
"""The stamp of what is read again next time."""
YOUNG_NS = 2_000_000_000
"""A file that was written less than this before it was looked at may be written again without a new time: the clocks of
file systems have ticks."""


class Seen(NamedTuple):
    """A manifest: the folder that it lies in, and what tells it from another in its place."""

    place: str
    stamp: str
    size: int


@dataclass(frozen=True)
class Scan:
    """What lies in a tree.

    Attributes:
        found: its manifests, sorted by place.
        unread: places that could not be searched; what is on record below them stays.
        whole: everything else was searched.
        notes: what was not, one sentence each.
    """

    found: tuple[Seen, ...]
    unread: tuple[str, ...] = ()
    whole: bool = True
    notes: tuple[str, ...] = field(default=())


Answer = TypeVar("Answer")


class Tree(Protocol):
    """A folder with outputs below it, on the disk or elsewhere."""

    @property
    def root(self) -> str:
        """What the places in it begin with."""

    def scan(self) -> Scan:
        """Find its manifests; none is opened."""

    def together(self, work: Callable[[Seen], Answer], wanted: Iterable[Seen]) -> Iterator[Answer]:
        """What work gives for each, in order; several at a time where that is quicker."""

    def manifest(self, seen: Seen) -> bytes:
        """A manifest, or nothing where it is too large; BertconvError where it cannot be read."""

    def read(self, place: str, name: str, size: int) -> bytes:
        """A file of this size beside a manifest; BertconvError where it cannot be read or has another."""


class LocalTree:
    """A folder of the disk.

    Args:
        folder: that is searched, with those below it; no link is followed, hidden folders are passed over.

    Raises:
        RequestError: it is none, lies in the Hub's cache, or has a name that no database takes.
    """

    def __init__(self, folder: Path) -> None:
        self._root = checked_root(folder).resolve()
        check_place(str(self._root))

    @property
    def root(self) -> str:
        """Its path, without links."""
        return str(self._root)

    def scan(self) -> Scan:
        """Find its manifests; none is opened."""
        found: list[Seen] = []
        unread: list[str] = []
        notes: list[str] = []

        def tell(folder: Path | None, sentence: str) -> None:
            notes.append(sentence)
            unread.append(self.root if folder is None else str(folder))

        now = time.time_ns()
        for folder, names in walk_folders([self._root], tell, most_folders=MOST_FOLDERS, most_depth=MOST_DEPTH):
            if MANIFEST not in names:
                continue
            if problem := unfit(str(folder)):
                notes.append(problem)
                continue
            try:
                found.append(_seen(folder, now))
            except OSError as error:
                tell(folder, f"{printable(str(folder / MANIFEST))} cannot be looked at: {error.strerror}")
        return Scan(tuple(sorted(found)), tuple(unread), self.root not in unread, tuple(notes))

    def together(self, work: Callable[[Seen], Answer], wanted: Iterable[Seen]) -> Iterator[Answer]:
        """What work gives for each, one after the other."""
        return map(work, wanted)

    def manifest(self, seen: Seen) -> bytes:
        """A manifest, or nothing where it is too large; BertconvError where it cannot be read."""
        return stored_manifest(Path(seen.place))

    def read(self, place: str, name: str, size: int) -> bytes:
        """A file beside a manifest; nothing where it has another size."""
        with closing(open_in(Path(place), name)) as file:
            return file.read(0, size) if file.size == size else b""


def unfit(place: str) -> str:
    """Why a place cannot be put on record; empty where it can."""
    try:
        size = len(place.encode())
    except UnicodeEncodeError:
        return f"{printable(place)} has a name that is no UTF-8, so it is not on record"
    return (
        f"{printable(place[:100])}... has a path of {size:,} bytes, so it is not on record" if size > MOST_PLACE else ""
    )


def check_place(place: str) -> None:
    """RequestError for a folder that cannot be put on record."""
    if unfit(place):
        raise RequestError(
            "has a path that is no UTF-8 or too long, so nothing below it can be on record.", hint="Rename the folder.",
            file=place,
        )  # fmt: skip


def _seen(folder: Path, now: int) -> Seen:
    """A manifest by its size, times and inode: a new output is a new file, even with the time of the old one."""
    found = os.stat(folder / MANIFEST, follow_symlinks=False)  # noqa: PTH116  (what it is, links not followed)
    is_old = now - found.st_mtime_ns > YOUNG_NS and stat.S_ISREG(found.st_mode)
    stamp = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}" if is_old else UNSETTLED
    return Seen(str(folder), stamp, found.st_size)
