"""Which class a header is, and which sizes its shapes imply."""

from __future__ import annotations

from typing import Any

import pytest
from observed_names import CROSS, SIZES, filled
from table_headers import HEADS, REAL, prefixed, renamed, stored, without

from bertconv.config import BertConfig
from bertconv.errors import RequestError, ShapeMismatch
from bertconv.mapping.heads import HeadChoice, choose_head, fit_config, rank_heads, sizes_seen
from bertconv.mapping.identify import StoredTensor

BOTH = pytest.mark.parametrize("dialect", REAL.dialects.everywhere)
SEQUENCE, CHOICE, TOKEN = "BertForSequenceClassification", "BertForMultipleChoice", "BertForTokenClassification"
LM = ("BertForMaskedLM", "BertLMHeadModel")
EQUALS = {SEQUENCE: (SEQUENCE, TOKEN), CHOICE: (SEQUENCE, CHOICE, TOKEN), LM[0]: LM, LM[1]: LM}
"""Class -> the classes that have the tensors of its files; others are alone."""
TAGS = {"0": "O", "1": "B-PER", "2": "I-PER", "3": "[CLS]"}
PLAIN = {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3"}


def choice(header: list[StoredTensor], config: dict[str, Any] | None = None, forced: str | None = None) -> HeadChoice:
    read = None if config is None else BertConfig.from_dict(config)
    return choose_head(REAL.table, REAL.identify(header), read, forced)


def chosen(header: list[StoredTensor], *architectures: str, forced: str | None = None) -> tuple[str, tuple[str, ...]]:
    found = choice(header, {"architectures": list(architectures)}, forced)
    assert found.rivals == ()
    return found.head, found.equals


@pytest.mark.parametrize("head", HEADS)
@BOTH
@pytest.mark.parametrize("copies", [False, True], ids=["tied", "copies"])
def test_every_head_is_recognised_without_a_config(head: str, dialect: str, copies: bool) -> None:
    """Or the classes of which it is one, where its tensors do not tell."""
    found = choice(REAL.header(head, dialect, copies=copies))
    equals = EQUALS.get(head, (head,))
    assert found.equals == equals
    assert found.rivals == (equals if len(equals) > 1 else ())
    assert found.head == equals[0]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", [CROSS, {"position_embedding_type": "relative_key"}], ids=["cross", "relative"])
def test_what_a_config_adds_does_not_change_the_head(head: str, changes: dict[str, Any]) -> None:
    assert chosen(REAL.header(head, **changes), head)[0] == head


@pytest.mark.parametrize("head", LM)
def test_language_models_are_told_apart_by_the_config_alone(head: str) -> None:
    best, equals = chosen(REAL.header("BertForMaskedLM"), "Nobody", head)
    assert best == head
    assert set(equals) == set(LM)


@pytest.mark.parametrize(("is_decoder", "head"), [(False, LM[0]), (True, LM[1])])
@BOTH
def test_a_language_model_that_nothing_names_is_causal_if_its_config_is(
    dialect: str, is_decoder: bool, head: str
) -> None:
    found = choice(REAL.header("BertForMaskedLM", dialect), {"is_decoder": is_decoder})
    assert (found.head, found.equals, found.rivals, found.why) == (head, LM, (), "")


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ({}, None),
        ({"architectures": ["BertForMaskedLM"]}, None),
        ({"architectures": ["TFBertForTokenClassification"]}, TOKEN),
        ({"architectures": ["BertForMaskedLM", "MyBertForTokenClassification"]}, TOKEN),
        ({"architectures": [SEQUENCE], "id2label": TAGS}, SEQUENCE),
        ({"finetuning_task": "NER"}, TOKEN),
        ({"finetuning_task": "sst_2"}, SEQUENCE),
        ({"finetuning_task": "swag"}, None),  # its classes have one label
        ({"finetuning_task": "my own"}, None),
        ({"finetuning_task": 3}, None),
        ({"id2label": TAGS}, TOKEN),
        ({"id2label": {"0": "O", "1": "I-LOC", "2": "I-ORG", "3": "PAD"}}, TOKEN),
        ({"id2label": {"0": "B-LOC", "1": "I-LOC", "2": "X", "3": "S-ORG"}}, TOKEN),
        ({"id2label": {"0": "B-LOC", "1": "I-ORG", "2": "X", "3": "E-ORG"}}, None),  # no O, no kind that goes on
        ({"id2label": {"0": "O", "1": "A", "2": "B", "3": "AB"}}, None),  # blood groups
        ({"id2label": {"0": "O", "1": "B-PER", "2": "I-PER", "3": "other"}}, None),
        ({"id2label": {"0": "O", "1": "PER", "2": "LOC", "3": "ORG"}}, None),
        ({"id2label": {"0": "Contradiction", "1": "Entailment", "2": "Neutral", "3": "?"}}, SEQUENCE),
        ({"id2label": {"0": "positive", "1": "negative", "2": "neutral", "3": "?"}}, None),
        ({"id2label": PLAIN}, None),
        ({"id2label": PLAIN, "problem_type": "multi_label_classification"}, SEQUENCE),
        ({"id2label": TAGS, "finetuning_task": "ner"}, TOKEN),
        ({"id2label": TAGS, "finetuning_task": "mnli"}, None),  # left over from another model
        ({"id2label": TAGS, "problem_type": "regression"}, None),
    ],
    ids=str,
)
@BOTH
def test_a_classifier_with_a_pooler_is_what_is_certain_of_it(
    dialect: str, config: dict[str, Any], head: str | None
) -> None:
    """Models for token classification were saved with the pooler until transformers 4: it says nothing."""
    found = choice(REAL.header(SEQUENCE, dialect, num_labels=4), config)
    assert found.equals == (SEQUENCE, TOKEN)
    assert (found.head if not found.rivals else None) == head
    assert found.rivals == (() if head else (SEQUENCE, TOKEN))
    named = any(name.endswith(("TokenClassification", SEQUENCE)) for name in config.get("architectures", ()))
    assert bool(found.why) == (head is not None and not named) or len(config) == 2


@pytest.mark.parametrize(
    ("first", "config", "wanted"),
    [
        ("tf_bert_for_token_classification/", {}, TOKEN),
        ("tf_bert_for_sequence_classification_3/", {}, SEQUENCE),
        ("tf_bert_for_token_classification/", {"problem_type": "regression"}, None),
        ("tf_bert_for_token_classification/", {"architectures": [SEQUENCE]}, SEQUENCE),
        ("my_model/", {}, None),
    ],
)
def test_keras_puts_the_class_in_front_of_the_names(first: str, config: dict[str, Any], wanted: str | None) -> None:
    found = choice(prefixed(REAL.header(SEQUENCE, "tf"), first), config)
    assert (None if found.rivals else found.head) == wanted


def test_a_contradiction_is_told() -> None:
    found = choice(REAL.header(SEQUENCE), {"id2label": TAGS, "finetuning_task": "mnli"})
    assert found.why == "finetuning_task is 'mnli' but id2label has tags as B-PER"


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ({}, None),
        ({"num_labels": 1}, None),
        ({"num_labels": 4}, CHOICE),  # a classifier of four labels would have four rows
        ({"finetuning_task": "swag"}, CHOICE),
        ({"problem_type": "regression", "num_labels": 1}, SEQUENCE),
        ({"architectures": [SEQUENCE]}, SEQUENCE),
        ({"architectures": [CHOICE]}, CHOICE),
        ({"architectures": ["Nobody", CHOICE]}, CHOICE),
        ({"architectures": [TOKEN]}, TOKEN),
    ],
    ids=str,
)
@BOTH
def test_one_row_is_a_choice_or_a_class_as_the_config_says(
    dialect: str, config: dict[str, Any], head: str | None
) -> None:
    found = choice(REAL.header(CHOICE, dialect), config)
    assert found.equals == (SEQUENCE, CHOICE, TOKEN)
    assert (None if found.rivals else found.head) == head


@BOTH
def test_several_labels_are_never_a_choice(dialect: str) -> None:
    header = REAL.header(SEQUENCE, dialect)
    assert choice(header, {"architectures": [CHOICE]}).rivals == (SEQUENCE, TOKEN)


@BOTH
def test_without_a_pooler_a_classifier_is_one_of_tokens(dialect: str) -> None:
    """No other class can be filled from it."""
    assert chosen(REAL.header(TOKEN, dialect)) == (TOKEN, (TOKEN,))


@pytest.mark.parametrize(
    ("config", "head"),
    [({}, None), ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering"),
     ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"), ({"id2label": TAGS}, TOKEN)],
    ids=str,
)  # fmt: skip
def test_a_file_of_several_heads_is_the_one_that_is_named(config: dict[str, Any], head: str | None) -> None:
    heads = [stored("qa_outputs.weight", 2, 35), stored("qa_outputs.bias", 2),
             stored("classifier.weight", 4, 35), stored("classifier.bias", 4)]  # fmt: skip
    found = choice([*REAL.header("BertForMaskedLM"), *heads], config)
    assert found.equals == ("BertForMaskedLM", "BertLMHeadModel", TOKEN, "BertForQuestionAnswering")
    assert (None if found.rivals else found.head) == head


@pytest.mark.parametrize(
    ("head", "named", "best"),
    [
        (SEQUENCE, TOKEN, TOKEN),
        (SEQUENCE, SEQUENCE, SEQUENCE),
        ("BertForPreTraining", "BertForMaskedLM", "BertForPreTraining"),
        ("BertModel", "BertForMaskedLM", "BertModel"),
    ],
)
def test_old_files_hold_a_pooler_that_their_class_does_not_own(head: str, named: str, best: str) -> None:
    assert chosen(REAL.header(head), named)[0] == best


@pytest.mark.parametrize("lost", ["nothing", "qa_outputs.weight", "qa_outputs.bias"])
def test_pooler_beside_question_answering_is_no_base_model(lost: str) -> None:
    body = prefixed(REAL.header("BertModel"), "bert.")
    head = [stored("qa_outputs.weight", 2, 35), stored("qa_outputs.bias", 2)]
    assert chosen(without(body + head, lost))[0] == "BertForQuestionAnswering"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("prefix", ["", "TF"])
def test_a_forced_head_is_taken_as_it_is(head: str, prefix: str) -> None:
    assert chosen(REAL.header("BertModel"), forced=prefix + head) == (head, (head,))


def test_an_unknown_forced_head_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RequestError, match="BertForPoetry") as refusal:
        chosen(REAL.header("BertModel"), forced="BertForPoetry")
    assert all(head in refusal.value.hint for head in HEADS)


def test_base_model_may_lack_its_pooler() -> None:
    assert chosen(without(REAL.header("BertModel"), "pooler"))[0] == "BertModel"


@pytest.mark.parametrize(
    ("head", "lost"),
    [
        ("BertForMaskedLM", "transform.dense.bias"),
        ("BertForSequenceClassification", "classifier.bias"),
        ("BertForQuestionAnswering", "qa_outputs.weight"),
        ("BertForNextSentencePrediction", "seq_relationship.bias"),
    ],
)
def test_a_torn_head_stays_the_head_so_that_the_plan_names_what_is_missing(head: str, lost: str) -> None:
    assert chosen(without(REAL.header(head), lost))[0] == head


def test_a_body_with_a_hole_is_no_head_s_but_is_ranked_all_the_same() -> None:
    identity = REAL.identify(without(REAL.header("BertForMaskedLM"), "layer.1.output.dense.bias"))
    fits = rank_heads(REAL.table, identity, ())
    assert {fit.head for fit in fits} == set(HEADS)
    assert all("layer.1.ffn_out.bias" in fit.missing for fit in fits)


def test_a_tied_original_may_be_stored_as_its_copy_alone() -> None:
    header = without(REAL.header("BertForMaskedLM", copies=True), "word_embeddings.weight", "cls.predictions.bias")
    fit = rank_heads(REAL.table, REAL.identify(header), ())[0]
    assert (fit.head, fit.missing) == ("BertForMaskedLM", ())


@pytest.mark.parametrize("head", HEADS)
@BOTH
def test_sizes_are_read_from_the_shapes(head: str, dialect: str) -> None:
    seen = sizes_seen(REAL.table, REAL.identify(REAL.header(head, dialect)), head)
    wanted = {key: SIZES[key] for key in seen}
    assert {key: size.value for key, size in seen.items()} == wanted
    always = set(SIZES) - {"num_attention_heads", "num_labels"}
    labels = {"num_labels"} if {"classifier", "qa"} & set(REAL.table.heads[head]) else set()
    assert set(seen) == always | labels


def test_sizes_come_with_their_witnesses() -> None:
    seen = sizes_seen(REAL.table, REAL.identify(REAL.header("BertModel")), "BertModel")
    assert seen["num_hidden_layers"].example == "layer.{0...1}"
    assert seen["vocab_size"].example == "embeddings.word_embeddings.weight [101, 35]"
    assert (seen["vocab_size"].tensors, seen["intermediate_size"].tensors) == (1, 6)


def test_the_majority_says_a_size() -> None:
    header = REAL.header("BertModel")
    first = next(number for number, tensor in enumerate(header) if tensor.name.endswith("LayerNorm.weight"))
    header[first] = stored(header[first].name, 36)
    assert sizes_seen(REAL.table, REAL.identify(header), "BertModel")["hidden_size"].value == 35


def test_a_wrong_rank_votes_for_nothing() -> None:
    header = [*without(REAL.header("BertModel"), "word_emb"), stored("embeddings.word_embeddings.weight", 101, 35, 1)]
    assert "vocab_size" not in sizes_seen(REAL.table, REAL.identify(header), "BertModel")


@pytest.mark.parametrize(
    ("key", "stated"),
    [
        ("hidden_size", 40),
        ("num_hidden_layers", 12),
        ("intermediate_size", 54),
        ("max_position_embeddings", 36),
        ("type_vocab_size", 2),
        ("num_labels", 3),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_both_values(key: str, stated: int) -> None:
    head = "BertForTokenClassification"
    config = BertConfig.from_dict(SIZES | {key: stated}, "some/config.json")
    with pytest.raises(ShapeMismatch) as refusal:
        fit_config(config, sizes_seen(REAL.table, REAL.identify(REAL.header(head)), head))
    assert refusal.value.file == "some/config.json"
    row = next(line for line in refusal.value.message.splitlines() if key in line)
    assert row.split()[:5] == [key, "config", str(stated), "file", str(SIZES[key])]


def test_every_size_that_does_not_fit_is_listed() -> None:
    config = BertConfig.from_dict({})
    with pytest.raises(ShapeMismatch) as refusal:
        fit_config(config, sizes_seen(REAL.table, REAL.identify(REAL.header("BertModel")), "BertModel"))
    wrong = {line.split()[0] for line in refusal.value.message.splitlines()[1:]}
    assert wrong == set(SIZES) - {"vocab_size", "num_attention_heads", "num_labels"}


def test_padded_vocabularies_win_over_the_config() -> None:
    header = REAL.header("BertForPreTraining", vocab_size=104)
    seen = sizes_seen(REAL.table, REAL.identify(header), "BertForPreTraining")
    config, notes = fit_config(BertConfig.from_dict(SIZES), seen)
    assert (config.values["vocab_size"], config.raw["vocab_size"]) == (104, 104)
    assert notes == ["vocab_size is 104 as the tensors have it; the config said 101"]


@pytest.mark.parametrize("key", ["num_labels", "id2label"])
def test_labels_win_only_over_a_config_that_does_not_count_them(key: str) -> None:
    head = "BertForSequenceClassification"
    raw = {name: size for name, size in SIZES.items() if name != "num_labels"}
    seen = sizes_seen(REAL.table, REAL.identify(REAL.header(head)), head)
    config, notes = fit_config(BertConfig.from_dict(raw), seen)
    assert (config.values["num_labels"], len(notes)) == (11, 1)
    counted = raw | {key: 3 if key == "num_labels" else {"0": "a", "1": "b", "2": "c"}}
    with pytest.raises(ShapeMismatch, match="num_labels"):
        fit_config(BertConfig.from_dict(counted), seen)


def test_a_config_that_fits_is_the_same_object() -> None:
    config = BertConfig.from_dict(SIZES)
    seen = sizes_seen(REAL.table, REAL.identify(REAL.header("BertModel")), "BertModel")
    assert fit_config(config, seen) == (config, [])
    assert fit_config(config, seen)[0] is config


def test_relative_positions_do_not_disturb_the_sizes() -> None:
    changes = {**CROSS, "position_embedding_type": "relative_key"}
    header = REAL.header("BertLMHeadModel", **changes)
    assert any("distance" in tensor.name for tensor in header)
    seen = sizes_seen(REAL.table, REAL.identify(header), "BertLMHeadModel")
    values = filled(**changes)
    assert all(size.value == values[key] for key, size in seen.items())


def test_the_header_may_be_of_any_prefix() -> None:
    aged = renamed(prefixed(REAL.header("BertForMaskedLM"), "module."), **{"LayerNorm.weight": "LayerNorm.gamma"})
    assert chosen(aged)[0] == "BertForMaskedLM"
