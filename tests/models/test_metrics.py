"""Metrics of models with several outputs: a list counts for each of them, and is logged as Keras 2 did."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from tiny_models import BATCH, Arrays, inputs, labels
from trained_models import CLASSIFIER, compiled

from bertconv.errors import RequestError

ANSWERS = {
    "BertForQuestionAnswering": {"start_positions": np.array([2, 0, 1]), "end_positions": np.array([5, 1, 3])},
    "BertForPreTraining": {**labels("BertForPreTraining"), "next_sentence_label": np.array([1, 1, 0])},
}
OWN = keras.metrics.SparseCategoricalAccuracy


def accuracies(model: Any, given: Arrays, answers: Arrays) -> dict[str, float]:
    """By output: the share of entries whose greatest score is at the label; -100 counts as wrong, as Keras has it."""
    output = model(given)
    names = {name: model.label_outputs[name] for name in answers}
    return {names[name]: float((output[names[name]].numpy().argmax(-1) == answers[name]).mean()) for name in answers}


def with_right_answers(model: Any, given: Arrays, answers: Arrays) -> Arrays:
    """The answers, of which some are what the model says: one for the first output, two for the next."""
    output = model(given)
    found = {name: value.copy() for name, value in answers.items()}
    for count, (name, value) in enumerate(found.items(), 1):
        scores = output[model.label_outputs[name]].numpy()
        value[:] = scores.argmin(-1)
        value[:count] = scores[:count].argmax(-1)
    return found


SPELLINGS: dict[str, Any] = {
    "list": ["accuracy"], "name": "accuracy", "tuple": ("accuracy",), "objects": [OWN(name="accuracy")],
    "object": OWN(name="accuracy"), "two": ["accuracy", OWN("q")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("head", "where", "spelling"),
    [
        *(("BertForQuestionAnswering", "metrics", spelling) for spelling in SPELLINGS),
        *(("BertForPreTraining", "weighted_metrics", spelling) for spelling in ("list", "object", "two")),
        ("BertForQuestionAnswering", "weighted_metrics", "two"),
        ("BertForPreTraining", "metrics", "two"),
    ],
)
def test_metrics_of_every_output(head: str, where: str, spelling: str) -> None:
    """Two of them are two for each output, and not one for the first and one for the second."""
    metrics = copied(SPELLINGS[spelling])
    model = compiled(head, **{where: metrics})
    given = inputs(head)
    answers = with_right_answers(model, given, ANSWERS[head])
    wanted = accuracies(model, given, answers)
    assert all(wanted.values())
    assert len(set(wanted.values())) == 2
    names = ("accuracy", "q") if isinstance(metrics, list) and len(metrics) == 2 else ("accuracy",)
    for x, y in ((given, answers), ({**given, **answers}, None)):
        found = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
        del found["loss"]
        assert found == pytest.approx({f"{output}_{name}": wanted[output] for output in wanted for name in names})


def copied(metrics: Any) -> Any:
    """The same, with objects of its own: cases share theirs."""
    if isinstance(metrics, list):
        return [copied(each) for each in metrics]
    return type(metrics).from_config(metrics.get_config()) if isinstance(metrics, keras.metrics.Metric) else metrics


def test_names_in_the_history() -> None:
    """Those of transformers 4.57; with Keras's losses, too, and in a graph."""
    head = "BertForQuestionAnswering"
    given, answers = inputs(head), ANSWERS[head]
    wanted = ["end_logits_accuracy", "loss", "start_logits_accuracy"]
    own = compiled(head, run_eagerly=False, metrics=["accuracy"])
    history = own.fit(given, answers, validation_data=(given, answers), verbose=0).history
    assert list(history) == [*wanted, *(f"val_{name}" for name in wanted)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = compiled(head, loss=loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
    found = theirs.test_on_batch(given, answers, return_dict=True)
    names = [f"{output}_{name}" for output in ("end_logits", "start_logits") for name in ("accuracy", "loss")]
    weighted = ["end_logits_weighted_accuracy", "start_logits_weighted_accuracy"]
    assert sorted(found) == sorted([*names, *weighted, "loss"])


def test_weights_of_samples_count_for_the_weighted() -> None:
    head = "BertForQuestionAnswering"
    model = compiled(head, metrics="accuracy", weighted_metrics="accuracy")
    given = inputs(head)
    answers = with_right_answers(model, given, ANSWERS[head])
    plain = accuracies(model, given, answers)
    found = model.test_on_batch((given, answers, np.array([1.0, 0, 0])), return_dict=True)
    for output in ("start_logits", "end_logits"):
        assert found[f"{output}_weighted_accuracy"] == pytest.approx(1)
        assert found[f"{output}_accuracy"] == pytest.approx(plain[output])
        assert plain[output] < 1


def test_one_output_of_two_has_labels() -> None:
    head = "BertForQuestionAnswering"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled(head, loss=loss, metrics=["accuracy"])
    found = model.evaluate(inputs(head), {"start_positions": np.zeros(BATCH)}, verbose=0, return_dict=True)
    assert sorted(found) == ["accuracy", "loss"]


def test_outputs_of_the_bare_model() -> None:
    model = compiled("BertModel", loss="mse", metrics=["mae"])
    output = model(inputs())
    targets = {name: np.zeros(output[name].shape, np.float32) for name in ("last_hidden_state", "pooler_output")}
    found = model.evaluate(inputs(), targets, verbose=0, return_dict=True)
    for name in targets:
        assert found[f"{name}_mae"] == pytest.approx(float(np.abs(output[name]).mean()), rel=1e-5)


@pytest.mark.parametrize(
    "metrics", [[["accuracy"], [OWN("q")]], {"end_logits": ["accuracy"], "start_logits": [OWN("q")]}],
    ids=["lists", "dict"],
)  # fmt: skip
def test_metrics_by_output_are_keras_own(metrics: Any) -> None:
    head = "BertForQuestionAnswering"
    model = compiled(head, metrics=metrics)
    found = model.evaluate(inputs(head), ANSWERS[head], verbose=0, return_dict=True)
    assert sorted(found) == ["end_logits_accuracy", "loss", "start_logits_q"]


def test_metrics_and_losses_by_label() -> None:
    """The name of a label stands for the output that it is for, wherever Keras takes a dict."""
    head = "BertForQuestionAnswering"
    given, answers = inputs(head), ANSWERS[head]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def found(start: str, end: str) -> dict[str, float]:
        model = compiled(
            head, loss={start: loss, end: loss}, loss_weights={start: 2.0, end: 0.5},
            metrics={start: ["accuracy"]}, weighted_metrics={end: "accuracy"},
        )  # fmt: skip
        return dict(model.evaluate(given, answers, verbose=0, return_dict=True))

    assert found("start_positions", "end_positions") == found("start_logits", "end_logits")
    own = compiled(head, metrics={"start_positions": ["accuracy"]})
    names = own.evaluate(given, answers, verbose=0, return_dict=True)
    assert sorted(names) == ["loss", "start_logits_accuracy"]
    one = compiled(loss={"labels": loss}, metrics={"labels": "accuracy"})
    assert sorted(one.evaluate(inputs(CLASSIFIER), labels(CLASSIFIER), verbose=0, return_dict=True)) == [
        "accuracy",
        "loss",
    ]


@pytest.mark.parametrize("where", ["metrics", "weighted_metrics"])
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_metrics_of_no_output(where: str, run_eagerly: bool) -> None:
    """One that has no labels has no metrics either: Keras would compute them of the other output."""
    head = "BertForPreTraining"
    model = compiled(head, run_eagerly=run_eagerly, **{where: {"nope": "accuracy", "prediction_logits": "accuracy"}})
    with pytest.raises(RequestError, match="there are metrics for nope, which is no output") as caught:
        model.evaluate(inputs(head), ANSWERS[head], verbose=0)
    assert "prediction_logits, seq_relationship_logits" in caught.value.hint
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled("BertForQuestionAnswering", loss=loss, **{where: {"end_logits": "accuracy"}})
    with pytest.raises(RequestError, match="there are metrics for end_logits, which is no output that has labels"):
        model.evaluate(inputs(), {"start_positions": np.zeros(BATCH)}, verbose=0)


@pytest.mark.parametrize("head", [CLASSIFIER, *ANSWERS])
@pytest.mark.parametrize("metrics", [[None], [], (None, None)])
def test_a_list_without_metrics(head: str, metrics: Any) -> None:
    model = compiled(head, metrics=metrics, weighted_metrics=metrics)
    assert list(model.evaluate(inputs(head), labels(head), verbose=0, return_dict=True)) == ["loss"]


@pytest.mark.parametrize("metrics", ["accuracy", OWN("accuracy"), None])
def test_one_metric_of_one_output(metrics: Any) -> None:
    model = compiled(metrics=metrics)
    found = model.evaluate(inputs(CLASSIFIER), labels(CLASSIFIER), verbose=0, return_dict=True)
    assert sorted(found) == (["loss"] if metrics is None else ["accuracy", "loss"])


def test_compiled_again() -> None:
    """Metrics of another compile are repeated as well, and those of a saved model."""
    head = "BertForQuestionAnswering"
    model = compiled(head, metrics=["accuracy"])
    model.evaluate(inputs(head), ANSWERS[head], verbose=0)
    model.compile_from_config(model.get_compile_config())
    found = model.evaluate(inputs(head), ANSWERS[head], verbose=0, return_dict=True)
    assert sorted(found) == ["end_logits_accuracy", "loss", "start_logits_accuracy"]


class Particular(OWN):
    """A metric that its config does not describe."""

    def __init__(self, factor: float) -> None:
        super().__init__(name="particular")
        self.factor = factor


def test_metric_that_cannot_be_made_again() -> None:
    head = "BertForQuestionAnswering"
    model = compiled(head, metrics=[Particular(2.0)])
    with pytest.raises(RequestError, match="the metric particular cannot be made for every output") as caught:
        model.evaluate(inputs(head), ANSWERS[head], verbose=0)
    assert "dict by output" in caught.value.hint
