"""Files as Keras 3 writes them, made by h5py and zipfile alone: paths of attributes, and the names of layers beside."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import checkpoints as cp
import h5py
import ml_dtypes

WEIGHTS, INDEX = "model.weights.h5", "model.weights.json"
SECOND = ("bias:0", "beta:0")
"""How the names of second variables end; all others are the first ones of their layers."""

Change = Callable[[h5py.File], object]


def path_of(name: str) -> str:
    """Where a variable of TensorFlow's name, `bert/encoder/layer_._0/...`, lies: lists have groups of their own."""
    *layers, leaf = name.split("/")
    parts = [
        f"{one.partition('_._')[0]}/its_{one.partition('_._')[2]}" if "_._" in one else f"{one}_" for one in layers
    ]
    return f"{'/'.join(parts)}/vars/{int(leaf in SECOND)}"


def weights(
    tensors: cp.Tensors, change: Change | None = None, *, model: str = "tf_bert_model", names: bool = True,
    bfloat16: bool = False, libver: str = "earliest",
) -> bytes:  # fmt: skip
    """A file of weights.

    Args:
        tensors: by TensorFlow's names, without the model's.
        change: what to do to the file then.
        model: what the model is called.
        names: whether the layers' names are recorded.
        bfloat16: cut the elements to this type, which Keras keeps as opaque bytes.
        libver: of HDF5.
    """
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=libver) as root:
        _layer(root, "", model if names else None)
        for name, value in tensors.items():
            *layers, _ = name.split("/")
            for depth in range(1, len(layers) + 1):
                path = path_of("/".join((*layers[:depth], "x"))).rpartition("/vars")[0]
                _layer(root, path, layers[depth - 1] if names else None)
            if bfloat16:
                made = root.create_dataset(path_of(name), data=value.astype(ml_dtypes.bfloat16).view("V2"))
                made.attrs["dtype"] = "bfloat16"
            else:
                root.create_dataset(path_of(name), data=value)
        if change is not None:
            change(root)
    return stream.getvalue()


def _layer(root: Any, path: str, name: str | None) -> None:
    group = root.require_group(f"{path}/vars")
    if name is not None:
        group.attrs["name"] = name


def archive(content: bytes, config: Mapping[str, Any] | None = None) -> bytes:
    """A `.keras` archive."""
    return zipped([("metadata.json", b'{"keras_version": "3.15.1"}'), ("config.json", json.dumps(config or {}).encode()),
                   (WEIGHTS, content)])  # fmt: skip


def zipped(records: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in records:
            made.writestr(name, content)
    return stream.getvalue()
