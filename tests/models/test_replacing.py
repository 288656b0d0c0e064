"""Layers that are replaced, added or taken out after a model was built: weights, graphs and files follow."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
from called_models import CLASSIFIER, assert_close, make
from tiny_models import BATCH, LABELS, LENGTH, inputs, labels

from bertconv import (
    TFBertForSequenceClassification,
    TFBertForTokenClassification,
    TFBertMainLayer,
    TFBertModel,
    TFBertPreTrainedModel,
)
from bertconv.errors import MissingTensors, RequestError
from bertconv.models.families.bert import TFBertPooler
from bertconv.models.layers import BaseLayer, Linear
from bertconv.models.variables import named_variables

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

HIDDEN, OTHER = tiny.SIZES["hidden_size"], 4


@keras.saving.register_keras_serializable(package="tests")
class Lora(keras.layers.Layer):
    """The low-rank adapter that users write by hand, around the linear map that it takes the place of."""

    def __init__(self, inner: Any, rank: int = 3, **kwargs: Any) -> None:
        super().__init__(name=inner.name, **kwargs)
        self.inner, self.rank = inner, rank
        inner.trainable = False

    def build(self, shape: Any) -> None:
        drawn = keras.initializers.RandomNormal(stddev=0.5, seed=1)
        self.down = self.add_weight(name="down", shape=(shape[-1], self.rank), initializer=drawn)
        self.up = self.add_weight(name="up", shape=(self.rank, self.inner.units), initializer="ones")

    def call(self, x: Any) -> Any:
        return self.inner(x) + x @ self.down @ self.up


def adapted(model: Any) -> Any:
    """With adapters around the queries, and only these trained beside the head."""
    for layer in model._flatten_layers():
        if not layer._layers:
            layer.trainable = layer.name == "classifier"
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self_attention
        attention.query = Lora(attention.query)
    model(**inputs())
    return model


def weights(model: Any) -> cp.Tensors:
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


def query(number: int) -> str:
    return f"bert/encoder/layer_._{number}/attention/self/query"


def test_adapters_by_hand() -> None:
    """Exactly x·down·up is added to the queries: the same as a model whose kernels have it added."""
    model, merged = make(), make()
    before = set(weights(model))
    adapted(model)
    for one, other in zip(model.bert.encoder.layer, merged.bert.encoder.layer, strict=True):
        lora = one.attention.self_attention.query
        other.attention.self_attention.query.kernel.assign_add(lora.down @ lora.up)
    assert_close(model(**inputs()).logits, merged(**inputs()).logits, 1e-5)
    added = {f"{query(number)}/{leaf}" for number in range(2) for leaf in ("down", "up")}
    moved = {f"{query(number)}/query/{leaf}" for number in range(2) for leaf in ("kernel", "bias")}
    gone = {f"{query(number)}/{leaf}" for number in range(2) for leaf in ("kernel", "bias")}
    assert set(weights(model)) == before - gone | moved | added
    assert len(model.trainable_weights) == 4 + 2


def test_adapters_are_trained() -> None:
    model = adapted(make())
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    before = weights(model)
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER), verbose=0)
    changed = {name for name, value in weights(model).items() if (value != before[name]).any()}
    assert changed == {
        "classifier/kernel", "classifier/bias", *(f"{query(n)}/{leaf}" for n in range(2) for leaf in ("down", "up")),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_adapters_in_half_precision(dtype: str) -> None:
    """Of the type of what they are around: trained in float32, and close to what they are in float32."""
    wanted = adapted(make())(**inputs()).logits
    model = make(dtype=dtype)
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self_attention
        attention.query = Lora(attention.query, dtype=attention.query.dtype_policy)
    found = model(**inputs()).logits
    assert found.dtype == dtype.removeprefix("mixed_")
    assert_close(tf.cast(found, "float32"), wanted, 0.01 if dtype == "mixed_float16" else 0.1)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0), run_eagerly=True)
    before = weights(model)
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER), verbose=0)
    for name in (f"{query(n)}/{leaf}" for n in range(2) for leaf in ("down", "up")):
        assert weights(model)[name].dtype == np.float32
        assert (weights(model)[name] != before[name]).any()


def test_dropout_of_keras() -> None:
    """In the place of each of ours: on in training alone."""
    model = make()
    wanted = model(**inputs()).logits
    first = model.bert.encoder.layer[0]
    holders = (
        model,
        model.bert.embeddings,
        first.attention.self_attention,
        first.attention.dense_output,
        first.bert_output,
    )
    for number, holder in enumerate(holders):
        holder.dropout = keras.layers.Dropout(0.5, seed=number)
        assert_close(model(**inputs()).logits, wanted, 1e-6)
    assert np.abs(model(**inputs(), training=True).logits - wanted).max() > 0.1
    for holder in holders:
        kept = holder.dropout
        for other in holders:
            other.dropout.rate = 0.5 if other.dropout is kept else 0.0
        assert np.abs(model(**inputs(), training=True).logits - wanted).max() > 1e-3


class Single(keras.layers.Layer):
    """A user's layer that computes in float32 and rounds at its end, around one of ours."""

    def __init__(self, inner: Any) -> None:
        super().__init__(dtype="float32")
        self.inner = inner

    def call(self, x: Any) -> Any:
        assert x.dtype == tf.float32
        return tf.cast(self.inner(x), self.inner.compute_dtype)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_layer_of_float32_around_one_of_another_type(dtype: str) -> None:
    """As Keras's own layers, ours convert what they are given: no value is lost from half to float32 and back."""
    model = make(dtype=dtype)
    wanted = model(**inputs()).logits
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self_attention
        attention.query = Single(attention.query)
        layer.intermediate = Single(layer.intermediate)
    assert_close(model(**inputs()).logits, wanted, 1e-5 if dtype == "float64" else 1e-9)


def test_adapters_are_saved(tmp_path: Path) -> None:
    """By Keras and by save_pretrained, and loaded into a model with the same adapters; by no other."""
    model = adapted(make())
    for each in model.bert.encoder.layer:
        each.attention.self_attention.query.up.assign_add(tf.random.normal((3, HIDDEN)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save_weights(tmp_path / "m.weights.h5")
        model.save_pretrained(tmp_path / "folder")
        model.save_pretrained(tmp_path / "safe", safe_serialization=True)
    for path in ("m.weights.h5", "folder/tf_model.h5", "safe"):
        other = adapted(make(initializer_range=0.1))
        other.load_weights(tmp_path / path)
        cp.assert_same(weights(other), weights(model))
    with pytest.raises(MissingTensors, match="query"):
        TFBertForSequenceClassification.from_pretrained(tmp_path / "folder")
    with pytest.raises(RequestError, match="no PyTorch name"):
        model.save_pretrained(tmp_path / "pt", format="pt")


def test_merged_adapters_are_a_bert_again(tmp_path: Path) -> None:
    model = adapted(make())
    wanted = model(**inputs()).logits
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self_attention
        lora = attention.query
        lora.inner.kernel.assign_add(lora.down @ lora.up)
        attention.query = lora.inner
    model.save_pretrained(tmp_path, format="pt")
    again = TFBertForSequenceClassification.from_pretrained(tmp_path)
    assert_close(again(**inputs()).logits, wanted, 1e-5)


@pytest.mark.parametrize("graph", ["predict", "evaluate", "generate"])
def test_graphs_follow(graph: str) -> None:
    """No graph of before is used after a layer was replaced."""
    model = make("BertLMHeadModel") if graph == "generate" else make()
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    model.compile(keras.optimizers.SGD(0.0))

    def result() -> Any:
        if graph == "predict":
            return model.predict(given, verbose=0).logits
        if graph == "generate":
            return model.generate(given["input_ids"], max_new_tokens=3).numpy()
        return model.evaluate(given, answers, verbose=0)

    before = result()
    if graph == "generate":
        head = model.mlm.predictions
        head.transform = keras.layers.Lambda(lambda x: 0 * x)
        head.bias.assign(tf.one_hot(17, tiny.SIZES["vocab_size"]))
        assert (result()[:, LENGTH:] == 17).all()
        return
    model.classifier = keras.layers.Dense(LABELS, kernel_initializer="zeros", name="classifier")
    found = result()
    assert np.shape(found) == np.shape(before)
    wanted = np.zeros((BATCH, LABELS)) if graph == "predict" else np.log(LABELS)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


class Fewer(TFBertForSequenceClassification):
    """A head that a user's class replaces, after `super().__init__` has built the model."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.classifier = keras.layers.Dense(OTHER, name="fewer")


def test_a_head_that_a_subclass_replaces(tmp_path: Path) -> None:
    """The old one is neither counted, nor saved, nor warned about."""
    model = Fewer(tiny.config(CLASSIFIER))
    assert model(**inputs()).logits.shape == (BATCH, OTHER)
    names = set(weights(model))
    assert not any(name.startswith("classifier") for name in names)
    assert {"fewer/kernel", "fewer/bias"} <= names
    model.save_pretrained(tmp_path)
    assert not any("classifier" in name for name in cp.written(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again, info = Fewer.from_pretrained(tmp_path, output_loading_info=True)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    cp.assert_same(weights(again), weights(model))


def test_the_order_of_weights_stays() -> None:
    model = make()
    wanted = [variable.shape for variable in model.weights]
    for holder, name in (
        (model, "classifier"),
        (model.bert.pooler, "dense"),
        (model.bert.encoder.layer[0].bert_output, "dense"),
    ):
        old = getattr(holder, name)
        setattr(holder, name, Linear(old.inputs, old.units, name=old.name))
        assert getattr(holder, name).built
    assert [variable.shape for variable in model.weights] == wanted


def test_fewer_layers(tmp_path: Path) -> None:
    """The first one of two, as a list or by slicing; the config follows, or saving says that it has to."""
    model, whole = make(), make()
    model.bert.encoder.layer = model.bert.encoder.layer[:1]
    count = len(whole.bert.encoder.layer[1].weights)
    assert len(model.weights) == len(whole.weights) - count
    with pytest.raises((RequestError, MissingTensors)):
        model.save_pretrained(tmp_path, format="pt")
    model.config.num_hidden_layers = 1
    model.save_pretrained(tmp_path, format="pt")
    again = TFBertForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_hidden_layers == 1
    assert_close(again(**inputs()).logits, model(**inputs()).logits)


@pytest.mark.parametrize("way", ["None", "del"])
def test_a_pooler_that_is_taken_out(way: str) -> None:
    model = make("BertModel")
    count = len(model.weights)
    if way == "None":
        model.bert.pooler = None
        assert model(**inputs()).pooler_output is None
    else:
        del model.bert.pooler
    assert len(model.weights) == count - 2
    assert not any("pooler" in name for name in weights(model))


def test_a_layer_of_two_attributes_stays() -> None:
    model = make()
    model.spare = model.classifier
    model.classifier = keras.layers.Dense(OTHER, name="other")
    model(**inputs())
    assert {"classifier/kernel", "other/kernel"} <= set(weights(model))
    model.spare = None
    assert "classifier/kernel" not in weights(model)


def test_a_layer_more_inside_a_built_one() -> None:
    model = make("BertModel")
    model.bert.pooler.gate = keras.layers.Dense(2, name="gate")
    model.bert.pooler.gate.build((None, HIDDEN))
    assert "bert/pooler/gate/kernel" in weights(model)
    model.bert.more = TFBertPooler(model.config, dtype=None)
    assert model.bert.more.built


def test_another_number_of_labels_needs_its_config(tmp_path: Path) -> None:
    model = make("BertForTokenClassification")
    model.classifier = keras.layers.Dense(OTHER, name="classifier")
    model(**inputs())
    with pytest.raises(RequestError, match="the config no longer describes these weights") as caught:
        model.save_pretrained(tmp_path / "out")
    assert "classifier/kernel" in str(caught.value)
    assert "bert" not in caught.value.message.partition(":")[2]
    model.config.num_labels = OTHER
    model.save_pretrained(tmp_path / "out", format="pt")
    again = TFBertForTokenClassification.from_pretrained(tmp_path / "out")
    assert again.num_labels == OTHER
    assert_close(again(**inputs()).logits, model(**inputs()).logits)


def test_the_body_itself_is_replaced(tmp_path: Path) -> None:
    """By that of another model, as for two heads on one body."""
    model, other = make(), make("BertModel", initializer_range=0.1)
    model.bert = other.bert
    assert len(model.weights) == len(other.weights) + 2
    model.save_pretrained(tmp_path)
    cp.assert_same(weights(TFBertModel.from_pretrained(tmp_path)), weights(other))


CHANGES: dict[str, Any] = {
    "item": (lambda layers, new: layers.__setitem__(0, new), "n1"),
    "slice": (lambda layers, new: layers.__setitem__(slice(1), [new]), "n1"),
    "append": (lambda layers, new: layers.append(new), "01n"),
    "insert": (lambda layers, new: layers.insert(1, new), "0n1"),
    "+=": (lambda layers, new: layers.__iadd__([new]), "01n"),
    "del": (lambda layers, _: layers.__delitem__(0), "1"),
    "del slice": (lambda layers, _: layers.__delitem__(slice(1)), "1"),
    "pop": (lambda layers, _: layers.pop(), "0"),
    "remove": (lambda layers, _: layers.remove(layers[0]), "1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_lists_of_layers(change: str) -> None:
    """A list of layers that is changed in place: what is in it is run, counted and trained, and nothing else."""
    model, other = make(), make()
    new = other.bert.encoder.layer[0]
    new.name = "layer_._new"
    encoder = model.bert.encoder
    parts = {"0": encoder.layer[0], "1": encoder.layer[1], "n": new}
    model(**inputs())
    act, left = CHANGES[change]
    act(encoder.layer, new)
    wanted = [parts[key] for key in left]
    assert all(one is two for one, two in zip(encoder.layer, wanted, strict=True))
    assert [id(each) for each in encoder.weights] == [id(each) for part in wanted for each in part.weights]
    again = make()
    again.bert.encoder.layer = wanted
    assert_close(model(**inputs()).logits, again(**inputs()).logits, 1e-6)
    assert len({id(each) for each in model.trainable_weights}) == len(again.trainable_weights)


@keras.saving.register_keras_serializable(package="tests")
class Towers(TFBertForSequenceClassification):
    """Two maps of its own in a list."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.towers = [keras.layers.Dense(LABELS, name=f"tower_{number}") for number in range(2)]

    def call(self, inputs: Any, training: Any = False) -> Any:
        pooled = self.bert(inputs, training=training).pooler_output
        return self.towers[0](pooled) + self.towers[1](pooled)


def test_a_list_in_a_class_of_a_users_own(tmp_path: Path) -> None:
    model = Towers(make().config)
    model(inputs())
    old, new = model.towers[0], keras.layers.Dense(LABELS, name="tower_0", kernel_initializer="ones")
    model.towers[0] = new
    scores = model(inputs())
    ids = {id(each) for each in model.trainable_weights}
    assert id(new.kernel) in ids
    assert id(old.kernel) not in ids
    model.save_pretrained(tmp_path)
    again = Towers.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.towers[0].kernel, np.ones((HIDDEN, LABELS), np.float32))
    np.testing.assert_array_equal(again(inputs()), scores)


DICT_CHANGES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "set": (lambda towers, new: towers.__setitem__("a", new), "nb"),
    "add": (lambda towers, new: towers.__setitem__("c", new), "abn"),
    "update": (lambda towers, new: towers.update({"b": new}), "an"),
    "update-by-name": (lambda towers, new: towers.update(b=new), "an"),
    "or": (lambda towers, new: towers.__ior__({"b": new, "d": towers["a"]}), "an"),
    "setdefault": (lambda towers, new: (towers.setdefault("a", new), towers.setdefault("c", new)), "abn"),
    "del": (lambda towers, _: towers.__delitem__("a"), "b"),
    "pop": (lambda towers, _: (towers.pop("a"), towers.pop("z", None)), "b"),
    "popitem": (lambda towers, _: towers.popitem(), "a"),
    "clear": (lambda towers, _: towers.clear(), ""),
}
"""Change of a dict of the layers a and b, and the layers that are left: n is the new one."""


class Named(TFBertForSequenceClassification):
    """Maps of its own: in a dict, in lists inside a list and a dict, and in a list that is filled later."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.towers = {name: keras.layers.Dense(LABELS, name=f"tower_{name}") for name in "ab"}
        self.rows = [[keras.layers.Dense(LABELS, name="row_0")], {"x": keras.layers.Dense(LABELS, name="row_1")}]
        self.later: list[Any] = []
        self.later.append(keras.layers.Dense(LABELS, name="later"))

    def call(self, inputs: Any, training: Any = False) -> Any:
        pooled = self.bert(inputs, training=training).pooler_output
        maps = [*self.towers.values(), self.rows[0][0], self.rows[1]["x"], *self.later]
        return sum(each(pooled) for each in maps)


def kernels(model: Any) -> set[int]:
    return {id(each) for each in model.trainable_weights}


class Box(BaseLayer):
    """Nothing but a dict of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = {name: dense(name) for name in "ab"}


def dense(name: str) -> keras.layers.Dense:
    layer = keras.layers.Dense(LABELS, name=name)
    layer.build((None, HIDDEN))
    return layer


@pytest.mark.parametrize("change", DICT_CHANGES)
def test_dicts_of_layers(change: str) -> None:
    box, new = Box(), dense("n")
    box.build()
    parts = {**box.towers, "n": new}
    act, left = DICT_CHANGES[change]
    act(box.towers, new)
    assert {id(each) for each in box.towers.values()} == {id(parts[name]) for name in left}
    assert kernels(box) == {id(weight) for name in left for weight in parts[name].trainable_weights}
    assert keras.tree.flatten(box.towers) == [box.towers[name] for name in sorted(box.towers)]


def test_collections_inside_collections(tmp_path: Path) -> None:
    """Each place is exchanged; the lists stay the objects that a program may have asked for before."""
    model = Named(make().config)
    model(inputs())
    row, names, rows = model.rows[0], model.rows[1], model.rows
    old = [row[0], names["x"], model.later[0]]
    new = [keras.layers.Dense(LABELS, name=each.name, kernel_initializer="ones") for each in old]
    row[0], names["x"], model.later[0] = new
    rows.append([keras.layers.Dense(LABELS, name="unused")])
    assert rows[0] is row
    assert rows[1] is names
    assert keras.tree.flatten(rows)[:2] == new[:2]
    model(inputs())
    assert all(id(each.kernel) in kernels(model) for each in new)
    assert not any(id(each.kernel) in kernels(model) for each in old)
    assert len(rows.pop()) == 1
    model.save_pretrained(tmp_path)
    again = Named.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.rows[1]["x"].kernel, np.ones((HIDDEN, LABELS), np.float32))
    np.testing.assert_array_equal(again(inputs()), model(inputs()))


class Holder(BaseLayer):
    """Maps of its own in every kind of collection."""

    def __init__(self) -> None:
        super().__init__(name="holder")
        self.one = np.zeros(2)
        self.places: list[Any] = [None, 5]
        self.places[0] = square("places")
        self.names: dict[str, Any] = {"a": None, "b": "text"}
        self.names["a"] = square("names")
        self.ordered = OrderedDict(z=square("ordered"), a=square("last"))
        self.pair = (square("pair"), [square("inner")])
        self.rows = [[square("row")], {"x": square("cell")}]
        self._private = [square("private")]

    def build(self, input_shape: Any = None) -> None:  # noqa: ARG002
        for each in self._flatten_layers(include_self=False):
            each.build((None, 2))

    def call(self, x: Any) -> Any:
        self.one = self.places[0](x)  # a tensor in an attribute
        return self.one


def square(name: str) -> Any:
    return keras.layers.Dense(2, name=name, use_bias=False)


PLACES: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "places": lambda holder: (holder.places, 0),
    "names": lambda holder: (holder.names, "a"),
    "ordered": lambda holder: (holder.ordered, "z"),
    "inner": lambda holder: (holder.pair[1], 0),
    "row": lambda holder: (holder.rows[0], 0),
    "cell": lambda holder: (holder.rows[1], "x"),
    "private": lambda holder: (holder._private, 0),
}
"""Name of a map -> the collection that holds it, and where."""


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_every_kind_of_collection(name: str, checkpoint: bool) -> None:
    """What a place holds is exchanged, whether a checkpoint was written before or not."""
    holder = Holder()
    holder(tf.ones((1, 2)))
    if checkpoint:
        holder._trackable_children()
    before = [each.name for each in holder._layers]
    collection, place = PLACES[name](holder)
    old, new = collection[place], square(name)
    collection[place] = new
    assert any(each is new for each in holder._layers)
    assert not any(each is old for each in holder._layers)
    assert [each.name for each in holder._layers] == before


def test_an_ordered_dict_stays_one() -> None:
    holder = Holder()
    assert holder.ordered.popitem(last=False)[0] == "z"
    holder.ordered.update(z=square("z"), y=square("y"))
    holder.ordered.move_to_end("a")
    assert list(holder.ordered) == ["z", "y", "a"]
    holder.ordered.clear()
    assert not {"ordered", "last", "z", "y"} & {each.name for each in holder._layers}
    with pytest.raises(KeyError):
        holder.ordered.pop("z")


def test_checkpoints_hold_every_kind_of_collection(tmp_path: Path) -> None:
    one, other = Holder(), Holder()
    for each in (one, other):
        each.build()
    path = tf.train.Checkpoint(model=one).write(str(tmp_path / "c"))
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.zeros(0), tf.constant([1.0, 2.0]), keras.KerasTensor((2,))], ids=["3", "0", "tf", "keras"]
)
def test_an_attribute_without_a_truth_value(value: Any) -> None:
    holder = Holder()
    holder.kept = value
    assert holder.kept is value
    assert tf.function(holder)(tf.ones((1, 2))).shape == (1, 2)


class Averaged(keras.layers.Layer):
    """A pooler of somebody's own, which Keras builds by the shape of what it is called with."""

    def __init__(self) -> None:
        super().__init__(name="pooler")
        self.dense = keras.layers.Dense(HIDDEN, kernel_initializer="ones", name="dense")

    def call(self, hidden: Any) -> Any:
        return self.dense(tf.reduce_mean(hidden, 1))


class Unbuilt(TFBertPreTrainedModel):
    """Layers of somebody's own go into a body that has no weights as yet."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, name="bert")
        self.bert.pooler = Averaged()
        attention = self.bert.encoder.layer[0].attention.self_attention
        attention.query = Lora(attention.query)

    def call(self, inputs: Any) -> Any:
        return self.bert(inputs)


def test_layers_in_a_body_without_weights() -> None:
    model, x = Unbuilt(tiny.config(num_hidden_layers=1)), inputs()
    found = model(x)
    sums = tf.reduce_sum(tf.reduce_mean(found.last_hidden_state, 1), -1, keepdims=True)
    np.testing.assert_allclose(found.pooler_output, tf.repeat(sums, HIDDEN, -1), rtol=1e-4, atol=1e-4)
    assert f"{query(0)}/query/kernel" in weights(model)
    assert all(layer.built for layer in model._flatten_layers())


def test_lists_stay_the_same_objects() -> None:
    holder = Holder()
    places, names = holder.places, holder.names
    holder.places += [square("more")]
    holder.names |= {"c": square("c")}
    assert holder.places is places
    assert holder.names is names
    assert {"more", "c"} <= {each.name for each in holder._layers}


def test_copies_are_plain() -> None:
    """A layer hears of no change in them."""
    holder = Holder()
    before = list(holder._layers)
    holder.sizes, holder.table = [], {"a": [1]}
    mapped = tf.nest.map_structure(lambda each: each, [holder.rows, holder.ordered])
    copies = [copy.copy(holder.places), copy.copy(holder.ordered), *mapped, copy.deepcopy(holder.table)]
    assert [type(each) for each in copies] == [list, OrderedDict, list, OrderedDict, dict]
    assert type(mapped[0][1]) is dict
    copies[0].append(square("more"))
    copies[2][1]["y"] = square("y")
    copies[4]["a"].append(2)
    assert holder.table == {"a": [1]}
    assert all(one is other for one, other in zip(holder._layers, before, strict=True))


def test_trainable_that_is_set_to_what_it_is_reaches_those_inside() -> None:
    """As in Keras 2: a program unfreezes a model by it, and freezes one of which a part is frozen."""
    model = make(CLASSIFIER)
    query = model.bert.encoder.layer[0].attention.self_attention.query
    model.bert.trainable = False
    assert len(model.trainable_weights) == 2
    model.trainable = True
    assert len(model.trainable_weights) == len(model.weights)
    model.bert.encoder.layer[0].attention.trainable = False
    query.trainable = True
    model.bert.trainable = False
    assert not query.trainable
    assert len(model.trainable_weights) == 2
