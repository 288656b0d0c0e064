"""KerasHub's dialect: its names and shapes as KerasHub itself has them, and what it cannot hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertconv.config import Config
from bertconv.config.auto import config_class
from bertconv.containers.stored import StoredTensor
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.identify import identify
from bertconv.mapping.table import Table, table_for

SEEN = json.loads((Path(__file__).parents[1] / "data" / "names_keras_hub.json").read_text())
"""Model -> path in its .weights.h5 -> shape, of tiny models that KerasHub 0.32 saved; a task's file holds all of it."""

MODEL_TYPES = {"distil_bert": "distilbert", "xlm_roberta": "xlm-roberta"}
ENDS = {"mlm": "ForMaskedLM", "cls": "ForSequenceClassification"}
SIZES = {
    "vocab_size": 101, "hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 53, "type_vocab_size": 3,
    "max_position_embeddings": 37, "num_hidden_layers": 2, "embedding_size": 35, "num_labels": 11,
    "num_hidden_groups": 1, "inner_group_num": 6, "hidden_act": "gelu_new",
}  # fmt: skip
HUB = load_dialects().by_name["keras_hub"]


def model_of(name: str) -> tuple[Table, str, Config]:
    """Table, class and config of one of the models that were seen."""
    family, _, end = name.rpartition("_") if name.endswith(tuple(ENDS)) else (name, "", "")
    table = table_for(MODEL_TYPES.get(family, family))
    sizes = SIZES | {"inner_group_num": sum("/query_dense/vars/0" in path for path in SEEN[name])}
    if table.positions == "from_ids":
        sizes |= {"max_position_embeddings": 39, "type_vocab_size": 1}
    keys = {
        key: value for key, value in sizes.items() if table.family.schema.spelled(key) in table.family.schema.defaults
    }
    keys = table.family.schema.respelled(keys) | {"num_labels": SIZES["num_labels"]}
    config = config_class(table.family).from_dict(keys, family=table.family)
    return table, table.prefix + ENDS.get(end, "Model"), config


def apart(name: str) -> dict[str, tuple[int, ...]]:
    """What was seen of a model, body and head apart as in a preset."""
    found = {path: tuple(shape) for path, shape in SEEN[name].items()}
    if not any("_backbone/" in path for path in found):
        return found
    inside = {path: path.partition("_backbone/")[2] for path in found}
    return {inside[path] or f"task/{path}": shape for path, shape in found.items()}


def stored(paths: dict[str, tuple[int, ...]], file: Path) -> list[StoredTensor]:
    from bertconv.containers.stored import SourceFile

    file.write_bytes(b"")
    return [StoredTensor(path, "float32", tuple(shape), SourceFile(file), 0) for path, shape in paths.items()]


@pytest.mark.parametrize("name", SEEN)
def test_names_and_shapes_are_those_of_keras_hub(name: str) -> None:
    table, head, config = model_of(name)
    groups = dict.fromkeys((*table.heads[head], *table.in_dialect(HUB).fills))
    specs = expand(table, HUB, config.values, groups)
    labels = {"sequence", "classifier", "before"}  # the tasks that were saved have another width there
    expected = apart(name)
    found = {spec.name: spec.shape for place, spec in specs.items() if place not in table.tied or "bias" in place}
    assert found.keys() == expected.keys()
    assert {one: shape for one, shape in found.items() if specs_of(specs, one) not in labels} == {
        one: shape for one, shape in expected.items() if specs_of(specs, one) not in labels
    }


def specs_of(specs: dict[str, object], name: str) -> str:
    return next(place for place, spec in specs.items() if spec.name == name).partition(".")[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("nested", [False, True])
def test_every_name_is_known(name: str, nested: bool, tmp_path: Path) -> None:
    table, head, _ = model_of(name)
    paths = {path: tuple(shape) for path, shape in SEEN[name].items()} if nested else apart(name)
    identity = identify(stored(paths, tmp_path / "file"), table, load_dialects())
    assert identity.dialect is HUB
    assert not identity.unrecognised
    groups = {identity.specs[place].group for place in identity.by_id}
    assert set(table.heads[head]) - {"pooler"} <= groups | {"project"}
