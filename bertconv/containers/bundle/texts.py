"""Tensors of texts in a bundle: their lengths, a checksum of these, then the texts (tensor_bundle.cc)."""

from __future__ import annotations

from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.entries import STRING, BundleEntry
from bertconv.containers.protobuf import WireError, read_varint, varint

_LONG = 1 << 32


def read_texts(data: bytes, count: int) -> tuple[list[bytes], int]:
    """The texts of a tensor, and its masked checksum; WireError where it holds none.

    Args:
        data: its bytes.
        count: how many elements it has.
    """
    if count > len(data):
        raise WireError("has fewer bytes than texts")
    lengths, at = [], 0
    for _ in range(count):
        length, at = read_varint(data, at)
        lengths.append(length)
    if sum(lengths) + 4 != len(data) - at:
        raise WireError("has texts that do not end where they should")
    sizes = b"".join(map(_size, lengths))
    if masked([sizes]) != int.from_bytes(data[at : at + 4], "little"):
        raise WireError("has texts whose lengths differ from their checksum")
    rest = at + 4
    texts = []
    for length in lengths:
        texts.append(data[rest : rest + length])
        rest += length
    return texts, masked([sizes, data[at:]])


def write_text(value: bytes, shard: int, offset: int) -> tuple[bytes, BundleEntry]:
    """A scalar: its bytes, and its entry where they lie at an offset of a shard."""
    size = _size(len(value))
    behind = masked([size]).to_bytes(4, "little") + value
    data = varint(len(value)) + behind
    return data, BundleEntry(STRING, (), shard, offset, len(data), masked([size, behind]))


def _size(length: int) -> bytes:
    """A length as it counts in checksums."""
    return length.to_bytes(4 if length < _LONG else 8, "little")
