"""Known mistakes that turn A's function into B's: tried one by one on the reference, named when the numbers agree."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from bertconv.checkpoint import Checkpoint
from bertconv.records import dataclass
from bertconv.verify.cases import Batch
from bertconv.verify.outputs import SAME_FUNCTION, Runner, Truth, error_of
from bertconv.verify.parity import Cause
from bertconv.verify.places import HIDDEN, OUTPUT, placed

AGREES = 1e-3
"""A mistake explains B when it brings A this many times nearer to it."""

_EPSILONS = (1e-12, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8)
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "silu", "tanh", "linear")

State = dict[str, Any]
"""Neutral id -> tensor."""
Change = Callable[[State, dict[str, Any]], None]
"""Changes weights and inputs."""


@dataclass(frozen=True)
class _Trial:
    """A mistake: what it is called, under which settings the reference makes it, how weights and inputs change."""

    name: str
    sentence: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    change: Change = lambda *_: None


def output_causes(a: Checkpoint, b: Runner, batch: Batch) -> list[Cause]:
    """The mistake that best explains B's outputs, if one brings A's far nearer to them.

    Args:
        a: the original, whose tensors are taken as they are.
        b: the other side.
        batch: inputs on which they differ.
    """
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    from bertconv.verify.reference import Reference

    seen = Truth()
    b.run("float64", [batch], seen.tell)
    state = {place: torch.from_numpy(tensor.whole("float64").copy()) for place, tensor in a.tensors.items()}
    inputs = {name: torch.from_numpy(value) for name, value in batch.inputs.items()}

    def distances(trial: _Trial) -> dict[str, float]:
        """The distance from B of the hidden states together and of the outputs together."""
        weights, given = dict(state), dict(inputs)
        trial.change(weights, given)
        named = {a.torch_names[place]: value for place, value in weights.items()}
        with torch.inference_mode():
            outputs = Reference(named, a.values, a.task, a.family, trial.settings)(given)
        found = {place.name: value.numpy() for place, value in placed(outputs)}
        worst = {HIDDEN: 0.0, OUTPUT: 0.0}
        for name, place in seen.places.items():
            if name in found and place.kind in worst:
                worst[place.kind] = max(worst[place.kind], error_of(found[name], seen.values[0, name]).rms)
        return worst

    before = distances(_Trial("", ""))
    kind = HIDDEN if before[HIDDEN] > SAME_FUNCTION else OUTPUT  # a head may have its own copy of the mistake, or none
    tried = [(distances(trial)[kind], number, trial) for number, trial in enumerate(_trials(a))]
    nearest, _, trial = min(tried, key=lambda one: one[:2])
    return [Cause(trial.name, (), trial.sentence)] if nearest < AGREES * before[kind] else []


def _trials(a: Checkpoint) -> Iterator[_Trial]:
    from bertconv.verify.reference import family_of

    config, family = a.values, family_of(a.family)
    for epsilon in _EPSILONS:
        if not math.isclose(epsilon, own := {**config, **family.settings}["layer_norm_eps"]):
            words = f"B computes layer normalisation with an epsilon of {epsilon:g}, A with {own:g}."
            yield _Trial("layer-norm epsilon", words, {"layer_norm_eps": epsilon})
    for name in _ACTIVATIONS:
        if name != config["hidden_act"]:
            words = f"B's activation is {name}, A's {config['hidden_act']}."
            yield _Trial("activation", words, {"hidden_act": name})
    yield from _MISTAKES
    if "token_type_ids" in a.table.inputs and config["type_vocab_size"] > 1:
        yield _Trial("token types swapped", "B counts the token types backwards.", change=_swap_types(config))
    for by in (1, 2):
        yield _Trial("positions shifted", f"B's positions are {by} too high.", {"position_shift": by})
    if family.is_decoder:
        causal = not config["is_decoder"]
        sentence = "B looks only backwards, A both ways." if causal else "B looks both ways, A only backwards."
        yield _Trial("causal mask", sentence, {"is_decoder": causal})
    yield from (_Trial(own.name, own.sentence, own.settings) for own in family.mistakes(config))


def _drop_input(name: str) -> Change:
    def change(_: State, inputs: dict[str, Any]) -> None:
        inputs.pop(name, None)

    return change


def _swap_types(config: Mapping[str, Any]) -> Change:
    def change(_: State, inputs: dict[str, Any]) -> None:
        inputs["token_type_ids"] = config["type_vocab_size"] - 1 - inputs["token_type_ids"]

    return change


def _swap_modules(one: str, other: str) -> Change:
    def change(state: State, _: dict[str, Any]) -> None:
        for place in list(state):
            *layer, module, role = place.split(".")
            if module == one:
                swapped = ".".join((*layer, other, role))
                state[place], state[swapped] = state[swapped], state[place]

    return change


def _transpose_square(state: State, _: dict[str, Any]) -> None:
    for place, value in state.items():
        if place.endswith(".weight") and value.ndim == 2 and value.shape[0] == value.shape[1]:
            state[place] = value.T.contiguous()


def _drop_biases(state: State, _: dict[str, Any]) -> None:
    state |= {place: value * 0 for place, value in state.items() if place.endswith((".bias", ".bias.value"))}


def _drop_decoder_bias(state: State, _: dict[str, Any]) -> None:
    state |= {place: value * 0 for place, value in state.items() if place in ("mlm.bias.value", "mlm.decoder.bias")}


_MISTAKES = (
    _Trial("missing mask", "B does not look at the attention mask.", change=_drop_input("attention_mask")),
    _Trial("missing token types", "B does not look at the token types.", change=_drop_input("token_type_ids")),
    _Trial("query and key swapped", "B uses queries as keys and keys as queries.",
           change=_swap_modules("query", "key")),
    _Trial("key and value swapped", "B uses keys as values and values as keys.", change=_swap_modules("key", "value")),
    _Trial("query and value swapped", "B uses queries as values and values as queries.",
           change=_swap_modules("query", "value")),
    _Trial("transposed kernel", "B's square kernels are transposed.", change=_transpose_square),
    _Trial("tied decoder", "B ties its decoder to the word embeddings, A has a decoder of its own.",
           {"tie_word_embeddings": True}),
    _Trial("dropped bias", "B leaves out the biases.", change=_drop_biases),
    _Trial("dropped decoder bias", "B leaves out the decoder's bias, or takes another one.", change=_drop_decoder_bias),
    _Trial("attention scale", "B does not divide attention scores by the root of the head's size.",
           {"score_power": 0.0}),
    _Trial("attention scale", "B divides attention scores by the root of the head's size twice.",
           {"score_power": -1.0}),
)  # fmt: skip
