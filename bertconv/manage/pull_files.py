"""Which files of a repository are pulled: those of the model, and those that its own program reads beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from bertconv.config.content import CONFIG_FILES
from bertconv.source import Source, prefixes, preset
from bertconv.source.modules import LISTING


class Folder(Protocol):
    """A folder of the Hub."""

    @property
    def folder(self) -> Path:
        """Where it is in the cache."""

    @property
    def names(self) -> Collection[str]:
        """Its files."""


def beside(there: Folder, source: Source) -> tuple[str, ...]:
    """Files that bertconv does not convert from, but without which the weights' own program does not load them.

    Args:
        there: the folder of the repository that is pulled.
        source: the checkpoint in it.
    """
    prefix = prefix_of(source.folder, there.folder)
    known: set[str] = set()
    if prefixes.is_index(source.weights.index or ""):
        known = {*CONFIG_FILES, prefixes.LIST}
    elif prefix + preset.METADATA in there.names:
        known = {CONFIG_FILES[0], preset.CONFIG, *preset.OWN}
    return tuple(sorted(prefix + name for name in known if prefix + name in there.names))


def places(there: Folder, source: Source) -> Iterator[str]:
    """The files to pull, relative to the folder of the repository that is pulled."""
    prefix = prefix_of(source.folder, there.folder)
    carried = (source.renamed.get(name, name) for name in source.sidecars)
    for name in (*source.weights.files, source.weights.index, *carried):
        if name is not None:
            yield prefix + name
    if source.config is not None:
        yield source.config.relative_to(there.folder).as_posix()
    if source.modules is not None:
        yield from (LISTING, *source.modules.weights, *source.modules.sidecars)
    yield from beside(there, source)


def prefix_of(folder: Path, root: Path) -> str:
    """What stands in front of the names of a folder's files within another folder."""
    return "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
