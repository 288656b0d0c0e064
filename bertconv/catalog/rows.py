"""What one manifest becomes in the tables, and the statements that put it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bertconv.catalog.facts import CONFIG, Facts, facts_of, label_set_digest, labels_of, reason
from bertconv.catalog.store import Row, Step, Value
from bertconv.catalog.trees import UNSETTLED, Seen, Tree
from bertconv.errors import BertconvError

_COLUMNS = (
    "place", "stamp", "believed", "problem", "sha256", "digest", "backbone_digest", "family", "head", "part", "format",
    "verb", "verified", "bertconv", "tensors", "nbytes", "label_set",
)  # fmt: skip
_NUMBERS = ("believed", "tensors", "nbytes")
# Statements are made of constants; what manifests say is a value of theirs.
_PUT = (
    f"INSERT INTO bertconv_manifests ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)}) "  # noqa: S608
    f"ON CONFLICT (place) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)
_PUT_PARENT = (
    "INSERT INTO bertconv_parents (place, number, role, given, commit_id, digest, backbone_digest) "
    "VALUES (:place, :number, :role, :given, :commit_id, :digest, :backbone_digest)"
)
_PUT_LABEL = "INSERT INTO bertconv_labels (place, number, name) VALUES (:place, :number, :name)"
_DROP_PARENTS = "DELETE FROM bertconv_parents WHERE place = :place"
_DROP_LABELS = "DELETE FROM bertconv_labels WHERE place = :place"
_DROP = "DELETE FROM bertconv_manifests WHERE place = :place"  # and the rows of the other tables with it


class Look(NamedTuple):
    """A manifest as rows: its own, and those of what it was made from and of its labels."""

    manifest: Row
    parents: Sequence[Row] = ()
    labels: Sequence[Row] = ()


def look(tree: Tree, seen: Seen) -> Look:
    """Read a manifest. Where that fails, and where something beside it is wrong, it is read again the next time.

    Args:
        tree: where it lies.
        seen: which one.
    """
    place = seen.place
    try:
        raw = tree.manifest(seen)
    except BertconvError as error:
        return Look(_row(place, UNSETTLED, problem=reason(error)))
    facts, problem = facts_of(raw, place)
    if facts is None:
        return Look(_row(place, seen.stamp, problem=problem))
    names, problem = _labels(tree, place, facts)
    record = facts.record
    row = _row(
        place, UNSETTLED if problem else seen.stamp, believed=1, problem=problem, sha256=facts.sha256,
        digest=record.digest, backbone_digest=record.backbone_digest, family=facts.family, head=record.head,
        part=facts.part, format=facts.format, verb=record.operation.verb, verified=record.verified,
        bertconv=record.written_by, tensors=facts.tensors, nbytes=facts.nbytes, label_set=label_set_digest(names),
    )  # fmt: skip
    parents: list[Row] = [
        {"place": place, "number": number, "role": one.role, "given": one.given, "commit_id": one.commit or "",
         "digest": one.digest, "backbone_digest": one.backbone_digest}
        for number, one in enumerate(record.parents)
    ]  # fmt: skip
    return Look(row, parents, [{"place": place, "number": number, "name": name} for number, name in enumerate(names)])


def put_steps(looks: Iterable[Look]) -> list[Step]:
    """Put manifests on record, in place of what was there before."""
    looks = list(looks)
    places = [{"place": look.manifest["place"]} for look in looks]
    return [
        (_PUT, [look.manifest for look in looks]),
        (_DROP_PARENTS, places),
        (_DROP_LABELS, places),
        (_PUT_PARENT, [row for look in looks for row in look.parents]),
        (_PUT_LABEL, [row for look in looks for row in look.labels]),
    ]


def drop_steps(places: Iterable[str]) -> list[Step]:
    """Take manifests off record."""
    return [(_DROP, [{"place": place} for place in places])]


def _row(place: str, stamp: str, **others: Value) -> Row:
    return {name: 0 if name in _NUMBERS else "" for name in _COLUMNS} | {"place": place, "stamp": stamp} | others


def _labels(tree: Tree, place: str, facts: Facts) -> tuple[tuple[str, ...], str]:
    if not facts.config_sha256:
        return (), ""
    try:
        return labels_of(tree.read(place, CONFIG, facts.config_size), facts)
    except BertconvError as error:
        return (), f"its {CONFIG} cannot be read, so its labels are not known: {reason(error)}"
