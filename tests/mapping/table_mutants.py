"""Every small change to the tables: one row, name, axis, group, alias, layout, pattern ... at a time."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bertconv.mapping.dialects import load_dialects
from bertconv.table_files import tables_folder
from bertconv.tasks import TASKS

Raw = dict[str, Any]
Edit = Callable[[Raw], object]

EVERYWHERE = tuple(load_dialects().everywhere)
"""The dialects whose sections are changed: the others have the names that their own programs wrote in their tests."""


class Mutant(NamedTuple):
    """A file of the tables with one change: the change in words, the file's name, its new content."""

    name: str
    file: str
    raw: Raw


def read(file: str) -> Raw:
    return tomllib.loads((tables_folder() / file).read_text())


def to_toml(raw: Raw) -> str:
    """TOML with every table inline: JSON's strings, numbers, truths and arrays are TOML's too."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in raw.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def mutants(part: int = 0, parts: int = 1) -> Iterator[Mutant]:
    """Changes to bert.toml and to dialects.toml, or every so many of them."""
    edits = [("bert.toml", *each) for each in _table_edits()] + [("dialects.toml", *each) for each in _dialect_edits()]
    sound = {file: (pickle.dumps(read(file)), to_toml(read(file))) for file in ("bert.toml", "dialects.toml")}
    for file, name, edit in edits[part::parts]:
        pickled, text = sound[file]
        changed = pickle.loads(pickled)  # ten times as fast as deepcopy
        edit(changed)
        if to_toml(changed) != text:
            yield Mutant(name, file, changed)


def _table_edits() -> Iterator[tuple[str, Edit]]:
    raw = read("bert.toml")
    raw["names"] = {name: raw["names"][name] for name in EVERYWHERE}
    for edits in (_rows, _groups, _heads, _small_tables, _ignore, _sizes, _overrides, _head_of_file, _config):
        yield from edits(raw)


def _dialect_edits() -> Iterator[tuple[str, Edit]]:
    raw = read("dialects.toml")
    for edits in (_kinds, _stored, _about, _spelling):
        yield from edits({name: raw[name] for name in ("kinds", *EVERYWHERE)})


def _put(*path: str | int, value: Any) -> Edit:
    def edit(raw: Raw) -> None:
        *way, last = path
        place: Any = raw
        for step in way:
            place = place[step]
        place[last] = value

    return edit


def _drop(*path: str | int) -> Edit:
    def edit(raw: Raw) -> None:
        *way, last = path
        place: Any = raw
        for step in way:
            place = place[step]
        del place[last]

    return edit


def _reorder(*path: str, keys: list[str]) -> Edit:
    def edit(raw: Raw) -> None:
        *way, last = path
        place: Any = raw
        for step in way:
            place = place[step]
        place[last] = {key: place[last][key] for key in keys}

    return edit


def _swaps(keys: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Every pair of neighbours the other way round."""
    for number in range(len(keys) - 1):
        one, other = keys[number : number + 2]
        yield f"swap {one} and {other}", [*keys[:number], other, one, *keys[number + 2 :]]


def _modules(group: Raw) -> dict[str, Raw]:
    return {name: row for name, row in group.items() if isinstance(row, dict) and "kind" in row}


KIND_SWAPS: dict[str, tuple[str, dict[str, str]]] = {
    "linear": ("embedding", {"out": "rows", "in": "dim"}),
    "logits": ("embedding", {"out": "rows", "in": "dim"}),
    "embedding": ("linear", {"rows": "out", "dim": "in"}),
    "norm": ("vector", {"dim": "dim"}),
    "vector": ("norm", {"dim": "dim"}),
}


def _rows(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for group, content in raw["group"].items():
        modules = _modules(content)
        rest = [key for key in content if key not in modules]
        for swap, keys in _swaps(list(modules)):
            yield f"{group}: {swap}", _reorder("group", group, keys=rest + keys)
        for module, row in modules.items():
            place, at = f"{group}.{module}", ("group", group, module)
            axes = [key for key in row if key not in ("kind", "name", "when")]
            yield f"{place}: delete", _drop(*at)
            yield f"{place}: rename", _put(*at, "name", value=row["name"] + "x")
            others = {**content, f"{module}_x": row}
            del others[module]
            yield f"{place}: call it {module}_x", _put("group", group, value=others)
            for axis in axes:
                for size in ("hidden", "ffn", "labels", "2"):
                    yield f"{place}: {axis} = {size}", _put(*at, axis, value=size)
                yield f"{place}: delete {axis}", _drop(*at, axis)
            if len(axes) == 2:
                turned = row | {axes[0]: row[axes[1]], axes[1]: row[axes[0]]}
                yield f"{place}: swap {axes[0]} and {axes[1]}", _put(*at, value=turned)
            if " " in (factors := row.get("out", row.get("in", ""))) or " " in (factors := row.get("in", "")):
                axis = next(axis for axis in axes if row[axis] == factors)
                yield f"{place}: reverse {axis}", _put(*at, axis, value=" ".join(factors.split()[::-1]))
            kind, roles = KIND_SWAPS[row["kind"]]
            yield f"{place}: kind = {kind}", _put(*at, "kind", value=kind)
            fitted = {roles.get(key, key): value for key, value in row.items()} | {"kind": kind}
            yield f"{place}: as {kind}", _put(*at, value=fitted)
            yield from _conditions(place, at, row)


def _conditions(place: str, at: tuple[str, ...], row: Raw) -> Iterator[tuple[str, Edit]]:
    if "when" in row:
        yield f"{place}: delete when", _drop(*at, "when")
        yield f"{place}: when is_decoder", _put(*at, "when", value="is_decoder")
        if "!=" in row["when"]:
            yield f"{place}: negate when", _put(*at, "when", value=row["when"].replace("!=", "=="))
    else:
        yield f"{place}: when add_cross_attention", _put(*at, "when", value="add_cross_attention")


def _groups(raw: Raw) -> Iterator[tuple[str, Edit]]:
    swap, keys = next(_swaps(list(raw["group"])))
    yield f"groups: {swap}", _reorder("group", keys=keys)
    for group, content in raw["group"].items():
        yield f"{group}: delete", _drop("group", group)
        yield f"{group}: when add_cross_attention", _put("group", group, "when", value="add_cross_attention")
        yield f"{group}: at more", _put("group", group, "at", value=content.get("at", "") + "x")
        if "at" in content:
            yield f"{group}: delete at", _drop("group", group, "at")
        if "repeat" in content:
            yield f"{group}: delete repeat", _drop("group", group, "repeat")
            yield f"{group}: repeat more", _put("group", group, "repeat", value={"layer": "segments"})


def _heads(raw: Raw) -> Iterator[tuple[str, Edit]]:
    heads = raw["heads"]
    swap, keys = next(_swaps(list(heads)))
    yield f"heads: {swap}", _reorder("heads", keys=keys)
    for head, row in heads.items():
        groups = row["groups"]
        yield f"{head}: delete", _drop("heads", head)
        yield f"{head}: rename", _put("heads", value={key + "x" * (key == head): own for key, own in heads.items()})
        yield f"{head}: delete task", _drop("heads", head, "task")
        for task in TASKS:
            yield f"{head}: task {task}", _put("heads", head, "task", value=task)
        for group in raw["group"]:
            if group in groups:
                rest = [one for one in groups if one != group]
                yield f"{head}: lose {group}", _put("heads", head, "groups", value=rest)
            else:
                yield f"{head}: gain {group}", _put("heads", head, "groups", value=[*groups, group])
        yield from _optional(head, row)


def _optional(head: str, row: Raw) -> Iterator[tuple[str, Edit]]:
    may_lack = row.get("optional", [])
    if may_lack:
        yield f"{head}: delete optional", _drop("heads", head, "optional")
        for group in row["groups"]:
            if group not in may_lack:
                yield f"{head}: may lack {group}", _put("heads", head, "optional", value=[*may_lack, group])


def _small_tables(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for table in ("tied", "keras2_repeats"):
        yield f"{table}: delete", _drop(table)
        for key in raw[table]:
            yield f"{table}: delete {key}", _drop(table, key)
    for copy, original in raw["tied"].items():
        swapped = {key: value for key, value in raw["tied"].items() if key != copy} | {original: copy}
        yield f"tied: the other way round {copy}", _put("tied", value=swapped)
    for group, repeated in raw["keras2_repeats"].items():
        yield f"keras2_repeats: the other way round {group}", _put("keras2_repeats", value={repeated: group})
        yield f"keras2_repeats: {group} repeats pooler", _put("keras2_repeats", group, value="pooler")


def _ignore(raw: Raw) -> Iterator[tuple[str, Edit]]:
    yield "ignore: delete", _drop("ignore")
    for kind, patterns in raw["ignore"].items():
        yield f"ignore: delete {kind}", _drop("ignore", kind)
        for number, pattern in enumerate(patterns):
            yield f"ignore: delete {pattern}", _drop("ignore", kind, number)
            yield f"ignore: spoil {pattern}", _put("ignore", kind, number, value=pattern.replace("_", "-") + "x")
            if pattern.startswith("^") or pattern.endswith("$"):
                yield f"ignore: unanchor {pattern}", _put("ignore", kind, number, value=pattern.strip("^$"))


def _sizes(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for size, text in raw["sizes"].items():
        yield f"sizes: delete {size}", _drop("sizes", size)
        other = "hidden_size" if text != "hidden_size" else "intermediate_size"
        yield f"sizes: {size} = {other}", _put("sizes", size, value=other)
        yield f"sizes: {size} less one", _put("sizes", size, value=text.removesuffix(" - 1") + " - 2")
    yield "sizes: one more", _put("sizes", "more", value="hidden_size")


def _overrides(raw: Raw) -> Iterator[tuple[str, Edit]]:
    yield "names: delete", _drop("names")
    for dialect, names in raw["names"].items():
        for key, value in names.items():
            yield f"names.{dialect}.{key}: delete", _drop("names", dialect, key)
            yield f"names.{dialect}.{key}: rename", _put("names", dialect, key, value=f"x{value}")
            leaves = value.split("|")
            for leaf in leaves if len(leaves) > 1 else ():
                rest = "|".join(one for one in leaves if one != leaf)
                yield f"names.{dialect}.{key}: less {leaf}", _put("names", dialect, key, value=rest)
                other = value.replace(leaf, leaf + "x")
                yield f"names.{dialect}.{key}: spoil {leaf}", _put("names", dialect, key, value=other)
            if len(leaves) > 1:
                yield f"names.{dialect}.{key}: reverse", _put("names", dialect, key, value="|".join(leaves[::-1]))


def _head_of_file(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for key in ("format", "base", "inputs", "model_types", "titles", "config", "unset", "positional", "sizes", "group",
                "heads"):  # fmt: skip
        yield f"delete {key}", _drop(key)
    yield "the next format", _put("format", value=raw["format"] + 1)
    yield "model_types of another", _put("model_types", value={"roberta": "Bert"})
    yield "prefix of another", _put("model_types", "bert", value="Roberta")
    yield "no model_types", _put("model_types", value={})
    for number, name in enumerate(raw["inputs"]):
        yield f"inputs: less {name}", _drop("inputs", number)
        yield f"inputs: spoil {name}", _put("inputs", number, value=f"{name}x")
    yield "title of another", _put("titles", "bert", value="RoBERTa")
    yield "positions from ids", _put("positions", value="from_ids")
    yield "base of another", _put("base", value="roberta")


def _config(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for key, value in raw["config"].items():
        yield f"config.{key}: delete", _drop("config", key)
        other = value + "x" if isinstance(value, str) else not value if isinstance(value, bool) else value + 1
        yield f"config.{key} = {other}", _put("config", key, value=other)
    for number, key in enumerate(raw["unset"]):
        yield f"unset: less {key}", _drop("unset", number)
    for swap, keys in _swaps(raw["positional"]):
        yield f"positional: {swap}", _put("positional", value=keys)
    yield "positional: less the last", _drop("positional", len(raw["positional"]) - 1)
    yield "config_names: one more", _put("config_names", value={"dim": "hidden_size"})
    yield "config_fixed: one more", _put("config_fixed", value={"embedding_size": 3})
    yield "config_of: one more", _put("config_of", value={"bert": {"vocab_size": 7}})


def _kinds(raw: Raw) -> Iterator[tuple[str, Edit]]:
    yield "delete kinds", _drop("kinds")
    for kind, roles in raw["kinds"].items():
        yield f"kinds.{kind}: delete", _drop("kinds", kind)
        for role, axes in roles.items():
            yield f"kinds.{kind}.{role}: delete", _drop("kinds", kind, role)
            yield f"kinds.{kind}.{role}: reverse", _put("kinds", kind, role, value=" ".join(axes.split()[::-1]))
        for swap, keys in _swaps(list(roles)):
            yield f"kinds.{kind}: {swap}", _reorder("kinds", kind, keys=keys)


def _stored(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for dialect in (key for key in raw if key != "kinds"):
        yield f"delete {dialect}", _drop(dialect)
        for kind in raw["kinds"]:
            yield f"{dialect}.{kind}: delete", _drop(dialect, kind)
            for role, text in raw[dialect][kind].items():
                at, place = (dialect, kind, role), f"{dialect}.{kind}.{role}"
                names, _, layout = text.rpartition("[")
                leaves, axes = names.strip().split("|"), layout.strip("]").split()
                yield f"{place}: delete", _drop(*at)
                yield f"{place}: reverse layout", _put(*at, value=f"{names}[{' '.join(axes[::-1])}]")
                yield f"{place}: split {axes[0]}", _put(*at, value=f"{names}[*{layout}")
                if len(leaves) > 1:
                    yield f"{place}: reverse leaves", _put(*at, value=f"{'|'.join(leaves[::-1])} [{layout}")
                for leaf in filter(None, leaves):
                    rest = "|".join(one for one in leaves if one != leaf)
                    yield f"{place}: less {leaf}", _put(*at, value=f"{rest} [{layout}")
                    spoilt = "|".join(one + "x" * (one == leaf) for one in leaves)
                    yield f"{place}: spoil {leaf}", _put(*at, value=f"{spoilt} [{layout}")
        for one, other in ((one, other) for one in raw["kinds"] for other in raw["kinds"] if one < other):
            pair = {one: raw[dialect][other], other: raw[dialect][one]}
            yield f"{dialect}: {one} as {other}", _put(dialect, value=raw[dialect] | pair)


def _about(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for dialect in (key for key in raw if key != "kinds"):
        others = {"title": "another", "framework": "another", "containers": ["torch"], "metadata": {}, "command": "x2y"}
        for key, other in others.items():
            yield f"{dialect}.{key}: delete", _drop(dialect, key)
            yield f"{dialect}.{key}: another", _put(dialect, key, value=other)
        yield f"{dialect}.containers: less the first", _put(dialect, "containers", value=raw[dialect]["containers"][1:])


def _spelling(raw: Raw) -> Iterator[tuple[str, Edit]]:
    for dialect, rows in raw.items():
        for key in ("separator", "suffix", "drops_base", "scoped", "wrappers"):
            if key in rows:
                yield f"{dialect}.{key}: delete", _drop(dialect, key)
        if dialect != "kinds":
            yield f"{dialect}.separator: another", _put(dialect, "separator", value="-")
            for number, wrapper in enumerate(rows.get("wrappers", ())):
                yield f"{dialect}.wrappers: less {wrapper}", _drop(dialect, "wrappers", number)
                yield f"{dialect}.wrappers: spoil {wrapper}", _put(dialect, "wrappers", number, value=f"{wrapper}x")
        if "suffix" in rows:
            yield f"{dialect}.suffix: another", _put(dialect, "suffix", value=":1")
        for flag in ("drops_base", "scoped"):
            if flag in rows:
                yield f"{dialect}.{flag}: turn", _put(dialect, flag, value=not rows[flag])
            elif dialect != "kinds":
                yield f"{dialect}.{flag}: set", _put(dialect, flag, value=True)
