"""A model's variables under the names that files give them, however the model was built, named, nested or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from bertconv.config import Config
from bertconv.errors import RequestError
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.table import Table
from bertconv.models.counted_names import stem_of
from bertconv.models.keras_internals import inner_layers
from bertconv.models.replacing import Replaceable
from bertconv.records import dataclass

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
        stems: of the names of these, see `counted_names`.
    """

    table: Table
    dialects: Dialects
    head: str
    groups: tuple[str, ...]
    known: dict[str, keras.Variable]
    extra: dict[str, keras.Variable]
    stems: dict[str, str]


def inventory(model: Any, config: Config, head: str | None) -> Inventory:
    """Every weight of a model, each by its place in the table or, beyond the table, by its name.

    A variable of one of the family's own classes is known by its neutral id, wherever it is in the model. In a class of
    the user's own, and for layers of the user's own, the name decides, as in TensorFlow's files. Where a user's class
    has nothing under a name of the table, as with a whole TFBertModel inside, neutral ids decide there, too.

    Args:
        model: whose layers are all built.
        config: of the model.
        head: the table's class; None for a class of the user's own, whose groups are found by names and shapes.

    Raises:
        RequestError: two variables have the same name.
    """
    table, dialects = model.table(), load_dialects()
    named = named_variables(model)
    candidates = table.heads[head] if head else tuple(table.groups)
    stored = {group: _stored(table, config, dialects, (group,)) for group in candidates}
    for by_id in (True,) if head else (False, True):
        found = _Placed(model, named, dialects.of(FRAMEWORK), by_id=by_id)
        groups = _without_doubles(table, tuple(group for group, specs in stored.items() if found.has_all(specs)))
        if groups:
            break
    known = {place: found.of(spec) for place, spec in _stored(table, config, dialects, groups).items()}
    taken = {id(variable) for variable in known.values()}
    extra = {name: variable for name, variable in named.items() if id(variable) not in taken}
    stems = {each.name: each.stem() for each in _walk(model) if each.name in extra} if extra else {}
    return Inventory(table, dialects, head or table.base_head, groups, known, extra, stems)


def _stored(table: Table, config: Config, dialects: Dialects, groups: tuple[str, ...]) -> dict[str, TensorSpec]:
    """What these groups have in TensorFlow, without the copies that a tied model does not have."""
    is_tied = config.values["tie_word_embeddings"]
    specs = expand(table, dialects.of(FRAMEWORK), config.values, groups)
    return {place: spec for place, spec in specs.items() if not (is_tied and place in table.tied)}


class _Placed:
    """Variables by neutral id and by name.

    Args:
        model: whose they are.
        named: by their names in the model.
        dialect: TensorFlow's.
        by_id: whether a neutral id is enough, under any name.
    """

    def __init__(self, model: Any, named: dict[str, keras.Variable], dialect: Dialect, *, by_id: bool) -> None:
        self.named, self.suffix = named, dialect.suffix
        own = list({id(each.variable): each.variable for each in _walk(model) if each.is_own}.values()) if by_id else []
        counts = Counter(getattr(variable, "neutral_id", None) for variable in own)
        self.by_id = {place: each for each in own if counts[place := getattr(each, "neutral_id", None)] == 1}

    def of(self, spec: TensorSpec) -> Any:
        """The variable of a tensor; None where there is none in its shape."""
        either = (self.by_id.get(spec.id), self.named.get(spec.name.removesuffix(self.suffix)))
        return next((each for each in either if each is not None and tuple(each.shape) == spec.shape), None)

    def has_all(self, specs: dict[str, TensorSpec]) -> bool:
        """Whether there are such tensors, and the model has every one of them."""
        return bool(specs) and all(self.of(spec) is not None for spec in specs.values())


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
    for each in _walk(model):
        if id(each.variable) in seen:
            continue
        seen.add(id(each.variable))
        name = each.name
        if name in found:
            raise RequestError(
                f"two variables of {type(model).__name__} are called {name}.", hint="Give their layers different names."
            )
        found[name] = each.variable
    return found


@dataclass(frozen=True)
class _Named:
    """A variable in a model.

    Attributes:
        layers: around it, the outermost first.
        variable: itself.
        is_own: whether only layers of ours are around it: what is inside an adapter is not ours any more.
    """

    layers: tuple[Any, ...]
    variable: keras.Variable
    is_own: bool

    @property
    def name(self) -> str:
        """Of the layers around it and its own."""
        return "/".join((*(layer.name for layer in self.layers), self.variable.name))

    def stem(self) -> str:
        """The same without numbers that Keras gave."""
        return "/".join((*map(stem_of, self.layers), self.variable.name))


def _walk(layer: keras.layers.Layer, around: tuple[Any, ...] = (), *, is_own: bool = True) -> Iterator[_Named]:
    """Every variable of a layer, twice where it is held twice; `around` are the layers between it and the model."""
    layers = inner_layers(layer)
    below = {id(variable) for inner in layers for variable in inner.weights}
    for variable in layer.weights:
        if id(variable) not in below:
            yield _Named(around, variable, is_own)
    for inner in layers:
        yield from _walk(inner, (*around, inner), is_own=is_own and isinstance(inner, Replaceable))


def frozen_layers(model: keras.layers.Layer) -> list[str]:
    """Paths below the model (`bert/encoder/layer_._0`) of the layers that are not trained, the topmost of them."""
    found = []
    for layer in inner_layers(model):
        found += [layer.name] if not layer.trainable else [f"{layer.name}/{path}" for path in frozen_layers(layer)]
    return found


def freeze_layers(model: keras.layers.Layer, paths: Sequence[str]) -> None:
    """Take the layers with these paths out of training."""
    for layer in inner_layers(model):
        if layer.name in paths:
            layer.trainable = False
        freeze_layers(layer, [path.partition("/")[2] for path in paths if path.partition("/")[0] == layer.name])
