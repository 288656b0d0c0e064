"""Calling a model: whatever is passed and wherever it is called, the same comes out; what cannot be is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from called_models import HIDDEN, LAYERS, NAMES, assert_close, make, tensors
from tiny_models import BATCH, HEADS, LENGTH, SIZES, Arrays, config, inputs, relative_error
from transformers import BatchEncoding

import bertconv
from bertconv.errors import RequestError
from bertconv.models.outputs import TFSequenceClassifierOutput


@pytest.fixture(scope="module")
def model() -> Any:
    return make()


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return {name: inputs()[name] for name in NAMES}


@pytest.fixture(scope="module")
def expected(model: Any, arrays: Arrays) -> np.ndarray:
    return model(**arrays).logits.numpy()


# Whatever is passed

WAYS: dict[str, Callable[[Any, Arrays], Any]] = {
    "numpy by name": lambda model, each: model(**each),
    "numpy by position": lambda model, each: model(*each.values()),
    "int32": lambda model, each: model(**{name: value.astype(np.int32) for name, value in each.items()}),
    "uint8": lambda model, each: model(**{name: value.astype(np.uint8) for name, value in each.items()}),
    "tensors by name": lambda model, each: model(**tensors(each)),
    "int64 tensors by position": lambda model, each: model(*tensors(each, tf.int64).values()),
    "variables": lambda model, each: model(**{name: tf.Variable(value) for name, value in each.items()}),
    "nested lists": lambda model, each: model(**{name: value.tolist() for name, value in each.items()}),
    "lists by position": lambda model, each: model(*[value.tolist() for value in each.values()]),
    "tuple": lambda model, each: model(tuple(each.values())),
    "list": lambda model, each: model([tf.constant(value) for value in each.values()]),
    "batch": lambda model, each: model((each, np.array([1, 2, 3]))),
    "batch in a list": lambda model, each: model([BatchEncoding(each), {"labels": np.ones(3)}, np.ones(3)]),
    "batch by name": lambda model, each: model(input_ids=(each, None)),
    "list and keyword": lambda model, each: model(list(each.values())[:2], token_type_ids=each["token_type_ids"]),
    "list with None": lambda model, each: model([*each.values(), None, None]),
    "dict": lambda model, each: model(each),
    "dict in another order": lambda model, each: model(dict(reversed(each.items()))),
    "dict of lists": lambda model, each: model({name: value.tolist() for name, value in each.items()}),
    "dict by name": lambda model, each: model(input_ids=each),
    "dict by its old name": lambda model, each: model(inputs=each),
    "dict and keyword": lambda model, each: model({"input_ids": each["input_ids"]}, *list(each.values())[1:]),
    "BatchEncoding": lambda model, each: model(BatchEncoding(each)),
    "BatchEncoding of lists": lambda model, each: model(BatchEncoding({k: v.tolist() for k, v in each.items()})),
    "BatchEncoding unpacked": lambda model, each: model(**BatchEncoding(each)),
    "bool mask": lambda model, each: model(**{**each, "attention_mask": each["attention_mask"] > 0}),
    "float mask": lambda model, each: model(**{**each, "attention_mask": each["attention_mask"].astype(np.float32)}),
    "positions": lambda model, each: model(**each, position_ids=np.arange(LENGTH)[np.newaxis]),
    "embeddings": lambda model, each: model(
        None, *list(each.values())[1:], inputs_embeds=tf.gather(model.bert.embeddings.weight.value, each["input_ids"])
    ),
    "embeddings alone": lambda model, each: model(
        inputs_embeds=tf.gather(model.bert.embeddings.weight.value, each["input_ids"]).numpy(),
        attention_mask=each["attention_mask"], token_type_ids=each["token_type_ids"],
    ),
    "body": lambda model, each: _classified(model, model.bert(**each)),
    "body with a dict": lambda model, each: _classified(model, model.bert(BatchEncoding(each))),
}  # fmt: skip


def _classified(model: Any, output: Any) -> TFSequenceClassifierOutput:
    return TFSequenceClassifierOutput(logits=model.classifier(output.pooler_output))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_passing(way: str, model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    output = WAYS[way](model, arrays)
    assert type(output) is TFSequenceClassifierOutput
    assert_close(output.logits, expected)


def test_every_input_counts(model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    for name in NAMES[1:]:
        others = {key: value for key, value in arrays.items() if key != name}
        assert relative_error(model(**others).logits, expected) > 1e-2


KINDS = {"TensorFlow's": tf.Variable, "Keras's": lambda value: keras.Variable(value, dtype=value.dtype.name)}


@pytest.mark.parametrize("kind", KINDS)
def test_variables(kind: str) -> None:
    """Every input that is a tensor may be a variable, of the very type that the model computes with."""
    decoder = make("BertLMHeadModel", add_cross_attention=True)
    rng = np.random.default_rng(0)
    states = {"encoder_hidden_states": rng.normal(size=(BATCH, 4, HIDDEN)).astype(np.float32)}
    given = {name: value.astype(np.int32) for name, value in inputs().items()} | states
    cache = decoder(given, use_cache=True).past_key_values
    places = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))
    embeds = rng.normal(size=(BATCH, LENGTH, HIDDEN)).astype(np.float32)
    more = {"position_ids": places, "head_mask": np.full(SIZES["num_attention_heads"], 0.5, np.float32)}
    more |= {"encoder_attention_mask": np.ones((BATCH, 4), np.int32), "labels": given["input_ids"]}
    without = {name: value for name, value in given.items() if name != "input_ids"}
    step = {"input_ids": given["input_ids"][:, :1], "past_key_values": [[np.array(part) for part in cache[0]]] * LAYERS}
    for arguments in ({**given, **more}, {**without, "inputs_embeds": embeds}, {**states, **step}):
        variables = keras.tree.map_structure(KINDS[kind], arguments)
        wanted = decoder(**arguments).logits
        assert_close(decoder(**variables).logits, wanted)
        assert_close(tf.function(lambda given=variables: decoder(**given).logits)(), wanted, 2e-5)


def test_variable_of_embeddings_has_a_gradient(model: Any) -> None:
    embeds = tf.Variable(np.random.default_rng(0).normal(size=(BATCH, LENGTH, HIDDEN)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(inputs_embeds=embeds, labels=np.array([1, 2, 3])).loss)
    assert float(tf.reduce_max(tf.abs(tape.gradient(loss, embeds)))) > 0
    assert_close(model.bert(inputs_embeds=embeds).pooler_output, model.bert(inputs_embeds=embeds.numpy()).pooler_output)


def test_what_is_passed_is_not_changed(model: Any, arrays: Arrays) -> None:
    before = {name: value.copy() for name, value in arrays.items()}
    given = dict(arrays)
    model(given)
    model.predict(given, verbose=0)
    assert list(given) == list(before)
    for name, value in before.items():
        assert given[name] is arrays[name]
        np.testing.assert_array_equal(arrays[name], value, strict=True)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_eager_graph_and_predict(head: str) -> None:
    model, given = make(head), inputs(head)
    eager = model(given)
    graph = tf.function(model)(tensors(given))
    predicted = model.predict(given, verbose=0)
    assert type(eager) is type(graph) is type(predicted)
    assert list(eager) == list(graph) == list(predicted)
    assert ("past_key_values" in eager) == (head == "BertLMHeadModel")
    for name in eager:
        for one, two, three in zip(*map(keras.tree.flatten, (eager[name], graph[name], predicted[name])), strict=True):
            assert isinstance(three, np.ndarray)
            assert_close(two, one, 2e-5)
            assert_close(three, one, 2e-5)


# What is refused


def refused(match: str, hint: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        function(*args, **kwargs)
    assert hint in caught.value.hint
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message


def test_unknown_and_double_arguments(model: Any, arrays: Arrays) -> None:
    ids, mask, _ = arrays.values()
    refused("TFBertForSequenceClassification has no argument 'label'", "'labels'?", model, ids, label=[1, 2, 3])
    refused("no argument 'attention_masks'", "'attention_mask'?", model, {"input_ids": ids, "attention_masks": mask})
    refused("got attention_mask twice", "once", model, ids, mask, attention_mask=mask)
    refused("got input_ids twice", "once", model, ids, input_ids=ids)
    refused("exactly one of input_ids and inputs_embeds", "one of the two", model)
    refused("exactly one of input_ids and inputs_embeds", "one", model, ids, inputs_embeds=np.zeros((3, 11, HIDDEN)))
    refused("output_attentions is 1", "=True or", model, ids, output_attentions=1)
    refused("is text", "Tokenise", model, ["some text"])
    refused("has no argument 'labels'", "Its arguments", model.bert, ids, labels=[1, 2, 3])


@pytest.mark.parametrize(
    ("name", "limit", "key"),
    [("input_ids", 101, "vocab_size"), ("token_type_ids", 3, "type_vocab_size"),
     ("position_ids", 37, "max_position_embeddings")],
)  # fmt: skip
@pytest.mark.parametrize("wrong", [-1, "limit", 2**31 - 1])
def test_ids_out_of_range(name: str, limit: int, key: str, wrong: Any, model: Any) -> None:
    given = {"input_ids": np.ones((2, 5), np.int32), name: np.zeros((2, 5), np.int32)}
    given[name][0, 3] = limit - 1
    model(given)
    given[name][1, 2] = limit if wrong == "limit" else wrong
    sentence = f"{name} must lie between 0 and {limit - 1}, since {key} is {limit} in the config"
    refused(f"{sentence}; there is {given[name][1, 2]}", "tokenizer", model, given)
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        model.predict(given, verbose=0)


def test_large_int64_ids_are_not_wrapped(model: Any) -> None:
    """2^32 + 1 is 1 as int32."""
    refused(f"there is {2**32 + 1}", "tokenizer", model, np.array([[2**32 + 1]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="input_ids must lie between 0 and 100"):
        tf.function(model)(tf.constant([[2**32 + 1]], tf.int64))


def test_too_long(model: Any) -> None:
    longest = SIZES["max_position_embeddings"]
    ids = np.ones((2, longest), np.int32)
    assert model(ids).logits.shape[0] == 2
    sentence = f"sequences must be no longer than max_position_embeddings in the config, {longest}"
    more = np.ones((2, longest + 1), np.int32)
    refused(f"{sentence}; there is one of {longest + 1}", "truncation=True", model, more)
    refused(sentence, "truncation", model, inputs_embeds=np.zeros((2, longest + 1, HIDDEN), np.float32))
    refused(sentence, "truncation", tf.function(model), tf.constant(more))
    open_ended = tf.function(model, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    assert open_ended(tf.constant(ids)).logits.shape[0] == 2
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        open_ended(tf.constant(more))


def test_too_long_behind_a_cache() -> None:
    decoder = make("BertLMHeadModel")
    past = decoder(np.ones((2, 30), np.int32)).past_key_values
    assert decoder(np.ones((2, 7), np.int32), past_key_values=past).logits.shape == (2, 7, SIZES["vocab_size"])
    refused("there is one of 38 positions", "Truncate", decoder, np.ones((2, 8), np.int32), past_key_values=past)


@pytest.mark.parametrize(
    "given",
    [{"input_ids": np.ones(3, np.int32)}, {"input_ids": np.ones((2, 3, 4), np.int32)}, {"input_ids": 5},
     {"inputs_embeds": np.ones((2, HIDDEN))}, {"inputs_embeds": np.ones((2, 3, HIDDEN - 1))},
     {"input_ids": np.ones((2, 3))}, {"input_ids": np.ones((2, 3), np.int32), "attention_mask": np.ones(3)}],
    ids=["one row", "three axes", "number", "embeddings of one row", "embeddings of another size", "floats", "mask"],
)  # fmt: skip
def test_shapes_and_types_that_cannot_be(given: Any, model: Any) -> None:
    with pytest.raises(RequestError) as caught:
        model(given)
    assert caught.value.hint
    assert next(iter(reversed(given))) in caught.value.message


def test_choices_need_three_axes() -> None:
    chooser = make("BertForMultipleChoice")
    refused("needs the choices of every sample", "[batch, choices, sequence]", chooser, np.ones((2, 3), np.int32))
    embeds = np.ones((2, 3, 5, HIDDEN), np.float32)
    assert chooser(inputs_embeds=embeds).logits.shape == (2, 3)
    refused("needs the choices", "[batch, choices", chooser, inputs_embeds=embeds[0])


# In functional models, layers and other models


def functional(**kinds: Any) -> dict[str, Any]:
    return {name: keras.Input((None,), dtype="int32", name=kind) for name, kind in kinds.items()}


FUNCTIONAL: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "by name": lambda model, each: model(**each),
    "by position": lambda model, each: model(*each.values()),
    "dict": lambda model, each: model(each),
    "list": lambda model, each: model(list(each.values())),
    "dict and keyword": lambda model, each: model(
        {"input_ids": each["input_ids"]}, attention_mask=each["attention_mask"], token_type_ids=each["token_type_ids"]
    ),
}


@pytest.mark.parametrize("named", [False, True], ids=["without names", "named"])
@pytest.mark.parametrize("way", FUNCTIONAL)
def test_functional(way: str, named: bool, model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    symbolic = functional(**{name: name if named else None for name in NAMES})
    output = FUNCTIONAL[way](model, symbolic)
    assert type(output) is TFSequenceClassifierOutput
    assert tuple(output.logits.shape) == (None, expected.shape[1])
    outer = keras.Model(list(symbolic.values()), 2 * output.logits)
    assert_close(outer([tf.constant(value) for value in arrays.values()]), 2 * expected)


def test_functional_list_by_names(model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    symbolic = functional(**{name: name for name in NAMES})
    outer = keras.Model(symbolic, model(list(reversed(symbolic.values()))))
    output = outer.predict(arrays, verbose=0)
    assert type(output) is TFSequenceClassifierOutput
    assert_close(output["logits"], expected)


def test_functional_model_trains(arrays: Arrays) -> None:
    settings = config(num_hidden_layers=1, output_hidden_states=True)
    inner = bertconv.TFBertModel(settings, add_pooling_layer=False)
    symbolic = functional(**{name: name for name in NAMES})
    states = inner(symbolic).hidden_states
    assert [tuple(state.shape) for state in states] == [(None, None, HIDDEN)] * 2
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Add()(states))
    outer = keras.Model(symbolic, keras.layers.Dense(1)(pooled))
    outer.compile(keras.optimizers.Adam(1e-3), loss="mse")
    before = inner.bert.embeddings.weight.numpy()
    history = outer.fit(arrays, np.array([[1.0], [2.0], [3.0]]), epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert not np.array_equal(inner.bert.embeddings.weight.numpy(), before)


def test_in_a_layer_and_in_a_model(model: Any, arrays: Arrays, expected: np.ndarray) -> None:
    class Inside(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def call(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.inner(ids, attention_mask=mask, token_type_ids=types).logits + 1

    class Outside(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.middle = Inside()

        def call(self, given: Any) -> Any:
            return self.middle(given["input_ids"], given["attention_mask"], given["token_type_ids"]) * 2

    outside = Outside()
    assert_close(Inside()(*arrays.values()), expected + 1)
    assert_close(outside(arrays), 2 * (expected + 1))
    assert_close(outside.predict(arrays, verbose=0), 2 * (expected + 1))
    assert len(outside.trainable_variables) == len(model.trainable_variables) > 0


def test_body_as_a_layer(arrays: Arrays) -> None:
    body = bertconv.TFBertMainLayer(config(initializer_range=0.5), add_pooling_layer=False)
    symbolic = functional(**{name: name for name in NAMES})
    output = body(symbolic)
    assert output.pooler_output is None
    outer = keras.Model(symbolic, output.last_hidden_state)
    assert_close(outer(arrays), body(**arrays)[0])
    assert isinstance(body, keras.layers.Layer)


# Classes of the user's own


def test_arguments_of_a_class_of_ones_own(arrays: Arrays) -> None:
    """Beside ours they may be anything, and `**kwargs` passes ours on."""
    seen: list[Any] = []

    class Own(bertconv.TFBertForSequenceClassification):
        def call(self, input_ids: Any = None, *args: Any, mode: str = "", factor: Any = 1, **kwargs: Any) -> Any:
            seen.append((mode, factor, args))
            output = super().call(input_ids, **kwargs)
            output.logits = factor * output.logits
            return output

    keras.utils.set_random_seed(7)
    own = Own(config(initializer_range=0.5))
    plain = own(**arrays).logits
    for given in ({**arrays, "mode": "double", "factor": 2}, {"input_ids": arrays, "factor": 2, "mode": "double"}):
        assert_close(own(**given).logits, 2 * plain)
        assert seen[-1] == ("double", 2, ())
    assert_close(own(**arrays, factor=[[0.5], [2], [1]]).logits, plain * [[0.5], [2], [1]])
    refused("Own has no argument 'modes'", "'mode'?", own, arrays, modes="double")


# Outputs


def test_outputs_by_attribute_key_and_place(model: Any, arrays: Arrays) -> None:
    output = model(**arrays, labels=np.array([1, 0, 2]), output_hidden_states=True)
    assert list(output) == ["loss", "logits", "hidden_states"]
    assert output.loss is output["loss"] is output[0] is output.to_tuple()[0]
    assert output.logits is output["logits"] is output[1]
    assert output[1:] == output.to_tuple()[1:] == (output.logits, output.hidden_states)
    assert output.attentions is None
    loss, logits, states = output.to_tuple()
    assert loss.shape == (BATCH,)
    assert logits.shape == (BATCH, 7)
    assert len(states) == LAYERS + 1
    first, *_ = model(**arrays, labels=np.array([1, 0, 2]), return_dict=False)
    assert_close(first, loss)
