"""A table in words, for `bertconv tables`: every tensor in every dialect, and the story of one name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bertconv.errors import RequestError
from bertconv.mapping.checks import open_table, probe_config
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec, expand, specs_by_name
from bertconv.mapping.heads import known_head
from bertconv.mapping.ignore import first_match, ignore_lists
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import COUNTS, EQUAL, Table
from bertconv.table_files import table_names, tables_folder
from bertconv.text import fold, listed, printable

_LAYERS = 12
_COPIES = {COUNTS: "the model computes with the copy, and it is what is read", EQUAL: "both must be equal"}


class Place(NamedTuple):
    """A tensor in one dialect: its name, twelve layers folded into one, and its axes by name."""

    name: str
    axes: str


class TableRow(NamedTuple):
    """One tensor: neutral id, its place in each dialect by the dialect's name, and the classes that own it.

    Attributes:
        id: neutral.
        places: dialect -> the tensor there; None where the dialect has no place for it.
        owned_by: the classes.
    """

    id: str
    places: Mapping[str, Place | None]
    owned_by: str

    def to_json(self) -> dict[str, str | None]:
        """Everything in one level, for scripts: `pt` and `pt_axes`, and so for every dialect."""
        flat: dict[str, str | None] = {"id": self.id}
        for dialect, place in self.places.items():
            flat |= {dialect: place and place.name, f"{dialect}_axes": place and place.axes}
        return flat | {"owned_by": self.owned_by}


class Spoken(NamedTuple):
    """What files of one dialect can hold of a family.

    Attributes:
        dialect: its name; `title` is what people call it.
        formats: those that are written, by their names; none where it is only read.
        heads: the classes that there are in it.
        missing: the other classes of the table.
        lacks: what it has no place for: groups, `group.module` or `group.module.role`.
        always: groups that every file has, whether its class computes with them or not.
        copies: tied copies that its files hold as well.
    """

    dialect: str
    title: str
    formats: tuple[str, ...]
    heads: tuple[str, ...]
    missing: tuple[str, ...]
    lacks: tuple[str, ...]
    always: tuple[str, ...]
    copies: tuple[str, ...]


def spoken_dialects(table: Table) -> list[Spoken]:
    """What each dialect that a family is spoken in can hold of it."""
    found = []
    for dialect in table.spoken(load_dialects()):
        own = table.in_dialect(dialect)
        found.append(
            Spoken(
                dialect=dialect.name,
                title=dialect.title,
                formats=tuple(map(dialect.format_in, dialect.containers)),
                heads=own.heads,
                missing=tuple(head for head in table.heads if head not in own.heads),
                lacks=tuple(sorted(own.lacks)),
                always=table.unused.get(dialect.name, ()),
                copies=tuple(table.stored_copies.get(dialect.name, ())),
            )
        )
    return found


def dialect_of(table: Table, name: str) -> Dialect:
    """A dialect of a family, by its own name or by that of a format that is written in it.

    Raises:
        RequestError: the family is not spoken in it, or there is no such dialect.
    """
    spoken = table.spoken(load_dialects())
    for dialect in spoken:
        if name in (dialect.name, dialect.format, *map(dialect.format_in, dialect.containers)):
            return dialect
    raise RequestError(
        f"{table.family.title} is not spoken in a dialect {printable(name)}.",
        hint=f"Choose one of {listed(map(_called, spoken), 'and')}.",
    )


def _called(dialect: Dialect) -> str:
    """The name of a dialect, and of its format where that is another."""
    return dialect.name if dialect.format == dialect.name else f"{dialect.name} ({dialect.format})"


def table_rows(table: Table, head: str | None = None, dialects: Sequence[Dialect] = ()) -> list[TableRow]:
    """Every tensor of a table, twelve layers folded into one.

    Args:
        table: the architecture.
        head: only what this class owns.
        dialects: whose names; by default all that the family is spoken in.

    Raises:
        RequestError: the table has no such class.
    """
    every = load_dialects()
    groups = table.heads[known_head(table, head)] if head else tuple(table.groups)
    config = probe_config(table, _LAYERS)
    reference = expand(table, every.reference, config, groups)
    there = {
        dialect.name: expand(table, dialect, config, [one for one in groups if one in table.groups_in(dialect)])
        for dialect in dialects or table.spoken(every)
    }
    return [
        TableRow(
            tensor_id,
            {name: _place(specs, members) for name, specs in there.items()},
            _owners(table, reference[members[0]]),
        )
        for tensor_id, members in fold(reference).items()
    ]


def _place(specs: Mapping[str, TensorSpec], members: Sequence[str]) -> Place | None:
    """Where the tensors of a row are, under one name if that can be."""
    names = fold(specs[member].name for member in members if member in specs)
    return Place(" or ".join(names), axes_of(specs[members[0]])) if names else None


class Renaming(NamedTuple):
    """One tensor that a table writes under another name than the built-in one."""

    id: str
    builtin: str
    own: str


class Comparison(NamedTuple):
    """A table beside the built-in one that it has most tensors in common with, twelve layers folded into one.

    Attributes:
        builtin: name of the built-in table.
        shared: number of tensors that both have.
        renamed: dialect -> the tensors of these whose written name differs.
        by_row: ids whose name beyond PyTorch differs since the `name` of a row, or the `at` of a group, was edited.
        added: ids that only this table has; `lacking` are those that only the built-in one has.
    """

    builtin: str
    shared: int
    renamed: dict[str, tuple[Renaming, ...]]
    by_row: tuple[str, ...]
    added: tuple[str, ...]
    lacking: tuple[str, ...]


def beside_builtin(table: Table) -> Comparison:
    """What a table of the user's own calls its tensors, compared with a built-in one."""
    own = {row.id: row for row in table_rows(table)}
    shipped_ones = {name: open_table(tables_folder() / f"{name}.toml") for name in table_names()}
    builtin = {name: {row.id: row for row in table_rows(one)} for name, one in shipped_ones.items()}
    name, theirs = max(builtin.items(), key=lambda pair: len(own.keys() & pair[1].keys()))
    shared = [tensor_id for tensor_id in own if tensor_id in theirs]
    dialects = load_dialects()
    renamed = {
        dialect.name: tuple(
            Renaming(tensor_id, there.name, here.name)
            for tensor_id in shared
            if (there := theirs[tensor_id].places.get(dialect.name)) is not None
            and (here := own[tensor_id].places[dialect.name]) is not None
            and there.name != here.name
        )
        for dialect in table.spoken(dialects)
    }
    mine, shipped = table, shipped_ones[name]
    beyond = {one.id: None for other, ones in renamed.items() if other != dialects.reference.name for one in ones}
    by_row = tuple(tensor_id for tensor_id in beyond if _row_of(mine, tensor_id) != _row_of(shipped, tensor_id))
    added, lacking = (tuple(x for x in one if x not in other) for one, other in ((own, theirs), (theirs, own)))
    return Comparison(name, len(shared), renamed, by_row, added, lacking)


def _row_of(table: Table, tensor_id: str) -> tuple[str, str]:
    """Where a tensor's group stands, and the name in its module's row: what counts in every dialect."""
    one = TensorId.parse(re.sub(r"{\d[^}]*}", "0", tensor_id))  # layers are folded
    return table.groups[one.group].at, table.groups[one.group].modules[one.module].name


def explain_name(tables: Sequence[Table], name: str) -> dict[str, str]:
    """What a name is in the first of several tables that knows it, which other ones know it too, and every owner.

    Raises:
        RequestError: no dialect of any of them has such a name, and no ignore list knows it.
    """
    parts = re.split(r"[./]", name)
    likely = sorted(tables, key=lambda table: table.base not in parts)
    found = {table.model_type: story for table in likely if (story := _explained(table, name)) is not None}
    named = {family: story for family, story in found.items() if "id" in story} or found
    if not named:
        known = listed(table.family.title for table in tables)
        raise RequestError(
            f"no tensor of {known} is called {printable(name)} in any dialect.",
            hint=f"`bertconv tables show {tables[0].model_type if len(tables) == 1 else 'FAMILY'}` lists them all.",
        )
    (family, story), *others = named.items()
    also = {"also in": ", ".join(other for other, _ in others)} if others else {}
    owners = {"owned by": ", ".join(one["owned by"] for one in named.values())} if "id" in story else {}
    return {**story, **owners, **({"family": family} if len(tables) > 1 else {}), **also}


def _explained(table: Table, name: str) -> dict[str, str] | None:
    """Which tensor a name is, what it is called elsewhere, what happens to its elements, and who owns it."""
    dialects = load_dialects()
    spoken = table.spoken(dialects)
    for dialect in spoken:
        spellings = (name, name + dialect.suffix, table.base + dialect.separator + name)
        known = specs_by_name(table, dialect, {lower for spelling in spellings for lower in _lower_indices(spelling)})
        for spelling in spellings:
            if spelling in known:
                return _story(table, dialects, dialect, known[spelling])
    inside = any(name.startswith(table.base + dialect.separator) for dialect in spoken)
    lists = ignore_lists(table, dialects, table.base_head)  # a head's module is none where it stands in the body
    if pattern := first_match(table.ignore["unexpected"] if inside else lists.unexpected, name):
        return {"name": printable(name), "is": "left out", "because": f"it matches the ignore list's {pattern!r}"}
    return None


def ignore_lists_of(table: Table, head: str) -> dict[str, list[str]]:
    """The two regex lists of a class, under the names that transformers gives them.

    Raises:
        RequestError: the table has no such class.
    """
    dialects = load_dialects()
    lists = ignore_lists(table, dialects, known_head(table, head))
    return {
        "_keys_to_ignore_on_load_unexpected": list(lists.unexpected),
        "_keys_to_ignore_on_load_missing": list(lists.missing),
    }


def axes_of(spec: TensorSpec) -> str:
    """The axes of a tensor by name: `heads*head hidden`."""
    return " ".join("*".join(factors) for factors in spec.factors)


def _story(table: Table, dialects: Dialects, dialect: Dialect, specs: tuple[TensorSpec, ...]) -> dict[str, str]:
    spec = specs[0]
    story = {"id": " or ".join(one.id for one in specs), "in": dialect.name, "name": " or ".join(spec.names)}
    story["axes"] = axes_of(spec)
    for other in table.spoken(dialects):
        if other.name != dialect.name:
            story[f"in {other.name}"] = _elsewhere(spec, _in_dialect(table, other, spec))
    story["owned by"] = ", ".join(dict.fromkeys(owner for one in specs for owner in _owners(table, one).split(", ")))
    if spec.id in table.tied:
        story["tied to"] = f"{table.tied[spec.id]}: stored once unless tie_word_embeddings is false"
    for name, copies in table.stored_copies.items():
        if spec.id in copies:
            story[f"also in {name}"] = f"beside its original; {_COPIES[copies[spec.id]]}"
    if unused := [name for name, groups in table.unused.items() if spec.group in groups]:
        story["always in"] = f"files of {', '.join(unused)}, whether the class computes with it or not"
    if spec.when:
        story["only when"] = " and ".join(one.text for one in spec.when)
    return story


def _in_dialect(table: Table, dialect: Dialect, spec: TensorSpec) -> TensorSpec | None:
    """A tensor in another dialect; None where that has no place for it."""
    if spec.group not in table.groups_in(dialect):
        return None
    most = max(TensorId.parse(spec.id).indices, default=0)
    return expand(table, dialect, probe_config(table, most + 1), [spec.group]).get(spec.id)


def _elsewhere(spec: TensorSpec, there: TensorSpec | None) -> str:
    """What a tensor is called in another dialect, and whether its elements lie in another order there."""
    if there is None:
        return "nothing: there is no place for it"
    axes, turned = axes_of(there), _is_turned(spec, there)
    return f"{' or '.join(there.names)} [{axes}]{', transposed' if turned else ''}"


def _is_turned(spec: TensorSpec, there: TensorSpec) -> bool:
    """Whether elements move: axes that are only kept apart do not move them."""
    return [size for dim in spec.factors for size in dim] != [size for dim in there.factors for size in dim]


def _owners(table: Table, spec: TensorSpec) -> str:
    return ", ".join(head for head, groups in table.heads.items() if spec.group in groups)


def _lower_indices(name: str) -> list[str]:
    """The name with every lower index as well, so that a repeating group is expanded far enough."""
    found = [name]
    for number in re.finditer(r"\d{1,4}", name):
        found += [f"{name[: number.start()]}{index}{name[number.end() :]}" for index in range(int(number[0]))]
    return found
