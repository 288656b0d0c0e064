"""Known mistakes that turn A's function into B's: tried one by one on the reference, named when the numbers agree."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bertconv.verify.cases import Batch
from bertconv.verify.outputs import SAME_FUNCTION, Runner, Truth, error_of
from bertconv.verify.parity import Cause
from bertconv.verify.places import HIDDEN, OUTPUT, placed
from bertconv.verify.sides import Side

AGREES = 1e-3
"""A mistake explains B when it brings A this many times nearer to it."""

_EPSILONS = (1e-12, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8)
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "silu", "tanh", "linear")

State = dict[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class _Trial:
    """A mistake: what it is called, and how it changes weights, config and inputs."""

    cause: Cause
    change: Callable[[State, Values, dict[str, Any]], None]


def output_causes(a: Side, b: Runner, batch: Batch) -> list[Cause]:
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
    state = {
        a.torch_names[place]: torch.from_numpy(tensor.whole("float64").copy()) for place, tensor in a.tensors.items()
    }
    inputs = {name: torch.from_numpy(value) for name, value in batch.inputs.items()}

    def distances(change: Callable[[State, Values, dict[str, Any]], None]) -> dict[str, float]:
        """The distance from B of the hidden states together and of the outputs together."""
        weights, values, given = dict(state), a.values, dict(inputs)
        change(weights, values, given)
        with torch.inference_mode():
            outputs = Reference(weights, values, a.head)(given)
        found = {place.name: value.numpy() for place, value in placed(outputs)}
        worst = {HIDDEN: 0.0, OUTPUT: 0.0}
        for name, place in seen.places.items():
            if name in found and place.kind in worst:
                worst[place.kind] = max(worst[place.kind], error_of(found[name], seen.values[0, name]).rms)
        return worst

    before = distances(lambda *_: None)
    kind = HIDDEN if before[HIDDEN] > SAME_FUNCTION else OUTPUT  # a head may have its own copy of the mistake, or none
    tried = [(distances(trial.change)[kind], number, trial.cause) for number, trial in enumerate(_trials(a))]
    nearest, _, cause = min(tried)
    return [cause] if nearest < AGREES * before[kind] else []


def _trials(a: Side) -> Iterator[_Trial]:
    config = a.values
    for epsilon in _EPSILONS:
        if not math.isclose(epsilon, config["layer_norm_eps"]):
            words = (
                f"B computes layer normalisation with an epsilon of {epsilon:g}, A with {config['layer_norm_eps']:g}."
            )
            yield _Trial(Cause("layer-norm epsilon", (), words), _set_value("layer_norm_eps", epsilon))
    for name in _ACTIVATIONS:
        if name != config["hidden_act"]:
            words = f"B's activation is {name}, A's {config['hidden_act']}."
            yield _Trial(Cause("activation", (), words), _set_value("hidden_act", name))
    for name, sentence, change in _MISTAKES:
        yield _Trial(Cause(name, (), sentence), change)
    if config["type_vocab_size"] > 1:
        yield _Trial(Cause("token types swapped", (), "B counts the token types backwards."), _swap_types(config))
    for by in (1, 2):
        sentence = f"B's positions are {by} too high."
        yield _Trial(Cause("positions shifted", (), sentence), _shift_positions(by, config["max_position_embeddings"]))
    causal = not config["is_decoder"]
    sentence = "B looks only backwards, A both ways." if causal else "B looks both ways, A only backwards."
    yield _Trial(Cause("causal mask", (), sentence), _set_value("is_decoder", causal))
    scale = math.sqrt(config["hidden_size"] / config["num_attention_heads"])
    yield _Trial(Cause("attention scale", (), "B does not divide attention scores by the root of the head's size."),
                 _scale_queries(scale))  # fmt: skip


def _set_value(key: str, value: Any) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        values[key] = value

    return change


def _drop_input(name: str) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        inputs.pop(name, None)

    return change


def _swap_types(config: Mapping[str, Any]) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        inputs["token_type_ids"] = config["type_vocab_size"] - 1 - inputs["token_type_ids"]

    return change


def _shift_positions(by: int, count: int) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        import torch

        places = torch.arange(by, by + inputs["input_ids"].shape[-1])
        inputs["position_ids"] = places.clamp(max=count - 1).expand_as(inputs["input_ids"])

    return change


def _scale_queries(by: float) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        state |= {name: value * by for name, value in state.items() if ".self.query." in name}

    return change


def _swap_modules(one: str, other: str) -> Callable[[State, Values, dict[str, Any]], None]:
    def change(state: State, values: Values, inputs: dict[str, Any]) -> None:
        for name in [name for name in state if f".attention.self.{one}." in name]:
            twin = name.replace(f".{one}.", f".{other}.")
            state[name], state[twin] = state[twin], state[name]

    return change


def _transpose_square(state: State, values: Values, inputs: dict[str, Any]) -> None:
    for name, value in state.items():
        if name.endswith(".weight") and value.ndim == 2 and value.shape[0] == value.shape[1]:
            state[name] = value.T.contiguous()


def _tie(state: State, values: Values, inputs: dict[str, Any]) -> None:
    values["tie_word_embeddings"] = True


def _drop_biases(state: State, values: Values, inputs: dict[str, Any]) -> None:
    state |= {name: value * 0 for name, value in state.items() if name.endswith("bias") and "LayerNorm" not in name}


_MISTAKES: tuple[tuple[str, str, Callable[[State, Values, dict[str, Any]], None]], ...] = (
    ("missing mask", "B does not look at the attention mask.", _drop_input("attention_mask")),
    ("missing token types", "B does not look at the token types.", _drop_input("token_type_ids")),
    ("query and key swapped", "B uses queries as keys and keys as queries.", _swap_modules("query", "key")),
    ("key and value swapped", "B uses keys as values and values as keys.", _swap_modules("key", "value")),
    ("query and value swapped", "B uses queries as values and values as queries.", _swap_modules("query", "value")),
    ("transposed kernel", "B's square kernels are transposed.", _transpose_square),
    ("tied decoder", "B ties its decoder to the word embeddings, A has a decoder of its own.", _tie),
    ("dropped bias", "B leaves out the biases.", _drop_biases),
)
