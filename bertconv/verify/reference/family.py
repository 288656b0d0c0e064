"""What a family's own file says: names of its modules, what differs in its body, and its heads, as plain data."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bertconv.errors import RequestError
from bertconv.records import dataclass
from bertconv.verify.reference import families

if TYPE_CHECKING:
    import torch

    from bertconv.verify.reference.modules import Modules

Values = Mapping[str, Any]
"""Config keys with their values, under their neutral names."""

LOOKUPS = ("word", "segment", "position", "relative", "layer.distance")
"""Roles that are tables of rows, with a weight and no bias."""

POSITIONS, FROM_IDS = "positions", "from_ids"
"""A setting that no config has: positions are counted from the ids, so that padding has none, from the pad id + 1."""
NORMS, FIRST = "norms", "first"
"""A setting that no config has: each half of a layer normalises what it is given, not its sum with what it makes."""
FINISHED = "finished"
"""A setting for mistakes: whether the module of role `final_norm`, if there is any, normalises the last states."""
SHIFT = "position_shift"
"""A setting for mistakes: what is added to every position."""

COMMON_NAMES: Mapping[str, str] = MappingProxyType({
    "word": "embeddings.word_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "position": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "layer": "encoder.layer.{}",
    "layer.query": "attention.self.query",
    "layer.key": "attention.self.key",
    "layer.value": "attention.self.value",
    "layer.distance": "attention.self.distance_embedding",
    "layer.attention_out": "attention.output.dense",
    "layer.attention_norm": "attention.output.LayerNorm",
    "layer.cross_query": "crossattention.self.query",
    "layer.cross_key": "crossattention.self.key",
    "layer.cross_value": "crossattention.self.value",
    "layer.cross_attention_out": "crossattention.output.dense",
    "layer.cross_attention_norm": "crossattention.output.LayerNorm",
    "layer.ffn_in": "intermediate.dense",
    "layer.ffn_out": "output.dense",
    "layer.ffn_norm": "output.LayerNorm",
})  # fmt: skip
"""Role -> PyTorch name below the base model's, or below the layer's, as several families have them."""


@dataclass(frozen=True)
class Linear:
    """A step of a head: a linear layer by its full name; one that a config leaves out is not used."""

    name: str
    used: bool = True


@dataclass(frozen=True)
class Norm:
    """A step of a head: a layer norm by its full name."""

    name: str


@dataclass(frozen=True)
class Act:
    """A step of a head: an activation, of that name whatever the config says, or the one of `hidden_act`."""

    name: str | None = None


Step = Linear | Norm | Act


@dataclass(frozen=True)
class Output:
    """One output of a head: `start` ("every" position, the "first", or what is "pooled") through the steps."""

    start: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Head:
    """What a task makes of the last hidden states.

    Attributes:
        outputs: transformers' name of an output -> how it is made, in the order of execution.
        pooled: steps from the first position to what several outputs start from.
        optional: a checkpoint may lack the modules of `pooled` (add_pooling_layer=False), and then these outputs.
    """

    outputs: Mapping[str, Output]
    pooled: tuple[Step, ...] = ()
    optional: bool = False

    def modules(self) -> list[Linear | Norm]:
        """Everything with weights, used or not."""
        steps = [*self.pooled, *(step for output in self.outputs.values() for step in output.steps)]
        return [step for step in steps if not isinstance(step, Act)]


@dataclass(frozen=True)
class Mistake:
    """A known mistake of the family's own.

    Attributes:
        name: what it is called.
        sentence: what B does then.
        settings: config keys and settings under which the reference makes it.
    """

    name: str
    sentence: str
    settings: Values


Order = Iterable[tuple[tuple[int, ...], ...]]
"""For each layer the numbers of the modules that it runs through in turn."""


def one_by_one(config: Values) -> Order:
    """Every layer has weights of its own."""
    return (((number,),) for number in range(int(config["num_hidden_layers"])))


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        base: prefix of the base model's tensors.
        names: role -> PyTorch name below the base model's, or below the layer's; roles that are absent do not exist.
        heads: gives the head of each task under a config; keys that it asks for may be absent.
        ties: name of a weight that a head shares -> whose it is.
        settings: what no config of this family can change.
        pads_positions: the row of the pad id gets no gradient among the positions either.
        is_decoder: whether the family heeds `is_decoder`.
        order: of the layers' modules.
        projects: whether embeddings are brought to the hidden size, by the module of role `project`.
        bias: what is added to the scores of every layer, `[1 heads queries keys]`, or None.
        check: raises where a config asks a task for what is not computed.
        mistakes: the family's own.
    """

    base: str
    names: Mapping[str, str]
    heads: Callable[[Values], Mapping[str, Head]]
    ties: Mapping[str, str]
    settings: Values = field(default_factory=dict)
    pads_positions: bool = False
    is_decoder: bool = False
    order: Callable[[Values], Order] = one_by_one
    projects: Callable[[Values], bool] = lambda _: False
    bias: Callable[[Modules, torch.Tensor], torch.Tensor] | None = None
    check: Callable[[Values, str], None] = lambda *_: None
    mistakes: Callable[[Values], Iterable[Mistake]] = lambda _: ()

    def place(self, role: str, numbers: tuple[int, ...] = ()) -> str:
        """Full name of the module of a role, in the layer of these numbers where it is one of a layer."""
        part = self.names[role]
        return f"{self.base}.{self.layer_place(numbers)}.{part}" if role.startswith("layer.") else f"{self.base}.{part}"

    def layer_place(self, numbers: tuple[int, ...]) -> str:
        """Name of a layer, below the base model's."""
        return self.names["layer"].format(*numbers)


def family_names() -> tuple[str, ...]:
    """The families that have a reference, by the names of their tables."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(families.__path__)))


def family_of(name: str) -> Family:
    """The family whose table has this name.

    Raises:
        RequestError: there is no reference for it.
    """
    if name not in family_names():
        raise RequestError(
            f"there is no reference for the family {name!r}, so its outputs cannot be computed.",
            hint=f"Compare weights alone; outputs are known of {', '.join(family_names())}.",
        )
    found: Family = importlib.import_module(f"{families.__name__}.{name}").FAMILY
    return found
