"""What stands in a bundle's index: one header, and of every tensor its type, shape and place (tensor_bundle.proto)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from bertconv.containers.protobuf import (
    Field,
    WireError,
    content,
    fields,
    number,
    signed,
    write_bytes,
    write_fixed32,
    write_number,
)
from bertconv.containers.stored import ITEM_SIZE, MAX_RANK

HEADER_KEY = b""
STRING = 7
"""The number of the element type of texts."""
DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64", 10: "bool",
    14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
    24: "float8_e5m2", 25: "float8_e4m3fn",
}  # fmt: skip
"""Element types by their numbers (types.proto); all others are of things that are no numbers, or quantised ones."""
CODES = {name: code for code, name in DTYPES.items()}
MAX_SHARDS = 4096
"""Most files of a bundle."""
_VERSION = 1
_FIXED32 = 5

Extent = tuple[int, int | None]
"""First index and length along an axis; None for all of it."""


class BundleHeader(NamedTuple):
    """Of a bundle.

    Attributes:
        shards: number of its files of tensors.
        big_endian: whether elements lie in the order of other processors.
        known: whether its version is one that is read.
    """

    shards: int
    big_endian: bool
    known: bool


class BundleEntry(NamedTuple):
    """Of a tensor, or of a slice of one.

    Attributes:
        code: number of its element type.
        shape: sizes.
        shard: number of the file that has it.
        offset: its first byte there.
        size: in bytes.
        checksum: masked crc32c of its bytes.
        slices: what the tensor was cut into; it has no bytes of its own then.
    """

    code: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    slices: tuple[tuple[Extent, ...], ...] = ()

    @property
    def dtype(self) -> str:
        """Name of the element type; empty for what is no number."""
        return DTYPES.get(self.code, "")

    @property
    def nbytes(self) -> int:
        """Bytes that its shape asks for."""
        return math.prod(self.shape) * ITEM_SIZE[self.dtype]


def read_header(data: bytes) -> BundleHeader:
    """The header; WireError where it is none."""
    versions: list[bool] = []
    found = _numbers(data, {1: number, 2: number}, {3: lambda one: versions.append(_is_known(one))})
    return BundleHeader(found.get(1, 0), found.get(2, 0) != 0, all(versions))


def read_entry(data: bytes) -> BundleEntry:
    """One entry; WireError where it is none."""
    shapes: list[tuple[int, ...]] = []
    slices: list[tuple[Extent, ...]] = []
    found = _numbers(
        data,
        {1: number, 3: number, 4: number, 5: number, 6: _fixed},
        {2: lambda one: shapes.append(_shape(one)), 7: lambda one: slices.append(_extents(one))},
    )
    code, shard, offset, size, checksum = (found.get(key, 0) for key in (1, 3, 4, 5, 6))
    if max(shard, offset, size) >> 62:
        raise WireError("has a place that no file has")
    if len(shapes) > 1:
        raise WireError("has two shapes")
    return BundleEntry(code, shapes[0] if shapes else (), shard, offset, size, checksum, tuple(slices))


def header_bytes(shards: int) -> bytes:
    """The header of a bundle that is written."""
    return write_number(1, shards) + write_bytes(3, write_number(1, _VERSION))


def entry_bytes(entry: BundleEntry) -> bytes:
    """An entry that is written; it has no slices."""
    dims = b"".join(write_bytes(2, write_number(1, size)) for size in entry.shape)
    return (
        write_number(1, entry.code)
        + write_bytes(2, dims)
        + write_number(3, entry.shard)
        + write_number(4, entry.offset)
        + write_number(5, entry.size)
        + write_fixed32(6, entry.checksum)
    )


def _numbers(
    data: bytes,
    wanted: Mapping[int, Callable[[Field], int]],
    messages: Mapping[int, Callable[[bytes], None]] = MappingProxyType({}),
) -> dict[int, int]:
    """The numbers of a message that has each of them once at most, beside messages, and nothing else."""
    found: dict[int, int] = {}
    for field in fields(data):
        if field.number in messages:
            messages[field.number](content(data, field))
        elif field.number not in wanted or field.number in found:
            what = "twice" if field.number in found else "which is not known"
            raise WireError(f"has a field {field.number} {what}")
        else:
            found[field.number] = wanted[field.number](field)
    return found


def _fixed(field: Field) -> int:
    if field.kind != _FIXED32:
        raise WireError("has a checksum of another kind")
    return field.value


def _is_known(data: bytes) -> bool:
    """Whether readers of the one version that there is may read it."""
    bad = [number(field) for field in fields(data) if field.number == 3]
    oldest = [number(field) for field in fields(data) if field.number == 2]
    return not bad and all(one <= _VERSION for one in oldest)


def _shape(data: bytes) -> tuple[int, ...]:
    sizes: list[int] = []
    _numbers(data, {}, {2: lambda dim: sizes.append(_numbers(dim, {1: signed}).get(1, 0))})
    if len(sizes) > MAX_RANK or any(one < 0 for one in sizes):
        raise WireError("has a shape that is none")
    if math.prod(max(one, 1) for one in sizes) >= 1 << 59:
        raise WireError("has a shape that no machine can hold")
    return tuple(sizes)


def _extents(data: bytes) -> tuple[Extent, ...]:
    found: list[Extent] = []
    _numbers(data, {}, {1: lambda extent: found.append(_extent(extent))})
    if len(found) > MAX_RANK:
        raise WireError("has a slice that is none")
    return tuple(found)


def _extent(data: bytes) -> Extent:
    facts = _numbers(data, {1: signed, 2: signed})
    start, length = facts.get(1, 0), facts.get(2)
    if start < 0 or (length is not None and length < 0) or (length is None and start):
        raise WireError("has a slice that is none")
    return start, length
