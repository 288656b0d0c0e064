"""What the places of a forward pass are called: `layer.7.attention_out`, whatever the framework calls its module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertconv.mapping.indices import TensorId

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
"""Told of the number of the batch, the place, and the values there."""


def module_places(module: str) -> tuple[Place | None, Place]:
    """The places of a module's input and output, by its neutral name; the input only where it is a step of its own."""
    one = TensorId.parse(module)
    layer, name = (one.indices[0], one.module) if one.indices else (None, module)
    before = _BEFORE.get(name) if one.indices else "mlm.activation" if module == "mlm.norm" else None
    start = f"{one.at}." if one.indices else ""
    return Place(f"{start}{before}", MODULE, layer, before) if before else None, Place(module, MODULE, layer, name)


def placed(outputs: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every tensor of a model's outputs with its place; a decoder's cache is none of them."""
    for name, value in outputs.items():
        if name != "past_key_values":
            values = value if isinstance(value, tuple) else (value,)
            yield from zip(output_places(name, len(values)), values, strict=True)


def output_places(name: str, count: int) -> list[Place]:
    """The places of one output, or of its tensors where it has one per layer."""
    pattern = _HIDDEN.get(name)
    if pattern is None:
        return [Place(name, OUTPUT, None, name)]
    if name != "hidden_states":
        return [Place(pattern.format(f"layer.{n}"), ATTENTIONS, n, pattern.format("").strip(".")) for n in range(count)]
    layers = [Place(f"layer.{number}", HIDDEN, number, "output") for number in range(count - 1)]
    return [Place("embeddings", HIDDEN, None, "embeddings"), *layers]
