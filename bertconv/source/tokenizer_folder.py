"""A tokenizer without a checkpoint: a folder, a file or a Hub id of which only the tokenizer files are looked at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bertconv.errors import RequestError
from bertconv.source.checkpoint_folder import CheckpointFolder, SourceOptions
from bertconv.source.folder import LocalFolder
from bertconv.source.local import Source, hub_id
from bertconv.source.sidecars import is_of_tokenizer
from bertconv.source.weights import Weights
from bertconv.text import is_url, listed

ALONE = ("tokenizer.json", "vocab.txt")
"""Files that are a vocabulary by themselves."""


def open_tokenizer(given: str | os.PathLike[str], options: SourceOptions) -> Source:
    """Find the tokenizer files of a folder, of a Hub id, or one of them; weights are neither needed nor looked for.

    Args:
        given: a folder, a `tokenizer.json` or `vocab.txt`, or a Hub id with or without `@revision`.
        options: how to reach the Hub.

    Returns:
        A source that has no weights and no config, and the tokenizer's files as its sidecars.

    Raises:
        RequestError: neither a path nor a Hub id, or nothing of a tokenizer there.
        HubError: the Hub did not give the files.
    """
    path = os.fspath(given)
    if is_url(given):
        from bertconv.source.remote.address import open_address

        found = open_address(path, replace(options, subfolder="", variant=None))
        if found.file is not None:
            raise RequestError("is no folder.", hint="Give the address of the tokenizer's folder.", file=found.shown)
        return replace(_from_folder(found.folder, found.shown), revision=found.commit, kept=found.folder.mount)
    if os.path.lexists(path):
        if Path(path).is_dir():
            return _from_folder(LocalFolder(Path(path)), path)
        return _from_file(Path(path), path)
    repository, revision = hub_id(given)
    # huggingface_hub takes longer to import than a small checkpoint to convert.
    from bertconv.source.hub import open_repository

    folder = open_repository(repository, replace(options, revision=revision, subfolder="", variant=None))
    return replace(_from_folder(folder, path), revision=folder.commit)


def _from_folder(folder: CheckpointFolder, given: str) -> Source:
    names = tuple(sorted(name for name in folder.names if is_of_tokenizer(name)))
    if not names:
        raise RequestError("has no tokenizer files.", hint="Give the folder that save_pretrained wrote.", file=given)
    folder.need(names)
    return Source(given, folder.folder, Weights(()), None, names)


def _from_file(path: Path, given: str) -> Source:
    if path.name not in ALONE:
        raise RequestError(
            f"is not called {listed(ALONE)}.", hint="Give one of these, or the folder of the tokenizer.", file=given
        )
    return Source(given, path.parent, Weights(()), None, (path.name,))
