"""What a container is to the rest: recognised by its bytes, read to a header, and, where it can be, laid out.

A new container is a module with a subclass of `Container`, and its line in `registry.CONTAINERS`. Checks, streaming,
casts and the way of an output to the disk are the same for all and know none of them.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import ClassVar, NamedTuple

from bertconv.containers.stored import ITEM_SIZE, Header, SourceFile, Span
from bertconv.errors import UnsupportedCheckpoint
from bertconv.records import dataclass


@dataclass(frozen=True)
class Entry:
    """One tensor that a file is to have room for.

    Attributes:
        name: without the scope.
        dtype: element type.
        shape: sizes as they are stored.
        again: layers under which Keras 2 looks for it a second time; for containers that are `scoped`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    again: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEM_SIZE[self.dtype]


@dataclass(frozen=True)
class Links:
    """Other places of the objects that tensors belong to, where a file has a graph of them: paths of objects.

    Attributes:
        same: place -> the object that is there too.
        copies: place -> the object of which another one is there that has the same values; only where something else
            lies below the object around it.
    """

    same: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FileOptions:
    """How a file is laid out, beside its tensors.

    Attributes:
        scope: stands before every name, with its separator; empty in shards and in containers that are not `scoped`.
        metadata: free text, where the container has room for it.
        is_shard: whether it is one of several files.
        padding: bytes to leave before the tensors, a multiple of 8; only where the container `pads`.
        number: which of the output's files it is, from 0.
        names: of all tensors of the output.
        links: other places of them, for containers with a graph of objects.
    """

    scope: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_shard: bool = False
    padding: int = 0
    number: int = 0
    names: tuple[str, ...] = ()
    links: Links = field(default_factory=Links)


@dataclass(frozen=True)
class FileLayout:
    """A file to be written: all of it but the elements of its tensors.

    Attributes:
        size: bytes of the whole file.
        offsets: first byte of every tensor, in the order of the entries; 0 may stand for one without elements.
        parts: offset -> bytes that lie there, outside of the tensors; every other byte outside of them is zero.
        pieces: number of an entry -> where its bytes lie, in their order, of a tensor that does not lie in one piece.
    """

    size: int
    offsets: tuple[int, ...]
    parts: Mapping[int, bytes] = field(default_factory=dict)
    pieces: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)


Opener = Callable[[str], SourceFile]
"""Opens a file of an output by its name."""


class PlannedFile(NamedTuple):
    """A file of an output: its name, its tensors, and where they lie in it."""

    name: str
    entries: Sequence[Entry]
    layout: FileLayout


class Container(ABC):
    """One kind of file.

    Attributes:
        name: in reports and in JSON.
        title: in sentences.
        kind: what a file of it is called in a sentence.
        stem: first part of the names of files, as transformers writes them.
        suffixes: last parts of their names; the first is written.
        magic: how a file begins, where nothing but the first bytes is needed to recognise it.
        dtypes: element types that are written; none where nothing is.
        dtypes_in_words: what to call them.
        pads: whether there may be room before the tensors of a file.
        scoped: whether the model's name stands before every tensor's: in a file on its own and in an index.
        runs_code: whether a file can run code in programs that load it with their own means.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[str]
    stem: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    magic: ClassVar[tuple[bytes, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ()
    dtypes_in_words: ClassVar[str] = ""
    pads: ClassVar[bool] = False
    scoped: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False

    def recognises(self, start: bytes, size: int) -> bool:  # noqa: ARG002  (not every container needs the size)
        """Whether a file of `size` bytes that begins so is one."""
        return start.startswith(self.magic) if self.magic else False

    def resembles(self, start: bytes) -> bool:  # noqa: ARG002
        """Whether a file that nothing recognises is most likely one that is damaged, so that its reader says why."""
        return False

    @abstractmethod
    def read(self, file: SourceFile, *, check_data: bool) -> Header:
        """The header of a file.

        Args:
            file: the file.
            check_data: also check the checksums that the container has, which reads all of it.

        Raises:
            DamagedCheckpoint: truncated, contradictory, or not what its first bytes say.
            UnsafeCheckpoint: refused for safety.
            UnsupportedCheckpoint: a variety that is not read.
        """

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:
        """A file with room for every tensor, from names, types and shapes alone; only where there are `dtypes`."""
        raise NotImplementedError

    def divide(self, entries: Sequence[Entry], limit: int) -> list[tuple[str, list[int]]]:
        """The files of an output: the name of each, and the numbers of the entries that go into it.

        Args:
            entries: every tensor of the output, in its order.
            limit: most bytes of tensors in one file; a larger tensor has a file of its own.
        """
        shards: list[list[int]] = [[]]
        size = 0
        for number, entry in enumerate(entries):
            if shards[-1] and size + entry.nbytes > limit:
                shards.append([])
                size = 0
            shards[-1].append(number)
            size += entry.nbytes
        return list(zip(self.file_names(len(shards)), shards, strict=True))

    def index(
        self,
        opened: Opener,  # noqa: ARG002  (only an index with checksums needs it)
        files: Sequence[PlannedFile],
        scope: str,
    ) -> tuple[str, bytes] | None:
        """Name and content of the index of files that were written; None where they need none.

        Args:
            opened: opens one of them by its name; all of their tensors are there.
            files: of the output.
            scope: stands before every name in the index, with its separator.
        """
        if len(files) == 1:
            return None
        weight_map = {self.in_index(f"{scope}{entry.name}"): file.name for file in files for entry in file.entries}
        total = sum(entry.nbytes for file in files for entry in file.entries)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        return self.index_name, (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()

    def beside(self) -> Mapping[str, bytes]:
        """Names and contents of small files that tell programs of an output; most containers need none."""
        return {}

    def in_index(self, name: str) -> str:
        """How the index of shards spells the name of a tensor that a shard has under `name`."""
        return name

    def confirm(self, header: Header) -> None:  # noqa: B027  (most have no such library)
        """Have a file that was just written read by the container's own library too, where that costs next to nothing.

        Args:
            header: of the file, as `read` gave it.

        Raises:
            MappingError: the library reads something else.
        """

    @property
    def suffix(self) -> str:
        """Last part of the names of files that are written."""
        return self.suffixes[0]

    @property
    def file_name(self) -> str:
        """Name of a file on its own, as transformers writes it."""
        return f"{self.stem}{self.suffix}"

    @property
    def index_name(self) -> str:
        """Name of the index of shards."""
        return f"{self.file_name}.index.json"

    def file_names(self, shards: int) -> list[str]:
        """Names of the files of an output in this many parts."""
        if shards == 1:
            return [self.file_name]
        return [f"{self.stem}-{number:05}-of-{shards:05}{self.suffix}" for number in range(1, shards + 1)]

    def names_of(self, variant: str | None) -> tuple[str, str]:
        """Names of the file and of the index that are looked for in a folder: `model.fp16.safetensors`."""
        if variant is None:
            return self.file_name, self.index_name
        return f"{self.stem}.{variant}{self.suffix}", f"{self.file_name}.index.{variant}.json"

    def among(self, names: Collection[str], variant: str | None) -> list[str]:
        """Those of a folder's files, given relative to it, from which weights of this container are read."""
        return [name for name in self.names_of(variant) if name in names]

    def with_parts(self, name: str, names: Collection[str]) -> list[str]:  # noqa: ARG002  (most have none)
        """Those of a folder's files that hold other parts of the same model than its file or index of this name."""
        return []

    def has_config(self, name: str) -> bool:  # noqa: ARG002  (most have none)
        """Whether a file of this name may have the config of its model within it."""
        return False

    def config_in(self, file: SourceFile) -> bytes | None:  # noqa: ARG002  (most have none)
        """The config.json of the model that a file of this container has within it; errors as for `read`."""
        return None

    def is_output(self, name: str) -> bool:
        """Whether an output has files of this name: the file on its own, a shard or the index."""
        shard = rf"{re.escape(self.stem)}(-\d{{5}}-of-\d{{5}})?{re.escape(self.suffix)}(\.index\.json)?"
        return re.fullmatch(shard, name) is not None


class Spread(ABC):
    """A checkpoint whose index was read; its tensors lie in several files, of which none says anything by itself.

    Attributes:
        files: names of the files that hold the weights, as the index spells them.
        named: these and those that hold something else.
    """

    files: tuple[str, ...]
    named: frozenset[str]

    @abstractmethod
    def read(self, files: Sequence[SourceFile], *, check_data: bool) -> Header:
        """The header of the checkpoint; arguments and errors as for `Container.read`, with the opened `files`."""


class SpreadContainer(Container):
    """A container whose files say what they hold only together with their index.

    Attributes:
        keeps_record: whether its files have records in a manifest, as each tensor of one lies in it in one piece.
    """

    keeps_record: ClassVar[bool] = False

    def index_of(self, name: str) -> str | None:  # noqa: ARG002  (not every index can be told from a file's name)
        """The name of the index that says what a file of this name holds; None where no name tells it."""
        return None

    @abstractmethod
    def is_index(self, name: str) -> bool:
        """Whether a file of this name is such an index."""

    @abstractmethod
    def read_index(self, file: SourceFile) -> Spread:
        """What an index says; errors as for `Container.read`."""

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002
        """Refuse a file that is given without its index."""
        hint = "Give the folder, with its index and all of its files."
        raise UnsupportedCheckpoint(f"is a part of {self.kind}.", hint=hint, file=str(file.path))
