"""What a family's table says of a dialect: which classes there are in it, what it has no place for, what it computes.

These are the sections `[in.DIALECT]`, `[views.DIALECT]` and `[fold.DIALECT]`; docs/tables.md describes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from bertconv.containers.container import Links
from bertconv.records import dataclass
from bertconv.table_files import bad, only


@dataclass(frozen=True)
class OwnConfig:
    """A config file that programs of a dialect read, beside config.json.

    Attributes:
        name: of the file.
        keys: what it says of the config.
        fixed: what else it says, always the same.
    """

    name: str
    keys: tuple[str, ...]
    fixed: Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """One of several models that lie in one file: the classes that it is, and what its names differ in."""

    heads: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Fold:
    """How a dialect keeps a table: without its first rows, the first row of another table added to each of the others.

    Attributes:
        skip_rows: how many rows it leaves out.
        add_row: id of the other table, which it has no place for.
    """

    skip_rows: int
    add_row: str


@dataclass(frozen=True)
class InDialect:
    """What files of a dialect can hold of a family.

    Attributes:
        heads: the model classes that there are in it.
        lacks: what it has no place for: a group, `group.module` or `group.module.role`.
        activations: what its program can compute, by transformers' name -> the words for it in the program's own
            config; empty where that has none. The first is computed where nothing is said. None: its program reads
            transformers' configs, and computes what they say.
        fixed: key of the config -> what its program computes with, whatever a config says.
        head_fixed: model class -> the same of its head alone.
        twice: groups that a file may hold at several of their places; of these the one counts that is named last.
        links: other places of the objects that tensors belong to, where files have a graph of them.
        says: regex of a tensor's name -> the class that it is certain of, where several have the tensors.
        fills: groups without which its programs load nothing: newly initialised where the class does not own them.
        sizes: size -> what it is in every model of the dialect, so that a config need not say it.
        foreign: regexes of names -> what they are: parts of models that no class has.
        config: the config file of its own; None where it has none.
        folds: id of a table -> how it is kept.
    """

    heads: tuple[str, ...]
    lacks: frozenset[str] = frozenset()
    activations: Mapping[str, tuple[str, ...]] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    head_fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    twice: frozenset[str] = frozenset()
    fills: tuple[str, ...] = ()
    links: Links = field(default_factory=Links)
    says: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    config: OwnConfig | None = None
    folds: Mapping[str, Fold] = field(default_factory=dict)

    def has(self, group: str, module: str, role: str) -> bool:
        """Whether it has a place for a tensor."""
        return not self.lacks & {group, f"{group}.{module}", f"{group}.{module}.{role}"}


def read_within(path: Path, raw: Mapping[str, Any], prefix: str) -> dict[str, InDialect]:
    """The sections `[in.DIALECT]` of a table, by dialect; `prefix` is what the names of its classes begin with."""
    return {name: _within(path, name, raw, prefix) for name in raw.get("in", {})}


def read_views(path: Path, raw: Mapping[str, Any], prefix: str) -> dict[str, dict[str, View]]:
    """The sections `[views.DIALECT]` of a table, by dialect and by name."""
    return {
        dialect: {
            name: _view(path, f"[views.{dialect}.{name}]", row, prefix, raw["heads"]) for name, row in rows.items()
        }
        for dialect, rows in raw.get("views", {}).items()
    }


def _within(path: Path, dialect: str, raw: Mapping[str, Any], prefix: str) -> InDialect:
    row, folds, heads = raw["in"][dialect], raw.get("fold", {}).get(dialect, {}), raw["heads"].keys()
    for place, fold in folds.items():
        only(path, f"[fold.{dialect}] {place}", fold, required=("skip_rows", "add_row"))
    where = f"[in.{dialect}]"
    only(
        path, where, row,
        allowed=("heads", "lacks", "twice", "fills", "links", "says", "sizes", "foreign", "config", "activations",
                 "fixed", "head_fixed", "preset"),
    )  # fmt: skip
    own = _heads(path, where, row["heads"], prefix, heads) if "heads" in row else tuple(prefix + rest for rest in heads)
    config = None
    if "config" in row:
        only(path, f"[in.{dialect}.config]", row["config"], required=("name", "keys"), allowed=("fixed",))
        said = row["config"]
        config = OwnConfig(said["name"], tuple(said["keys"]), said.get("fixed", {}))
    certain = row.get("says", {})
    says = dict(zip(certain, _heads(path, where, certain.values(), prefix, heads), strict=True))
    return InDialect(
        heads=own,
        lacks=frozenset(row.get("lacks", ())),
        twice=frozenset(row.get("twice", ())),
        fills=tuple(row.get("fills", ())),
        links=_links(path, where, row.get("links", {})),
        says=says,
        sizes=row.get("sizes", {}),
        foreign=row.get("foreign", {}),
        config=config,
        activations=_activations(row.get("activations")),
        fixed=row.get("fixed", {}),
        head_fixed={prefix + rest: keys for rest, keys in row.get("head_fixed", {}).items()},
        folds={place: Fold(**fold) for place, fold in folds.items()},
    )


def _activations(row: Mapping[str, str] | None) -> Mapping[str, tuple[str, ...]] | None:
    """Each with the words for it; None where nothing is said."""
    return None if row is None else {name: tuple(filter(None, words.split("|"))) for name, words in row.items()}


def _links(path: Path, where: str, row: Mapping[str, Mapping[str, str]]) -> Links:
    only(path, f"{where[:-1]}.links]", row, allowed=("same", "copies"))
    return Links(tuple(row.get("same", {}).items()), tuple(row.get("copies", {}).items()))


def _view(path: Path, where: str, row: Mapping[str, Any], prefix: str, heads: Collection[str]) -> View:
    only(path, where, row, required=("heads", "names"))
    return View(_heads(path, where, row["heads"], prefix, heads), dict(row["names"]))


def _heads(path: Path, where: str, named: Iterable[str], prefix: str, heads: Collection[str]) -> tuple[str, ...]:
    """Classes by the rest of their names."""
    own = tuple(named)
    if unknown := [rest for rest in own if rest not in heads]:
        raise bad(path, f"{where} has {unknown[0]!r}, which is none of [heads]")
    return tuple(prefix + rest for rest in own)
