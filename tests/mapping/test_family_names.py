"""Tables against what transformers' classes call their weights, as dictionaries of names and shapes.

`tests/data/names_*.json` was listed from transformers 5.24 (PyTorch) and 4.57.6 (TensorFlow), all sizes apart. A head's
names are those of the base model (`body`) less `without`, and `with` the head's own. BERT's are held to in
test_names.py.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bertconv.config.auto import AutoConfig
from bertconv.families import families
from bertconv.formats.output import Model
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.tasks import QUESTION_ANSWERING

DATA = Path(__file__).parents[1] / "data"
FAMILIES = [family for family in families().values() if family.model_type != "bert"]
EVERY = [(family.model_type, head) for family in FAMILIES for head in family.tasks]
PT, TF = (load_dialects().by_name[name] for name in ("pt", "tf"))

Shapes = dict[str, tuple[int, ...]]


@cache
def facts(stem: str) -> Any:
    return json.loads((DATA / f"names_{stem}.json").read_bytes())


def observed(model_type: str, head: str, dialect: str) -> Shapes:
    """What the class has, its base's prefix in front; nothing where transformers has no such class."""
    table = table_for(model_type)
    data = facts(table.path.stem)
    row = data["heads"][head.removeprefix(table.prefix)].get(dialect)
    if row is None:
        return {}
    body = {name: shape for name, shape in data["body"][dialect].items() if name not in row["without"]}
    return {name: tuple(map(int, shape.split("x"))) for name, shape in {**body, **row["with"]}.items()}


def expected(model_type: str, head: str, dialect: str) -> Shapes:
    table = table_for(model_type)
    config = facts(table.path.stem)["config"]
    if table.tasks[head] == QUESTION_ANSWERING:
        config = {**config, "num_labels": 2}  # the classes were made so: a start and an end
    values = AutoConfig.for_model(model_type, **config).values
    groups = dict.fromkeys((*table.heads[head], *table.unused.get(dialect, ())))
    specs = expand(table, load_dialects().by_name[dialect], values, groups)
    copies = table.stored_copies.get(dialect, {})
    gone = set() if dialect == "pt" else table.tied.keys() - copies.keys()
    return {spec.name: spec.shape for place, spec in specs.items() if place not in gone}


@pytest.mark.parametrize(("model_type", "head"), EVERY)
def test_pytorch_s_names_and_shapes(model_type: str, head: str) -> None:
    assert expected(model_type, head, "pt") == observed(model_type, head, "pt")


@pytest.mark.parametrize(("model_type", "head"), EVERY)
def test_tensorflow_s_names_and_shapes(model_type: str, head: str) -> None:
    found = observed(model_type, head, "tf")
    if found:
        assert expected(model_type, head, "tf") == found
    else:
        assert head == "ElectraForCausalLM"


@pytest.mark.parametrize(("model_type", "head"), EVERY)
def test_tied_copies_are_those_that_transformers_does_not_save(model_type: str, head: str) -> None:
    table = table_for(model_type)
    row = facts(table.path.stem)["heads"][head.removeprefix(table.prefix)]
    specs = expand(table, PT, None, table.heads[head])
    assert {specs[place].name for place in table.tied if place in specs} == set(row.get("not_saved", ()))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_scopes_are_keras_s(family: Any) -> None:
    """Keras calls the first model of a class so; those that share a table differ by their class's name."""
    heads = facts(family.path.stem)["heads"]
    if facts(family.path.stem)["heads"] and family.model_type.replace("-", "_") == family.path.stem:
        for rest, row in heads.items():
            if "scope" in row:
                assert Model(table_for(family.model_type), family.prefix + rest).keras_name == row["scope"]
    assert Model(table_for("xlm-roberta"), "XLMRobertaForMaskedLM").keras_name == "tfxlm_roberta_for_masked_lm"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_no_class_is_missing(family: Any) -> None:
    assert {head.removeprefix(family.prefix) for head in family.tasks} == set(facts(family.path.stem)["heads"])
