"""Converted models with a fault planted in each: what a converter, a disk or a class may have got wrong."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

Arrays = dict[str, np.ndarray]
"""TensorFlow names below the model's own -> array, as they lie in the file."""

Change = Callable[[Arrays], None]


@dataclass(frozen=True)
class Fault:
    """A fault, and what `verify` should say of it.

    Attributes:
        name: of the test.
        place: the first module that differs.
        cause: the cause that is to be named; "" where none is listed.
        weights: changes the arrays of the file.
        config: keys of the config to change.
        plant: patches the running TensorFlow classes.
        head: model class.
        settings: config of the sound model.
    """

    name: str
    place: str
    cause: str = ""
    weights: Change | None = None
    config: dict[str, Any] | None = None
    plant: Callable[[pytest.MonkeyPatch], None] | None = None
    head: str = "BertForPreTraining"
    settings: dict[str, Any] | None = None


LAYER = "bert/encoder/layer_._{}/"
QUERY, KEY, VALUE = (f"attention/self/{name}/" for name in ("query", "key", "value"))
OUT, NORM = "attention/output/dense/", "attention/output/LayerNorm/"
WIDE, NARROW, LAST = "intermediate/dense/", "output/dense/", "output/LayerNorm/"
MODULES = {
    QUERY: "query", KEY: "key", VALUE: "value", OUT: "attention_out", NORM: "attention_norm", WIDE: "ffn_in",
    NARROW: "ffn_out", LAST: "ffn_norm",
}  # fmt: skip


def at(layer: int, name: str) -> str:
    return LAYER.format(layer) + name


def transposed(name: str) -> Change:
    def change(arrays: Arrays) -> None:
        arrays[name] = np.ascontiguousarray(arrays[name].T)

    return change


def swapped(one: str, other: str) -> Change:
    """Every array whose name begins with one of these takes the other's place."""

    def change(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.startswith(one)]:
            swapped = other + name.removeprefix(one)
            arrays[name], arrays[swapped] = arrays[swapped], arrays[name]

    return change


def copied(source: str, target: str) -> Change:
    def change(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.startswith(source)]:
            arrays[target + name.removeprefix(source)] = arrays[name].copy()

    return change


def altered(name: str, change_array: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(arrays: Arrays) -> None:
        found = np.ascontiguousarray(change_array(arrays[name].copy()))
        assert found.shape == arrays[name].shape
        assert not np.array_equal(found, arrays[name], equal_nan=True)
        arrays[name] = found

    return change


def flipped(bit: int, where: int = 3) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        flat = array.reshape(-1).view(np.uint32)
        flat[where % flat.size] ^= np.uint32(1 << bit)
        return array

    return change


def rounded(dtype: Any) -> Change:
    def change(arrays: Arrays) -> None:
        for name, array in arrays.items():
            arrays[name] = array.astype(dtype).astype(np.float32)

    return change


def with_one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[5] = value
        return array

    return change


def interleaved(kernel: np.ndarray) -> np.ndarray:
    """Heads in the inner part of the columns."""
    return kernel.reshape(35, 5, 7).swapaxes(1, 2).reshape(35, 35)


def rolled_layers(arrays: Arrays) -> None:
    """Every layer holds the one before it, the first the last: off by one."""
    last = {name: array for name, array in arrays.items() if name.startswith(at(2, ""))}
    for number in (2, 1):
        copied(at(number - 1, ""), at(number, ""))(arrays)
    for name, array in last.items():
        arrays[at(0, "") + name.removeprefix(at(2, ""))] = array


def weight_faults() -> Iterator[Fault]:
    """Faults in the file of weights."""
    for layer, module in ((0, QUERY), (1, KEY), (2, VALUE), (1, OUT)):
        yield Fault(
            f"layer {layer} {MODULES[module]} transposed", f"layer.{layer}.{MODULES[module]}", "transposed kernel",
            transposed(at(layer, f"{module}kernel")),
        )  # fmt: skip
    yield Fault("pooler transposed", "pooler.dense", "transposed kernel", transposed("bert/pooler/dense/kernel"))
    name = "mlm___cls/predictions/transform/dense/kernel"
    yield Fault("transform transposed", "mlm.dense", "transposed kernel", transposed(name))
    for layer, one, other in ((0, QUERY, KEY), (1, KEY, VALUE), (2, QUERY, VALUE)):
        cause = f"{MODULES[one]} and {MODULES[other]} swapped"
        yield Fault(cause, f"layer.{layer}.{MODULES[one]}", cause, swapped(at(layer, one), at(layer, other)))
    yield Fault("two layers swapped", "layer.0.query", "layers swapped", swapped(at(0, ""), at(2, "")))
    yield Fault("a layer duplicated", "layer.2.query", "layer duplicated", copied(at(1, ""), at(2, "")))
    yield Fault("layers off by one", "layer.0.query", "layer duplicated", rolled_layers)
    yield Fault("positions shifted", "embeddings.position", "rows shifted",
                altered("bert/embeddings/position_embeddings/embeddings", lambda one: np.roll(one, 1, 0)))  # fmt: skip
    yield Fault("token types swapped", "embeddings.segment", "rows in another order",
                altered("bert/embeddings/token_type_embeddings/embeddings", lambda one: one[::-1]))  # fmt: skip
    yield Fault("words shuffled", "embeddings.word", "rows in another order",
                altered("bert/embeddings/word_embeddings/weight", lambda one: one[np.argsort(one[:, 0])]))  # fmt: skip
    for layer, module in ((0, QUERY), (1, OUT), (2, WIDE), (0, NARROW)):
        yield Fault(
            f"bias of layer {layer} {MODULES[module]} dropped", f"layer.{layer}.{MODULES[module]}", "all zero",
            altered(at(layer, f"{module}bias"), np.zeros_like),
        )  # fmt: skip
    yield Fault("decoder bias dropped", "mlm.bias", "all zero", altered("mlm___cls/predictions/bias", np.zeros_like))
    norms = (
        ("bert/embeddings/LayerNorm/gamma", "embeddings.norm"),
        (at(1, f"{LAST}beta"), "layer.1.ffn_norm"),
        ("mlm___cls/predictions/transform/LayerNorm/gamma", "mlm.norm"),
    )
    for name, place in norms:
        yield Fault(f"{place} zero", place, "all zero", altered(name, np.zeros_like))
    bits = (("bert/embeddings/word_embeddings/weight", "embeddings.word", 0),
            (at(0, f"{KEY}bias"), "layer.0.key", 1), (at(1, f"{WIDE}kernel"), "layer.1.ffn_in", 31),
            (at(2, f"{NORM}gamma"), "layer.2.attention_norm", 22), ("bert/pooler/dense/bias", "pooler.dense", 0),
            ("nsp___cls/seq_relationship/kernel", "nsp.dense", 7))  # fmt: skip
    for name, place, bit in bits:
        yield Fault(f"bit {bit} of {place} flipped", place, "one bit flipped", altered(name, flipped(bit)))
    for dtype, word in ((ml_dtypes.bfloat16, "bfloat16"), (np.float16, "float16")):
        yield Fault(f"{word} called float32", "embeddings.word", f"rounded to {word}", rounded(dtype))
    for value in (np.nan, np.inf):
        yield Fault(f"{value} in a kernel", "layer.1.ffn_out", "not finite",
                    altered(at(1, f"{NARROW}kernel"), with_one(value)))  # fmt: skip
    yield Fault("heads interleaved", "layer.1.value", "heads interleaved",
                altered(at(1, f"{VALUE}kernel"), interleaved))  # fmt: skip
    yield Fault(
        "a kernel scaled",
        "layer.2.query",
        "scaled",
        altered(at(2, f"{QUERY}kernel"), lambda one: one * np.float32(0.37)),
    )
    yield Fault("a kernel scaled by little", "layer.2.ffn_in", "scaled",
                altered(at(2, f"{WIDE}kernel"), lambda one: one * np.float32(1 + 1e-6)))  # fmt: skip
    yield Fault("gamma and beta swapped", "layer.0.attention_norm", "values of another tensor",
                lambda arrays: arrays.update({at(0, f"{NORM}gamma"): arrays[at(0, f"{NORM}beta")],
                                              at(0, f"{NORM}beta"): arrays[at(0, f"{NORM}gamma")]}))  # fmt: skip


def config_faults() -> Iterator[Fault]:
    """The same weights under another config."""
    yield Fault("epsilon", "embeddings.norm", "layer-norm epsilon", config={"layer_norm_eps": 1e-5})
    for name in ("gelu_new", "relu"):
        yield Fault(f"{name} for gelu", "layer.0.activation", "activation", config={"hidden_act": name})
    yield Fault("number of heads", "layer.0.attention", "number of heads", config={"num_attention_heads": 7})
    yield Fault("encoder for decoder", "layer.0.attention", "causal mask", config={"is_decoder": False},
                head="BertLMHeadModel", settings={"is_decoder": True})  # fmt: skip
    yield Fault("decoder for encoder", "layer.0.attention", "causal mask", config={"is_decoder": True},
                head="BertLMHeadModel")  # fmt: skip


def plant(module: str, name: str, make: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Replace something of the TensorFlow classes by what `make` makes of it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib

        owner: Any = importlib.import_module(module.partition(":")[0])
        for part in module.partition(":")[2].split(".") if ":" in module else ():
            owner = getattr(owner, part)
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return patch


def class_faults() -> Iterator[Fault]:
    """Faults of the program: weights and config are right."""
    blocks, attention = "bertconv.models.blocks", "bertconv.models.attention"
    yield Fault("class: positions one too high", "embeddings.norm", "positions shifted",
                plant=plant(f"{blocks}:Embeddings", "_positions", _shifted_positions))  # fmt: skip
    yield Fault("class: no token types", "embeddings.norm", "missing token types",
                plant=plant(f"{blocks}:Embeddings", "call", _without("token_type_ids")))  # fmt: skip
    yield Fault("class: no mask", "layer.0.attention", "missing mask",
                plant=plant("bertconv.models.body", "mask_bias", lambda _: lambda *_a, **_k: None))  # fmt: skip
    yield Fault("class: no causal rule", "layer.0.attention", "causal mask",
                plant=plant("bertconv.models.body", "mask_bias", _not_causal), head="BertLMHeadModel",
                settings={"is_decoder": True})  # fmt: skip
    yield Fault("class: another epsilon", "embeddings.norm", "layer-norm epsilon",
                plant=plant("bertconv.models.layers:LayerNorm", "call", other_epsilon))  # fmt: skip
    for name in ("gelu_new", "gelu_fast", "silu"):
        yield Fault(f"class: {name} for gelu", "layer.0.activation", "activation",
                    plant=plant(blocks, "activation", lambda real, name=name: lambda _: real(name)))  # fmt: skip
    yield Fault("class: query and key swapped", "layer.0.attention", "query and key swapped",
                plant=plant(f"{attention}:SelfAttention", "call", _crossed),
                settings={"position_embedding_type": "relative_key"})  # fmt: skip
    yield Fault("class: scores not scaled", "layer.0.attention", "attention scale",
                plant=plant(attention, "math", lambda _: SimpleNamespace(sqrt=lambda _: 1.0)))  # fmt: skip
    yield Fault("class: no residual", "layer.0.attention_norm", "",
                plant=plant(f"{blocks}:Residual", "call", _no_residual))  # fmt: skip
    yield Fault("class: dropout stays on", "embeddings", "",
                plant=plant("bertconv.models.layers:Dropout", "call", _always_training),
                settings={"hidden_dropout_prob": 0.1})  # fmt: skip
    yield Fault("class: pooler looks at the last token", "pooler.dense", "",
                plant=plant(f"{blocks}:Pooler", "call", _from_the_end))  # fmt: skip


def _no_residual(real: Any) -> Any:
    return lambda self, x, residual, **_: real(self, x, 0 * residual)


def _from_the_end(real: Any) -> Any:
    return lambda self, hidden: real(self, hidden[:, ::-1])


def _always_training(real: Any) -> Any:
    return lambda self, x, **_: real(self, x, training=True)


def _shifted_positions(_: Any) -> Any:
    def positions(self: Any, found: Any, *_: Any) -> Any:
        import tensorflow as tf

        table = self.position_embeddings
        rows = tf.minimum(tf.range(found.shape[1]) + 1, table.rows - 1)
        return tf.gather(table.table.value, rows)[None]

    return positions


def _without(name: str) -> Callable[[Any], Any]:
    def make(real: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(real).bind(self, *args, **kwargs)
            bound.arguments[name] = None
            return real(*bound.args, **bound.kwargs)

        return call

    return make


def _not_causal(real: Any) -> Any:
    def mask_bias(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(real).bind(*args, **kwargs)
        bound.arguments["causal"] = False
        return real(*bound.args, **bound.kwargs)

    return mask_bias


def other_epsilon(real: Any) -> Any:
    def call(self: Any, x: Any) -> Any:
        given = self.epsilon
        self.epsilon = 1e-5
        try:
            return real(self, x)
        finally:
            self.epsilon = given

    return call


def _crossed(real: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        query, key = self.query, self.key
        object.__setattr__(self, "query", key)
        object.__setattr__(self, "key", query)
        try:
            return real(self, *args, **kwargs)
        finally:
            object.__setattr__(self, "query", query)
            object.__setattr__(self, "key", key)

    return call


# The file


def arrays_of(path: Path) -> Arrays:
    found: Arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda _, one: found.update({_short(one.name): one[...]}) if isinstance(one, h5py.Dataset) else None
        )
    return found


def _short(name: str) -> str:
    """Without the group and the model's own name: `/bert/tf_bert_model/bert/pooler/...:0` as `bert/pooler/...`."""
    return name.removesuffix(":0").split("/", 3)[3]


def write_arrays(path: Path, arrays: Arrays) -> None:
    def write(_: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            one[...] = arrays[_short(one.name)]

    with h5py.File(path, "r+") as file:
        file.visititems(write)


@contextmanager
def faulty(fault: Fault, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plant a fault in a converted model."""
    with monkeypatch.context() as patch:
        if fault.weights is not None:
            arrays = arrays_of(folder / "tf_model.h5")
            fault.weights(arrays)
            write_arrays(folder / "tf_model.h5", arrays)
        if fault.config is not None:
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_bytes()), **fault.config}))
        if fault.plant is not None:
            fault.plant(patch)
        yield
