"""Which families there are: `model_type` of config.json -> table, class names with their tasks, keys of the config.

A family is what one `model_type` names. RoBERTa, XLM-R and CamemBERT are families that share a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import RequestError
from bertconv.records import dataclass
from bertconv.table_files import bad, only, read_table, read_text, table_names, tables_folder
from bertconv.tasks import BASE, TASKS
from bertconv.text import printable

ACTIVATION = "hidden_act"
"""The config key of the activation, in BERT's spelling."""

MAPPED = ("hidden_size", "num_attention_heads", "num_hidden_layers")
"""Keys that transformers reads in either spelling; of every other one it reads a family's own alone."""


@dataclass(frozen=True)
class Schema:
    """What a family's config has, beyond what every config has.

    Attributes:
        defaults: key in the family's own spelling -> the value where a config says nothing.
        positional: the keys that its class takes by position, in order.
        own: neutral key -> the family's own spelling, where that is another one.
        fixed: neutral key -> the value that it always has here, whatever a config says.
    """

    defaults: Mapping[str, Any]
    positional: tuple[str, ...]
    own: Mapping[str, str]
    fixed: Mapping[str, Any]

    def spelled(self, key: str) -> str:
        """A key in the family's own spelling."""
        return self.own.get(key, key)

    def known(self) -> set[str]:
        """Every key that has a value here, in the family's own spelling or in BERT's."""
        return {*self.defaults, *self.own, *self.fixed}

    def respelled(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Keys and values in the family's own spelling, which counts where both are there."""
        return {self.spelled(key): value for key, value in keys.items() if self.own.get(key) not in keys}

    def said_twice(self, keys: Mapping[str, Any]) -> tuple[str, str] | None:
        """Two spellings of a size that have different values; None where all agree."""
        both = ((one, own) for one, own in self.own.items() if one in MAPPED and one in keys and own in keys)
        return next((pair for pair in both if keys[pair[0]] != keys[pair[1]]), None)


@dataclass(frozen=True)
class Family:
    """What one `model_type` names.

    Attributes:
        model_type: in config.json.
        title: what people call it.
        prefix: what the names of its classes begin with.
        path: its table.
        model_types: every model type of that table: its own and those of families that share it.
        base: what the base model's tensors begin with in another class's file.
        tasks: model class -> its task; the first is the base model.
        schema: of its configs.
    """

    model_type: str
    title: str
    prefix: str
    path: Path
    model_types: tuple[str, ...]
    base: str
    tasks: Mapping[str, str]
    schema: Schema

    def head_for(self, task: str) -> str | None:
        """The class for a task; None where this family has none."""
        return next((head for head, own in self.tasks.items() if own == task), None)


@cache
def read_families(path: Path) -> Mapping[str, Family]:
    """The families of one table, by model type; BadTable where the table says nonsense of them."""
    raw, _ = read_table(path)
    _check_heads(path, raw["heads"])
    return {model_type: _family(path, raw, model_type) for model_type in raw["model_types"]}


@cache
def families() -> Mapping[str, Family]:
    """Every family that has a built-in table, by model type."""
    found: dict[str, Family] = {}
    for name in table_names():
        found |= read_families(tables_folder() / f"{name}.toml")
    return found


@cache
def find_family(model_type: str) -> Family | None:
    """The built-in family of a model type; None where there is none. Tables that do not spell it are read last."""
    files = [tables_folder() / f"{name}.toml" for name in table_names()]
    for file in sorted(files, key=lambda file: (file.stem != model_type, model_type not in read_text(file))):
        if (own := read_families(file).get(model_type)) is not None:
            return own
    return None


def family_of(model_type: str) -> Family:
    """The built-in family of a model type; RequestError where there is none."""
    found = find_family(model_type)
    if found is None:
        raise RequestError(
            f"there is no mapping table for the model type {printable(model_type)!r}.",
            hint=f"There are: {', '.join(sorted(families()))}. `--map FILE` takes one of your own.",
        )
    return found


def family_of_class(name: str) -> Family | None:
    """The built-in family that has a class of this name, with or without TensorFlow's `TF`; None where none has."""
    head = name.removeprefix("TF")
    return next((family for family in families().values() if head in family.tasks), None)


def _family(path: Path, raw: Mapping[str, Any], model_type: str) -> Family:
    prefix = raw["model_types"][model_type]
    return Family(
        model_type=model_type,
        title=raw.get("titles", {}).get(model_type, prefix),
        prefix=prefix,
        path=path,
        model_types=tuple(raw["model_types"]),
        base=raw["base"],
        tasks={prefix + rest: row["task"] for rest, row in raw["heads"].items()},
        schema=_schema(path, raw, model_type),
    )


def _schema(path: Path, raw: Mapping[str, Any], model_type: str) -> Schema:
    unset, names = raw.get("unset", []), raw.get("config_names", {})
    defaults = {**raw["config"], **dict.fromkeys(unset)}
    _check_config(path, raw, defaults)
    defaults |= raw.get("config_of", {}).get(model_type, {})
    return Schema(
        defaults=defaults,
        positional=tuple(raw.get("positional", ())),
        own=dict(names),
        fixed=dict(raw.get("config_fixed", {})),
    )


def _check_config(path: Path, raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse lists of keys that do not fit together."""
    own, fixed = raw.get("config_names", {}), raw.get("config_fixed", {})
    if twice := [key for key in raw.get("unset", ()) if key in raw["config"]]:
        raise bad(path, f"{twice[0]} is unset and has a default")
    for where, keys in (("positional", raw.get("positional", ())), ("[config_names]", own.values())):
        if unknown := [key for key in keys if key not in defaults]:
            raise bad(path, f"{where} has {unknown[0]!r}, which [config] has not")
    for where, row in (("[config]", raw["config"]), ("[config_fixed]", fixed)):
        if nested := [key for key, value in row.items() if not isinstance(value, bool | int | float | str)]:
            raise bad(path, f"{where} {nested[0]} is neither a number, a truth nor a string")
    if both := [key for key in (*own, *fixed) if key in defaults]:
        raise bad(path, f"{both[0]} is a key of [config] and has another spelling or a fixed value")
    for where in ("config_of", "titles"):
        if unrecognised := [model_type for model_type in raw.get(where, {}) if model_type not in raw["model_types"]]:
            raise bad(path, f"[{where}] {unrecognised[0]} is none of the table's model types")
    for model_type, row in raw.get("config_of", {}).items():
        only(path, f"[config_of.{model_type}]", row, allowed=tuple(defaults))


def _check_heads(path: Path, heads: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse heads without a task, and two of one task."""
    owners: dict[str, str] = {}
    for head, row in heads.items():
        only(path, f"head {head}", row, required=("task", "groups"), allowed=("optional",))
        if row["task"] not in TASKS:
            raise bad(path, f"head {head} has the unknown task {row['task']!r}; there are {', '.join(TASKS)}")
        if (other := owners.setdefault(row["task"], head)) != head:
            raise bad(path, f"{other} and {head} have the same task {row['task']!r}")
    if (first := next(iter(owners))) != BASE:
        raise bad(path, f"the first of [heads] has the task {first!r}, not {BASE!r}")
