"""ONNX models: the weights of those that PyTorch's TorchScript exporter wrote, read and never written.

An ONNX file is a program with its constants. `model` reads the constants and the nodes that use them, `names` says
which weight of which module each constant is, where the file still tells.
"""

from __future__ import annotations

from bertconv.containers.container import Container
from bertconv.containers.protobuf import BYTES, VARINT, WireError, read_varint
from bertconv.containers.stored import Header, SourceFile

_PRODUCER, _LONGEST_PRODUCER = (2, 3), 200
"""Fields with the name and the version of the program that wrote a file, and their longest in bytes."""
_BEFORE_GRAPH = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES}
"""Fields of a model that stand before its graph, and their kinds: ir_version, producer, domain, version, text."""
_GRAPH = 7
_NEWEST = 127
"""Versions of the format that are taken for one; it was 13 in 2026."""


class Onnx(Container):
    """A model as the exporters of PyTorch write it; it has no magic, only fields in a certain order."""

    name = "onnx"
    title = "ONNX"
    kind = "an ONNX model"
    stem = "model"
    suffixes = (".onnx",)

    def recognises(self, start: bytes, size: int) -> bool:
        """Whether the first bytes are the fields of a model up to its graph, which fits the file."""
        graph = _graph(start)
        return graph is not None and sum(graph) <= size

    def resembles(self, start: bytes) -> bool:
        """Whether they are such fields, and the graph is longer than the file."""
        return _graph(start) is not None

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002  (it has no checksums)
        """As `read_onnx`."""
        from bertconv.containers.onnx.names import read_onnx  # which most conversions do not need

        return read_onnx(file)


def _graph(start: bytes) -> tuple[int, int] | None:
    """Where the graph of a model that begins so lies, and its length; None where it is no model."""
    if start[:1] != b"\x08":  # the number and the kind of ir_version, which every model has and writes first
        return None
    at = 0
    try:
        while True:
            key, at = read_varint(start, at)
            value, at = read_varint(start, at)
            number, kind = key >> 3, key & 7
            if (number, kind) == (_GRAPH, BYTES):
                return at, value
            long = number in _PRODUCER and value > _LONGEST_PRODUCER
            if kind != _BEFORE_GRAPH.get(number) or long or (number == 1 and not 0 < value <= _NEWEST):
                return None
            at += value if kind == BYTES else 0
    except WireError:  # no graph among the first bytes
        return None
