"""Config files of programs that have their own: what they say in transformers' keys, and the reverse.

KerasHub keeps a model in a folder, a preset: config.json says the backbone's class and sizes, task.json which task is
built on it. `[in.DIALECT]` of a family's table says what their classes and keys mean (`preset`),
and what the program computes whatever a config says (`activations`, `fixed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bertconv.errors import UnsupportedCheckpoint
from bertconv.families import ACTIVATION, Family, families
from bertconv.records import dataclass
from bertconv.table_files import read_table
from bertconv.text import listed, printable

REGISTERED = "registered_name"
"""The key by which KerasHub knows a config.json of its own."""

_MINUS = re.compile(r"(?P<key>\w+) - (?P<number>\d+)")


@dataclass(frozen=True)
class Preset:
    """How a dialect's program spells the config of one family.

    Attributes:
        dialect: the dialect.
        backbone: its class for the body.
        family: whose config it is.
        keys: its key -> ours, those that it stands for joined by `|`; `key - 2` where it is that much less.
        always: our keys -> what it computes, whatever a config says.
        tasks: our class -> `class`, the rest of the names of its classes, and what else its config says.
        assets: file of a tokenizer as transformers calls it -> as the program does.
    """

    dialect: str
    backbone: str
    family: Family
    keys: Mapping[str, str]
    always: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, str]]
    assets: Mapping[str, str]

    @property
    def prefix(self) -> str:
        """What the names of its classes begin with."""
        return self.backbone.removesuffix("Backbone")

    def read(self, config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a backbone and of a task, empty without one, in transformers' spelling."""
        found: dict[str, Any] = {"model_type": self.family.model_type}
        head, facts = self._task_of(str(task.get("class_name", "")))
        found["architectures"] = [head]
        found |= self.always
        for key, ours in self.keys.items():
            if key in config:
                found |= _spelled(ours, config[key])
        inner = task.get("config")
        if "num_classes" in facts and isinstance(inner, dict) and "num_classes" in inner:
            found[facts["num_classes"]] = inner["num_classes"]
        return found

    def backbone_config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a backbone, from a config's values."""
        return {key: _value(ours, values) for key, ours in self.keys.items()}

    def task_config(self, head: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The class for a task, and the keys of its config; None for the backbone alone."""
        facts = dict(self.tasks.get(head, {}))
        if not facts:
            return None
        name = self.prefix + facts.pop("class").split("|")[0]
        return name, {key: _value(ours, values) for key, ours in facts.items()}

    def _task_of(self, name: str) -> tuple[str, Mapping[str, str]]:
        for head, facts in self.tasks.items():
            if name.removeprefix(self.prefix) in facts["class"].split("|"):
                return head, facts
        return next(iter(self.family.tasks)), {}


@cache
def presets() -> Mapping[str, Preset]:
    """Every class of a backbone that a built-in table knows, with what its config means."""
    return {preset.backbone: preset for family in families().values() for preset in _of(family)}


def assets_of(keys: Mapping[str, Any]) -> Mapping[str, str]:
    """File of a tokenizer by transformers' name -> what presets call it, by a config of either spelling."""
    fitting = (
        one for one in presets().values()
        if keys.get("class_name") == one.backbone or keys.get("model_type") == one.family.model_type
    )  # fmt: skip
    return next((one.assets for one in fitting), {})


def preset_for(family: Family, dialect: str) -> Preset | None:
    """How a dialect's program spells a family's configs; None where it has files of its own for none."""
    of_table = [one for one in presets().values() if one.dialect == dialect and one.family.path == family.path]
    own = [one for one in of_table if one.family.model_type == family.model_type]
    return next(iter((*own, *of_table)), None)


def is_preset(keys: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of KerasHub's own."""
    return isinstance(keys.get(REGISTERED), str) and isinstance(keys.get("config"), dict) and "class_name" in keys


def translated(keys: Mapping[str, Any], task: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The config of a preset in transformers' keys.

    Args:
        keys: of its config.json.
        task: of its task.json; empty without one.
        path: of the config, for errors.

    Raises:
        UnsupportedCheckpoint: a backbone that no table knows.
    """
    inner = keys["config"].get("backbone")
    if isinstance(inner, dict) and is_preset(inner):  # a task, which has its backbone within
        return translated(inner, keys, path)
    name = keys.get("class_name")
    preset = presets().get(name) if isinstance(name, str) else None
    if preset is None:
        raise UnsupportedCheckpoint(
            f"is a preset of {printable(str(name))[:100]}, which is none of {listed(sorted(presets()), 'and')}.",
            hint="Only these have a mapping table.",
            file=path,
        )
    return preset.read(keys["config"], task)


def _of(family: Family) -> Iterator[Preset]:
    raw, _ = read_table(family.path)
    for dialect, within in raw.get("in", {}).items():
        row, always = within.get("preset", {}), _computed(within, family)
        for backbone, model_type in row.get("classes", {}).items():
            if model_type == family.model_type:
                tasks = {family.prefix + rest: facts for rest, facts in row.get("tasks", {}).items()}
                files = row.get("assets", {}).get(backbone, {})
                yield Preset(
                    dialect, backbone, family, row.get("config", {}), always | row.get("always", {}), tasks, files
                )


def _computed(within: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """What a program computes whatever a config says, where its configs have no word for it."""
    silent = [name for name, word in within.get("activations", {}).items() if not word]
    computed = dict.fromkeys((ACTIVATION,) if silent else (), *silent[:1]) | within.get("fixed", {})
    return {family.schema.spelled(key): value for key, value in computed.items() if key not in family.schema.fixed}


def _spelled(ours: str, value: Any) -> dict[str, Any]:
    """Our keys that one of a preset's stands for, with their values."""
    if (less := _MINUS.fullmatch(ours)) is not None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return {less["key"]: value + int(less["number"]) if is_number else value}
    return dict.fromkeys(ours.split("|"), value)


def _value(ours: str, values: Mapping[str, Any]) -> Any:
    if (less := _MINUS.fullmatch(ours)) is not None:
        return values[less["key"]] - int(less["number"])
    return values[ours.partition("|")[0]]
