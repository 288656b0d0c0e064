"""`tables show`, `dialects` and `explain` say everything of every dialect that a table is spoken in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Outcome

from bertconv.families import families
from bertconv.mapping.describe import spoken_dialects
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import table_for
from bertconv.table_files import tables_folder

Cli = Callable[..., Outcome]
WITHIN = """
[in.garden]
heads = ["Model", "ForMaskedLM"]
lacks = ["layer.query.bias", "pooler"]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """MPNet, of which Model Garden has no encoder, as if it had one with two classes and without some places."""
    text = (tables_folder() / "mpnet.toml").read_text()
    assert "garden" not in text
    table = tmp_path / "own.toml"
    table.write_text(text + WITHIN)
    return table


def shown(cli: Cli, *arguments: object) -> list[dict[str, Any]]:
    done = cli("tables", "show", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_every_dialect_that_is_spoken_is_shown(cli: Cli, own: Path) -> None:
    rows = {row["id"]: row for row in shown(cli, "--map", own)}
    query = rows["layer.{0...11}.query.weight"]
    assert query["pt_axes"] == "heads*head hidden"
    assert query["garden"] == "mpnet/encoder/layer/{0...11}/attention/attn/q/kernel"
    assert query["garden_axes"] == "hidden heads head"
    for lacking in ("layer.{0...11}.query.bias", "pooler.dense.weight", "classifier.dense.bias"):
        assert rows[lacking]["garden"] is rows[lacking]["garden_axes"] is None
        assert rows[lacking]["tf"]


def test_names_can_be_read_below_each_other(cli: Cli, own: Path) -> None:
    lines = cli("tables", "show", "--map", own).out.splitlines()
    first = lines.index("pooler.dense.weight")
    assert lines[first + 1].startswith("  PyTorch       mpnet.pooler.dense.weight [")
    assert "  Model Garden  no place for it" in lines[first : first + 5]
    assert max(map(len, lines)) < 160


@pytest.mark.parametrize("name", ["tf", "tf-safetensors"])
def test_a_dialect_is_chosen_by_its_name_or_a_formats(cli: Cli, name: str) -> None:
    rows = shown(cli, "bert", "--dialect", name)
    assert set(rows[0]) == {"id", "tf", "tf_axes", "owned_by"}
    lines = cli("tables", "show", "bert", "--dialect", name).out.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")] == ["Id", "TensorFlow", "Axes"]
    assert len(lines) == len(rows) + 2


def test_two_dialects_that_are_chosen(cli: Cli) -> None:
    rows = shown(cli, "bert", "--dialect", "tf", "--dialect", "pt", "--dialect", "tf")
    assert list(rows[0]) == ["id", "tf", "tf_axes", "pt", "pt_axes", "owned_by"]


@pytest.mark.parametrize("name", ["keras9", "garden"])
def test_a_dialect_that_is_not_spoken(cli: Cli, name: str) -> None:
    done = cli("tables", "show", "mpnet", "--dialect", name)
    assert done.code == 2
    assert "pt" in done.err


def test_what_a_dialect_can_hold(cli: Cli, own: Path) -> None:
    found = {one["dialect"]: one for one in json.loads(cli("tables", "dialects", "--map", own, "--json").out)}
    assert found["garden"]["heads"] == ["MPNetModel", "MPNetForMaskedLM"]
    assert found["garden"]["lacks"] == ["layer.query.bias", "pooler"]
    assert "MPNetForTokenClassification" in found["garden"]["missing"]
    assert found["tf"]["always"] == ["pooler"]
    text = cli("tables", "dialects", "--map", own).out
    assert "Model Garden (garden), " in text
    assert "  no place   layer.query.bias, pooler\n" in text


def test_which_families_are_spoken_where(cli: Cli) -> None:
    found = json.loads(cli("tables", "dialects", "--json").out)
    assert set(found) == set(families())
    assert all({"pt", "tf"} <= set(own) for own in found.values())
    lines = cli("tables", "dialects").out.splitlines()
    assert len(lines) == len(found) + 2


@pytest.mark.parametrize("family", families())
def test_classes_and_missing_ones_are_all(family: str) -> None:
    table = table_for(family)
    for one in spoken_dialects(table):
        assert {*one.heads, *one.missing} == {*table.heads}
        assert not {*one.heads} & {*one.missing}


def test_explain_says_where_there_is_no_place(cli: Cli, own: Path) -> None:
    story = json.loads(cli("tables", "explain", "mpnet.pooler.dense.weight", "--map", own, "--json").out)
    assert story["in garden"] == "nothing: there is no place for it"
    name = "mpnet/encoder/layer/3/attention/attn/o/kernel"
    story = json.loads(cli("tables", "explain", name, "--map", own, "--json").out)
    assert (story["in"], story["id"]) == ("garden", "layer.3.attention_out.weight")
    assert story["in pt"].endswith("transposed")


def test_explain_knows_no_name_of_a_dialect_that_is_not_spoken(cli: Cli) -> None:
    assert "garden" in load_dialects().by_name
    done = cli("tables", "explain", "mpnet/encoder/layer/3/attention/attn/o/vars/0", "--family", "mpnet")
    assert done.code == 2
