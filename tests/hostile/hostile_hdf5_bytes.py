"""HDF5 files of which the bytes are wrong: cut, patched, with something in front, or weights where they cannot lie."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
from hdf5_model import NAME, PLACE, SOUND, VALUES, case, damaged, patched, swap, whole

from bertconv.errors import DamagedCheckpoint

with h5py.File(io.BytesIO(SOUND)) as _root:
    OFFSET: int = _root[PLACE].id.get_offset()
    KEY: int = _root[PLACE.replace("query", "key")].id.get_offset()
LAYOUT = struct.pack("<BBQQ", 3, 1, OFFSET, VALUES.nbytes)
"""The message that says where the victim's bytes lie: version, contiguous, offset, size."""


# The file


def zip_of(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as writer:
        writer.writestr(name, "import os")
    return stream.getvalue()


def behind(front: bytes) -> Callable[[Path], bytes]:
    """A file with something else in front: HDF5 begins at 512."""
    return lambda _: front + whole(userblock=512)[len(front) :]


def at(place: int, new: bytes, model: bytes = SOUND) -> Callable[[Path], bytes]:
    def edit(content: bytearray) -> None:
        content[place : place + len(new)] = new

    return patched(edit, model)


def being_written(_: Path) -> bytes:
    """A file as it lies there while another program writes to it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(whole(libver="latest"))
        with h5py.File(path, "r+", libver="latest") as root:
            root.swmr_mode = True
            return path.read_bytes()


def cut(size: int, model: bytes = SOUND) -> Callable[[Path], bytes]:
    return lambda _: model[:size]


END = struct.Struct("<Q")
EARLY = "bytes too early"
FILES = {
    "a script in front": damaged(behind(b"#!/bin/sh\nexit\n"), "neither"),
    "a page in front": damaged(behind(b"<!doctype html>"), "HTML page"),
    "a zip in front": damaged(behind(zip_of("a/data.pkl")), ""),
    "nothing in front": damaged(behind(b""), ""),
    "a zip behind": damaged(lambda _: SOUND + zip_of("a/data.pkl"), "behind its end"),
    "a zip behind, latest version": damaged(lambda _: whole(libver="latest") + zip_of("a/data.pkl"), "behind its end"),
    "a byte behind": damaged(lambda _: SOUND + b"\0", "behind its end"),
    "being written": damaged(being_written, "not closed"),
    "only a signature": damaged(cut(8)),
    "half a superblock": damaged(cut(48)),
    "only a superblock": damaged(cut(96), EARLY),
    "a third": damaged(cut(len(SOUND) // 3), EARLY),
    "its last byte missing": damaged(cut(len(SOUND) - 1), EARLY),
    "last byte missing, latest": damaged(cut(len(whole(libver="latest")) - 1, whole(libver="latest")), EARLY),
    "an end beyond it": damaged(at(40, END.pack(len(SOUND) + 1)), EARLY),
    "an end of 2^63": damaged(at(40, END.pack(1 << 63)), EARLY),
    "an end before its data": damaged(at(40, END.pack(OFFSET)), "behind its end"),
    "an end of nothing": damaged(at(40, END.pack(0)), "behind its end"),
    "flags of no meaning": damaged(at(20, b"\xff" * 4)),
    "version 9": damaged(at(8, b"\x09")),
    "offsets of no bytes": damaged(at(13, b"\0")),
    "offsets of 255 bytes": damaged(at(13, b"\xff")),
    "a base beyond it": damaged(at(24, END.pack(1 << 40))),
    "no root": damaged(at(64, b"\xff" * 8)),
    "a root beyond it": damaged(at(64, END.pack(1 << 40))),
    "a root in the weights": damaged(at(64, END.pack(OFFSET))),
    "a wrong checksum": damaged(patched(lambda content: swap(content, b"OHDR", b"\xff", 0, 8), whole(libver="latest"))),
    "no tree": damaged(patched(lambda content: swap(content, b"TREE", b"TREX"))),
    "no names": damaged(patched(lambda content: swap(content, b"HEAP", b"HEAX"))),
    "no nodes": damaged(patched(lambda content: swap(content, b"SNOD", b"SNOX"))),
}


# Where the bytes lie


def placed(offset: int, size: int = VALUES.nbytes) -> Callable[[Path], bytes]:
    return patched(lambda content: swap(content, LAYOUT, struct.pack("<BBQQ", 3, 1, offset, size)))


SIZE = "invalid dataset size"
"""libhdf5's own words: it looks at most of this when it opens a dataset."""
RANGES = {
    "over the end": damaged(placed(len(SOUND) - 4), SIZE, NAME),
    "beyond the end": damaged(placed(1 << 40), SIZE, NAME),
    "around the end of numbers": damaged(placed(2**64 - 8), SIZE, NAME),
    "at 2^63": damaged(placed(1 << 63), SIZE, NAME),
    "nowhere": case(placed(2**64 - 1), "stores 0", NAME, DamagedCheckpoint, "zeros"),
    "in the superblock": damaged(placed(0)),
    "over another's": damaged(placed(KEY + 4), "shares bytes", NAME),
    "too few bytes": damaged(placed(OFFSET, VALUES.nbytes - 4), "but stores 136", NAME),
    "too many bytes": damaged(placed(OFFSET, VALUES.nbytes + 4), "but stores 144", NAME),
    "2^63 bytes": damaged(placed(OFFSET, 1 << 63), "but stores 9,223", NAME),
}
