"""How files are arranged that Keras 2 and transformers' TensorFlow classes load: groups, names and attributes."""

from __future__ import annotations

from collections.abc import Sequence

from bertconv.containers.container import Entry, FileLayout
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.walk import MAX_DEPTH, MAX_OBJECTS
from bertconv.errors import RequestError

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
    return lay_out(checked(datasets), {"": root} | {layer: {"weight_names": own} for layer, own in names.items()})


def keras_shard(entries: Sequence[Entry]) -> FileLayout:
    """A shard as transformers' TensorFlow classes wrote it: dataset paths are the names, and the root lists them."""
    names = [entry.name for entry in entries]
    datasets = [Dataset(entry.name, entry.dtype, entry.shape) for entry in entries]
    return lay_out(checked(datasets), {"": {"layer_names": sorted(names)}})


def checked(datasets: Sequence[Dataset]) -> Sequence[Dataset]:
    """RequestError where `walk` would refuse the file."""
    paths = [path for dataset in datasets for path in (dataset.path, *dataset.links)]
    deep = next((path for path in paths if path.count("/") > MAX_DEPTH), None)
    if deep is not None:
        raise RequestError(
            f"lies in more than {MAX_DEPTH} groups.", hint="Nest the layers less deeply.", tensor=deep[:100]
        )
    parts = [path.split("/") for path in paths]
    objects = {tuple(names[:depth]) for names in parts for depth in range(1, len(names) + 1)}
    if len(objects) > MAX_OBJECTS:
        raise RequestError(
            f"an HDF5 file would hold {len(objects):,} groups and tensors; {MAX_OBJECTS:,} are read at most.",
            hint="Save to safetensors.",
        )
    return datasets


def _layer(entry: Entry) -> str:
    return entry.name.split("/")[0]
