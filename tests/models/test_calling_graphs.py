"""In a graph, in predict, and in whatever type a model computes, the same comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from called_models import CLASSIFIER, HEAD_COUNT, HIDDEN, LAYERS, NAMES, assert_close, make, tensors
from tiny_models import BATCH, SIZES, Arrays, config, inputs, labels
from transformers import BatchEncoding

import bertconv
from bertconv.models.outputs import ModelOutput, TFSequenceClassifierOutput


@pytest.fixture(scope="module")
def model() -> Any:
    return make()


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return {name: inputs()[name] for name in NAMES}


@pytest.fixture(scope="module")
def expected(model: Any, arrays: Arrays) -> np.ndarray:
    return model(**arrays).logits.numpy()


# In graphs


def test_unknown_shapes_are_traced_once(model: Any) -> None:
    signature = {name: tf.TensorSpec([None, None], tf.int64) for name in NAMES}
    call = tf.function(model, input_signature=[signature])
    for size, length in ((1, 2), (4, 1), (2, 37)):
        given = {name: inputs()[name][:1, :1].repeat(size, 0).repeat(length, 1) for name in NAMES}
        output = call({name: tf.constant(value) for name, value in given.items()})
        assert type(output) is TFSequenceClassifierOutput
        assert_close(output.logits, model(given).logits, 1e-5)
    assert call.experimental_get_tracing_count() == 1


def test_unknown_shapes_with_positions_and_states() -> None:
    decoder = make("BertLMHeadModel", add_cross_attention=True, output_hidden_states=True, output_attentions=True)
    call = tf.function(
        lambda ids, states: decoder(ids, encoder_hidden_states=states),
        input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None, HIDDEN])],
    )
    rng = np.random.default_rng(0)
    for size, length, other in ((2, 3, 5), (1, 6, 2)):
        ids, states = rng.integers(0, 101, (size, length)), rng.normal(size=(size, other, HIDDEN)).astype(np.float32)
        wanted = decoder(ids, encoder_hidden_states=states)
        found = call(tf.constant(ids, tf.int32), tf.constant(states))
        assert list(found) == list(wanted)
        for name in wanted:
            for one, two in zip(keras.tree.flatten(wanted[name]), keras.tree.flatten(found[name]), strict=True):
                assert_close(two, one, 1e-5)


def test_compiled(model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    output = tf.function(model, jit_compile=True)(tensors(arrays), output_hidden_states=True, output_attentions=True)
    assert type(output) is TFSequenceClassifierOutput
    assert_close(output.logits, expected, 1e-5)
    assert [len(output.hidden_states), len(output.attentions)] == [LAYERS + 1, LAYERS]


def test_flags_of_the_config_hold_in_a_graph() -> None:
    model = make(output_attentions=True, output_hidden_states=True)
    ids = tf.ones((2, 5), tf.int32)
    for call in (model, tf.function(model)):
        output = call(ids)
        assert list(output) == ["logits", "hidden_states", "attentions"]
        assert [tuple(each.shape) for each in output.hidden_states] == [(2, 5, HIDDEN)] * (LAYERS + 1)
        assert [tuple(each.shape) for each in output.attentions] == [(2, HEAD_COUNT, 5, 5)] * LAYERS
        assert list(call(ids, output_attentions=False)) == ["logits", "hidden_states"]
        assert list(call(ids, output_attentions=False, output_hidden_states=False)) == ["logits"]
        plain = call(ids, return_dict=False)
        assert type(plain) is tuple
        assert [type(each) for each in plain[1:]] == [tuple, tuple]
        assert_close(plain[0], output.logits)


def test_return_dict_of_the_config() -> None:
    model = make("BertLMHeadModel", return_dict=False, use_cache=False)
    ids = tf.ones((2, 5), tf.int32)
    for call in (model, tf.function(model)):
        assert type(call(ids)) is tuple
        assert len(call(ids)) == 1
        assert len(call(ids, use_cache=True)) == 2
        assert list(call(ids, return_dict=True)) == ["logits"]
    logits, cache = make("BertLMHeadModel")(ids, return_dict=False)
    assert logits.shape == (2, 5, SIZES["vocab_size"])
    assert [tuple(each.shape) for each in keras.tree.flatten(cache)] == [(2, HEAD_COUNT, 5, 7)] * 2 * LAYERS


def test_tuple_without_a_pooler() -> None:
    """The place of the pooled state stays, as in PyTorch."""
    model = bertconv.TFBertModel(config(output_hidden_states=True), add_pooling_layer=False)
    states, pooled, every = model(np.ones((2, 5), np.int32), return_dict=False)
    assert states.shape == (2, 5, HIDDEN)
    assert pooled is None
    assert len(every) == LAYERS + 1


# predict


def test_predict_in_batches(arrays: Arrays) -> None:
    model = make(output_hidden_states=True, output_attentions=True)
    many = {name: np.concatenate([value, value[::-1], value[:1]]) for name, value in arrays.items()}
    whole = model(many)
    found = model.predict(many, batch_size=3, verbose=0)  # the last batch has one sample
    assert type(found) is TFSequenceClassifierOutput
    assert type(found.hidden_states) is type(found.attentions) is tuple
    for name in whole:
        for one, two in zip(keras.tree.flatten(whole[name]), keras.tree.flatten(found[name]), strict=True):
            assert type(two) is np.ndarray
            assert_close(two, one, 1e-5)


def test_predict_takes_everything(arrays: Arrays) -> None:
    model = make(num_hidden_layers=1)
    expected = model(**arrays).logits
    answers = labels(CLASSIFIER)["labels"]
    data = tf.data.Dataset.from_tensor_slices(tensors(arrays))

    def batches() -> Iterator[Any]:
        for start in range(BATCH):
            yield ({name: value[start : start + 1] for name, value in arrays.items()}, answers[start : start + 1])

    found = [
        model.predict(BatchEncoding(arrays), verbose=0),
        model.predict({**arrays, "labels": answers}, verbose=0),
        model.predict(list(arrays.values()), verbose=0),
        model.predict(data.batch(2), verbose=0),
        model.predict(data.map(lambda each: ({**each, "labels": 1}, 2)).batch(2), verbose=0),
        model.predict(batches(), steps=BATCH, verbose=0),
        model.predict_on_batch(arrays),
        model.predict_on_batch(BatchEncoding(arrays)),
        model.predict({name: value.tolist() for name, value in arrays.items()}, verbose=0),
    ]
    for output in found:
        assert isinstance(output, ModelOutput)
        assert list(output) == ["logits"]
        assert_close(output.logits, expected, 1e-5)


def test_predict_compiled_by_xla(arrays: Arrays) -> None:
    model = make(num_hidden_layers=1)
    model.compile(jit_compile=True)
    assert_close(model.predict(arrays, verbose=0).logits, model(arrays).logits, 1e-5)


def test_predict_gives_the_cache() -> None:
    decoder = make("BertLMHeadModel")
    ids = np.ones((3, 5), np.int32)
    found = decoder.predict(ids, batch_size=2, verbose=0).past_key_values
    assert [type(found), *map(type, found)] == [tuple] * (LAYERS + 1)
    for one, two in zip(keras.tree.flatten(decoder(ids).past_key_values), keras.tree.flatten(found), strict=True):
        assert_close(two, one, 1e-5)


# Types

POLICIES = {
    "float64": ("float64", "float64", 1e-5),
    "float16": ("float16", "float16", 0.06),
    "bfloat16": ("bfloat16", "bfloat16", 0.2),
    "mixed_float16": ("float16", "float32", 0.03),
    "mixed_bfloat16": ("bfloat16", "float32", 0.2),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(policy: str, arrays: Arrays) -> None:
    compute, stored, tolerance = POLICIES[policy]
    single = make(initializer_range=0.2)
    model = make(dtype=policy, initializer_range=0.2)
    model.set_weights(single.get_weights())
    answers = labels(CLASSIFIER)["labels"]
    output = model(**arrays, labels=answers, output_hidden_states=True, output_attentions=True)
    assert {weight.dtype for weight in model.weights} == {stored}
    assert {each.dtype.name for each in keras.tree.flatten(output.to_tuple()[1:])} == {compute}
    assert output.loss.dtype.name == ("float64" if compute == "float64" else "float32")
    wanted = single(**arrays, labels=answers)
    assert_close(tf.cast(output.logits, tf.float64), wanted.logits, tolerance)
    assert_close(output.loss, wanted.loss, 2 * tolerance)
    assert model.predict(arrays, verbose=0).logits.dtype.name == compute


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_floats_are_not_squeezed_into_half(policy: str) -> None:
    """Labels of a regression and masks that are added keep their type: 1e5 and the smallest float32 are no float16."""
    model = make(num_labels=1, problem_type="regression", dtype=policy)
    ids, targets = np.ones((2, 5), np.int32), np.array([1e5, -2.0], np.float32)
    output = model(ids, labels=targets)
    scores = output.logits.numpy()[:, 0].astype(np.float64)
    assert_close(output.loss, (scores - targets) ** 2, 1e-6)
    added = np.zeros((2, 1, 5, 5), np.float32)
    added[0] = np.finfo(np.float32).min
    added[1, ..., 3] = np.finfo(np.float32).min
    found = model(ids, attention_mask=added, output_hidden_states=True)
    assert all(np.isfinite(tf.cast(each, tf.float32)).all() for each in keras.tree.flatten(found))
    mask = np.ones((2, 5), np.int32)
    mask[0], mask[1, 3] = 0, 0
    assert_close(found.logits[1:], model(ids, attention_mask=mask).logits[1:], 2e-3)


def test_policy_objects() -> None:
    model = make(dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model(np.ones((2, 5), np.int32)).logits.dtype == tf.bfloat16


def test_global_policy() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        output = make()(np.ones((2, 5), np.int32), labels=np.array([0, 1]))
        assert {each.dtype.name for each in output.values()} == {"float64"}
    finally:
        keras.config.set_dtype_policy(before)
