"""A table in words, for `bertconv tables`: every tensor in every dialect, and the story of one name."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


class TableRow(NamedTuple):
    """One tensor: neutral id, names and axes in both dialects, and the classes that own it."""

    id: str
    pt: str
    pt_axes: str
    tf: str
    tf_axes: str
    owned_by: str


def table_rows(table: Table, head: str | None = None) -> list[TableRow]:
    """Every tensor of a table, twelve layers folded into one.

    Raises:
        RequestError: the table has no such class.
    """
    dialects = load_dialects()
    groups = table.heads[known_head(table, head)] if head else None
    config = probe_config(table, _LAYERS)
    pt = expand(table, dialects.by_name["pt"], config, groups)
    tf = expand(table, dialects.by_name["tf"], config, groups)
    rows = []
    for tensor_id, members in fold(pt).items():
        one, other = pt[members[0]], tf[members[0]]
        names = [next(iter(fold(specs[member].name for member in members))) for specs in (pt, tf)]
        rows.append(TableRow(tensor_id, names[0], axes_of(one), names[1], axes_of(other), _owners(table, one)))
    return rows


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
        by_row: ids whose TensorFlow name differs since the `name` of a row, or the `at` of a group, was edited.
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
    renamed = {
        dialect: tuple(
            Renaming(tensor_id, there, here)
            for tensor_id in shared
            if (there := getattr(theirs[tensor_id], dialect)) != (here := getattr(own[tensor_id], dialect))
        )
        for dialect in ("pt", "tf")
    }
    mine, shipped = table, shipped_ones[name]
    by_row = tuple(one.id for one in renamed["tf"] if _row_of(mine, one.id) != _row_of(shipped, one.id))
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
    for dialect in dialects.by_name.values():
        spellings = (name, name + dialect.suffix, table.base + dialect.separator + name)
        known = specs_by_name(table, dialect, {lower for spelling in spellings for lower in _lower_indices(spelling)})
        for spelling in spellings:
            if spelling in known:
                return _story(table, dialects, dialect, known[spelling])
    inside = any(name.startswith(table.base + dialect.separator) for dialect in dialects.by_name.values())
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
    for other in dialects.by_name.values():
        if other.name != dialect.name:
            there = _in_dialect(table, other, spec.id)
            turned = axes_of(spec) != axes_of(there)
            story[f"in {other.name}"] = (
                f"{' or '.join(there.names)} [{axes_of(there)}]{', transposed' if turned else ''}"
            )
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


def _in_dialect(table: Table, dialect: Dialect, tensor_id: str) -> TensorSpec:
    most = max(TensorId.parse(tensor_id).indices, default=0)
    return expand(table, dialect, probe_config(table, most + 1))[tensor_id]


def _owners(table: Table, spec: TensorSpec) -> str:
    return ", ".join(head for head, groups in table.heads.items() if spec.group in groups)


def _lower_indices(name: str) -> list[str]:
    """The name with every lower index as well, so that a repeating group is expanded far enough."""
    found = [name]
    for number in re.finditer(r"\d{1,4}", name):
        found += [f"{name[: number.start()]}{index}{name[number.end() :]}" for index in range(int(number[0]))]
    return found
