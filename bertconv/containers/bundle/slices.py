"""Tensors that were saved in slices: the key of each slice, in a code whose bytes sort as what they say.

The code is TensorFlow's ordered code (tensorflow/core/lib/strings/ordered_code.cc): a zero, the name, the number of
axes, then first index and length along each; a length of -1 is all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bertconv.containers.bundle.entries import Extent
from bertconv.containers.chunks import Box

PREFIX = b"\0"
"""How the keys of slices begin, and no other."""
_MOST = 10


def slice_key(name: bytes, extents: Sequence[Extent]) -> bytes:
    """The key of a slice of a tensor."""
    escaped = name.replace(b"\xff", b"\xff\0").replace(b"\0", b"\0\xff")
    sides = b"".join(_signed(start) + _signed(-1 if length is None else length) for start, length in extents)
    return _natural(0) + escaped + b"\0\1" + _natural(len(extents)) + sides


def box_of(extents: Sequence[Extent], shape: Sequence[int]) -> Box:
    """Where a slice lies in a tensor of as many axes."""
    corner = tuple(start for start, _ in extents)
    return Box(
        corner, tuple(size if length is None else length for (_, length), size in zip(extents, shape, strict=True))
    )


def _natural(value: int) -> bytes:
    found = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(found)]) + found


def _signed(value: int) -> bytes:
    """As many leading ones as there are bytes, then a zero and the number; turned around where it is negative."""
    bits = (~value if value < 0 else value).bit_length()
    length = min(bits // 7 + 1, _MOST)
    found = bytearray(value.to_bytes(_MOST, "big", signed=True)[-length:])
    mark = ((1 << length) - 1) << (16 - length)
    for place, byte in enumerate(mark.to_bytes(2, "big")[: len(found)]):
        found[place] ^= byte
    return bytes(found)
