"""Losses and class weights as programs for transformers 4 give them: each works, or one sentence says what to do."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from tiny_models import BATCH, HEADS, LABELS, LENGTH, config, inputs, labels, tf_class, torch_inputs, torch_model
from trained_models import CLASSIFIER, Batches, compiled, make

import bertconv
from bertconv.errors import RequestError

WITH_LOSS = [head for head in HEADS if head != "BertModel"]
TOKENS = ["BertForMaskedLM", "BertLMHeadModel", "BertForTokenClassification"]
SPARSE = keras.losses.SparseCategoricalCrossentropy


def own_loss(model: Any, head: str) -> float:
    return float(np.mean(model(**inputs(head), **labels(head)).loss))


# The head's own loss by its other names


@pytest.mark.parametrize("head", WITH_LOSS)
@pytest.mark.parametrize("name", ["hf_compute_loss", "compute_loss"])
def test_compile_with_a_method_of_the_model(head: str, name: str) -> None:
    model = make(head)
    model.compile("sgd", loss=getattr(model, name), run_eagerly=True)
    wanted = own_loss(model, head)
    assert model.test_on_batch(inputs(head), labels(head)) == pytest.approx(wanted, rel=1e-5)
    assert model.test_on_batch({**inputs(head), **labels(head)}) == pytest.approx(wanted, rel=1e-5)
    if head == CLASSIFIER:
        model.compile("sgd", loss=[getattr(model, name)], run_eagerly=True)
        assert model.test_on_batch(inputs(head), labels(head)) == pytest.approx(wanted, rel=1e-5)
        assert model.get_compile_config()["loss"] is None


def test_compile_with_a_function_around_it() -> None:
    """Keras hands labels over as floats."""
    model = make(CLASSIFIER)

    def doubled(y: Any, logits: Any) -> Any:
        return 2 * model.hf_compute_loss(tf.cast(y, tf.int64), logits)

    model.compile("sgd", loss=doubled, run_eagerly=True)
    found = model.test_on_batch(inputs(CLASSIFIER), labels(CLASSIFIER))
    assert found == pytest.approx(2 * own_loss(model, CLASSIFIER), rel=1e-5)


@pytest.mark.parametrize("head", WITH_LOSS)
def test_hf_compute_loss_by_hand(head: str) -> None:
    """For the outputs of a call, in the arguments that transformers 4 had, it is PyTorch's loss."""
    model, answers = make(head), labels(head)
    output = model(**inputs(head), **answers)
    logits = [output[name] for name in model.label_outputs.values()]
    given: Any = next(iter(answers.values()))
    if head == "BertForPreTraining":
        given = answers
    elif head == "BertForQuestionAnswering":
        given = {name.removesuffix("s"): value for name, value in answers.items()}
    elif head == "BertLMHeadModel":  # moved by whoever calls it
        given, logits = given[:, 1:], [logits[0][:, :-1]]
    found = model.hf_compute_loss(given, logits if len(logits) > 1 else logits[0])
    assert float(np.mean(found)) == pytest.approx(float(np.mean(output.loss)), rel=1e-6)


def test_a_loss_that_a_subclass_overrides() -> None:
    """Calling, training and evaluating take it."""

    class Doubled(tf_class(CLASSIFIER)):  # type: ignore[misc]
        def hf_compute_loss(self, labels: Any, logits: Any) -> Any:
            return 2 * super().hf_compute_loss(labels, logits)

    model = Doubled(config(CLASSIFIER, num_hidden_layers=1))
    plain = make(CLASSIFIER)
    plain.set_weights(model.get_weights())
    wanted = 2 * own_loss(plain, CLASSIFIER)
    assert own_loss(model, CLASSIFIER) == pytest.approx(wanted, rel=1e-6)
    model.compile("sgd", run_eagerly=True)
    assert model.test_on_batch(inputs(CLASSIFIER), labels(CLASSIFIER)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_compute_loss_by_hand(is_compiled: bool) -> None:
    """Its first two arguments are Keras's x and y, and not what transformers 4.20 took."""
    model = compiled() if is_compiled else make()
    output, answers = model(**inputs(CLASSIFIER)), labels(CLASSIFIER)["labels"]
    with pytest.raises(RequestError, match="compute_loss is Keras's, for x, y and y_pred") as caught:
        model.compute_loss(answers, output.logits)
    assert "hf_compute_loss(labels, logits)" in caught.value.hint


def test_the_bare_model_has_none() -> None:
    """As in transformers 4, whose programs ask for it."""
    assert not hasattr(make("BertModel"), "hf_compute_loss")


# Losses that take probabilities


class FromLogits(SPARSE):  # type: ignore[misc,valid-type]
    """A class that needs no argument for what the heads return."""

    def __init__(self) -> None:
        super().__init__(from_logits=True)


PROBABILITIES: list[Any] = [
    "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy", "kl_divergence",
    "SparseCategoricalCrossentropy", "binary_focal_crossentropy", SPARSE(), keras.losses.BinaryCrossentropy(),
    keras.losses.categorical_crossentropy, ["sparse_categorical_crossentropy"],
    {"logits": "sparse_categorical_crossentropy"}, SPARSE, [SPARSE], {"labels": keras.losses.KLDivergence},
]  # fmt: skip
FINE: list[Any] = [
    None, "auto", "mse", keras.losses.MeanSquaredError, FromLogits,
    SPARSE(from_logits=True), keras.losses.BinaryCrossentropy(from_logits=True),
    lambda y, logits: keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True),
]  # fmt: skip


def name_of(loss: Any) -> str:
    """A name that is the same in every process, for the workers of pytest-xdist."""
    return str(getattr(loss, "name", getattr(loss, "__name__", loss)))


@pytest.mark.parametrize("loss", PROBABILITIES, ids=name_of)
def test_a_loss_of_probabilities_warns(loss: Any) -> None:
    """Once, where it is compiled, and with what to do."""
    with pytest.warns(UserWarning, match="takes probabilities, and TFBertForSequenceClassification returns") as caught:
        make().compile("sgd", loss=loss)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "Compile without a loss" in str(caught[0].message)


@pytest.mark.parametrize("loss", FINE, ids=lambda loss: getattr(loss, "name", str(loss)[:9]))
def test_other_losses_do_not(loss: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().compile("sgd", loss=loss)


class Softmax(bertconv.TFBertForSequenceClassification):
    """A user's class that returns probabilities."""

    def call(self, input_ids: Any = None, training: bool = False) -> Any:
        output = super().call(input_ids, training=training)
        output["logits"] = tf.nn.softmax(output.logits)
        return output


class Kept(bertconv.TFBertForSequenceClassification):
    """A user's class that returns what our head does."""


def test_probabilities_of_a_users_class() -> None:
    loss = "sparse_categorical_crossentropy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Softmax(config(CLASSIFIER)).compile("sgd", loss=loss)
        make("BertModel").compile("sgd", loss=loss)
    with pytest.warns(UserWarning, match="Kept returns logits"):
        Kept(config(CLASSIFIER)).compile("sgd", loss=loss)


# Class weights

WEIGHTS = {0: 0.5, 2: 3.0, 5: 0.0}
CLASSES = np.array([2, 4, 0])
FACTORS = np.array([3.0, 1.0, 0.5])


@pytest.mark.parametrize("loss", [None, SPARSE(from_logits=True)], ids=["own", "Keras"])
def test_class_weights_wherever_the_labels_are(loss: Any) -> None:
    """By name, in a dict, in x, in a dataset: always each sample's loss times the weight of its class, else 1."""
    model, given = make(), inputs(CLASSIFIER)
    model.compile(keras.optimizers.SGD(0.0), loss=loss, run_eagerly=True)
    wanted = float(np.mean(model(**given, labels=CLASSES).loss.numpy() * FACTORS))
    slices = tf.data.Dataset.from_tensor_slices
    ways = [
        (given, CLASSES), (given, {"labels": CLASSES}), (given, {"logits": CLASSES}),
        ({**given, "labels": CLASSES}, None),
        (slices((given, CLASSES)).batch(BATCH), None), (slices((given, {"labels": CLASSES})).batch(BATCH), None),
        (slices({**given, "labels": CLASSES}).batch(BATCH), None), (given, CLASSES[:, None]),
    ]  # fmt: skip
    for x, y in ways:
        assert model.fit(x, y, class_weight=WEIGHTS, verbose=0).history["loss"] == pytest.approx([wanted], rel=1e-5)
    for x, y in ways[:4]:
        assert model.train_on_batch(x, y, class_weight=WEIGHTS) == pytest.approx(wanted, rel=1e-5)


def test_class_weights_of_samples_without_a_label() -> None:
    """-100 has no class, in a dataset either."""
    model, given, classes = compiled(optimizer=keras.optimizers.SGD(0.0)), inputs(CLASSIFIER), np.array([2, -100, 0])
    wanted = float(np.mean(model(**given, labels=classes).loss.numpy() * FACTORS))
    data = tf.data.Dataset.from_tensor_slices((given, classes)).batch(BATCH)
    for x, y in ((given, classes), (data, None)):
        assert model.fit(x, y, class_weight=WEIGHTS, verbose=0).history["loss"] == pytest.approx([wanted], rel=1e-5)


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("loss", [None, SPARSE(from_logits=True)], ids=["own", "Keras"])
@pytest.mark.parametrize("head", TOKENS)
def test_class_weights_of_tokens_are_refused(head: str, loss: Any, run_eagerly: bool) -> None:
    model = compiled(head, loss=loss, run_eagerly=run_eagerly)
    given, answers = inputs(head), labels(head)
    data = tf.data.Dataset.from_tensor_slices((given, answers["labels"])).batch(BATCH)
    for x, y in ((given, answers), (given, answers["labels"]), ({**given, **answers}, None), (data, None)):
        with pytest.raises(RequestError, match="class_weight is for one label per sample, and these labels") as caught:
            model.fit(x, y, class_weight={0: 2.0}, verbose=0)
    assert "compile with a loss of your own" in caught.value.hint
    with pytest.raises(RequestError, match="class_weight is for one label per sample"):
        model.train_on_batch(given, answers, class_weight={0: 2.0})


@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForQuestionAnswering"])
def test_class_weights_of_several_outputs_are_refused(head: str) -> None:
    names = " and ".join(labels(head))
    with pytest.raises(RequestError, match=f"class_weight is for one label per sample, and these are {names}"):
        compiled(head).fit(inputs(head), labels(head), class_weight={0: 2.0}, verbose=0)


class Tagger(bertconv.TFBertPreTrainedModel):
    """A user's class with labels of tokens, of which bertconv knows nothing."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = bertconv.TFBertMainLayer(self.config, add_pooling_layer=False)
        self.dense = keras.layers.Dense(LABELS)

    def call(self, input_ids: Any = None, training: bool = False) -> Any:
        return self.dense(self.bert(input_ids, training=training).last_hidden_state)


def test_class_weights_of_a_users_class() -> None:
    model = Tagger(config())
    model.compile("sgd", loss=SPARSE(from_logits=True), run_eagerly=True)
    tokens = np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) % LABELS
    with pytest.raises(RequestError, match="these labels are of tokens"):
        model.fit(inputs()["input_ids"], tokens, class_weight={0: 2.0}, verbose=0)


def test_class_weights_beside_those_of_samples() -> None:
    data = tf.data.Dataset.from_tensors((inputs(CLASSIFIER), CLASSES, np.ones(BATCH)))
    with pytest.raises(RequestError, match="the dataset has weights of samples"):
        compiled().fit(data, class_weight=WEIGHTS, verbose=0)
    with pytest.raises(RequestError, match="the dataset has no labels"):
        compiled().fit(tf.data.Dataset.from_tensors(inputs(CLASSIFIER)), class_weight=WEIGHTS, verbose=0)


def test_class_weights_in_order() -> None:
    """As a list, a tuple or an array, such as scikit-learn computes: by the class's number."""
    model, given = compiled(optimizer=keras.optimizers.SGD(0.0)), inputs(CLASSIFIER)
    ordered = [0.5, 1, 3.0, 1, 1, 0.0, 1]
    wanted = float(np.mean(model(**given, labels=CLASSES).loss.numpy() * FACTORS))
    data = tf.data.Dataset.from_tensors((given, CLASSES))
    ways = (
        ordered,
        tuple(ordered),
        np.array(ordered),
        tf.constant(ordered),
        {np.int64(0): 0.5, 2: np.float32(3), 5: 0},
    )
    for found in ways:
        for x, y in ((given, CLASSES), (data, None)):
            assert model.fit(x, y, class_weight=found, verbose=0).history["loss"] == pytest.approx([wanted], rel=1e-5)
        assert model.train_on_batch(given, CLASSES, class_weight=found) == pytest.approx(wanted, rel=1e-5)
        assert model.train_on_batch(given, CLASSES, None, found) == pytest.approx(wanted, rel=1e-5)
    unweighted = float(np.mean(model(**given, labels=CLASSES).loss))
    assert model.fit(given, CLASSES, class_weight={}, verbose=0).history["loss"] == pytest.approx(
        [unweighted], rel=1e-5
    )


@pytest.mark.parametrize(
    "found", [{"0": 2.0}, {0.5: 1.0}, {0: "two"}, [[1.0, 2.0]], {0: np.nan}, "balanced", 3, [None, 1.0], {0: None}]
)
def test_class_weights_that_are_none(found: Any) -> None:
    """Names of classes would match no label, and weigh nothing in silence."""
    for use in (lambda model, *data: model.fit(*data, class_weight=found, verbose=0),
                lambda model, *data: model.train_on_batch(*data, class_weight=found)):  # fmt: skip
        with pytest.raises(RequestError, match=r"class_weight is .*, not a number for each class") as caught:
            use(compiled(), inputs(CLASSIFIER), CLASSES)
        assert "{class id: weight}" in caught.value.hint


def test_class_weights_and_sample_weights() -> None:
    given = inputs(CLASSIFIER)
    ways = ((given, CLASSES), ({**given, "labels": CLASSES}, None))
    for x, y in ways:
        for use in (compiled().fit, compiled().train_on_batch):
            with pytest.raises(RequestError, match="class_weight was given, and sample_weight too"):
                use(x, y, class_weight=WEIGHTS, sample_weight=np.ones(BATCH))
    with pytest.raises(RequestError, match="class_weight was given, and sample_weight too"):
        compiled().fit((given, CLASSES, np.ones(BATCH)), class_weight=WEIGHTS)


def test_class_weights_of_other_data() -> None:
    """Wherever the labels are in the batches of a PyDataset or a generator; Keras takes them for one such place."""
    model, given = compiled(optimizer=keras.optimizers.SGD(0.0)), inputs(CLASSIFIER)
    wanted = float(np.mean(model(**given, labels=CLASSES).loss.numpy() * FACTORS))
    inside = {**given, "labels": CLASSES}
    for data in (
        Batches((given, CLASSES)),
        Batches(inside),
        Batches((inside,)),
        Batches((given, {"labels": CLASSES})),
        iter([(given, CLASSES)]),
        (each for each in [inside]),
    ):
        found = model.fit(data, class_weight=WEIGHTS, steps_per_epoch=1, verbose=0).history["loss"]
        assert found == pytest.approx([wanted], rel=1e-5)
    for data in (Batches((given, CLASSES, np.ones(BATCH))), iter([(given, CLASSES, np.ones(BATCH))])):
        with pytest.raises(RequestError, match="the dataset has weights of samples"):
            model.fit(data, class_weight=WEIGHTS, verbose=0)
    loader = torch.utils.data.DataLoader([{"labels": 1}])
    several = Batches((given, {"labels": CLASSES}), workers=2)
    for data, kind in ((loader, "DataLoader"), (several, "Batches")):
        with pytest.raises(RequestError, match=f"Keras takes none for the batches of a {kind}") as caught:
            model.fit(data, class_weight=WEIGHTS, verbose=0)
        assert "sample weights" in caught.value.hint


def test_torch_agrees_about_the_loss() -> None:
    """The right value from elsewhere: PyTorch's loss of the same weights."""
    oracle = torch_model(CLASSIFIER, num_hidden_layers=1)
    assert transformers.__version__ >= "5"
    given = {**inputs(CLASSIFIER), **labels(CLASSIFIER)}
    output = oracle(**torch_inputs(CLASSIFIER, given))
    found = make(CLASSIFIER, dtype="float64").hf_compute_loss(given["labels"], output.logits.detach().numpy())
    assert float(np.mean(found)) == pytest.approx(float(output.loss.detach()), rel=1e-12)
