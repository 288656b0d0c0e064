"""What is asked of a store: facts about a file, a range of it, what a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from bertconv.errors import DamagedCheckpoint
from bertconv.source.remote.patience import Passing

_IDENTITY = {
    "ETag": "etag", "etag": "etag", "content_md5": "md5", "Content-MD5": "md5", "md5Hash": "md5",
    "VersionId": "version", "generation": "version", "version_id": "version", "blob_id": "version",
    "LastModified": "modified", "last_modified": "modified", "mtime": "modified", "updated": "modified",
    "Last-Modified": "modified", "created": "created",
}  # fmt: skip
"""What the file systems call the facts by which a file is known -> what they are called here."""
_TIMES = {"modified", "created"}
"""Those that stay the same when a file is written again within a second."""


class Facts(NamedTuple):
    """What a store says of a file.

    Attributes:
        size: its length in bytes.
        identity: by which it is known from another of its name: "etag", "version", "modified", "sha256".
    """

    size: int
    identity: Mapping[str, str]

    def differs(self, other: Facts) -> bool:
        """Whether it is another file; the time decides only where nothing better is known of both."""
        if self.size != other.size:
            return True
        both = self.identity.keys() & other.identity.keys()
        return any(self.identity[key] != other.identity[key] for key in (both - _TIMES) or both)

    @property
    def stamp(self) -> str:
        """What tells its bytes from others, in one line; empty where only its size and its times are known."""
        strong = sorted(f"{key} {value}" for key, value in self.identity.items() if key not in _TIMES)
        return " ".join([str(self.size), *strong]) if strong else ""


class Listed(NamedTuple):
    """An entry of a folder: its name there, whether it is a folder, and its facts where the list has them."""

    name: str
    is_folder: bool
    facts: Facts | None = None


class Store(Protocol):
    """A place with files; errors are those of the libraries below (`patience.failures`)."""

    def facts(self, path: str) -> Facts:
        """What it says of a file now; FileNotFoundError where it has none of this name."""

    def read(self, path: str, start: int, end: int, facts: Facts) -> bytes | bytearray:
        """A range of a file of these facts; Passing where the answer is not that range."""

    def list(self, path: str) -> list[Listed]:
        """What a folder holds; FileNotFoundError where there is none."""

    def inside(self, path: str, name: str) -> str:
        """The path of a file or folder in a folder."""


def changed(address: str) -> DamagedCheckpoint:
    """The error of a file that was another before."""
    return DamagedCheckpoint(
        "was modified while it was being read.", hint="Wait until nothing writes to it.", file=address
    )


class FsspecStore:
    """A store that fsspec knows.

    Args:
        filesystem: of fsspec.
    """

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem
        # The Hub's file system keeps what it was told, and has a word for asking again.
        self._fresh = {"refresh": True} if "hf" in _protocols(filesystem) else {}

    def facts(self, path: str) -> Facts:
        """As `Store.facts`."""
        info = self.filesystem.info(path, **self._fresh)
        if info.get("type") == "directory":
            raise FileNotFoundError(path)
        return facts_of(info)

    def read(self, path: str, start: int, end: int, facts: Facts) -> bytes | bytearray:  # noqa: ARG002
        """As `Store.read`."""
        if start >= end:
            return b""
        found: bytes = self.filesystem.cat_file(path, start=start, end=end)
        if len(found) != end - start:
            raise Passing(f"gave {len(found):,} bytes where {end - start:,} were asked for")
        return found

    def list(self, path: str) -> list[Listed]:
        """As `Store.list`."""
        found = []
        above = path.rstrip("/") + "/"
        for info in self.filesystem.ls(path, detail=True, **self._fresh):
            name = str(info["name"]).rstrip("/")
            if not name.startswith(above):  # the folder itself, or a file that was asked for as a folder
                continue
            is_folder = info.get("type") == "directory"
            found.append(Listed(name.removeprefix(above), is_folder, None if is_folder else facts_of(info)))
        return found

    def inside(self, path: str, name: str) -> str:
        """As `Store.inside`."""
        return f"{path.rstrip('/')}/{name}"


def files_below(filesystem: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """Every file below a folder as it is now: its name relative to it -> what the file system says of it."""
    filesystem.invalidate_cache()
    above = path.rstrip("/") + "/"
    return {
        name.removeprefix(above): info
        for name, info in filesystem.find(path, detail=True).items()
        if name.startswith(above) and not name.endswith("/") and info.get("type") != "directory"
    }


def facts_of(info: Mapping[str, Any]) -> Facts:
    """The facts of a file in what a file system says of it."""
    identity = {key: _text(info[name]) for name, key in _IDENTITY.items() if info.get(name) is not None}
    lfs = info.get("lfs")
    if lfs is not None:  # the Hub's
        identity["sha256"] = str(lfs["sha256"])
    size = info.get("size")
    if not isinstance(size, int) or size < 0:
        raise Passing("does not say how long the file is")
    return Facts(size, identity)


def _text(value: Any) -> str:
    """A time to the second: lists are more exact than answers about one file."""
    if hasattr(value, "timestamp"):
        value = value.timestamp()
    if isinstance(value, float):
        return str(int(value))
    return str(value).strip('"')


def _protocols(filesystem: Any) -> tuple[str, ...]:
    names = filesystem.protocol
    return (names,) if isinstance(names, str) else tuple(names)
