"""What names of Model Garden's checkpoints tell: family, class, which pooler counts, what is refused.

The names are those that tf-models-official 2.20 gave the variables of tiny models when it saved them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from table_headers import in_one_state, stored

from bertconv.config.auto import config_class
from bertconv.errors import BertconvError, UnsupportedCheckpoint
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.heads import choose_head
from bertconv.mapping.identify import StoredTensor, identify
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.table import Table, table_for

NAMES = json.loads((Path(__file__).parents[1] / "data" / "names_garden.json").read_text())
DIALECTS = load_dialects()
GARDEN = DIALECTS.by_name["garden"]
SIZES = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3,
}  # fmt: skip
CLASSES = {
    "v2_encoder": "Model", "v2_mlm_items": "ForMaskedLM", "v2_pretrainer_items": "ForMaskedLM",
    "v2_pretrainer_model": "ForPreTraining", "v2_classifier": "ForSequenceClassification",
    "v2_classifier_nopool": "ForSequenceClassification", "f_encoder": "Model", "f_pretrainer1": "ForPreTraining",
    "f_pretrainer_model": "ForPreTraining", "f_classifier": "ForSequenceClassification", "albert_encoder": "Model",
    "albert_pretrainer1": "ForPreTraining", "albert_pretrainer_model": "ForPreTraining",
    "albert_classifier_nopool": "ForSequenceClassification",
}  # fmt: skip
UNDECIDED = {"v2_span": "ForQuestionAnswering", "v2_token": "ForTokenClassification", "f_span": "ForQuestionAnswering",
             "albert_token": "ForTokenClassification"}  # fmt: skip
"""Those whose heads have the same name in Model Garden."""
OWN_POOLER = ("v2_pretrainer_model", "v2_classifier_nopool", "f_pretrainer_model", "albert_classifier_nopool")


def header(case: str) -> list[StoredTensor]:
    said = NAMES["cases"][case]
    body = {said["scope"] + name: shape for name, shape in NAMES["encoders"][said["encoder"]].items()}
    return [stored(name, *shape) for name, shape in (body | said["head"]).items()]


def table_of(case: str) -> Table:
    return table_for("albert" if case.startswith("albert") else "bert")


def plan_of(case: str, tensors: list[StoredTensor], target: str = "pt", **options: Any) -> Plan:
    table = table_of(case)
    more = {"embedding_size": 35} if case.startswith("albert") else {}
    config = config_class(table.family).from_dict(SIZES | more, "config.json", table.family)
    identity = identify(tensors, table, DIALECTS)
    return make_plan(identity, table, DIALECTS, config, DIALECTS.by_name[target], PlanOptions(**options))


@pytest.mark.parametrize("case", CLASSES)
def test_names_tell_the_class_and_fill_it(case: str) -> None:
    tensors = header(case)
    plan = plan_of(case, tensors)
    assert plan.identity.dialect.name == "garden"
    assert plan.head == table_of(case).prefix + CLASSES[case]
    assert in_one_state(plan, tensors)
    assert not any(one.state == "unknown" for one in plan.unloaded)


@pytest.mark.parametrize("case", UNDECIDED)
def test_heads_of_one_name_are_the_caller_s_choice(case: str) -> None:
    tensors, table = header(case), table_of(case)
    assert set(choose_head(table, identify(tensors, table, DIALECTS), None).rivals) >= {table.prefix + UNDECIDED[case]}
    plan = plan_of(case, tensors, head=table.prefix + UNDECIDED[case])
    assert in_one_state(plan, tensors)


@pytest.mark.parametrize("case", OWN_POOLER)
def test_the_pooler_of_a_classification_head_counts(case: str) -> None:
    plan = plan_of(case, header(case))
    pooler = next(move for move in plan.moves if move.target.id == "pooler.dense.weight")
    assert pooler.source is not None
    assert pooler.source.name.endswith("/pooler_dense/kernel")
    left = {one.tensor.name: one for one in plan.unloaded}
    spare = next(one for name, one in left.items() if name.endswith("pooler_transform/kernel"))
    assert spare.state == "unused"
    assert "pooler_dense/kernel counts instead" in spare.why


def test_a_prefix_that_is_stripped_leaves_the_same_choice() -> None:
    tensors = [stored(f"outer/{one.name}", *one.shape) for one in header("f_pretrainer_model")]
    table = table_for("bert")
    identity = identify(tensors, table, DIALECTS, "outer/")
    assert not identity.unrecognised
    assert len(identity.elsewhere) == 2


@pytest.mark.parametrize(("case", "what"), [("v2_embwidth", "embedding_width"), ("mobile", "MobileBERT")])
def test_models_that_no_class_has_are_refused_by_name(case: str, what: str) -> None:
    tensors = [stored(name, *shape) for name, shape in NAMES["refused"][case].items()]
    with pytest.raises(UnsupportedCheckpoint, match=what):
        plan_of(case, tensors)


@pytest.mark.parametrize("case", ["v2_mlm_items", "v2_token"])
def test_the_encoder_s_pooler_goes_along_where_the_class_has_none(case: str) -> None:
    """Written again in Model Garden's names: the values that were there, not fresh ones."""
    head = f"Bert{UNDECIDED.get(case) or CLASSES[case]}"
    plan = plan_of(case, header(case), "garden", head=head)
    moves = {move.target.name: move for move in plan.moves}
    assert moves["encoder/_pooler_layer/kernel"].state == "loaded"
    without = [one for one in header(case) if "pooler" not in one.name]
    fresh = {move.target.name: move for move in plan_of(case, without, "garden", head=head).moves}
    assert fresh["encoder/_pooler_layer/kernel"].state == "initialised"
    back = plan_of(case, without, "pt", head=head)
    assert not any("pooler" in move.target.name for move in back.moves)


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("scope", ["", "bert_encoder_v2_3/", "my_encoder/"])
def test_what_is_written_is_read_under_every_spelling(family: str, scope: str) -> None:
    """Each of a tensor's names, in a file of its own, leads to the same tensor."""
    table = table_for(family)
    config = SIZES | {"embedding_size": 35, "num_hidden_groups": 1, "inner_group_num": 1}
    more = {"position_embedding_type": "absolute", "add_cross_attention": False, "num_labels": 7}
    groups = table.heads[table.base_head]
    specs = expand(table, GARDEN, config | more, groups).values()
    assert specs
    for written in (True, False):
        if written and scope:
            continue  # paths of objects begin with those of the root
        chosen = {spec.id: scope + (spec.names[0] if written else _own_name(spec.names)) for spec in specs}
        found = identify([stored(name, 1) for name in chosen.values()], table, DIALECTS)
        assert found.dialect.name == "garden"
        assert {place: one[0].name for place, one in found.by_id.items()} == chosen


def _own_name(names: tuple[str, ...]) -> str:
    """The first one that is a variable's name, not a path of objects."""
    of_objects = ("_", "encoder", "layer_with")
    return next(name for name in names if not any(part.startswith(of_objects) for part in name.split("/")))


@pytest.mark.parametrize("changes", [{"num_hidden_groups": 2}, {"inner_group_num": 2}])
def test_albert_with_several_layers_has_no_place(changes: dict[str, int]) -> None:
    table = table_for("albert")
    config = config_class(table.family).from_dict(SIZES | {"embedding_size": 35} | changes, "config.json", table.family)
    pt = DIALECTS.by_name["pt"]
    specs = expand(table, pt, config.values, table.heads["AlbertModel"]).values()
    tensors = [stored(spec.name, *spec.shape) for spec in specs]
    identity = identify(tensors, table, DIALECTS)
    with pytest.raises(BertconvError, match="no place"):
        make_plan(identity, table, DIALECTS, config, GARDEN, PlanOptions())
