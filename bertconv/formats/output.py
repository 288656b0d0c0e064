"""The formats that users name, and the files of one output: names, shards, and where every tensor's bytes go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from bertconv.containers.container import Container, Entry, FileOptions
from bertconv.containers.registry import BY_NAME
from bertconv.formats import ranges
from bertconv.formats.content import Content, OutputFile
from bertconv.mapping.table import Dialect, Table, load_dialects
from bertconv.records import dataclass


@dataclass(frozen=True)
class Format:
    """A container and a dialect, as users name the pair.

    Attributes:
        name: "pt", "tf" or "tf-safetensors".
        dialect: how tensors are named and laid out.
        container: what the files are.
    """

    name: str
    dialect: Dialect
    container: Container

    @property
    def contents(self) -> str:
        """What an output is, in words: its file, and whose names are in it."""
        return f"{self.container.file_name} with {self.dialect.title}'s names"


@cache
def formats() -> Mapping[str, Format]:
    """Every format that can be written, by its name: each dialect in each of its containers, the default one first."""
    pairs = [(dialect, name) for dialect in load_dialects().by_name.values() for name in dialect.containers]
    found = (Format(dialect.format_in(name), dialect, BY_NAME[name]) for dialect, name in pairs)
    return {form.name: form for form in found}


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


def split(tensors: Sequence[Content], limit: int) -> list[list[Content]]:
    """Tensors in order, in shards of at most `limit` bytes each; a larger tensor has a shard of its own."""
    shards: list[list[Content]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


def scope_of(form: Format, model: Model) -> str:
    """What stands before every tensor's name, in a file on its own or in an index."""
    is_scoped = form.container.scoped and form.dialect.scoped
    return model.keras_name + form.dialect.separator if is_scoped else ""


def lay_out(
    form: Format, tensors: Sequence[Content], model: Model, limit: int
) -> tuple[list[OutputFile], bytes | None]:
    """The files of an output, and the content of the index when there are several.

    Args:
        form: the format.
        tensors: in the order of the table, then those that no table knows.
        model: the model that they are of.
        limit: most bytes of tensors in one file.
    """
    shards = split(tensors, limit)
    container, sharded = form.container, len(shards) > 1
    scope = scope_of(form, model)
    in_file, in_index = ("", scope) if sharded else (scope, "")
    options = FileOptions(in_file, form.dialect.metadata, is_shard=sharded)
    files = [
        _file(container, name, shard, _entries(shard, model, form.dialect), options)
        for name, shard in zip(container.file_names(len(shards)), shards, strict=True)
    ]
    return files, _index(files, in_index) if sharded else None


def _file(
    container: Container, name: str, tensors: Sequence[Content], entries: Sequence[Entry], options: FileOptions
) -> OutputFile:
    """A file laid out; with padding where a source's blocks can be shared then (`ranges.padding`).

    That depends on the source alone, not on the file systems, so that the same input gives the same bytes everywhere.
    """
    file = OutputFile(name, container.lay_out(entries, options), tuple(tensors), options.scope)
    padding = ranges.padding(file) if container.pads else 0
    return replace(file, layout=container.lay_out(entries, replace(options, padding=padding))) if padding else file


def _entries(tensors: Sequence[Content], model: Model, dialect: Dialect) -> list[Entry]:
    layers = {tensor.spec.group: tensor.name.split(dialect.separator)[0] for tensor in tensors}
    repeats = [(layers[group], other) for group, other in model.table.keras2_repeats.items() if group in layers]
    return [
        Entry(
            tensor.name,
            tensor.dtype,
            tensor.spec.shape,
            tuple(layer for layer, other in repeats if tensor.spec.group == other),
        )
        for tensor in tensors
    ]


def _index(files: Sequence[OutputFile], scope: str) -> bytes:
    weight_map = {f"{scope}{placed.content.name}": file.name for file in files for placed in file.tensors}
    total = sum(placed.content.nbytes for file in files for placed in file.tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()
