"""A model's variables under the names that files give them, however the model was built, named, nested or counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras

from bertconv.config import Config
from bertconv.errors import RequestError
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.table import Dialects, Table, load_dialects, load_table

FRAMEWORK = "tensorflow"
"""What runs the models here: their variables have the names of its dialect."""


@dataclass(frozen=True)
class Inventory:
    """What a model's variables are.

    Attributes:
        table: of the architecture.
        dialects: every dialect.
        head: the table's class that the model is or is built upon.
        groups: the table's groups that it owns.
        known: neutral id -> variable.
        extra: variables that the table does not know, by name (`extra/kernel`).
    """

    table: Table
    dialects: Dialects
    head: str
    groups: tuple[str, ...]
    known: dict[str, keras.Variable]
    extra: dict[str, keras.Variable]


def inventory(model: keras.Model, config: Config, head: str | None) -> Inventory:
    """Every weight of a model, each by its place in the table or, beyond the table, by its name.

    Args:
        model: whose layers are all built.
        config: of the model.
        head: the table's class; None for a class of the user's own, whose groups are found by names and shapes.

    Raises:
        RequestError: two variables have the same name.
    """
    table, dialects = load_table(), load_dialects()
    named = named_variables(model)
    dialect = dialects.of(FRAMEWORK)
    candidates = table.heads[head] if head else tuple(table.groups)
    groups = tuple(
        group
        for group in candidates
        if _is_there(
            specs := _stored(table, expand(table, dialect, config.values, (group,)), config), named, dialect.suffix
        )
        and specs
    )
    groups = _without_doubles(table, groups)
    specs = _stored(table, expand(table, dialect, config.values, groups), config)
    known = {place: named[spec.name.removesuffix(dialect.suffix)] for place, spec in specs.items()}
    taken = {id(variable) for variable in known.values()}
    extra = {name: variable for name, variable in named.items() if id(variable) not in taken}
    return Inventory(table, dialects, head or table.base_head, groups, known, extra)


def _stored(table: Table, specs: dict[str, TensorSpec], config: Config) -> dict[str, TensorSpec]:
    """Without the copies that a tied model does not have."""
    is_tied = config.values["tie_word_embeddings"]
    return {place: spec for place, spec in specs.items() if not (is_tied and place in table.tied)}


def _is_there(specs: dict[str, TensorSpec], named: dict[str, keras.Variable], suffix: str) -> bool:
    """Whether the model has every one of these, in its shape."""
    for spec in specs.values():
        variable = named.get(spec.name.removesuffix(suffix))
        if variable is None or tuple(variable.shape) != spec.shape:
            return False
    return True


def _without_doubles(table: Table, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Of groups that claim the same names (two heads call different modules `classifier`) the first."""
    kept: list[str] = []
    names: set[str] = set()
    for group in groups:
        own = {module.name for module in table.groups[group].modules.values()}
        place = table.groups[group].at
        full = {f"{place}.{name}" for name in own}
        if not names & full:
            kept.append(group)
            names |= full
    return tuple(kept)


def named_variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Name -> variable, in the order of `model.weights`; a layer that is used twice counts once."""
    found: dict[str, keras.Variable] = {}
    seen: set[int] = set()
    for name, variable in _walk(model, ()):
        if id(variable) in seen:
            continue
        seen.add(id(variable))
        if name in found:
            raise RequestError(
                f"two variables of {type(model).__name__} are called {name}.", hint="Give their layers different names."
            )
        found[name] = variable
    return found


def _walk(layer: keras.layers.Layer, path: tuple[str, ...]) -> Iterator[tuple[str, keras.Variable]]:
    layers = layer._flatten_layers(include_self=False, recursive=False)  # noqa: SLF001  (Layer has no public list of its layers)
    below = {id(variable) for inner in layers for variable in inner.weights}
    for variable in layer.weights:
        if id(variable) not in below:
            yield "/".join((*path, variable.name)), variable
    for inner in layers:
        yield from _walk(inner, (*path, inner.name))


def frozen_layers(model: keras.layers.Layer) -> list[str]:
    """Paths below the model (`bert/encoder/layer_._0`) of the layers that are not trained, the topmost of them."""
    found = []
    for layer in model._flatten_layers(include_self=False, recursive=False):  # noqa: SLF001
        found += [layer.name] if not layer.trainable else [f"{layer.name}/{path}" for path in frozen_layers(layer)]
    return found


def freeze_layers(model: keras.layers.Layer, paths: Sequence[str]) -> None:
    """Take the layers with these paths out of training."""
    for layer in model._flatten_layers(include_self=False, recursive=False):  # noqa: SLF001
        if layer.name in paths:
            layer.trainable = False
        freeze_layers(layer, [path.partition("/")[2] for path in paths if path.partition("/")[0] == layer.name])
