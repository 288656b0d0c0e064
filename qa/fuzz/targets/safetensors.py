"""safetensors files, with the Rust reader's view of what is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bertconv.containers.stored import ITEM_SIZE, Header
from qa.fuzz.mutations import JSON_PIECES, JSON_TOKENS, Seed
from qa.fuzz.targets.common import Target, bytes_of, differ, read

_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


def safetensors_files() -> Target:
    several = _entries(("a.weight", "F32", (3, 5)), ("a.bias", "F16", (5,)), ("n", "I64", ()))
    entries: list[dict[str, Any]] = [
        {"__metadata__": {"format": "pt", "by": "seed"}, **several},
        _entries(("x", "BF16", (2, 3)), ("empty", "F32", (0, 7)), ("y", "U8", (4,)), ("z", "BOOL", (1, 2))),
        {"__metadata__": {}, **_entries(("bert.embeddings.LayerNorm.weight", "F64", (2,)))},
    ]
    texts = [json.dumps(entry, separators=(",", ":")).encode() for entry in entries]
    seeds = [
        Seed(tuple(JSON_PIECES.findall(text)), _safetensors_wrap(entry))
        for text, entry in zip(texts, entries, strict=True)
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
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        return f"the Rust reader refuses it: {error}"
    theirs = {name: (entry["dtype"], list(entry["shape"]), bytes(entry["data"])) for name, entry in entries}
    ours = {t.name: (_CODES[t.dtype], list(t.shape), bytes_of(data, t)) for t in header.tensors}
    return differ(ours, theirs, "the Rust reader")
