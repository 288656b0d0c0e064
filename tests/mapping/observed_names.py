"""What transformers' own classes call their weights, and whether a table says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.config import BertConfig
from bertconv.mapping.dialects import Dialects
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.layout import is_transposed
from bertconv.mapping.table import Table

DATA = Path(__file__).parents[1] / "data"
MODELS, FAMILY = "weight_names.json", "family_names.json"

SIZES = {
    "vocab_size": 101,
    "hidden_size": 35,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 53,
    "max_position_embeddings": 37,
    "type_vocab_size": 3,
    "num_labels": 11,
}
"""Sizes that are all different, and mostly prime: no dimension can pass for another."""

CROSS = {"is_decoder": True, "add_cross_attention": True}


@cache
def observed(file: str) -> dict[str, Any]:
    return json.loads((DATA / file).read_text())


def filled(**changes: Any) -> Mapping[str, Any]:
    """Config values with BERT's defaults."""
    return BertConfig.from_dict(SIZES | changes).values


def named(
    table: Table, dialects: Dialects, dialect: str, head: str, config: Mapping[str, Any]
) -> dict[str, TensorSpec]:
    """The tensors of a class by id, named as its own files name them."""
    speaks = dialects.by_name[dialect]
    specs = expand(table, speaks, config, table.heads[head])
    if speaks.drops_base and head == table.base_head:
        specs = {place: spec.without(table.base + speaks.separator) for place, spec in specs.items()}
    return specs


def keras_groups(table: Table, specs: Mapping[str, TensorSpec]) -> dict[str, list[str]]:
    """Top-level Keras layer -> names that Keras 2 lists under it, repeated groups included."""
    groups: dict[str, list[str]] = {}
    for spec in specs.values():
        groups.setdefault(spec.name.split("/")[0], []).append(spec.name)
    for group, repeated in table.keras2_repeats.items():
        layer = next((spec.name.split("/")[0] for spec in specs.values() if spec.group == group), None)
        if layer is not None:
            groups[layer] += [spec.name for spec in specs.values() if spec.group == repeated]
    return groups


def model_cases() -> list[str]:
    return list(observed(MODELS)["models"])


def family_cases() -> list[str]:
    return list(observed(FAMILY)["heads"])


def model_config(case: str) -> Mapping[str, Any]:
    """The config under which a case of MODELS was observed."""
    config = dict(observed(MODELS)["config"])
    if case == "BertForQuestionAnswering":
        config["num_labels"] = 2
    return filled(**config, is_decoder="is_decoder" in case, add_cross_attention="cross" in case)


def model_differences(table: Table, dialects: Dialects, case: str) -> Iterator[str]:
    """Where a table and a case of MODELS differ: names, shapes, order, transposes, ties and HDF5 groups."""
    seen, head, config = observed(MODELS)["models"][case], case.split("+", maxsplit=1)[0], model_config(case)
    pt, tf = (named(table, dialects, dialect, head, config) for dialect in ("pt", "tf"))
    own = [place for place in tf if place not in table.tied]
    rows = [
        [pt[place].name, list(pt[place].shape), tf[place].name, list(tf[place].shape), _transform(pt[place], tf[place])]
        for place in own
    ]
    if rows != seen["weights"]:
        yield f"{case}: weights"
    tied = [
        [pt[copy].name, list(pt[copy].shape), pt[original].name]
        for copy, original in table.tied.items()
        if copy in pt and original in pt
    ]
    if tied != seen["tied"]:
        yield f"{case}: ties"
    names = [row[2] for row in seen["weights"]]
    groups = {layer: [names[number] for number in numbers] for layer, numbers in seen["h5"].items()}
    found = keras_groups(table, {place: tf[place] for place in own})
    if list(found.items()) != list(groups.items()):
        yield f"{case}: HDF5 groups"


def family_differences(table: Table, dialects: Dialects, head: str) -> Iterator[str]:
    """Where a table and a head of FAMILY differ: PyTorch's state dict, TensorFlow's weights in order."""
    seen, config = observed(FAMILY)["heads"][head], filled(**observed(FAMILY)["config"])
    pt = {spec.name: list(spec.shape) for spec in named(table, dialects, "pt", head, config).values()}
    if pt != dict(seen["pt"]):
        yield f"{head}: state dict"
    tf = named(table, dialects, "tf", head, config)
    if [[spec.name, list(spec.shape)] for place, spec in tf.items() if place not in table.tied] != seen["tf"]:
        yield f"{head}: TensorFlow's weights"


def relative_differences(table: Table, dialects: Dialects) -> Iterator[str]:
    """What `relative_key` must add (transformers 4.57, modeling_bert.py): one embedding per layer, none to cross."""
    absolute = named(table, dialects, "pt", "BertLMHeadModel", filled(**CROSS))
    for kind in ("relative_key", "relative_key_query"):
        relative = named(table, dialects, "pt", "BertLMHeadModel", filled(**CROSS, position_embedding_type=kind))
        added = {spec.name: spec.shape for place, spec in relative.items() if place not in absolute}
        wanted = {f"bert.encoder.layer.{i}.attention.self.distance_embedding.weight": (73, 7) for i in range(2)}
        if added != wanted or not set(absolute) <= set(relative):
            yield kind


def _transform(pt: TensorSpec, tf: TensorSpec) -> str:
    return "transpose" if is_transposed(pt.layout, tf.layout) else "copy"
