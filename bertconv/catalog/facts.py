"""What the tables hold of one manifest: few facts, in texts that are short and safe to print, and nothing unproven.

A manifest is believed as far as it goes where its own sha256 fits. Names of labels are in the config beside it, which
is believed where its sha256 is the one that the manifest states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import BertconvError
from bertconv.families import family_of_class
from bertconv.manage.history.search import Record, plain_digest, short_text
from bertconv.manifest import object_of, parsed_manifest, text_of
from bertconv.records import dataclass
from bertconv.tasks import SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from bertconv.text import parse_json

CONFIG = "config.json"
MOST_CONFIG_BYTES = 10_000_000
"""A larger config is not read."""
MOST_LABELS = 10_000
MOST_BYTES = 1 << 60
"""A file of an output that is said to be larger is none."""

_WITH_LABELS = {SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION}


@dataclass(frozen=True)
class Facts:
    """What is kept of a manifest.

    Attributes:
        record: what a history is made of too: digests, class, level, version, operation, parents.
        sha256: of the manifest, as it states it.
        family: model type; of a class that no built-in family has, the name of its table.
        part: "head" of a head alone.
        format: of the output.
        tensors: how many.
        nbytes: of all files.
        config_sha256: of the config that names the labels; empty where the class has none, or nothing is known.
        config_size: of it.
    """

    record: Record
    sha256: str
    family: str
    part: str
    format: str
    tensors: int
    nbytes: int
    config_sha256: str
    config_size: int


def facts_of(raw: bytes, place: str) -> tuple[Facts | None, str]:
    """What a manifest says, or None and why it is not believed.

    Args:
        raw: its bytes.
        place: where it lies.
    """
    try:
        manifest = parsed_manifest(raw, Path(place))
    except BertconvError as error:
        return None, reason(error)
    sizes = [facts["size"] for facts in manifest["files"].values()]
    if not all(0 <= size <= MOST_BYTES for size in sizes) or sum(sizes) > MOST_BYTES:
        return None, "states sizes that no files have"
    return _facts(manifest, Path(place), sum(sizes)), ""


def reason(error: BertconvError) -> str:
    """An error's first sentence, for a list of problems."""
    return short_text(error.message.partition("\n")[0].rstrip("."))


def labels_of(raw: bytes, facts: Facts) -> tuple[tuple[str, ...], str]:
    """The names of the labels in a config, or none and why.

    Args:
        raw: its bytes.
        facts: of the manifest beside it.
    """
    if hashlib.sha256(raw).hexdigest() != facts.config_sha256:
        return (), f"its {CONFIG} is not the one on record, so its labels are not known"
    try:
        content = parse_json(raw)
    except (ValueError, RecursionError):
        return (), f"its {CONFIG} is no JSON, so its labels are not known"
    named = content.get("id2label") if isinstance(content, dict) else None
    if not named:
        return (), ""
    if (
        not isinstance(named, dict)
        or len(named) > MOST_LABELS
        or not all(isinstance(one, str) for one in named.values())
    ):
        return (), f"its {CONFIG} does not name labels as configs do, so they are not known"
    return tuple(map(short_text, named.values())), ""


def label_set_digest(names: Iterable[str]) -> str:
    """What two models have in common that know the same labels, whatever their order; empty for none."""
    found = sorted(set(names))
    return f"sha256:{hashlib.sha256(json.dumps(found).encode()).hexdigest()}" if found else ""


def _facts(manifest: Mapping[str, Any], folder: Path, nbytes: int) -> Facts:
    record = Record.of(folder, manifest)
    table, target = (object_of(manifest, key) for key in ("table", "target"))
    config = manifest["files"].get(CONFIG, {})
    has_labels = _task(record.head) in _WITH_LABELS and config.get("size", MOST_CONFIG_BYTES + 1) <= MOST_CONFIG_BYTES
    return Facts(
        record=record,
        sha256=short_text(manifest["manifest_sha256"]),
        family=_family(record.head) or short_text(text_of(table, "name")),
        part=short_text(text_of(manifest, "part")),
        format=short_text(text_of(target, "format")),
        tensors=len(manifest["tensors"]),
        nbytes=nbytes,
        config_sha256=_hexadecimal(text_of(config, "sha256")) if has_labels else "",
        config_size=config["size"] if has_labels else 0,
    )


def _hexadecimal(sha256: str) -> str:
    return sha256 if plain_digest(f"sha256:{sha256}") else ""


@cache
def _family(head: str) -> str:
    family = family_of_class(head)
    return family.model_type if family else ""


@cache
def _task(head: str) -> str:
    family = family_of_class(head)
    return family.tasks[head.removeprefix("TF")] if family else ""
