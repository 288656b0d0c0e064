"""Each thing that our reader of classic HDF5 looks at, made another: it leaves the file to libhdf5, and says why."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints as cp
import h5py
import numpy as np
import pytest

from bertconv.containers.hdf5 import classic, messages, pages, symbols
from bertconv.containers.hdf5.pages import NotClassic

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
NOWHERE = b"\xff" * 8


def build() -> tuple[bytes, dict[str, int]]:
    """A file, and where its parts lie: headers and their messages, trees, tables, heaps and the blocks of names."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as root:
        root.attrs["backend"], root.attrs["any"], root.attrs["all"] = np.bytes_(b"tensorflow"), "text", "text"
        data = root.create_dataset("layer/kernel:0", data=VALUES, track_times=True)
        root["layer/scalar:0"] = np.float64(1)
        for number in range(200):
            root[f"wide/name {number:03}"] = data
        for number in (50, 60):
            del root[f"wide/name {number:03}"]
        root.create_group("empty")
        headers = {name: h5py.h5o.get_info(root[name].id).addr for name in root} | {"root": 96}
        headers |= {name: h5py.h5o.get_info(root[f"layer/{name}:0"].id).addr for name in ("kernel", "scalar")}
    raw = stream.getvalue()
    places = dict(headers)
    for name, address in headers.items():
        for kind, at in messages_of(raw, address):
            places.setdefault(f"{name} {kind}", at)
        if (at := places.get(f"{name} 17")) is not None:
            tree, heap = struct.unpack_from("<QQ", raw, at + 8)
            places |= {f"{name} tree": tree, f"{name} heap": heap, f"{name} names": number_at(raw, heap + 24)}
            places[f"{name} gap"] = places[f"{name} names"] + number_at(raw, heap + 16)
            places[f"{name} child"] = number_at(raw, tree + 32)
    places["wide lower gap"] = places["wide names"] + number_at(raw, places["wide gap"])
    return raw, places


def number_at(raw: bytes, place: int) -> int:
    return int.from_bytes(raw[place : place + 8], "little")


def messages_of(raw: bytes, address: int) -> Iterator[tuple[int, int]]:
    blocks = [(address + 16, *struct.unpack_from("<I", raw, address + 8))]
    for start, length in blocks:
        at = start
        while at < start + length:
            kind, size = struct.unpack_from("<HH", raw, at)
            yield kind, at
            if kind == 16:
                blocks.append(struct.unpack_from("<QQ", raw, at + 8))
            at += 8 + size


RAW, PLACES = build()


def read(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    file = cp.open_file(path)
    try:
        classic.read_classic(file)
    finally:
        file.close()


def left(path: Path, place: int, new: bytes, words: str) -> None:
    assert RAW[place : place + len(new)] != new
    with pytest.raises(NotClassic, match=words):
        read(path, RAW[:place] + new + RAW[place + len(new) :])


def test_the_file_itself_is_read(tmp_path: Path) -> None:
    read(tmp_path / "a.h5", RAW)


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


TEXT = RAW.index(b"tensorflow")
ODD = [
    ("root", -96 + 9, b"\1", "superblock"),
    ("root", -96 + 13, b"\4", "superblock"),
    ("root", -96 + 16, b"\5", "superblock"),
    ("root", -96 + 24, b"\1", "superblock"),
    ("root", -96 + 48, bytes(8), "superblock"),
    ("root", -96 + 40, u64(len(RAW) - 1), "an end at another place"),
    ("root", -96 + 56, b"\x08", "a root with a name"),
    ("root", -96 + 72, b"\2", "a name of another kind"),
    ("root", -96 + 76, b"\1", "a name of another kind"),
    ("root", -96 + 80, b"\1", "a group of two places"),
    ("root", -96 + 64, u64(PLACES["kernel"]) + bytes(4), "a root that is no group"),
    ("root", -96 + 64, u64(len(RAW) - 8), "metadata outside of the file"),
    ("kernel", 0, b"\2", "an object header of another kind"),
    ("kernel", 1, b"\1", "an object header of another kind"),
    ("kernel", 4, bytes(4), "an object header of another kind"),
    ("kernel", 12, b"\1", "an object header of another kind"),
    ("kernel", 8, bytes(4), "a block of a header of an odd size"),
    ("kernel", 8, b"\x0c", "a block of a header of an odd size"),
    ("kernel", 2, b"\xff", "messages that are missing"),
    ("kernel", 2, b"\1", "a message that does not fit"),
    ("kernel 1", 2, b"\4", "a message that does not fit"),
    ("kernel 1", 2, b"\0\xf0", "a message that does not fit"),
    ("kernel 1", 5, b"\1", "reserved bits"),
    ("kernel 1", 7, b"\1", "reserved bits"),
    ("kernel 1", 4, b"\2", "a message of another kind"),
    ("kernel 1", 0, b"\x0b", "a message of another kind"),
    ("kernel 3", 4, b"\3", "a message of another kind"),
    ("kernel 0", 4, b"\1", "a gap with flags"),
    ("root 16", 4, b"\1", "a continuation of another kind"),
    ("kernel 18", 8, b"\2", "a time of another kind"),
    ("kernel 18", 0, b"\x05\0\x08\0\1", "a message that is there twice"),
    ("kernel 5", 8, b"\3", "a fill value of another kind"),
    ("kernel 5", 9, b"\4", "a fill value of another kind"),
    ("kernel 5", 11, b"\0", "a fill value of another kind"),
    ("kernel 5", 12, b"\1", "a fill value of another kind"),
    ("kernel 1", 8, b"\2", "a dataspace of another kind"),
    ("kernel 1", 8 + 8, u64(2), "a dataspace that can grow"),
    ("kernel 1", 9, b"\4\0", "a dataspace without limits"),
    ("kernel 1", 9, b"\4", "a dataspace of an odd size"),
    ("scalar 1", 10, b"\1", "a dataspace without limits"),
    ("kernel 1", 8 + 8, (u64(3) + u64(1 << 40)) * 2, "a dataspace that is too large"),
    ("kernel 3", 8 + 2, b"\x1e", "elements of another kind"),
    ("kernel 8", 8, b"\2", "a layout of another kind"),
    ("kernel 8", 8 + 10, u64(40), "data outside of the file"),
    ("kernel 8", 8 + 2, u64(len(RAW) - 8), "data outside of the file"),
    ("kernel 8", 8 + 2, u64(PLACES["scalar"]), "structures that overlap"),
    ("layer tree", 0, b"t", "a tree of another kind"),
    ("layer tree", 4, b"\1", "a tree of another kind"),
    ("layer tree", 6, b"\x21", "a tree of another kind"),
    ("layer tree", 5, b"\7", "a tree whose root is odd"),
    ("layer tree", 8, bytes(8), "a tree whose root is odd"),
    ("empty tree", 5, b"\1", "a tree of nothing"),
    ("wide child", 5, b"\1", "a tree whose nodes are odd"),
    ("wide child", 8, bytes(8), "a tree whose nodes are odd"),
    ("wide child", 16, NOWHERE, "a tree whose nodes are odd"),
    ("wide child", 6, b"\0\0", "a tree whose nodes are odd"),
    ("wide child", 24, RAW[PLACES["wide child"] + 40 :][:8], "out of order"),
    ("wide tree", 24, RAW[PLACES["wide child"] + 40 :][:8], "a tree whose bounds are odd"),
    ("layer child", 0, b"s", "a table of another kind"),
    ("layer child", 4, b"\2", "a table of another kind"),
    ("layer child", 5, b"\1", "a table of another kind"),
    ("layer child", 6, b"\0", "a table of another kind"),
    ("layer child", 6, b"\x09", "a table of another kind"),
    ("layer child", 8 + 16, b"\2", "a name of another kind"),
    ("layer child", 8, RAW[PLACES["layer child"] + 48 :][:8], "names that are out of order"),
    ("layer child", 8, b"\x09", "a name outside of its heap"),
    ("layer child", 8, b"\0\xf0", "a name outside of its heap"),
    ("layer names", 8, b"k/", "names that are out of order"),
    ("layer names", 8, b".\0", "names that are out of order"),
    ("layer heap", 0, b"h", "a heap of another kind"),
    ("layer heap", 4, b"\1", "a heap of another kind"),
    ("layer heap", 8, b"\x54", "a heap of an odd size"),
    ("layer heap", 8, bytes(8), "a heap of an odd size"),
    ("layer names", 0, b"x", "a heap without the empty name"),
    ("layer heap", 16, b"\xff", "a gap at an odd place"),
    ("layer heap", 16, b"\0\1", "a gap at an odd place"),
    ("layer gap", 8, b"\x08", "a gap that does not fit"),
    ("layer gap", 8, b"\0\1", "a gap that does not fit"),
    ("layer gap", 0, u64(PLACES["layer gap"] - PLACES["layer names"]), "a gap at an odd place"),
    ("wide lower gap", 8, u64(16 * 11), "gaps that overlap"),
]


@pytest.mark.parametrize(("part", "skip", "new", "words"), ODD)
def test_what_is_another(tmp_path: Path, part: str, skip: int, new: bytes, words: str) -> None:
    left(tmp_path / "a.h5", PLACES[part] + skip, new, words)


def test_texts_and_names_of_attributes(tmp_path: Path) -> None:
    left(tmp_path / "a.h5", TEXT + 3, b"\0", "behind its end")
    left(tmp_path / "a.h5", RAW.index(b"all\0\0\0\0\0\x19"), b"any", "there twice")


def test_a_heap_that_is_cut(tmp_path: Path) -> None:
    """The last name has no end."""
    names, size = PLACES["layer names"], number_at(RAW, PLACES["layer heap"] + 8)
    raw = bytearray(RAW)
    raw[names + size - 8 : names + size] = b"x" * 8
    raw[PLACES["layer heap"] + 16 : PLACES["layer heap"] + 24] = u64(1)
    raw[PLACES["layer child"] + 8 : PLACES["layer child"] + 16] = u64(size - 8)
    with pytest.raises(NotClassic, match="a name outside of its heap"):
        read(tmp_path / "a.h5", bytes(raw))


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({17, 18}, "a group of another kind"),
        ({17, 1, 3, 5, 8}, "a group of another kind"),
        ({1, 3, 8}, "a dataset of another kind"),
        ({1, 3, 5, 8, 6}, "a dataset of another kind"),
        (set(), "a dataset of another kind"),
    ],
)
def test_odd_sets_of_messages(monkeypatch: pytest.MonkeyPatch, kinds: set[int], words: str) -> None:
    held = messages.Messages(dict.fromkeys(kinds, bytes(24)), {})
    monkeypatch.setattr(classic, "read_messages", lambda *_: held)
    size_only: Any = SimpleNamespace(size=1000)
    with pytest.raises(NotClassic, match=words):
        classic._Tree(size_only)._read(96)


def test_a_group_whose_message_is_longer() -> None:
    with pytest.raises(NotClassic, match="a group's message"):
        messages.symbols_of(bytes(24))


def attribute(
    name: bytes = b"backend\0",
    kind: bytes = b"\x13\1\0\0\3\0\0\0",
    space: bytes = b"\1" + bytes(7),
    value: bytes = b"abc",
) -> bytes:
    sizes = struct.pack("<HHH", len(name), len(kind), len(space))
    parts = (part + bytes(-len(part) % 8) for part in (name, kind, space, value))
    return b"\1\0" + sizes + b"".join(parts)


def test_the_attribute_itself_is_read() -> None:
    name, known, value = messages._attribute(attribute())
    assert (name, known.shape, known.nbytes, value) == ("backend", (), 3, b"abc")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\2" + attribute()[1:], "an attribute of another kind"),
        (b"\1\1" + attribute()[2:], "an attribute of another kind"),
        (b"\1\0\0\0", "an attribute of another kind"),
        (attribute(b"back\0").replace(b"back\0\0\0\0", b"back\0\0\0x"), "reserved bytes"),
        (attribute()[:20], "an attribute that is cut"),
        (attribute(space=b"\1" + bytes(8)), "an attribute whose dataspace is odd"),
        (attribute(value=b"abc" * 3), "an attribute that does not fit"),
        (attribute(value=b""), "an attribute that does not fit"),
        (attribute(name=b"\0"), "a name that is not whole"),
        (attribute(name=b""), "a name that is not whole"),
        (attribute(name=b"back\0nd\0"), "a name that is not whole"),
        (attribute(name=b"backend"), "a name that is not whole"),
        (attribute(name=b"\xff\0"), "not UTF-8"),
        (attribute(kind=b"\x13\2\0\0\3\0\0\0"), "an attribute of another type"),
        (attribute(kind=b"\x13\1\0\0\0\0\0\0", value=b""), "an attribute of another type"),
        (attribute(kind=b"\x13\1\0\0\3\0\0\0" + bytes(8)), "an attribute of another type"),
    ],
)
def test_odd_attributes(body: bytes, words: str) -> None:
    with pytest.raises(NotClassic, match=words):
        messages._attribute(body)


def reading(path: Path, heap: bytes) -> symbols._Reading:
    path.write_bytes(RAW)
    return symbols._Reading(pages.Pages(cp.open_file(path)), heap)


def test_names_that_lie_in_each_other_are_counted(tmp_path: Path) -> None:
    """A heap of a megabyte could hold a hundred thousand names of a megabyte."""
    made = reading(tmp_path / "a.h5", b"x" * symbols.MOST_NAME + bytes(8))
    assert len(made._name(0)) == symbols.MOST_NAME
    with pytest.raises(NotClassic, match="too much metadata"):
        list(map(made._name, [0] * (pages.MOST_METADATA // symbols.MOST_NAME)))


def test_a_name_is_not_looked_for_in_a_whole_heap(tmp_path: Path) -> None:
    made = reading(tmp_path / "a.h5", b"x" * (symbols.MOST_NAME + 8) + bytes(8))
    assert len(made._name(8)) == symbols.MOST_NAME
    with pytest.raises(NotClassic, match="outside of its heap"):
        made._name(0)
