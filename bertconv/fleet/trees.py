"""Trees in which checkpoints are looked for: a folder of the disk, and all that lies below an address."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bertconv.containers.stored import is_so
from bertconv.errors import BertconvError, RequestError
from bertconv.fleet.finding import File
from bertconv.source.checkpoint_folder import open_in
from bertconv.text import public


class LocalTree:
    """A folder of the disk; no link to another folder is followed.

    Args:
        root: the folder.

    Raises:
        RequestError: it is none.
    """

    def __init__(self, root: Path) -> None:
        if not is_so(root.is_dir):
            raise RequestError(
                "is no folder, so no checkpoints can be looked for in it.",
                hint="Give a folder, an address such as s3://bucket/prefix, or hf://models?author=NAME.",
                file=str(root),
            )
        self._root = root

    def entries(self, folder: str) -> tuple[Mapping[str, File], Collection[str]]:
        """Its files with their sizes, and its folders."""
        files: dict[str, File] = {}
        inner = []
        with os.scandir(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif not is_so(entry.is_dir):  # a link to a folder
                    files[entry.name] = _local(entry)
        return files, inner

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a file, which is no link."""
        folder, _, own = name.rpartition("/")
        try:
            with closing(open_in(self._root / folder, own)) as file:
                return file.read_up_to(most)
        except BertconvError as error:
            raise OSError(errno.EIO, error.message.rstrip(".")) from error

    def size(self, name: str) -> int:
        """As the system states it."""
        return (self._root / name).stat().st_size


def _local(entry: os.DirEntry[str]) -> File:
    try:
        found = entry.stat()
    except OSError:  # removed meanwhile, or a link to nothing
        return File(None, is_link=is_so(entry.is_symlink))
    # A device or a pipe has no size; whoever opens it refuses it.
    return File(found.st_size if stat.S_ISREG(found.st_mode) else None, is_link=entry.is_symlink())


class ListedTree:
    """A tree whose files were all listed at once.

    Args:
        files: name relative to the root -> size in bytes, None where the listing has none.
    """

    def __init__(self, files: Iterable[tuple[str, int | None]]) -> None:
        self._files: dict[str, dict[str, File]] = {"": {}}
        self._folders: dict[str, set[str]] = {"": set()}
        for name, size in files:
            folder, _, own = name.rpartition("/")
            self._add(folder)[own] = File(size)

    def entries(self, folder: str) -> tuple[Mapping[str, File], Collection[str]]:
        """Its files with their sizes, and its folders."""
        return self._files[folder], self._folders[folder]

    def read(self, name: str, most: int) -> bytes:
        """Nothing but the names is known of it."""
        raise OSError(errno.ENOTSUP, f"only the names of {name!r} and its neighbours are known, not their first {most}")

    def size(self, name: str) -> int:
        """Nothing but the names is known of it."""
        raise OSError(errno.ENOTSUP, f"the listing has no size of {name!r}")

    @property
    def has_files(self) -> bool:
        """Whether there are any."""
        return len(self._files) > 1 or bool(self._files[""])

    def _add(self, folder: str) -> dict[str, File]:
        if folder not in self._files:
            above, _, own = folder.rpartition("/")
            self._add(above)
            self._folders[above].add(own)
            self._files[folder], self._folders[folder] = {}, set()
        return self._files[folder]


class UrlTree(ListedTree):
    """All that lies below an address.

    Args:
        system: fsspec's file system of the address.
        root: the address as that file system calls it.
    """

    def __init__(self, system: Any, root: str) -> None:
        from bertconv.source.remote.store import facts_of, files_below

        self._system, self._root = system, root.rstrip("/")
        found: Mapping[str, Mapping[str, Any]] = self._asked(lambda: files_below(system, self._root))
        self._stamps = {name: facts_of(info).stamp for name, info in found.items() if isinstance(info.get("size"), int)}
        super().__init__((name, info.get("size")) for name, info in found.items())

    @classmethod
    def of(cls, address: str) -> UrlTree:
        """The tree below an address.

        Raises:
            RequestError: a scheme that is not read, a package is missing, or nothing is there.
            HubError: it cannot be listed.
        """
        from bertconv.source.remote.patience import explained
        from bertconv.source.remote.urls import filesystem

        system, root = filesystem(address)
        with explained(public(address)):
            found = cls(system, root)
        if not found.has_files:
            raise RequestError(
                "holds no files, or is one.", hint="Check the address: that of a folder, or a bucket's prefix.",
                file=public(address),
            )  # fmt: skip
        return found

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a file."""
        path = f"{self._root}/{name}"
        content: bytes = self._asked(lambda: self._system.cat_file(path, start=0, end=most))
        return content

    def size(self, name: str) -> int:
        """As the server states it for this one file."""
        size = self._asked(lambda: self._system.info(f"{self._root}/{name}")).get("size")
        if not isinstance(size, int):
            raise OSError(errno.ENOTSUP, "the server states none")
        return size

    def identity(self, names: Collection[str]) -> str:
        """Which bytes files have: a digest of what the listing states of each; empty where it lacks that of one."""
        stamps = {name: self._stamps.get(name, "") for name in sorted(names)}
        if not stamps or not all(stamps.values()):
            return ""
        return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()

    def _asked(self, call: Callable[[], Any]) -> Any:
        """What the server answers; OSError, with a sentence, where it does not."""
        from bertconv.source.remote.patience import explained, patiently

        with explained(public(self._system.unstrip_protocol(self._root))):
            return patiently(call)
