"""Indices of groups that repeat: ids taken apart, places filled, patterns of places, and groups inside groups."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_headers import stored
from table_mutants import read, to_toml

from bertconv.errors import BadTable
from bertconv.mapping.checks import check_table, probe_config
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.heads import sizes_seen
from bertconv.mapping.identify import identify
from bertconv.mapping.indices import TensorId, fill, path_pattern, variables
from bertconv.mapping.table import Table, load_table

DIALECTS = load_dialects()
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@settings(deadline=None)
@given(NAMES, st.lists(st.integers(0, 999), max_size=3), NAMES, st.sampled_from(["", "weight", "bias"]))
def test_an_id_is_taken_apart(group: str, numbers: list[int], module: str, role: str) -> None:
    at = ".".join([group, *map(str, numbers)])
    found = TensorId.parse(".".join(filter(None, [at, module, role])))
    assert found == (group, tuple(numbers), module, role)
    assert found.at == at


@pytest.mark.parametrize(
    ("place", "numbers", "filled"),
    [
        ("encoder.{layer}", (3,), "encoder.3"),
        ("encoder/layer_._{layer}/x", (11,), "encoder/layer_._11/x"),
        ("weights-{layer+4}", (0,), "weights-4"),
        ("dense_{6*layer}", (2,), "dense_12"),
        ("dense_{6*layer+5}", (2,), "dense_17"),
        ("dense{layer:keras}", (0,), "dense"),
        ("dense{layer:keras}", (2,), "dense_2"),
        ("dense{4*layer+1:keras}", (0,), "dense_1"),
        ("groups.{group}.layers.{layer}", (1, 0), "groups.1.layers.0"),
        ("layers.{layer}.groups.{group}", (1, 0), "layers.0.groups.1"),
    ],
)
def test_a_place_is_filled_and_found_by_its_pattern(place: str, numbers: tuple[int, ...], filled: str) -> None:
    repeat = tuple((variable, "") for variable in ("group", "layer")[-len(numbers) :])
    assert fill(place, repeat, numbers) == filled
    assert sorted(variables(place)) == sorted(variable for variable, _ in repeat)
    assert re.fullmatch(path_pattern(place), filled)
    assert not re.fullmatch(path_pattern(place), filled + "x")


@pytest.mark.parametrize(
    "place",
    ["a.{}", "a.{layer", "a.layer}", "a.{layer-1}", "a.{2layer}", "a.{0*layer}", "a.{layer:other}", "{{layer}}"],
)
def test_a_place_with_another_spelling_is_refused(place: str, tmp_path: Path) -> None:
    raw = read("bert.toml")
    raw["group"]["layer"]["at"] = place
    (tmp_path / "t.toml").write_text(to_toml(raw))
    with pytest.raises(BadTable, match="does not name exactly the variables"):
        load_table(tmp_path / "t.toml")


@pytest.fixture
def nested(tmp_path: Path) -> Table:
    """BERT with groups of layers, as ALBERT has them, which a condition may switch off."""
    raw = read("bert.toml")
    raw["config"] |= {"num_hidden_groups": 1, "flat": False}
    raw["sizes"]["groups"] = "num_hidden_groups"
    raw["group"]["layer"]["at"] = "bert.encoder.groups.{group}.layers.{layer}"
    raw["group"]["layer"]["repeat"] = {"group": "groups", "layer": "layers"}
    raw["group"]["layer"]["when"] = "not flat"
    raw["names"] = {name: raw["names"][name] for name in DIALECTS.everywhere}
    raw["names"]["tf"]["layer"] = "bert/encoder/groups_._{group}/layers_._{layer}"
    del raw["in"], raw["unused"]
    (tmp_path / "nested.toml").write_text(to_toml(raw))
    return load_table(tmp_path / "nested.toml")


def test_a_group_repeats_over_two_variables(nested: Table) -> None:
    check_table(nested, DIALECTS)
    config = probe_config(nested, 2)
    assert (config["num_hidden_groups"], config["num_hidden_layers"]) == (2, 3)
    specs = expand(nested, DIALECTS.by_name["tf"], config)
    places = list(dict.fromkeys(TensorId.parse(place).at for place in specs if place.startswith("layer.")))
    assert places == [f"layer.{group}.{layer}" for group in range(2) for layer in range(3)]
    name = "bert/encoder/groups_._1/layers_._2/attention/self/query/kernel:0"
    assert specs["layer.1.2.query.weight"].name == name


def test_a_file_tells_how_often_each_variable_repeats(nested: Table) -> None:
    config = probe_config(nested, 2)
    specs = expand(nested, DIALECTS.by_name["pt"], config, nested.heads["BertModel"])
    tensors = [stored(spec.name, *spec.shape) for spec in specs.values()]
    identity = identify(tensors, nested, DIALECTS)
    assert not identity.unrecognised
    seen = sizes_seen(nested, identity, "BertModel")
    assert (seen["num_hidden_groups"].value, seen["num_hidden_layers"].value) == (2, 3)
    assert seen["num_hidden_layers"].example == "layer.0.{0...2}"


def test_the_condition_of_a_group_reaches_its_tensors(nested: Table) -> None:
    specs = expand(nested, DIALECTS.by_name["pt"], None)
    assert [one.text for one in specs["layer.0.0.query.weight"].when] == ["not flat"]
    assert [one.text for one in specs["layer.0.0.cross_key.bias"].when] == ["not flat", "add_cross_attention"]
    assert not specs["pooler.dense.weight"].when
