"""A whole BERT as Keras 2 wrote it, in which one thing can be made something else, and the secrets beside it."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z
from hostile_case import STATE, VICTIM, Case

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsupportedCheckpoint

FILE = "tf_model.h5"
WEIGHTS = cp.tf_state(cp.prefixed(STATE, "bert."))
LAYER = "bert"
SCOPE = "tf_bert_model/bert"
NAME = f"tf_bert_model/{cp.tf_name(f'bert.{VICTIM}')}"
"""The victim as an error names it: below its layer."""
PLACE = f"{LAYER}/{NAME}"
VALUES = STATE[VICTIM]
COUNT = VALUES.size
SECRET = (b"root:x:0:0:root:/root:/bin/bash\n" * COUNT)[: VALUES.nbytes]
"""Bytes of the user's other files; read as weights they would be published with the model."""

Change = Callable[[h5py.File, Path], object]
"""What to do to a sound file; the path is the folder in which the model's folder and the secrets lie."""


def whole(style: cp.Keras | None = None, libver: str = "earliest", userblock: int = 0) -> bytes:
    """A sound file's bytes, in any version of the format."""
    with tempfile.TemporaryDirectory() as folder:
        plain = cp.write_h5(Path(folder) / "plain.h5", WEIGHTS, style or cp.Keras())
        if libver == "earliest" and not userblock:
            return plain.read_bytes()
        with (
            h5py.File(plain) as old,
            h5py.File(f"{folder}/new.h5", "w", libver=libver, userblock_size=userblock) as new,
        ):
            new.attrs.update(old.attrs)
            old.visititems(lambda name, each: _copy(new, name, each))
        return Path(folder, "new.h5").read_bytes()


def _copy(new: h5py.File, name: str, each: h5py.Group | h5py.Dataset) -> None:
    made = new.create_group(name) if isinstance(each, h5py.Group) else new.create_dataset(name, data=each[()])
    made.attrs.update(each.attrs)


SOUND = whole()


def hide(root: Path) -> None:
    """Lay the secrets beside the model: plain bytes, a model whose victim they are, and a pipe that never answers."""
    (root / "secret").write_bytes(SECRET)
    stream = io.BytesIO(SOUND)
    with h5py.File(stream, "r+") as other:
        other[PLACE][...] = np.frombuffer(SECRET, np.float32)
    (root / "secret.h5").write_bytes(stream.getvalue())
    os.mkfifo(root / "pipe")


def changed(change: Change, model: bytes = SOUND, libver: str = "earliest") -> Callable[[Path], bytes]:
    """Makes the file with one thing done to it through HDF5's own library."""

    def make(canary: Path) -> bytes:
        hide(canary.parent)
        stream = io.BytesIO(model)
        with h5py.File(stream, "r+", libver=libver) as root:
            change(root, canary.parent)
        return stream.getvalue()

    return make


def replaced(make: Change, model: bytes = SOUND) -> Callable[[Path], bytes]:
    """Makes the file without its victim, which `make` is to put there again."""

    def change(root: h5py.File, folder: Path) -> None:
        del root[PLACE]
        make(root, folder)

    return changed(change, model)


def patched(edit: Callable[[bytearray], object], model: bytes = SOUND) -> Callable[[Path], bytes]:
    """Makes the file with bytes changed that the library would not write so."""

    def make(_: Path) -> bytes:
        raw = bytearray(model)
        edit(raw)
        assert raw != model
        return bytes(raw)

    return make


def swap(raw: bytearray, old: bytes, new: bytes, nth: int = 0, skip: int = 0) -> None:
    """Put `new` `skip` bytes into the nth place where `old` stands."""
    place = -1
    for _ in range(nth + 1):
        place = raw.index(old, place + 1)
    raw[place + skip : place + skip + len(new)] = new


def raw_dataset(
    root: h5py.File,
    kind: h5t.TypeID = h5t.IEEE_F32LE,
    *,
    shape: tuple[int, ...] = (COUNT,),
    layout: int = h5d.CONTIGUOUS,
    early: bool = True,
    chunk: tuple[int, ...] = (),
    filters: tuple[int, ...] = (),
    limit: tuple[int, ...] | None = None,
) -> h5py.Dataset:
    """The victim with whatever h5py's own interface has no words for."""
    plist, links = h5p.create(h5p.DATASET_CREATE), h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    plist.set_layout(layout)
    if chunk:
        plist.set_chunk(chunk)
    for number in filters:
        plist.set_filter(number, h5z.FLAG_OPTIONAL, (1,))
    plist.set_alloc_time(h5d.ALLOC_TIME_EARLY if early else h5d.ALLOC_TIME_DEFAULT)
    made = h5d.create(root.id, None, kind, h5s.create_simple(shape, limit), plist)
    h5py.h5o.link(made, root.id, PLACE.encode(), lcpl=links)
    return h5py.Dataset(made)


def case(
    make: Callable[[Path], bytes],
    words: str,
    tensor: str | None = NAME,
    error: type[BertconvError] = UnsupportedCheckpoint,
    control: str = "",
    file: str = FILE,
) -> Case:
    return Case(make, error, words, tensor, control, file=file, child=True)


def damaged(make: Callable[[Path], bytes], words: str = "not sound HDF5", tensor: str | None = None) -> Case:
    return case(make, words, tensor, DamagedCheckpoint)
