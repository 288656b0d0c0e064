"""Read a mapping table and the dialects, and refuse a bad one. The format is described in docs/tables.md."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import BadTable, RequestError
from bertconv.mapping.expressions import Condition, Size
from bertconv.tasks import BASE, TASKS

FORMAT = 2
"""The version of the table format that this code reads."""

INPUTS = ("token_type_ids", "position_ids")
"""What models may take beyond `input_ids` and `attention_mask`."""

POSITIONS = ("absolute", "from_ids")
"""How positions are counted: by their place, or by the tokens that are no padding, from `pad_token_id + 1` on."""

_TEXTS = {"*": str}
_TABLE_SHAPE = {
    "format": int, "base": str, "inputs": [str], "positions": str, "model_types": _TEXTS, "sizes": _TEXTS,
    "group": {"*": {"at": str, "when": str, "repeat": _TEXTS, "*": _TEXTS}},
    "heads": {"*": {"task": str, "groups": [str], "optional": [str]}}, "tied": _TEXTS, "keras2_repeats": _TEXTS,
    "ignore": {"*": [str]}, "names": {"*": _TEXTS},
}  # fmt: skip
_DIALECTS_SHAPE = {
    "kinds": {"*": _TEXTS},
    "*": {"separator": str, "suffix": str, "drops_base": bool, "scoped": bool, "wrappers": [str], "*": _TEXTS},
}
"""What the values of a file are; `*` is every key that is not named."""

_TYPES = {str: "string", int: "whole number", float: "number", bool: "truth", list: "list", dict: "table"}

_STORED = re.compile(r"(?P<leaves>[\w|]*) ?\[(?P<layout>[*\w ]+)\]")


@dataclass(frozen=True)
class Role:
    """How a dialect stores one role of a kind: `weight = "kernel [in out]"`.

    Attributes:
        leaves: last parts of the name; the first is written, all are read; empty where the module's name is enough.
        layout: the role's axes in memory order; `*` keeps an axis's factors apart.
        canonical: the role's axes in the order of `[kinds]`.
    """

    leaves: tuple[str, ...]
    layout: tuple[str, ...]
    canonical: tuple[str, ...]


@dataclass(frozen=True)
class Dialect:
    """How tensors are named and laid out by one family of tools.

    Attributes:
        name: "pt" or "tf".
        separator: between the parts of a name.
        suffix: after every name, such as ":0".
        drops_base: a base model's file leaves the base prefix out.
        scoped: every name begins with the name of the model, whatever it was.
        wrappers: parts that other tools put before every name.
        kinds: kind -> role -> how it is stored.
    """

    name: str
    separator: str
    suffix: str
    drops_base: bool
    scoped: bool
    wrappers: tuple[str, ...]
    kinds: Mapping[str, Mapping[str, Role]]


@dataclass(frozen=True)
class Module:
    """One row of a group: a module, its kind, its axes (axis -> sizes that are its factors) and its PyTorch name."""

    id: str
    kind: str
    axes: Mapping[str, tuple[str, ...]]
    name: str
    when: Condition


@dataclass(frozen=True)
class Group:
    """Modules that a head owns or does not own together; `repeat` is (variable, size) or None."""

    id: str
    at: str
    repeat: tuple[str, str] | None
    when: Condition
    modules: Mapping[str, Module]


@dataclass(frozen=True)
class Table:
    """One architecture under one `model_type`: its modules, its heads, and what its tensors are called.

    Attributes:
        path: the file that it was read from.
        digest: sha256 of that file, hexadecimal.
        model_type: the `model_type` of config.json that the classes below are named for.
        prefix: what the names of these classes begin with.
        model_types: every `model_type` that the file is for.
        inputs: what its models take beyond `input_ids` and `attention_mask`.
        positions: how positions are counted, one of `POSITIONS`.
        base: name of the base model, the prefix of its tensors in a head's checkpoint.
        sizes: size -> the config keys that give it.
        groups: group -> its modules.
        heads: model class -> groups that it owns; the first head is the base model.
        tasks: model class -> its task, see `bertconv.tasks`.
        optional: model class -> groups that it can do without.
        tied: id of a copy -> id of its original.
        keras2_repeats: group -> a group that Keras 2 files store a second time under the first one's layer.
        ignore: "unexpected" and "missing" -> regexes.
        names: dialect -> what differs there: group, group.module or group.module.role -> name; the latter two with
            `|` and other spellings that are read.
    """

    path: Path
    digest: str
    model_type: str
    prefix: str
    model_types: tuple[str, ...]
    inputs: tuple[str, ...]
    positions: str
    base: str
    sizes: Mapping[str, Size]
    groups: Mapping[str, Group]
    heads: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, str]
    optional: Mapping[str, tuple[str, ...]]
    tied: Mapping[str, str]
    keras2_repeats: Mapping[str, str]
    ignore: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Mapping[str, str]]

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of bertconv's own tables."""
        return self.path.parent.resolve() == tables_folder().resolve()

    @property
    def base_head(self) -> str:
        """The class of the base model."""
        return next(iter(self.heads))

    def head_for(self, task: str) -> str | None:
        """The class for a task; None where this architecture has none."""
        return next((head for head, own in self.tasks.items() if own == task), None)


@dataclass(frozen=True)
class Dialects:
    """The kinds of module (kind -> role -> axes in canonical order) and every dialect by name."""

    kinds: Mapping[str, Mapping[str, tuple[str, ...]]]
    by_name: Mapping[str, Dialect]


def tables_folder() -> Path:
    """Where the tables are: inside an installed package, or at the top of the repository."""
    installed = Path(__file__).parents[1] / "mappings"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "mappings"


def table_names() -> tuple[str, ...]:
    """The architectures that have a table."""
    return tuple(sorted(path.stem for path in tables_folder().glob("*.toml") if path.stem != "dialects"))


@cache
def load_dialects(path: Path | None = None) -> Dialects:
    """Read dialects.toml; BadTable when it says nonsense."""
    path = path or tables_folder() / "dialects.toml"
    raw = _read(path, _DIALECTS_SHAPE)[0]
    if "kinds" not in raw or len(raw) == 1:
        raise bad(path, "has no [kinds] or no dialect")
    kinds = {kind: {role: tuple(axes.split()) for role, axes in row.items()} for kind, row in raw.pop("kinds").items()}
    return Dialects(kinds, {name: _dialect(path, name, row, kinds) for name, row in raw.items()})


@cache
def load_table(path: Path | None = None, model_type: str | None = None) -> Table:
    """Read a table (by default bert.toml).

    Args:
        path: the file.
        model_type: whose classes `heads` names; by default the first that the file is for.

    Raises:
        BadTable: it breaks a check that one file alone can break, or is for other model types.
    """
    path = path or tables_folder() / "bert.toml"
    raw, digest = _read(path, _TABLE_SHAPE)
    _check_top(path, raw)
    model_type = next(iter(raw["model_types"])) if model_type is None else model_type
    if model_type not in raw["model_types"]:
        raise bad(path, f"is for {', '.join(raw['model_types'])}, not for {model_type}")
    prefix = raw["model_types"][model_type]
    heads = {prefix + rest: _head(path, rest, row) for rest, row in raw["heads"].items()}
    return Table(
        path=path,
        digest=digest,
        model_type=model_type,
        prefix=prefix,
        model_types=tuple(raw["model_types"]),
        inputs=tuple(raw["inputs"]),
        positions=raw.get("positions", POSITIONS[0]),
        base=raw["base"],
        sizes={size: Size.parse(path, text) for size, text in raw["sizes"].items()},
        groups={group: _group(path, group, row) for group, row in raw["group"].items()},
        heads={head: tuple(row["groups"]) for head, row in heads.items()},
        tasks={head: row["task"] for head, row in heads.items()},
        optional={head: tuple(row["optional"]) for head, row in heads.items() if "optional" in row},
        tied=dict(raw.get("tied", {})),
        keras2_repeats=dict(raw.get("keras2_repeats", {})),
        ignore={kind: tuple(raw.get("ignore", {}).get(kind, ())) for kind in ("unexpected", "missing")},
        names={dialect: dict(row) for dialect, row in raw.get("names", {}).items()},
    )


@cache
def table_for(model_type: str) -> Table:
    """The built-in table for a `model_type` of config.json; RequestError where there is none."""
    paths = [tables_folder() / f"{name}.toml" for name in table_names()]
    known: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.stem != model_type):  # most often it is the file of that name
        known |= dict.fromkeys(load_table(path).model_types, path)
        if model_type in known:
            return load_table(path, model_type)
    raise RequestError(
        f"there is no mapping table for the model type {model_type!r}.", hint=f"There are: {', '.join(sorted(known))}."
    )


def bad(path: Path, problem: str) -> BadTable:
    """A BadTable that names its file."""
    return BadTable(
        f"{problem}.", hint="Fix the table; `bertconv tables check --map FILE` says when it is right.", file=str(path)
    )


def _read(path: Path, shape: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    try:
        content = path.read_bytes()
        raw = tomllib.loads(content.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise bad(path, f"is not a readable TOML file: {error}") from error
    if shape is _TABLE_SHAPE and type(raw.get("format")) is int and raw["format"] != FORMAT:
        raise _other_format(path, raw["format"])
    _shaped(path, "", raw, shape)
    return raw, hashlib.sha256(content).hexdigest()


def _shaped(path: Path, where: str, value: Any, shape: Any) -> None:
    """Refuse values of another type than `shape` gives them; keys that it does not name are somebody else's concern."""
    found, wanted = type(value), shape if isinstance(shape, type) else type(shape)
    if found is not wanted:
        raise bad(path, f"{where} is a {_TYPES.get(found, 'date')}, not a {_TYPES[wanted]}")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            _shaped(path, f"{where}[{number}]", item, shape[0])
    elif isinstance(shape, dict):
        for key, item in value.items():
            if key in shape or "*" in shape:
                _shaped(path, f"{where}.{key}".lstrip("."), item, shape.get(key, shape.get("*")))


def _only(
    path: Path, where: str, row: Mapping[str, Any], *, required: tuple[str, ...] = (), allowed: tuple[str, ...] = ()
) -> None:
    if lacks := [key for key in required if key not in row]:
        raise bad(path, f"{where} lacks {', '.join(lacks)}")
    if extra := [key for key in row if key not in required + allowed]:
        raise bad(path, f"{where} has unknown keys: {', '.join(extra)}")


def _other_format(path: Path, number: int) -> BadTable:
    hint = "Take one of bertconv's own tables as a pattern, or another version of bertconv."
    if number == 1:
        hint = (
            'Set `format = 2`; add `inputs = ["token_type_ids", "position_ids"]`; write [model_types] as MODEL_TYPE = '
            'CLASS_PREFIX (bert = "Bert"); and write each row of [heads] as REST_OF_THE_CLASS_NAME = { task = "...", '
            "groups = [...], optional = [...] }, what [optional] had in it. bert.toml is a pattern."
        )
    return BadTable(f"format is {number}, this bertconv reads {FORMAT}.", hint=hint, file=str(path))


def _check_top(path: Path, raw: Mapping[str, Any]) -> None:
    """Refuse a table that lacks a part, has one too many, or says what no architecture can be."""
    _only(path, "the table", raw, required=("format", "base", "inputs", "model_types", "sizes", "group", "heads"),
          allowed=("positions", "tied", "keras2_repeats", "ignore", "names"))  # fmt: skip
    if empty := [key for key in ("model_types", "group", "heads") if not raw[key]]:
        raise bad(path, f"the table's {empty[0]} is empty")
    _only(path, "[ignore]", raw.get("ignore", {}), allowed=("unexpected", "missing"))
    if unknown := [name for name in raw["inputs"] if name not in INPUTS]:
        raise bad(path, f"inputs has {unknown[0]!r}, not one of {', '.join(INPUTS)}")
    if (positions := raw.get("positions", POSITIONS[0])) not in POSITIONS:
        raise bad(path, f"positions is {positions!r}, not one of {', '.join(POSITIONS)}")
    tasks: dict[str, str] = {}
    for head, row in raw["heads"].items():
        task = _head(path, head, row)["task"]
        if (other := tasks.setdefault(task, head)) != head:
            raise bad(path, f"{other} and {head} have the same task {task!r}")
    if next(iter(tasks)) != BASE:
        raise bad(path, f"the first of [heads] has the task {next(iter(tasks))!r}, not {BASE!r}")


def _head(path: Path, name: str, row: dict[str, Any]) -> dict[str, Any]:
    _only(path, f"head {name}", row, required=("task", "groups"), allowed=("optional",))
    if row["task"] not in TASKS:
        raise bad(path, f"head {name} has the unknown task {row['task']!r}; there are {', '.join(TASKS)}")
    return row


def _dialect(path: Path, name: str, row: dict[str, Any], kinds: Mapping[str, Mapping[str, tuple[str, ...]]]) -> Dialect:
    _only(path, f"dialect {name}", row, required=("separator", *kinds),
          allowed=("suffix", "drops_base", "scoped", "wrappers"))  # fmt: skip
    for kind, roles in kinds.items():
        _only(path, f"{name}.{kind}", row[kind], required=tuple(roles))
    return Dialect(
        name=name,
        separator=row["separator"],
        suffix=row.get("suffix", ""),
        drops_base=row.get("drops_base", False),
        scoped=row.get("scoped", False),
        wrappers=tuple(row.get("wrappers", ())),
        kinds={
            kind: {role: _role(path, row[kind][role], axes) for role, axes in kinds[kind].items()} for kind in kinds
        },
    )


def _role(path: Path, text: str, axes: tuple[str, ...]) -> Role:
    found = _STORED.fullmatch(text)
    if not found:
        raise bad(path, f"{text!r} is not of the form `leaf|alias [layout]`")
    layout = tuple(found["layout"].split())
    if sorted(axis.removeprefix("*") for axis in layout) != sorted(axes):
        raise bad(path, f"layout of {text!r} is not a permutation of the axes {' '.join(axes)}")
    return Role(tuple(found["leaves"].split("|")) if found["leaves"] else ("",), layout, axes)


def _group(path: Path, name: str, row: dict[str, Any]) -> Group:
    row = dict(row)
    at, when, repeat = row.pop("at", ""), row.pop("when", ""), row.pop("repeat", {})
    if len(repeat) > 1:
        raise bad(path, f"group {name} repeats over more than one variable")
    if set(re.findall(r"{(\w+)}", at)) != set(repeat):
        raise bad(path, f"the place {at!r} of group {name} does not name exactly the variables that it repeats over")
    if not row:
        raise bad(path, f"group {name} has no rows")
    modules = {module: _module(path, f"{name}.{module}", values) for module, values in row.items()}
    return Group(name, at, next(iter(repeat.items()), None), Condition.parse(path, when), modules)


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
    return Module(name.split(".")[1], kind, axes, pt_name, Condition.parse(path, when))
