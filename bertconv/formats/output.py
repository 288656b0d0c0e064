"""The formats that users name, and the files of one output: names, shards, and where every tensor's bytes go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from bertconv.containers.container import Container, Entry, FileOptions, Opener, PlannedFile
from bertconv.containers.registry import BY_NAME
from bertconv.formats import ranges
from bertconv.formats.content import Content, OutputFile
from bertconv.mapping.dialects import Dialect, load_dialects
from bertconv.mapping.table import Table
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


def scope_of(form: Format, model: Model) -> str:
    """What stands before every tensor's name, in a file on its own or in an index."""
    is_scoped = form.container.scoped and form.dialect.scoped
    return model.keras_name + form.dialect.separator if is_scoped else ""


def lay_out(
    form: Format, tensors: Sequence[Content], model: Model, limit: int
) -> tuple[list[OutputFile], Callable[[Opener], tuple[str, bytes] | None]]:
    """The files of an output, and what makes the index once they are written: its name and content.

    The latter is called with what opens one of them by its name.

    Args:
        form: the format.
        tensors: in the order of the table, then those that no table knows.
        model: the model that they are of.
        limit: most bytes of tensors in one file.
    """
    container, entries = form.container, _entries(tensors, model, form.dialect)
    shards = container.divide(entries, limit)
    sharded = len(shards) > 1
    scope = scope_of(form, model)
    in_file, in_index = ("", scope) if sharded else (scope, "")
    names = tuple(entry.name for entry in entries)
    links = model.table.in_dialect(form.dialect).links
    options = FileOptions(in_file, form.dialect.metadata, is_shard=sharded, names=names, links=links)
    own = {name: [entries[number] for number in numbers] for name, numbers in shards}
    files = [
        _file(container, name, [tensors[one] for one in numbers], own[name], replace(options, number=place))
        for place, (name, numbers) in enumerate(shards)
    ]
    planned = [PlannedFile(file.name, own[file.name], file.layout) for file in files]
    return files, lambda opened: container.index(opened, planned, in_index)


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
