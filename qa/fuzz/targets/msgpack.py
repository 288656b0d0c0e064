"""msgpack files of Flax, with the `msgpack` package's view of what is accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np

from bertconv.containers.stored import Header
from qa.fuzz.mutations import EDGES, Seed
from qa.fuzz.targets.common import Target, bytes_of, differ, read

_CHUNKED = "__msgpack_chunked_array__"


def msgpack_files() -> Target:
    """A model, one in pieces, and a state of training."""
    model = {
        "embeddings": {"LayerNorm": {"bias": _array((5,)), "scale": _array((5,), "float16")}, "empty": _array((0, 3))},
        "pooler": {"dense": {"kernel": _array((3, 5), "bfloat16"), "bias": _array((), "float64")}},
    }
    pieces = {"0": _array((7,)), "1": _array((5,))}
    state = {
        "step": 12, "params": {"bert": {"0": _array((2, 3))}}, "batch_stats": {}, "name": "é", "none": None,
        "opt_state": {"0": {"count": msgpack.ExtType(3, _payload((), "int32")), "mu": _array((2, 3)), "rate": 0.5}},
        "list": [1, {"a": _array((1,))}, b"bytes", True, msgpack.ExtType(2, msgpack.packb([1.0, 2.0]))],
    }  # fmt: skip
    split = {"word": {_CHUNKED: True, "shape": {"0": 4, "1": 3}, "chunks": pieces}, "bias": _array((2,))}
    seeds = [Seed(tuple(_pieces(tree))) for tree in (model, split, state)]
    sizes = [msgpack.packb(edge) for edge in EDGES if -(2**63) <= edge < 2**64]
    codes = [bytes([code]) for code in range(0x80, 0x100, 3)] + [bytes([code]) for code in range(0xC0, 0xE0)]
    words = [msgpack.packb(word) for word in ("params", "bias", "a.b", "", _CHUNKED, "shape", "chunks", "float32", "0")]
    deep, wide = b"\x81\xa1a" * 70, b"\xdf\xff\xff\xff\xff"
    return Target("msgpack", tuple(seeds), (*sizes, *codes, *words, deep, wide, b"\xff" * 8), read, _agrees)


def _payload(shape: tuple[int, ...], dtype: str) -> bytes:
    size = int(np.prod(shape, dtype=int)) * {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)
    payload: bytes = msgpack.packb([list(shape), dtype, bytes(number * 37 % 251 for number in range(size))])
    return payload


def _array(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    return msgpack.ExtType(1, _payload(shape, dtype))


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes of a value, cut between heads, keys, shapes, types and data."""
    packer = msgpack.Packer()
    if isinstance(value, dict):
        yield packer.pack_map_header(len(value))
        for key, inner in value.items():
            yield msgpack.packb(key)
            yield from _pieces(inner)
    elif isinstance(value, msgpack.ExtType) and value.code != 2:
        shape, dtype, data = msgpack.unpackb(value.data)
        parts = (b"\x93", msgpack.packb(shape), msgpack.packb(dtype), msgpack.packb(data)[:2], data)
        yield msgpack.packb(value)[: -sum(map(len, parts))]
        yield from parts
    else:
        yield msgpack.packb(value)


def _agrees(data: bytes, header: Header) -> str:
    if header.container != "msgpack":
        return f"was read as {header.container}"
    try:
        tree = msgpack.unpackb(data, ext_hook=_extension, raw=False, strict_map_key=False)
        every = dict(_arrays(tree, ()))
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        return f"the msgpack package refuses it: {error!r:.200}"
    if isinstance(tree.get("params"), dict | list) and _CHUNKED not in tree["params"]:
        every = {path: found for path, found in every.items() if path[0] == "params"}
    theirs = {".".join(path): found for path, found in every.items()}
    return differ({one.name: (one.dtype, one.shape, bytes_of(data, one)) for one in header.tensors}, theirs, "msgpack")


def _extension(code: int, data: bytes) -> Any:
    if code == 1:
        shape, dtype, content = msgpack.unpackb(data)
        return (dtype, tuple(shape), content)
    return None


def _arrays(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, tuple[int, ...], bytes]]]:
    """Every array by the keys that lead to it, those in pieces joined."""
    if isinstance(value, list):
        value = {str(number): inner for number, inner in enumerate(value)}
    if isinstance(value, tuple):
        yield path, value
    elif isinstance(value, Mapping) and _CHUNKED in value:
        parts = [value["chunks"][str(number)] for number in range(len(value["chunks"]))]
        shape = tuple(value["shape"][str(axis)] for axis in range(len(value["shape"])))
        yield path, (parts[0][0], shape, b"".join(part[2] for part in parts))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _arrays(inner, (*path, key))
