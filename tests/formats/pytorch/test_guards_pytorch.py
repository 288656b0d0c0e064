"""Checks of torch files that no other test would miss: each file here is refused by one part of one check."""

from __future__ import annotations

import struct

import pytest
from test_damage import change, patched
from torch_cases import (
    FOUR,
    GOOD,
    MAGIC,
    SYSTEM,
    VERSION,
    Record,
    archive,
    check_refused,
    good_records,
    group,
    integer,
    legacy,
    mapping,
    name,
    pickled,
    storage,
    tensor,
    text,
    zipped,
)

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

D, U, S = DamagedCheckpoint, UnsupportedCheckpoint, UnsafeCheckpoint


def large_directory() -> bytes:
    """The directory is all of the file: 65 MiB for four records."""
    records = [*good_records()[:2], Record("a/data/0", bytes(65 << 20))]
    size = len(archive(records)) - 98  # what comes before the end records
    return archive(records, start=0, start64=0, size=size, size64=size)


def doubled() -> bytes:
    """A record with two fields of 64-bit sizes."""
    return archive(change(2, packed=16, size=2**32 - 1, local_size=16, extra=struct.pack("<2HQ", 1, 8, 16) * 2))


def longer(more: bytes, records: int) -> bytes:
    """An archive whose directory goes on, and says that it has so many records more."""
    data = archive(good_records(), wide=False)
    signature, *_, count, size, start, _ = struct.unpack("<4s4H2LH", data[-22:])
    numbers = (count + records, count + records, size + len(more), start)
    return data[:-22] + more + struct.pack("<4s4H2LH", signature, 0, 0, *numbers, 0)


def on_another_disk() -> bytes:
    data = archive(good_records())
    return patched(data, data.rindex(b"PK\1\2") + 34, b"\1")


NAMED = b"PK\1\2" + bytes(24) + b"\x0a" + bytes(17)
"""A record of the directory without the ten letters of its name."""
ARCHIVES = {
    "a beginning alone": (lambda: b"PK\3\4", D, "too short"),
    "a comment that is absent": (lambda: patched(archive(good_records(), wide=False), -2, b"\5"), D, "after the end"),
    "a 64-bit end of another length": (lambda: patched(archive(good_records()), -94, b"\x2d"), D, "no 64-bit zip end"),
    "a number beyond 32 bits": (lambda: archive(good_records(), wide=False, count=0xFFFF), D, "lacks its 64-bit"),
    "half a record of the directory": (lambda: longer(b"PK\1\2", 1), D, "fewer records than it says"),
    "a record of the directory that is none": (lambda: longer(bytes(46), 1), D, "fewer records than it says"),
    "a record without its name": (lambda: longer(NAMED, 1), D, "ends within a record"),
    "bytes behind the last record": (lambda: longer(b"more", 0), D, "more bytes than records"),
    "a packed size of its own": (lambda: archive(change(2, packed=15, local_size=16)), D, "sizes contradict"),
    "a record on another disk": (on_another_disk, D, "sizes contradict"),
    "a directory of 65 MiB": (large_directory, S, "records in a directory of"),
    "a directory on another disk": (lambda: patched(archive(good_records(), wide=False), -16, b"\1"), D, "several"),
    "a directory with records elsewhere": (
        lambda: patched(archive(good_records(), wide=False), -14, b"\1"), D, "several",
    ),
    "a record with a long name": (lambda: archive([*good_records(), Record("a/" + "x" * 4095)]), D, "within a record"),
    "two fields of sizes": (doubled, D, "extra field"),
    "a damaged record beside the weights": (
        lambda: archive([*good_records(), Record("a/.data/serialization_id", b"1", crc=7)]), D, "wrong checksum",
    ),
    "a record that is the top folder": (lambda: archive([*good_records(), Record("a")]), D, "one top folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(tmp_path, case):
    make, kind, words = ARCHIVES[case]
    assert words in check_refused(tmp_path, make(), kind).message


def storage_of(*items: bytes) -> bytes:
    return group(text("storage"), name("torch", "FloatStorage"), *items) + b"Q"


def called(function: str, *arguments: bytes, module: str = "torch._utils") -> bytes:
    return name(module, function) + group(*arguments) + b"R"


def on(root: bytes, *more: bytes, version: str = "_rebuild_tensor_v2") -> bytes:
    """A tensor of four elements, with whatever arguments come after the hooks."""
    return called(version, root, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", b"}", *more)


KEY, CPU, COUNT = text("0"), text("cpu"), integer(4)
NOTHING = storage("0", 4)
UNTYPED = group(text("storage"), name("torch.storage", "UntypedStorage"), KEY, CPU, b"K\x10") + b"Q"
FROM_TYPE, TENSOR_TYPE = "_rebuild_from_type_v2", name("torch", "Tensor")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
TRUE, ONE = b"\x88", b"K\x01"

INERT = group(text("storage"), name("argparse", "Namespace"), KEY, CPU, b"K\x10") + b"Q"

PICKLES: dict[str, tuple[bytes, type[BertconvError], str]] = {
    "a storage that says it is none": (
        group(text("file"), name("torch", "FloatStorage"), KEY, CPU, COUNT) + b"Q", D, "not a storage",
    ),
    "a storage of a harmless class": (on(INERT), S, "argparse.Namespace"),
    "a storage in a place that is a number": (storage_of(KEY, ONE, COUNT), D, "key or place"),
    "a tensor of nothing": (on(b"N"), D, "without a storage"),
    "a storage of four facts": (storage_of(KEY, CPU), D, "not a storage"),
    "a storage of seven facts": (storage_of(KEY, CPU, COUNT, b"N", b"N"), D, "not a storage"),
    "a storage with a long key": (storage("k" * 1025, 4), D, "key or place"),
    "a view of two facts": (storage_of(KEY, CPU, COUNT, group(text("v"), ONE)), D, "not a triple"),
    "a view of four facts": (storage_of(KEY, CPU, COUNT, group(text("v"), ONE, ONE, ONE)), D, "not a triple"),
    "metadata that is no dict": (on(NOTHING, TRUE), U, "lazy conjugate"),
    "metadata that is an empty tuple": (on(NOTHING, b")"), U, "lazy conjugate"),
    "an element type that is a function": (
        on(UNTYPED, name("collections", "OrderedDict"), version="_rebuild_tensor_v3"), D, "element type is not one",
    ),
    "a second element type": (
        on(NOTHING, name("torch", "float32"), version="_rebuild_tensor_v3"), D, "element type is not one",
    ),
    "a parameter of a tensor alone": (called("_rebuild_parameter", tensor()), D, "without a tensor"),
    "a tensor of a function that is none": (
        called(FROM_TYPE, b"N", TENSOR_TYPE, b")", b"}", module="torch._tensor"), D, "unknown arguments",
    ),
    "a tensor of a type that is none": (
        called(FROM_TYPE, REBUILD, b"N", b")", b"}", module="torch._tensor"), D, "unknown arguments",
    ),
    "a tensor that a dict is made of": (
        called(FROM_TYPE, name("collections", "OrderedDict"), TENSOR_TYPE, b")", b"}", module="torch._tensor"),
        S, "collections.OrderedDict",
    ),
    "a dict of two lists": (called("OrderedDict", b"]", b"]", module="collections"), D, "unknown arguments"),
    "a dict of a pair of one": (name("collections", "OrderedDict") + b"](K\x01\x85e\x85R", D, "list of pairs"),
    "a dict of a pair of three": (name("collections", "OrderedDict") + b"](NNN\x87e\x85R", D, "list of pairs"),
    "a shape of nothing": (name("torch", "Size") + b")R", D, "without a tuple"),
    "a shape of two tuples": (called("Size", b")", b")", module="torch"), D, "without a tuple"),
    "a number as bytes": (called("encode", ONE, text("latin1"), module="_codecs"), S, "_codecs.encode"),
    "bytes in a number": (called("encode", text("x"), ONE, module="_codecs"), S, "_codecs.encode"),
    "a name that ends in a number": (text("os") + ONE + b"\x93", D, "name is not text"),
    "a name that begins with a number": (ONE + text("x") + b"\x93", D, "name is not text"),
    "a frame longer than the file": (b"\x95" + b"\xff" * 8 + b"N", D, "ends too early"),
    "a memo of 500,001 values": (b"N" + b"\x94" * 500_001, S, "remembers more than"),
    "a name without an end": (b"c" + b"x" * 5000, D, "a name without an end"),
    "INST of a harmless class": (b"(iargparse\nNamespace\n", S, "argparse.Namespace"),
    "OBJ of a harmless class": (b"(" + name("argparse", "Namespace") + b"o", S, "argparse.Namespace"),
    "a number of ten bytes": (b"\x8a\x0a" + bytes(10), S, "more than 64 bits"),
    "a later protocol": (b"\x80\x06N", U, "protocol 6"),
    "an earlier protocol": (b"\x80\x01N", U, "protocol 1"),
    "a module": (name("torch.nn.modules.linear", "Linear"), U, "whole module"),
    "a long name": (text("a" * 600) + text("b" * 600) + b"\x93", D, "name is not text"),
}  # fmt: skip


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize("case", PICKLES)
def test_pickles(tmp_path, case, make):
    value, kind, words = PICKLES[case]
    assert words in check_refused(tmp_path, make(pickled(mapping(w=tensor(), x=value))), kind).message


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize("value", [b"(" + mapping(w=tensor()), mapping(w=tensor()) + b"N"])
def test_pickles_that_leave_more_than_their_value(tmp_path, value, make):
    assert "half built" in check_refused(tmp_path, make(pickled(value)), DamagedCheckpoint).message


def test_names_are_work(tmp_path):
    names = b"".join(name("torch.optim", f"A{number}") + b"0" for number in range(25_000))
    error = check_refused(tmp_path, zipped(pickled(names + mapping(w=tensor()))), UnsafeCheckpoint)
    assert "steps" in error.message


ZERO = text("0")
LISTED = pickled(b"](" + ZERO + b"e")
MORE = struct.pack("<q", 4) + FOUR
STREAMS = {
    "a version that only equals the number": (b"\x80\x02G" + struct.pack(">d", 1001) + b".", LISTED, "unknown version"),
    "another version": (b"\x80\x02M\xea\x03.", LISTED, "unknown version"),
    "a tuple of storages": (VERSION, pickled(b"(" + ZERO + b"t"), "no list of storages"),
    "a number among the storages": (VERSION, pickled(b"](" + ZERO + ONE + b"e"), "not a key"),
    "a storage twice": (VERSION, pickled(b"](" + ZERO + ZERO + b"e"), "one key twice"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_legacy_streams(tmp_path, case):
    version, keys, words = STREAMS[case]
    data = MAGIC + version + SYSTEM + GOOD + keys + MORE * (2 if "twice" in case else 1)
    assert words in check_refused(tmp_path, data, DamagedCheckpoint).message
