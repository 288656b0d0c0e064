"""What an ONNX file says: its constants (initialisers), and the nodes that use them. Nothing of the program is run.

Field numbers are those of onnx.proto (github.com/onnx/onnx). All numbers, names and places are checked before use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import field
from typing import NamedTuple

from bertconv.containers.protobuf import BYTES, VARINT, Field, WireError, fields_in, number, read_varint, signed
from bertconv.containers.stored import ITEM_SIZE, MAX_NAME, MAX_RANK, SourceFile, StoredTensor
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.records import dataclass
from bertconv.text import is_plain, printable

MAX_NODES = 50_000
"""Most nodes that are read; a model of 48 layers has 5,000."""
MAX_CONSTANTS = 100_000
"""Most constants."""
MAX_INPUTS = 1000
"""Most inputs and outputs of a node; those that have weights have a handful."""
MAX_FILES = 100
"""Most files with data outside."""
_LONGEST = 1 << 40
"""Largest size of an axis that is taken for one."""
_NODE, _CONSTANT, _SPARSE = 1, 5, 15
"""Fields of a graph."""
_TEXT = 4096
"""Longest text that is read, in bytes."""

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 19: "float8_e5m2",
}  # fmt: skip
_PACKED = {4: "float32", 10: "float64"}
"""Fields in which numbers of a type may stand one after the other, which are the bytes of the tensor then."""
_OTHER_DATA = (5, 6, 7, 11)
"""Fields with numbers in a form of their own."""


@dataclass(frozen=True)
class Node:
    """A step of the program.

    Attributes:
        op: what it does.
        name: as the exporter made it, often from the modules that it stands in.
        inputs: names of what it takes; an empty one was left out.
        outputs: names of what it makes.
        numbers: those of its attributes that are whole numbers.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[str, int] = field(default_factory=dict)


class Model(NamedTuple):
    """A file that was read.

    Attributes:
        constants: name -> the tensor; of one whose bytes cannot be taken as they are, why not.
        nodes: every step.
        metadata: what the file says of itself.
    """

    constants: dict[str, StoredTensor | str]
    nodes: tuple[Node, ...]
    metadata: dict[str, str]


def read_model(file: SourceFile) -> Model:
    """Read a file, and open those beside it that hold its data; the caller closes these with the tensors.

    Raises:
        DamagedCheckpoint: it is none, is truncated, or contradicts itself.
        UnsafeCheckpoint: its data would lie outside of the folder, or there is more of something than any model has.
    """
    reader = _Reader(file)
    with ExitStack() as on_failure:
        on_failure.callback(reader.close)
        try:
            found = reader.model()
        except WireError as error:
            raise damaged(file, str(error)) from error
        on_failure.pop_all()
    return found


def damaged(file: SourceFile, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
    """An ONNX file that is none."""
    hint = "Download or export it again."
    return DamagedCheckpoint(f"{problem}.", hint=hint, file=str(file.path), tensor=tensor)


class _Described:
    """A tensor as its message describes it, before anything of that is believed.

    `data` says of each run of bytes what it would be (None: the tensor's own type), where it begins, and its length.
    """

    def __init__(self) -> None:
        self.name = ""
        self.dtype = 0
        self.dims: list[int] = []
        self.data: list[tuple[str | None, int, int]] = []
        self.outside: dict[str, str] = {}
        self.is_outside = False
        self.in_numbers = False


class _Reader:
    """One file in the making."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.beside: dict[str, SourceFile] = {}

    def close(self) -> None:
        for one in self.beside.values():
            one.close()

    def model(self) -> Model:
        metadata: dict[str, str] = {}
        graphs: list[Field] = []
        for one in fields_in(self.file, 0, self.file.size):
            if one.number in (2, 3):
                metadata["producer" if one.number == 2 else "producer_version"] = self.text(one)
            elif one.number == 14:
                metadata |= dict([self.pair(one)])
            elif one.number == 7:
                graphs.append(one)
        if len(graphs) != 1:
            raise WireError(f"has {len(graphs)} graphs instead of one")
        return Model(*self.graph(graphs[0]), metadata)

    def graph(self, graph: Field) -> tuple[dict[str, StoredTensor | str], tuple[Node, ...]]:
        """Constants and nodes."""
        constants: dict[str, StoredTensor | str] = {}
        nodes: list[Node] = []
        for one in self.message(graph):
            if one.number == _NODE:
                nodes.append(self.node(one))
                self.check_number("nodes", len(nodes), MAX_NODES)
            elif one.number == _CONSTANT:
                name, tensor = self.constant(one)
                if name in constants:
                    raise damaged(self.file, f"has two constants {printable(name)!r}", name)
                constants[name] = tensor
                self.check_number("constants", len(constants), MAX_CONSTANTS)
            elif one.number == _SPARSE:
                raise UnsupportedCheckpoint(
                    "holds sparse constants.", hint="Give the checkpoint that it was made from.",
                    file=str(self.file.path),
                )  # fmt: skip
        return constants, tuple(nodes)

    def check_number(self, what: str, count: int, most: int) -> None:
        if count > most:
            raise UnsafeCheckpoint(
                f"has more than {most:,} {what}.",
                hint="No model of these families has so many; check where the file came from.",
                file=str(self.file.path),
            )

    def node(self, message: Field) -> Node:
        op = name = ""
        inputs: list[str] = []
        outputs: list[str] = []
        numbers: dict[str, int] = {}
        for one in self.message(message):
            if one.number == 1:
                inputs.append(self.text(one))
            elif one.number == 2:
                outputs.append(self.text(one))
            elif one.number == 3:
                name = self.text(one)
            elif one.number == 4:
                op = self.text(one)
            elif one.number == 5:
                numbers |= self.attribute(one)
            self.check_number("inputs of a node", len(inputs) + len(outputs) + len(numbers), MAX_INPUTS)
        return Node(op, name, tuple(inputs), tuple(outputs), numbers)

    def attribute(self, message: Field) -> dict[str, int]:
        name, value = "", None
        for one in self.message(message):
            if one.number == 1:
                name = self.text(one)
            elif one.number == 3:
                value = signed(one)
        return {} if value is None else {name: value}

    def constant(self, message: Field) -> tuple[str, StoredTensor | str]:
        described = self.described(message)
        name = described.name
        if len(name) > MAX_NAME:
            raise damaged(self.file, f"has a name of {len(name):,} characters")
        dtype = DTYPES.get(described.dtype)
        if dtype is None:
            return name, f"its element type has the number {described.dtype}, which is none of a weight"
        if described.in_numbers:
            return name, "its elements stand in the file as numbers, not as bytes"
        shape = tuple(described.dims)
        nbytes = math.prod(shape) * ITEM_SIZE[dtype]
        if described.is_outside:
            source, offset = self.outside(described, nbytes)
            return name, StoredTensor(name, dtype, shape, source, offset)
        packed, offset, length = described.data[0] if described.data else (None, self.file.size, 0)
        if packed not in (None, dtype) or length != nbytes:
            raise damaged(self.file, f"has {length:,} bytes for a shape that takes {nbytes:,}", name)
        return name, StoredTensor(name, dtype, shape, self.file, offset)

    def described(self, message: Field) -> _Described:
        found = _Described()
        for one in self.message(message):
            if one.number == 1:
                found.dims += self.numbers(one)
            elif one.number == 2:
                found.dtype = number(one)
            elif one.number == 8:
                found.name = self.text(one)
            else:
                self.describe_data(found, one)
            if len(found.dims) > MAX_RANK or len(found.data) > 1:
                raise WireError(f"has a constant of more than {MAX_RANK} axes, or with its elements twice")
        if any(not 0 <= size <= _LONGEST for size in found.dims):
            raise damaged(self.file, "has a size that is none", printable(found.name))
        return found

    def describe_data(self, found: _Described, one: Field) -> None:
        """Where a field says that the elements are."""
        if one.number == 9 or (one.number in _PACKED and one.kind == BYTES):
            found.data.append((_PACKED.get(one.number), one.start, _length(one)))
        elif one.number == 13:
            found.outside |= dict([self.pair(one)])
            self.check_number("places of a constant", len(found.outside), MAX_RANK)
        elif one.number == 14:
            found.is_outside = number(one) == 1
        elif one.number in _OTHER_DATA or one.number in _PACKED:
            found.in_numbers = True

    def outside(self, described: _Described, nbytes: int) -> tuple[SourceFile, int]:
        """The file in the same folder that holds a constant's bytes, and where they begin in it."""
        location, name = described.outside.get("location", ""), described.name
        if not is_plain(location):
            raise UnsafeCheckpoint(
                f"keeps its data in {printable(location)[:200]!r}, which is no plain file name.",
                hint="Do not use this checkpoint: it leads out of its folder.",
                file=str(self.file.path),
                tensor=printable(name),
            )
        offset = self.whole(described.outside.get("offset", "0"), name)
        length = self.whole(described.outside.get("length", str(nbytes)), name)
        if location not in self.beside:
            self.check_number("files with data", len(self.beside) + 1, MAX_FILES)
            self.beside[location] = self.file.beside(location)
        found = self.beside[location]
        if length != nbytes or offset + length > found.size:
            problem = f"keeps {nbytes:,} bytes in {location}, from byte {offset:,} on {length:,} of {found.size:,}"
            raise damaged(self.file, problem, printable(name))
        return found, offset

    def whole(self, text: str, name: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise damaged(self.file, f"says {printable(text)[:40]!r} where a number should stand", printable(name))
        return int(text)

    def message(self, one: Field) -> Iterator[Field]:
        return fields_in(self.file, one.start, _length(one))

    def pair(self, message: Field) -> tuple[str, str]:
        """A key and a value."""
        found = {one.number: self.text(one) for one in self.message(message) if one.number in (1, 2)}
        return found.get(1, ""), found.get(2, "")

    def text(self, one: Field) -> str:
        if _length(one) > _TEXT:
            raise WireError(f"has a text of {one.value:,} bytes in field {one.number}")
        try:
            return self.file.read(one.start, one.value).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"has a text in field {one.number} that is no UTF-8") from error

    def numbers(self, one: Field) -> list[int]:
        """Numbers of a repeated field: one, or several one after the other."""
        if one.kind == VARINT:
            return [signed(one)]
        if _length(one) > MAX_RANK * 10:
            raise WireError(f"has a constant of more than {MAX_RANK} axes")
        data, at, found = self.file.read(one.start, one.value), 0, []
        while at < len(data):
            value, at = read_varint(data, at)
            found.append(value - (1 << 64) if value >> 63 else value)
        return found


def _length(one: Field) -> int:
    """Bytes of a field that has some; WireError where it is a number."""
    if one.kind != BYTES:
        raise WireError(f"has a number in field {one.number}, which should be bytes")
    return one.value
