"""Faults planted in checkpoints of every family but BERT, in files and in the programs that run them.

BERT's are in `planted.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import reference_models as rm
from planted import (
    Arrays,
    Change,
    altered,
    copied,
    flipped,
    other_epsilon,
    plant,
    rounded,
    swapped,
    transposed,
    with_one,
)
from safetensors.numpy import load_file, save_file

from bertconv import tasks
from bertconv.families import family_of as registered
from bertconv.verify.reference import Reference, family_of
from bertconv.verify.torch_runner import TorchRunner

KINDS = tuple(kind for kind in rm.MODELS if kind not in ("bert", *rm.TWINS))
"""Model types; of those that share a table one."""


@dataclass(frozen=True)
class Fault:
    """A fault of one family, and what `verify` should say of it; attributes as those of `planted.Fault`.

    Attributes:
        kind: the model_type.
        mistakes: settings under which the reference runs B's side.
        plant: patches the TensorFlow classes, which then run B's side, converted.
        settings: changes of the sound model's config.
    """

    kind: str
    name: str
    place: str
    cause: str
    weights: Change | None = None
    config: dict[str, Any] | None = None
    mistakes: dict[str, Any] | None = None
    plant: Callable[[pytest.MonkeyPatch], None] | None = None
    task: str = tasks.MASKED_LM
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.name}"


class _Names:
    """Full PyTorch names of one family's tensors, and the neutral ids of their modules."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.family = family_of(rm.family_of(kind))
        self.is_shared = len(self._numbers(0)) > 1

    def _numbers(self, layer: int) -> tuple[int, ...]:
        return (0, layer) if self.family.names["layer"].count("{}") > 1 else (layer,)

    def layer(self, number: int, role: str, leaf: str = "") -> str:
        return f"{self.family.place(f'layer.{role}', self._numbers(number))}.{leaf}"

    def whole(self, number: int) -> str:
        return f"{self.family.base}.{self.family.layer_place(self._numbers(number))}."

    def place(self, number: int, role: str) -> str:
        return ".".join(("layer", *map(str, self._numbers(number)), role))

    def module(self, role: str) -> str:
        return self.family.place(role)


def interleaved(weight: np.ndarray) -> np.ndarray:
    """Heads in the inner part of the rows."""
    return weight.reshape(5, 7, 35).swapaxes(0, 1).reshape(35, 35)


def weight_faults(kind: str) -> Iterator[Fault]:
    """Faults in the file of weights, of every family."""
    own = _Names(kind)
    word, position = own.module("word"), own.module("position")

    def fault(name: str, place: str, cause: str, change: Change) -> Fault:
        return Fault(kind, name, place, cause, change)

    for number, role in ((0, "query"), (1, "attention_out")):
        change = transposed(own.layer(number, role, "weight"))
        yield fault(f"{role} transposed", own.place(number, role), "transposed kernel", change)
    for number, one, other in ((0, "query", "key"), (1, "key", "value"), (2, "query", "value")):
        cause, change = f"{one} and {other} swapped", swapped(own.layer(number, one), own.layer(number, other))
        yield fault(cause, own.place(number, one), cause, change)
    yield fault("layers swapped", own.place(0, "query"), "layers swapped", swapped(own.whole(0), own.whole(2)))
    yield fault("layer duplicated", own.place(2, "query"), "layer duplicated", copied(own.whole(1), own.whole(2)))
    yield fault("positions shifted", "embeddings.position", "rows shifted",
                altered(f"{position}.weight", lambda one: np.roll(one, 1, 0)))  # fmt: skip
    yield fault("words shuffled", "embeddings.word", "rows in another order",
                altered(f"{word}.weight", lambda one: one[np.argsort(one[:, 0])]))  # fmt: skip
    yield fault("bias dropped", own.place(2, "ffn_in"), "all zero",
                altered(own.layer(2, "ffn_in", "bias"), np.zeros_like))  # fmt: skip
    yield fault("norm zero", "embeddings.norm", "all zero", altered(f"{own.module('norm')}.weight", np.zeros_like))
    yield fault("bit flipped", own.place(1, "ffn_out"), "one bit flipped",
                altered(own.layer(1, "ffn_out", "weight"), flipped(31)))  # fmt: skip
    yield fault("bfloat16 called float32", "embeddings.word", "rounded to bfloat16", rounded(ml_dtypes.bfloat16))
    yield fault("nan", own.place(1, "ffn_out"), "not finite",
                altered(own.layer(1, "ffn_out", "weight"), with_one(np.nan)))  # fmt: skip
    yield fault("heads interleaved", own.place(1, "value"), "heads interleaved",
                altered(own.layer(1, "value", "weight"), interleaved))  # fmt: skip
    yield fault("scaled", own.place(2, "key"), "scaled",
                altered(own.layer(2, "key", "weight"), lambda one: one * np.float32(0.37)))  # fmt: skip
    yield from _own_weights(kind, own, fault)


def _own_weights(kind: str, own: _Names, fault: Callable[..., Fault]) -> Iterator[Fault]:
    """Faults in what not every family has."""
    if "segment" in own.family.names:
        yield fault("token types swapped", "embeddings.segment", "rows in another order",
                    altered(f"{own.module('segment')}.weight", lambda one: one[::-1]))  # fmt: skip
    if "project" in own.family.names:
        yield fault("projection scaled", "project.dense", "scaled",
                    altered(f"{own.module('project')}.weight", lambda one: one * np.float32(0.5)))  # fmt: skip
    if "relative" in own.family.names:
        yield fault("buckets shifted", "relative.bias", "rows shifted",
                    altered(f"{own.module('relative')}.weight", lambda one: np.roll(one, 1, 0)))  # fmt: skip
        yield fault("directions swapped", "relative.bias", "rows in another order",
                    altered(f"{own.module('relative')}.weight", lambda one: np.roll(one, 16, 0)))  # fmt: skip
    bias = {"electra": "generator_lm_head.bias", "distilbert": "vocab_projector.bias", "albert": "predictions.bias"}
    yield fault(
        "decoder bias dropped", "mlm.decoder", "all zero", altered(bias.get(kind, "lm_head.bias"), np.zeros_like)
    )


def config_faults(kind: str) -> Iterator[Fault]:
    """The same weights under another config."""
    own = _Names(kind)
    yield Fault(kind, "config: relu", own.place(0, "activation"), "activation", config={"hidden_act": "relu"})
    if kind != "mpnet":  # whose relative positions have a number for each head
        heads = {"num_attention_heads": 7}
        yield Fault(kind, "config: heads", own.place(0, "attention"), "number of heads", config=heads)
    if kind != "distilbert":
        yield Fault(kind, "config: epsilon", "embeddings.norm", "layer-norm epsilon", config={"layer_norm_eps": 1e-5})
    if own.family.is_decoder:
        yield Fault(kind, "config: causal", own.place(0, "attention"), "causal mask", config={"is_decoder": True})
    if kind == "roberta":
        yield Fault(kind, "config: pad id", "embeddings.position", "position offset", config={"pad_token_id": 0})
    if kind == "electra":
        changed = {"summary_activation": "tanh"}
        yield Fault(kind, "config: summary", "choice.dense", "activation of the head", config=changed,
                    task=tasks.MULTIPLE_CHOICE)  # fmt: skip
    if kind == "albert":
        layers = {"num_hidden_layers": 4}
        yield Fault(kind, "config: layers", "config", "number of layers", config=layers)


def program_faults(kind: str) -> Iterator[Fault]:
    """Faults of the program: weights and config are right."""
    own = _Names(kind)

    def fault(name: str, place: str, cause: str, **mistakes: Any) -> Fault:
        return Fault(kind, f"program: {name}", place, cause, mistakes=mistakes)

    yield fault("epsilon", "embeddings.norm", "layer-norm epsilon", layer_norm_eps=1e-5)
    yield fault("activation", own.place(0, "activation"), "activation", hidden_act="gelu_new")
    yield fault("positions too high", "embeddings.position", "positions shifted", position_shift=1)
    for power, words in ((0.0, "not scaled"), (-1.0, "scaled twice")):
        yield fault(f"scores {words}", own.place(0, "attention"), "attention scale", score_power=power)
    if rm.has_positions_from_ids(kind):
        yield fault("positions from 0", "embeddings.position", "position offset", positions="absolute")
        yield fault("positions from the pad id", "embeddings.position", "position offset", position_shift=-1)
        yield Fault(kind, "program: head's activation", "mlm.activation", "activation of the head",
                    mistakes={"lm_head_act": "silu"}, settings={"hidden_act": "silu"})  # fmt: skip
    if kind == "mpnet":
        yield fault("buckets turned", "relative.bias", "relative positions turned", relative_turned=True)
        yield fault("farthest distance", "relative.bias", "relative buckets", farthest=64)
    if kind == "electra":
        yield Fault(kind, "program: head's activation", "mlm.activation", "activation of the head",
                    mistakes={"lm_head_act": "silu"}, settings={"hidden_act": "silu"})  # fmt: skip
    if kind == "albert":
        yield fault("groups in turn", "layer.0.0.query #2", "groups in turn", groups_in_turn=True)
        yield fault("inner layers backwards", "layer.0.0.query", "inner layers backwards", inner_backwards=True)
        yield fault("one group", "layer.3.0.attentions", "one group", num_hidden_groups=1)
        yield Fault(kind, "program: no projection", "embeddings", "missing projection",
                    mistakes={"projects": False}, settings={"embedding_size": 35})  # fmt: skip


def class_faults(kind: str) -> Iterator[Fault]:
    """Faults of the TensorFlow classes."""
    blocks, own = "bertconv.models.blocks", _Names(kind)

    def fault(name: str, place: str, cause: str, *planted: Any) -> Fault:
        return Fault(kind, f"class: {name}", place, cause, plant=plant(*planted))

    attention = own.place(0, "attention")
    wide = f"bertconv.models.families.{kind}" if kind in ("distilbert", "albert") else blocks  # where it is asked for
    yield fault("no mask", attention, "missing mask", "bertconv.models.body", "mask_bias", _no_mask)
    yield fault("epsilon", "embeddings.norm", "layer-norm epsilon", "bertconv.models.layers:LayerNorm", "call",
                other_epsilon)  # fmt: skip
    yield fault("activation", own.place(0, "activation"), "activation", wide, "activation", _other_activation)
    if rm.has_positions_from_ids(kind):
        yield fault("positions from 0", "embeddings.norm", "position offset", f"{blocks}:Embeddings", "_positions",
                    _from_zero)  # fmt: skip


def _no_mask(_: Any) -> Any:
    return lambda *_a, **_k: None


def _other_activation(real: Any) -> Any:
    return lambda _: real("gelu_new")


def _from_zero(real: Any) -> Any:
    def positions(self: Any, *args: Any) -> Any:
        first, self.first_position = self.first_position, 0
        try:
            return real(self, *args)
        finally:
            self.first_position = first

    return positions


FAULTS = [
    fault
    for kind in KINDS
    for make in (weight_faults, config_faults, program_faults, class_faults)
    for fault in make(kind)
]  # fmt: skip


@contextmanager
def faulty(fault: Fault, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plant a fault in a copy of a sound model."""
    path = folder / "model.safetensors"
    with monkeypatch.context() as patch:
        if fault.weights is not None:
            arrays: Arrays = load_file(path)
            fault.weights(arrays)
            save_file(arrays, path, {"format": "pt"})
        if fault.config is not None:
            spelled = registered(fault.kind).schema.respelled(fault.config)
            config = folder / "config.json"
            config.write_text(json.dumps({**json.loads(config.read_bytes()), **spelled}))
        if fault.mistakes is not None:
            patch.setattr(TorchRunner, "_models", _mistaken(TorchRunner._models, folder, fault.mistakes))
        if fault.plant is not None:
            fault.plant(patch)
        yield


def _mistaken(real: Any, folder: Path, mistakes: dict[str, Any]) -> Any:
    """Runs the side in this folder with mistakes, and the other one as it is."""

    def models(self: TorchRunner, dtype: str) -> Any:
        if self.side.source.folder != folder:
            return real(self, dtype)
        state, side = self._state(dtype), self.side
        return tuple(
            Reference(state, side.values, task, side.family, mistakes) for task in (side.task, tasks.BASE)
        )  # fmt: skip

    return models
