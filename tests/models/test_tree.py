"""The Keras layer tree is the mapping table's, name for name, whatever a model is called and wherever it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
import torch
from tiny_models import HEADS, SIZES, config, inputs, tf_class, tf_state_of, torch_model

import bertconv
from bertconv.config import BertConfig
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.models.variables import named_variables

Shapes = dict[str, tuple[int, ...]]

DECODER = {"is_decoder": True}
CROSS = {**DECODER, "add_cross_attention": True}
UNTIED = {"tie_word_embeddings": False}
CASES = [
    *((head, {}) for head in HEADS),
    ("BertModel", CROSS),
    ("BertModel", DECODER),
    ("BertModel", {"num_hidden_layers": 12}),  # layer_._10 comes after layer_._9
    ("BertModel", {"num_hidden_layers": 0}),
    ("BertModel", {"position_embedding_type": "relative_key"}),
    ("BertModel", {**CROSS, "position_embedding_type": "relative_key_query"}),
    ("BertForMaskedLM", {**UNTIED, "position_embedding_type": "relative_key_query"}),
    ("BertForMaskedLM", UNTIED),
    ("BertForPreTraining", UNTIED),
    ("BertLMHeadModel", UNTIED),
    ("BertLMHeadModel", {**UNTIED, **CROSS}),
    ("BertLMHeadModel", CROSS),
    ("BertForSequenceClassification", {"num_labels": 1}),
    ("BertForMultipleChoice", {"num_labels": 5}),
]


def named(head: str, changes: dict[str, Any]) -> str:
    return "-".join((head, *(f"{key}={value}" for key, value in changes.items())))


every_case = pytest.mark.parametrize(("head", "changes"), [pytest.param(*case, id=named(*case)) for case in CASES])


def of_table(head: str, settings: dict[str, Any], without: tuple[str, ...] = ()) -> Shapes:
    """Names and shapes by the table, copies that a tied model does not have left out."""
    table, dialect = table_for("bert"), load_dialects().by_name["tf"]
    groups = [group for group in table.heads[head] if group not in without]
    values = BertConfig.from_dict(settings).values
    return {
        spec.name.removesuffix(":0"): spec.shape
        for place, spec in expand(table, dialect, values, groups).items()
        if not (values["tie_word_embeddings"] and place in table.tied)
    }


def of_model(model: keras.Model) -> Shapes:
    """Names and shapes by Keras's own paths, the model's name taken off."""
    return {weight.path.removeprefix(f"{model.name}/"): tuple(weight.shape) for weight in model.weights}


def of_names(layer: keras.layers.Layer) -> Shapes:
    return {name: tuple(variable.shape) for name, variable in named_variables(layer).items()}


@every_case
def test_every_weight_has_the_tables_name_shape_and_place(head: str, changes: dict[str, Any]) -> None:
    model = tf_class(head)(config(head, **changes))
    expected = of_table(head, config(head, **changes))
    assert of_model(model) == expected
    assert list(of_model(model)) == list(expected)
    assert len(model.weights) == len(expected)
    assert list(of_names(model).items()) == list(expected.items())
    assert [id(each) for each in named_variables(model).values()] == [id(each) for each in model.weights]


@every_case
def test_every_parameter_of_pytorch_has_its_variable(head: str, changes: dict[str, Any]) -> None:
    """By names spelled out in the tests, not by the table; PyTorch's own sizes, on its meta device."""
    changes = dict(changes)
    relative = changes.pop("position_embedding_type", None)  # transformers 5 no longer has it
    with torch.device("meta"):
        parameters = dict(torch_model(head, **changes).named_parameters())
    expected = {name: tuple(value.shape) for name, value in tf_state_of(parameters).items()}
    found = of_model(tf_class(head)(config(head, **changes, position_embedding_type=relative)))
    if relative:
        shape = (2 * SIZES["max_position_embeddings"] - 1, SIZES["hidden_size"] // SIZES["num_attention_heads"])
        expected |= {
            f"bert/encoder/layer_._{number}/attention/self/distance_embedding/embeddings": shape
            for number in range(SIZES["num_hidden_layers"])
        }
    assert found == expected


@pytest.mark.parametrize("changes", [{}, CROSS], ids=["encoder", "decoder"])
def test_without_pooler(changes: dict[str, Any]) -> None:
    settings = config(**changes)
    model = bertconv.TFBertModel(settings, add_pooling_layer=False)
    assert list(of_model(model).items()) == list(of_table("BertModel", settings, without=("pooler",)).items())
    assert len(of_table("BertModel", settings)) == len(of_model(model)) + 2


def test_main_layer_on_its_own() -> None:
    layer = bertconv.TFBertMainLayer(config())
    layer.build()
    expected = of_table("BertModel", config())
    assert {weight.path: tuple(weight.shape) for weight in layer.weights} == expected
    assert {f"bert/{name}": shape for name, shape in of_names(layer).items()} == expected


class Outer(keras.Model):
    """A model of the user's with one of ours inside."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__(name="outer")
        self.inner = inner
        self.bert = keras.layers.Dense(3)  # an attribute may be called anything

    def call(self, ids: tf.Tensor) -> Any:
        return self.bert(self.inner(ids)[0])


def twice(head: str) -> keras.Model:
    tf_class(head)(config(head))
    return tf_class(head)(config(head))


def inside(head: str) -> keras.Model:
    outer = Outer(tf_class(head)(config(head)))
    outer(inputs(head)["input_ids"])
    return outer.inner


def made_inside(head: str) -> keras.Model:
    class Maker(keras.Model):
        def build(self, _: Any) -> None:
            self.inner = tf_class(head)(config(head), name="made")

        def call(self, ids: tf.Tensor) -> Any:
            return self.inner(ids)

    outer = Maker()
    outer(inputs(head)["input_ids"])
    return outer.inner


def functional(head: str) -> keras.Model:
    model = tf_class(head)(config(head), name="bert")  # even the layer's own name
    ids = inputs(head)["input_ids"]
    keras.Model(symbolic := keras.Input(ids.shape[1:], dtype="int32"), model(symbolic)[0])(ids)
    return model


def scoped(head: str) -> keras.Model:
    with keras.name_scope("some"), tf.name_scope("where"):
        return tf_class(head)(config(head))


def in_graph(head: str) -> keras.Model:
    model = tf_class(head)(config(head))
    tf.function(lambda ids: model(ids)[0])(inputs(head)["input_ids"])
    return model


def built(head: str) -> keras.Model:
    model = tf_class(head)(config(head))
    model.build([(None, None)])
    return model


def rebuilt(head: str) -> keras.Model:
    return tf_class(head).from_config(tf_class(head)(config(head), name="first").get_config())


def other_name(head: str) -> keras.Model:
    return tf_class(head)(config(head), name="model-of.mine")


MAKERS = (twice, inside, made_inside, functional, scoped, in_graph, built, rebuilt, other_name)


@pytest.mark.parametrize("make", MAKERS, ids=[make.__name__ for make in MAKERS])
@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForMultipleChoice"])
def test_names_do_not_depend_on_where_a_model_is(make: Callable[[str], keras.Model], head: str) -> None:
    model = make(head)
    assert list(of_names(model).items()) == list(of_table(head, config(head)).items())
    assert {id(each) for each in named_variables(model).values()} == {id(each) for each in model.weights}


def test_a_layer_that_is_used_twice_counts_once() -> None:
    class Shared(bertconv.TFBertPreTrainedModel):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings)
            self.bert = bertconv.TFBertMainLayer(self.config)
            self.again = self.bert
            self.post_init()

        def call(self, input_ids: Any = None) -> Any:
            return self.again(input_ids).last_hidden_state + self.bert(input_ids).last_hidden_state

    model = Shared(config())
    model(inputs()["input_ids"])
    assert of_names(model) == of_table("BertModel", config())


def test_heads_without_a_pooler_have_none() -> None:
    have = {head for head in HEADS if any("pooler" in name for name in of_model(tf_class(head)(config(head))))}
    assert set(HEADS) - have == {
        "BertForMaskedLM", "BertLMHeadModel", "BertForTokenClassification", "BertForQuestionAnswering",
    }  # fmt: skip
