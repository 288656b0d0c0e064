"""HDF5 files that the library itself falls into, and files that are read although they hold traps elsewhere."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import h5py
import numpy as np
from h5py import h5d, h5o, h5s, h5t
from hdf5_model import (
    COUNT,
    LAYER,
    PLACE,
    SOUND,
    VALUES,
    Change,
    case,
    changed,
    damaged,
    patched,
    replaced,
    swap,
    whole,
)
from hostile_case import Case
from hostile_hdf5_links import crowd, fan, outside

from bertconv.errors import UnsafeCheckpoint

# What the library loops, crashes or drowns in

TREE, HEAP = struct.unpack_from("<QQ", SOUND, 80)
"""Where the root's tree of names and its heap of names lie: the superblock of version 0 says so, and ends with it."""
SUPERBLOCK_END = 40
"""Where it states the file's size."""


def tree_fan(levels: int) -> Callable[[Path], bytes]:
    """A tree of which every node has 32 times the same child: 32^levels times the root's names, in a few kilobytes."""

    def edit(raw: bytearray) -> None:
        first, _, last = struct.unpack_from("<QQQ", raw, TREE + 24)
        child = TREE
        for level in range(1, levels + 1):
            node = b"TREE" + struct.pack("<BBHqq", 0, level, 32, -1, -1)
            node += struct.pack("<QQ", first, child) * 32 + struct.pack("<Q", last)
            raw.extend(bytes(-len(raw) % 8))
            child = len(raw)
            raw.extend(node)
        for _ in range(2):  # the superblock and the root's own header
            swap(raw, struct.pack("<QQ", TREE, HEAP), struct.pack("<QQ", child, HEAP))
        struct.pack_into("<Q", raw, SUPERBLOCK_END, len(raw))

    return patched(edit)


def free_loop(raw: bytearray) -> None:
    """The first free block of a heap is followed by itself."""
    _, free, place = struct.unpack_from("<QQQ", raw, HEAP + 8)
    struct.pack_into("<QQ", raw, place + free, free, 16)


def typed(root: h5py.File, _: Path) -> None:
    """The victim has a type that is stored by itself, and stands under no name."""
    root["kind"] = np.dtype("<f4")
    root.create_dataset(PLACE, data=VALUES, dtype=root["kind"])
    del root["kind"]


def type_loop(canary: Path) -> bytes:
    """A dataset's type is said to be stored where the dataset itself is."""
    content = replaced(typed)(canary)
    with h5py.File(io.BytesIO(content)) as root:
        own = h5o.get_info(root[PLACE].id).addr
    shared = content.index(b"\x03\0\x10\0\x03\0\0\0\x02\x02", own)  # a type, 16 bytes, shared; version 2, by address
    return patched(lambda raw: struct.pack_into("<Q", raw, shared + 10, own), content)(canary)


def trap(make: Callable[[Path], bytes], words: str, control: str) -> Case:
    """A file for which the child has to be ended."""
    return case(make, words, None, UnsafeCheckpoint, control)


TRAPS = {
    "32^8 names": trap(tree_fan(8), "makes the HDF5 library hang", ""),
    "a type in itself": trap(type_loop, "makes the HDF5 library crash", "crash"),
    "a free block behind itself": damaged(patched(free_loop)),
}


# What is never looked at: the rest of the file converts to the same weights

TEXTS = whole(cp.Keras(text="vlen"))
TRAINED = whole(cp.Keras(whole_model=True))


def looping_heap(raw: bytearray) -> None:
    """A heap of texts in which an object takes back its own header: the library looks at it for ever."""
    struct.pack_into("<Q", raw, raw.index(b"GCOL") + 16 + 8, 2**64 - 16)


def looping_lists(canary: Path) -> bytes:
    """The same for an attribute that is a list of numbers of any length."""
    lists = np.empty(1, object)
    lists[0] = np.frombuffer(b"2.9.0", np.uint8)

    def change(root: h5py.File, _: Path) -> None:
        del root.attrs["keras_version"]
        root.attrs.create("keras_version", lists, dtype=h5py.vlen_dtype(np.uint8))

    return patched(looping_heap, changed(change)(canary))(canary)


def attribute(name: str, value: object, group: str = "/") -> Callable[[Path], bytes]:
    def change(root: h5py.File, _: Path) -> None:
        root[group].attrs[name] = value

    return changed(change)


def crowded(root: h5py.File, _: Path) -> None:
    for number in range(2000):
        root[LAYER].attrs[f"weight_names{number}"] = np.bytes_(b"/etc/passwd")


def in_optimizer(make: Change) -> Callable[[Path], bytes]:
    """Something hostile among what `model.save` writes beside the weights."""
    return changed(make, TRAINED)


def external_state(root: h5py.File, folder: Path) -> None:
    place = [(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)]
    root.create_dataset("optimizer_weights/Adam/m:0", (COUNT,), "<f4", external=place)
    root.create_dataset("optimizer_weights/Adam/v:0", (1 << 20, 1 << 14), "<f4")


def linked_state(root: h5py.File, folder: Path) -> None:
    del root["optimizer_weights"]
    root["optimizer_weights"] = outside("secret.h5", "")(folder)
    root["more"] = outside("pipe", "")(folder)


def anonymous(root: h5py.File, _: Path) -> None:
    """Space that a lost dataset takes, with other numbers than any weight."""
    h5d.create(root.id, None, h5t.IEEE_F32LE, h5s.create_simple((COUNT,)))


OTHER_NAME = f"/{PLACE}".replace("query", "key").encode()
HARMLESS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a heap of texts that loops": (patched(looping_heap, TEXTS), "hang"),
    "a heap of lists that loops": (looping_lists, "sound"),
    "a list of weights that leads outside": (
        attribute("weight_names", [b"/no/such/place", b"../../secret"], LAYER), "error",
    ),
    "a list of weights that names others": (attribute("weight_names", [OTHER_NAME] * 99, LAYER), "error"),
    "a list of layers that leads outside": (attribute("layer_names", [b"../secret.h5", b"/etc"]), "error"),
    "a list of layers that is a number": (attribute("layer_names", 1e300), "error"),
    "2,000 lists": (changed(crowded), "sound"),
    "a version of 60 kB": (attribute("keras_version", np.bytes_(b"\x1b[2J" * 15_000)), "sound"),
    "a version that is a reference": (attribute("keras_version", h5py.Reference()), "sound"),
    "a version that is a table": (attribute("keras_version", np.zeros(99, [("a", "<f4"), ("b", "S9")])), "sound"),
    "a backend of bytes": (attribute("backend", np.bytes_(b"\xff\x1b[31m")), "sound"),
    "an optimizer of another file's bytes": (in_optimizer(external_state), "error"),
    "an optimizer in another file": (in_optimizer(linked_state), "error"),
    "an optimizer of 2^30 paths": (in_optimizer(lambda root, _: fan(root["optimizer_weights"], _)), "error"),
    "an optimizer of 100,001 links": (in_optimizer(lambda root, _: crowd(root["optimizer_weights"], _)), "error"),
    "a type of no name": (replaced(typed), "sound"),
    "a dataset of no name": (changed(anonymous), "sound"),
}  # fmt: skip
"""How to make the file, and what h5py's user gets of it: an error where the lists of names are not Keras's."""
