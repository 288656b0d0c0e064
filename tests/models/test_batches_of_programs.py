"""Batches of Python generators and Sequences, whatever form they have: as Keras 2 took them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import config, inputs, labels
from trained_models import CLASSIFIER, Batches, compiled, same, weights
from transformers import BatchEncoding

from bertconv import TFBertMainLayer, TFBertPreTrainedModel

QA = "BertForQuestionAnswering"
GIVEN, ANSWERS = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
ORDER = ("input_ids", "attention_mask", "token_type_ids")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def generated(*batches: Any) -> Iterator[Any]:
    yield from batches


FORMS: dict[str, Callable[[], Any]] = {
    "list of arrays": lambda: ([GIVEN[name] for name in ORDER], ANSWERS),
    "list of features and labels": lambda: [GIVEN, ANSWERS],
    "features alone": lambda: {**GIVEN, "labels": ANSWERS},
    "encoding": lambda: (BatchEncoding(GIVEN), ANSWERS),
    "lists of numbers": lambda: ({name: value.tolist() for name, value in GIVEN.items()}, ANSWERS.tolist()),
}


@pytest.mark.parametrize("make", [Batches, generated])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_batches(form: str, make: Callable[..., Any]) -> None:
    wanted, model = compiled(), compiled()
    history = wanted.fit(
        GIVEN, ANSWERS, batch_size=len(ANSWERS), shuffle=False, validation_data=(GIVEN, ANSWERS), verbose=0
    ).history
    batch = FORMS[form]()
    found = model.fit(
        make(batch), validation_data=make(batch), steps_per_epoch=1, validation_steps=1, verbose=0
    ).history
    assert found == {name: pytest.approx(value, rel=1e-5) for name, value in history.items()}
    assert same(weights(model), weights(wanted), 1e-5)
    assert model.evaluate(make(batch), steps=1, verbose=0) == pytest.approx(
        wanted.evaluate(GIVEN, ANSWERS, verbose=0), rel=1e-5
    )
    logits = wanted.predict(GIVEN, verbose=0).logits
    np.testing.assert_allclose(model.predict(make(batch), steps=1, verbose=0).logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Batches, generated])
@pytest.mark.parametrize("loss", [None, LOSS])
def test_labels_in_a_list(loss: Any, make: Callable[..., Any]) -> None:
    given, answers = inputs(QA), {"start_positions": np.array([1, 4, 0]), "end_positions": np.array([5, 7, 9])}
    wanted = compiled(QA, loss=loss).evaluate(given, answers, verbose=0)
    assert compiled(QA, loss=loss).evaluate(make((given, list(answers.values()))), steps=1, verbose=0) == pytest.approx(
        wanted
    )


@pytest.mark.parametrize("make", [Batches, generated])
def test_batches_padded_each_to_its_own_length(make: Callable[..., Any]) -> None:
    """The first two are as long as each other, and the third is not."""
    batches = [({name: value[:, :size] for name, value in GIVEN.items()}, ANSWERS) for size in (4, 4, 6)]
    model, other = compiled(optimizer=keras.optimizers.SGD(0.0)), compiled(optimizer=keras.optimizers.SGD(0.0))
    each = [other.test_on_batch(*batch) for batch in batches]
    assert model.fit(make(*batches), steps_per_epoch=3, verbose=0).history["loss"] == [
        pytest.approx(np.mean(each), rel=1e-5)
    ]
    assert model.evaluate(make(*batches), steps=3, verbose=0) == pytest.approx(np.mean(each), rel=1e-5)
    assert model.predict(make(*batches), steps=3, verbose=0).logits.shape[0] == 3 * len(ANSWERS)


class Flat(TFBertPreTrainedModel):
    """A head whose weights depend on the length of the batches, and that only a call makes."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, add_pooling_layer=False, name="bert")
        self.flat, self.scores = keras.layers.Flatten(), keras.layers.Dense(2, name="scores")

    def call(self, inputs: Any) -> Any:
        return self.scores(self.flat(self.bert(inputs).last_hidden_state))


@pytest.mark.parametrize("make", [Batches, generated])
def test_heads_that_the_first_batch_builds(make: Callable[..., Any]) -> None:
    model = Flat(config(num_hidden_layers=1))
    model.compile("sgd", LOSS)
    batch = ({"input_ids": GIVEN["input_ids"]}, ANSWERS % 2)
    assert np.isfinite(model.fit(make(batch, batch), steps_per_epoch=2, verbose=0).history["loss"]).all()
    assert model.scores.kernel.shape[0] == GIVEN["input_ids"].shape[1] * model.config.hidden_size


@pytest.mark.parametrize("make", [Batches, generated])
def test_class_ids_in_columns_of_floats(make: Callable[..., Any]) -> None:
    wanted = compiled().evaluate(GIVEN, ANSWERS, verbose=0)
    batch = (GIVEN, ANSWERS.astype(np.float32)[:, None])
    assert compiled().evaluate(make(batch), steps=1, verbose=0) == pytest.approx(wanted)


@pytest.mark.parametrize("make", [Batches, generated])
def test_fractions_after_whole_numbers_are_refused(make: Callable[..., Any]) -> None:
    """TensorFlow would cut them."""
    model = compiled()
    batches = [(GIVEN, ANSWERS.astype(np.int64)), (GIVEN, ANSWERS + 0.5)]
    with pytest.raises(tf.errors.OpError, match="a batch holds float64 where the first one holds int64"):
        model.evaluate(make(*batches), steps=2, verbose=0)


def test_a_generator_is_read_once() -> None:
    """No batch comes again in the next epoch, as none did in Keras 2."""
    seen: list[int] = []

    def endless() -> Iterator[Any]:
        for number in itertools.count():
            seen.append(number)
            yield GIVEN, np.full_like(ANSWERS, number % 3)

    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    each = [model.test_on_batch(GIVEN, np.full_like(ANSWERS, number)) for number in range(3)]
    found = model.fit(endless(), steps_per_epoch=2, epochs=2, verbose=0).history["loss"]
    assert found[0] == pytest.approx(np.mean(each[:2]), rel=1e-5)
    assert found[1] == pytest.approx((each[2] + each[0]) / 2, rel=1e-5)
    assert seen[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("steps", [None, 2])
def test_epochs_of_a_sequence(steps: int | None) -> None:
    """Each begins at the first batch, and on_epoch_end may make it shorter."""

    class Shrinking(Batches):
        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            self.batches = self.batches[:2]

    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    batches = [(GIVEN, np.full_like(ANSWERS, number)) for number in range(3)]
    each = [model.test_on_batch(*batch) for batch in batches]
    sequence = Shrinking(*batches)
    found = model.fit(sequence, steps_per_epoch=steps, epochs=3, shuffle=False, verbose=0).history["loss"]
    first, later = (each, [*each[:2], each[0]]) if steps is None else (each[:2], each[:2])
    assert found == pytest.approx([np.mean(first), np.mean(later), np.mean(later)], rel=1e-5)
    assert sequence.ends >= 2


def test_class_weights_and_ends_of_epochs_of_a_sequence() -> None:
    wanted, model = compiled(), compiled()
    given = {0: 0.5, 1: 2.0}
    history = wanted.fit(
        GIVEN, ANSWERS, batch_size=len(ANSWERS), shuffle=False, class_weight=given, epochs=2, verbose=0
    ).history
    batches = Batches(([GIVEN[name] for name in ORDER], ANSWERS))
    assert model.fit(batches, class_weight=given, epochs=2, verbose=0).history["loss"] == pytest.approx(history["loss"])
    assert batches.ends >= 2
