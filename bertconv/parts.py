"""Folders that hold a part of a model: known by their manifest, refused where a whole checkpoint is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from bertconv.errors import BertconvError, MappingError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.records import dataclass
from bertconv.source import Source
from bertconv.text import parse_json, printable

HEAD_PART = "head"
"""What `Report.part` and the manifest's `part` are of an output that holds a head alone."""


@dataclass(frozen=True)
class HeadPart:
    """What a folder says of the head that it holds.

    Attributes:
        head: the model class.
        given: what it was taken from.
        backbone_digest: of the body that it was trained with; empty where nothing was verified.
        vocabulary: digest of the tokens that it was trained with; empty where no file listed them.
    """

    head: str
    given: str
    backbone_digest: str
    vocabulary: str


def head_part(source: Source) -> HeadPart | None:
    """What the manifest beside some weights says of them, where they are a head alone; None for all else."""
    try:
        with closing(source.open(MANIFEST)) as file:
            manifest = parse_json(file.read(0, file.size) if file.size <= MANIFEST_BYTES else b"")
    except (BertconvError, ValueError, RecursionError):  # none, or not ours
        return None
    if not isinstance(manifest, dict) or manifest.get("part") != HEAD_PART:
        return None
    return HeadPart(
        head=_text(manifest, "head"),
        given=_text(_inner(manifest, "source"), "given"),
        backbone_digest=_text(manifest, "backbone_digest"),
        vocabulary=_text(_inner(manifest, "vocabulary"), "sha256"),
    )


def refuse_part(source: Source) -> None:
    """MappingError where some weights are a head alone."""
    part = head_part(source)
    if part is not None:
        raise MappingError(
            f"holds the head of {printable(part.given)} ({printable(part.head)}) and no backbone.",
            hint="Put it on one first: bertconv attach BACKBONE HEAD -o DST.",
            file=str(source.folder),
        )


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def _inner(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    return value if isinstance(value, dict) else {}
