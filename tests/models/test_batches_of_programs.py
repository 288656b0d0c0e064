"""Batches of Python generators and Sequences, whatever form they have: as Keras 2 took them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from tiny_models import inputs, labels
from trained_models import CLASSIFIER, compiled, same, weights
from transformers import BatchEncoding

QA = "BertForQuestionAnswering"
GIVEN, ANSWERS = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
ORDER = ("input_ids", "attention_mask", "token_type_ids")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Batches(keras.utils.Sequence):  # type: ignore[misc]
    """What a program's Sequence is: given batches, and a note of the ends of epochs."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches, self.ends = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]

    def on_epoch_end(self) -> None:
        self.ends += 1


def generated(batches: list[Any]) -> Iterator[Any]:
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
def test_forms_of_batches(form: str, make: Callable[[list[Any]], Any]) -> None:
    wanted, model = compiled(), compiled()
    history = wanted.fit(
        GIVEN, ANSWERS, batch_size=len(ANSWERS), shuffle=False, validation_data=(GIVEN, ANSWERS), verbose=0
    ).history
    batch = FORMS[form]()
    found = model.fit(
        make([batch]), validation_data=make([batch]), steps_per_epoch=1, validation_steps=1, verbose=0
    ).history
    assert found == {name: pytest.approx(value, rel=1e-5) for name, value in history.items()}
    assert same(weights(model), weights(wanted), 1e-5)
    assert model.evaluate(make([batch]), steps=1, verbose=0) == pytest.approx(
        wanted.evaluate(GIVEN, ANSWERS, verbose=0), rel=1e-5
    )
    logits = wanted.predict(GIVEN, verbose=0).logits
    np.testing.assert_allclose(model.predict(make([batch]), steps=1, verbose=0).logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Batches, generated])
@pytest.mark.parametrize("loss", [None, LOSS])
def test_labels_in_a_list(loss: Any, make: Callable[[list[Any]], Any]) -> None:
    given, answers = inputs(QA), {"start_positions": np.array([1, 4, 0]), "end_positions": np.array([5, 7, 9])}
    wanted = compiled(QA, loss=loss).evaluate(given, answers, verbose=0)
    assert compiled(QA, loss=loss).evaluate(
        make([(given, list(answers.values()))]), steps=1, verbose=0
    ) == pytest.approx(wanted)


@pytest.mark.parametrize("make", [Batches, generated])
def test_batches_padded_each_to_its_own_length(make: Callable[[list[Any]], Any]) -> None:
    """The first two are as long as each other, and the third is not."""
    batches = [({name: value[:, :size] for name, value in GIVEN.items()}, ANSWERS) for size in (4, 4, 6)]
    model, other = compiled(optimizer=keras.optimizers.SGD(0.0)), compiled(optimizer=keras.optimizers.SGD(0.0))
    each = [other.test_on_batch(*batch) for batch in batches]
    assert model.fit(make(batches), steps_per_epoch=3, verbose=0).history["loss"] == [
        pytest.approx(np.mean(each), rel=1e-5)
    ]
    assert model.evaluate(make(batches), steps=3, verbose=0) == pytest.approx(np.mean(each), rel=1e-5)
    assert model.predict(make(batches), steps=3, verbose=0).logits.shape[0] == 3 * len(ANSWERS)


def test_class_weights_and_ends_of_epochs_of_a_sequence() -> None:
    wanted, model = compiled(), compiled()
    given = {0: 0.5, 1: 2.0}
    history = wanted.fit(
        GIVEN, ANSWERS, batch_size=len(ANSWERS), shuffle=False, class_weight=given, epochs=2, verbose=0
    ).history
    batches = Batches([([GIVEN[name] for name in ORDER], ANSWERS)])
    assert model.fit(batches, class_weight=given, epochs=2, verbose=0).history["loss"] == pytest.approx(history["loss"])
    assert batches.ends >= 2
