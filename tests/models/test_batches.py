"""Batches as data sets have them, `(features, labels)`, wherever x is asked for; batches of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from called_models import HIDDEN, assert_close
from tiny_models import BATCH, LABELS, NO_LABEL, SIZES, Arrays, inputs, labels
from trained_models import CLASSIFIER, compiled, same, weights
from transformers import BatchEncoding

from bertconv.errors import RequestError

WEIGHTS = np.array([0.5, 0.0, 3.0], np.float32)


# One batch for x


def features() -> Arrays:
    return inputs(CLASSIFIER)


def answers() -> np.ndarray:
    return labels(CLASSIFIER)["labels"]


WHOLE: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (features(), answers()),
    "list": lambda: [features(), answers()],
    "labels by name": lambda: (features(), {"labels": answers()}),
    "labels inside": lambda: ({**features(), "labels": answers()}, None),
    "BatchEncoding": lambda: (BatchEncoding(features()), tf.constant(answers())),
    "an element of a data set": lambda: next(
        iter(compiled().prepare_tf_dataset({**features(), "label": answers()}, BATCH, shuffle=False))
    ),
}


@pytest.mark.parametrize("form", WHOLE)
def test_whole_batch(form: str) -> None:
    model = compiled()
    output = model(**features(), labels=answers())
    loss, logits = float(np.mean(output.loss)), output.logits
    batch = WHOLE[form]
    assert_close(model.predict_on_batch(batch()).logits, logits)
    assert_close(model.predict(batch(), verbose=0).logits, logits)
    assert model.test_on_batch(batch()) == pytest.approx(loss, rel=1e-5)
    assert model.evaluate(batch(), verbose=0) == pytest.approx(loss, rel=1e-5)
    start = weights(model)
    model.train_on_batch(features(), answers())
    wanted = weights(model)
    for train in (model.train_on_batch, lambda x: model.fit(x, batch_size=BATCH, verbose=0)):
        model.set_weights(start)
        train(batch())
        assert same(weights(model), wanted, 1e-6)


def test_sample_weights_of_a_whole_batch() -> None:
    model = compiled()
    batch = (features(), answers(), WEIGHTS)
    wanted = model.test_on_batch(features(), answers(), WEIGHTS)
    assert wanted != pytest.approx(model.test_on_batch(features(), answers()), rel=1e-3)
    assert model.test_on_batch(batch) == pytest.approx(wanted, rel=1e-5)
    assert model.evaluate(batch, verbose=0) == pytest.approx(wanted, rel=1e-5)
    assert model.fit(batch, verbose=0, batch_size=BATCH).history["loss"] == pytest.approx([wanted], rel=1e-5)
    assert model.predict_on_batch(batch).logits.shape == (BATCH, LABELS)


def test_labels_twice() -> None:
    model = compiled()
    for use in (model.test_on_batch, model.train_on_batch, model.evaluate, model.fit):
        with pytest.raises(RequestError, match="labels are in the batch and beside it"):
            use((features(), answers()), answers())
        with pytest.raises(RequestError, match="sample weights are in the batch and beside it"):
            use((features(), answers(), WEIGHTS), sample_weight=WEIGHTS)


def test_tensors_in_a_tuple_are_arguments() -> None:
    """Without names the second one is the mask, as ever."""
    model = compiled()
    given = features()
    found = model.predict_on_batch((given["input_ids"], given["attention_mask"])).logits
    assert_close(found, model(given["input_ids"], given["attention_mask"]).logits)


# Several encodings are no batch


def encodings(count: int) -> list[Arrays]:
    return [inputs(CLASSIFIER, seed, padded=False) for seed in range(count)]


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_several_encodings_are_refused(count: int, kind: Any) -> None:
    """All but the first would be lost as labels and weights."""
    model, given = compiled(), kind(encodings(count))
    uses: list[Callable[[Any], Any]] = [
        model, model.predict, model.predict_on_batch, model.fit, model.evaluate, model.train_on_batch,
        model.test_on_batch, lambda x: model.fit(x, answers()), lambda x: model.predict([BatchEncoding(e) for e in x]),
        lambda x: model.fit(features(), answers(), validation_data=(x, answers()), verbose=0),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(RequestError, match=rf"a (list|tuple) of {count} encodings is no batch") as caught:
            use(given)
        assert "padding=True" in caught.value.hint


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
def test_several_encodings_in_a_data_set_are_refused(run_eagerly: bool) -> None:
    model = compiled(run_eagerly=run_eagerly)
    data = tf.data.Dataset.from_tensors(tuple(encodings(2)))
    for use in (model.predict, model.evaluate, model.fit):
        with pytest.raises(RequestError, match="a tuple of 2 encodings is no batch"):
            use(data, verbose=0)


def test_one_encoding_and_labels_by_name_are_a_batch() -> None:
    model = compiled("BertForQuestionAnswering")
    given = inputs("BertForQuestionAnswering")
    wanted = model(given).start_logits
    targets = labels("BertForQuestionAnswering")
    by_output = {model.label_outputs[name]: value for name, value in targets.items()}
    for batch in ([given], (given, targets), (given, by_output, dict.fromkeys(by_output, WEIGHTS))):
        assert_close(model.predict_on_batch(batch).start_logits, wanted)
        assert_close(model(batch).start_logits, wanted)


# Different lengths

LENGTHS = (5, 9, 4)
TOKENS = "BertForTokenClassification"


def rows(head: str = TOKENS) -> Iterator[Arrays]:
    """Batches of two, of different lengths."""
    for seed, length in enumerate(LENGTHS):
        yield {name: value[:2, :length] for name, value in inputs(head, seed, padded=False).items()}


def targets() -> Iterator[np.ndarray]:
    """Labels of tokens for them; the second row has them for half of its tokens."""
    for seed, length in enumerate(LENGTHS):
        found = labels(TOKENS, seed)["labels"][:2, :length].copy()
        found[1, length // 2 :] = NO_LABEL
        yield found


def dataset(make: Callable[[], Iterator[Any]]) -> tf.data.Dataset:
    """What yields batches of arrays as a data set that knows how many it has, and none of their sizes."""
    spec = tf.nest.map_structure(lambda value: tf.TensorSpec([None] * value.ndim, tf.int64), next(make()))
    return tf.data.Dataset.from_generator(make, output_signature=spec).apply(
        tf.data.experimental.assert_cardinality(len(LENGTHS))
    )


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
def test_predictions_of_different_lengths(run_eagerly: bool) -> None:
    """As in Keras, a ragged tensor; with pad_value an array, in which every row begins with its own scores."""
    model = compiled(TOKENS, run_eagerly=run_eagerly)
    each = [model(found).logits.numpy() for found in rows()]
    ragged = model.predict(dataset(rows), verbose=0).logits
    assert isinstance(ragged, tf.RaggedTensor)
    assert ragged.shape.as_list() == [6, None, LABELS]
    padded = model.predict(dataset(rows), pad_value=-100, verbose=0).logits
    assert type(padded) is np.ndarray
    assert padded.shape == (6, max(LENGTHS), LABELS)
    assert padded.dtype == np.float32
    for number, (length, wanted) in enumerate(zip(LENGTHS, each, strict=True)):
        part = slice(2 * number, 2 * number + 2)
        assert_close(np.stack([row.numpy() for row in ragged[part]]), wanted)
        assert_close(padded[part, :length], wanted)
        assert (padded[part, length:] == -100).all()


def test_padded_predictions_of_every_output() -> None:
    """Outputs that are alike in every batch stay as they are, and those of layers are padded on each of their axes."""
    changes = {"output_hidden_states": True, "output_attentions": True}
    model = compiled("BertModel", changes=changes)
    found = model.predict(dataset(rows), pad_value=0, verbose=0)
    longest, heads = max(LENGTHS), SIZES["num_attention_heads"]
    assert found.last_hidden_state.shape == (6, longest, HIDDEN)
    assert found.pooler_output.shape == (6, HIDDEN)
    assert [each.shape for each in found.hidden_states] == [(6, longest, HIDDEN)] * 2
    assert [each.shape for each in found.attentions] == [(6, heads, longest, longest)]
    for number, given in enumerate(rows()):
        part, length = slice(2 * number, 2 * number + 2), LENGTHS[number]
        assert_close(found.attentions[0][part, :, :length, :length], model(given).attentions[0])
        assert not found.attentions[0][part, :, length:].any()


@pytest.mark.parametrize(("head", "output"), [("BertForQuestionAnswering", "start_logits"), (CLASSIFIER, "logits")])
def test_padding_where_there_is_little_or_none_to_do(head: str, output: str) -> None:
    model = compiled(head)
    found = model.predict(dataset(lambda: rows(head)), pad_value=-1e9, verbose=0)[output]
    assert found.shape == (6, max(LENGTHS) if head != CLASSIFIER else LABELS)
    one = inputs(head)
    assert_close(model.predict(one, pad_value=-100, verbose=0)[output], model(one)[output])


def test_training_on_different_lengths() -> None:
    """The steps are those of one batch after the other, and losses and metrics their means."""
    model = compiled(TOKENS, run_eagerly=False, metrics=["accuracy"])
    data = dataset(lambda: zip(rows(), targets(), strict=True))
    each = [float(model(**found, labels=wanted).loss[0]) for found, wanted in zip(rows(), targets(), strict=True)]
    assert model.evaluate(data, verbose=0)[0] == pytest.approx(np.mean(each), rel=1e-5)
    start = weights(model)
    model.fit(data, verbose=0, shuffle=False)
    found = weights(model)
    model.set_weights(start)
    for batch in zip(rows(), targets(), strict=True):
        model.train_on_batch(batch)
    assert same(found, weights(model), 1e-6)
