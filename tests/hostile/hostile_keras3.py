"""Files of Keras 3 that would convert but for one thing; case by case, with how each is refused."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import keras3_files as k3
import numpy as np
from hostile_case import STATE, VICTIM, Case
from torch_cases import Record
from torch_cases import archive as lying

from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    MissingFiles,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)

D, U, X = DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
TENSORS = cp.tf_state(cp.prefixed(STATE, "bert."))
NAME = cp.tf_name(f"bert.{VICTIM}")
PLACE = k3.path_of(NAME)
OTHER = k3.path_of(NAME.replace("query", "key"))
VALUES = STATE[VICTIM]
SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 100


@cache
def sound() -> bytes:
    return k3.weights(TENSORS)


def _case(make: Callable[[Path], bytes], error: type[BertconvError], words: str,
          tensor: str | None = None, file: str = k3.WEIGHTS, **more: Any) -> Case:  # fmt: skip
    return Case(make, error, words, tensor, file=file, child=True, **more)


# Weights


def changed(change: k3.Change, error: type[BertconvError], words: str, tensor: str | None = PLACE, **more: Any) -> Case:
    """A file with one thing done to it through HDF5's own library."""

    def make(canary: Path) -> bytes:
        (canary.parent / "secret").write_bytes(SECRET)
        return k3.weights(TENSORS, change)

    return _case(make, error, words, tensor, **more)


def nameless(change: k3.Change, words: str = "records no layers' names") -> Case:
    """A file whose layers cannot be told by their names, which is sound all the same."""
    return changed(change, X, words, min(map(k3.path_of, TENSORS)), header_only=True)


def again(error: type[BertconvError], words: str, *given: Any, **options: Any) -> Case:
    """A file with its victim made another way."""

    def change(root: h5py.File) -> None:
        del root[PLACE]
        root.create_dataset(PLACE, *given, **options)

    return changed(change, error, words)


def opaque(says: Any, width: int = 2, tag: bytes = b"") -> Case:
    """Bytes of which HDF5 does not know what they are, and what their attribute says."""

    def change(root: h5py.File) -> None:
        del root[PLACE]
        kind = h5py.h5t.create(h5py.h5t.OPAQUE, width)
        if tag:
            kind.set_tag(tag)
        made = h5py.h5d.create(root.id, PLACE.encode(), kind, h5py.h5s.create_simple(VALUES.shape))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(VALUES.shape, f"V{width}"), kind)
        if says is not None:
            root[PLACE].attrs["dtype"] = says

    return changed(change, X, "little-endian numbers")


def relinked(link: Any) -> Case:
    def change(root: h5py.File) -> None:
        del root[PLACE]
        root[PLACE] = link

    return changed(change, U, "is a link to another place or file")


def outside(root: h5py.File) -> None:
    del root[PLACE]
    root.create_dataset(PLACE, VALUES.shape, "<f4", external=[("../secret", 0, VALUES.nbytes)])


def virtual(root: h5py.File) -> None:
    del root[PLACE]
    made = h5py.VirtualLayout(VALUES.shape, "<f4")
    made[:] = h5py.VirtualSource("../secret.h5", "x", VALUES.shape)
    root.create_virtual_dataset(PLACE, made)


def cycle(root: h5py.File) -> None:
    root["bert_/again"] = root["bert_"]


def named(path: str, name: Any) -> k3.Change:
    def change(root: h5py.File) -> None:
        root[f"{path}/vars"].attrs["name"] = name

    return change


def renamed(root: h5py.File) -> None:
    root.visititems(lambda path, each: each.attrs.update(name="gpt") if path.endswith("vars") else None)


def deep(root: h5py.File) -> None:
    root.create_dataset("/".join(["x"] * 70) + "/vars/0", data=np.zeros(3, "<f4"))


def patched(old: bytes, new: bytes, skip: int = 0) -> Callable[[Path], bytes]:
    """A file with bytes changed that the library would not write so."""

    def make(_: Path) -> bytes:
        raw = bytearray(sound())
        at = raw.index(old) + skip
        raw[at : at + len(new)] = new
        assert raw != sound()
        return bytes(raw)

    return make


def extent() -> bytes:
    """The message that says where the victim's bytes lie."""
    with h5py.File(io.BytesIO(sound())) as root:
        return struct.pack("<BBQQ", 3, 1, root[PLACE].id.get_offset(), VALUES.nbytes)


def moved(to: int) -> Callable[[Path], bytes]:
    return patched(extent(), struct.pack("<Q", to), 2)


def other_place(canary: Path) -> bytes:
    """The victim's bytes begin within another tensor's."""
    with h5py.File(io.BytesIO(sound())) as root:
        at = root[OTHER].id.get_offset()
    return moved(at + 4)(canary)


FILES = {
    "data in another file": changed(outside, U, "takes its data from another file"),
    "virtual data": changed(virtual, U, "takes its data from another file"),
    "a soft link": relinked(h5py.SoftLink(f"/{OTHER}")),
    "an external link": relinked(h5py.ExternalLink("../secret.h5", "/x")),
    "a cycle": changed(cycle, U, "reached twice", "bert_/again"),
    "too deep": changed(deep, U, "too deep", "/".join(["x"] * 65)),
    "chunked": again(X, "chunked or compressed", data=VALUES, chunks=(5,)),
    "compressed": again(X, "chunked or compressed", data=VALUES, compression="gzip"),
    "never written": again(D, "stores 0", VALUES.shape, "<f4"),
    "big-endian": again(X, "little-endian", data=VALUES.astype(">f4")),
    "text": again(X, "little-endian", data=np.array([b"x"] * VALUES.size)),
    "opaque bytes": opaque(None),
    "opaque bytes of another type": opaque("int16"),
    "opaque bytes whose type is a number": opaque(16),
    "opaque bytes whose type is a list": opaque(["bfloat16"]),
    "four opaque bytes": opaque("bfloat16", 4),
    "opaque bytes with a tag": opaque("bfloat16", tag=b"x"),
    "no names": _case(lambda _: k3.weights(TENSORS, names=False), X, "records no layers' names",
                      min(map(k3.path_of, TENSORS)), header_only=True),
    "names of another model": nameless(renamed, "no model's that bertconv knows"),
    "a name with a slash": nameless(named("bert_", "a/bert")),
    "a long name": nameless(named("bert_", "b" * 2000)),
    "a name that is a number": nameless(named("bert_", 3)),
    "a name with control characters": nameless(named("bert_", "bert\x1b[2J")),
    "cut off": _case(lambda _: sound()[:-9], D, "ends at byte"),
    "longer": _case(lambda _: sound() + b"x" * 9, D, "behind its end"),
    "data behind the end": _case(moved(1 << 40), D, "cannot be opened", PLACE),
    "data within other data": _case(other_place, D, "shares bytes with", PLACE),
}  # fmt: skip
HEAPS = {
    "a heap that is none": _case(patched(b"GCOL", b"GCOX"), D, ""),
    "a heap of another version": _case(patched(b"GCOL\1", b"GCOL\7"), D, ""),
    "a heap of no size": _case(patched(b"GCOL", bytes(8), 8), D, ""),
    "a heap larger than the file": _case(patched(b"GCOL", b"\xff\xff\xff\x7f", 8), D, ""),
    "a text that goes on behind its heap": _case(patched(b"GCOL", b"\xff\xff\xff\x7f", 24), D, ""),
}
"""Damage of which libhdf5 says something else from version to version: what counts is that it is refused."""


# Archives


def records(content: bytes | None = None) -> list[Record]:
    inner = sound() if content is None else content
    return [Record("metadata.json", b"{}"), Record("config.json", b"{}"), Record(k3.WEIGHTS, inner)]


def with_record(number: int, **lies: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        made = records()
        made[number] = Record(**{"name": made[number].name, "data": made[number].data, **lies})
        return lying(made)

    return make


def zipped(make: Callable[[], bytes], error: type[BertconvError], words: str,
           tensor: str | None = None, **more: Any) -> Case:  # fmt: skip
    return _case(lambda _: make(), error, words, tensor, "model.keras", **more)


def deflated(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for record in records():
            method = zipfile.ZIP_DEFLATED if record.name == name else zipfile.ZIP_STORED
            made.writestr(record.name, record.data, method)
    return stream.getvalue()


ARCHIVES = {
    "compressed weights": zipped(lambda: deflated(k3.WEIGHTS), X, "compressed record model.weights.h5"),
    "a compressed config": zipped(lambda: deflated("config.json"), X, "compressed record config.json"),
    "a record above": zipped(lambda: lying([*records(), Record("../x", b"x")]), U, "leads out of its folder"),
    "an absolute record": zipped(lambda: lying([*records(), Record("/etc/x", b"x")]), U, "leads out of its folder"),
    "a record of a drive": zipped(lambda: lying([*records(), Record("C:x", b"x")]), U, "leads out of its folder"),
    "a record with a backslash": zipped(lambda: lying([*records(), Record("a\\..\\x", b"x")]), U, "leads out"),
    "two files of weights": zipped(lambda: lying([*records(), records()[2]]), D, "two records model.weights.h5"),
    "overlapping records": zipped(lambda: lying([*records(), Record("x", b"", at=0)]), D, "otherwise"),
    "an encrypted record": zipped(with_record(2, flags=1), U, "encrypted"),
    "another local name": zipped(with_record(2, local_name="model.weights.h6"), D, "describes otherwise"),
    "another local size": zipped(with_record(2, local_size=4), D, "describes otherwise"),
    "a size beyond the end": zipped(with_record(2, size=1 << 31), D, "beyond its end"),
    "no weights": zipped(lambda: lying(records()[:2]), D, "without model.weights.h5"),
    "weights of numpy": zipped(with_record(2, name="model.weights.npz"), X, "holds its weights as model.weights.npz"),
    "weights in several files": zipped(with_record(2, name="model.weights.json"), X, "holds its weights as"),
    "a wrong checksum of weights": zipped(with_record(2, crc=7), D, "wrong checksum", header_only=True),
    "a wrong checksum of the config": zipped(with_record(1, crc=7), D, "wrong checksum"),
    "a config of 9 MB": zipped(with_record(1, data=b" " * 9_000_000), U, "limit"),
    "bytes before it": zipped(lambda: lying(records(), prefix=b"PK\3\4; exit\n"), D, ""),
    "bytes behind it": zipped(lambda: lying(records(), suffix=b"\0" * 64), D, "after the end"),
    "cut off in the middle": zipped(lambda: lying(records())[:-500], D, "without an end"),
    "a count that lies": zipped(lambda: lying(records(), wide=False, count=2), D, "more bytes than records"),
    "a pickle as weights": zipped(with_record(2, data=b"\x80\4N."), D, "no HDF5"),
    "weights that are cut off": zipped(lambda: lying(records(sound()[:-9])), D, "ends at byte"),
    "weights that go on": zipped(lambda: lying(records(sound() + b"x" * 9)), D, "behind its end"),
    "data behind the weights, within the archive": zipped(
        lambda: lying([*records(moved(len(sound()) - 4)(Path())), Record("assets/x", SECRET)]),
        D,
        "cannot be opened",
        PLACE,
    ),
}


# Indexes


def shards() -> dict[str, bytes]:
    """A sound checkpoint in two files, by the names of all files; the first has the model's layers."""
    names = sorted(TENSORS)
    half = {name: TENSORS[name] for name in names[: len(names) // 2]}
    rest = {name: TENSORS[name] for name in names[len(names) // 2 :]}
    files = {"model_00000.weights.h5": k3.weights(half), "model_00001.weights.h5": k3.weights(rest)}
    places: dict[str, list[str]] = {}
    for file, tensors in zip(files, (half, rest), strict=True):
        for name in tensors:
            found = places.setdefault(f"/{k3.path_of(name).rpartition('/')[0]}", [])
            found += [] if file in found else [file]
    said = {"metadata": {"total_size": 1}, "weight_map": places}
    return {**files, k3.INDEX: json.dumps(said).encode()}


@dataclass(frozen=True)
class Indexed(Case):
    """A checkpoint of several files, of which the index is the hostile one, or `change` makes another so."""

    change: Callable[[Path], object] = field(default=lambda _: None)

    def write(self, root: Path) -> Path:
        """As of `Case`, with the files that the index names, and one beside the folder."""
        folder = super().write(root)
        for name, content in shards().items():
            if name != k3.INDEX:
                (folder / name).write_bytes(content)
                (root / "secret.weights.h5").write_bytes(content)
        (folder / k3.INDEX).write_bytes(self.make(root))
        self.change(folder)
        return folder


def index(edit: Callable[[dict[str, Any]], Any] | bytes, error: type[BertconvError], words: str,
          tensor: str | None = None, file: str = k3.INDEX,
          change: Callable[[Path], object] = lambda _: None) -> Indexed:  # fmt: skip
    def make(_: Path) -> bytes:
        if isinstance(edit, bytes):
            return edit
        said = json.loads(shards()[k3.INDEX])
        found = edit(said["weight_map"])
        return json.dumps(said if found is None else found).encode()

    return Indexed(make, error, words, tensor, file=file, child=True, change=change)


GROUP = f"/{PLACE.rpartition('/')[0]}"
INDEXES: Mapping[str, Indexed] = {
    "no JSON": index(b"{", D, "no sound JSON"),
    "a list of lists": index(b'{"weight_map": ' + b"[" * 100_000, D, "no sound JSON"),
    "a key twice": index(b'{"weight_map": {"/a": "a.h5", "/a": "b.h5"}}', D, "no sound JSON"),
    "no map": index(lambda _: {"metadata": {}}, D, "no weight_map"),
    "a list as map": index(lambda _: {"weight_map": ["x"]}, D, "no weight_map"),
    "a number as file": index(lambda made: made.update({GROUP: 3}), D, "names no file", GROUP),
    "no file": index(lambda made: made.update({GROUP: []}), D, "names no file", GROUP),
    "a file twice": index(lambda made: made.update({GROUP: ["a.h5", "a.h5"]}), D, "or one twice", GROUP),
    "a group without a root": index(lambda made: made.update({"x": "a.h5"}), D, "names no file", "x"),
    "a file of numpy": index(lambda made: made.update({GROUP: "x.npz"}), X, "is no HDF5 file", GROUP),
    "a file above": index(lambda made: made.update({GROUP: "../secret.weights.h5"}), U, "not a plain file name"),
    "an absolute file": index(lambda made: made.update({GROUP: "/etc/x.h5"}), U, "not a plain file name"),
    "a file that is not there": index(lambda made: made.update({GROUP: "x.h5"}), MissingFiles, "not there"),
    "a group that is not there": index(
        lambda made: made.update({"/x/vars": "model_00000.weights.h5"}), D, "names groups that its shards lack"
    ),
    "a group that it does not name": index(lambda made: made.pop(GROUP) and None, D, "does not name groups"),
    "9 MB": index(b" " * 9_000_000, U, "9,000,000 bytes"),
    "too many layers": index(lambda made: made.update({f"/{n}": "a.h5" for n in range(20_001)}), U, "layers"),
    "a tensor in two files": index(
        lambda made: made.update({group: ["model_00000.weights.h5", "model_00001.weights.h5"] for group in made}),
        D, "in two shards",
        change=lambda folder: shutil.copyfile(folder / "model_00000.weights.h5", folder / "model_00001.weights.h5"),
    ),
    "a pickle as a file": index(
        lambda _: None, D, "no HDF5", None, "model_00001.weights.h5",
        change=lambda folder: (folder / "model_00001.weights.h5").write_bytes(b"\x80\4N."),
    ),
}  # fmt: skip

CASES: Mapping[str, Case] = FILES | HEAPS | ARCHIVES | INDEXES
