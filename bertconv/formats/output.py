"""The formats that users name, and the files of one output: names, shards, and where every tensor's bytes go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertconv.formats import hdf5, safetensors
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.table import Table
from bertconv.source.stored import ITEM_SIZE


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written: what it is, and its element type."""

    spec: TensorSpec
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.spec.count * ITEM_SIZE[self.dtype]


@dataclass(frozen=True)
class OutputFile:
    """One file of weights.

    Attributes:
        name: of the file.
        size: in bytes.
        tensors: its tensors with the offset of each.
        scope: what stands before every tensor's name in it.
    """

    name: str
    size: int
    tensors: tuple[tuple[OutputTensor, int], ...]
    scope: str = ""


@dataclass(frozen=True)
class Format:
    """A container and a dialect, as users name the pair.

    Attributes:
        name: "pt", "tf" or "tf-safetensors".
        dialect: name of the dialect.
        stem: first part of file names.
        suffix: last part of file names.
        whole: lays out the file of an output that is not sharded.
        shard: lays out one shard.
        scoped: the model's name stands before every tensor's: in the index of a sharded output, else in the file.
    """

    name: str
    dialect: str
    stem: str
    suffix: str
    whole: Layouter
    shard: Layouter
    scoped: bool

    def file_names(self, shards: int) -> list[str]:
        """Names of the files of an output in this many parts."""
        if shards == 1:
            return [f"{self.stem}{self.suffix}"]
        return [f"{self.stem}-{number:05}-of-{shards:05}{self.suffix}" for number in range(1, shards + 1)]

    @property
    def index_name(self) -> str:
        """Name of the index of a sharded output."""
        return f"{self.stem}{self.suffix}.index.json"


@dataclass(frozen=True)
class Model:
    """What a container may have to know about the model: its table and its class."""

    table: Table
    head: str

    @property
    def keras_name(self) -> str:
        """The name that Keras gives the first instance of the TensorFlow class: `tf_bert_for_masked_lm`."""
        words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", f"TF{self.head}")
        return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


Layouter = Callable[[Path, Sequence[OutputTensor], Model], list[int]]
"""Creates a file without its weights; returns the offset of every tensor, in the order given."""


def split(tensors: Sequence[OutputTensor], limit: int) -> list[list[OutputTensor]]:
    """Tensors in order, in shards of at most `limit` bytes each; a larger tensor has a shard of its own."""
    shards: list[list[OutputTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


def lay_out(
    form: Format, folder: Path, tensors: Sequence[OutputTensor], model: Model, limit: int
) -> tuple[list[OutputFile], bytes | None]:
    """Create the files of an output in `folder`, without weights.

    Args:
        form: the format.
        folder: where to.
        tensors: in the order of the table, then those that no table knows.
        model: the model that they are of.
        limit: most bytes of tensors in one file.

    Returns:
        The files, and the content of the index when there are several.
    """
    shards = split(tensors, limit)
    names = form.file_names(len(shards))
    layouter = form.whole if len(shards) == 1 else form.shard
    scope = f"{model.keras_name}/" if form.scoped else ""
    in_file, in_index = (scope, "") if len(shards) == 1 else ("", scope)
    files = []
    for name, shard in zip(names, shards, strict=True):
        offsets = layouter(folder / name, shard, model)
        ends = [offset + tensor.nbytes for tensor, offset in zip(shard, offsets, strict=True)]
        size = max([*ends, (folder / name).stat().st_size])
        files.append(OutputFile(name, size, tuple(zip(shard, offsets, strict=True)), in_file))
    return files, _index(files, in_index) if len(files) > 1 else None


def _index(files: Sequence[OutputFile], scope: str) -> bytes:
    weight_map = {f"{scope}{tensor.spec.name}": file.name for file in files for tensor, _ in file.tensors}
    total = sum(tensor.nbytes for file in files for tensor, _ in file.tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def _safetensors(metadata: dict[str, str]) -> Layouter:
    def layouter(path: Path, tensors: Sequence[OutputTensor], _: Model) -> list[int]:
        ordered = sorted(tensors, key=lambda tensor: safetensors.file_order(tensor.spec.name, tensor.dtype))
        header, offsets = safetensors.header_bytes(
            [(tensor.spec.name, tensor.dtype, tensor.spec.shape) for tensor in ordered], metadata
        )
        with path.open("xb") as file:
            file.write(header)
        by_id = {tensor.spec.id: offset for tensor, offset in zip(ordered, offsets, strict=True)}
        return [by_id[tensor.spec.id] for tensor in tensors]

    return layouter


def _keras_file(path: Path, tensors: Sequence[OutputTensor], model: Model) -> list[int]:
    """One group per top-level layer, each with the list of its weights' names, as Keras 2 reads and writes it."""
    names: dict[str, list[str]] = {}
    links: dict[str, list[str]] = {}
    scoped = {tensor.spec.id: f"{model.keras_name}/{tensor.spec.name}" for tensor in tensors}
    layers = {tensor.spec.group: tensor.spec.name.split("/")[0] for tensor in tensors}
    for tensor in tensors:
        names.setdefault(tensor.spec.name.split("/")[0], []).append(scoped[tensor.spec.id])
    for group, repeated in model.table.keras2_repeats.items():
        for tensor in tensors:
            if group in layers and tensor.spec.group == repeated:
                names[layers[group]].append(scoped[tensor.spec.id])
                links.setdefault(tensor.spec.id, []).append(f"{layers[group]}/{scoped[tensor.spec.id]}")
    datasets = [
        hdf5.Dataset(
            f"{tensor.spec.name.split('/')[0]}/{scoped[tensor.spec.id]}",
            tensor.dtype,
            tensor.spec.shape,
            tuple(links.get(tensor.spec.id, ())),
        )
        for tensor in tensors
    ]
    root: dict[str, str | Sequence[str]] = {
        "layer_names": list(names), "backend": "tensorflow", "keras_version": KERAS_VERSION,
    }  # fmt: skip
    return hdf5.lay_out(path, datasets, {"": root} | {layer: {"weight_names": own} for layer, own in names.items()})


def _keras_shard(path: Path, tensors: Sequence[OutputTensor], _: Model) -> list[int]:
    """A shard as transformers' TensorFlow classes wrote it: dataset paths are the names, and the root lists them."""
    names = [tensor.spec.name for tensor in tensors]
    datasets = [hdf5.Dataset(tensor.spec.name, tensor.dtype, tensor.spec.shape) for tensor in tensors]
    return hdf5.lay_out(path, datasets, {"": {"layer_names": sorted(names)}})


KERAS_VERSION = "2.15.0"
"""What the files say of themselves: the last Keras 2, whose layout this is."""

_PT = _safetensors({"format": "pt"})
_TF = _safetensors({"format": "tf"})

FORMATS = {
    form.name: form
    for form in (
        Format("pt", "pt", "model", ".safetensors", _PT, _PT, scoped=False),
        Format("tf", "tf", "tf_model", ".h5", _keras_file, _keras_shard, scoped=True),
        Format("tf-safetensors", "tf", "model", ".safetensors", _TF, _TF, scoped=False),
    )
}
"""Every format that can be written, by its name."""
