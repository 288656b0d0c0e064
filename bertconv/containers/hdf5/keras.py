"""How files are arranged that Keras 2 and transformers' TensorFlow classes load: groups, names and attributes."""

from __future__ import annotations

from collections.abc import Sequence

from bertconv.containers.container import Entry, FileLayout
from bertconv.containers.hdf5.layout import Dataset, lay_out

KERAS_VERSION = "2.15.0"
"""What the files say of themselves: the last Keras 2, whose layout this is."""


def keras_file(entries: Sequence[Entry], scope: str) -> FileLayout:
    """One group per top-level layer, each with the list of its weights' names, as Keras 2 reads and writes it."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        names.setdefault(_layer(entry), []).append(scope + entry.name)
    for entry in entries:
        for layer in entry.again:
            names[layer].append(scope + entry.name)
    datasets = [
        Dataset(
            f"{_layer(entry)}/{scope}{entry.name}",
            entry.dtype,
            entry.shape,
            tuple(f"{layer}/{scope}{entry.name}" for layer in entry.again),
        )
        for entry in entries
    ]
    root: dict[str, str | Sequence[str]] = {
        "layer_names": list(names), "backend": "tensorflow", "keras_version": KERAS_VERSION,
    }  # fmt: skip
    return lay_out(datasets, {"": root} | {layer: {"weight_names": own} for layer, own in names.items()})


def keras_shard(entries: Sequence[Entry]) -> FileLayout:
    """A shard as transformers' TensorFlow classes wrote it: dataset paths are the names, and the root lists them."""
    names = [entry.name for entry in entries]
    datasets = [Dataset(entry.name, entry.dtype, entry.shape) for entry in entries]
    return lay_out(datasets, {"": {"layer_names": sorted(names)}})


def _layer(entry: Entry) -> str:
    return entry.name.split("/")[0]
