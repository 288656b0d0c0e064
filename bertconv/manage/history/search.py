"""Folders that are searched for the models of a history: bounded, no link followed, and never the Hub's cache."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from bertconv.containers.stored import is_so
from bertconv.errors import BertconvError, RequestError
from bertconv.formats.destination import MANIFEST
from bertconv.manifest import operation_of, parents_of, parsed_manifest, stored_manifest, text_of
from bertconv.records import dataclass
from bertconv.report import Operation, ParentReport
from bertconv.source.weights import is_spread, is_weights
from bertconv.text import is_deep, printable

MOST_DEPTH = 6
"""How far below a folder that was given it is searched."""
MOST_FOLDERS = 20_000
"""How many folders are looked at in all, and at how many entries of each at most."""
MOST_MANIFESTS = 2_000
MOST_MANIFEST_BYTES = 512_000_000
"""How many manifests are read, and how many bytes of them in all."""

MOST_TEXT = 200
"""Characters of a text from a manifest, such as a name."""
MOST_OPTIONS, MOST_LEVELS = 20_000, 6
"""Characters of an operation's options as JSON, and levels."""

Trouble = Callable[[Path | None, str], None]
"""Told of a folder that was not searched to its end, or of None where others were not either; in one sentence."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CACHED = re.compile(r"(models|datasets|spaces)--.+")
"""A repository's folder in the Hub's cache, whose files are links and huggingface_hub's own."""


@dataclass(frozen=True)
class Record:
    """What the manifest of a folder says of it, in texts that are short and safe to print."""

    folder: Path
    digest: str
    backbone_digest: str
    head: str
    verified: str
    written_by: str
    operation: Operation
    parents: tuple[ParentReport, ...]

    @classmethod
    def of(cls, folder: Path, manifest: Mapping[str, Any]) -> Record:
        """The few facts that a history is made of."""
        operation = operation_of(manifest)
        parents = map(_parent, parents_of(manifest))
        return cls(
            folder, plain_digest(manifest["digest"]), plain_digest(text_of(manifest, "backbone_digest")),
            short_text(text_of(manifest, "head")), short_text(manifest["verified"]), short_text(manifest["bertconv"]),
            Operation(short_text(operation.verb), _options(operation.options)), tuple(parents),
        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search came upon.

    Attributes:
        records: digest -> folders whose manifest names it.
        unsigned: folders with weights and without a digest on record.
        notes: what could not be looked at, one sentence each.
    """

    records: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    unsigned: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def search_folders(roots: Iterable[Path], known: Record) -> Found:
    """Find the manifests in some folders, and folders with weights and no manifest.

    Args:
        roots: folders to search, each with those below it.
        known: a record that was read already; its folder is not read again.

    Raises:
        RequestError: one of them is no folder, or lies in the Hub's cache.
    """
    notes: list[str] = []
    records: dict[str, list[Record]] = {}
    unsigned: list[Path] = []
    budget = [MOST_MANIFESTS, MOST_MANIFEST_BYTES]
    own = _identity(known.folder)

    def tell(_: Path | None, sentence: str) -> None:
        notes.append(sentence)

    checked = [checked_root(root) for root in roots]
    for folder, names in walk_folders(checked, tell, most_folders=MOST_FOLDERS, most_depth=MOST_DEPTH):
        if MANIFEST not in names:
            unsigned += [folder] if any(is_weights(name) or is_spread(name) for name in names) else []
        elif _identity(folder) != own:
            if min(budget) <= 0:
                notes.append(
                    f"more than {MOST_MANIFESTS:,} manifests, or too many bytes of them: the rest was not read"
                )
                break
            record = _read(folder, budget, notes)
            if record is not None and record.digest:
                records.setdefault(record.digest, []).append(record)
            elif record is not None:
                unsigned.append(folder)
    return Found({digest: tuple(found) for digest, found in records.items()}, tuple(unsigned), tuple(notes))


def _parent(one: ParentReport) -> ParentReport:
    commit = None if one.commit is None else short_text(one.commit)
    return ParentReport(
        short_text(one.role), short_text(one.given), commit, plain_digest(one.digest), plain_digest(one.backbone_digest)
    )


def short_text(text: str) -> str:
    """A text from a manifest, cut where it is too long, and safe to print."""
    return printable(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}...")


def plain_digest(text: str) -> str:
    """A digest; empty for what is none."""
    return text if _DIGEST.fullmatch(text) else ""


def _options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options of an operation; none where they are longer or deeper than any verb's."""
    content = dict(options)
    if is_deep(content, MOST_LEVELS) or len(json.dumps(content)) > MOST_OPTIONS:
        return {}
    found: Mapping[str, Any] = _safe(content)
    return found


def _safe(value: Any) -> Any:
    """JSON whose texts are safe to print."""
    if isinstance(value, dict):
        return {short_text(key): _safe(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_safe(inner) for inner in value]
    return short_text(value) if isinstance(value, str) else value


def _read(folder: Path, budget: list[int], notes: list[str]) -> Record | None:
    """The record of a folder; None, with a note, where its manifest is not to be believed."""
    try:
        raw = stored_manifest(folder)
        budget[0] -= 1
        budget[1] -= len(raw)
        return Record.of(folder, parsed_manifest(raw, folder))
    except BertconvError as error:
        notes.append(f"not used: {str(error).partition(chr(10))[0].rstrip('.')}")
        return None


def checked_root(root: Path) -> Path:
    """A folder that may be searched; RequestError where it is none, or lies in the Hub's cache."""
    if not is_so(root.is_dir):
        raise RequestError("is no folder, so it cannot be searched.", hint="Give a folder.", file=str(root))
    if any(_CACHED.fullmatch(part) for part in root.resolve().parts):
        raise RequestError(
            "lies in the Hub's cache, which is not searched.",
            hint="Give a folder of your own; `bertconv hash ORG/NAME` gives the digest of a repository.",
            file=str(root),
        )  # fmt: skip
    return root


def walk_folders(
    roots: Iterable[Path], tell: Trouble, *, most_folders: int, most_depth: int
) -> Iterator[tuple[Path, frozenset[str]]]:
    """Folders with the names of their files, those nearest to the roots first; each once.

    Args:
        roots: folders, as `checked_root` has them.
        tell: called with what was not searched, and why.
        most_folders: how many are looked at in all, and at how many entries of each at most.
        most_depth: how far below a root.
    """
    queue = deque((root, 0) for root in roots)
    seen: set[tuple[int, int]] = set()
    while queue:
        folder, depth = queue.popleft()
        identity = _identity(folder)
        if identity is None or identity in seen:
            continue
        if len(seen) == most_folders:  # guard: search-folders
            tell(None, f"more than {most_folders:,} folders: the rest was not searched")
            return
        seen.add(identity)
        try:
            files, inner = _entries(folder, most_folders, tell)
        except OSError as error:
            tell(folder, f"{printable(str(folder))} was not searched: {error.strerror}")
            continue
        yield folder, files
        if depth < most_depth:  # guard: search-depth
            queue.extend((folder / name, depth + 1) for name in inner)


def _entries(folder: Path, most: int, tell: Trouble) -> tuple[frozenset[str], list[str]]:
    """Names of a folder's files, and of the folders in it that are to be searched."""
    files, inner = [], []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number == most:
                tell(folder, f"{printable(str(folder))} has more than {most:,} entries: the rest was not searched")
                break
            if entry.is_dir(follow_symlinks=False):  # guard: search-links
                inner.append(entry.name)
            else:
                files.append(entry.name)
    wanted = [name for name in inner if not name.startswith(".") and not _CACHED.fullmatch(name)]  # guard: search-cache
    return frozenset(files), sorted(wanted)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
