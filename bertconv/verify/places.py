"""What the places of a forward pass are called: `layer.7.attention_out`, whatever the framework calls its module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bertconv.mapping.indices import TensorId
from bertconv.records import dataclass

Array = np.ndarray[Any, Any]

MODULE, HIDDEN, ATTENTIONS, OUTPUT = "module", "hidden state", "attentions", "output"
"""The kinds of places."""

_BEFORE = {"attention_out": "attention", "cross_attention_out": "cross_attention", "ffn_out": "activation"}
"""Module of a layer -> what its input is called: a step that has no weights of its own."""

_HIDDEN = {"hidden_states": "{}", "attentions": "{}.attentions", "cross_attentions": "{}.cross_attentions"}
"""Output with one tensor per layer -> the name of the place of each; `{}` is the layer."""


@dataclass(frozen=True)
class Place:
    """Where a number was measured; attributes as those of `parity.Measurement`."""

    name: str
    kind: str
    layer: int | None
    module: str


Tell = Callable[[int, Place, Array], None]
"""Reported of the number of the batch, the place, and the values there."""


class Passes:
    """Names the places of one run; where layers share their weights, a module is passed once in each of them."""

    def __init__(self) -> None:
        self._modules: Counter[str] = Counter()
        self._layers: Counter[tuple[Any, ...]] = Counter()

    def places(self, module: str) -> tuple[Place | None, Place]:
        """The places of a module's input and output, by its neutral name; the input only where it is a step of its own.

        From the second pass through the same weights on, its number is part of the name: `layer.0.query #2`.
        """
        one = TensorId.parse(module)
        self._modules[module] += 1
        again = "" if self._modules[module] == 1 else f" #{self._modules[module]}"
        layer, name = (self._layer(one), one.module) if one.indices else (None, module)
        before = _BEFORE.get(name) if one.indices else "mlm.activation" if module == "mlm.norm" else None
        start = f"{one.at}." if one.indices else ""
        given = Place(f"{start}{before}{again}", MODULE, layer, before) if before else None
        return given, Place(f"{module}{again}", MODULE, layer, name)

    def _layer(self, one: TensorId) -> int:
        """The number of the layer: of those within a group, every round through it is one."""
        within = (one.group, one.indices[1:], one.module)
        self._layers[within] += 1
        return self._layers[within] - 1 if len(one.indices) > 1 else one.indices[0]


def placed(outputs: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every tensor of a model's outputs with its place; a decoder's cache is none of them."""
    layers = len(outputs.get("hidden_states") or ()) - 1
    for name, value in outputs.items():
        if name != "past_key_values":
            values = value if isinstance(value, tuple) else (value,)
            yield from zip(_output_places(name, len(values), layers), values, strict=True)


def _output_places(name: str, count: int, layers: int) -> list[Place]:
    """The places of one output, or of its tensors where it has one per layer, or several within each layer."""
    pattern = _HIDDEN.get(name)
    if pattern is None:
        return [Place(name, OUTPUT, None, name)]
    if name != "hidden_states":
        inner = max(1, count // layers) if layers > 0 else 1
        about = pattern.format("").strip(".")
        at = [f"layer.{n}" if inner == 1 else f"layer.{n // inner}.{n % inner}" for n in range(count)]
        return [Place(pattern.format(one), ATTENTIONS, n // inner, about) for n, one in enumerate(at)]
    states = [Place(f"layer.{number}", HIDDEN, number, "output") for number in range(count - 1)]
    return [Place("embeddings", HIDDEN, None, "embeddings"), *states]
