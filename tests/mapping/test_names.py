"""The table says what the real classes say: names, shapes, order, ties, for every head in both dialects."""

from __future__ import annotations

import pytest
import torch
import transformers
from observed_names import (
    CROSS,
    MODELS,
    SIZES,
    family_cases,
    family_differences,
    filled,
    keras_groups,
    model_cases,
    model_differences,
    named,
    observed,
    relative_differences,
)

from bertconv.formats.output import Model
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand, specs_by_name
from bertconv.mapping.table import table_for

TABLE, DIALECTS = table_for("bert"), load_dialects()


@pytest.mark.parametrize("case", model_cases())
def test_table_equals_what_4_57_showed(case: str) -> None:
    assert not list(model_differences(TABLE, DIALECTS, case))


@pytest.mark.parametrize("head", family_cases())
def test_table_equals_the_same_classes_with_other_sizes(head: str) -> None:
    assert not list(family_differences(TABLE, DIALECTS, head))


def test_every_head_was_observed() -> None:
    assert {case.split("+")[0] for case in model_cases()} == set(family_cases()) == set(TABLE.heads)


@pytest.mark.parametrize("case", model_cases())
def test_model_is_named_as_keras_names_it(case: str) -> None:
    assert Model(TABLE, case.split("+", maxsplit=1)[0]).keras_name == observed(MODELS)["models"][case]["keras_name"]


@pytest.mark.parametrize("head", TABLE.heads)
@pytest.mark.parametrize("cross", [False, True], ids=["plain", "cross"])
def test_table_equals_the_state_dict_of_transformers_5(head: str, cross: bool) -> None:
    changes = CROSS if cross else {}
    labels = {"id2label": {number: str(number) for number in range(SIZES["num_labels"])}}
    config = transformers.BertConfig(**{key: value for key, value in SIZES.items() if key != "num_labels"}, **labels)
    config.update(changes)
    with torch.device("meta"):
        state = getattr(transformers, head)(config).state_dict()
    found = {spec.name: spec.shape for spec in named(TABLE, DIALECTS, "pt", head, filled(**changes)).values()}
    assert found == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_relative_positions_add_one_embedding_per_layer_and_none_to_cross_attention() -> None:
    assert not list(relative_differences(TABLE, DIALECTS))


def test_cross_attention_adds_the_same_ten_tensors_per_layer_in_both_dialects() -> None:
    for dialect in DIALECTS.everywhere:
        plain, cross = (named(TABLE, DIALECTS, dialect, "BertModel", filled(**changes)) for changes in ({}, CROSS))
        added = [place for place in cross if place not in plain]
        assert len(added) == 2 * 10
        assert all(".cross_" in place for place in added)


def test_ids_are_the_same_in_every_dialect_and_in_the_same_order() -> None:
    pt, tf = (list(expand(TABLE, dialect, filled(**CROSS))) for dialect in DIALECTS.everywhere.values())
    assert pt == tf


def test_keras_2_holds_the_embeddings_again_under_the_language_model_head() -> None:
    specs = named(TABLE, DIALECTS, "tf", "BertForMaskedLM", filled())
    groups = keras_groups(TABLE, {place: spec for place, spec in specs.items() if place not in TABLE.tied})
    assert [len(names) for names in groups.values()] == [37, 10]
    assert groups["mlm___cls"][5:] == groups["bert"][:5]


def test_names_without_a_config_are_those_of_every_config() -> None:
    config = filled(**CROSS, position_embedding_type="relative_key")
    for dialect in DIALECTS.everywhere.values():
        names = {name: spec for spec in expand(TABLE, dialect, config).values() for name in spec.names}
        known = specs_by_name(TABLE, dialect, names)
        assert set(known) == set(names)
        assert all(spec.shape == (1,) * len(names[name].shape) for name, (spec, *_) in known.items() if ".1" in name)
