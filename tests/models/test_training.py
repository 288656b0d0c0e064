"""compile, fit, evaluate: the heads' own losses and Keras's, labels and weights of samples wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import BATCH, HEADS, LABELS, LENGTH, NO_LABEL, Arrays, config, inputs, labels
from trained_models import CLASSIFIER, Batches, compiled, make, same, weights
from transformers import BatchEncoding

from bertconv.errors import RequestError

WITH_LOSS = [head for head in HEADS if head != "BertModel"]


# The own loss


@pytest.mark.parametrize("head", WITH_LOSS)
def test_own_loss_wherever_the_labels_are(head: str) -> None:
    """In x, as y by label, by output, in order; always the mean of what calling the model gives."""
    model = compiled(head)
    given, answers = inputs(head), labels(head)
    wanted = float(np.mean(model(**given, **answers).loss))
    assert np.isfinite(wanted)
    outputs = {model.label_outputs[name]: value for name, value in answers.items()}
    ways = [
        ({**given, **answers}, None),
        (BatchEncoding({**given, **answers}), None),
        ({**given, **answers}, BatchEncoding(answers)),
        (given, answers),
        (given, outputs),
        (given, tuple(answers.values())),
        (given, list(answers.values())),
    ]
    for name, value in answers.items() if len(answers) > 1 else ():  # one among the inputs, the others beside them
        others = {other: answers[other] for other in answers if other != name}
        ways.append(({**given, name: value}, others))
        ways.append(({**given, name: value}, {model.label_outputs[other]: others[other] for other in others}))
        ways.append(({**given, name: value}, {**answers, name: np.zeros_like(value)}))  # those in x count, as in 4.57
    if len(answers) == 1:
        ways.append((given, next(iter(answers.values()))))
        ways.append((given, tf.constant(next(iter(answers.values())))))
    for x, y in ways:
        assert model.test_on_batch(x, y) == pytest.approx(wanted, rel=1e-5)


def test_fit_reports_and_lowers_it() -> None:
    model = compiled(run_eagerly=False, optimizer=keras.optimizers.Adam(1e-3))
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    first = float(np.mean(model(**given, **answers).loss))
    losses = model.fit(given, answers, epochs=4, batch_size=BATCH, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(first, rel=1e-5)
    assert losses[3] < first
    after = float(np.mean(model(**given, **answers).loss))
    assert model.evaluate(given, answers, verbose=0) == pytest.approx(after, rel=1e-5)


@pytest.mark.parametrize("loss", [None, "auto", "auto_with_warning", "passthrough"])
def test_names_of_the_own_loss(loss: Any) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    model = compiled(loss=loss)
    assert model.test_on_batch(given, answers) == pytest.approx(
        float(np.mean(model(**given, **answers).loss)), rel=1e-5
    )


def test_compile_again_starts_anew() -> None:
    """Keras keeps metrics and losses that a second `compile` does not name; Keras 2 did not."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(loss=SPARSE(from_logits=True), metrics=["accuracy"], weighted_metrics=["accuracy"])
    assert model.test_on_batch(given, answers)
    model.compile("sgd", run_eagerly=True)
    assert model.loss is None
    assert isinstance(model.test_on_batch(given, answers), float)
    assert model.metrics_names == ["loss"]


def test_metrics_of_one_name_are_returned_once_each() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(metrics=["accuracy"], weighted_metrics=["accuracy"])
    logs = model.evaluate(given, answers, sample_weight=np.array([1.0, 0.0, 0.0]), return_dict=True, verbose=0)
    found = model.evaluate(given, answers, sample_weight=np.array([1.0, 0.0, 0.0]), verbose=0)
    assert model.metrics_names == ["loss", "accuracy", "weighted_accuracy"]
    assert found == [logs[name] for name in model.metrics_names]


def test_before_compile_there_is_no_optimizer() -> None:
    assert make().optimizer is None


def test_mean_over_batches_of_different_size() -> None:
    """Every sample counts the same, also those of a last batch that is not full."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    model = compiled()
    each = model(**given, **answers).loss.numpy()
    assert model.evaluate(given, answers, batch_size=2, verbose=0) == pytest.approx(each.mean(), rel=1e-5)


def test_losses_of_layers_count() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    model = compiled()
    before = model.test_on_batch(given, answers)

    class Penalised(type(model)):
        def call(self, *args: Any, **kwargs: Any) -> Any:
            self.add_loss(tf.constant(5.0))
            return super().call(*args, **kwargs)

    other = Penalised(config(CLASSIFIER, num_hidden_layers=1))
    other.set_weights(model.get_weights())
    other.compile("sgd", run_eagerly=True)
    assert other.test_on_batch({**given, **answers}) == pytest.approx(before + 5, rel=1e-5)


# Losses of Keras

SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize("head", [CLASSIFIER, "BertForMultipleChoice", "BertForNextSentencePrediction"])
@pytest.mark.parametrize("is_inside", [False, True], ids=["as y", "in x"])
def test_loss_of_keras(head: str, is_inside: bool) -> None:
    """The own loss is the plain cross-entropy, so Keras's gives the same number; doubled, the double."""
    given = inputs(head)
    answers = {name: np.abs(value) % 2 for name, value in labels(head).items()}
    x, y = ({**given, **answers}, None) if is_inside else (given, next(iter(answers.values())))
    wanted = compiled(head).test_on_batch(given, answers)
    model = compiled(head, loss=SPARSE(from_logits=True))
    assert model.test_on_batch(x, y) == pytest.approx(wanted, rel=1e-5)
    double = compiled(head, loss=lambda y, scores: 2 * keras.losses.sparse_categorical_crossentropy(y, scores, True))
    assert double.test_on_batch(x, y) == pytest.approx(2 * wanted, rel=1e-5)


def test_losses_of_keras_by_output() -> None:
    head = "BertForQuestionAnswering"
    given, answers = inputs(head), {"start_positions": np.array([1, 4, 0]), "end_positions": np.array([5, 7, 9])}
    wanted = compiled(head).test_on_batch(given, answers)
    losses = {"start_logits": SPARSE(from_logits=True), "end_logits": SPARSE(from_logits=True)}
    outputs = {"start_logits": answers["start_positions"], "end_logits": answers["end_positions"]}
    model = compiled(head, loss=losses, loss_weights={"start_logits": 0.5, "end_logits": 0.5})
    for x, y in ((given, answers), (given, outputs), (given, tuple(answers.values())), ({**given, **answers}, None)):
        assert model.test_on_batch(x, y)[0] == pytest.approx(wanted, rel=1e-5)


def test_loss_of_keras_on_the_bare_model() -> None:
    given = inputs()
    targets = np.ones((BATCH, LENGTH, 35), np.float32)
    model = compiled("BertModel", loss="mse")
    wanted = float(np.mean((model(**given).last_hidden_state - targets) ** 2))
    assert model.test_on_batch(given, targets) == pytest.approx(wanted, rel=1e-5)
    pooled = np.zeros((BATCH, 35), np.float32)
    wanted = float(np.mean(model(**given).pooler_output ** 2))
    assert model.test_on_batch(given, {"pooler_output": pooled}) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(RequestError, match="there is no output pooled") as caught:
        model.test_on_batch(given, {"pooled": pooled})
    assert "last_hidden_state, pooler_output" in caught.value.hint


# No loss


NO_LOSS: dict[str, tuple[str, Callable[[Arrays, Arrays], tuple[Any, Any]], str]] = {
    "half of the labels in x": (
        "BertForPreTraining", lambda x, y: ({**x, "labels": y["labels"]}, None), "labels are missing"),
    "half of the labels as y": ("BertForPreTraining", lambda x, y: (x, {"labels": y["labels"]}), "labels are missing"),
    "one tensor for two": ("BertForPreTraining", lambda x, y: (x, y["labels"]), "1 labels were given"),
    "another name": (CLASSIFIER, lambda x, y: (x, {"label": y["labels"]}), "labels are called label"),
    "no labels": (CLASSIFIER, lambda x, _: (x, None), "labels are missing"),
    "two for one": (CLASSIFIER, lambda x, y: (x, (y["labels"], y["labels"])), "2 labels were given"),
    "no head": ("BertModel", lambda x, _: (x, None), "labels are missing"),
    "no head but labels": ("BertModel", lambda x, _: (x, np.ones(BATCH)), "1 labels were given"),
    "one position": (
        "BertForQuestionAnswering", lambda x, y: (x, {"start_positions": y["start_positions"]}), "labels are missing"),
}  # fmt: skip


GRAPHS_TOO = ("half of the labels in x", "another name", "no head")


@pytest.mark.parametrize(
    ("case", "run_eagerly"), [*((case, True) for case in NO_LOSS), *((case, False) for case in GRAPHS_TOO)]
)
def test_no_loss_is_refused(case: str, run_eagerly: bool) -> None:
    head, split, problem = NO_LOSS[case]
    model = compiled(head, run_eagerly=run_eagerly)
    before = weights(model)
    x, y = split(inputs(head), labels(head))
    for train in (model.fit, model.evaluate):
        with pytest.raises(RequestError, match=f"TF{head} cannot compute its loss: {problem}") as caught:
            train(x, y, verbose=0)
        assert "ompile with a loss" in caught.value.hint
    assert same(weights(model), before)


# Weights of samples and classes


def test_sample_weights() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    factors = np.array([0.5, 0.0, 3.0], np.float32)
    model = compiled()
    each = model(**given, labels=answers).loss.numpy()
    wanted = (each * factors).mean()
    assert model.test_on_batch(given, answers, sample_weight=factors) == pytest.approx(wanted, rel=1e-5)
    assert model.evaluate(given, answers, sample_weight=factors, verbose=0) == pytest.approx(wanted, rel=1e-5)
    keras_own = compiled(loss=SPARSE(from_logits=True))
    assert keras_own.test_on_batch(given, answers, sample_weight=factors) == pytest.approx(wanted, rel=1e-5)
    before = weights(model)
    model.train_on_batch(given, answers, sample_weight=np.zeros(3, np.float32))
    assert same(weights(model), before)
    model.train_on_batch(given, answers, sample_weight=factors)
    assert not same(weights(model), before)


def test_sample_weights_of_positions() -> None:
    head = "BertForQuestionAnswering"
    given, answers = inputs(head), labels(head)
    factors = np.array([2.0, 0.0, 1.0], np.float32)
    model = compiled(head)
    wanted = (model(**given, **answers).loss.numpy() * factors).mean()
    found = model.test_on_batch({**given, **answers}, sample_weight=factors)
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("head", [CLASSIFIER, "BertForQuestionAnswering"])
def test_sample_weights_wherever_the_labels_are(head: str, run_eagerly: bool) -> None:
    """Keras drops them where there is no y, and repeats them for every label in y.

    The kinds of numbers that weights may be are tried in every place of the labels, with one of the losses.
    """
    given, answers = inputs(head), labels(head)
    factors = np.array([2.0, 0.0, 1.0])
    kinds = (factors, factors.astype(int), tf.constant(factors))
    for loss in (None, SPARSE(from_logits=True)) if head == CLASSIFIER else (None,):
        model = compiled(head, optimizer=keras.optimizers.SGD(0.0), loss=loss, run_eagerly=run_eagerly)
        wanted = float((model(**given, **answers).loss.numpy() * factors).mean())
        ways = [({**given, **answers}, None), (given, answers), (given["input_ids"], answers)]
        for x, y in ways[:2]:
            kept = dict(x)
            for weights_ in kinds if loss is None and head == CLASSIFIER else kinds[:1]:
                assert model.evaluate(x, y, sample_weight=weights_, verbose=0) == pytest.approx(wanted, rel=1e-5)
            history = model.fit(x, y, sample_weight=factors, validation_data=(x, y, factors), verbose=0).history
            assert history["loss"] == pytest.approx([wanted], rel=1e-5)
            assert history["val_loss"] == pytest.approx([wanted], rel=1e-5)
            assert x == kept
        ids, y = ways[2]
        wanted = float((model(ids, **answers).loss.numpy() * factors).mean())
        assert model.evaluate(ids, y, sample_weight=factors, verbose=0) == pytest.approx(wanted, rel=1e-5)


def test_sample_weights_inside_count_for_the_weighted_metrics() -> None:
    """As those beside them do."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)
    model = compiled(weighted_metrics=["accuracy"])
    answers["labels"] = model(given).logits.numpy().argmax(-1)
    answers["labels"][0] = (answers["labels"][0] + 1) % LABELS
    found = model.evaluate({**given, **answers}, sample_weight=np.array([3.0, 0, 1]), verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("head", "run_eagerly"),
    [("BertForMaskedLM", True), ("BertForTokenClassification", False), ("BertForPreTraining", True)],
)
def test_sample_weights_need_a_loss_per_sample(head: str, run_eagerly: bool) -> None:
    model = compiled(head, run_eagerly=run_eagerly)
    with pytest.raises(RequestError, match="this head's loss is one number") as caught:
        model.fit(inputs(head), labels(head), sample_weight=np.ones(BATCH), verbose=0)
    assert str(NO_LABEL) in caught.value.hint


def test_class_weights() -> None:
    given, answers = inputs(CLASSIFIER), np.array([4, 2, 4])
    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    each = model(**given, labels=answers).loss.numpy()
    factors = {number: number / 2 for number in range(LABELS)}
    inside = {**given, "labels": answers}
    for x, y in ((given, answers), (inside, None)):
        found = model.fit(x, y, class_weight=factors, verbose=0).history["loss"]
        assert found == pytest.approx([(each * [2, 1, 2]).mean()], rel=1e-5)
    assert "labels" in inside


# Metrics and validation


def test_metrics_are_of_the_logits() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    logits = make()(**given).logits.numpy()
    answers[0] = logits[0].argmax()
    wanted = float((logits.argmax(-1) == answers).mean())
    assert wanted > 0
    metrics = ["accuracy", keras.metrics.SparseCategoricalAccuracy(name="same")]
    model = compiled(optimizer=keras.optimizers.SGD(0.0), metrics=metrics)
    ways = [(given, answers, 2), (given, {"labels": answers}, 1), ({**given, "labels": answers}, None, 1)]
    for x, y, epochs in ways:
        found = model.fit(x, y, epochs=epochs, batch_size=2, validation_data=(x, y), verbose=0).history
        assert list(found) == ["accuracy", "loss", "same", "val_accuracy", "val_loss", "val_same"]
        for name in ("accuracy", "same"):
            assert found[name] == found[f"val_{name}"] == pytest.approx([wanted] * epochs)
        assert found["loss"] == pytest.approx(found["val_loss"], rel=1e-6)


def test_metrics_by_output() -> None:
    given, answers = inputs("BertForPreTraining"), labels("BertForPreTraining")
    answers["next_sentence_label"] = np.array([1, 1, 0])
    metrics = {
        "prediction_logits": keras.metrics.SparseCategoricalAccuracy(name="words"),
        "seq_relationship_logits": [keras.metrics.SparseCategoricalAccuracy(name="order"), "accuracy"],
    }
    model = compiled("BertForPreTraining", metrics=metrics)
    output = model(**given)
    order = (output.seq_relationship_logits.numpy().argmax(-1) == answers["next_sentence_label"]).mean()
    words = (output.prediction_logits.numpy().argmax(-1) == answers["labels"]).mean()
    for x, y in ((given, answers), ({**given, **answers}, None)):
        found = model.evaluate(x, y, verbose=0, return_dict=True)
        assert found["seq_relationship_logits_order"] == pytest.approx(order)
        assert found["seq_relationship_logits_accuracy"] == pytest.approx(order)
        assert found["prediction_logits_words"] == pytest.approx(words)


def test_metric_of_one_output_by_name() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(metrics={"logits": ["accuracy"]})
    wanted = (model(**given).logits.numpy().argmax(-1) == answers).mean()
    found = model.evaluate(given, answers, verbose=0, return_dict=True)
    assert sorted(found) == ["accuracy", "loss"]
    assert found["accuracy"] == pytest.approx(wanted)


# Where data come from


def batches(arrays: Arrays, answers: Any, size: int = 1) -> Iterator[Any]:
    for start in range(0, BATCH, size):
        part = slice(start, start + size)
        yield {name: value[part] for name, value in arrays.items()}, answers[part]


def test_same_steps_from_every_source() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled()
    start = weights(model)
    model.fit(given, answers, batch_size=1, shuffle=False, verbose=0)
    wanted = weights(model)
    assert not same(wanted, start)
    slices = tf.data.Dataset.from_tensor_slices((given, answers))
    rows = [{name: value[number] for name, value in {**given, "label": answers}.items()} for number in range(BATCH)]
    columns = {**given, "label": answers, "text": ["a"] * BATCH}
    sources: list[Callable[[], Any]] = [
        lambda: model.fit(slices.batch(1), shuffle=False, verbose=0),
        lambda: model.fit(slices.map(lambda x, y: {**x, "labels": y}).batch(1), shuffle=False, verbose=0),
        lambda: model.fit(batches(given, answers), steps_per_epoch=BATCH, shuffle=False, verbose=0),
        lambda: model.fit(Batches(*batches(given, answers)), shuffle=False, verbose=0),
        lambda: [model.train_on_batch(*each) for each in batches(given, answers)],
        lambda: model.fit(BatchEncoding(given), answers, batch_size=1, shuffle=False, verbose=0),
        lambda: model.fit(model.prepare_tf_dataset(rows, 1, False), shuffle=False, verbose=0),
        lambda: model.fit(model.prepare_tf_dataset(columns, 1, False), shuffle=False, verbose=0),
    ]
    for source in sources:
        model.set_weights(start)
        source()
        assert same(weights(model), wanted, 1e-6)


def test_on_batch_methods() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(metrics=["accuracy"])
    loss = float(np.mean(model(**given, labels=answers).loss))
    found = model.test_on_batch(BatchEncoding(given), answers, return_dict=True)
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    before = weights(model)
    found = model.train_on_batch(BatchEncoding({**given, "labels": answers}), return_dict=True)
    assert sorted(found) == ["accuracy", "loss"]
    assert not same(weights(model), before)
    assert model.predict_on_batch(given).logits.shape == (BATCH, LABELS)


# Keras 2


def of_keras_2(name: str, *bases: type, module: str = "tf_keras.src.optimizers.adam") -> Any:
    return type(name, bases, {"__module__": module})


@pytest.mark.parametrize("own", [False, True], ids=["itself", "a subclass"])
@pytest.mark.parametrize("part", ["optimizer", "loss", "metrics", "metrics by output", "function"])
def test_keras_2_is_refused(part: str, own: bool) -> None:
    kind = of_keras_2("Adam")
    each = type("Adam", (kind,), {"__module__": "mine"})() if own else kind()
    if part == "function":
        each = lambda *_: 0.0  # noqa: E731
        each.__module__, each.__name__ = "tf_keras.src.losses", "Adam"
    given = {"metrics": [each, "accuracy"], "metrics by output": {"logits": [each]}, "function": each}.get(part, each)
    model = make()
    with pytest.raises(RequestError, match=r"^Adam is of Keras 2 \(tf_keras\), and the model of Keras 3") as caught:
        model.compile(**{{"metrics by output": "metrics", "function": "loss"}.get(part, part): given})
    assert "`keras`" in caught.value.hint


def test_callbacks_of_keras_2_are_refused() -> None:
    model = compiled()
    callback = of_keras_2("History", module="tf_keras.src.callbacks")()
    x, y = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    with pytest.raises(RequestError, match=r"^History is of Keras 2"):
        model.fit(x, y, callbacks=[callback])
    with pytest.raises(RequestError, match=r"^History is of Keras 2"):
        model.fit(x, y, None, 1, 0, [callback])


def test_names_that_only_look_like_keras_2() -> None:
    kind = type("Fine", (keras.optimizers.SGD,), {"__module__": "tf_keras_tools.optimizers"})
    make().compile(kind(0.1))
