"""A folder of a store, and what is done with the files in it: each call is made again where it failed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bertconv.errors import BertconvError, OutputError, RequestError
from bertconv.source.remote.file import RemoteFile
from bertconv.source.remote.patience import explain, failures, patiently
from bertconv.source.remote.store import FsspecStore, files_below
from bertconv.source.remote.urls import filesystem, scheme_of
from bertconv.text import public

_NOT_WRITTEN = {
    "http": "Web servers take no files: give a place in an object store.",
    "https": "Web servers take no files: give a place in an object store.",
    "hf": "Convert to a folder, then use `bertconv push`.",
}
"""Schemes to which nothing is written -> what to do."""
PART = 8 << 20
"""Bytes of a part of a file that is sent in several."""
_MOST_PARTS = 9_000
"""Stores take 10,000 parts of a file."""


class Site:
    """A folder of a store.

    Args:
        filesystem: of fsspec.
        path: of the folder in it.
        url: of it, as it may be shown.
    """

    def __init__(self, filesystem: Any, path: str, url: str) -> None:
        self.filesystem = filesystem
        self.path = path.rstrip("/")
        self.url = url

    @classmethod
    def of(cls, url: str, *, within_bucket: bool = True) -> Site:
        """The folder of an address, or a whole bucket; RequestError where nothing can be written to."""
        scheme = scheme_of(url)
        if scheme in _NOT_WRITTEN:
            raise RequestError(
                f"{scheme}:// is nothing that outputs are written to.", hint=_NOT_WRITTEN[scheme], file=public(url)
            )
        found, path = filesystem(url)
        parts = path.strip("/").split("/")
        if len(parts) < (2 if within_bucket and scheme != "memory" else 1) or {"", ".", ".."} & set(parts):
            raise RequestError(
                "is no folder within a bucket.", hint="Give an address like s3://bucket/folder.", file=public(url)
            )
        return cls(found, path, public(url))

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.rpartition("/")[2]

    def sibling(self, name: str) -> Site:
        """Another folder beside it."""
        return Site(self.filesystem, f"{self.path.rpartition('/')[0]}/{name}", f"{self.url.rpartition('/')[0]}/{name}")

    @property
    def parent(self) -> Site:
        """The folder around it."""
        return Site(self.filesystem, self.path.rpartition("/")[0], self.url.rpartition("/")[0])

    def at(self, name: str) -> str:
        """The path of a file in it."""
        return f"{self.path}/{name}"

    def put(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write a file in one go; with `new` a FileExistsError where there is one."""
        call = partial(self.filesystem.pipe_file, self.at(name), content, **({"mode": "create"} if new else {}))
        patiently(call)

    def get(self, name: str) -> bytes | None:
        """The content of a small file; None where there is none."""
        try:
            found: bytes = patiently(partial(self.filesystem.cat_file, self.at(name)))
        except FileNotFoundError:
            return None
        return found

    def found(self) -> dict[str, int]:
        """Every file below it and its size."""
        there = patiently(partial(files_below, self.filesystem, self.path))
        return {name: int(info.get("size") or 0) for name, info in sorted(there.items())}

    def age(self, name: str) -> float:
        """Seconds since a file was written, by the clocks of the store and of this machine."""
        import time

        return time.time() - float(patiently(partial(self.filesystem.modified, self.at(name))).timestamp())

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; one that is not there is none."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                patiently(partial(self.filesystem.rm_file, self.at(name)))

    def copy(self, name: str, other: Site) -> None:
        """Have the store copy a file to another folder; OSError where the copy is not as long."""
        patiently(partial(self.filesystem.cp_file, self.at(name), other.at(name)))
        sizes = [patiently(partial(self.filesystem.info, one.at(name)))["size"] for one in (self, other)]
        if sizes[0] != sizes[1]:
            raise OSError(f"{name} was copied to {sizes[1]:,} bytes of {sizes[0]:,}")

    @contextmanager
    def sending(self, name: str, size: int) -> Iterator[Any]:
        """A file that is written from its beginning to its end, in parts; it appears when the block ends without error.

        Args:
            name: of the file.
            size: of it, in bytes.
        """
        part = max(PART, -(-size // (_MOST_PARTS << 20)) << 20)
        file = self.filesystem.open(self.at(name), "wb", block_size=part)
        try:
            yield file
            file.close()
        except BaseException:
            _discard(file)
            raise

    def forget_parts(self, names: Iterable[str] | None = None) -> None:
        """Have the store forget parts of files that were never finished: of these, or of all; where it has such."""
        listed = getattr(self.filesystem, "list_multipart_uploads", None)
        if listed is None:
            return
        bucket = self.path.partition("/")[0]
        chosen = None if names is None else {self.at(name) for name in names}
        for one in patiently(partial(listed, bucket)):
            path = f"{bucket}/{one['Key']}"
            if path in chosen if chosen is not None else path.startswith(self.path + "/"):
                with contextlib.suppress(FileNotFoundError):
                    patiently(partial(self.filesystem.abort_mpu, bucket, one["Key"], one["UploadId"]))

    def open(self, name: str, place: Path) -> RemoteFile:
        """Open a file to be read; `place` is where the local folder that stands for this one would have it."""
        store = FsspecStore(self.filesystem)
        facts = patiently(partial(store.facts, self.at(name)))
        return RemoteFile(
            store, self.at(name), facts, place=place, name=name, address=f"{self.url}/{name}",
            beside=lambda other: self.open(_beside(name, other), place.with_name(other)),
        )  # fmt: skip

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the store refuses while files are written into an OutputError."""
        try:
            yield
        except BertconvError:
            raise
        except failures() as error:
            raise self.failed(error) from error

    def failed(self, error: Exception) -> OutputError:
        """The error of a call that the store refused while writing."""
        why = explain(error, self.url)
        return OutputError(
            f"could not be written, and nothing was changed: {why.message}", hint=why.hint, file=self.url
        )


def _beside(name: str, other: str) -> str:
    folder, slash, _ = name.rpartition("/")
    return f"{folder}{slash}{other}"


def _discard(file: Any) -> None:
    """Give up a file that was not finished."""
    with contextlib.suppress(*failures()):
        if hasattr(file, "discard") and getattr(file, "buffer", None) is not None:
            file.discard()
    with contextlib.suppress(AttributeError):
        file.closed = True  # closing it would send the rest and finish it
