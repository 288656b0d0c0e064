"""The folder that an output is written to: what its writers, and those who read it back, need of it.

`StagedFolder` is one of the disk; `remote.folder.RemoteFolder` one of an object store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bertconv.containers.stored import SourceFile
from bertconv.errors import RequestError, check_path
from bertconv.formats.checksum import Taken
from bertconv.formats.content import OutputFile
from bertconv.formats.destination import RemotePlace
from bertconv.formats.staging import StagedFolder
from bertconv.formats.workers import Tick
from bertconv.text import is_url

Destination = Path | RemotePlace
"""Where an output is to be."""


class Stream(Protocol):
    """Writes files of weights from their beginning to their end, where nothing else can be; as `write_weights` does."""

    def __call__(self, files: Sequence[OutputFile], progress: Tick, *, checksums: bool) -> Mapping[str, Taken]: ...


class OutputFolder(Protocol):
    """A folder that appears at its destination when `commit` is called, and leaves nothing when it is not."""

    @property
    def destination(self) -> Destination:
        """Where it will be."""

    @property
    def path(self) -> Path:
        """What `open_in` reads from what was written so far."""

    @property
    def readable(self) -> Path | str:
        """What opens it as a checkpoint before it is in its place."""

    @property
    def stream(self) -> Stream | None:
        """What writes weights; None for a folder of the disk, where files are written at any place."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def check(self) -> None:
        """Refuse a destination that cannot or must not be written; nothing is changed."""

    def reserve(self, needed: int) -> None:
        """Make sure that so many bytes fit; OutputError before the first one is written."""

    def announce(self, names: Iterable[str]) -> None:
        """Say which files will be written next."""

    def write(self, name: str, content: bytes) -> None:
        """A small file; folders in its name are made."""

    def copy(self, name: str, source: SourceFile) -> None:
        """A file of the source as it is; folders in its name are made."""

    def names(self) -> Sequence[str]:
        """The files that were written, sorted."""

    def writing(self) -> AbstractContextManager[None]:
        """Turn what the system refuses while files are written into an OutputError."""

    def commit(self) -> None:
        """Put the folder in its place."""


def destination_of(dst: str | os.PathLike[str]) -> Destination:
    """What the user gave as a destination: a URL in `scheme://` is a place in a store, everything else a path."""
    check_path(dst, "the destination")
    given = os.fspath(dst)
    if not is_url(dst):
        return Path(given)
    scheme, mark, rest = given.partition("://")
    return RemotePlace(scheme + mark + rest.rstrip("/"))


def local_destination(dst: str | os.PathLike[str], verb: str) -> Path:
    """The same for what writes to the disk alone; RequestError for a URL."""
    place = destination_of(dst)
    if isinstance(place, RemotePlace):
        raise RequestError(f"{verb} writes to a folder of the disk.", hint="Give a path.", file=str(place))
    return place


def output_folder(
    destination: Destination, *, overwrite: bool, inputs: tuple[Path, ...], given: Sequence[str] = ()
) -> OutputFolder:
    """The folder for a destination.

    Args:
        destination: where the output is to be.
        overwrite: replace an earlier output there.
        inputs: the files that are read, which must not be replaced.
        given: what the user gave as sources, of which some may be URLs.
    """
    if isinstance(destination, Path):
        return StagedFolder(destination, overwrite=overwrite, inputs=inputs)
    from bertconv.formats.remote.folder import RemoteFolder  # most outputs are folders of the disk

    return RemoteFolder(destination, overwrite=overwrite, given=given)
