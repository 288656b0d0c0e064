"""What an output may take the place of: every refusal of a destination, made before anything is changed."""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import closing
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.errors import BertconvError, OutputError
from bertconv.records import dataclass
from bertconv.source import sidecars
from bertconv.text import public

MANIFEST = sidecars.MANIFEST
"""Name of the manifest in every output."""
MANIFEST_BYTES = 64_000_000
"""A manifest has some hundred bytes per tensor; a larger file is something else."""


@dataclass(frozen=True)
class RemotePlace:
    """A destination in an object store; a path would lose one of its slashes.

    Attributes:
        url: of the folder, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return public(self.url)


def refusal(folder: Path, problem: str, hint: str) -> OutputError:
    """The error of a destination that was not written."""
    return OutputError(f"{problem}.", hint=hint, file=str(folder))


def check_destination(folder: Path, *, overwrite: bool, inputs: tuple[Path, ...], holds_anything: bool) -> None:
    """Refuse a destination that cannot or must not be written.

    Args:
        folder: the destination, an absolute path.
        overwrite: an earlier output there may be replaced.
        inputs: the files that are read, which must not be replaced; a new folder beside them harms nothing.
        holds_anything: whatever is there may stay or go; then it is looked at whether the folder can be moved at all.

    Raises:
        OutputError: it must not be written, or cannot be looked at.
    """
    try:
        _check_place(folder, inputs)
        if not folder.exists():
            return
        if not folder.is_dir():
            raise refusal(folder, "is a file", "Give the name of a folder.")
        if holds_anything:
            _check_movable(folder)
        else:
            _check_own(folder, overwrite=overwrite)
    except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links
        if isinstance(error, BertconvError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise refusal(folder, f"cannot be looked at: {reason}", "Choose another folder.") from error


def _check_place(folder: Path, inputs: tuple[Path, ...]) -> None:
    if folder.is_symlink():
        raise refusal(folder, "is a symbolic link", "Give the folder that it points to.")
    resolved = folder.resolve()
    for given in inputs:
        # The place of a link counts too, and a loop of links is for the one who opens it.
        places = (Path(os.path.abspath(given)), Path(os.path.realpath(given)))  # noqa: PTH100
        if any(resolved in (place, *place.parents) for place in places):
            raise refusal(folder, f"is or holds what is read, {given}", "Choose another folder, or a new one in that.")
    if any(is_of_hub_cache(parent) for parent in (resolved, *resolved.parents)):
        raise refusal(folder, "lies in the cache of the Hub, which many programs share", "Choose another folder.")


def is_of_hub_cache(folder: Path) -> bool:
    """Whether huggingface_hub keeps a repository's files there: `models--a--b/snapshots` and what is beside it."""
    return folder.name in ("blobs", "refs", "snapshots") and folder.parent.name.startswith(("models--", "datasets--"))


def _check_own(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything which bertconv did not write."""
    # guard: folder-links
    there = sorted(
        entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if entry.is_symlink() or not entry.is_dir()
    )
    if not overwrite and any(folder.iterdir()):
        raise refusal(folder, "exists and is not empty", "Choose another folder, or pass --overwrite.")
    own = _own_files(folder)
    if foreign := [name for name in there if name not in own]:
        raise refusal(
            folder,
            f"holds files that bertconv did not write: {', '.join(foreign[:5])}",
            "Move them away, or choose another folder.",
        )


def _own_files(folder: Path) -> set[str]:
    """The names that a folder's manifest lists, and its own."""
    try:
        with closing(SourceFile(folder / MANIFEST)) as file:
            # guard: old-manifest-size
            listed = json.loads(file.read(0, file.size) if file.size <= MANIFEST_BYTES else b"")["files"]
    except (BertconvError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {*listed, MANIFEST} if isinstance(listed, dict) else set()


def _check_movable(folder: Path) -> None:
    """Refuse a folder whose place another cannot take."""
    with contextlib.suppress(FileNotFoundError):  # a working folder that was removed
        if Path.cwd().is_relative_to(folder.resolve()):
            raise refusal(folder, "is or holds the working folder", "Choose another folder, or leave this one.")
    for inner, _, _ in os.walk(folder):
        if os.path.ismount(inner):
            raise refusal(folder, f"is or holds a mount point, {inner}", "Choose another folder.")
