"""Relative positions and cross-attention: tables have what 4.57.6's PyTorch classes have, for every family and class.

tests/data/names_parts.json was written by scripts/names_parts.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertconv.config.auto import AutoConfig
from bertconv.families import families
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for

SEEN = json.loads((Path(__file__).parents[1] / "data/names_parts.json").read_bytes())
PT = load_dialects().by_name["pt"]


def named(model_type: str, head: str, keys: dict[str, Any]) -> dict[str, list[int]]:
    """The table's names and shapes of a class, the base model's with its prefix in front."""
    schema = families()[model_type].schema
    sizes = {schema.spelled(key): value for key, value in SEEN["config"].items()}
    own = {key: value for key, value in sizes.items() if key in schema.defaults}
    config = AutoConfig.for_model(model_type, **own, **keys).values
    table = table_for(model_type)
    return {spec.name: list(spec.shape) for spec in expand(table, PT, config, table.heads[head]).values()}


def test_every_family_was_seen() -> None:
    assert set(SEEN["families"]) == set(families())


@pytest.mark.parametrize("part", SEEN["parts"])
@pytest.mark.parametrize("model_type", SEEN["families"])
def test_table_has_more_where_the_class_has(model_type: str, part: str) -> None:
    for head in families()[model_type].tasks:
        plain, found = named(model_type, head, {}), named(model_type, head, SEEN["parts"][part])
        assert plain.items() <= found.items()
        more = {name: shape for name, shape in found.items() if name not in plain}
        assert more == SEEN["families"][model_type][part], head
