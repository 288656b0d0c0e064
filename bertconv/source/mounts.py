"""Local folders whose other files lie elsewhere: what opens them, found by the folder's path.

A remote checkpoint has a local folder for its small files. Everything that takes a folder and a name goes on to do so:
`checkpoint_folder.open_in` asks here first, which is one look at an empty dictionary where nothing is mounted.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import NamedTuple, Protocol

from bertconv import errors
from bertconv.containers.stored import SourceFile


class Mount(Protocol):
    """What knows the files of a place elsewhere; names are relative to it, with `/` between parts."""

    def open(self, name: str) -> SourceFile | None:
        """Open a file; None for one that lies in the local folder."""

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name, there or in the local folder."""

    def names(self) -> frozenset[str]:
        """All files, as far as they are known."""


class Found(NamedTuple):
    """What is mounted at a folder or around it, and what stands before a name in that folder."""

    mount: Mount
    prefix: str


_mounts: weakref.WeakValueDictionary[str, Mount] = weakref.WeakValueDictionary()


def attach(folder: Path, mount: Mount, shown: str) -> None:
    """Have the files of a folder opened by a mount, for as long as somebody else keeps the mount.

    Args:
        folder: the local folder, which nobody else has.
        mount: what opens its files.
        shown: what messages call the folder.
    """
    _mounts[str(folder)] = mount
    errors.show_as(str(folder), shown)
    weakref.finalize(mount, errors.forget, str(folder))


def detach(folder: Path) -> None:
    """Open the files of a folder as any other's again."""
    _mounts.pop(str(folder), None)


def at(folder: Path) -> Found | None:
    """What is mounted at a folder or around it; None for nearly all."""
    if not _mounts:
        return None
    for above in (folder, *folder.parents):
        if (mount := _mounts.get(str(above))) is not None:
            inner = folder.relative_to(above).as_posix()
            return Found(mount, "" if inner == "." else f"{inner}/")
    return None


def is_file(folder: Path, name: str) -> bool:
    """Whether a folder has a file of this name, wherever it lies."""
    found = at(folder)
    return (folder / name).is_file() if found is None else found.mount.holds(found.prefix + name)


def names(folder: Path) -> frozenset[str]:
    """The files of a folder and of all below it, wherever they lie, relative to it."""
    found = at(folder)
    if found is None:
        return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    prefix = found.prefix
    return frozenset(name.removeprefix(prefix) for name in found.mount.names() if name.startswith(prefix))
