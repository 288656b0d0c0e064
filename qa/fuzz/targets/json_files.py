"""Shard indexes and configs, with the standard library's view of what is accepted."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from bertconv.config import BertConfig
from bertconv.containers.stored import SourceFile
from bertconv.source.weights import read_index
from bertconv.text import is_plain
from qa.fuzz.mutations import JSON_PIECES, JSON_TOKENS, Seed
from qa.fuzz.targets.common import Target


def indexes() -> Target:
    names = [f"bert.encoder.layer.{number}.output.dense.weight" for number in range(4)]
    shards = {name: f"model-{number % 2 + 1:05}-of-00002.safetensors" for number, name in enumerate(names)}
    texts = [json.dumps({"metadata": {"total_size": 123}, "weight_map": shards}, indent=indent) for indent in (None, 2)]
    tokens = (*JSON_TOKENS, b'"weight_map"', b'"C:\\\\x"', b'".."', b'"a\\u0000b"', b'"\\/x"')
    return Target("index", tuple(_json_seed(text) for text in texts), tokens, _read_index, _index_agrees)


def configs() -> Target:
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}, "problem_type": "regression"}
    plain = {key: value for key, value in BertConfig().to_dict().items() if key not in labels}
    full = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 36, "num_attention_heads": 3, **labels}
    texts = [json.dumps(plain), json.dumps(full, indent=1), '{"hidden_size":36,"num_attention_heads":6,"x":[1.5,{}]}']
    words = ("num_labels", "raw", "values", "path", "load", "__class__", "auto_map", "pruned_heads", "gelu_new", "relu")
    tokens = (*JSON_TOKENS, *(f'"{word}"'.encode() for word in (*words, *plain, *labels)))
    return Target("config", tuple(map(_json_seed, texts)), tokens, BertConfig.load, _config_agrees)


def _json_seed(text: str) -> Seed:
    return Seed(tuple(JSON_PIECES.findall(text.encode())))


def _spelled(value: Any) -> str:
    return json.dumps(value)  # 1, 1.0 and True are equal to Python


def _read_index(path: Path) -> dict[str, str]:
    with closing(SourceFile(path)) as file:
        return read_index(file)


def _index_agrees(data: bytes, weight_map: dict[str, str]) -> str:
    if _spelled(json.loads(data)["weight_map"]) != _spelled(weight_map):
        return "json sees another weight_map"
    return "" if all(map(is_plain, weight_map.values())) else "a shard's name leads out of the folder"


def _config_agrees(data: bytes, config: BertConfig) -> str:
    expected = json.loads(data)
    seen = {key: config.values[key] for key in expected}
    return (
        ""
        if _spelled(expected) == _spelled(seen) == _spelled(json.loads(config.to_bytes()))
        else "json sees other values"
    )
