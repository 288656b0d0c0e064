"""What is passed to a model: however it is split into positions, keywords, lists and mappings, `call` gets the same."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BatchEncoding

from bertconv.errors import RequestError
from bertconv.models.inputs import named_inputs, plain_batch

NAMES = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "inputs_embeds",
    "past_key_values",
    "use_cache",
    "output_attentions",
    "return_dict",
    "labels",
    "training",
)
ARRAYS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", "labels")
IDS = [[1, 2, 3], [4, 5, 6]]


def named(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return named_inputs(NAMES, args, kwargs, model="TFBertTiny")


def refused(match: str, hint: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        named(*args, **kwargs)
    assert hint in caught.value.hint
    assert caught.value.message.endswith(".")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert type(found) is dict
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] is value, name


class Duck:
    """A mapping in all but name, which iterates over something else."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        self.held = held

    def keys(self) -> Iterator[str]:
        return iter(self.held)

    def __getitem__(self, key: str) -> Any:
        return self.held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["nothing"])


MAPPINGS = (dict, UserDict, MappingProxyType, Duck, BatchEncoding)

# Splitting


@st.composite
def calls(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """Values by name, and the same as positional and keyword arguments."""
    values: dict[str, Any] = {
        name: np.full((2, place + 1), place) for place, name in enumerate(NAMES) if draw(st.booleans())
    }
    values |= {name: draw(st.booleans()) for name in ("use_cache", "output_attentions", "training") if name in values}
    values.pop("return_dict", None)
    if "past_key_values" in values:
        values["past_key_values"] = ((values["past_key_values"],),)
    rest = list(NAMES)
    firsts: list[Any] = []
    packing = draw(st.sampled_from(("none", "list", "tuple", "mapping")))
    if packing == "mapping":
        inside = {name: values[name] for name in draw(st.permutations(NAMES)) if name in values and draw(st.booleans())}
        firsts = [draw(st.sampled_from(MAPPINGS))(inside)]
        rest = [name for name in rest if name not in inside]
        if "input_ids" in rest[:1]:
            values.pop("input_ids", None)
    elif packing != "none":
        count = draw(st.integers(1, len(NAMES)))
        values["input_ids"] = np.zeros((2, 9))
        firsts = [(list if packing == "list" else tuple)(values.get(name) for name in NAMES[:count])]
        rest = rest[count:]
    if firsts and draw(st.booleans()):
        keywords = {draw(st.sampled_from(("input_ids", "inputs"))): firsts[0]}
        return values, [], keywords | {name: values[name] for name in rest if name in values}
    count = draw(st.integers(len(firsts), len(NAMES)))
    positional = firsts + [values.get(name) if name in rest else None for name in NAMES[len(firsts) : count]]
    keywords = {name: values[name] for name in rest if name in values and name not in NAMES[:count]}
    return values, positional, dict(draw(st.permutations(list(keywords.items()))))


@given(calls())
def test_however_it_is_split(call: tuple[dict[str, Any], list[Any], dict[str, Any]]) -> None:
    values, args, kwargs = call
    found = named(*args, **kwargs)
    if "past_key_values" in values:
        assert found["past_key_values"] == values["past_key_values"]
        values["past_key_values"] = found["past_key_values"]
    assert_same(found, values)


def test_old_name_of_the_first() -> None:
    ids = np.zeros((2, 3))
    assert_same(named(inputs=ids), {"input_ids": ids})
    refused("TFBertTiny got input_ids twice.", "once", ids, inputs=ids)
    refused("TFBertTiny got input_ids twice.", "once", inputs=ids, input_ids=ids)


@pytest.mark.parametrize("first", [[IDS, IDS], {"input_ids": IDS, "attention_mask": IDS}], ids=["list", "mapping"])
def test_given_twice(first: Any) -> None:
    mask = np.ones((2, 3))
    if isinstance(first, list):
        first = [np.array(ids) for ids in first]
    refused("TFBertTiny got attention_mask twice.", "once", first, mask)
    refused("TFBertTiny got attention_mask twice.", "once", first, attention_mask=mask)
    refused("TFBertTiny got input_ids twice.", "once", first, input_ids=mask)
    refused("TFBertTiny got token_type_ids twice.", "once", IDS, None, mask, token_type_ids=mask)


def test_none_is_not_given() -> None:
    embeddings = np.zeros((2, 3, 5))
    assert_same(named(None, inputs_embeds=embeddings), {"inputs_embeds": embeddings})
    assert_same(named(None, None, input_ids=embeddings, training=None, labels=None), {"input_ids": embeddings})
    assert_same(named({"input_ids": None, "inputs_embeds": embeddings}), {"inputs_embeds": embeddings})
    assert_same(named([None, None, None, None, embeddings]), {"inputs_embeds": embeddings})
    assert_same(named(), {})


def test_unknown_names() -> None:
    refused("TFBertTiny has no argument 'attention_masks'.", "'attention_mask'?", IDS, attention_masks=IDS)
    refused("TFBertTiny has no argument 'token_types_id'.", "'token_type_ids'?", {"token_types_id": IDS})
    refused("TFBertTiny has no argument 'qqq'.", "input_ids, attention_mask, token_type_ids, posi", IDS, qqq=None)
    refused("TFBertTiny has no argument 7.", "Its arguments are", {7: IDS})


def test_too_many() -> None:
    refused("TFBertTiny takes at most 11 arguments, not 12.", "input_ids, att", *[None] * 12)
    refused("TFBertTiny takes at most 11 arguments, not 12.", "input_ids, att", [np.zeros((1, 2))] * 12)


# Lists


class Pair(NamedTuple):
    left: Any
    right: Any


@given(st.data())
def test_lists_of_numbers_are_arrays(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    dtype = data.draw(st.sampled_from((np.int64, np.float64, np.bool_)))
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    name = data.draw(st.sampled_from(ARRAYS))
    rows = list if name == "input_ids" else data.draw(st.sampled_from((list, tuple)))
    passed = data.draw(
        st.sampled_from((array.tolist(), tuple(array.tolist()), rows(array) if array.ndim == 1 else array.tolist()))
    )
    found = named(**{name: passed})[name]
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array, strict=True)


def test_nested_list_is_ids_and_not_several_arguments() -> None:
    for ids in (IDS, tuple(map(tuple, IDS)), [list(map(np.int64, row)) for row in IDS], [[[1]], [[2]]], [range(3)]):
        found = named(ids)
        assert list(found) == ["input_ids"]
        np.testing.assert_array_equal(found["input_ids"], np.array(ids))


def test_arrays_in_a_list_are_several_arguments() -> None:
    ids, mask = np.array(IDS), tf.ones((2, 3))
    assert_same(named([ids, mask]), {"input_ids": ids, "attention_mask": mask})
    assert_same(named(Pair(ids, None)), {"input_ids": ids})
    found = named([ids, [[1, 1, 0], [1, 0, 0]]])
    assert found["attention_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert_same(named([ids], mask), {"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize("row", [np.array([1, 2]), tf.constant([1, 2]), keras.KerasTensor((3,)), np.array(1)], ids=str)
def test_rows_in_a_list_are_no_arguments(row: Any) -> None:
    refused("input_ids is a list of rows", "np.stack", [row, row])


def test_rows_of_other_arguments_are_one_array() -> None:
    rows = [np.array([1, 0]), np.array([1, 1])]
    np.testing.assert_array_equal(named(IDS, attention_mask=rows)["attention_mask"], np.array(rows), strict=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_no_array(name: str) -> None:
    refused(f"{name} holds lists of different lengths", "padding=True", **{name: [[1, 2], [3]]})
    refused(f"{name} holds lists of different lengths", "padding=True", **{name: [[1], 2]})
    refused(f"{name} is an empty list", "one number", **{name: []})
    refused(f"{name} is an empty list", "one number", **{name: [[], []]})
    refused(f"{name} holds objects", "None", **{name: [[1, None]]})
    refused(f"{name} holds objects", "Pad", **{name: np.array([[1], [2, 3]], object)})
    refused(f"{name} has rows of different lengths", "to_tensor", **{name: tf.ragged.constant([[1], [2, 3]])})
    refused(f"{name} is of type int", "array", **{name: 5})
    refused(f"{name} is of type object", "array", **{name: object()})
    if name != "input_ids":
        refused(f"{name} is of type dict", "array", **{name: {"a": 1}})
        refused(f"{name} is a list of tensors", "tf.stack", **{name: [tf.constant([1]), tf.constant([2])]})


TEXTS = {
    "str": "some text",
    "bytes": b"some text",
    "list": ["some", "text"],
    "nested": [["some", "text"], ["more"]],
    "bytes list": [b"some"],
    "later": [[1, "a"]],
    "array": np.array(["some", "text"]),
    "bytes array": np.array([b"some"]),
    "object array": np.array([["some", None]], object),
    "tensor": tf.constant(["some"]),
    "symbolic": keras.KerasTensor((2, 3), dtype="string"),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("text", TEXTS)
def test_text(name: str, text: str) -> None:
    refused(f"{name} is text, not numbers", "tokenizer(text", **{name: TEXTS[text]})


def test_text_in_many_places() -> None:
    refused("input_ids is text", "Tokenise", "some text")
    refused("input_ids is text", "Tokenise", {"input_ids": ["some text"]})
    refused("attention_mask is text", "Tokenise", [np.zeros((1, 2)), "some text"])


class OwnTensor(torch.Tensor):
    """A subclass from another module."""


@pytest.mark.parametrize("name", [*ARRAYS, "past_key_values"])
@pytest.mark.parametrize("tensor", [torch.ones(2, 3), torch.nn.Parameter(torch.ones(2, 3)), OwnTensor(2, 3)])
def test_pytorch_tensors(name: str, tensor: Any) -> None:
    refused(f"{name} is a PyTorch tensor", 'return_tensors="np"', **{name: tensor})
    refused(f"{name} is a PyTorch tensor", ".numpy()", **{name: [tensor, tensor]})
    refused(f"{name} is a PyTorch tensor", ".numpy()", {name: tensor})


# Tensors and flags


@pytest.mark.parametrize(
    "make",
    [np.array, tf.constant, tf.Variable, keras.Variable, lambda rows: keras.KerasTensor(np.shape(rows)), np.float16],
)
def test_tensors_stay_as_they_are(make: Any) -> None:
    tensor = make([[1.0, 2.0]])
    assert_same(named(tensor, labels=tensor), {"input_ids": tensor, "labels": tensor})


def test_symbolic_tensors_in_a_function() -> None:
    seen: list[dict[str, Any]] = []

    @tf.function(input_signature=[tf.TensorSpec(None, tf.int32), tf.TensorSpec([None, None])])
    def traced(ids: Any, mask: Any) -> Any:
        seen.append(named([ids, mask]))
        seen.append(named(ids, mask))
        assert all(found["input_ids"] is ids and found["attention_mask"] is mask for found in seen)
        return mask

    traced(IDS, IDS)
    assert len(seen) == 2


def test_keras_tensors_in_a_list() -> None:
    """By their names when all are names of arguments, else by order."""
    mask, ids, other = (keras.Input((5,), name=name) for name in ("attention_mask", "input_ids", "other"))
    assert_same(named([mask, ids]), {"input_ids": ids, "attention_mask": mask})
    assert_same(named((mask,)), {"attention_mask": mask})
    assert_same(named([mask, other]), {"input_ids": mask, "attention_mask": other})
    refused("TFBertTiny got input_ids twice.", "once", [ids, ids])
    variable = keras.Variable(np.ones((2, 5)), name="attention_mask")
    assert_same(named([variable]), {"input_ids": variable})


@pytest.mark.parametrize("name", ["use_cache", "output_attentions", "return_dict", "training"])
def test_flags(name: str) -> None:
    for value in (True, False, np.True_, np.False_):
        found = named(IDS, **{name: value})[name]
        assert found is bool(value)
    for value in (1, 0, "yes", [True], 1.0):
        refused(f"{name} is .*, not True or False", f"{name}=True", IDS, **{name: value})


def test_training_may_be_a_tensor() -> None:
    flag = tf.constant(True)
    assert_same(named(training=flag), {"training": flag})
    refused("use_cache is", "use_cache=True", use_cache=flag)


def test_cache_stays_nested() -> None:
    key, value = np.zeros((2, 3)), tf.ones((2, 3))
    for cache in ([[key, value], (value, None)], ((key, value), [value, None])):
        found = named(IDS, past_key_values=cache)["past_key_values"]
        assert [type(found), *map(type, found)] == [tuple] * 3
        assert found[0][0] is key
        assert found[0][1] is found[1][0] is value
        assert found[1][1] is None
    refused("past_key_values is of type int", "tensor", past_key_values=[[1]])
    refused("past_key_values is text", "Tokenise", past_key_values=(("a",),))


def test_what_is_passed_is_not_changed() -> None:
    kwargs = {"input_ids": {"input_ids": IDS, "labels": [1, 2]}, "training": None}
    named_inputs(NAMES, (), kwargs, model="TFBertTiny")
    assert kwargs == {"input_ids": {"input_ids": IDS, "labels": [1, 2]}, "training": None}
    assert type(kwargs["input_ids"]["labels"]) is list


# Batches for fit, evaluate and predict


@pytest.mark.parametrize("kind", MAPPINGS)
def test_plain_batch(kind: Any) -> None:
    mask, types = np.ones((2, 3)), tf.zeros((2, 3))
    given_ = kind({"input_ids": IDS, "attention_mask": mask, "token_type_ids": types})
    found = plain_batch(given_)
    assert type(found) is dict
    assert list(found) == ["input_ids", "attention_mask", "token_type_ids"]
    np.testing.assert_array_equal(found["input_ids"], np.array(IDS), strict=True)
    assert found["attention_mask"] is mask
    assert found["token_type_ids"] is types
    assert given_["input_ids"] is IDS
    inner = plain_batch((given_, {"labels": (0, 1)}, None))
    assert type(inner) is tuple
    assert inner[0]["input_ids"].shape == (2, 3)
    assert inner[1]["labels"].dtype == np.int64
    assert inner[2] is None


def test_plain_batch_leaves_the_rest() -> None:
    class Batches(keras.utils.PyDataset):
        def __getitem__(self, index: int) -> Any:
            return {"input_ids": np.full((2, 3), index)}

    others = (
        np.zeros((2, 3)),
        tf.zeros((2, 3)),
        tf.data.Dataset.from_tensors({"input_ids": IDS}),
        iter([IDS]),
        Batches(),
        IDS,
        [np.zeros(2), np.zeros(2)],
        torch.zeros(2),
        None,
        Pair({"a": 1}, 2),
    )
    for other in others:
        assert plain_batch(other) is other
    assert all(left is right for left, right in zip(plain_batch(others), others, strict=True))


def test_plain_batch_refuses() -> None:
    with pytest.raises(RequestError, match="input_ids holds lists of different lengths"):
        plain_batch({"input_ids": [[1], [2, 3]]})
    with pytest.raises(RequestError, match="text is text"):
        plain_batch(({"text": ["some", "text"]}, [0, 1]))


# With Keras


class Tiny(keras.Model):
    """A model that is called in every way."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.embed = keras.layers.Embedding(11, 3)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        names = ("input_ids", "attention_mask", "training")
        return super().__call__(**named_inputs(names, args, kwargs, model=type(self).__name__))

    def call(self, input_ids: Any, attention_mask: Any = None, training: Any = None) -> Any:
        vectors = self.embed(input_ids)
        mask = 1.0 if attention_mask is None else keras.ops.cast(attention_mask, "float32")[..., None]
        return keras.ops.sum(vectors * mask, 1) * (2.0 if training else 1.0)

    def predict(self, x: Any, **arguments: Any) -> Any:
        return super().predict(plain_batch(x), **arguments)


def test_model() -> None:
    model = Tiny()
    mask = [[1, 1, 0], [1, 0, 0]]
    expected = model(np.array(IDS), np.array(mask))
    ids_in, mask_in = (keras.Input((None,), name=name, dtype="int32") for name in ("input_ids", "attention_mask"))
    packed = BatchEncoding({"input_ids": IDS, "attention_mask": mask})
    functional = [
        keras.Model([ids_in, mask_in], symbolic)
        for symbolic in (
            model([mask_in, ids_in]),
            model(ids_in, mask_in),
            model({"attention_mask": mask_in, "input_ids": ids_in}),
        )
    ]
    results = [
        model(packed),
        model(**packed),
        model(IDS, mask),
        model([tf.constant(IDS), tf.constant(mask)]),
        model.predict(packed, verbose=0),
        *(each([np.array(IDS), np.array(mask)]) for each in functional),
        *(each({"input_ids": np.array(IDS), "attention_mask": np.array(mask)}) for each in functional),
        tf.function(model, jit_compile=True)(tf.constant(IDS), attention_mask=tf.constant(mask)),
    ]
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert not np.allclose(model(IDS), expected)
    np.testing.assert_allclose(model(packed, training=True), 2 * expected, rtol=1e-6)
