"""Classes of the user's own, on TFBertPreTrainedModel, on one of our heads, or around a TFBertMainLayer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import checkpoints as cp
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
import transformers

import bertconv
from bertconv import BertConfig, TFBertForSequenceClassification, TFBertMainLayer, TFBertPreTrainedModel
from bertconv.errors import BertconvError, MissingTensors, RequestError, ShapeMismatch

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

TF_FORMATS = pytest.mark.parametrize("form", ["tf", "tf-safetensors"])


class Scale(keras.layers.Layer):
    """A user's own layer: a variable that it makes itself, and one inside a layer that it holds."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.inner = keras.layers.Dense(5, use_bias=False, name="inner")

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(name="factor", shape=(shape[-1],), initializer="ones")
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return self.inner(x * self.factor)


class Regressor(TFBertPreTrainedModel):
    """A body, and layers of all sorts behind it; nothing is built before the first call."""

    def __init__(self, config: Any, *inputs: Any, width: int = 7, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, name="bert", dtype=self.dtype_policy)
        self.lstm = keras.layers.LSTM(width, name="lstm")
        self.scale = Scale(name="scale")
        self.towers = [keras.layers.Dense(3, name=f"tower_{number}") for number in range(2)]

    def call(self, input_ids: Any = None, attention_mask: Any = None, training: bool = False) -> Any:
        hidden = self.bert(input_ids, attention_mask=attention_mask, training=training).last_hidden_state
        pooled = self.scale(self.lstm(hidden))
        return self.towers[0](pooled) + self.towers[1](pooled)


REGRESSOR = {
    "lstm/lstm_cell/kernel": (35, 28), "lstm/lstm_cell/recurrent_kernel": (7, 28), "lstm/lstm_cell/bias": (28,),
    "scale/factor": (7,), "scale/inner/kernel": (7, 5), "tower_0/kernel": (5, 3), "tower_0/bias": (3,),
    "tower_1/kernel": (5, 3), "tower_1/bias": (3,),
}  # fmt: skip
"""What a Regressor has beyond its body."""


class Deeper(TFBertForSequenceClassification):
    """One of our heads with a layer more."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.extra = keras.layers.Dense(4, name="extra")

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, training: bool = False
    ) -> Any:
        output = super().call(input_ids, attention_mask=attention_mask, labels=labels, training=training)
        output["logits"] = self.extra(output.logits)
        return output


class Tagger(TFBertPreTrainedModel):
    """A class whose layers are those that checkpoints know, by name and size."""

    _keys_to_ignore_on_load_unexpected: ClassVar = [r"pooler", r"cls"]

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, dtype=self.dtype_policy)
        self.classifier = keras.layers.Dense(self.config.num_labels, name="classifier", dtype=self.dtype_policy)

    def call(self, input_ids: Any = None, training: bool = False) -> Any:
        return self.classifier(self.bert(input_ids, training=training).last_hidden_state)


class Seven(TFBertPreTrainedModel):
    """A head of the name that checkpoints know, and of a size that its config does not."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, dtype=self.dtype_policy)
        self.classifier = keras.layers.Dense(9, name="classifier", dtype=self.dtype_policy)

    def call(self, input_ids: Any = None, training: bool = False) -> Any:
        return self.classifier(self.bert(input_ids, training=training).pooler_output)


class Pair(TFBertPreTrainedModel):
    """Two bodies, of which only one is where checkpoints have it."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False)
        self.other = TFBertMainLayer(self.config, add_pooling_layer=False, name="other")
        self.post_init()

    def call(self, input_ids: Any = None) -> Any:
        return self.bert(input_ids)[0] + self.other(input_ids)[0]


def config(**changes: Any) -> dict[str, Any]:
    return tiny.config(**{"num_hidden_layers": 1, **changes})


def made(cls: Any, seed: int = 0, keywords: Any = None, **changes: Any) -> Any:
    """A model with normal numbers in every weight, called once."""
    model = cls(config(**changes), **(keywords or {}))
    model(model.dummy_inputs)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.3)
    return model


def weights(model: Any) -> cp.Tensors:
    return {weight.path.partition("/")[2]: weight.numpy() for weight in model.weights}


def body(**changes: Any) -> set[str]:
    names = cp.shapes("BertModel", cp.config("BertModel", num_hidden_layers=1, **changes))
    return {cp.tf_name(name).removesuffix(":0") for name in names}


POOLER = {cp.tf_name(name).removesuffix(":0") for name in cp.POOLER}


def load(cls: Any, folder: Path, **keywords: Any) -> tuple[Any, dict[str, Any], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, info = cls.from_pretrained(folder, output_loading_info=True, **keywords)
    return model, info, [str(warning.message) for warning in caught]


def report(missing: Any = (), unexpected: Any = (), mismatched: Any = ()) -> dict[str, Any]:
    return {
        "missing_keys": sorted(f"{name}:0" for name in missing), "unexpected_keys": sorted(unexpected),
        "mismatched_keys": sorted(mismatched), "error_msgs": [],
    }  # fmt: skip


def ordered(info: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value) for key, value in info.items()}


CLASSES: dict[str, tuple[Any, set[str]]] = {
    "Regressor": (Regressor, (body() - POOLER) | set(REGRESSOR)),
    "Deeper": (Deeper, body() | {"classifier/kernel", "classifier/bias", "extra/kernel", "extra/bias"}),
    "Tagger": (Tagger, (body() - POOLER) | {"classifier/kernel", "classifier/bias"}),
    "Seven": (Seven, body() | {"classifier/kernel", "classifier/bias"}),
    "Pair": (Pair, (body() - POOLER) | {name.replace("bert/", "other/", 1) for name in body() - POOLER}),
}
EACH_CLASS = pytest.mark.parametrize("name", CLASSES)


# There and back


@EACH_CLASS
def test_uncalled(tmp_path: Path, name: str) -> None:
    """A model that has not been called is built to be saved, counted or asked for its words."""
    cls, names = CLASSES[name]
    model = cls(config())
    model.save_pretrained(tmp_path)
    assert {each.removesuffix(":0") for each in cp.written(tmp_path)} == names
    assert cls(config()).num_parameters() == model.num_parameters() > 10_000
    assert cls(config()).get_input_embeddings().weight.shape == (101, 35)
    other = cls(config())
    other.resize_token_embeddings(99)
    assert weights(other)["bert/embeddings/word_embeddings/weight"].shape == (99, 35)


@TF_FORMATS
@EACH_CLASS
@pytest.mark.parametrize("shard", ["5GB", 20_000])
def test_there_and_back(tmp_path: Path, name: str, form: str, shard: int | str) -> None:
    cls, names = CLASSES[name]
    model = made(cls)
    assert set(weights(model)) == names
    model.save_pretrained(tmp_path, format=form, max_shard_size=shard)
    assert {each.removesuffix(":0") for each in cp.written(tmp_path)} == names
    assert cp.config_of(tmp_path)["architectures"] == [name]
    again, info, warned = load(cls, tmp_path)
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(again), weights(model))
    ids = tiny.inputs()["input_ids"]
    for one, other in zip(keras.tree.flatten(again(ids)), keras.tree.flatten(model(ids)), strict=True):
        np.testing.assert_array_equal(one, other)


@EACH_CLASS
def test_names_do_not_depend_on_the_model(tmp_path: Path, name: str) -> None:
    cls, names = CLASSES[name]
    model = made(cls, keywords={"name": "mine"})
    model.save_pretrained(tmp_path)
    assert {each.removesuffix(":0") for each in cp.written(tmp_path)} == names
    assert load(cls, tmp_path, name="other")[1] == report()


@EACH_CLASS
def test_number_of_parameters(name: str) -> None:
    model = made(CLASSES[name][0])
    assert model.num_parameters() == sum(value.size for value in weights(model).values())
    assert model.get_input_embeddings() is model.bert.embeddings


# What a checkpoint lacks


@pytest.mark.parametrize("container", ["safetensors", "h5"])
@pytest.mark.parametrize("source", ["BertModel", "BertForPreTraining"])
@EACH_CLASS
def test_from_a_plain_checkpoint(tmp_path: Path, name: str, source: str, container: str) -> None:
    """The body is the stored one; the layers of one's own are named in one warning, and not zero."""
    cls, names = CLASSES[name]
    state = cp.state_dict(source, num_hidden_layers=1)
    model, info, warned = load(
        cls, cp.save(tmp_path, source, state, container, **config(num_labels=None)), num_labels=7
    )
    stored = {key.removesuffix(":0"): value for key, value in cp.tf_state(state).items()}
    missing = names - set(stored)
    ignored = {"Tagger"}
    left = {f"{key}:0" for key in set(stored) - names} if name not in {"Deeper", *ignored} else set()
    assert ordered(info) == report(missing, left)
    assert len(warned) == 1
    found = weights(model)
    assert set(found) == names
    for key, value in found.items():
        if key in stored:
            np.testing.assert_array_equal(value, stored[key])
        else:
            assert key in warned[0] or "{" in warned[0] or "more" in warned[0]
            assert abs(value).max() > 0 or key.endswith(("bias", "beta")), f"{key} was left blank"


def test_body_that_is_not_there(tmp_path: Path) -> None:
    state = cp.state_dict("BertModel", num_hidden_layers=1)
    del state["bert.encoder.layer.0.output.dense.weight"]
    with pytest.raises(MissingTensors, match=r"output\.dense\.weight"):
        load(Regressor, cp.save(tmp_path, "BertModel", state, **config()))


def test_layer_of_another_size(tmp_path: Path) -> None:
    """Arguments of one's own `__init__` go through from_pretrained; a size that does not fit is refused by name."""
    model = made(Regressor)
    model.save_pretrained(tmp_path)
    with pytest.raises(ShapeMismatch, match=r"scale/factor is \[7\], not \[6\]") as caught:
        load(Regressor, tmp_path, width=6)
    assert "ignore_mismatched_sizes=True" in caught.value.hint
    again, info, warned = load(Regressor, tmp_path, width=6, ignore_mismatched_sizes=True)
    assert ordered(info) == report(
        mismatched=[
            ("lstm/lstm_cell/bias:0", (28,), (24,)), ("lstm/lstm_cell/kernel:0", (35, 28), (35, 24)),
            ("lstm/lstm_cell/recurrent_kernel:0", (7, 28), (6, 24)), ("scale/factor:0", (7,), (6,)),
            ("scale/inner/kernel:0", (7, 5), (6, 5)),
        ]
    )  # fmt: skip
    assert len(warned) == 1
    assert "scale/factor:0: [7] stored, [6] needed" in warned[0]
    np.testing.assert_array_equal(weights(again)["tower_1/kernel"], weights(model)["tower_1/kernel"])
    with pytest.raises(RequestError, match="widht"):
        load(Regressor, tmp_path, widht=6)


def test_one_class_from_the_file_of_another(tmp_path: Path) -> None:
    """Layers of the same name and size are the same; the rest is missing and unexpected."""
    model = made(Tagger)
    model.save_pretrained(tmp_path)
    again, info, _ = load(tiny.tf_class("BertForTokenClassification"), tmp_path)
    assert info == report()
    cp.assert_same(weights(again), weights(model))
    _, info, warned = load(Regressor, tmp_path)
    assert ordered(info) == report(REGRESSOR, ["classifier/bias:0", "classifier/kernel:0"])
    assert len(warned) == 1


def test_own_layers_that_are_ignored(tmp_path: Path) -> None:
    class Quiet(Regressor):
        _keys_to_ignore_on_load_missing: ClassVar = [r"^lstm/", r"^tower_", r"^scale"]
        _keys_to_ignore_on_load_unexpected: ClassVar = [r"pooler"]

    cp.save(tmp_path, "BertModel", cp.state_dict("BertModel", num_hidden_layers=1), **config())
    model, info, warned = load(Quiet, tmp_path)
    assert (info, warned) == (report(), [])
    assert abs(weights(model)["tower_0/kernel"]).max() > 0


# PyTorch's format


@pytest.mark.parametrize("name", ["Regressor", "Deeper", "Seven", "Pair"])
def test_no_name_in_pytorch(tmp_path: Path, name: str) -> None:
    """Layers that PyTorch has no names for are refused, by name, and nothing is written."""
    cls, names = CLASSES[name]
    model = made(cls)
    with pytest.raises(RequestError) as caught:
        model.save_pretrained(tmp_path / "out", format="pt")
    own = names - body() - ({"classifier/kernel", "classifier/bias"} if name == "Deeper" else set())
    for each in own:
        assert each in str(caught.value) or each.startswith("tower_") or "more" in str(caught.value)
    if name == "Regressor":
        assert "tower_{0...1}/kernel" in str(caught.value)
    assert "tf" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_layers_that_pytorch_knows(tmp_path: Path) -> None:
    """A class whose layers are a known head's is read by transformers 5, bit by bit."""
    model = made(Tagger)
    model.save_pretrained(tmp_path, format="pt")
    read, info = transformers.BertForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = {name: tensor.numpy() for name, tensor in read.state_dict().items()}
    assert set(cp.written(tmp_path)) == set(state)
    cp.assert_same({key.removesuffix(":0"): value for key, value in cp.tf_state(state).items()}, weights(model))
    again, info, _ = load(Tagger, tmp_path)
    assert info == report()
    cp.assert_same(weights(again), weights(model))


# Configs, names and training of one's own


class WideConfig(BertConfig):
    """A config with a key of its own."""

    def __init__(self, width: int = 3, **keys: Any) -> None:
        super().__init__(width=width, **keys)


class Wide(TFBertPreTrainedModel):
    config_class = WideConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False)
        self.wide = keras.layers.Dense(self.config.width, name="wide")

    def call(self, input_ids: Any = None) -> Any:
        return self.wide(self.bert(input_ids).last_hidden_state)


def test_config_class_of_ones_own(tmp_path: Path) -> None:
    model = made(Wide, width=6)
    assert type(model.config) is WideConfig
    model.save_pretrained(tmp_path)
    again, info, _ = load(Wide, tmp_path)
    assert (type(again.config), again.config.width) == (WideConfig, 6)
    cp.assert_same(weights(again), weights(model))
    cp.save(tmp_path / "plain", "BertModel", cp.state_dict("BertModel", num_hidden_layers=1), **config())
    again, info, _ = load(Wide, tmp_path / "plain")
    assert weights(again)["wide/kernel"].shape == (35, 3)
    assert "wide/kernel:0" in info["missing_keys"]
    again, _, _ = load(Wide, tmp_path / "plain", width=2)
    assert weights(again)["wide/kernel"].shape == (35, 2)


class Paired(TFBertPreTrainedModel):
    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False)
        self.one, self.two = (keras.layers.Dense(2, name="dense") for _ in range(2))

    def call(self, input_ids: Any = None) -> Any:
        hidden = self.bert(input_ids).last_hidden_state
        return self.one(hidden) + self.two(hidden)


def test_two_layers_of_one_name(tmp_path: Path) -> None:
    """Refused, not one of them lost."""
    with pytest.raises(RequestError, match="dense/kernel"):
        made(Paired).save_pretrained(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Shared(TFBertPreTrainedModel):
    """One layer under two attributes."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False)
        self.one = self.two = keras.layers.Dense(35, name="shared")

    def call(self, input_ids: Any = None) -> Any:
        return self.two(self.one(self.bert(input_ids).last_hidden_state))


def test_one_layer_twice(tmp_path: Path) -> None:
    model = made(Shared)
    model.save_pretrained(tmp_path)
    assert "shared/kernel:0" in cp.written(tmp_path)
    again, info, _ = load(Shared, tmp_path)
    assert info == report()
    cp.assert_same(weights(again), weights(model))


class Normal(TFBertPreTrainedModel):
    """Weights that are not trained, and layers whose names Keras makes up."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False)
        self.norm = keras.layers.BatchNormalization(name="norm")
        self.drop = keras.layers.Dropout(0.5)

    def call(self, input_ids: Any = None, training: bool = False) -> Any:
        return self.drop(self.norm(self.bert(input_ids).last_hidden_state, training=training), training=training)


def test_weights_that_are_not_trained(tmp_path: Path) -> None:
    model = made(Normal)
    model.save_pretrained(tmp_path)
    assert {"norm/moving_mean:0", "norm/moving_variance:0", "norm/gamma:0"} <= set(cp.written(tmp_path))
    made(Normal)  # another dropout_N
    again, info, warned = load(Normal, tmp_path)
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(again), weights(model))


class TwoBodies(TFBertPreTrainedModel):
    """A body for questions and one for answers, neither under the name that the table has for one."""

    body_class: ClassVar[Any]

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.question = self.body_class(self.config, name="question")
        self.answer = self.body_class(self.config, name="answer")

    def call(self, input_ids: Any = None, attention_mask: Any = None) -> Any:
        asked, told = (body(input_ids, attention_mask)[1] for body in (self.question, self.answer))
        return tf.reduce_sum(asked * told, -1)


@pytest.mark.parametrize("body_class", [TFBertMainLayer, bertconv.TFBertModel])
def test_two_bodies_side_by_side(tmp_path: Path, body_class: Any) -> None:
    towers = type("TFTowers", (TwoBodies,), {"body_class": body_class})
    model = made(towers)
    model.save_pretrained(tmp_path / "towers")
    again, info, warned = load(towers, tmp_path / "towers")
    assert (info, warned) == (report(), [])
    other = made(towers, seed=1)
    other.load_weights(tmp_path / "towers")
    for found in (again, other):
        assert all(map(np.array_equal, found.get_weights(), model.get_weights()))
    cp.save(tmp_path / "one", "BertModel", cp.state_dict("BertModel", num_hidden_layers=1), **config())
    with pytest.raises(MissingTensors, match="no tensor fits a weight of TFTowers"):  # which of the two would it be?
        load(towers, tmp_path / "one")


def test_model_without_a_body(tmp_path: Path) -> None:
    class Bodiless(TFBertPreTrainedModel):
        def __init__(self, config: Any, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.dense = keras.layers.Dense(2, name="dense")

        def call(self, input_ids: Any = None) -> Any:
            return self.dense(tf.cast(input_ids, tf.float32))

    cp.save(tmp_path, "BertModel", cp.state_dict("BertModel", num_hidden_layers=1), **config())
    with pytest.raises(BertconvError):
        load(Bodiless, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_float16"])
def test_dtype(tmp_path: Path, dtype: str) -> None:
    model = made(Tagger)
    model.save_pretrained(tmp_path)
    again, info, _ = load(Tagger, tmp_path, dtype=dtype)
    assert info == report()
    kind = "float32" if dtype == "mixed_float16" else dtype
    cp.assert_same(weights(again), {key: value.astype(cp.numpy_type(kind)) for key, value in weights(model).items()})
    assert again(again.dummy_inputs).dtype == dtype.removeprefix("mixed_")


def test_own_class_trains_and_goes_into_a_keras_file(tmp_path: Path) -> None:
    model = made(Regressor)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError(), run_eagerly=True)
    ids, targets = tiny.inputs()["input_ids"], np.ones((3, 3), np.float32)
    before = weights(model)
    model.fit(ids, targets, verbose=0)
    changed = {name for name, value in weights(model).items() if (value != before[name]).any()}
    assert set(REGRESSOR) <= changed
    assert "bert/embeddings/word_embeddings/weight" in changed
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Regressor": Regressor})
    np.testing.assert_array_equal(again(ids), model(ids))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = made(Regressor, seed=1)
    other.load_weights(path)
    cp.assert_same(weights(other), weights(model))


class Several(TFBertForSequenceClassification):
    """One of our heads, whose own weights are there at once, with layers more that get theirs in a call."""

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.towers = [[keras.layers.Dense(3, name="low"), keras.layers.Dense(2, name="high")]]
        self.single = {"one": keras.layers.Dense(2, name="one")}

    def call(self, inputs: Any, training: bool = False) -> Any:
        pooled = self.bert(inputs, training=training).pooler_output
        own = self.towers[0][1](self.towers[0][0](pooled)) + self.single["one"](pooled)
        return own + self.classifier(pooled)[:, :2]


class OfPairs(TFBertPreTrainedModel):
    """Takes what no dummy inputs are."""

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(config, name="bert")
        self.scores = keras.layers.Dense(3, name="scores")

    def call(self, inputs: Any) -> Any:
        one, other = (self.bert(inputs[name]).pooler_output for name in ("one", "other"))
        return self.scores(one - other)


def test_a_copy_that_would_lose_weights_is_refused() -> None:
    model, ids = OfPairs(config()), tiny.inputs()["input_ids"]
    model({"one": ids, "other": ids})
    with (
        pytest.warns(UserWarning, match="scores will get new ones in the first call"),
        pytest.raises(RequestError, match="OfPairs cannot be copied") as refusal,
    ):
        copy.deepcopy(model)
    assert "dummy_inputs" in refusal.value.hint


@pytest.mark.parametrize("way", ["model.keras", "model.weights.h5", "copy"])
def test_layers_more_than_a_head_has_come_back(tmp_path: Path, way: str) -> None:
    model, ids = made(Several), tiny.inputs()["input_ids"]
    model.compile(keras.optimizers.Adam(0.1), keras.losses.MeanSquaredError())
    model.train_on_batch(ids, np.ones((3, 2), np.float32))
    if way == "copy":
        again = copy.deepcopy(model)
    elif way == "model.keras":
        model.save(tmp_path / way)
        again = keras.models.load_model(tmp_path / way, custom_objects={"Several": Several})
    else:
        model.save_weights(tmp_path / way)
        again = Several(config())
        again.load_weights(tmp_path / way)
    np.testing.assert_array_equal(again(ids), model(ids))
    if way != "model.weights.h5":
        assert len(again.optimizer.variables) == len(model.optimizer.variables) > 2 * len(model.trainable_variables)


def test_own_head_trains() -> None:
    """With the loss that it inherits, and with one of Keras's on outputs of its own."""
    model = made(Deeper)
    ids, labels = tiny.inputs()["input_ids"], np.array([0, 1, 2])
    assert model.predict(ids, verbose=0).logits.shape == (3, 4)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    own = model.evaluate({"input_ids": ids, "labels": labels}, verbose=0)
    assert own == pytest.approx(float(np.mean(model(ids, labels=labels).loss)), rel=1e-5)
    model.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    before = weights(model)
    model.fit(ids, labels, verbose=0)
    assert {name for name, value in weights(model).items() if (value != before[name]).any()} >= {
        "extra/kernel", "classifier/kernel", "bert/pooler/dense/kernel",
    }  # fmt: skip


# The body as a layer of functional models


def functional(layer: Any) -> Any:
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = keras.Input((None,), dtype="int32", name="mask")
    out = layer(ids, attention_mask=mask)
    middle = keras.layers.Dense(6, activation="relu", name="middle")(out.last_hidden_state)
    joined = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(middle), out.pooler_output])
    return keras.Model([ids, mask], keras.layers.Dense(4, name="top")(joined))


@pytest.mark.parametrize("compiled", [False, True])
def test_body_in_a_functional_model(tmp_path: Path, compiled: bool) -> None:
    """Made, called, trained, saved as .keras, loaded, and trained on: the same as without saving."""
    layer = TFBertMainLayer(config(hidden_act="relu", layer_norm_eps=1e-5))
    model = functional(layer)
    given = tiny.inputs()
    x, y = [given["input_ids"], given["attention_mask"]], np.array([0, 1, 2])
    if compiled:
        model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                      run_eagerly=True)  # fmt: skip
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    inner = next(each for each in again.layers if isinstance(each, TFBertMainLayer))
    assert inner.config.to_dict() == layer.config.to_dict()
    np.testing.assert_array_equal(again(x), model(x))
    if compiled:
        again.run_eagerly = True
        for each in (model, again):
            each.train_on_batch(x, y)
        for one, other in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    "keywords",
    [
        {"add_pooling_layer": False},
        {"name": "encoder"},
        {"dtype": "float64"},
        {"trainable": False},
        {"dtype": "mixed_float16"},
    ],
    ids=str,
)
def test_arguments_of_the_body(tmp_path: Path, keywords: dict[str, Any]) -> None:
    layer = TFBertMainLayer(config(), **keywords)
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, layer(ids).last_hidden_state)
    assert model.count_params() > 0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found = next(each for each in again.layers if isinstance(each, TFBertMainLayer))
    for key, value in keywords.items():
        read = {"add_pooling_layer": lambda each: each.pooler is not None, "dtype": lambda each: each.dtype_policy.name}
        assert read.get(key, lambda each, key=key: getattr(each, key))(found) == value
    assert len(found.trainable_weights) == (0 if keywords.get("trainable") is False else len(found.weights))
    given = tiny.inputs()["input_ids"]
    np.testing.assert_array_equal(again(given), model(given))


def test_trained_body_in_a_functional_model(tmp_path: Path) -> None:
    """The body of a loaded model, used as a layer, shares its weights."""
    state = cp.state_dict("BertModel", num_hidden_layers=1)
    state = {name: (value % 1 - np.float32(0.5)) / 3 for name, value in state.items()}
    loaded = bertconv.TFBertModel.from_pretrained(cp.save(tmp_path, "BertModel", state, **config()))
    model = functional(loaded.bert)
    given = tiny.inputs()
    x = [given["input_ids"], given["attention_mask"]]
    before = model(x)
    loaded.bert.pooler.dense.bias.assign(loaded.bert.pooler.dense.bias + 1)
    assert abs(model(x) - before).numpy().max() > 0
    cp.assert_same(
        {name: value for name, value in weights(loaded).items() if "pooler" not in name},
        {name.removesuffix(":0"): value for name, value in cp.tf_state(state).items() if "pooler" not in name},
    )


def whole_model(cls: Callable[..., Any], **keywords: Any) -> Any:
    return cls(config(), **keywords)


def test_whole_model_in_a_functional_model(tmp_path: Path) -> None:
    """A head inside a model with other layers, saved as one .keras file."""
    inner = whole_model(TFBertForSequenceClassification, name="classes")
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Dense(2)(inner(ids).logits))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    given = tiny.inputs()["input_ids"]
    np.testing.assert_array_equal(again(given), model(given))
    inside = again.get_layer("classes")
    assert isinstance(inside, TFBertForSequenceClassification)
    inside.save_pretrained(tmp_path / "out")
    assert load(TFBertForSequenceClassification, tmp_path / "out")[1] == report()


def test_build_without_a_shape() -> None:
    """Of a class whose layers wait for a call, and of one that has added some; later calls take the same weights."""
    for cls in (Regressor, Deeper):
        model = cls(config())
        model.build()
        before = weights(model)
        assert set(before) > body() - POOLER
        model(tiny.inputs()["input_ids"])
        cp.assert_same(weights(model), before)
