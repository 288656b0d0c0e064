"""Losses: value and gradient of transformers 5's own heads, which are given their logits by a stub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions as BodyOutput

from bertconv.errors import RequestError
from bertconv.models import losses

SIZES = st.integers(1, 5)
PROPERTY = settings(deadline=None)
Loss = Callable[..., Any]
Labels = tuple[np.ndarray, ...]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """On tensors this small, threads of PyTorch that wait for each other are most of its time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Body(torch.nn.Module):
    """Stands for the whole encoder: gives what it was asked to."""

    given: torch.Tensor
    pooled: torch.Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> BodyOutput:
        return BodyOutput(
            last_hidden_state=self.given, pooler_output=self.given if self.pooled is None else self.pooled
        )


class Same(torch.nn.Module):
    def forward(self, *given: torch.Tensor) -> Any:
        return given if len(given) > 1 and given[0] is not given[1] else given[0]


@cache
def head(name: str) -> Any:
    """A head of transformers whose logits are the output of its body."""
    sizes = {"hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 0, "intermediate_size": 2}
    model = getattr(transformers, name)(transformers.BertConfig(vocab_size=3, is_decoder="LMHead" in name, **sizes))
    for part in ("bert", "cls", "classifier", "qa_outputs"):
        if hasattr(model, part):
            setattr(model, part, Body() if part == "bert" else Same())
    return model.eval()


def theirs(name: str, logits: Labels, problem_type: str | None = None, **labels: np.ndarray) -> list[np.ndarray]:
    """PyTorch's loss, and its gradient in the logits."""
    given_ = [torch.tensor(part, requires_grad=True) for part in logits]
    model, (first, *more) = head(name), given_
    model.config.vocab_size = model.config.num_labels = model.num_labels = first.shape[-1]
    model.config.problem_type = problem_type
    ids = torch.zeros(first.shape, dtype=torch.long)
    model.bert.given, model.bert.pooled = first, more[0] if more else None
    if name == "BertForQuestionAnswering":
        model.bert.given = torch.stack(given_, -1)
    if name == "BertForMultipleChoice":
        ids, model.bert.given = ids[..., None], first.reshape(-1, 1)
    loss = model(ids, **{key: torch.tensor(value) for key, value in labels.items()}).loss
    return [part.detach().numpy() for part in (loss, *torch.autograd.grad(loss, given_))]


def ours(loss: Loss, logits: Labels, labels: Labels) -> list[np.ndarray]:
    """The mean of our loss, its gradient in the logits, and the loss itself."""
    given_ = [tf.constant(part) for part in logits]
    with tf.GradientTape() as tape:
        tape.watch(given_)
        value = loss(*map(tf.constant, labels), *given_)
        mean = tf.reduce_mean(value)
    return [part.numpy() for part in (mean, *tape.gradient(mean, given_), value)]


def causal_lm_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """As the head that predicts the next word has it."""
    return losses.masked_lm_loss(losses.next_labels(labels, logits), logits)


def assert_same(mine: list[np.ndarray], torchs: list[np.ndarray], tolerance: float = 1e-12) -> None:
    for left, right in zip(mine, torchs, strict=False):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def numbers(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Logits, from equal to far apart; hypothesis would take most of the test's time to draw each of them."""

    def spread(seed: int, scale: float) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=shape) * scale

    return st.builds(spread, st.integers(0, 2**32), st.sampled_from([0.0, 1e-9, 0.1, 1.0, 10.0, 300.0]))


def classes(*shape: int, below: int, ignored: bool = True) -> st.SearchStrategy[np.ndarray]:
    one = st.integers(0, below - 1)
    elements = st.just(-100) | one if ignored else one
    return arrays(st.sampled_from([np.int32, np.int64]), shape, elements=elements)


def long(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int64)  # PyTorch takes no other


TOKENS = [
    (losses.masked_lm_loss, "BertForMaskedLM"),
    (losses.token_classification_loss, "BertForTokenClassification"),
]
ROWS = [
    (losses.next_sentence_loss, "BertForNextSentencePrediction"),
    (losses.multiple_choice_loss, "BertForMultipleChoice"),
    (lambda labels, logits: losses.sequence_classification_loss(labels, logits, "single_label_classification", 1),
     "BertForSequenceClassification"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "name"), TOKENS, ids=[name for _, name in TOKENS])
@PROPERTY
@given(data=st.data(), batch=SIZES, sequence=SIZES, vocab=SIZES)
def test_losses_of_tokens(loss: Loss, name: str, data: st.DataObject, batch: int, sequence: int, vocab: int) -> None:
    logits = data.draw(numbers(batch, sequence, vocab))
    labels = data.draw(classes(batch, sequence, below=vocab))
    *same, value = ours(loss, (logits,), (labels,))
    assert_same(same, theirs(name, (logits,), labels=long(labels)))
    assert value.shape == (1,)


@PROPERTY
@given(data=st.data(), batch=SIZES, sequence=SIZES, vocab=SIZES)
def test_the_causal_loss_is_of_the_next_token(data: st.DataObject, batch: int, sequence: int, vocab: int) -> None:
    logits = data.draw(numbers(batch, sequence, vocab))
    labels = data.draw(classes(batch, sequence, below=vocab))
    *same, value = ours(causal_lm_loss, (logits,), (labels,))
    assert value.shape == (1,)
    assert_same(same, theirs("BertLMHeadModel", (logits,), labels=long(labels)), 1e-5)  # which computes in float32
    given_ = torch.tensor(logits, requires_grad=True)
    shifted = given_[:, :-1].reshape(-1, vocab), torch.tensor(long(labels))[:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(*shifted)
    assert_same(same, [loss.item(), torch.autograd.grad(loss, given_)[0].numpy()])


@PROPERTY
@given(data=st.data(), batch=SIZES, sequence=SIZES, vocab=SIZES, column=st.booleans())
def test_the_pretraining_loss(data: st.DataObject, batch: int, sequence: int, vocab: int, column: bool) -> None:
    logits = data.draw(numbers(batch, sequence, vocab)), data.draw(numbers(batch, 2))
    labels = data.draw(classes(batch, sequence, below=vocab))
    sentences = data.draw(classes(batch, *[1] * column, below=2))
    *same, value = ours(losses.pretraining_loss, logits, (labels, sentences))
    assert value.shape == (1,)
    assert_same(same, theirs("BertForPreTraining", logits, labels=long(labels), next_sentence_label=long(sentences)))


@pytest.mark.parametrize(("loss", "name"), ROWS, ids=[name for _, name in ROWS])
@PROPERTY
@given(data=st.data(), batch=SIZES, choices=st.integers(2, 5), column=st.booleans())
def test_losses_of_rows(loss: Loss, name: str, data: st.DataObject, batch: int, choices: int, column: bool) -> None:
    choices = 2 if "NextSentence" in name else choices
    logits = data.draw(numbers(batch, choices))
    labels = data.draw(classes(batch, below=choices))
    *same, value = ours(loss, (logits,), (labels[:, None] if column else labels,))
    assert_same(same, theirs(name, (logits,), "single_label_classification", labels=long(labels)))
    assert value.shape == (batch,)
    kept = labels != -100
    if kept.any():
        each = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(long(labels)), reduction="none")
        np.testing.assert_allclose(value, each * (batch / kept.sum()), rtol=1e-12, atol=1e-12)
        assert (value[~kept] == 0).all()


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification", None])
@PROPERTY
@given(data=st.data(), batch=SIZES, count=SIZES, flat=st.booleans())
def test_losses_of_numbers(problem_type: str | None, data: st.DataObject, batch: int, count: int, flat: bool) -> None:
    logits = data.draw(numbers(batch, count))
    regression = problem_type == "regression" or (problem_type is None and count == 1)
    labels = data.draw(numbers(batch, count))
    labels = labels if regression else np.abs(labels) % 1
    loss = partial(losses.sequence_classification_loss, problem_type=problem_type, num_labels=count)
    *same, value = ours(loss, (logits,), (labels[:, 0] if flat and count == 1 else labels,))
    assert_same(same, theirs("BertForSequenceClassification", (logits,), problem_type, labels=labels))
    assert value.shape == (batch,)
    error = (logits - labels) ** 2
    binary = np.logaddexp(0, logits) - labels * logits
    np.testing.assert_allclose(value, (error if regression else binary).mean(1), rtol=1e-12, atol=1e-12)


@PROPERTY
@given(data=st.data(), batch=SIZES, count=st.integers(2, 5))
def test_integer_labels_mean_single_label_classification(data: st.DataObject, batch: int, count: int) -> None:
    logits = data.draw(numbers(batch, count))
    labels = data.draw(classes(batch, below=count))
    loss = partial(losses.sequence_classification_loss, problem_type=None, num_labels=count)
    *same, _ = ours(loss, (logits,), (labels,))
    assert_same(same, theirs("BertForSequenceClassification", (logits,), None, labels=long(labels)))


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_whole_numbers_are_numbers_too(problem_type: str) -> None:
    logits, labels = np.random.default_rng(3).normal(size=(4, 3)), np.arange(12).reshape(4, 3) % 2
    loss = partial(losses.sequence_classification_loss, problem_type=problem_type, num_labels=3)
    for whole in (labels, labels.astype(bool)):
        np.testing.assert_array_equal(ours(loss, (logits,), (whole,))[2], ours(loss, (logits,), (labels * 1.0,))[2])


@PROPERTY
@given(data=st.data(), batch=SIZES, sequence=SIZES, columns=st.booleans())
def test_answers_outside_the_sequence_are_ignored(
    data: st.DataObject, batch: int, sequence: int, columns: bool
) -> None:
    logits = data.draw(numbers(batch, sequence)), data.draw(numbers(batch, sequence))
    anywhere = st.integers(0, sequence) | st.sampled_from([-(10**6), -100, -1, sequence + 1, 2**31 - 1])
    shape = (batch, 1) if columns else (batch,)
    start, end = (data.draw(arrays(st.sampled_from([np.int32, np.int64]), shape, elements=anywhere)) for _ in "se")
    *same, value = ours(losses.question_answering_loss, logits, (start, end))
    positions = {"start_positions": long(start), "end_positions": long(end)}
    assert_same(same, theirs("BertForQuestionAnswering", logits, **positions))
    assert value.shape == (batch,)


def sample(batch: int, length: int, seed: int = 0) -> dict[str, tuple[Loss, Labels, Labels]]:
    """One call of every loss: the loss, labels of which some are ignored, logits."""
    draw = np.random.default_rng(seed)
    tokens, rows, span = draw.normal(size=(batch, length, 7)), draw.normal(size=(batch, 6)), (batch, length)
    ids, row_ids = draw.integers(0, 7, span), draw.integers(0, 6, batch)
    ids[0, 1], row_ids[1] = -100, -100
    pairs, pair_ids = rows[:, :2], row_ids % 2
    numbers_ = partial(losses.sequence_classification_loss, num_labels=6)
    where = (row_ids % (length + 1), row_ids + 1)
    return {
        "masked_lm": (losses.masked_lm_loss, (ids,), (tokens,)),
        "causal_lm": (causal_lm_loss, (ids,), (tokens,)),
        "token": (losses.token_classification_loss, (ids,), (tokens,)),
        "pretraining": (losses.pretraining_loss, (ids, pair_ids), (tokens, pairs)),
        "next_sentence": (losses.next_sentence_loss, (pair_ids,), (pairs,)),
        "choice": (losses.multiple_choice_loss, (row_ids,), (rows,)),
        "single": (partial(numbers_, problem_type=None), (row_ids,), (rows,)),
        "multi": (partial(numbers_, problem_type=None), (draw.random((batch, 6)),), (rows,)),
        "regression": (partial(numbers_, problem_type="regression"), (draw.normal(size=(batch, 6)),), (rows,)),
        "answer": (losses.question_answering_loss, where, (tokens[..., 0], tokens[..., 1])),
    }


EACH = pytest.mark.parametrize("name", sample(2, 3))
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])


def traced(name: str, compiled: bool, **signature: Any) -> Callable[..., list[np.ndarray]]:
    """The loss with its mean and gradients as one graph, for tensors of unknown sizes."""
    loss, labels, logits = sample(2, 3)[name]
    unknown = [[None] * part.ndim for part in labels], [[None] * (part.ndim - 1) + [part.shape[-1]] for part in logits]
    if name == "answer":
        unknown = unknown[0], [[None, None]] * 2

    def run(labels: tuple[tf.Tensor, ...], logits: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(*labels, *logits)
            mean = tf.reduce_mean(value)
        return (mean, *tape.gradient(mean, logits), value)

    specs = [
        tuple(
            tf.TensorSpec(signature.get("shape", shape), part.dtype) for shape, part in zip(shapes, parts, strict=True)
        )
        for shapes, parts in zip(unknown, (labels, logits), strict=True)
    ]
    call = tf.function(run, jit_compile=compiled, input_signature=specs)
    return lambda labels, logits: [
        part.numpy() for part in call(tuple(map(tf.constant, labels)), tuple(map(tf.constant, logits)))
    ]


@EACH
@COMPILED
def test_graphs_of_unknown_sizes(name: str, compiled: bool) -> None:
    call = traced(name, compiled)
    for batch, length in ((2, 3), (5, 4)):
        loss, labels, logits = sample(batch, length, seed=batch)[name]
        assert_same(call(labels, logits), ours(loss, logits, labels))


@EACH
def test_graphs_of_unknown_ranks(name: str) -> None:
    loss, labels, logits = sample(2, 3)[name]
    assert_same(traced(name, compiled=False, shape=None)(labels, logits), ours(loss, logits, labels))


@EACH
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32], ids=lambda dtype: dtype.name)
def test_losses_are_float32_at_least(name: str, dtype: tf.DType) -> None:
    loss, labels, logits = sample(4, 3)[name]
    low = [tf.cast(part, dtype) for part in logits]
    value = loss(*labels, *low)
    assert value.dtype == tf.float32
    exact = loss(*labels, *(tf.cast(part, tf.float64) for part in low))
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)


@EACH
def test_arrays_and_lists_are_taken(name: str) -> None:
    loss, labels, logits = sample(4, 3)[name]
    wanted = ours(loss, logits, labels)[-1]
    np.testing.assert_allclose(loss(*labels, *logits), wanted)
    lists = [part.tolist() for part in labels]
    np.testing.assert_allclose(loss(*lists, *(tf.constant(part) for part in logits)), wanted)


IDS = [name for name in sample(2, 3) if name not in {"multi", "regression", "answer"}]


@pytest.mark.parametrize("name", IDS)
def test_class_ids_that_are_no_classes_raise(name: str) -> None:
    loss, labels, logits = sample(4, 3)[name]
    graph, compiled = traced(name, compiled=False), traced(name, compiled=True)
    for wrong in (-1, -99, -101, 7, 2**40):
        labels[0][..., -1] = wrong
        for call in (lambda: loss(*labels, *logits), lambda: graph(labels, logits)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be class ids, from 0 up"):
                call()
        assert np.isnan(compiled(labels, logits)[0])


@EACH
def test_an_empty_batch_is_nan(name: str) -> None:
    loss, labels, logits = sample(4, 3)[name]
    value = loss(*(part[:0] for part in labels), *(part[:0] for part in logits))
    assert np.isnan(tf.reduce_mean(value))


@pytest.mark.parametrize("name", [*IDS, "answer"])
def test_class_ids_are_no_truth_values(name: str) -> None:
    loss, labels, logits = sample(4, 3)[name]
    if name == "single":
        loss = partial(losses.sequence_classification_loss, problem_type="single_label_classification", num_labels=6)
    with pytest.raises(RequestError, match="of dtype bool") as refusal:
        loss(*(part.astype(bool) for part in labels), *logits)
    assert "int64" in refusal.value.hint


@pytest.mark.parametrize("name", [*IDS, "answer"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_class_ids_as_floats_are_whole_numbers(name: str, dtype: type) -> None:
    """4.57 took floats, as a column of a table has them, and cut off what is behind the point."""
    loss, labels, logits = sample(4, 3)[name]
    floats = [part.astype(dtype) for part in labels]
    np.testing.assert_array_equal(loss(*floats, *logits), loss(*labels, *logits))
    floats[0][..., -1] += 0.5
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be whole numbers"):
        loss(*floats, *logits)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint32])
def test_any_integers_are_class_ids(dtype: type) -> None:
    _, (labels,), (logits,) = sample(4, 3)["masked_lm"]
    labels = labels % 7
    wanted = losses.masked_lm_loss(labels, logits)
    np.testing.assert_array_equal(losses.masked_lm_loss(labels.astype(dtype), logits), wanted)


@EACH
def test_labels_of_another_shape_are_refused(name: str) -> None:
    loss, labels, logits = sample(4, 3)[name]
    with pytest.raises(RequestError, match="do not fit logits of shape") as refusal:
        loss(labels[0][:-1], *labels[1:], *logits)
    assert "(4, " in refusal.value.message
    if labels[0].ndim == 2:
        with pytest.raises(RequestError, match="do not fit logits of shape"):
            loss(labels[0].T, *labels[1:], *logits)


def test_one_float_per_entry_is_a_class_id_without_a_problem_type() -> None:
    logits = np.arange(12.0).reshape(4, 3) ** 2
    wanted = losses.sequence_classification_loss(np.array([0, 2, 1, -100]), logits, None, 3)
    for labels in (np.array([0.0, 2.0, 1.0, -100.0]), np.array([[0.0], [2.0], [1.0], [-100.0]])):
        np.testing.assert_array_equal(losses.sequence_classification_loss(labels, logits, None, 3), wanted)


@pytest.mark.parametrize("problem_type", ["", "Regression", "ranking"])
def test_unknown_problem_types_are_refused(problem_type: str) -> None:
    with pytest.raises(RequestError, match=f"problem_type '{problem_type}' is unknown") as refusal:
        losses.sequence_classification_loss(np.zeros((4, 3)), np.zeros((4, 3)), problem_type, 3)
    assert "multi_label_classification" in refusal.value.hint


@PROPERTY
@given(data=st.data(), batch=SIZES, length=SIZES)
def test_discriminator(data: st.DataObject, batch: int, length: int) -> None:
    """Against PyTorch's loss, of the tokens that are looked at alone."""
    logits = data.draw(numbers(batch, length))
    labels = data.draw(classes(batch, length, below=2))
    mask = data.draw(arrays(np.int64, (batch, length), elements=st.integers(0, 1)))
    mine = ours(lambda labels, logits: losses.discriminator_loss(losses.seen_labels(labels, mask), logits),
                (logits,), (labels,))  # fmt: skip
    given_, kept = torch.tensor(logits, requires_grad=True), (mask == 1) & (labels != -100)
    loss = torch.nn.BCEWithLogitsLoss()(given_[kept], torch.tensor(labels[kept]).double())
    assert mine[-1].shape == (1,)
    if kept.any():
        assert_same(mine, [part.detach().numpy() for part in (loss, *torch.autograd.grad(loss, [given_]))])
    else:
        assert np.isnan(mine[0])


@pytest.mark.parametrize("label", [2, -1])
def test_discriminator_has_two_classes(label: int) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be class ids"):
        losses.discriminator_loss(tf.constant([[0, label]]), tf.zeros((1, 2)))
