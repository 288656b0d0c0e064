"""Files of Keras 3, alone and in a `.keras` archive, with h5py's and zipfile's own view of what is accepted."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import ml_dtypes
import numpy as np

from bertconv.containers.container import Entry
from bertconv.containers.hdf5 import child, process
from bertconv.containers.keras3.layout import keras3_file
from bertconv.containers.stored import Header
from bertconv.formats.frame import create
from qa.fuzz.mutations import Seed
from qa.fuzz.targets.common import Target, bytes_of, differ, read
from qa.fuzz.targets.hdf5 import TOKENS, check_same, content_of, datasets, forked, pieces_of, with_its_end

WEIGHTS = "model.weights.h5"
ENTRIES = (
    Entry("layers/dense/vars/0", "float32", (3, 5)),
    Entry("layers/dense/vars/1", "float32", (5,)),
    Entry("layers/norm/vars/0", "bfloat16", (7,)),
)


def keras3_files() -> Target:
    """A small file as we write it, one as Keras does, and an archive of that."""
    child.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        ours, keras = (Path(folder, name) for name in ("ours.h5", "keras.h5"))
        layout = keras3_file(ENTRIES)
        create(ours, layout)
        with ours.open("r+b") as file:
            for offset, entry in zip(layout.offsets, ENTRIES, strict=True):
                file.seek(offset)
                file.write(bytes(range(1, entry.nbytes + 1)))
        with h5py.File(keras, "w") as root:
            _like_keras(root)
        files = [path.read_bytes() for path in (ours, keras)]
    seeds = [Seed(pieces_of(file), with_its_end) for file in files]
    seeds.append(Seed(seeds[1].pieces, lambda body: archived(with_its_end(body))))
    tokens = (*TOKENS, b"vars\0\0\0\0", b"name\0", b"dtype\0", b"bfloat16", b"PK\3\4", b"PK\1\2", b"\x15\0\0\0\2\0\0\0")
    return Target("keras3", tuple(seeds), tokens, _read, _agrees, forked=True)


def _like_keras(root: Any) -> None:
    """What `save_weights` writes: names in groups of variables, opaque bfloat16, the state of optimizer and seeds."""
    layers = {
        "": "model",
        "body": "bert",
        "body/layer/encoder_layer": "layer_._0",
        "body/layer/encoder_layer/query": "q",
    }
    for path, name in layers.items():
        root.create_group(f"{path}/vars").attrs["name"] = name
    own = root["body/layer/encoder_layer/query/vars"]
    own.create_dataset("0", data=np.arange(12, dtype=np.float32).reshape(3, 4))
    own.create_dataset("1", data=np.arange(4).astype(ml_dtypes.bfloat16).view("V2")).attrs["dtype"] = "bfloat16"
    root.create_dataset("optimizer/vars/0", data=np.int64(3))
    root.create_dataset("body/seed_generator/vars/0", data=np.arange(2, dtype=np.uint32))


def archived(weights: bytes) -> bytes:
    """A `.keras` archive with these weights."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (("metadata.json", b"{}"), ("config.json", b"{}"), (WEIGHTS, weights)):
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _read(path: Path) -> Header:
    with mock.patch.object(process, "ask", forked):
        if path.read_bytes()[:4] == b"\x89HDF":
            check_same(path)
        return read(path)


def _agrees(data: bytes, header: Header) -> str:
    if header.container not in ("keras3", "hdf5"):
        return f"was read as {header.container}"
    inner = data
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inner = archive.read(WEIGHTS)
    with h5py.File(io.BytesIO(inner), "r") as root:
        listed = datasets(root, "")
        ours: dict[str, tuple[Any, ...]] = {}
        theirs: dict[str, tuple[Any, ...]] = {}
        for tensor in header.tensors:
            name = f"{tensor.group}/{tensor.name}" if tensor.group else tensor.name
            content = (tensor.dtype, tensor.shape, bytes_of(data, tensor))
            ours[name] = (*content, tensor.recorded)
            theirs[name] = (*_content(root[name], content), _recorded(root, name))
    lost = [name for name in listed if name not in ours and name not in header.others]
    lost = [name for name in lost if not name.startswith("optimizer_weights")]
    return differ(ours, theirs, "h5py") or (f"h5py sees {lost[0]!r} too" if lost else "")


def _content(dataset: Any, ours: tuple[str, tuple[int, ...], bytes]) -> tuple[Any, ...]:
    if dataset.dtype == np.dtype("V2"):
        return str(dataset.attrs["dtype"]), dataset.shape, dataset[()].tobytes()
    return content_of(dataset, ours)


def _recorded(root: Any, path: str) -> str:
    """The name of a variable by the names that Keras recorded, found from the inside outwards."""
    *around, kind, number = path.split("/")[-66:] if "/" in path else ("", path)
    if kind != "vars":
        return ""
    names = []
    for depth in range(len(around), -1, -1):
        group = root["/".join(around[:depth])] if depth else root
        if "vars" not in group:
            continue
        own = group["vars"].attrs.get("name") if hasattr(group["vars"], "keys") else None
        name = own.decode() if isinstance(own, bytes) else own
        if not isinstance(name, str) or not name or "/" in name or not name.isprintable() or len(name) > 1024:
            return ""
        names.append(name)
    return "/".join((*reversed(names), "vars", number)) if names else ""
