"""ONNX files as PyTorch's TorchScript exporter writes them, made field by field with a writer of the tests' own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

CODES = {"float32": 1, "int8": 3, "int64": 7, "float16": 10, "float64": 11, "bfloat16": 16}
LINEAR = re.compile(
    r"(query|key|value|dense|decoder|lin\d|[qkv]_lin|out_lin|classifier|ffn\w*|[qkvo]|mapping_in)\.weight"
)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


def data(key: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(key << 3 | 2) + varint(len(raw)) + raw


def pair(key: int, name: str, value: str) -> bytes:
    return data(key, data(1, name) + data(2, value))


def constant(name: str, array: np.ndarray, **changes: object) -> bytes:
    """A TensorProto; `changes` replaces its raw data by other fields, or its element type or sizes."""
    dims = changes.get("dims", array.shape)
    dims = dims if isinstance(dims, bytes) else b"".join(number(1, size) for size in dims)
    content = changes.get("content", data(9, array.tobytes()))
    return dims + number(2, changes.get("dtype", CODES[array.dtype.name])) + data(8, name) + content


def node(op: str, name: str, inputs: Iterable[str], outputs: Iterable[str], **numbers: int) -> bytes:
    attributes = b"".join(data(5, data(1, key) + number(3, value) + number(20, 2)) for key, value in numbers.items())
    return (
        b"".join(data(1, one) for one in inputs)
        + b"".join(data(2, one) for one in outputs)
        + (data(3, name) + data(4, op) + attributes)
    )


def model(graph: bytes, *, before: bytes = b"", behind: bytes = b"") -> bytes:
    head = number(1, 8) + data(2, "pytorch") + data(3, "2.3.0")
    return (before or head) + data(7, graph) + data(8, data(1, "") + number(2, 17)) + behind


@dataclass
class Graph:
    """A graph in the making: its constants by name, and its nodes."""

    constants: dict[str, bytes] = field(default_factory=dict)
    nodes: list[bytes] = field(default_factory=list)

    def content(self) -> bytes:
        nodes = b"".join(data(1, one) for one in self.nodes)
        return nodes + data(2, "main_graph") + b"".join(data(5, one) for one in self.constants.values())

    def file(self) -> bytes:
        return model(self.content())


def path_of(module: str) -> str:
    """How the exporter writes a module: a number stays with the list that it is counted in."""
    return "/" + re.sub(r"\.(?!\d)", "/", module)


def exported(tensors: Mapping[str, np.ndarray], *, fold: bool = True, same: Mapping[str, str] | None = None) -> Graph:
    """A state dict as the exporter leaves it.

    Args:
        tensors: by PyTorch's names.
        fold: matrices of linear layers are turned ahead of time and lose their names, as with do_constant_folding.
        same: name of a parameter -> the equal one that stands for it; an Identity makes it of that.
    """
    graph = Graph()
    for count, (name, array) in enumerate(tensors.items(), 470):
        module = name.removesuffix(".weight")
        if same and name in same:
            graph.nodes.insert(0, node("Identity", f"Identity_{count}", [same[name]], [name]))
        elif not (fold and LINEAR.search(name)):
            graph.constants[name] = constant(name, array)
            graph.nodes.append(node("Add", f"{path_of(module)}/Add", [name, "x"], [f"y{count}"]))
        elif count % 5 == 0:  # where the input is a matrix, the exporter takes Gemm, and the parameter as it is
            graph.constants[name] = constant(name, array)
            graph.nodes.append(node("Gemm", f"{path_of(module)}/Gemm", ["x", name], [f"y{count}"], transB=1))
        else:
            anonymous = f"onnx::MatMul_{count}"
            graph.constants[anonymous] = constant(anonymous, np.ascontiguousarray(array.T))
            graph.nodes.append(node("MatMul", f"{path_of(module)}/MatMul", ["x", anonymous], [f"y{count}"]))
    return graph
