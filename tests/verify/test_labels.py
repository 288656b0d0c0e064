"""Names of labels: a prediction is what users compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import folder

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.verify.agreement import Agreement
from bertconv.verify.parity import Parity

HEAD = "BertForSequenceClassification"
NAMES = {"0": "negative", "1": "neutral", "2": "positive"}
IDS = {"negative": 0, "neutral": 1, "positive": 2}
UNNAMED = {str(number): f"LABEL_{number}" for number in range(3)}


def compare(tmp_path: Path, a: dict[str, Any], b: dict[str, Any], head: str = HEAD, **options: Any) -> Parity:
    for name, changes in (("a", a), ("b", b)):
        folder(tmp_path / name, None, head=head, **{"id2label": NAMES, "label2id": IDS, **changes})
    return verify_checkpoint(tmp_path / "a", tmp_path / "b", level="weights", digest=False, **options)


SAME = {
    "names": ({}, {}),
    "no ids of names": ({}, {"label2id": None}),
    "ids of no names": ({}, {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}}),
    "ids as text": ({}, {"label2id": {name: str(number) for name, number in IDS.items()}}),
    "no names and the default ones": ({"id2label": None, "label2id": None, "num_labels": 3},
                                      {"id2label": UNNAMED, "label2id": None}),
    "a number beside the names": ({}, {"num_labels": 3}),
    "neither names nor a number": ({"id2label": None, "label2id": None}, {"id2label": UNNAMED, "label2id": None}),
    "the problem type that many labels have": ({}, {"problem_type": "single_label_classification"}),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME.values(), ids=SAME)
def test_the_same(tmp_path: Path, a: dict[str, Any], b: dict[str, Any]) -> None:
    parity = compare(tmp_path, a, b)
    assert parity.labels == Agreement("same", "3 labels")
    assert parity.ok


DIFFERENT = {
    "reversed": ({"id2label": {"0": "positive", "1": "neutral", "2": "negative"}, "label2id": None},
                 "id2label", 2, "label 0 is 'negative' in A and 'positive' in B"),
    "one name": ({"id2label": {**NAMES, "2": "good"}, "label2id": None},
                 "id2label", 1, "label 2 is 'positive' in A and 'good' in B"),
    "no names": ({"id2label": UNNAMED, "label2id": None},
                 "id2label", 3, "label 0 is 'negative' in A and 'LABEL_0' in B"),
    "ids of names": ({"label2id": {"negative": 0, "neutral": 2, "positive": 1}},
                     "label2id", 2, "label2id gives 'neutral' the id '1' in A and '2' in B"),
    "problem type": ({"problem_type": "multi_label_classification"}, "problem_type", 1,
                     "problem_type is 'single_label_classification' in A and 'multi_label_classification' in B"),
    "a name that is an attack": ({"id2label": {**NAMES, "1": "\x1b[31m" + "x" * 99}, "label2id": None},
                                 "id2label", 1, None),
}  # fmt: skip


@pytest.mark.parametrize(("b", "what", "count", "sentence"), DIFFERENT.values(), ids=DIFFERENT)
def test_different(tmp_path: Path, b: dict[str, Any], what: str, count: int, sentence: str | None) -> None:
    parity = compare(tmp_path, {}, b)
    (found,) = parity.labels.differences
    assert (found.what, found.count) == (what, count)
    assert found.sentence.isprintable()
    assert sentence in (None, found.sentence)
    assert not parity.ok
    assert parity.verdict() == f"Not the same model: {found.sentence}."
    assert parity.divergence.evidence == "labels"


def test_ignored(tmp_path: Path) -> None:
    parity = compare(tmp_path, {}, DIFFERENT["reversed"][0], ignore=("labels",))
    assert parity.ok
    assert parity.verdict().endswith("bit for bit; differences in the labels were ignored.")
    assert parity.labels.lines() == ["label 0 is 'negative' in A and 'positive' in B (1 more in id2label)"]
    assert not compare(tmp_path / "other", {}, DIFFERENT["reversed"][0], ignore=("tokenizer",)).ok


@pytest.mark.parametrize("head", ["BertModel", "BertForMaskedLM", "BertForMultipleChoice"])
def test_classes_without_labels(tmp_path: Path, head: str) -> None:
    parity = compare(tmp_path, {}, DIFFERENT["reversed"][0], head)
    assert parity.labels == Agreement("not compared", f"{head} has none")
    assert parity.ok


def test_tokens_have_labels_and_no_problem_type(tmp_path: Path) -> None:
    head = "BertForTokenClassification"
    assert compare(tmp_path / "one", {}, DIFFERENT["problem type"][0], head).ok
    assert not compare(tmp_path / "other", {}, DIFFERENT["reversed"][0], head).ok


def test_an_output_that_stands_alone(tmp_path: Path) -> None:
    """With one output transformers makes a probability of it unless the problem is a regression."""
    one = {"id2label": {"0": "score"}, "label2id": None, "labels": 1}
    assert not compare(tmp_path, one, {**one, "problem_type": "regression"}).ok


@pytest.mark.parametrize("key", ["hidden_dropout_prob", "classifier_dropout"])
def test_what_only_training_uses_is_a_note(tmp_path: Path, key: str) -> None:
    parity = compare(tmp_path, {}, {key: 0.3})
    assert parity.ok
    assert parity.notes == (f"the configs differ in {key}, which only training uses",)


def test_what_generation_begins_with(tmp_path: Path) -> None:
    changes = {"eos_token_id": 7}
    parity = compare(tmp_path / "one", {}, changes, "BertLMHeadModel")
    assert [one.key for one in parity.config] == ["eos_token_id"]
    assert not parity.ok
    assert compare(tmp_path / "other", {}, changes).ok


def test_a_class_without_a_decoder_has_none_to_tie(tmp_path: Path) -> None:
    assert compare(tmp_path, {}, {"tie_word_embeddings": False}).ok


@pytest.mark.parametrize("to", ["pt", "tf"])
def test_a_conversion_keeps_them(tmp_path: Path, to: str) -> None:
    source = folder(tmp_path / "a", None, head=HEAD, id2label=NAMES, label2id=None, problem_type=None)
    convert_checkpoint(source, tmp_path / "b", to=to, verify="weights")
    assert verify_checkpoint(source, tmp_path / "b", level="weights").labels == Agreement("same", "3 labels")
