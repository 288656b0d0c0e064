"""Outputs: attribute, key, index and tuple agree however they were set; Keras and TensorFlow take them for trees."""

from __future__ import annotations

import copy
import pickle
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import optree
import pytest
import tensorflow as tf
import transformers.modeling_outputs as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CACHE
from transformers.models.albert.modeling_albert import AlbertForPreTrainingOutput
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.models.electra.modeling_electra import ElectraForPreTrainingOutput
from warm_python import KERAS, WarmPython

from bertconv.models import outputs

CLASSES = [found for found in vars(outputs).values() if isinstance(found, type) and found.__name__.startswith("TF")]
EACH = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

OF_ONE_FAMILY = {
    cls.__name__: cls for cls in (AlbertForPreTrainingOutput, BertForPreTrainingOutput, ElectraForPreTrainingOutput)
}
"""Classes of PyTorch that stand beside a family's models."""

Causal = outputs.TFCausalLMOutputWithCrossAttentions
Masked = outputs.TFMaskedLMOutput


def names(cls: type[outputs.ModelOutput]) -> list[str]:
    return [field.name for field in fields(cls)]


def torch_class(cls: type[outputs.ModelOutput]) -> type:
    name = cls.__name__.removeprefix("TF")
    return OF_ONE_FAMILY.get(name) or getattr(theirs, name)


def torch_names(cls: type[outputs.ModelOutput]) -> list[str]:
    """PyTorch's fields, the cache under the name that it had before transformers 5.24."""
    return ["past_key_values" if field.name == CACHE else field.name for field in fields(torch_class(cls))]


def assert_holds(out: outputs.ModelOutput, expected: dict[str, Any]) -> None:
    """`expected` in the order of the fields, None left out, from every side."""
    assert list(out) == list(out.keys()) == list(expected)
    assert list(out.items()) == list(expected.items())
    assert list(out.values()) == list(out.to_tuple()) == list(expected.values())
    assert {**out} == dict(out) == expected
    assert len(out) == len(expected)
    for name in names(type(out)):
        assert getattr(out, name) == expected.get(name)
        assert (name in out) == (name in expected)
        assert out.get(name, "lacks") == expected.get(name, "lacks")
    for place, (name, value) in enumerate(expected.items()):
        assert out[place] == out[place - len(expected)] == out[name] == value
    assert out[1:] == tuple(expected.values())[1:]
    assert out[::-1] == tuple(expected.values())[::-1]


# Classes and their fields


def test_eleven_classes() -> None:
    assert len(CLASSES) == 11


@EACH
def test_fields_are_those_of_pytorch(cls: type[outputs.ModelOutput]) -> None:
    assert sorted(names(cls)) == sorted(torch_names(cls))
    assert is_dataclass(cls)
    assert issubclass(cls, dict)
    assert_holds(cls(), {})


# Making one

BY = {
    "keyword": lambda cls, values: cls(**values),
    "mapping": lambda cls, values: cls(values),
    "proxy": lambda cls, values: cls(MappingProxyType(values)),
    "other output": lambda cls, values: cls(cls(**values)),
    "UserDict": lambda cls, values: cls(UserDict(values)),
    "pairs": lambda cls, values: cls(list(values.items())),
    "tuple of lists": lambda cls, values: cls(tuple(map(list, values.items()))),
    "items": lambda cls, values: cls(values.items()),
    "generator": lambda cls, values: cls((name, value) for name, value in values.items()),
    "update": lambda cls, values: made(cls, lambda out: out.update(values)),
    "update by keyword": lambda cls, values: made(cls, lambda out: out.update(**values)),
    "or": lambda cls, values: made(cls, lambda out: out.__ior__(values)),
    "setdefault": lambda cls, values: made(cls, lambda out: [out.setdefault(*pair) for pair in values.items()]),
    "attribute": lambda cls, values: made(cls, lambda out: [setattr(out, *pair) for pair in values.items()]),
    "key": lambda cls, values: made(cls, lambda out: [out.__setitem__(*pair) for pair in values.items()]),
    "position": lambda cls, values: cls(*map(values.get, names(cls))),
    "copy": lambda cls, values: cls(**values).copy(),
    "copy.copy": lambda cls, values: copy.copy(cls(**values)),
    "deepcopy": lambda cls, values: copy.deepcopy(cls(**values)),
    "pickle 0": lambda cls, values: pickle.loads(pickle.dumps(cls(**values), 0)),
    "pickle 2": lambda cls, values: pickle.loads(pickle.dumps(cls(**values), 2)),
    "pickle": lambda cls, values: pickle.loads(pickle.dumps(cls(**values))),
    "replace": lambda cls, values: replace(cls(*range(4)), **dict.fromkeys(names(cls)) | values),
}  # fmt: skip


def made(cls: type[outputs.ModelOutput], fill: Callable[[Any], object]) -> outputs.ModelOutput:
    out = cls()
    fill(out)
    return out


@given(data=st.data())
@settings(deadline=None)
@pytest.mark.parametrize("by", BY)
def test_made_in_every_way(by: str, data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(CLASSES))
    order = data.draw(st.permutations(names(cls)))
    count = data.draw(st.integers(0, len(order)))
    values = {name: f"value of {name}" for name in order[:count]}
    out = BY[by](cls, values)
    assert type(out) is cls
    assert_holds(out, {name: values[name] for name in names(cls) if name in values})


@pytest.mark.parametrize(
    "value", [np.zeros(3), tf.zeros(2), 5.0, "text", ("ab", "cd"), [np.zeros(2)], ((1, 2), (3, 4)), object()]
)
def test_first_field_alone_is_not_taken_for_pairs(value: Any) -> None:
    for out in (Masked(value), Masked(loss=value), Masked(None, None), Masked()):
        assert out.loss is (value if out else None)
    assert Masked(value)[0] is value


def test_pairs_beside_other_fields_are_a_value() -> None:
    pairs = [("logits", 1)]
    assert_holds(Masked(pairs, 3), {"loss": pairs, "logits": 3})


def test_order_of_the_fields() -> None:
    """TensorFlow's cache stood before the hidden states, PyTorch's stands behind them."""
    cached = outputs.TFBaseModelOutputWithPoolingAndCrossAttentions, Causal
    assert [names(cls)[2] for cls in cached] == ["past_key_values"] * 2
    assert [cls.__name__ for cls in CLASSES if names(cls) != torch_names(cls)] == [cached[0].__name__]


def test_like_the_classes_of_pytorch() -> None:
    values = {"loss": np.zeros(1), "logits": np.ones((2, 3))}
    for given_ in (values, list(values.items())):
        our, their = Masked(given_), theirs.MaskedLMOutput(given_)
        assert list(our) == list(their)
        assert all(left is right for left, right in zip(our.to_tuple(), their.to_tuple(), strict=True))


# Changing one


@given(data=st.data())
@settings(deadline=None)
def test_both_views_stay_in_step(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(CLASSES))
    fields_ = st.sampled_from(names(cls))
    values = st.none() | st.integers(1, 99)
    held: dict[str, Any] = {names(cls)[1]: 7}
    out = cls(**held)
    for name, value, by_key in data.draw(st.lists(st.tuples(fields_, values, st.booleans()), max_size=12)):
        if by_key:
            out[name] = value
        else:
            setattr(out, name, value)
        held[name] = value
        expected = {key: held[key] for key in names(cls) if held.get(key) is not None}
        assert_holds(out, expected)
        assert_holds(copy.deepcopy(out), expected)
        assert_holds(pickle.loads(pickle.dumps(out)), expected)
        out = data.draw(st.sampled_from((out, copy.copy(out), keras.tree.map_structure(lambda leaf: leaf, out))))


def test_keys_can_be_set_while_they_are_gone_through() -> None:
    out = Masked(loss=1, hidden_states=2)
    for name in out:
        out[name] *= 10
    assert_holds(out, {"loss": 10, "hidden_states": 20})


def test_copies_share_or_do_not() -> None:
    out = Masked(logits=np.zeros(2), hidden_states=(np.ones(3),))
    assert out.copy().logits is out.logits
    deep = copy.deepcopy(out)
    assert deep.logits is not out.logits
    assert deep.logits is deep["logits"]
    loaded = pickle.loads(pickle.dumps(out))
    assert loaded.hidden_states[0] is loaded["hidden_states"][0]


REFUSALS = {
    "del key": lambda out: out.__delitem__("logits"),
    "del attribute": lambda out: delattr(out, "logits"),
    "pop": lambda out: out.pop("logits"),
    "popitem": lambda out: out.popitem(),
    "clear": lambda out: out.clear(),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_deleting_is_refused(how: str) -> None:
    out = Masked(logits=3)
    with pytest.raises(TypeError, match="TFMaskedLMOutput cannot be deleted; set it to None"):
        REFUSALS[how](out)
    assert_holds(out, {"logits": 3})


def test_unknown_fields() -> None:
    out = Masked(logits=3)
    with pytest.raises(KeyError, match="TFMaskedLMOutput has no field 'logit', only loss, logits, hidden_states"):
        out["logit"] = 4
    with pytest.raises(KeyError, match="has no field 'logit', only loss"):
        out["logit"]
    with pytest.raises(KeyError, match=r"TFMaskedLMOutput.loss is None, so it is no key"):
        out["loss"]
    with pytest.raises(KeyError, match="has no field 'logit', only loss"):
        Masked({"logit": 4})
    with pytest.raises(KeyError, match="has no field 'logit', only loss"):
        out |= {"logit": 4}
    with pytest.raises(AttributeError, match="has no field 'logit', only loss"):
        out.logit = 4
    with pytest.raises(AttributeError, match="logit"):
        _ = out.logit
    with pytest.raises(TypeError, match="logit"):
        Masked(logit=4)
    with pytest.raises(IndexError):
        out[1]
    assert_holds(out, {"logits": 3})


# Trees


class Tiny(keras.Model):
    """[batch 3] to an output with every kind of nesting that BERT's have."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dense = keras.layers.Dense(5)

    def call(self, x: Any) -> outputs.ModelOutput:
        y = self.dense(x)
        return Causal(hidden_states=(x, y), past_key_values=((y, y + 1), (y + 2, y + 3)), logits=2 * y)


class Doubled(keras.layers.Layer):
    """A layer that takes an output."""

    def call(self, out: Any) -> Any:
        return 2 * out.logits


X = np.random.default_rng(11).normal(size=(7, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> Tiny:
    return Tiny(name="tiny")


def assert_tree(out: Any, x: Any, model: Tiny, kind: type = tf.Tensor) -> None:
    """That `out` is what the model's formula gives for `x`: class, nesting, kinds and values."""
    y = x @ model.dense.kernel.numpy() + model.dense.bias.numpy()
    assert type(out) is Causal
    assert list(out) == ["logits", "past_key_values", "hidden_states"]
    assert out.loss is out.attentions is None
    assert [type(part) for part in (out.past_key_values, *out.past_key_values, out.hidden_states)] == [tuple] * 4
    expected = [2 * y, y, y + 1, y + 2, y + 3, x, y]
    for leaf, value in zip(keras.tree.flatten(out), expected, strict=True):
        assert isinstance(leaf, kind)
        np.testing.assert_allclose(leaf, value, rtol=1e-5, atol=1e-6)


def test_predict(model: Tiny) -> None:
    assert_tree(model.predict(X, batch_size=3, verbose=0), X, model, np.ndarray)
    assert_tree(model.predict_on_batch(X), X, model, np.ndarray)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("length", [None, 7])
def test_function_returns(model: Tiny, jit: bool, length: int | None) -> None:
    function = tf.function(model, jit_compile=jit, input_signature=[tf.TensorSpec([length, 3])])
    assert_tree(function(X), X, model)


def test_function_takes_one(model: Tiny) -> None:
    @tf.function
    def same(out: Any) -> Any:
        return Causal(out)

    assert_tree(same(model(X)), X, model)
    same(model(X + 1))
    assert same.experimental_get_tracing_count() == 1


def test_functional_model(model: Tiny) -> None:
    x = keras.Input((3,))
    out = model(x)
    assert type(out) is Causal
    assert out.past_key_values[1][1].shape == (None, 5)
    functional = keras.Model(x, out)
    assert_tree(functional(X), X, model)
    assert_tree(functional.predict(X, batch_size=2, verbose=0), X, model, np.ndarray)
    doubled = keras.Model(x, Doubled()(out))
    np.testing.assert_allclose(doubled.predict(X, verbose=0), 2 * model(X).logits, rtol=1e-5)
    one = keras.Model(x, out.hidden_states[-1] + out["logits"])
    np.testing.assert_allclose(one(X), model(X).hidden_states[-1] * 3, rtol=1e-5)


@pytest.mark.parametrize("map_structure", [tf.nest.map_structure, keras.tree.map_structure])
def test_maps(model: Tiny, map_structure: Callable[..., Any]) -> None:
    out = model(X)
    assert_tree(map_structure(lambda leaf: leaf.numpy(), out), X, model, np.ndarray)
    assert_tree(
        map_structure(lambda left, right: left - right, map_structure(lambda leaf: 2 * leaf, out), out), X, model
    )
    nothing = map_structure(lambda _: None, out)
    assert list(nothing) == list(out), "a tree whose leaves become None keeps its shape"
    assert nothing.past_key_values == ((None, None), (None, None))
    tf.nest.assert_same_structure(nothing, out)
    assert nothing.copy() == nothing
    assert nothing.to_tuple() == (((None, None), (None, None)), (None, None))
    nothing.logits = None
    assert "logits" not in nothing


def test_paths_and_packing(model: Tiny) -> None:
    out = model(X)
    paths = [path for path, _ in keras.tree.flatten_with_path(out)]
    assert paths[:2] == [("logits",), ("past_key_values", 0, 0)]
    assert_tree(keras.tree.pack_sequence_as(out, keras.tree.flatten(out)), X, model)
    assert_tree(tf.nest.pack_sequence_as(out, tf.nest.flatten(out)), X, model)
    assert optree.tree_structure(out, namespace="keras") == optree.tree_structure(model(X + 1), namespace="keras")
    assert optree.tree_structure(out, namespace="keras") != optree.tree_structure(Causal(logits=1), namespace="keras")


def test_while_loop(model: Tiny) -> None:
    @tf.function
    def looped(out: Any) -> Any:
        step = lambda i, held: (i + 1, tf.nest.map_structure(lambda leaf: leaf * 2, held))  # noqa: E731
        return tf.while_loop(lambda i, _: i < 3, step, (0, out))[1]

    for out in (looped(model(X)), tf.while_loop(lambda _: False, lambda out: (out,), (model(X),))[0]):
        scale = out.logits[0, 0] / model(X).logits[0, 0]
        assert float(scale) in (1, 8)
        assert_tree(tf.nest.map_structure(lambda leaf, scale=scale: leaf / scale, out), X, model)


def test_loops_and_branches_that_autograph_converts(model: Tiny) -> None:
    @tf.function
    def looped(out: Any, steps: Any) -> Any:
        for _ in tf.range(steps):
            out = Causal(logits=-out.logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states)
        if steps > 1:
            out.logits = out.logits + 0
        return out

    assert_tree(looped(model(X), tf.constant(2)), X, model)
    assert_tree(looped(model(X), tf.constant(0)), X, model)


def test_gradients(model: Tiny) -> None:
    out = model(X)
    with tf.GradientTape() as tape:
        tape.watch(out.logits)
        loss = tf.reduce_sum(3 * out.logits)
    gradient = tape.gradient(loss, out)
    assert type(gradient) is Causal
    np.testing.assert_array_equal(gradient.logits, np.full((7, 5), 3.0))
    assert gradient.hidden_states == (None, None)


def test_datasets(model: Tiny) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(model(X)).batch(4)
    first, second = dataset
    assert_tree(first, X[:4], model)
    assert_tree(second, X[4:], model)


STRATEGY = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bertconv.models.outputs import TFMaskedLMOutput
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
def replica():
    index = tf.distribute.get_replica_context().replica_id_in_sync_group
    logits = tf.fill([2, 3], 1.5) + tf.cast(index, tf.float32)
    return TFMaskedLMOutput(logits=logits, hidden_states=(logits + 10, logits + 20))
for step in (replica, tf.function(replica)):
    for run in (lambda: strategy.run(step), tf.function(lambda: strategy.run(step))):
        out = run()
        assert type(out) is TFMaskedLMOutput, out
        assert type(out.hidden_states) is tuple and list(out) == ["logits", "hidden_states"], out
        total = strategy.reduce("SUM", out, axis=None)
        assert type(total) is TFMaskedLMOutput, total
        assert np.all(total.logits.numpy() == 4) and np.all(total.hidden_states[1].numpy() == 44), total
        parts = strategy.experimental_local_results(out.hidden_states[0])
        assert [part.numpy()[0, 0] for part in parts] == [11.5, 12.5], parts
print("done")
"""


def test_two_replicas(warm: WarmPython) -> None:
    done = warm.run("-c", STRATEGY, folder=Path(__file__).parent, needs=KERAS)
    assert done.stdout.split() == ["done"], done.stderr[-3000:]


@dataclass
class Own(Masked):
    """A user's own output."""

    score: Any = None


def test_own_subclass() -> None:
    out = Own(score=4, logits=3)
    assert_holds(out, {"logits": 3, "score": 4})
    assert type(keras.tree.map_structure(str, out)) is Own
    assert keras.tree.flatten(out) == tf.nest.flatten(out) == [3, 4]
    assert repr(out) == "Own(loss=None, logits=3, hidden_states=None, attentions=None, score=4)"
