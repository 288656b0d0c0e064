"""Questions to the tables, and their answers: each is three statements, however many outputs it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, field, replace
from typing import Any

from bertconv.catalog.facts import label_set_digest
from bertconv.catalog.store import Row, Store, Value
from bertconv.errors import RequestError
from bertconv.manage.history.search import short_text
from bertconv.records import dataclass
from bertconv.report import ParentReport

LEAST_DIGITS = 8
"""Of a digest that is asked for: fewer fit several models by chance."""

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})", re.ASCII | re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{4,64}", re.ASCII | re.IGNORECASE)
_ABOVE = "g"
"""Comes after every hexadecimal digit."""

# Statements are made of the constants of this file alone; what is asked for is a value of theirs.
_DESCENDANTS = """WITH RECURSIVE line (digest) AS (
  SELECT digest FROM bertconv_manifests WHERE digest >= :line_low AND digest < :line_high
  UNION
  SELECT digest FROM bertconv_parents WHERE digest >= :line_low AND digest < :line_high
  UNION
  SELECT m.digest FROM line
    JOIN bertconv_parents p ON p.digest = line.digest
    JOIN bertconv_manifests m ON m.place = p.place
    WHERE m.digest <> ''
) """
_ANCESTORS = """WITH RECURSIVE line (digest) AS (
  SELECT digest FROM bertconv_manifests WHERE digest >= :line_low AND digest < :line_high
  UNION
  SELECT p.digest FROM line
    JOIN bertconv_manifests m ON m.digest = line.digest
    JOIN bertconv_parents p ON p.place = m.place
    WHERE p.digest <> ''
) """
_CHILDREN = "FROM line JOIN bertconv_parents p ON p.digest = line.digest JOIN bertconv_manifests c ON c.place = p.place"
_IS_DESCENDANT = (  # where its model is one; where nobody knows its model, where it was itself made so
    f"(m.digest IN (SELECT c.digest {_CHILDREN} WHERE c.digest <> '' AND c.digest <> p.digest) "
    f"OR m.place IN (SELECT c.place {_CHILDREN} WHERE c.digest = ''))"
)
_IS_ANCESTOR = "m.digest IN (SELECT digest FROM line) AND NOT (m.digest >= :line_low AND m.digest < :line_high)"
_ENTRY = (
    "m.place, m.digest, m.backbone_digest, m.family, m.head, m.part, m.format, m.verb, m.verified, m.bertconv, "
    "m.tensors, m.nbytes, m.sha256"
)


@dataclass(frozen=True)
class Query:
    """What is asked for; an output is found that fits all that is given.

    Attributes:
        digest: of the model: at least eight digits from its beginning, with or without `sha256:`.
        backbone: of its backbone, likewise.
        family: model type.
        head: model class, with or without TensorFlow's `TF`.
        labels: names of labels that it knows.
        only_labels: and no other labels than these.
        parent: a digest, likewise, or the name of what it was made from: a Hub id, with a commit behind an `@` or
            without, or the last part of a path.
        ancestors: a digest: all that the model was made from, and that was made from, and so on.
        descendants: a digest: all that was made of the model, and of that, and so on.
        duplicates: only outputs with a model that several of those have that fit the rest.
        within: folders or URLs, as the catalogue has them; without, everything on record.
    """

    digest: str = ""
    backbone: str = ""
    family: str = ""
    head: str = ""
    labels: tuple[str, ...] = ()
    only_labels: bool = False
    parent: str = ""
    ancestors: str = ""
    descendants: str = ""
    duplicates: bool = False
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """An output whose manifest is intact. What it says was not held against the weights: `bertconv verify DIR` does.

    Attributes:
        place: folder or URL.
        digest: of the model; empty where nothing was verified.
        backbone_digest: of its backbone.
        family: model type.
        head: model class.
        part: "head" of a head alone.
        format: of the output.
        verb: the command that made it.
        verified: the level.
        bertconv: the version that wrote it.
        tensors: how many.
        nbytes: of all its files.
        manifest_sha256: of its manifest.
        labels: their names by their numbers' order; empty where it has none, or they are not known.
        parents: what it was made from.
    """

    place: str
    digest: str
    backbone_digest: str
    family: str
    head: str
    part: str
    format: str
    verb: str
    verified: str
    bertconv: str
    tensors: int
    nbytes: int
    manifest_sha256: str
    labels: tuple[str, ...] = field(default=())
    parents: tuple[ParentReport, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self)


def find(store: Store, query: Query) -> tuple[Entry, ...]:
    """The outputs that fit a query, by place; duplicates by digest.

    Raises:
        RequestError: what is given as a digest is none, or too short.
    """
    before, where, values = _condition(query)
    places = f"SELECT m.place FROM bertconv_manifests m WHERE {where}"  # noqa: S608
    order = "m.digest, m.place" if query.duplicates else "m.place"
    rows = store.query(f"{before}SELECT {_ENTRY} FROM bertconv_manifests m WHERE {where} ORDER BY {order}", values)  # noqa: S608
    if not rows:
        return ()

    def beside(columns: str, table: str, make: Callable[..., Any]) -> dict[str, list[Any]]:
        """Place -> what another table has of it."""
        found: dict[str, list[Any]] = {}
        statement = f"{before}SELECT place, {columns} FROM {table} WHERE place IN ({places}) ORDER BY place, number"  # noqa: S608
        for place, *facts in store.query(statement, values):
            found.setdefault(place, []).append(make(*facts))
        return found

    labels = beside("name", "bertconv_labels", str)
    parents = beside("role, given, commit_id, digest, backbone_digest", "bertconv_parents", _parent)
    return tuple(
        replace(Entry(*row), labels=tuple(labels.get(row[0], ())), parents=tuple(parents.get(row[0], ())))
        for row in rows
    )


def inside(within: Iterable[str], values: dict[str, Value], column: str = "place") -> str:
    """The condition that a place is one of some, or below it.

    Args:
        within: places.
        values: gets what the condition needs.
        column: with the place.
    """
    parts = []
    for number, place in enumerate(within):
        above = place.rstrip("/")
        # what begins with "above/" is what comes from there on, and before "above0": 0 follows / in ASCII
        values |= {f"in{number}": above or "/", f"from{number}": f"{above}/", f"to{number}": f"{above}0"}
        parts.append(f"{column} = :in{number} OR ({column} >= :from{number} AND {column} < :to{number})")
    return f"({' OR '.join(parts)})" if parts else "1 = 1"


def _condition(query: Query) -> tuple[str, str, Row]:
    """What stands before a statement, its condition, and the values of both."""
    values: dict[str, Value] = {}
    parts = ["m.believed = 1", inside(query.within, values, "m.place")]
    for name, column, digest in (("digest", "m.digest", query.digest), ("back", "m.backbone_digest", query.backbone)):
        if digest:
            parts.append(_in_range(column, name, digest, values))
    if query.family:
        parts.append("m.family = :family")
        values["family"] = short_text(query.family.lower())
    if query.head:
        plain = short_text(query.head.removeprefix("TF"))
        parts.append("m.head IN (:head, :tf_head)")
        values |= {"head": plain, "tf_head": f"TF{plain}"}
    parts += _of_labels(query, values)
    parts += [_of_parent(query.parent, values)] if query.parent else []
    before = ""
    if query.ancestors and query.descendants:
        raise RequestError("ancestors and descendants are two questions.", hint="Ask for one of them at a time.")
    if line := query.ancestors or query.descendants:
        before = _ANCESTORS if query.ancestors else _DESCENDANTS
        parts.append(_IS_ANCESTOR if query.ancestors else _IS_DESCENDANT)
        values |= dict(zip(("line_low", "line_high"), _range(line), strict=True))
    where = " AND ".join(parts)
    if query.duplicates:
        several = f"SELECT m.digest FROM bertconv_manifests m WHERE {where} GROUP BY m.digest HAVING COUNT(*) > 1"  # noqa: S608
        where += f" AND m.digest <> '' AND m.digest IN ({several})"
    return before, where, values


def _of_labels(query: Query, values: dict[str, Value]) -> list[str]:
    if query.only_labels and not query.labels:
        raise RequestError("no labels are given that an output may have.", hint="Name every one of them.")
    names = [short_text(name) for name in query.labels]
    if query.only_labels:
        values["label_set"] = label_set_digest(names)
        return ["m.label_set = :label_set"]
    values |= {f"label{number}": name for number, name in enumerate(names)}
    return [
        f"m.place IN (SELECT place FROM bertconv_labels WHERE name = :label{number})"  # noqa: S608
        for number in range(len(names))
    ]


def _of_parent(given: str, values: dict[str, Value]) -> str:
    """The condition that an output has this parent, by digest or by name."""
    parts = ["p.given = :given"]
    values["given"] = short_text(given)
    name, _, commit = given.rpartition("@")
    if name and _COMMIT.fullmatch(commit):
        parts.append("(p.given = :given_alone AND p.commit_id >= :commit AND p.commit_id < :commit_high)")
        values |= {"given_alone": short_text(name), "commit": commit.lower(), "commit_high": commit.lower() + _ABOVE}
    if _DIGEST.fullmatch(given):
        parts.append(_in_range("p.digest", "parent", given, values))
    return f"m.place IN (SELECT p.place FROM bertconv_parents p WHERE {' OR '.join(parts)})"  # noqa: S608


def _in_range(column: str, name: str, digest: str, values: dict[str, Value]) -> str:
    """The condition that a digest begins so, which an index answers."""
    values |= dict(zip((f"{name}_low", f"{name}_high"), _range(digest), strict=True))
    return f"({column} >= :{name}_low AND {column} < :{name}_high)"


def _range(digest: str) -> tuple[str, str]:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise RequestError(
            f"{short_text(digest)!r} is no digest.",
            hint=f"Give {LEAST_DIGITS} to 64 hexadecimal digits, with or without sha256: before them.",
        )
    low = f"sha256:{found[1].lower()}"
    return low, low + _ABOVE


def _parent(role: str, given: str, commit: str, digest: str, backbone_digest: str) -> ParentReport:
    return ParentReport(role, given, commit or None, digest, backbone_digest)
