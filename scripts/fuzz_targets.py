"""What `fuzz.py` attacks: sound inputs, the reader, and another reader that must see the same in what it accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fuzz_common import Target, bytes_of, differ, read
from fuzz_hdf5 import hdf5_files
from fuzz_mutations import JSON_TOKENS, Seed
from fuzz_torch import archives, pickles

from bertconv.config import BertConfig
from bertconv.containers.stored import ITEM_SIZE, Header
from bertconv.source.place import is_plain
from bertconv.source.weights import read_index

_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+|\s+|.', re.DOTALL)
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


def build(name: str) -> Target:
    """The target of that name, its seeds made on the spot."""
    return _TARGETS[name]()


# safetensors, against the Rust reader


def _safetensors() -> Target:
    several = _entries(("a.weight", "F32", (3, 5)), ("a.bias", "F16", (5,)), ("n", "I64", ()))
    entries: list[dict[str, Any]] = [
        {"__metadata__": {"format": "pt", "by": "seed"}, **several},
        _entries(("x", "BF16", (2, 3)), ("empty", "F32", (0, 7)), ("y", "U8", (4,)), ("z", "BOOL", (1, 2))),
        {"__metadata__": {}, **_entries(("bert.embeddings.LayerNorm.weight", "F64", (2,)))},
    ]
    texts = [json.dumps(entry, separators=(",", ":")).encode() for entry in entries]
    seeds = [
        Seed(tuple(_JSON.findall(text)), _safetensors_wrap(entry)) for text, entry in zip(texts, entries, strict=True)
    ]
    codes = (*_CODES.values(), "F4", "f32", "dtype", "shape", "data_offsets", "__metadata__", "a.weight", "x")
    tokens = (*JSON_TOKENS, *(f'"{code}"'.encode() for code in codes))
    return Target("safetensors", tuple(seeds), tokens, read, rust_agrees)


def _entries(*tensors: tuple[str, str, tuple[int, ...]]) -> dict[str, Any]:
    sizes = {code: ITEM_SIZE[name] for name, code in _CODES.items()}
    found, begin = {}, 0
    for name, code, shape in tensors:
        end = begin + int(np.prod(shape, dtype=int)) * sizes[code]
        found[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    return found


def _safetensors_wrap(entry: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    size = max(tensor["data_offsets"][1] for tensor in entry.values() if "data_offsets" in tensor)
    data = bytes(number * 37 % 251 for number in range(size))
    return lambda header: len(header).to_bytes(8, "little") + header + data


def rust_agrees(data: bytes, header: Header) -> str:
    """Names, element types, shapes and bytes as the `safetensors` package has them."""
    from safetensors import SafetensorError, deserialize

    if header.container != "safetensors":
        return f"was read as {header.container}"
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        return f"the Rust reader refuses it: {error}"
    theirs = {name: (entry["dtype"], list(entry["shape"]), bytes(entry["data"])) for name, entry in entries}
    ours = {t.name: (_CODES[t.dtype], list(t.shape), bytes_of(data, t)) for t in header.tensors}
    return differ(ours, theirs, "the Rust reader")


# JSON


def _index() -> Target:
    names = [f"bert.encoder.layer.{number}.output.dense.weight" for number in range(4)]
    shards = {name: f"model-{number % 2 + 1:05}-of-00002.safetensors" for number, name in enumerate(names)}
    texts = [json.dumps({"metadata": {"total_size": 123}, "weight_map": shards}, indent=indent) for indent in (None, 2)]
    tokens = (*JSON_TOKENS, b'"weight_map"', b'"C:\\\\x"', b'".."', b'"a\\u0000b"', b'"\\/x"')
    return Target("index", tuple(_json_seed(text) for text in texts), tokens, read_index, _index_agrees)


def _config() -> Target:
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}, "problem_type": "regression"}
    plain = {key: value for key, value in BertConfig().to_dict().items() if key not in labels}
    told = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 36, "num_attention_heads": 3, **labels}
    texts = [json.dumps(plain), json.dumps(told, indent=1), '{"hidden_size":36,"num_attention_heads":6,"x":[1.5,{}]}']
    words = ("num_labels", "raw", "values", "path", "load", "__class__", "auto_map", "pruned_heads", "gelu_new", "relu")
    tokens = (*JSON_TOKENS, *(f'"{word}"'.encode() for word in (*words, *plain, *labels)))
    return Target("config", tuple(map(_json_seed, texts)), tokens, BertConfig.load, _config_agrees)


def _json_seed(text: str) -> Seed:
    return Seed(tuple(_JSON.findall(text.encode())))


def _spelled(value: Any) -> str:
    return json.dumps(value)  # 1, 1.0 and True are equal to Python


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


_TARGETS: Mapping[str, Callable[[], Target]] = {
    "safetensors": _safetensors, "pickle": pickles, "zip": archives, "index": _index, "config": _config,
    "hdf5": hdf5_files,
}  # fmt: skip
