"""A folder of the disk that holds a checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from bertconv.containers.stored import is_so
from bertconv.errors import DamagedCheckpoint, MissingFiles, MissingPath, UnsafeCheckpoint
from bertconv.source import integrity, preset
from bertconv.source.checkpoint_folder import is_cache_link, subfolder_parts

_LISTED_FOLDER = re.compile(r"[0-9]+_.+|checkpoint-[0-9]+|pytorch_model_fsdp_[0-9]+|variables")
_VERSION = re.compile(r"[0-9]{1,18}")
SAVED_MODELS = "saved_model"
"""The folder below a model's in which transformers put SavedModels, each in a folder named by its version."""


class LocalFolder:
    """A folder of the disk.

    Where it is a commit in the Hub's cache, files that are kept there under their digests are held to these.

    Raises:
        DamagedCheckpoint: it cannot be listed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.names = frozenset(_scan(folder))
        except OSError as error:
            raise DamagedCheckpoint(
                f"cannot be listed: {error.strerror}.", hint="Check the path and its permissions.", file=str(folder)
            ) from error

    def need(self, names: Collection[str]) -> None:
        """Check what the Hub's cache can be checked of; what is not here is found missing when it is opened.

        Raises:
            HubError: a file of the cache has other bytes than its name says.
        """
        for name in names:
            if name in self.names and is_cache_link(self.folder, self.folder / name):
                integrity.check_blob(self.folder, name)

    def within(self, subfolder: str) -> LocalFolder:
        """A folder inside it; errors as for the class, and MissingPath when there is none of this name."""
        path = self.folder
        for part in subfolder_parts(subfolder):
            path = path / part
            if is_so(path.is_symlink):
                raise UnsafeCheckpoint(
                    "is a symbolic link to another folder.", hint="Give the path of that folder itself.", file=str(path)
                )
        if not is_so(path.is_dir):
            raise MissingPath(f"there is no subfolder {subfolder!r}.", hint="Check the name.", file=str(self.folder))
        return LocalFolder(path)

    def missing(self, problem: str, hint: str = "", file: str | None = None) -> MissingFiles:
        """The error for files that should be here and are not."""
        hint = hint or "Copy or download the checkpoint again."
        return MissingFiles(problem, hint=hint, file=file or str(self.folder))


def is_looked_into(name: str, inside: str) -> bool:
    """Whether the files of a folder are those of a checkpoint around it.

    Args:
        name: its own.
        inside: the folder that it lies in, relative to the checkpoint's, empty for that one.
    """
    assets, tokenizer = preset.ASSETS.split("/")
    if not inside:
        return name in {assets, SAVED_MODELS} or _LISTED_FOLDER.fullmatch(name) is not None
    if inside == SAVED_MODELS:
        return _VERSION.fullmatch(name) is not None
    return (inside, name) == (assets, tokenizer) or (
        inside.startswith(f"{SAVED_MODELS}/") and inside.count("/") == 1 and name == "variables"
    )


def _scan(folder: Path) -> Iterator[str]:
    """Files of a folder, and of those below it in which sentence-transformers, the Trainer and TensorFlow put some."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.name
            elif entry.name == preset.ASSETS.partition("/")[0]:
                yield from _scan_assets(folder)
            elif _LISTED_FOLDER.fullmatch(entry.name):
                with os.scandir(entry.path) as inner:
                    yield from (f"{entry.name}/{file.name}" for file in inner if not file.is_dir(follow_symlinks=False))
            elif entry.name == SAVED_MODELS:
                yield from _scan_versions(folder / entry.name)


def _scan_versions(folder: Path) -> Iterator[str]:
    """Files of the SavedModels in a folder of several, relative to the folder around it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _VERSION.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield from (f"{folder.name}/{entry.name}/{name}" for name in _scan(Path(entry.path)))


def _scan_assets(folder: Path) -> Iterator[str]:
    """Files of a tokenizer in a preset."""
    inner = folder / preset.ASSETS
    if not inner.is_symlink() and inner.is_dir():
        with os.scandir(inner) as entries:
            yield from (f"{preset.ASSETS}/{file.name}" for file in entries if not file.is_dir(follow_symlinks=False))
