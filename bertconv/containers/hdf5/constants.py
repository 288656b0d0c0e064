"""Numbers of classic HDF5 that its reader and its writer share, and element types as HDF5 spells them.

Source: sections II.A, III.A.1, III.B to III.D and IV.A.2 of the HDF5 File Format Specification 3.0, docs.hdfgroup.org.
Tests compare both sides with libhdf5: a wrong number here cannot make them agree with each other alone.
"""

from __future__ import annotations

from struct import Struct

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""How a file begins."""
SUPERBLOCK = 96
"""Bytes of the superblock."""
NOWHERE = (1 << 64) - 1
"""The address of what has no place in the file."""

NIL, SPACE, TYPE, FILL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS, TIME = 0, 1, 3, 5, 8, 12, 16, 17, 18
"""Kinds of messages in an object header."""

LEAF_K, NODE_K = 4, 16
"""What a superblock says of them: half of the entries that fit into a leaf (symbol table node) and into a B-tree node.

These are libhdf5's own defaults.
"""
PER_LEAF, PER_NODE = 2 * LEAF_K, 2 * NODE_K
"""Entries that fit into a leaf and into a B-tree node."""
HEAP_HEADER, ENTRY_SIZE = 32, 40
"""Bytes of a heap's header and of an entry in a leaf."""
LEAF_SIZE, NODE_SIZE = 8 + PER_LEAF * ENTRY_SIZE, 24 + 8 * (2 * PER_NODE + 1)
"""Bytes of a leaf and of a B-tree node."""
CACHED_NOTHING, CACHED_GROUP = 0, 1
"""What an entry says besides an address: nothing, or where a group's tree and heap lie."""
NO_FREE_BLOCK = 1
"""The end of the list of a heap's gaps."""


def _float(size: int, sign: int, exponent: int, bias: int) -> bytes:
    mantissa = sign - exponent
    fields = Struct("<BBBBIHHBBBBI").pack
    return fields(0x11, 0x20, sign, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)


def _integer(size: int, *, signed: bool) -> bytes:
    return Struct("<BBBBIHH").pack(0x10, 8 if signed else 0, 0, 0, size, 0, 8 * size)


NUMBERS = {
    "float16": _float(2, 15, 5, 15), "float32": _float(4, 31, 8, 127), "float64": _float(8, 63, 11, 1023),
    "bfloat16": _float(2, 15, 8, 127),
    **{f"int{8 * size}": _integer(size, signed=True) for size in (1, 2, 4, 8)},
    **{f"uint{8 * size}": _integer(size, signed=False) for size in (1, 2, 4, 8)},
}  # fmt: skip
"""Element type -> the message that states it: section IV.A.2.d."""

OPAQUE = bytes((0x15, 0, 0, 0, 2, 0, 0, 0))
"""Two bytes of which HDF5 knows nothing, without a tag: what h5py makes of numpy's `V2`."""
OPAQUE_DTYPE, OPAQUE_ATTRIBUTE = "bfloat16", "dtype"
"""What Keras 3 keeps so, and the attribute of the dataset in which it says that."""

HEAP_START, HEAP_LEAST = b"GCOL\1\0\0\0", 4096
"""How a collection of the global heap begins, and the smallest that libhdf5 makes [III.E]."""
