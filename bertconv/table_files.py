"""The files of the mapping tables: where they are, how one is read, and how a bad one is refused."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import BadTable

FORMAT = 2
"""The version of the table format that this code reads."""

_TEXTS = {"*": str}
TABLE_SHAPE = {
    "format": int, "base": str, "inputs": [str], "positions": str, "positional": [str], "unset": [str],
    "model_types": _TEXTS, "titles": _TEXTS, "config": {}, "config_of": {"*": {}},
    "config_names": _TEXTS, "config_fixed": {}, "sizes": _TEXTS,
    "group": {"*": {"at": str, "when": str, "repeat": _TEXTS, "*": _TEXTS}},
    "heads": {"*": {"task": str, "groups": [str], "optional": [str]}}, "tied": _TEXTS, "keras2_repeats": _TEXTS,
    "stored_copies": {"*": _TEXTS}, "unused": {"*": [str]},
    "in": {"*": {"heads": [str], "lacks": [str], "twice": [str], "fills": [str], "says": _TEXTS, "links": {"*": _TEXTS},
                 "sizes": {"*": int}, "foreign": _TEXTS, "activations": _TEXTS, "fixed": {}, "head_fixed": {"*": {}},
                 "config": {"name": str, "keys": [str], "fixed": {}, "spelled": {"*": _TEXTS}},
                 "preset": {"always": {}, "classes": _TEXTS, "config": _TEXTS, "tasks": {"*": _TEXTS},
                            "assets": {"*": _TEXTS}}}},
    "views": {"*": {"*": {"heads": [str], "names": _TEXTS}}},
    "fold": {"*": {"*": {"skip_rows": int, "add_row": str}}},
    "ignore": {"*": [str]}, "names": {"*": _TEXTS},
}  # fmt: skip
"""What the values of a table are; `*` is every key that is not named."""

_TYPES = {str: "string", int: "whole number", float: "number", bool: "truth", list: "list", dict: "table"}


def tables_folder() -> Path:
    """Where the tables are: inside an installed package, or at the top of the repository."""
    installed = Path(__file__).parent / "mappings"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "mappings"


def table_names() -> tuple[str, ...]:
    """The architectures that have a table."""
    return tuple(sorted(path.stem for path in tables_folder().glob("*.toml") if path.stem != "dialects"))


@cache
def read_table(path: Path) -> tuple[Mapping[str, Any], str]:
    """The content of a table, not to be changed, and its sha256.

    Raises:
        BadTable: it is no TOML, of another format, or lacks or exceeds what a table has.
    """
    raw, digest = read_toml(path)
    if type(raw.get("format")) is int and raw["format"] != FORMAT:
        raise _other_format(path, raw["format"])
    shaped(path, "", raw, TABLE_SHAPE)
    only(path, "the table", raw, required=("format", "base", "inputs", "model_types", "config", "sizes", "group",
                                           "heads"),
         allowed=("titles", "positions", "positional", "unset", "config_of", "config_names", "config_fixed", "tied",
                  "stored_copies", "unused",
                  "keras2_repeats", "ignore", "names", "in", "views", "fold"))  # fmt: skip
    if empty := [key for key in ("model_types", "config", "group", "heads") if not raw[key]]:
        raise bad(path, f"the table's {empty[0]} is empty")
    return raw, digest


@cache
def module_names() -> frozenset[str]:
    """The last parts of what PyTorch calls the modules of every architecture that has a table."""
    rows = (
        row
        for name in table_names()
        for group in read_table(tables_folder() / f"{name}.toml")[0]["group"].values()
        for row in group.values()
    )
    named = (row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str))
    return frozenset(name.rpartition(".")[2] for name in named)


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file and its sha256; BadTable where it is none."""
    text = read_text(path)
    try:
        return tomllib.loads(text), hashlib.sha256(text.encode()).hexdigest()
    except tomllib.TOMLDecodeError as error:
        raise bad(path, f"is not a readable TOML file: {error}") from error


def read_text(path: Path) -> str:
    """A TOML file as it is; BadTable where it cannot be read."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise bad(path, f"is not a readable TOML file: {error}") from error


def bad(path: Path, problem: str) -> BadTable:
    """A BadTable that names its file."""
    return BadTable(
        f"{problem}.", hint="Fix the table; `bertconv tables check --map FILE` says when it is right.", file=str(path)
    )


def shaped(path: Path, where: str, value: Any, shape: Any) -> None:
    """Refuse values of another type than `shape` gives them; keys that it does not name are somebody else's concern."""
    found, wanted = type(value), shape if isinstance(shape, type) else type(shape)
    if found is not wanted:
        raise bad(path, f"{where} is a {_TYPES.get(found, 'date')}, not a {_TYPES[wanted]}")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            shaped(path, f"{where}[{number}]", item, shape[0])
    elif isinstance(shape, dict):
        for key, item in value.items():
            if key in shape or "*" in shape:
                shaped(path, f"{where}.{key}".lstrip("."), item, shape.get(key, shape.get("*")))


def only(
    path: Path, where: str, row: Mapping[str, Any], *, required: tuple[str, ...] = (), allowed: tuple[str, ...] = ()
) -> None:
    """Refuse a row that lacks a required key, or has one that is neither required nor allowed."""
    if lacks := [key for key in required if key not in row]:
        raise bad(path, f"{where} lacks {', '.join(lacks)}")
    if extra := [key for key in row if key not in required + allowed]:
        raise bad(path, f"{where} has unknown keys: {', '.join(extra)}")


def _other_format(path: Path, number: int) -> BadTable:
    hint = "Take one of bertconv's own tables as a pattern, or another version of bertconv."
    if number == 1:
        hint = (
            'Set `format = 2`; add `inputs = ["token_type_ids", "position_ids"]`; write [model_types] as MODEL_TYPE = '
            'CLASS_PREFIX (bert = "Bert"); add [config] with the default of every config key; and write each row of '
            '[heads] as REST_OF_THE_CLASS_NAME = { task = "...", groups = [...], optional = [...] }, what [optional] '
            "had in it. bert.toml is a pattern."
        )
    return BadTable(f"format is {number}, this bertconv reads {FORMAT}.", hint=hint, file=str(path))
