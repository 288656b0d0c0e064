"""From a msgpack file to tensors: a tree of maps, read without its arrays' elements.

The tree is walked once and every value in it is counted, so that what a small file says in many empty maps costs
nothing. A file of `flax.training` holds optimizer state beside `params`: that is listed and left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from bertconv.containers.chunks import MAX_CHUNKS, in_file
from bertconv.containers.msgpack.constants import ARRAY, CHUNKED, COMPLEX, SCALAR, SEPARATOR
from bertconv.containers.msgpack.cursor import Cursor, Kind, Value
from bertconv.containers.stored import FLOATS, ITEM_SIZE, MAX_NAME, MAX_RANK, Header, SourceFile, StoredTensor
from bertconv.errors import UnsafeCheckpoint
from bertconv.text import printable

MAX_DEPTH = 64
"""Most maps within each other; Flax's models have about ten."""
MAX_VALUES = 400_000
"""Most values of a file: a model of 100 layers has fewer than 3,000 tensors, and three times as many with Adam's."""
WEIGHTS = "params"
"""Key of the weights in a state that holds other things too."""

_AGAIN = "Save the model again with save_pretrained, or with flax.serialization.to_bytes(params)."


class Leaf(NamedTuple):
    """A value that is no map: an array, or something that is no weight; an integer keeps its value."""

    tensor: StoredTensor | None = None
    number: int | float | None = None


Tree = dict[str, "Tree | Leaf"]


def read_msgpack(file: SourceFile) -> Header:
    """Read and check the structure; no element of an array is read.

    Raises:
        DamagedCheckpoint: truncated, or not what Flax writes: keys twice, lengths that do not fit, bytes after the end.
        UnsafeCheckpoint: more values, deeper maps or longer names than any model has.
        UnsupportedCheckpoint: extensions or element types that Flax does not write, or keys that hold a dot.
    """
    reader = _Reader(file)
    first = reader.cursor.value()
    if first.kind is not Kind.MAP:
        raise reader.cursor.bad("is no map of names")
    tree = reader.map(first, ())
    if CHUNKED in tree:
        raise reader.cursor.bad("is one array without a name")
    if reader.cursor.left:
        raise reader.cursor.bad(f"has {reader.cursor.left:,} bytes after its last value")
    tensors: list[StoredTensor] = []
    others: list[str] = []
    beside: list[str] = []
    wrapped = isinstance(tree.get(WEIGHTS), dict)
    for path, leaf in leaves(tree):
        name = SEPARATOR.join(path)
        if leaf.tensor is not None and (path[0] == WEIGHTS or not wrapped):
            tensors.append(reader.named(leaf.tensor, path))
            continue
        others.append(name)
        if leaf.tensor is not None and leaf.tensor.dtype in FLOATS and len(leaf.tensor.shape) > 1:
            beside.append(name)
    left = sorted({path[0] for path, _ in leaves(tree)} - {WEIGHTS}) if wrapped else []
    shown = ", ".join(printable(key)[:40] for key in left[:6])
    notes = (f"beside {WEIGHTS}, left out: {shown}",) if left else ()
    return Header("msgpack", tuple(tensors), notes=notes, others=tuple(others), beside=tuple(beside))


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every value that is no map, with the keys that lead to it."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


class _Reader:
    """Reads the values of one file, one after the other."""

    def __init__(self, file: SourceFile) -> None:
        self.cursor = Cursor(file)
        self.values = 0

    def map(self, value: Value, path: tuple[str, ...]) -> Tree:
        """A map whose beginning was read."""
        found: Tree = {}
        for _ in range(value.size):
            key = self.key(path)
            if key in found:
                raise self.cursor.bad(f"has the key {_shown(*path, key)} twice")
            found[key] = self.leaf((*path, key))
        return found

    def key(self, path: tuple[str, ...]) -> str:
        value = self.next(path)
        if value.kind is not Kind.TEXT:
            raise self.cursor.bad(f"has a key in {_shown(*path)} that is no text")
        return self.cursor.text(value)

    def leaf(self, path: tuple[str, ...]) -> Tree | Leaf:
        value = self.next(path)
        if value.kind is Kind.MAP:
            tree = self.map(value, path)
            return Leaf(self.pieced(tree, path)) if CHUNKED in tree else tree
        if value.kind is Kind.ARRAY:
            return {str(number): self.leaf((*path, str(number))) for number in range(value.size)}
        if value.kind is Kind.EXTENSION:
            return self.extension(value, path)
        if value.kind is Kind.TEXT:
            self.cursor.text(value)
        elif value.kind is Kind.BINARY:
            self.cursor.skip(value.size)
        return Leaf(number=value.number)

    def next(self, path: tuple[str, ...]) -> Value:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.unsafe(f"has more than {MAX_VALUES:,} values")
        if len(path) > MAX_DEPTH:
            raise self.unsafe(f"has more than {MAX_DEPTH} maps within each other")
        return self.cursor.value()

    def extension(self, value: Value, path: tuple[str, ...]) -> Leaf:
        """An array; or a scalar, which is no weight."""
        cursor, end = self.cursor, self.cursor.position + value.size
        if value.number == COMPLEX:
            cursor.skip(value.size)
            return Leaf()
        if value.number not in {ARRAY, SCALAR}:
            problem = f"has an extension of type {value.number} at {_shown(*path)}, which Flax does not write"
            raise cursor.unsupported(problem, _AGAIN)
        described = cursor.value()
        if described.kind is not Kind.ARRAY or described.size != 3:
            raise cursor.bad("is not described by exactly shape, element type and bytes", _shown(*path))
        shape, dtype, data = self.shape(path), self.dtype(path), cursor.value()
        if data.kind is not Kind.BINARY or cursor.position + data.size != end:
            raise cursor.bad("has bytes that do not end where its extension does", _shown(*path))
        tensor = StoredTensor("", dtype, shape, cursor.file, cursor.position)
        if tensor.nbytes != data.size:
            problem = f"has shape {list(shape)} and type {dtype} but {data.size:,} bytes instead of {tensor.nbytes:,}"
            raise cursor.bad(problem, _shown(*path))
        cursor.skip(data.size)
        return Leaf(tensor if value.number == ARRAY else None)

    def shape(self, path: tuple[str, ...]) -> tuple[int, ...]:
        value = self.cursor.value()
        if value.kind is not Kind.ARRAY or value.size > MAX_RANK:
            raise self.cursor.bad("has a shape that is no list of sizes", _shown(*path))
        return self.sizes([self.cursor.value() for _ in range(value.size)], path)

    def sizes(self, found: list[Value], path: tuple[str, ...]) -> tuple[int, ...]:
        numbers = [one.number for one in found if one.kind is Kind.INTEGER]
        sizes = tuple(number for number in numbers if isinstance(number, int) and 0 <= number < 2**63)
        if len(sizes) != len(found):
            raise self.cursor.bad("has a shape that is no list of sizes", _shown(*path))
        if any(product >= 2**63 for product in accumulate(sizes, mul)):
            raise self.cursor.bad("has more elements than can be counted", _shown(*path))
        return sizes

    def dtype(self, path: tuple[str, ...]) -> str:
        value = self.cursor.value()
        if value.kind is not Kind.TEXT or value.size > 40:
            raise self.cursor.bad("has an element type that is no name", _shown(*path))
        dtype = self.cursor.text(value)
        if dtype not in ITEM_SIZE:
            problem = f"has the element type {printable(dtype)!r}, which is not known"
            raise self.cursor.unsupported(problem, "Save it in float32, float16 or bfloat16.", _shown(*path))
        return dtype

    def pieced(self, tree: Tree, path: tuple[str, ...]) -> StoredTensor:
        """An array whose elements lie in several arrays, one after the other; a map that says so and is none is bad."""
        shape, chunks, mark = tree.get("shape"), tree.get("chunks"), tree[CHUNKED]
        if (
            len(tree) != 3 or not isinstance(shape, dict) or not isinstance(chunks, dict)
            or not isinstance(mark, Leaf) or mark.number is not True
        ):  # fmt: skip
            raise self.cursor.bad("is in pieces, and not described by exactly its shape and them", _shown(*path))
        if not 0 < len(chunks) <= MAX_CHUNKS or len(shape) > MAX_RANK:
            raise self.cursor.bad(f"has no pieces, more than {MAX_CHUNKS:,}, or too many sizes", _shown(*path))
        numbers, pieces = self.numbered(shape, path), [one.tensor for one in self.numbered(chunks, path)]
        whole = self.sizes(
            [Value(Kind.INTEGER if one.tensor is None else Kind.OTHER, 0, one.number) for one in numbers], path
        )
        found = tuple(piece for piece in pieces if piece is not None and len(piece.shape) == 1 and piece.is_range)
        if len(found) != len(pieces) or len({piece.dtype for piece in found}) != 1:
            raise self.cursor.bad("has pieces that are no flat arrays of one element type", _shown(*path))
        if (total := sum(piece.count for piece in found)) != math.prod(whole):
            problem = f"has pieces of {total:,} elements in all instead of {math.prod(whole):,}"
            raise self.cursor.bad(problem, _shown(*path))
        spans = [span for piece in found for span in piece.spans]
        return in_file("", found[0].dtype, whole, found[0].file, spans)

    def numbered(self, tree: Tree, path: tuple[str, ...]) -> list[Leaf]:
        """The values of a map whose keys are 0, 1, 2 ..., in that order, whichever they stand in."""
        found = [tree.get(str(number)) for number in range(len(tree))]
        values = [value for value in found if isinstance(value, Leaf)]
        if len(values) != len(tree):
            raise self.cursor.bad("is in pieces whose numbers are not 0, 1, 2 ...", _shown(*path))
        return values

    def named(self, tensor: StoredTensor, path: tuple[str, ...]) -> StoredTensor:
        """A tensor under its name."""
        name = SEPARATOR.join(path)
        if not all(path) or len(name) > MAX_NAME or not name.isprintable():
            raise self.cursor.bad("has a tensor without a printable name of at most 1,024 characters", _shown(*path))
        if SEPARATOR in "".join(path):  # two paths would have one name
            hint = f"Save it as a tree of maps: flax.traverse_util.unflatten_dict(params, sep={SEPARATOR!r}). {_AGAIN}"
            raise self.cursor.unsupported("has a key with a dot in it", hint, name)
        return in_file(name, tensor.dtype, tensor.shape, tensor.file, tensor.spans)

    def unsafe(self, problem: str) -> UnsafeCheckpoint:
        hint = "No model has so many: do not use this file."
        return UnsafeCheckpoint(f"{problem}.", hint=hint, file=str(self.cursor.file.path))


def _shown(*path: str) -> str:
    return printable(SEPARATOR.join(path)[:200]) or "the root"
