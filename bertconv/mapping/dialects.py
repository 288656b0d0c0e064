"""The dialects: how each family of tools names and lays out tensors. `mappings/dialects.toml` says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.containers.registry import BY_NAME
from bertconv.records import dataclass
from bertconv.table_files import bad, only, read_toml, shaped, tables_folder

_TEXTS = {"*": str}
_DIALECTS_SHAPE = {
    "kinds": {"*": _TEXTS},
    "*": {
        "title": str, "framework": str, "containers": [str], "metadata": _TEXTS, "command": str, "separator": str,
        "suffix": str, "drops_base": bool, "nested": str, "apart": str, "scoped": bool, "wrappers": [str],
        "declared": bool, "format": str, "training": [str], "average": str, "numbered": bool,
        "*": _TEXTS,
    },
}  # fmt: skip
"""What the values of dialects.toml are; `*` is every key that is not named."""

_STORED = re.compile(r"(?P<leaves>[\w|/]*) ?\[(?P<layout>[*\w ]+)\]")


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
        title: what people call it.
        framework: the module that runs its weights.
        containers: names of the containers that it is written in, the default one first.
        metadata: what its files say of themselves, where their container has room for it.
        command: the one that converts from it; empty where there is none besides `convert`.
        separator: between the parts of a name.
        suffix: after every name, such as ":0".
        drops_base: a base model's file leaves the base prefix out.
        nested: regex of what stands before the names of the body in files that hold a head as well, where tables have
            the body's names without it.
        apart: what tables have before the names of a head then.
        scoped: every name begins with the name of the model, whatever it was.
        wrappers: parts that other tools put before every name.
        declared: only the families whose tables have a section `[in.DIALECT]` are spoken in it.
        format: the name of the format that it is in its default container, where that is not its own.
        numbered: files of Keras 3 number a layer's weights, and record the names of layers that are in its names.
        kinds: kind -> role -> how it is stored.
        training: regexes of what its files keep beside the weights: state of the training.
        average: stands behind the name of a tensor in that of its average over the steps; empty where there are none.
        view: which of the models is meant that lie in one file, see `Table.views`; empty for the one that counts.
    """

    name: str
    title: str
    framework: str
    containers: tuple[str, ...]
    metadata: Mapping[str, str]
    command: str
    separator: str
    suffix: str
    drops_base: bool
    nested: str
    apart: str
    scoped: bool
    wrappers: tuple[str, ...]
    declared: bool
    format: str
    numbered: bool
    kinds: Mapping[str, Mapping[str, Role]]
    training: tuple[str, ...] = ()
    average: str = ""
    view: str = ""

    def spelling(self, names: Iterable[str]) -> Callable[[str], str]:
        """What brings the names of a file into the spelling of tables, by all of them."""
        body = re.compile(f"{self.nested}{re.escape(self.separator)}")
        if not self.nested or not any(map(body.match, names)):
            return lambda name: name
        head = self.apart + self.separator
        return lambda name: name[found.end() :] if (found := body.match(name)) else head + name

    def format_in(self, container: str) -> str:
        """The name of the format that it is in one of its containers; the default one goes without saying."""
        return self.format if container == self.containers[0] else f"{self.format}-{container}"


@dataclass(frozen=True)
class Dialects:
    """The kinds of module (kind -> role -> axes in canonical order) and every dialect by name."""

    kinds: Mapping[str, Mapping[str, tuple[str, ...]]]
    by_name: Mapping[str, Dialect]

    @property
    def everywhere(self) -> Mapping[str, Dialect]:
        """Those that every family is spoken in: what a table says nothing of."""
        return {name: dialect for name, dialect in self.by_name.items() if not dialect.declared}

    @property
    def reference(self) -> Dialect:
        """The first one: its names stand in the rows of the tables, and its layouts are those of digests."""
        return next(iter(self.by_name.values()))

    def of(self, framework: str) -> Dialect:
        """The first dialect whose weights a framework runs, by the framework's module."""
        return next(dialect for dialect in self.by_name.values() if dialect.framework == framework)


@cache
def load_dialects(path: Path | None = None) -> Dialects:
    """Read dialects.toml; BadTable when it says nonsense."""
    path = path or tables_folder() / "dialects.toml"
    raw = read_toml(path)[0]
    shaped(path, "", raw, _DIALECTS_SHAPE)
    if "kinds" not in raw or len(raw) == 1:
        raise bad(path, "has no [kinds] or no dialect")
    kinds = {kind: {role: tuple(axes.split()) for role, axes in row.items()} for kind, row in raw.pop("kinds").items()}
    return Dialects(kinds, {name: _dialect(path, name, row, kinds) for name, row in raw.items()})


def title_of(dialect: str) -> str:
    """What people call a dialect; nothing for a name that is none."""
    found = load_dialects().by_name.get(dialect)
    return found.title if found else ""


def _dialect(path: Path, name: str, row: dict[str, Any], kinds: Mapping[str, Mapping[str, tuple[str, ...]]]) -> Dialect:
    only(path, f"dialect {name}", row, required=("title", "framework", "separator", *kinds),
          allowed=("containers", "metadata", "command", "suffix", "drops_base", "nested", "apart", "scoped", "wrappers",
                  "declared", "format", "training", "average", "numbered"))  # fmt: skip
    for kind, roles in kinds.items():
        only(path, f"{name}.{kind}", row[kind], required=tuple(roles))
    containers = tuple(row.get("containers", ()))
    if unknown := [one for one in containers if one not in BY_NAME or not BY_NAME[one].dtypes]:
        written = ", ".join(container.name for container in BY_NAME.values() if container.dtypes)
        raise bad(path, f"dialect {name} is to be written to {unknown[0]!r}, not to one of {written}")
    for pattern in row.get("training", ()):
        _check_regex(path, name, pattern)
    return Dialect(
        name=name,
        title=row["title"],
        framework=row["framework"],
        containers=containers,
        metadata=dict(row.get("metadata", {})),
        command=row.get("command", ""),
        separator=row["separator"],
        suffix=row.get("suffix", ""),
        drops_base=row.get("drops_base", False),
        nested=row.get("nested", ""),
        apart=row.get("apart", ""),
        scoped=row.get("scoped", False),
        wrappers=tuple(row.get("wrappers", ())),
        declared=row.get("declared", False),
        format=row.get("format", name),
        numbered=row.get("numbered", False),
        kinds={
            kind: {role: _role(path, row[kind][role], axes) for role, axes in kinds[kind].items()} for kind in kinds
        },
        training=tuple(row.get("training", ())),
        average=row.get("average", ""),
    )


def _check_regex(path: Path, dialect: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise bad(path, f"dialect {dialect} has {pattern!r}, which does not compile: {error}") from error


def _role(path: Path, text: str, axes: tuple[str, ...]) -> Role:
    found = _STORED.fullmatch(text)
    if not found:
        raise bad(path, f"{text!r} is not of the form `leaf|alias [layout]`")
    layout = tuple(found["layout"].split())
    if sorted(axis.removeprefix("*") for axis in layout) != sorted(axes):
        raise bad(path, f"layout of {text!r} is not a permutation of the axes {' '.join(axes)}")
    return Role(tuple(found["leaves"].split("|")) if found["leaves"] else ("",), layout, axes)
