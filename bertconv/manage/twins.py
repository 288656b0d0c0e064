"""Folders that hold one model: equal model digests, in whatever format each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from bertconv.containers.registry import CONTAINERS, SPREAD
from bertconv.errors import BertconvError
from bertconv.manifest import read_manifest, text_of
from bertconv.parts import HEAD_PART
from bertconv.records import dataclass
from bertconv.source import SourceOptions
from bertconv.text import printable


@dataclass(frozen=True)
class Twin:
    """A folder, and whether its digest is what its manifest claims or was computed from its weights."""

    path: str
    claimed: bool


@dataclass(frozen=True)
class Twins:
    """Model digest -> the folders that have it, of digests that several have."""

    by_digest: Mapping[str, tuple[Twin, ...]] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[tuple[str, tuple[Twin, ...]], ...]:
        """The same as pairs, sorted by the first path."""
        return tuple(sorted(self.by_digest.items(), key=lambda item: item[1][0].path))


def find_twins(folders: Iterable[Path], problems: list[str], *, verify: bool = False) -> Twins:
    """Find the folders among these that hold one model.

    Args:
        folders: to look at; those without a manifest and without weights are passed over.
        problems: gets a sentence for each that cannot be opened.
        verify: compute every digest; otherwise those of manifests are believed.
    """
    found: dict[str, list[Twin]] = {}
    for folder in folders:
        try:
            digest, claimed = _digest(folder, verify=verify)
        except BertconvError as error:
            said = printable(error.message.splitlines()[0]).rstrip(".")
            problems.append(f"{printable(str(folder))} cannot be compared: {said}")
            continue
        if digest:
            found.setdefault(digest, []).append(Twin(str(folder), claimed))
    return Twins({digest: tuple(twins) for digest, twins in sorted(found.items()) if len(twins) > 1})


def _digest(folder: Path, *, verify: bool) -> tuple[str, bool]:
    """The model digest of a folder, and whether it is a claim; empty where it holds no checkpoint, or a head alone."""
    manifest = _manifest(folder)
    if not verify and (claim := text_of(manifest, "digest")):
        return claim, True
    if text_of(manifest, "part") == HEAD_PART or not _holds_weights(folder):
        return "", False
    from bertconv.checkpoint import open_checkpoint
    from bertconv.digests import digest_of_tensors, tensor_digests

    with open_checkpoint(folder, SourceOptions()) as checkpoint:
        return digest_of_tensors(tensor_digests(checkpoint)), False


def _holds_weights(folder: Path) -> bool:
    try:
        names = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError:  # who walks the folders says it
        return False
    return any(container.among(names, None) for container in (*CONTAINERS, *SPREAD))


def _manifest(folder: Path) -> Mapping[str, Any]:
    """What a folder's manifest says; nothing without an intact one: then its weights are read."""
    try:
        return read_manifest(folder)
    except BertconvError:
        return {}
