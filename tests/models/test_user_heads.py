"""Heads of users' own, whatever the signature of `call`: values, training, saving; as in transformers 4.57."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
from transformers import BatchEncoding

import bertconv
from bertconv import (
    TFBertForSequenceClassification,
    TFBertMainLayer,
    TFBertModel,
    TFBertPreTrainedModel,
    TFSequenceClassificationLoss,
    TFSequenceClassifierOutput,
    unpack_inputs,
)
from bertconv.errors import RequestError

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SEEN: list[Any] = []
"""Whether a layer inside was training, in each call."""


class Witness(keras.layers.Layer):
    """Passes on what it gets, and notes whether it was training."""

    def call(self, x: Any, training: Any = None) -> Any:
        SEEN.append(training)
        return x


class Own(TFBertPreTrainedModel, TFSequenceClassificationLoss):
    """What all these classes share; each has a `call` of its own."""

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(config, name="bert")
        self.witness = Witness(name="witness")
        self.classifier = keras.layers.Dense(3, name="own_classifier")

    def scored(self, pooled: Any) -> Any:
        return self.classifier(self.witness(pooled))


class Inputs(Own):
    def call(self, inputs: Any) -> Any:
        return self.scored(self.bert(inputs)[1])


class InputsTraining(Own):
    def call(self, inputs: Any, training: Any = False) -> Any:
        return self.scored(self.bert(inputs, training=training).pooler_output)


class InputsKeywords(Own):
    def call(self, inputs: Any, **kwargs: Any) -> Any:
        return self.scored(self.bert(inputs, **kwargs).pooler_output)


class InputsAndOthers(Own):
    def call(self, inputs: Any, attention_mask: Any = None, token_type_ids: Any = None, training: Any = False) -> Any:
        found = self.bert(inputs, attention_mask=attention_mask, token_type_ids=token_type_ids, training=training)
        return self.scored(found.pooler_output)


class IdsAndKeywords(Own):
    """Its keywords go nowhere: transformers 4 had the whole dict in `input_ids`."""

    def call(self, input_ids: Any = None, **kwargs: Any) -> Any:
        return self.scored(self.bert(input_ids, training=kwargs.get("training")).pooler_output)


class IdsAlone(Own):
    def call(self, input_ids: Any, training: Any = False) -> Any:
        return self.scored(self.bert(input_ids, training=training).pooler_output)


class Spread(Own):
    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.scored(self.bert(*args, **kwargs).pooler_output)


class Masked(Own):
    def call(self, x: Any, mask: Any = None) -> Any:
        assert mask is None
        return self.scored(self.bert(x).pooler_output)


class Features(Own):
    def call(self, features: Any) -> Any:
        return self.scored(
            self.bert(
                features["input_ids"], attention_mask=features["attention_mask"],
                token_type_ids=features["token_type_ids"],
            )[1]
        )  # fmt: skip


class Starred(Own):
    def call(self, inputs: Any, extra_feature: Any = None) -> Any:
        assert extra_feature is None
        return self.scored(self.bert(**inputs)[1])


class Named(Own):
    def call(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, *, training: Any = False) -> Any:
        found = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, training=training)
        return self.scored(found.pooler_output)


class Unpacked(Own):
    @unpack_inputs
    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, training: Any = False
    ) -> Any:
        found = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, training=training
        )
        return self.scored(found.pooler_output)


class Graph(Own):
    @tf.function
    def call(self, inputs: Any, training: Any = False) -> Any:
        return self.scored(self.bert(inputs, training=training).pooler_output)


class Pairs(Own):
    """Takes a list, and nothing else."""

    def call(self, inputs: Any) -> Any:
        ids, mask, types = inputs
        return self.scored(self.bert(ids, attention_mask=mask, token_type_ids=types)[1])


class WholeModel(TFBertPreTrainedModel):
    """A whole model inside, as many notebooks have it."""

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertModel(config, name="bert")
        self.witness = Witness(name="witness")
        self.classifier = keras.layers.Dense(3, name="own_classifier")

    def call(self, inputs: Any, training: Any = False) -> Any:
        return self.classifier(self.witness(self.bert(inputs, training=training)[1]))


ANY = [
    Inputs, InputsTraining, InputsKeywords, InputsAndOthers, IdsAndKeywords, IdsAlone, Spread, Masked, Features,
    Starred, Named, Unpacked, Graph,
]  # fmt: skip
DICT_ONLY = (Features, Starred)
IN_GRAPHS = (InputsKeywords, IdsAndKeywords)
EACH = pytest.mark.parametrize("cls", [*ANY, Pairs])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the body alone, with numbers large enough that a mask that is lost shows."""
    folder = tmp_path_factory.mktemp("plain")
    return Path(tiny.save(tiny.torch_model(num_hidden_layers=1).float(), folder))


def given() -> dict[str, Any]:
    return tiny.inputs(seed=3)


def loaded(cls: Any, folder: Path) -> Any:
    """From a plain checkpoint: the head is new, and the one warning says so."""
    with pytest.warns(UserWarning, match="own_classifier"):
        return cls.from_pretrained(folder)


@pytest.fixture(scope="module")
def pooled(plain: Path) -> dict[str, Any]:
    """What TFBertModel makes of the ids with all else, and of them alone."""
    body = TFBertModel.from_pretrained(plain)
    inputs = given()
    return {"all": body(**inputs)[1].numpy(), "ids": body(inputs["input_ids"])[1].numpy()}


def scores(model: Any, pooled: Any) -> Any:
    """What the head makes of pooled states."""
    return pooled @ model.classifier.kernel.numpy() + model.classifier.bias.numpy()


def ways(cls: Any, inputs: dict[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """How users call such a class with everything."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    in_order = [tensors[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    packed = {
        "list": lambda model: model(in_order),
        "tuple": lambda model: model(tuple(in_order)),
        "arrays": lambda model: model([each.numpy() for each in in_order]),
    }
    if cls is Pairs:
        return packed
    found: dict[str, Callable[[Any], Any]] = {
        "dict": lambda model: model(inputs),
        "lists": lambda model: model({name: value.tolist() for name, value in inputs.items()}),
        "encoding": lambda model: model(BatchEncoding(inputs), training=False),
    }
    if cls in IN_GRAPHS:
        found["graph"] = lambda model: tf.function(model)(tensors)
        found["predict"] = lambda model: model.predict(inputs, verbose=0)
    if cls not in (IdsAlone, IdsAndKeywords):  # one takes no others, which 4.57 refused too, the other drops them
        found["keywords"] = lambda model: model(**tensors)
    return found if cls in DICT_ONLY else found | packed


@EACH
def test_values(plain: Path, pooled: dict[str, Any], cls: Any) -> None:
    """Loads, and gives in every way of calling it what its parts give."""
    model, inputs = loaded(cls, plain), given()
    wanted = scores(model, pooled["all"])
    for way, call in ways(cls, inputs).items():
        np.testing.assert_allclose(call(model), wanted, atol=1e-5, err_msg=way)
    if cls not in (*DICT_ONLY, Named, Pairs):
        ids = inputs["input_ids"]
        np.testing.assert_allclose(model(ids), scores(model, pooled["ids"]), atol=1e-5)
        np.testing.assert_allclose(model(ids.tolist()), model(tf.constant(ids)), atol=1e-6)


@pytest.mark.parametrize("cls", [Inputs, InputsKeywords, IdsAlone, Graph, Pairs])
def test_training_and_back(plain: Path, tmp_path: Path, cls: Any) -> None:
    """Every layer inside trains in `fit` alone; the trained model comes back bit by bit."""
    model, inputs = loaded(cls, plain), given()
    x: Any = inputs
    if cls is Pairs:
        x = [inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    labels = np.array([0, 2, 1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, metrics=["accuracy"], run_eagerly=cls is not Inputs)
    before = model.classifier.kernel.numpy()
    SEEN.clear()
    model.fit(x, labels, verbose=0, batch_size=3)
    assert SEEN[-1] is True
    assert not np.array_equal(model.classifier.kernel.numpy(), before)
    SEEN.clear()
    loss, _ = model.evaluate(x, labels, verbose=0, batch_size=3)
    assert not SEEN[-1]
    right = model.predict(x, verbose=0)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, right)
    assert loss == pytest.approx(float(expected), rel=1e-4)
    model.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    cp.assert_same(
        {weight.path.partition("/")[2]: weight.numpy() for weight in again.weights},
        {weight.path.partition("/")[2]: weight.numpy() for weight in model.weights},
    )
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("cls", [InputsTraining, IdsAndKeywords])
def test_data_sets(plain: Path, cls: Any) -> None:
    """`fit` with batches of features and labels, with labels among the features, and with prepared rows."""
    model, inputs = loaded(cls, plain), given()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, run_eagerly=cls is not IdsAndKeywords)
    labels = np.array([0, 2, 1])
    batches = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(3)
    expected = model.evaluate(inputs, labels, verbose=0)
    assert model.evaluate(batches, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.evaluate({**inputs, "labels": labels}, verbose=0) == pytest.approx(expected, rel=1e-5)
    rows = model.prepare_tf_dataset({**inputs, "label": labels}, batch_size=3, shuffle=False)
    assert set(rows.element_spec[0]) == set(inputs)
    assert model.evaluate(rows, verbose=0) == pytest.approx(expected, rel=1e-5)
    model.fit(batches, verbose=0)


class WithLoss(Own):
    def call(self, inputs: Any, labels: Any = None, training: Any = False) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels", labels)
        logits = self.scored(self.bert(inputs, training=training)[1])
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return TFSequenceClassifierOutput(loss=loss, logits=logits)


class Derived(TFBertForSequenceClassification):
    def call(self, inputs: Any, **kwargs: Any) -> Any:
        return super().call(inputs, **kwargs)


class DerivedPlain(TFBertForSequenceClassification):
    def call(self, inputs: Any, training: Any = False) -> Any:
        return super().call(inputs, training=training)


class DerivedNamed(TFBertForSequenceClassification):
    def call(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        return super().call(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)


@pytest.mark.parametrize("cls", [WithLoss, Derived, DerivedPlain, DerivedNamed])
def test_own_loss(plain: Path, pooled: dict[str, Any], cls: Any) -> None:
    """A head that gives its loss trains by it, wherever the labels are."""
    with pytest.warns(UserWarning, match="classifier"):
        model = cls.from_pretrained(plain, num_labels=3)
    inputs, labels = given(), np.array([0, 2, 1])
    logits = model(inputs).logits
    np.testing.assert_allclose(logits, scores(model, pooled["all"]), atol=1e-5)
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(model({**inputs, "labels": labels}).loss, losses, rtol=1e-5)
    if cls is not DerivedPlain:
        np.testing.assert_allclose(model(inputs, labels=labels).loss, losses, rtol=1e-5)
    model.compile("sgd", run_eagerly=cls is not Derived)
    expected = pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert model.evaluate(inputs, labels, verbose=0) == expected
    assert model.evaluate({**inputs, "labels": labels}, verbose=0) == expected
    assert model.fit(inputs, labels, verbose=0).history["loss"] == [expected]  # no dropout in this config


class TwoLosses(Own):
    """Two kinds of labels, and one loss of both, which is a scalar."""

    def call(self, input_ids: Any = None, intent_labels: Any = None, slot_labels: Any = None) -> Any:
        intents = self.scored(self.bert(input_ids).pooler_output)
        loss = None
        if intent_labels is not None:
            loss = sum(
                tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, intents, from_logits=True))
                for labels in (intent_labels, slot_labels)
            )
        return TFSequenceClassifierOutput(loss=loss, logits=intents)


@pytest.mark.parametrize("is_beside", [False, True])
def test_labels_that_no_output_is_called_after(plain: Path, is_beside: bool) -> None:
    """They are for the model's own loss alone, where no metrics are compiled."""
    model, ids = loaded(TwoLosses, plain), given()["input_ids"]
    labels = {"intent_labels": np.array([0, 2, 1]), "slot_labels": np.array([1, 1, 0])}
    wanted = float(model(ids, **labels).loss)
    model.compile("sgd", run_eagerly=is_beside)
    x, y = ({"input_ids": ids}, labels) if is_beside else ({"input_ids": ids, **labels}, None)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(wanted, rel=1e-5)
    assert model.fit(x, y, verbose=0).history["loss"] == [pytest.approx(wanted, rel=1e-5)]


def test_flags_beside_tensors(plain: Path) -> None:
    """Keywords that go on may be tensors and flags at once."""
    with pytest.warns(UserWarning, match="classifier"):
        model = Derived.from_pretrained(plain, num_labels=3)
    inputs = given()
    found = model(
        inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True, return_dict=True
    )
    assert len(found.hidden_states) == 2
    wanted = model({"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}).logits
    np.testing.assert_array_equal(found.logits, wanted)


class Wanting(Own):
    """Takes an array that only its own data have."""

    def call(self, inputs: Any) -> Any:
        return self.scored(self.bert(inputs["input_ids"])[1] + inputs["extra"])


def test_inputs_that_nobody_knows(plain: Path, pooled: dict[str, Any]) -> None:
    """Loads all the same, says what it could not make, and takes `dummy_inputs` of the class."""
    with pytest.warns(UserWarning, match=r"own_classifier will get new ones in the first call.*dummy_inputs"):
        model = Wanting.from_pretrained(plain)
    inputs = given()
    batch = {"input_ids": inputs["input_ids"], "extra": np.ones((tiny.BATCH, 35), np.float32)}
    assert model(batch).shape == (tiny.BATCH, 3)

    class Told(Wanting):
        @property
        def dummy_inputs(self) -> dict[str, Any]:
            return {"input_ids": tf.ones((1, 2), tf.int32), "extra": tf.ones((1, 35))}

    told = loaded(Told, plain)
    np.testing.assert_allclose(told(batch), scores(told, pooled["ids"] + 1), atol=1e-5)


def test_whole_model_inside(plain: Path, pooled: dict[str, Any], tmp_path: Path) -> None:
    model, inputs = WholeModel(bertconv.BertConfig.from_pretrained(plain)), given()
    model.bert = TFBertModel.from_pretrained(plain, name="bert")
    np.testing.assert_allclose(model(inputs), scores(model, pooled["all"]), atol=1e-5)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(WholeModel.from_pretrained(tmp_path)(inputs), model(inputs))


class Started(TFBertPreTrainedModel):
    """A head with an initializer of its own, under the name that checkpoints know."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, name="bert")
        self.classifier = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones", name="classifier")

    def call(self, inputs: Any) -> Any:
        return self.classifier(self.bert(inputs).pooler_output)


def test_initializers_of_own_layers_hold(plain: Path, pooled: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="classifier/kernel"):
        model = Started.from_pretrained(plain)
    right = pooled["ids"].sum(-1, keepdims=True).repeat(2, 1) + 1
    np.testing.assert_allclose(model(given()["input_ids"]), right, atol=1e-5)


def test_whole_model_inside_is_filled(plain: Path, pooled: dict[str, Any], tmp_path: Path) -> None:
    """transformers 4 left it at random weights, with a warning."""
    model, inputs = loaded(WholeModel, plain), given()
    np.testing.assert_allclose(model.bert(inputs).pooler_output, pooled["all"], atol=1e-6)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(WholeModel.from_pretrained(tmp_path)(inputs), model(inputs))
    with pytest.warns(UserWarning, match="own_classifier"):  # which a plain model has no use for
        body = TFBertModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(body(inputs).pooler_output, pooled["all"], atol=1e-6)


@keras.saving.register_keras_serializable(package="user_heads")
class Around(keras.Model):
    """No class of ours: a Keras model that holds one."""

    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path_of_body = path
        self.bert = TFBertModel.from_pretrained(path)
        self.classifier = keras.layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.classifier(self.bert(inputs).pooler_output)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "path": self.path_of_body}


def test_keras_model_around(plain: Path, pooled: dict[str, Any], tmp_path: Path) -> None:
    model, inputs = Around(str(plain)), given()
    np.testing.assert_allclose(model(inputs), scores(model, pooled["all"]), atol=1e-5)
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(inputs, np.array([0, 2, 1]), verbose=0)
    model.save_weights(tmp_path / "around.weights.h5")
    other = Around(str(plain))
    other(inputs)
    other.load_weights(tmp_path / "around.weights.h5")
    np.testing.assert_array_equal(other(inputs), model(inputs))
    model.save(tmp_path / "around.keras")  # loading it, Keras builds the model from shapes, in which ids are floats
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "around.keras")(inputs), model(inputs))


def test_keras_model_around_in_saved_models(plain: Path, tmp_path: Path) -> None:
    """With signatures that are asked for, beside which Keras always makes one of its own, of floats."""
    model, inputs = Around(str(plain)), given()
    wanted = model(inputs)
    spec = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in inputs}
    model.export(tmp_path / "exported", input_signature=[spec], verbose=False)
    ids = {name: tf.constant(value, tf.int32) for name, value in inputs.items()}
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.serve(ids), wanted, atol=1e-5)
    score = tf.function(lambda **given: {"scores": model(given)}).get_concrete_function(**spec)
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures=score)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.signatures["serving_default"](**ids)["scores"], wanted, atol=1e-5)


def test_floats_in_graphs_are_refused(plain: Path) -> None:
    with pytest.raises(RequestError, match="float32, not integers"):
        tf.function(TFBertModel.from_pretrained(plain))(tf.ones((1, 2)))


def test_ids_of_a_functional_model_are_integers(plain: Path) -> None:
    with pytest.raises(RequestError, match=r"input_ids is float32, not integers.\n.*keras.Input.*int32"):
        TFBertModel.from_pretrained(plain)(keras.Input((None,)))


def test_mistakes_keep_their_names(plain: Path) -> None:
    model = loaded(InputsTraining, plain)
    with pytest.raises(RequestError, match="no argument 'attention_mask'"):
        model(given(), attention_mask=np.ones((3, 11)))
    with pytest.raises(RequestError, match="at most 2 arguments"):
        model(given(), False, 3)


def test_flags_that_nobody_gave_are_not_passed_on() -> None:
    """DistilBERT knows no `use_cache`, which `**kwargs` may hold for other families."""

    class Scorer(bertconv.TFDistilBertPreTrainedModel):
        def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
            super().__init__(config, *inputs, **kwargs)
            self.distilbert = bertconv.TFDistilBertMainLayer(config, name="distilbert")
            self.score = keras.layers.Dense(2, name="score")

        def call(self, inputs: Any, **kwargs: Any) -> Any:
            assert None not in kwargs.values()
            return self.score(self.distilbert(inputs, **kwargs)[0][:, 0])

    sizes = {"vocab_size": 50, "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 20}
    model = Scorer(bertconv.DistilBertConfig(**sizes))
    ids = {"input_ids": np.array([[3, 1, 4, 1], [5, 9, 2, 6]]), "attention_mask": np.array([[1, 1, 1, 0], [1] * 4])}
    expected = model.score(model.distilbert(ids)[0][:, 0])
    np.testing.assert_array_equal(model(ids), expected)
    np.testing.assert_allclose(model.predict(ids, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Albert"])
def test_embeddings_are_read_like_variables(family: str) -> None:
    """As in transformers 4, where these attributes were variables."""
    sizes: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
        "intermediate_size": 20, "embedding_size": 16,
    }  # fmt: skip
    if family == "DistilBert":
        sizes = {"vocab_size": 50, "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 20}
    model = getattr(bertconv, f"TF{family}Model")(getattr(bertconv, f"{family}Config")(**sizes))
    embeddings = model.body.embeddings
    names = ["word_embeddings", "position_embeddings"]
    names += ["token_type_embeddings"] if hasattr(embeddings, "token_type_embeddings") else []
    for name in names:
        table = getattr(embeddings, name)
        values = table.table.numpy()
        assert tuple(table.shape) == values.shape
        np.testing.assert_array_equal(table.numpy(), values)
        np.testing.assert_array_equal(np.asarray(table), values)
        np.testing.assert_array_equal(tf.gather(table, [1, 0]), values[[1, 0]])
        np.testing.assert_array_equal(table[0], values[0])
        np.testing.assert_array_equal(tf.reduce_sum(tf.convert_to_tensor(table), 1), tf.reduce_sum(values, 1))
        table.assign(values * 2)
        np.testing.assert_array_equal(table.numpy(), values * 2)
    np.testing.assert_array_equal(embeddings.weight.numpy(), embeddings.word_embeddings.numpy())
    np.testing.assert_array_equal(
        tf.gather(embeddings.weight, [[3]]), model.get_input_embeddings().weight.numpy()[[[3]]]
    )
