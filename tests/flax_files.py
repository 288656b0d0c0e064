"""Files of Flax, made with the `msgpack` package as Flax makes them, from tensors with PyTorch's names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from checkpoints import Tensors, config, native, numpy_type, write_config

CHUNKED = "__msgpack_chunked_array__"
FILE, INDEX = "flax_model.msgpack", "flax_model.msgpack.index.json"


def flax_state(tensors: Tensors) -> Tensors:
    """The names and layouts that transformers' Flax classes have for these, separated with a slash."""
    found: Tensors = {}
    for name, given in tensors.items():
        value, (path, _, leaf) = given, name.rpartition(".")
        if leaf == "weight" and value.ndim == 2:
            table = "embeddings" in path.rpartition(".")[2] or path.endswith("_embedding")
            is_linear = not table or path.endswith("embeddings_project")
            leaf, value = ("kernel", value.T) if is_linear else ("embedding", value)
        elif leaf == "weight":
            leaf = "scale"
        found[f"{path}.{leaf}".removeprefix(".").replace(".", "/")] = np.ascontiguousarray(value)
    return found


def tree_of(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Maps within each other."""
    root: dict[str, Any] = {}
    for name, value in tensors.items():
        *parts, last = name.split("/")
        place = root
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return root


def payload(value: np.ndarray, **changes: Any) -> bytes:
    """What an array's extension holds."""
    facts = {"shape": list(value.shape), "dtype": value.dtype.name, "data": value.tobytes()} | changes
    packed: bytes = msgpack.packb(list(facts.values()))
    return packed


def array(value: np.ndarray, **changes: Any) -> Any:
    return msgpack.ExtType(1, payload(value, **changes))


def in_pieces(value: np.ndarray, chunk: int) -> dict[str, Any]:
    """An array as Flax writes one of more than `chunk` bytes."""
    step, flat = max(1, chunk // value.dtype.itemsize), value.reshape(-1)
    pieces = [array(flat[start : start + step]) for start in range(0, flat.size, step)]
    shape = {str(axis): size for axis, size in enumerate(value.shape)}
    return {CHUNKED: True, "shape": shape, "chunks": {str(number): piece for number, piece in enumerate(pieces)}}


def prepared(tree: Any, chunk: int = 2**30) -> Any:
    """The tree with its arrays as extensions, keys in order, as `flax.serialization.to_bytes` hands it to msgpack."""
    if isinstance(tree, dict):
        return {key: prepared(tree[key], chunk) for key in sorted(tree)}
    if isinstance(tree, np.ndarray):
        return in_pieces(tree, chunk) if tree.nbytes > chunk else array(tree)
    return tree


def flax_bytes(tensors: Tensors, chunk: int = 2**30) -> bytes:
    packed: bytes = msgpack.packb(prepared(tree_of(tensors), chunk), strict_types=True)
    return packed


def read_flax(data: bytes) -> Tensors:
    """The arrays of a file by their names with slashes, read with the `msgpack` package."""

    def extension(_: int, content: bytes) -> np.ndarray:
        shape, dtype, raw = msgpack.unpackb(content)
        return np.frombuffer(raw, numpy_type(dtype)).reshape(shape)

    def walk(value: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
        if isinstance(value, dict) and CHUNKED in value:
            flat = np.concatenate([value["chunks"][str(number)] for number in range(len(value["chunks"]))])
            yield path, flat.reshape([value["shape"][str(axis)] for axis in range(len(value["shape"]))])
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, f"{path}/{key}" if path else key)
        else:
            yield path, value

    return dict(walk(msgpack.unpackb(data, ext_hook=extension), ""))


def save_flax(folder: Path, head: str, tensors: Tensors, shards: int = 1, **changes: Any) -> Path:
    """A folder with a config and the weights of a Flax class, from PyTorch's names with the base's prefix."""
    write_config(folder, config(head, **changes))
    state = flax_state(native(head, tensors))
    if shards == 1:
        (folder / FILE).write_bytes(flax_bytes(state))
        return folder
    weight_map = {}
    for number in range(shards):
        name = f"flax_model-{number + 1:05}-of-{shards:05}.msgpack"
        own = {key: value for place, (key, value) in enumerate(state.items()) if place % shards == number}
        (folder / name).write_bytes(flax_bytes(own))
        weight_map |= dict.fromkeys(own, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder
