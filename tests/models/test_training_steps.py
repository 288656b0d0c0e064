"""Steps of training: PyTorch's, however they run, on what is not frozen; and dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from tiny_models import (
    BATCH,
    HEADS,
    LABELS,
    NO_LABEL,
    Arrays,
    config,
    inputs,
    labels,
    relative_error,
    tf_class,
    tf_model,
    tf_state_of,
    torch_inputs,
    torch_model,
)  # fmt: skip
from trained_models import CLASSIFIER, compiled, make, same, weights

import bertconv
from bertconv.models.variables import named_variables

WITH_LOSS = [head for head in HEADS if head != "BertModel"]


# Ways of running


HOW: dict[str, tuple[dict[str, Any], Any]] = {
    "graph": ({"run_eagerly": False}, None),
    "several steps at once": ({"run_eagerly": False, "steps_per_execution": 3}, None),
    "compiled by XLA": ({"run_eagerly": False, "jit_compile": True}, None),
}


@pytest.mark.parametrize("how", HOW)
def test_same_steps_however_they_run(how: str) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    reference, model = compiled(dtype="float64"), compiled(dtype="float64", **HOW[how][0])
    histories = [
        each.fit(given, answers, batch_size=1, shuffle=False, verbose=0).history["loss"] for each in (reference, model)
    ]
    assert histories[1] == pytest.approx(histories[0], rel=1e-6)
    assert same(weights(model), weights(reference), 1e-10)


def test_jit_is_off_unless_asked_for() -> None:
    assert compiled().jit_compile is False
    assert compiled(run_eagerly=False, jit_compile="auto").jit_compile is False
    assert compiled(run_eagerly=False, jit_compile=True).jit_compile is True
    assert make().jit_compile is False


def test_accumulated_gradients() -> None:
    """Three steps of one sample each move the weights as one step of three samples does."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    whole = compiled(dtype="float64")
    whole.fit(given, answers, batch_size=BATCH, verbose=0)
    optimizer = keras.optimizers.SGD(0.125, gradient_accumulation_steps=BATCH)
    model = compiled(dtype="float64", optimizer=optimizer)
    model.fit(given, answers, batch_size=1, shuffle=False, verbose=0)
    assert same(weights(model), weights(whole), 1e-6)
    assert not same(weights(model), weights(make(dtype="float64")), 1e-3)


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
def test_mixed_float16_scales_the_loss(run_eagerly: bool) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(dtype="mixed_float16", run_eagerly=run_eagerly)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    reference = compiled()
    model.fit(given, answers, batch_size=BATCH, verbose=0)
    reference.fit(given, answers, batch_size=BATCH, verbose=0)
    assert {each.dtype for each in model.weights} == {"float32"}
    start = weights(make())
    moved = [after - before for after, before in zip(weights(model), start, strict=True)]
    wanted = [after - before for after, before in zip(weights(reference), start, strict=True)]
    assert relative_error(np.concatenate([each.ravel() for each in moved]),
                          np.concatenate([each.ravel() for each in wanted])) < 0.05  # fmt: skip


def test_create_optimizer() -> None:
    """The learning rate follows the schedule, and only what decays becomes smaller."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    optimizer, schedule = bertconv.create_optimizer(0.01, num_train_steps=6, num_warmup_steps=3, weight_decay_rate=0.01)
    model = compiled(optimizer=optimizer)
    history = model.fit(given, answers, batch_size=1, epochs=2, verbose=0).history
    assert int(optimizer.iterations) == 6
    assert float(schedule(6)) == pytest.approx(0, abs=1e-9)
    assert float(schedule(3)) == pytest.approx(0.01)
    assert np.isfinite(history["loss"]).all()
    paths = {variable.path.split("/", 1)[1]: variable.path for variable in model.trainable_variables}
    assert optimizer.decays(paths["bert/pooler/dense/kernel"])
    assert not optimizer.decays(paths["bert/pooler/dense/bias"])
    assert not optimizer.decays(paths["bert/embeddings/LayerNorm/gamma"])


# What is trained


def test_frozen_body() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = make()
    model.bert.trainable = False
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    before = {name: value.numpy() for name, value in named_variables(model).items()}
    model.fit(given, answers, epochs=2, verbose=0)
    changed = {
        name for name, value in named_variables(model).items() if not np.array_equal(value.numpy(), before[name])
    }
    assert changed == {"classifier/kernel", "classifier/bias"}
    assert [each.name for each in model.trainable_variables] == ["kernel", "bias"]
    assert model.num_parameters(only_trainable=True) == 35 * LABELS + LABELS
    model.bert.trainable = True
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    model.fit(given, answers, verbose=0)
    kernel = named_variables(model)["bert/pooler/dense/kernel"]
    assert not np.array_equal(kernel.numpy(), before["bert/pooler/dense/kernel"])


def test_frozen_model_has_nothing_to_train() -> None:
    model = tf_class(CLASSIFIER)(config(CLASSIFIER), trainable=False)
    assert model.trainable_variables == []
    assert model.num_parameters(only_trainable=True) == 0


def test_part_of_the_body_frozen() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = make(num_hidden_layers=2)
    model.bert.embeddings.trainable = False
    model.bert.encoder.layer[0].trainable = False
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    before = {name: value.numpy() for name, value in named_variables(model).items()}
    model.fit(given, answers, verbose=0)
    for name, value in named_variables(model).items():
        frozen = name.startswith(("bert/embeddings/", "bert/encoder/layer_._0/"))
        if not name.endswith("key/bias"):  # whose gradient is zero
            assert np.array_equal(value.numpy(), before[name]) == frozen, name


PROBLEMS = {
    "regression": (4, lambda rng: rng.normal(size=(BATCH, 4))),
    "regression of one number": (1, lambda rng: rng.normal(size=BATCH)),
    "multi_label_classification": (5, lambda rng: rng.integers(0, 2, (BATCH, 5)).astype(np.float64)),
    "single_label_classification": (5, lambda _: np.array([3, NO_LABEL, 1])),
}


@pytest.mark.parametrize(
    ("problem", "stated"),
    [(name, stated) for name in PROBLEMS for stated in (True, False) if stated or name != "regression"],
    ids=lambda value: value if isinstance(value, str) else "stated" if value else "from the labels",
)
def test_problem_types(problem: str, stated: bool, tmp_path: Path) -> None:
    """One step of training is PyTorch's."""
    count, draw = PROBLEMS[problem]
    answers = draw(np.random.default_rng(5))
    settings = {"num_labels": count, "problem_type": problem.partition(" ")[0] if stated else None}
    wanted = torch_model(CLASSIFIER, std=0.3, num_hidden_layers=1, **settings)
    model = tf_model(wanted, tmp_path)
    assert_same_steps(wanted, model, [(inputs(CLASSIFIER), {"labels": answers})], run_eagerly=True)


# The same steps as PyTorch's


def torch_weights(model: Any) -> Arrays:
    return {name: np.asarray(value).copy() for name, value in tf_state_of(dict(model.named_parameters())).items()}


def next_word_loss(logits: torch.Tensor, words: np.ndarray) -> torch.Tensor:
    """As transformers 5 computes it, which however rounds the logits to float32 before."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(words[:, 1:]).flatten())


def assert_same_steps(wanted: Any, model: Any, steps: list[tuple[Arrays, Arrays]], **how: Any) -> None:
    """Steps of gradient descent, in float64 and without dropout, to 1e-10 in every weight."""
    head = type(wanted).__name__
    before = torch_weights(wanted)
    optimizer = torch.optim.SGD(wanted.parameters(), lr=0.125)
    model.compile(keras.optimizers.SGD(0.125), **how)  # 0.125 is the same number in float32, which Keras keeps it in
    for given, answers in steps:
        optimizer.zero_grad()
        output = wanted(**torch_inputs(head, given), **torch_inputs(head, answers))
        loss = output.loss if head != "BertLMHeadModel" else next_word_loss(output.logits, answers["labels"])
        loss.backward()
        optimizer.step()
        found = model.train_on_batch(given, answers)
        assert found == pytest.approx(loss.item(), rel=1e-6)  # Keras averages losses in float32
    expected = torch_weights(wanted)
    found = {name: value.numpy() for name, value in named_variables(model).items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-10 * np.abs(value).max(), name
    moved = [
        name for name, value in expected.items() if np.abs(value - before[name]).max() > 1e-6 * np.abs(value).max()
    ]
    assert len(moved) > 0.8 * len(expected)


@pytest.mark.parametrize("head", WITH_LOSS)
def test_steps_are_pytorchs(head: str, tmp_path: Path) -> None:
    wanted = torch_model(head, std=0.3, num_hidden_layers=1).train()
    steps = [(inputs(head, seed), labels(head, seed)) for seed in range(3)]
    assert_same_steps(wanted, tf_model(wanted, tmp_path), steps)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables.*mlm___cls/predictions/bias:UserWarning")
def test_steps_are_pytorchs_untied(tmp_path: Path) -> None:
    head = "BertForMaskedLM"
    wanted = torch_model(head, std=0.3, num_hidden_layers=1, tie_word_embeddings=False)
    steps = [(inputs(head, seed), labels(head, seed)) for seed in range(2)]
    assert_same_steps(wanted, tf_model(wanted, tmp_path), steps, run_eagerly=True)


def test_steps_are_pytorchs_with_cross_attention(tmp_path: Path) -> None:
    head = "BertLMHeadModel"
    wanted = torch_model(head, std=0.3, num_hidden_layers=1, add_cross_attention=True)
    states = np.random.default_rng(3).normal(size=(BATCH, 6, 35))
    steps = [({**inputs(head, seed), "encoder_hidden_states": states}, labels(head, seed)) for seed in range(2)]
    assert_same_steps(wanted, tf_model(wanted, tmp_path), steps, run_eagerly=True)


# Dropout

DROPPING = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}


@pytest.mark.parametrize("key", [*DROPPING, "classifier_dropout"])
def test_dropout_is_on_in_training_only(key: str) -> None:
    given = inputs(CLASSIFIER)
    model = make(**{key: 0.5})
    quiet = model(**given).logits
    np.testing.assert_array_equal(model(**given, training=False).logits, quiet)
    assert relative_error(model(**given, training=True).logits, quiet) > 1e-3
    assert relative_error(model.predict(given, verbose=0).logits, quiet) < 1e-5
    np.testing.assert_allclose(make()(**given).logits, quiet, rtol=1e-6, atol=1e-6)
    assert relative_error(make()(**given, training=True).logits, quiet) < 1e-6


def test_dropout_has_its_rate() -> None:
    """What is left is scaled up, so that the mean stays."""
    dropout = make(hidden_dropout_prob=0.3).bert.embeddings.dropout
    found = dropout(tf.ones((200, 300)), training=True).numpy()
    assert set(np.unique(found)) == {0.0, np.float32(1 / 0.7)}
    assert (found == 0).mean() == pytest.approx(0.3, abs=0.01)


def test_classifier_dropout_of_multiple_choice() -> None:
    model = make("BertForMultipleChoice", classifier_dropout=0.5)
    assert model.dropout.rate == 0.5
    assert make("BertForMultipleChoice", hidden_dropout_prob=0.25).dropout.rate == 0.25


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
def test_reproducible_under_a_seed(run_eagerly: bool) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]

    def trained(seed: int) -> list[np.ndarray]:
        model = compiled(run_eagerly=run_eagerly, changes=DROPPING)
        keras.utils.set_random_seed(seed)
        model.fit(given, answers, batch_size=2, verbose=0)
        return weights(model)

    first, second, other = trained(1), trained(1), trained(2)
    assert same(first, second)
    assert not same(first, other, 1e-3)


def test_evaluate_has_no_dropout() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(changes=DROPPING)
    quiet = float(np.mean(model(**given, labels=answers).loss))
    assert model.evaluate(given, answers, verbose=0) == pytest.approx(quiet, rel=1e-5)
    assert model.train_on_batch(given, answers) != pytest.approx(quiet, rel=1e-3)
