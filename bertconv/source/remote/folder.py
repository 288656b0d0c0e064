"""A folder elsewhere that holds a checkpoint: its names, its small files in a local folder, all others as they lie."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint, HubError, UnsafeCheckpoint
from bertconv.records import dataclass
from bertconv.source import mounts
from bertconv.source.checkpoint_folder import subfolder_parts
from bertconv.source.folder import is_looked_into
from bertconv.source.remote.file import RemoteFile
from bertconv.source.remote.patience import explained, patiently
from bertconv.source.remote.store import Facts, Listed, Store
from bertconv.text import is_plain

_SMALL = (".json", ".txt", ".model", ".jinja", ".md")
"""How the names of files end that go along with weights, or say what these are."""
SMALL_BYTES = 64 << 20
"""Largest file that is put into the local folder; a tokenizer has up to 35 MB."""
ALL_BYTES = 256 << 20
"""Most bytes of the local folder; what is beyond is read where it lies."""
MOST_NAMES = 100_000
"""Most files of a folder."""
_AT_ONCE = 4


class RemoteMount:
    """A remote folder, and the local one that stands for it, which is removed when nobody needs it any more.

    Args:
        store: where it is.
        path: of it in the store.
        address: of it, without secrets.
        known: what is known to be in it.

    Attributes:
        is_listed: whether all names are known; a store that lists nothing is asked for each file.
    """

    def __init__(self, store: Store, path: str, address: str, known: dict[str, Facts] | None = None) -> None:
        self.store = store
        self.path = path
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="bertconv-"))
        weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)
        mounts.attach(self.folder, self, address)
        self.files: dict[str, Facts | None] = dict(known or {})
        self.is_listed = True
        self._here: set[str] = set()
        self._bytes = 0

    def open(self, name: str) -> SourceFile | None:
        """Open a file where it lies; None for one that was fetched, and for one that is not there."""
        if name in self._here or (name not in self.files and self.is_listed):
            return None
        path = self.inside(name)
        try:
            facts = self.facts(name)
        except HubError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        folder = name.rpartition("/")[0]
        return RemoteFile(
            self.store, path, facts, place=self.folder / name, name=name, address=f"{self.address}/{name}",
            beside=partial(self._beside, f"{folder}/" if folder else ""),
        )  # fmt: skip

    def _beside(self, folder: str, name: str) -> SourceFile:
        found = self.open(folder + name)
        return SourceFile(self.folder / (folder + name)) if found is None else found

    def holds(self, name: str) -> bool:
        """Whether it has a file of this name."""
        return name in self.files

    def names(self) -> frozenset[str]:
        """All files that are known."""
        return frozenset(self.files)

    def inside(self, name: str) -> str:
        """The path in the store of a file or folder of it."""
        path = self.path
        for part in name.split("/"):
            path = self.store.inside(path, part)
        return path

    def facts(self, name: str) -> Facts:
        """What the store says of a file."""
        known = self.files.get(name)
        if known is None:
            with explained(f"{self.address}/{name}"):
                known = self.files[name] = patiently(lambda: self.store.facts(self.inside(name)))
        return known

    def list(self, folder: str) -> None:
        """Learn the names in a folder of it, and in those below that belong to a checkpoint; errors as for `need`."""
        with explained(self.address):
            self._list(folder)

    def _list(self, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        path = self.inside(folder) if folder else self.path
        for entry in patiently(lambda: self.store.list(path)):
            name = prefix + entry.name
            if not is_usable(entry):
                continue
            if not entry.is_folder:
                self.files[name] = entry.facts
            elif is_looked_into(entry.name, folder):
                self._list(name)
            if len(self.files) > MOST_NAMES:
                raise UnsafeCheckpoint(
                    f"has more than {MOST_NAMES:,} files.", hint="Give the folder of one checkpoint.", file=self.address
                )

    def fetch(self, names: Collection[str]) -> None:
        """Put those that are small into the local folder.

        Raises:
            HubError: the store does not give them.
        """
        wanted = [name for name in names if name in self.files and name not in self._here and is_small(name)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, content in zip(wanted, pool.map(self._content, wanted), strict=True):
                if content is not None and self._bytes + len(content) <= ALL_BYTES:
                    self._put(name, content)

    def _content(self, name: str) -> bytes | bytearray | None:
        facts = self.facts(name)
        if facts.size > SMALL_BYTES:
            return None
        with explained(f"{self.address}/{name}"):
            return patiently(lambda: self.store.read(self.inside(name), 0, facts.size, facts))

    def _put(self, name: str, content: bytes | bytearray) -> None:
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except OSError as error:
            raise DamagedCheckpoint(
                f"cannot be put into the folder for temporary files: {error.strerror}.",
                hint="Set TMPDIR to a folder with room for a tokenizer.", file=f"{self.address}/{name}",
            ) from error  # fmt: skip
        self._here.add(name)
        self._bytes += len(content)


@dataclass(frozen=True)
class RemoteFolder:
    """A remote folder, or one inside it.

    Attributes:
        mount: the outermost one.
        prefix: the folder inside it, empty or with `/` at the end.
        names: its files.
    """

    mount: RemoteMount
    prefix: str
    names: frozenset[str]

    @classmethod
    def of(cls, mount: RemoteMount, prefix: str = "") -> RemoteFolder:
        """A folder of which the names are known."""
        return cls(mount, prefix, frozenset(one.removeprefix(prefix) for one in mount.files if one.startswith(prefix)))

    @property
    def folder(self) -> Path:
        """The local folder that stands for it."""
        return self.mount.folder / self.prefix

    @property
    def address(self) -> str:
        """Its address, without secrets."""
        return f"{self.mount.address}/{self.prefix}".rstrip("/")

    def need(self, names: Collection[str]) -> None:
        """Have what is small in the local folder; all else is read where it lies.

        Raises:
            HubError: the store does not give it.
        """
        self.mount.fetch([self.prefix + name for name in names])

    def within(self, subfolder: str) -> RemoteFolder:
        """A folder inside it; HubError where there is none."""
        prefix = self.prefix + "".join(f"{part}/" for part in subfolder_parts(subfolder))
        if not any(name.startswith(prefix) for name in self.mount.files):
            self.mount.list(prefix.rstrip("/"))
        found = RemoteFolder.of(self.mount, prefix)
        if not found.names:
            raise self.missing(f"there is no folder {subfolder!r}.")
        return found

    def missing(self, problem: str, hint: str = "", file: str | None = None) -> HubError:
        """The error for files that should be here and are not."""
        return HubError(problem, hint=hint or "Check the address.", file=file or self.address)


def is_small(name: str) -> bool:
    """Whether a file of this name is one of those that the local folder may hold: never one of weights."""
    last = name.rpartition("/")[2]
    return last.endswith(_SMALL) or last.startswith("LICENSE")


def is_usable(entry: Listed) -> bool:
    """Whether a name that a store gave is one component of a path, and one that can be shown."""
    return is_plain(entry.name) and entry.name.isprintable() and len(entry.name.encode(errors="replace")) <= 255
