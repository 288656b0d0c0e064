"""Tensors that no table knows: those inside the model, and those of something beside it."""

from __future__ import annotations

import pytest
from table_headers import REAL, stored, without

from bertconv.errors import UnknownTensors
from bertconv.mapping.ignore import IgnoreLists

MLM, NSP, BASE = "BertForMaskedLM", "BertForNextSentencePrediction", "BertModel"

CASES = (
    # class, prefix, name in PyTorch, whether it is a part of the model
    (MLM, "", "bert.embeddings.task_type_embeddings.weight", True),
    (MLM, "module.", "bert.encoder.layer.0.attention.gate", True),
    (MLM, "", "bert.encoder.layer.7.output.dense.weight.scale_factor", True),
    (MLM, "", "cls.predictions.transform.gate.weight", True),
    (MLM, "", "cls.sentence_order.weight", False),
    (MLM, "", "classifier.extra.weight", False),
    (MLM, "", "score.weight", False),
    (MLM, "", "embeddings.task_type_embeddings.weight", True),  # though its body is under `bert.`
    (MLM, "module.", "encoder.layer.0.x.weight", True),
    (MLM, "", "task_type_embeddings.weight", False),
    (MLM, "", "bert.encoder.layer.0.pooler.dense.weight", True),
    (MLM, "", "cls.predictions.transform.dense_act.gate.weight", True),
    (NSP, "", "cls.seq_relationship.scale.weight", True),
    (BASE, "", "embeddings.task_type_embeddings.weight", True),
    (BASE, "module.", "encoder.norm.weight", True),
    (BASE, "", "pooler.gate.weight", True),
    (BASE, "", "task_type_embeddings.weight", True),
    (BASE, "module.", "task_type_embeddings.weight", True),
    (BASE, "", "score.weight", False),
    (BASE, "", "encoder_of_images.weight", False),
    (BASE, "", "classifier.extra.weight", False),
)


@pytest.mark.parametrize(("head", "prefix", "name", "inside"), CASES)
@pytest.mark.parametrize("option", ["allow_unknown", "ignore_unexpected"])
def test_a_part_of_the_model(head: str, prefix: str, name: str, inside: bool, option: str) -> None:
    extra = stored(prefix + name, 3, 35)
    header = [stored(prefix + tensor.name, *tensor.shape) for tensor in REAL.header(head)]
    plan = REAL.plan([*header, extra], {"architectures": [head]}, **{option: (name,)})
    assert {one.tensor.name: one.inside for one in plan.unloaded} == {extra.name: inside}


@pytest.mark.parametrize(
    ("name", "inside"),
    [("bert/embeddings/task_type_embeddings/embeddings:0", True), ("mlm___cls/predictions/gate:0", True),
     ("score/kernel:0", False)],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["", "tf_bert_for_masked_lm/"])
@pytest.mark.parametrize("other", ["", "tf_bert_for_masked_lm_1/"])
def test_a_part_of_the_model_in_tensorflow(scope: str, other: str, name: str, inside: bool) -> None:
    header = [stored(scope + tensor.name, *tensor.shape) for tensor in REAL.header(MLM, "tf")]
    plan = REAL.plan([*header, stored((other or scope) + name, 3)], allow_unknown=("",))
    assert [one.inside for one in plan.unloaded] == [inside]


@pytest.mark.parametrize("name", ["bert.embeddings.position_ids", "bert.pooler.dense.weight", "bert.adam_m"])
def test_what_the_table_knows_is_no_part_that_was_left_out(name: str) -> None:
    plan = REAL.plan([*REAL.header(MLM), stored(name, 35, 35)])
    assert [one.inside for one in plan.unloaded] == [False]


def test_tensors_outside_of_a_prefix_are_no_part() -> None:
    header = [stored("student." + tensor.name, *tensor.shape) for tensor in without(REAL.header(MLM), "nothing")]
    plan = REAL.plan([*header, stored("teacher.bert.embeddings.w", 1)], strip_prefix="student.")
    assert [(one.state, one.inside) for one in plan.unloaded] == [("outside", False)]


INSIDE = (
    # class, name in PyTorch, whose last parts are those of a head that the class is not
    (MLM, "bert.encoder.highway.0.pooler.dense.weight"),
    (MLM, "bert.encoder.highway.0.classifier.weight"),
    (MLM, "bert.encoder.layer.0.pooler.dense.weight"),
    (MLM, "bert.classifier.weight"),
    (MLM, "encoder.layer.1.classifier.bias"),
    (MLM, "cls.predictions.qa_outputs.weight"),
    ("BertForSequenceClassification", "bert.encoder.layer.0.qa_outputs.weight"),
    ("BertForSequenceClassification", "bert.embeddings.cls.predictions.decoder.weight"),
    (BASE, "encoder.layer.1.classifier.weight"),
    (BASE, "embeddings.cls.predictions.decoder.bias"),
)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("head", "name"), INSIDE)
def test_a_head_s_name_inside_the_body(head: str, name: str, prefix: str) -> None:
    """DeeBERT has a classifier in each layer: the ignore lists, which are searched, hit it."""
    extra = stored(prefix + name, 3, 35)
    header = [*(stored(prefix + one.name, *one.shape) for one in REAL.header(head)), extra]
    with pytest.raises(UnknownTensors, match=name.rpartition(".")[0]):
        REAL.plan(header, {"architectures": [head]})
    plan = REAL.plan(header, {"architectures": [head]}, allow_unknown=("",))
    assert [(one.tensor.name, one.state, one.inside) for one in plan.unloaded] == [(extra.name, "unknown", True)]


@pytest.mark.parametrize("scope", ["", "tf_bert_for_masked_lm/"])
@pytest.mark.parametrize("name", ["bert/encoder/layer_._0/pooler/dense/kernel:0", "bert/nsp___cls/extra:0"])
def test_a_head_s_name_inside_the_body_in_tensorflow(scope: str, name: str) -> None:
    header = [stored(scope + tensor.name, *tensor.shape) for tensor in REAL.header(MLM, "tf")]
    with pytest.raises(UnknownTensors):
        REAL.plan([*header, stored(scope + name, 3)])


@pytest.mark.parametrize("option", ["allow_unknown", "ignore_unexpected"])
def test_a_regex_of_the_caller_s_wins_over_the_class_s(option: str) -> None:
    header = [*REAL.header(MLM), stored("bert.encoder.highway.0.classifier.weight", 3, 35)]
    plan = REAL.plan(header, {"architectures": [MLM]}, **{option: ("highway",)})
    assert [one.inside for one in plan.unloaded] == [True]


def test_a_list_of_a_subclass() -> None:
    header = [*REAL.header(MLM), stored("bert.encoder.highway.0.classifier.weight", 3, 35)]
    plan = REAL.plan(header, {"architectures": [MLM]}, ignore=IgnoreLists(("highway",), ()))
    assert [(one.state, one.inside) for one in plan.unloaded] == [("unused", True)]


@pytest.mark.parametrize(
    ("head", "name"),
    [(MLM, "bert.pooler.dense.gate"), (MLM, "pooler.dense.gate"), (MLM, "cls.seq_relationship.gate"),
     (MLM, "classifier.gate"), (BASE, "cls.predictions.decoder.gate"), (BASE, "qa_outputs.gate")],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_head_s_name_where_heads_stand(head: str, name: str, prefix: str) -> None:
    header = [stored(prefix + one.name, *one.shape) for one in REAL.header(head)]
    plan = REAL.plan([*header, stored(prefix + name, 3)], {"architectures": [head]})
    assert [(one.state, one.inside) for one in plan.unloaded] == [("unused", False)]
