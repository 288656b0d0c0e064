"""Files of Keras 3: `.weights.h5`, `.keras`, and weights in several files with their `model.weights.json`.

Keras 3 numbers the variables of a layer (`layers/dense/vars/0`) in groups that are named by attributes of the model
and, for lists, by classes; beside them it records the names of the layers. Both are read: a tensor's name is its path,
and `recorded` has the names around it. The HDF5 in all of them is read and laid out by `containers.hdf5`, which also
tells a file of Keras 3 from one of Keras 2, by what is in it; `reader` says what is no weight, `archive` finds the HDF5
in a `.keras` without unpacking it, `index` reads `model.weights.json`, and `layout` says what a written file has.

Source: keras/src/saving/saving_lib.py of Keras 3.15; design/dialects.md, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import ClassVar

from bertconv.containers.container import (
    Entry,
    FileLayout,
    FileOptions,
    Opener,
    PlannedFile,
    Spread,
    SpreadContainer,
)
from bertconv.containers.keras3.parts import ARCHIVE, PARTS, is_keras_archive, part_of
from bertconv.containers.stored import FLOATS, Header, SourceFile

__all__ = ["Keras3"]


class Keras3(SpreadContainer):
    """What `save_weights` and `save` of Keras 3 write, and a KerasHub preset's `model.weights.h5`."""

    name = "keras3"
    title = "Keras 3"
    kind = "a Keras 3 file"
    stem = "model"
    suffixes = (".weights.h5", ARCHIVE)
    dtypes = FLOATS
    dtypes_in_words = "floating-point numbers"

    keeps_record = True

    _INDEX: ClassVar[str] = "model.weights.json"

    def recognises(self, start: bytes, size: int) -> bool:  # noqa: ARG002
        """Whether it is a `.keras` archive; a file of weights is HDF5, and known by what is in it."""
        return is_keras_archive(start)

    def read(self, file: SourceFile, *, check_data: bool) -> Header:
        """As `read_archive`."""
        from bertconv.containers.keras3.archive import read_archive  # which most conversions do not need

        return read_archive(file, crc=check_data)

    def has_config(self, name: str) -> bool:
        """Whether it is the name of an archive: a file of weights has no config."""
        return name.endswith(ARCHIVE)

    def config_in(self, file: SourceFile) -> bytes | None:
        """As `archive.model_config`."""
        from bertconv.containers.keras3.archive import model_config

        return model_config(file)

    def is_index(self, name: str) -> bool:
        """Whether a file of this name says in which file the variables of each layer are."""
        return name.rpartition("/")[2].endswith(".weights.json")

    def read_index(self, file: SourceFile) -> Spread:
        """As `index.read_index`."""
        from bertconv.containers.keras3.index import read_index

        return read_index(file)

    def with_parts(self, name: str, names: Collection[str]) -> list[str]:
        """Files beside one that hold other parts of the same model: a preset has its head in a file of its own."""
        if name not in (self.file_name, self.index_name):
            return []
        return [file for file in PARTS.values() if file in names]

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:  # noqa: ARG002
        """As `layout.keras3_file`."""
        from bertconv.containers.keras3.layout import keras3_file

        return keras3_file(entries)

    def divide(self, entries: Sequence[Entry], limit: int) -> list[tuple[str, list[int]]]:
        """The body in `model.weights.h5` or in shards; what is named `task/...` in the file of that part."""
        parts: dict[str, list[int]] = {}
        for number, entry in enumerate(entries):
            parts.setdefault(part_of(entry.name), []).append(number)
        body = parts.pop("", [])
        own = super().divide([entries[number] for number in body], limit) if body or not parts else []
        files = [(name, [body[number] for number in numbers]) for name, numbers in own]
        return files + [(PARTS[part], numbers) for part, numbers in parts.items()]

    def index(self, opened: Opener, files: Sequence[PlannedFile], scope: str) -> tuple[str, bytes] | None:  # noqa: ARG002
        """`model.weights.json`, where the body is in several files."""
        from bertconv.containers.keras3.index import index_of

        body = [file for file in files if file.name not in PARTS.values()]
        return (self.index_name, index_of(body)) if len(body) > 1 else None

    @property
    def index_name(self) -> str:
        """Name of the index of shards."""
        return self._INDEX

    def file_names(self, shards: int) -> list[str]:
        """Names of the files of an output in this many parts, as Keras numbers them."""
        return [self.file_name] if shards == 1 else [f"{self.stem}_{n:05}{self.suffix}" for n in range(shards)]

    def names_of(self, variant: str | None) -> tuple[str, str]:
        """Names of the file and of the index that are looked for in a folder; Keras has no variants."""
        return ("", "") if variant is not None else (self.file_name, self.index_name)

    def is_output(self, name: str) -> bool:
        """Whether an output has files of this name."""
        shard = rf"{self.stem}_\d{{5}}{re.escape(self.suffix)}"
        return name in (self.file_name, self.index_name, *PARTS.values()) or re.fullmatch(shard, name) is not None
