"""The folder of a store that an output is written to: whole once its manifest is there, and nothing before.

Where nothing was, files are written in their place. Where an earlier output is to be replaced, the new one is written
beside it and read back there, then put in its place by the store's own copies.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from bertconv.containers.stored import SourceFile
from bertconv.errors import OutputError
from bertconv.formats.checksum import Taken
from bertconv.formats.content import OutputFile
from bertconv.formats.destination import MANIFEST, RemotePlace
from bertconv.formats.remote import replacing
from bertconv.formats.remote.lock import Lock
from bertconv.formats.remote.site import Site
from bertconv.formats.remote.stream import write_in_order
from bertconv.formats.workers import Tick
from bertconv.source import mounts
from bertconv.source.remote.patience import explained, failures
from bertconv.text import is_url, public


class RemoteFolder:
    """A folder of a store in the making.

    Args:
        destination: the folder to make.
        overwrite: replace an earlier output there.
        given: what the user gave as sources, of which some may lie there.

    Raises:
        RequestError: nothing can be written to such an address.
        OutputError: as for `StagedFolder`.
    """

    def __init__(self, destination: RemotePlace, *, overwrite: bool = False, given: Sequence[str] = ()) -> None:
        self.destination = destination
        self._site = Site.of(destination.url)
        self._overwrite = overwrite
        self._given = [public(one) for one in given if is_url(one)]
        self._lock = Lock(self._site)
        self._staged = self._site
        self._written: set[str] = set()
        self._manifest: bytes | None = None
        self._mount: _Mount | None = None
        self._is_done = self._is_locked = False

    @property
    def path(self) -> Path:
        """What `open_in` reads from what was written so far."""
        if self._mount is None:
            self._mount = _Mount(self._staged, self._written)
        return self._mount.folder

    @property
    def readable(self) -> str:
        """What opens it as a checkpoint before it is in its place."""
        above, slash, _ = self.destination.url.rpartition("/")  # with all that messages do not show
        return f"{above}{slash}{self._staged.name}"

    def stream(self, files: Sequence[OutputFile], progress: Tick, *, checksums: bool) -> Mapping[str, Taken]:
        """Write files of weights, each from its beginning to its end."""
        self.announce([file.name for file in files])
        with self.writing():
            found = write_in_order(self._staged, files, progress, checksums=checksums)
        self._written.update(file.name for file in files)
        return found

    def check(self) -> None:
        """Refuse a destination that cannot or must not be written; nothing is changed."""
        site = self._site
        for one in self._given:
            if one == site.url or one.startswith(site.url + "/"):
                raise self._refused(f"is or holds what is read, {one}", "Choose another folder.")
        with self.writing():
            there, left = set(site.found()), self._lock.there()
            if left is not None and left.token != self._lock.record.token:
                if not self._lock.is_free(left):
                    raise self._refused("is being written by another bertconv", "Wait until it is done.")
                if MANIFEST not in there:
                    there -= replacing.begun(site, left)
            own = replacing.own_files(site) if there else set()
        if there and not self._overwrite:
            raise self._refused("exists and is not empty", "Choose another folder, or pass --overwrite.")
        if foreign := sorted(there - own):
            raise self._refused(
                f"holds files that bertconv did not write: {', '.join(foreign[:5])}",
                "Move them away, or choose another folder.",
            )

    def __enter__(self) -> Self:
        try:
            self.check()
            with self.writing():
                left = self._lock.take()
                self._is_locked = True
                if left is not None:
                    replacing.put_away(self._site, left)
                self.check()  # once more, under the lock
                if self._site.found():
                    name = replacing.staged_name(self._site, self._lock.record.token)
                    self._lock.change(staged=name)
                    self._staged = self._site.sibling(name)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def reserve(self, needed: int) -> None:
        """Stores have no end."""

    def announce(self, names: Iterable[str]) -> None:
        """Write down which files will be written next, for whoever finds them after this run was killed."""
        lacking = set(names) - set(self._lock.record.names)
        if lacking and not self._lock.record.staged:
            with self.writing():
                self._lock.change(names=tuple(sorted({*self._lock.record.names, *lacking})))

    def names(self) -> Sequence[str]:
        """The files that were written, sorted."""
        return sorted(self._written)

    def write(self, name: str, content: bytes) -> None:
        """A small file; the manifest waits until all the rest is there."""
        self.announce([name])
        if name == MANIFEST:
            self._manifest = content
            return
        with self.writing():
            self._staged.put(name, content)
        self._written.add(name)

    def copy(self, name: str, source: SourceFile) -> None:
        """A file of the source as it is."""
        self.announce([name])
        with self.writing(), self._staged.sending(name, source.size) as file:
            for piece in source.pieces(0, source.size):
                file.write(piece)
        self._written.add(name)

    def writing(self) -> AbstractContextManager[None]:
        """Turn what the store refuses while files are written into an OutputError."""
        return self._site.writing()

    def commit(self) -> None:
        """Write the manifest, which makes an output of the files, and put it in its place."""
        with self.writing():
            self._lock.check()
            if self._manifest is not None:
                self._staged.put(MANIFEST, self._manifest)
                if self._staged.get(MANIFEST) != self._manifest:
                    raise self._refused("could not be written: its manifest is not what was sent", "Try again.")
            if self._staged is not self._site:
                replacing.replace(self._site, self._staged, self._lock)
            self._is_done = True

    def _refused(self, problem: str, hint: str) -> OutputError:
        return OutputError(f"{problem}.", hint=hint, file=self._site.url)

    def _clean_up(self) -> None:
        """Remove what was written, unless it is the output now, or another run's."""
        if self._mount is not None:
            self._mount.close()
        if not self._is_locked:
            return
        self._is_locked = False
        record = self._lock.record
        if record.replacing and not self._is_done:  # the new output lies whole beside the old one's place
            self._lock.abandon()
            return
        try:
            if not self._is_done and self._lock.is_own():
                replacing.put_away(self._site, record)
            self._lock.drop()
        except failures():  # the next run finds it by the lock
            self._lock.abandon()


class _Mount:
    """A local folder, always empty, whose files are those of the store; closed, it is gone.

    Args:
        site: where they are.
        names: those that are there.
    """

    def __init__(self, site: Site, names: set[str]) -> None:
        self._site = site
        self._names = names
        self.folder = Path(tempfile.mkdtemp(prefix="bertconv-"))
        mounts.attach(self.folder, self, site.url)

    def open(self, name: str) -> SourceFile:
        """Open a file."""
        with explained(f"{self._site.url}/{name}"):
            return self._site.open(name, self.folder / name)

    def holds(self, name: str) -> bool:
        """Whether it was written."""
        return name in self._names

    def names(self) -> frozenset[str]:
        """All that were written."""
        return frozenset(self._names)

    def close(self) -> None:
        """Undo it."""
        mounts.detach(self.folder)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
