"""Read a mapping table and the dialects, and refuse a bad one. The format is described in docs/tables.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.families import Family, family_of, read_families
from bertconv.mapping.dialects import Dialect, Dialects
from bertconv.mapping.expressions import Condition, Conditions, Size
from bertconv.mapping.indices import variables
from bertconv.mapping.within import InDialect, View, read_views, read_within
from bertconv.records import dataclass
from bertconv.table_files import bad, only, read_table, tables_folder

VOCABULARY = "vocab_size"
"""The config key of the number of tokens, in every family's spelling."""

INPUTS = ("token_type_ids", "position_ids")
"""What models may take beyond `input_ids` and `attention_mask`."""

POSITIONS = ("absolute", "from_ids")
"""How positions are counted: by their place, or by the tokens that are no padding, from `pad_token_id + 1` on."""

COUNTS, EQUAL = "counts", "equal"
COPIES = (COUNTS, EQUAL)
"""What holds of a stored copy: the dialect computes with it, and its original may be stale; or both must be equal."""

_TEXTS = {"*": str}


@dataclass(frozen=True)
class Module:
    """One row of a group: a module, its kind, its axes (axis -> sizes that are its factors) and its PyTorch name."""

    id: str
    kind: str
    axes: Mapping[str, tuple[str, ...]]
    name: str
    when: Conditions


@dataclass(frozen=True)
class Group:
    """Modules that a head owns or does not own together; `repeat` is (variable, size) per index, outermost first."""

    id: str
    at: str
    repeat: tuple[tuple[str, str], ...]
    when: Conditions
    modules: Mapping[str, Module]


@dataclass(frozen=True)
class Table:
    """One architecture under one `model_type`: its modules, its heads, and what its tensors are called.

    Attributes:
        path: the file that it was read from.
        digest: sha256 of that file, hexadecimal.
        family: what its `model_type` names: titles, class names, tasks, and keys of the config.
        inputs: what its models take beyond `input_ids` and `attention_mask`.
        positions: how positions are counted, one of `POSITIONS`.
        base: name of the base model, the prefix of its tensors in a head's checkpoint.
        sizes: size -> the config keys that give it.
        groups: group -> its modules.
        heads: model class -> groups that it owns; the first head is the base model.
        optional: model class -> groups that it can do without.
        tied: id of a copy -> id of its original.
        stored_copies: dialect -> copies of `tied` that its files hold as well, with one of `COPIES`.
        unused: dialect -> groups that its files hold whether the class computes with them or not.
        keras2_repeats: group -> a group that Keras 2 files store a second time under the first one's layer.
        ignore: "unexpected" and "missing" -> regexes.
        names: dialect -> what differs there: group, group.module or group.module.role -> name; the latter two with
            `|` and other spellings that are read.
        within: dialect -> what its files can hold, where that is not everything.
        views: dialect -> name -> a model that may lie in a file beside the one that counts, with names of its own.
    """

    path: Path
    digest: str
    family: Family
    inputs: tuple[str, ...]
    positions: str
    base: str
    sizes: Mapping[str, Size]
    groups: Mapping[str, Group]
    heads: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]]
    tied: Mapping[str, str]
    stored_copies: Mapping[str, Mapping[str, str]]
    unused: Mapping[str, tuple[str, ...]]
    keras2_repeats: Mapping[str, str]
    ignore: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Mapping[str, str]]
    within: Mapping[str, InDialect]
    views: Mapping[str, Mapping[str, View]]

    def speaks(self, dialect: Dialect) -> bool:
        """Whether there are files of this family in a dialect."""
        return not dialect.declared or dialect.name in self.within

    def spoken(self, dialects: Dialects) -> tuple[Dialect, ...]:
        """The dialects that there are files of this family in."""
        return tuple(filter(self.speaks, dialects.by_name.values()))

    def in_dialect(self, dialect: Dialect) -> InDialect:
        """What files of a dialect can hold; everything where the table says nothing of it."""
        own = self.within.get(dialect.name) or InDialect(tuple(self.heads))
        return replace(own, heads=self.views[dialect.name][dialect.view].heads) if dialect.view else own

    def names_in(self, dialect: Dialect) -> Mapping[str, str]:
        """What differs in a dialect, in the view that is meant."""
        names = self.names.get(dialect.name, {})
        return {**names, **self.views[dialect.name][dialect.view].names} if dialect.view else names

    def views_in(self, dialect: Dialect) -> tuple[Dialect, ...]:
        """The dialect once for each model that may lie in its files beside the one that counts."""
        return tuple(replace(dialect, view=view) for view in self.views.get(dialect.name, ()))

    def as_written(self, dialect: Dialect, head: str) -> Dialect:
        """The dialect with the names that files of a class are written in."""
        fitting = (view for view in self.views_in(dialect) if head in self.in_dialect(view).heads)
        return next(fitting, dialect)

    def beyond_class(self, dialect: Dialect) -> frozenset[str]:
        """The groups that files of a dialect may hold although their class does not compute with them."""
        return frozenset((*self.unused.get(dialect.name, ()), *self.in_dialect(dialect).fills))

    def groups_in(self, dialect: Dialect) -> frozenset[str]:
        """The groups that files of a dialect may have."""
        own = self.in_dialect(dialect)
        held = {group for head in own.heads for group in self.heads[head]}
        held |= self.beyond_class(dialect)
        return frozenset(held - own.lacks)

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of bertconv's own tables."""
        return self.path.parent.resolve() == tables_folder().resolve()

    @property
    def token_sizes(self) -> frozenset[str]:
        """Names of the sizes that are the number of tokens: a dimension of such a size has an index for each token."""
        return frozenset(name for name, size in self.sizes.items() if size.is_key and size.key == VOCABULARY)

    @property
    def base_head(self) -> str:
        """The class of the base model."""
        return next(iter(self.heads))

    def counting(self, dialect: Dialect) -> Mapping[str, str]:
        """Original -> the stored copy of it that files of a dialect are read by, where it is the copy that counts."""
        copies = self.stored_copies.get(dialect.name, {})
        return {self.tied[copy]: copy for copy, kind in copies.items() if kind == COUNTS}

    def repeated(self, dialect: Dialect, config: Mapping[str, Any]) -> frozenset[str]:
        """Places that a dialect's files hold beside the original that they stand for: no weights of their own."""
        return frozenset(self.stored_copies.get(dialect.name, ()) if config["tie_word_embeddings"] else ())

    @property
    def twins(self) -> Mapping[str, str]:
        """Those of `tied` that are equal in an untied model too: both lie in one group, as the two biases of a head."""
        groups = {pair: [one.partition(".")[0] for one in pair] for pair in self.tied.items()}
        return {copy: original for (copy, original), (one, other) in groups.items() if one == other}

    @property
    def model_type(self) -> str:
        """The `model_type` of config.json that `heads` are named for."""
        return self.family.model_type

    @property
    def model_types(self) -> tuple[str, ...]:
        """Every `model_type` that the file is for."""
        return self.family.model_types

    @property
    def prefix(self) -> str:
        """What the names of its classes begin with."""
        return self.family.prefix

    @property
    def tasks(self) -> Mapping[str, str]:
        """Model class -> its task, see `bertconv.tasks`."""
        return self.family.tasks

    def head_for(self, task: str) -> str | None:
        """The class for a task; None where this architecture has none."""
        return self.family.head_for(task)


@cache
def load_table(path: Path, model_type: str | None = None) -> Table:
    """Read a table.

    Args:
        path: the file.
        model_type: whose classes `heads` names; by default the first that the file is for.

    Raises:
        BadTable: it breaks a check that one file alone can break, or is for other model types.
    """
    raw, digest = read_table(path)
    _check_inputs(path, raw)
    known = read_families(path)
    if model_type is not None and model_type not in known:
        raise bad(path, f"is for {', '.join(known)}, not for {model_type}")
    family = known[model_type or next(iter(known))]
    heads = {family.prefix + rest: row for rest, row in raw["heads"].items()}
    return Table(
        path=path,
        digest=digest,
        family=family,
        inputs=tuple(raw["inputs"]),
        positions=raw.get("positions", POSITIONS[0]),
        base=raw["base"],
        sizes={size: Size.parse(path, text) for size, text in raw["sizes"].items()},
        groups={group: _group(path, group, row) for group, row in raw["group"].items()},
        heads={head: tuple(row["groups"]) for head, row in heads.items()},
        optional={head: tuple(row["optional"]) for head, row in heads.items() if "optional" in row},
        tied=dict(raw.get("tied", {})),
        stored_copies={dialect: dict(row) for dialect, row in raw.get("stored_copies", {}).items()},
        unused={dialect: tuple(groups) for dialect, groups in raw.get("unused", {}).items()},
        keras2_repeats=dict(raw.get("keras2_repeats", {})),
        ignore={kind: tuple(raw.get("ignore", {}).get(kind, ())) for kind in ("unexpected", "missing")},
        names={dialect: dict(row) for dialect, row in raw.get("names", {}).items()},
        within=read_within(path, raw, family.prefix),
        views=read_views(path, raw, family.prefix),
    )


def table_for(model_type: str) -> Table:
    """The built-in table for a `model_type` of config.json; RequestError where there is none."""
    return load_table(family_of(model_type).path, model_type)


def _check_inputs(path: Path, raw: Mapping[str, Any]) -> None:
    only(path, "[ignore]", raw.get("ignore", {}), allowed=("unexpected", "missing"))
    if unknown := [name for name in raw["inputs"] if name not in INPUTS]:
        raise bad(path, f"inputs has {unknown[0]!r}, not one of {', '.join(INPUTS)}")
    if (positions := raw.get("positions", POSITIONS[0])) not in POSITIONS:
        raise bad(path, f"positions is {positions!r}, not one of {', '.join(POSITIONS)}")
    if type(raw.get("config_fixed", {}).get("counted_padding", 0)) is not int:
        raise bad(path, "[config_fixed] counted_padding is no whole number")


def _group(path: Path, name: str, row: dict[str, Any]) -> Group:
    row = dict(row)
    at, when, repeat = row.pop("at", ""), row.pop("when", ""), row.pop("repeat", {})
    if sorted(variables(at)) != sorted(repeat):
        raise bad(path, f"the path {at!r} of group {name} does not name exactly the variables that it repeats over")
    if not row:
        raise bad(path, f"group {name} has no rows")
    modules = {module: _module(path, f"{name}.{module}", values) for module, values in row.items()}
    return Group(name, at, tuple(repeat.items()), Condition.parse_all(path, when), modules)


def _module(path: Path, name: str, row: dict[str, Any]) -> Module:
    row = dict(row)
    if not isinstance(row.get("kind"), str) or not isinstance(row.get("name"), str):
        raise bad(path, f"{name} lacks a kind or a name")
    kind, pt_name, when = row.pop("kind"), row.pop("name"), row.pop("when", "")
    if "{" in pt_name:
        raise bad(path, f"the name {pt_name!r} of {name} holds a variable; only places may")
    if "|" in pt_name:
        raise bad(
            path, f"the name {pt_name!r} of {name} holds other spellings; these belong into [names.D] of a dialect"
        )
    axes = {axis: tuple(sizes.split()) for axis, sizes in row.items()}
    return Module(name.split(".")[1], kind, axes, pt_name, Condition.parse_all(path, when))
