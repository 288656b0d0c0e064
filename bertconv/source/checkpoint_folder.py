"""A folder that holds a checkpoint, seen as a set of names, and the one way to open a file of it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from bertconv.containers.registry import BY_NAME
from bertconv.containers.stored import SourceFile, is_so
from bertconv.errors import BertconvError, RequestError, UnsafeCheckpoint, check_path, check_text
from bertconv.records import dataclass
from bertconv.source import mounts
from bertconv.text import is_plain

_SHARED_BLOB = re.compile(r"[0-9a-f]{64}")
SHARED_MARKER = ".huggingface-shared-blobs"
"""The file that marks the folder of files which the Hub's cache keeps for several repositories."""


@dataclass(frozen=True)
class SourceOptions:
    """How to find a checkpoint.

    Attributes:
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub; None and True take the one that huggingface_hub finds, False sends none.
        cache_dir: the Hub cache; by default the one that huggingface_hub uses.
        local_files_only: take from the Hub cache what is there, without the network.
        cache_if_down: do so, with a warning, where the Hub does not answer or is out of order, and has answered before.
        force_download: download what is needed even when the cache has it.
        subfolder: folder inside the checkpoint that holds the model.
        variant: as in `model.fp16.safetensors`; it also wins over the config's `transformers_weights`.
        config: a config file to use in place of the checkpoint's own.
        prefer: names of containers, the first that is there wins.
    """

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    cache_if_down: bool = False
    force_download: bool = False
    subfolder: str = ""
    variant: str | None = None
    config: str | os.PathLike[str] | None = None
    prefer: tuple[str, ...] = tuple(BY_NAME)

    @property
    def hub_cache(self) -> Path | None:
        """Where `cache_dir` is, which huggingface_hub takes as it stands; RequestError where it is no path."""
        if not self.cache_dir:
            return None
        check_path(self.cache_dir, "cache_dir")
        return Path(self.cache_dir).expanduser()

    @property
    def config_file(self) -> Path | None:
        """Where `config` is; RequestError where it is no path."""
        if not self.config:
            return None
        check_path(self.config, "config")
        return Path(self.config)


class CheckpointFolder(Protocol):
    """A folder of the disk or of the Hub; both are read by the same rules."""

    @property
    def folder(self) -> Path:
        """Where its files lie once they were needed."""

    @property
    def names(self) -> frozenset[str]:
        """Its files, relative to it, with `/` between parts."""

    def need(self, names: Collection[str]) -> None:
        """See to it that these files lie in the folder."""

    def within(self, subfolder: str) -> CheckpointFolder:
        """A folder inside it."""

    def missing(self, problem: str, hint: str = "", file: str | None = None) -> BertconvError:
        """The error for files that should be here and are not."""


def subfolder_parts(subfolder: str) -> tuple[str, ...]:
    """The parts of a relative path that stays inside; RequestError for any other."""
    if not subfolder:
        return ()
    check_text(subfolder, "subfolder")
    parts = tuple(subfolder.rstrip("/").split("/"))
    if not all(is_plain(part) for part in parts):
        raise RequestError(
            f"subfolder {subfolder!r} does not lie inside the checkpoint.", hint="Give a relative path without `..`."
        )
    return parts


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_in(folder: Path, name: str) -> SourceFile:
    """Open a file of a folder: a regular file that is no link, unless it is a link of the Hub cache's own.

    Where something is mounted, its files are opened by that.

    Raises:
        UnsafeCheckpoint: a path out of the folder, a link, a FIFO, a device or a folder, a name that is no text.
        DamagedCheckpoint: it cannot be opened.
    """
    parts = name.split("/")
    if not all(is_plain(part) for part in parts):
        raise UnsafeCheckpoint(
            f"names the file {name!r} outside of it.", hint="Do not use this checkpoint.", file=str(folder)
        )
    found = mounts.at(folder)
    if found is not None and (elsewhere := found.mount.open(found.prefix + name)) is not None:
        return elsewhere
    path = folder
    for part in parts[:-1]:
        path = path / part
        # O_NOFOLLOW looks at the last component only.
        if is_so(path.is_symlink):
            raise UnsafeCheckpoint("is a symbolic link.", hint="Copy the folder that it points to.", file=str(path))
    path = path / parts[-1]
    if not _is_utf8(name):
        raise UnsafeCheckpoint("has a name that is not UTF-8.", hint="Rename the file.", file=str(path))
    return SourceFile(path, name, follow_link=is_cache_link(folder, path))


def is_cache_link(folder: Path, path: Path) -> bool:
    """Whether it is a link of the Hub cache: `snapshots/<commit>/.../f` to a regular file in `blobs` beside it.

    Compared after every link is resolved, so a `blobs` or a blob that is itself a link elsewhere does not count.
    """
    # guard-kept: a file that is no link lies in its own folder, not in the one of blobs; this is the short way
    if not is_so(path.is_symlink):
        return False
    try:
        real, target = folder.resolve(strict=True), path.resolve(strict=True)  # guard: cache-link
    except (OSError, RuntimeError):  # dangling, or a loop
        return False
    for parent in (real, *real.parents):
        if parent.parent.name == "snapshots":
            repository = parent.parent.parent
            return target.parent == repository / "blobs" or _is_shared_blob(repository.parent, target)
    return False


def _is_shared_blob(cache: Path, target: Path) -> bool:
    """huggingface_hub 2 keeps files of several repositories once: `<cache>/blobs/<2 hex digits>/<64 hex digits>`."""
    store = cache / "blobs"
    name = target.name
    return bool(
        _SHARED_BLOB.fullmatch(name) and target == store / name[:2] / name and (store / SHARED_MARKER).is_file()
    )
