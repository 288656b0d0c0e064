"""HDF5 files, each a whole BERT that would convert but for one thing; case by case, with how it is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5t, h5z
from hdf5_model import (
    COUNT,
    LAYER,
    NAME,
    PLACE,
    VALUES,
    Change,
    case,
    changed,
    damaged,
    patched,
    raw_dataset,
    replaced,
    swap,
)
from hostile_case import Case
from hostile_hdf5_bytes import FILES, RANGES
from hostile_hdf5_links import LINKED
from hostile_hdf5_traps import TRAPS

from bertconv.errors import BertconvError, DamagedCheckpoint, MissingTensors, ShapeMismatch, UnknownTensors

GIGABYTE = 1 << 30
CHUNK = 1 << 22


# Bytes that are packed, spread or absent


def packed(level: int = 1) -> Change:
    """A gigabyte of zeros in a file of a megabyte, or of kilobytes where it is packed several times."""

    def change(root: h5py.File, _: Path) -> None:
        made = raw_dataset(
            root, shape=(GIGABYTE // 4,), layout=h5d.CHUNKED, early=False, chunk=(CHUNK // 4,),
            filters=(h5z.FILTER_DEFLATE,) * level,
        )  # fmt: skip
        raw = bytes(CHUNK)
        for _ in range(level):
            raw = zlib.compress(raw)
        for place in range(0, GIGABYTE, CHUNK):
            made.id.write_direct_chunk((place // 4,), raw)

    return change


def made(**options: object) -> Callable[[Path], bytes]:
    """The victim as h5py writes it with these options."""
    return replaced(lambda root, _: root.create_dataset(PLACE, data=VALUES, **options))


def empty(*shape: int) -> Callable[[Path], bytes]:
    return replaced(lambda root, _: root.create_dataset(PLACE, shape, "<f4"))


def raw(**options: object) -> Callable[[Path], bytes]:
    return replaced(lambda root, _: raw_dataset(root, **options))


def filtered(number: int) -> Callable[[Path], bytes]:
    """A file that asks for a filter: a number for which the library would load a plugin, which is a program."""

    def edit(content: bytearray) -> None:
        # the message of one filter, version 1: its number, no name, must be there, one value
        message = struct.pack("<HHHH", h5z.FILTER_DEFLATE, 8, h5z.FLAG_OPTIONAL, 1)
        swap(content, message, struct.pack("<HHHH", number, 8, 0, 1))

    def make(canary: Path) -> bytes:
        content = raw(layout=h5d.CHUNKED, early=False, chunk=(COUNT,), filters=(h5z.FILTER_DEFLATE,))(canary)
        return patched(edit, content)(canary)

    return make


PACKED = "is chunked or compressed"
FORMS = {
    "64 GiB declared": case(empty(1 << 20, 1 << 14), "stores 0", NAME, DamagedCheckpoint, "bomb"),
    "2^59 elements": case(empty(1 << 30, 1 << 29), "stores 0", NAME, DamagedCheckpoint, "bomb"),
    "never written": case(empty(COUNT), "stores 0", NAME, DamagedCheckpoint, "zeros"),
    "chunks never written": case(raw(layout=h5d.CHUNKED, early=False, chunk=(5,)), PACKED, control="zeros"),
    "chunks": case(made(chunks=(5,)), PACKED),
    "without an end": case(made(maxshape=(None,)), PACKED),
    "compact": case(replaced(lambda root, _: raw_dataset(root, layout=h5d.COMPACT).write_direct(VALUES)), PACKED),
    "a gigabyte of zeros": case(replaced(packed()), PACKED, control="bomb"),
    "a gigabyte packed four times": case(replaced(packed(4)), PACKED, control="bomb"),
    "gzip": case(made(compression="gzip"), PACKED),
    "lzf": case(made(compression="lzf"), PACKED),
    "checksummed": case(made(fletcher32=True), PACKED),
    "shuffled": case(made(shuffle=True, compression="gzip"), PACKED),
    "scaled": case(made(scaleoffset=2), PACKED),
    "szip": case(filtered(h5z.FILTER_SZIP), PACKED),
    "zstd of a plugin": case(filtered(32015), PACKED),
    "a filter of no name": case(filtered(511), PACKED),
    "no space": damaged(replaced(lambda root, _: root.create_dataset(PLACE, data=h5py.Empty("<f4"))), "stores 0", NAME),
}  # fmt: skip


# Elements that are no plain numbers


NUMBERS = "does not hold little-endian numbers"


def kind(dtype: object) -> Case:
    return case(replaced(lambda root, _: root.create_dataset(PLACE, (COUNT,), dtype)), NUMBERS)


def swapped(dtype: str) -> Case:
    return case(replaced(lambda root, _: root.create_dataset(PLACE, data=VALUES, dtype=dtype)), NUMBERS)


def odd(base: h5t.TypeID, **changes: tuple[int, ...]) -> Case:
    """A type of numbers that differs in one property; h5py would convert them, their bits are other numbers."""

    def change(root: h5py.File, _: Path) -> None:
        each = base.copy()
        for name, arguments in changes.items():
            getattr(each, name)(*arguments)
        raw_dataset(root, each)

    return case(replaced(change), "of an unusual kind")


TYPES = {
    **{f"big-endian {each}": swapped(f">{each}") for each in ("f2", "f4", "f8", "i4")},
    "compound": kind(np.dtype([("a", "<f4"), ("b", "<i4")])),
    "complex": kind("<c8"),
    "text": kind("S4"),
    "text of any length": kind(h5py.string_dtype()),
    "lists of any length": kind(h5py.vlen_dtype(np.dtype("<f4"))),
    "references": kind(h5py.ref_dtype),
    "references to regions": kind(h5py.regionref_dtype),
    "opaque": kind("V4"),
    "true and false": kind("?"),
    "enumerated": kind(h5py.enum_dtype({"A": 1})),
    "arrays": kind(np.dtype(("<f4", (2,)))),
    "bits": case(raw(kind=h5t.STD_B32LE), NUMBERS),
    "times": case(raw(kind=h5t.UNIX_D32LE), NUMBERS),
    "another bias": odd(h5t.IEEE_F32LE, set_ebias=(100,)),
    "another division": odd(h5t.IEEE_F32LE, set_fields=(31, 20, 11, 0, 20)),
    "no hidden bit": odd(h5t.IEEE_F32LE, set_norm=(h5t.NORM_NONE,)),
    "24 bits": odd(h5t.IEEE_F32LE, set_fields=(23, 15, 8, 0, 15), set_precision=(24,)),
    "31 bits of an integer": odd(h5t.STD_I32LE, set_precision=(31,)),
}


# Names


def named(name: bytes, shown: str | None = None, words: str = "printable text") -> Case:
    """One dataset more, of a name that no program gives."""
    change: Change = lambda root, _: h5d.create(root[LAYER].id, name, h5t.IEEE_F32LE, h5py.h5s.create_simple((1,)))  # noqa: E731
    return damaged(changed(change), words, shown or name.decode())


def twice(canary: Path) -> bytes:
    """Two datasets of one name in one group."""
    content = changed(lambda root, _: root.__setitem__(PLACE.replace(":0", ":1"), VALUES[::-1]))(canary)
    return patched(lambda content: swap(content, b"bias:1\0", b"bias:0\0"), content)(canary)


NAMES = {
    "not UTF-8": named(b"\xff\xfe", "b'\\xff\\xfe'"),
    "control characters": named(b"\x1b[2J"),
    "a newline": named(b"a\nb"),
    "text turned around": named("a\u202eb".encode()),
    "2,000 characters": named(b"a" * 2000, "a" * 100),
    "a name twice": case(twice, "is a duplicate in its group", NAME, DamagedCheckpoint),
}  # fmt: skip


CASES: dict[str, Case] = {
    **LINKED,
    **{
        f"{group}: {name}": each
        for group, cases in (
            ("form", FORMS), ("type", TYPES), ("name", NAMES), ("file", FILES), ("range", RANGES), ("trap", TRAPS),
        )
        for name, each in cases.items()
    },
}  # fmt: skip


# Sound to the reader: it is the table of tensors that they do not fit


def extra(name: str) -> Callable[[Path], bytes]:
    """A name that would be a path, were it ever used as such: it is that of a tensor that no BERT has."""
    return changed(lambda root, _: root.__setitem__(f"{LAYER}/{name}", VALUES))


MISFITS: dict[str, tuple[Callable[[Path], bytes], type[BertconvError]]] = {
    "no elements": (empty(0), ShapeMismatch),
    "no dimension": (replaced(lambda root, _: root.__setitem__(PLACE, VALUES[0])), ShapeMismatch),
    "a name upwards": (extra("../../../secret"), UnknownTensors),
    "a name of dots": (extra("..."), UnknownTensors),
    "a name with a backslash": (extra("a\\b"), UnknownTensors),
    "a name cut by a NUL": (patched(lambda content: swap(content, b"\0bias:0\0", b"\0bia\0:0\0")), MissingTensors),
    "a second name": (changed(lambda root, _: root.__setitem__(f"{LAYER}/again", root[PLACE])), UnknownTensors),
}
"""How to make the file, and the error of a conversion."""
