"""Tensors that no table knows: those inside the model, and those of something beside it."""

from __future__ import annotations

import pytest
from table_headers import REAL, stored, without

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
    (MLM, "", "embeddings.task_type_embeddings.weight", False),  # its body is under `bert.`
    (NSP, "", "cls.seq_relationship.scale.weight", True),
    (BASE, "", "embeddings.task_type_embeddings.weight", True),
    (BASE, "module.", "encoder.norm.weight", True),
    (BASE, "", "pooler.gate.weight", True),
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
    assert {fate.tensor.name: fate.inside for fate in plan.fates} == {extra.name: inside}


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
    assert [fate.inside for fate in plan.fates] == [inside]


@pytest.mark.parametrize("name", ["bert.embeddings.position_ids", "bert.pooler.dense.weight", "bert.adam_m"])
def test_what_the_table_knows_is_no_part_that_was_left_out(name: str) -> None:
    plan = REAL.plan([*REAL.header(MLM), stored(name, 35, 35)])
    assert [fate.inside for fate in plan.fates] == [False]


def test_tensors_outside_of_a_prefix_are_no_part() -> None:
    header = [stored("student." + tensor.name, *tensor.shape) for tensor in without(REAL.header(MLM), "nothing")]
    plan = REAL.plan([*header, stored("teacher.bert.embeddings.w", 1)], strip_prefix="student.")
    assert [(fate.state, fate.inside) for fate in plan.fates] == [("outside", False)]
