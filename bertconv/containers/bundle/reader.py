"""From the index of a tensor bundle and its files to tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.entries import (
    HEADER_KEY,
    MAX_SHARDS,
    STRING,
    BundleEntry,
    BundleHeader,
    read_entry,
    read_header,
)
from bertconv.containers.bundle.graph import GRAPH_KEY, MAX_GRAPH, Named, names_of, read_graph
from bertconv.containers.bundle.slices import PREFIX, box_of, slice_key
from bertconv.containers.bundle.table import UnknownCompressionError, read_table
from bertconv.containers.bundle.texts import read_texts
from bertconv.containers.chunks import MAX_CHUNKS, Box, Chunk, assemble, fault
from bertconv.containers.container import Spread
from bertconv.containers.protobuf import BYTES, WireError, fields
from bertconv.containers.stored import MAX_NAME, Header, SourceFile, StoredTensor
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.text import printable

MAX_INDEX = 16_000_000
"""Most bytes of an index: a tensor has a hundred, and three times that with the slots of its optimizer."""
_MAX_TEXTS = 16_000_000
"""Most bytes of a tensor of texts whose checksum is taken; the graph has a limit of its own."""
_AGAIN = "Copy or download the .index and all .data files of it again, or save the checkpoint again."
_RESAVE = "Load it with the TensorFlow that wrote it, and save it with tf.train.Checkpoint or tf.compat.v1.train.Saver."
_COUNTS = ("global_step",)
"""Names of numbers that count steps of training."""

Pieces = tuple[tuple[Box, BundleEntry], ...]


def read_bundle(file: SourceFile, prefix: str) -> Bundle:
    """Read and check an index; no other file is looked at.

    Args:
        file: the index.
        prefix: what the names of the files begin with.

    Raises:
        DamagedCheckpoint: truncated, no such index, or one that contradicts itself.
        UnsafeCheckpoint: larger than any index.
        UnsupportedCheckpoint: of another version, another order of bytes, or another compression.
    """
    if file.size > MAX_INDEX:
        what = f"has {file.size:,} bytes (limit {MAX_INDEX:,})."
        raise UnsafeCheckpoint(what, hint="No index of a model is so long: do not use it.", file=str(file.path))
    try:
        items = dict(read_table(file.read(0, file.size)))
        header = _header(file, items.pop(HEADER_KEY, None))
        return Bundle(file, prefix, header, _Index(file, header, items))
    except UnknownCompressionError as error:
        raise UnsupportedCheckpoint(f"{error}.", hint=_RESAVE, file=str(file.path)) from error
    except WireError as error:
        raise _bad(file, str(error)) from error


def _header(file: SourceFile, data: bytes | None) -> BundleHeader:
    if data is None:
        raise _bad(file, "has no header")
    if any(field.number == 1 and field.kind == BYTES for field in fields(data)):
        what = "is a TensorFlow checkpoint of the first version, which is not read."
        raise UnsupportedCheckpoint(what, hint=_RESAVE, file=str(file.path))
    header = read_header(data)
    if header.big_endian:
        what = "was written by a processor that stores the bytes of numbers in the opposite order (big-endian)."
        raise UnsupportedCheckpoint(what, hint="Load and save it there with a program that swaps them.",
                                    file=str(file.path))  # fmt: skip
    if not header.known:
        raise UnsupportedCheckpoint("is of a version that is not known.", hint=_RESAVE, file=str(file.path))
    if not 1 <= header.shards <= MAX_SHARDS:
        raise _bad(file, f"says that it has {header.shards:,} files")
    return header


class _Index:
    """What an index says, by keys.

    Attributes:
        whole: tensors that lie in one piece, and everything else that has a key.
        cut: shape and element type of tensors that were saved in slices, and the slices.
    """

    def __init__(self, file: SourceFile, header: BundleHeader, items: Mapping[bytes, bytes]) -> None:
        self._file = file
        self._header = header
        slices = {key: self._entry(value, "a slice") for key, value in items.items() if key.startswith(PREFIX)}
        self.whole: dict[str, BundleEntry] = {}
        self.cut: dict[str, tuple[BundleEntry, Pieces]] = {}
        for key, value in items.items():
            if key.startswith(PREFIX):
                continue
            name = self._name(key)
            entry = self._entry(value, name)
            if entry.slices:
                self.cut[name] = entry, tuple(self._pieces(key, name, entry, slices))
            else:
                self.whole[name] = entry
        if slices:
            raise _bad(file, f"has {len(slices):,} slices that no tensor names")

    def used(self) -> Iterator[BundleEntry]:
        """Everything that has bytes of its own."""
        yield from self.whole.values()
        for _, pieces in self.cut.values():
            yield from (entry for _, entry in pieces)

    def _name(self, key: bytes) -> str:
        try:
            name = key.decode()
        except UnicodeDecodeError as error:
            raise _bad(self._file, "has a name that is no text") from error
        if not name.isprintable():
            raise _bad(self._file, "has a name that is not printable", name[:100])
        return name

    def _entry(self, data: bytes, name: str) -> BundleEntry:
        try:
            entry = read_entry(data)
        except WireError as error:
            raise _bad(self._file, str(error), name) from error
        if entry.shard >= self._header.shards:
            raise _bad(self._file, f"lies in file {entry.shard:,} of {self._header.shards:,}", name)
        if entry.dtype and not entry.slices and entry.size != entry.nbytes:
            what = f"has shape {list(entry.shape)} and type {entry.dtype}"
            raise _bad(self._file, f"{what} but {entry.size:,} bytes instead of {entry.nbytes:,}", name)
        return entry

    def _pieces(
        self, key: bytes, name: str, entry: BundleEntry, slices: dict[bytes, BundleEntry]
    ) -> Iterator[tuple[Box, BundleEntry]]:
        if not entry.dtype:
            raise UnsupportedCheckpoint("was saved in slices of an element type that is not read.", hint=_RESAVE,
                                        file=str(self._file.path), tensor=name)  # fmt: skip
        if entry.size:
            raise _bad(self._file, "has slices and bytes of its own", name)
        if len(entry.slices) > MAX_CHUNKS:
            raise _bad(self._file, f"has more than {MAX_CHUNKS:,} slices", name)
        boxes = []
        for extents in entry.slices:
            if len(extents) != len(entry.shape):
                raise _bad(self._file, "has a slice with another number of axes", name)
            box = box_of(extents, entry.shape)
            found = slices.pop(slice_key(key, extents), None)
            if found is None or found.slices or (found.code, found.shape) != (entry.code, box.shape):
                what = "lacks its slice" if found is None else "has another slice than it names"
                raise _bad(self._file, f"{what} at {list(box.corner)}", name)
            boxes.append(box)
            yield box, found
        if problem := fault(entry.shape, boxes):
            raise _bad(self._file, problem, name)


class Bundle(Spread):
    """A tensor bundle whose index was read.

    Args:
        file: the index, for messages.
        prefix: what the names of its files begin with.
        header: of the bundle.
        index: everything else that it says.
    """

    def __init__(self, file: SourceFile, prefix: str, header: BundleHeader, index: _Index) -> None:
        self._path = str(file.path)
        self._index = index
        self._shards = sorted({entry.shard for entry in index.used()})
        names = [f"{prefix}.data-{number:05}-of-{header.shards:05}" for number in range(header.shards)]
        self._names = names
        self.files = tuple(names[number] for number in self._shards)
        self.named = frozenset(names)
        if not self.files:
            raise _bad(file, "holds no tensors")

    def places(self, file: str) -> set[tuple[str, str, tuple[int, ...], int]]:
        """Key, element type, shape and first byte of everything that lies whole in a file."""
        whole = self._index.whole.items()
        return {(key, one.dtype, one.shape, one.offset) for key, one in whole if self._names[one.shard] == file}

    def read(self, files: Sequence[SourceFile], *, check_data: bool) -> Header:
        """The header of the bundle; errors as for `Container.read`."""
        opened = dict(zip(self._shards, files, strict=True))
        _check_places(self._index, opened)
        if check_data:
            _check_data(self._index, opened)
        graph = self._graph(opened)
        keys = {*self._index.whole, *self._index.cut}
        others = {key for key in keys if self._is_other(key, graph)} - {GRAPH_KEY}
        wanted = sorted(keys - others - {GRAPH_KEY})
        names = names_of(wanted, graph, self._content) if graph else {key: key for key in wanted}
        tensors = []
        for key, name in names.items():
            if not name or len(name) > MAX_NAME or not name.isprintable():
                problem = "has a name that is not printable text of at most 1,024 characters."
                raise DamagedCheckpoint(problem, hint=_AGAIN, file=self._path, tensor=key[:100])
            tensors.append(self._tensor(key, name, opened))
        count = len(self._index.cut)
        notes = [f"{count:,} tensors were saved in slices"] if count else []
        if again := len(wanted) - len(names):
            notes.append(f"{again:,} tensors were saved twice under two keys, and are taken once")
        return Header("bundle", tuple(tensors), notes=tuple(notes), others=tuple(sorted(others)))

    def _is_other(self, key: str, graph: Mapping[str, Named]) -> bool:
        """Whether it is no weight: of an optimizer, a text, a number that counts something."""
        if key in graph and graph[key].is_training:
            return True
        if key in self._index.cut:
            return False
        entry = self._index.whole[key]
        counts = entry.shape == () and "float" not in entry.dtype
        return not entry.dtype or counts or key in _COUNTS

    def _content(self, key: str) -> tuple[object, ...]:
        """Equal for two keys of equal tensors."""
        entry, pieces = self._index.cut.get(key, (None, ()))
        whole = entry or self._index.whole[key]
        sums = [(box, one.checksum) for box, one in pieces] if pieces else whole.checksum
        return whole.code, whole.shape, str(sums)

    def _tensor(self, key: str, name: str, opened: Mapping[int, SourceFile]) -> StoredTensor:
        if key in self._index.whole:
            return _stored(name, self._index.whole[key], opened)
        entry, pieces = self._index.cut[key]
        return assemble(name, entry.shape, [Chunk(box.corner, _stored(name, one, opened)) for box, one in pieces])

    def _graph(self, opened: Mapping[int, SourceFile]) -> dict[str, Named]:
        """What the object graph says; nothing where the bundle has none."""
        entry = self._index.whole.get(GRAPH_KEY)
        if entry is None:
            return {}
        file = opened[entry.shard]
        if entry.code != STRING or entry.shape or entry.size > MAX_GRAPH:
            raise _bad(file, "is no object graph of TensorFlow", GRAPH_KEY)
        try:
            texts, checksum = read_texts(file.read(entry.offset, entry.size, GRAPH_KEY), 1)
            graph = read_graph(texts[0])
        except WireError as error:
            raise _bad(file, str(error), GRAPH_KEY) from error
        if checksum != entry.checksum:
            raise _bad(file, "differs from its checksum", GRAPH_KEY)
        return graph


def _stored(name: str, entry: BundleEntry, opened: Mapping[int, SourceFile]) -> StoredTensor:
    return StoredTensor(name, entry.dtype, entry.shape, opened[entry.shard], entry.offset)


def _check_places(index: _Index, opened: Mapping[int, SourceFile]) -> None:
    """Everything in its file, and no byte of two tensors."""
    ends = dict.fromkeys(opened, 0)
    for entry in sorted(index.used(), key=lambda one: (one.shard, one.offset, one.size)):
        file = opened[entry.shard]
        end = entry.offset + entry.size
        if end > file.size:
            raise _bad(file, f"is truncated: a tensor of it ends at byte {end:,}, the file at {file.size:,}")
        if entry.size and entry.offset < ends[entry.shard]:
            raise _bad(file, f"has a tensor at byte {entry.offset:,} that overlaps the one before it")
        ends[entry.shard] = max(ends[entry.shard], end if entry.size else 0)


def _check_data(index: _Index, opened: Mapping[int, SourceFile]) -> None:
    """Take the checksum of everything that has one."""
    for key, entry in index.whole.items():
        _check_one(key, entry, opened[entry.shard])
    for key, (_, pieces) in index.cut.items():
        for _, entry in pieces:
            _check_one(key, entry, opened[entry.shard])


def _check_one(key: str, entry: BundleEntry, file: SourceFile) -> None:
    if entry.dtype:
        found = masked(file.pieces(entry.offset, entry.offset + entry.size, key))
    elif entry.code == STRING and entry.size <= _MAX_TEXTS:
        try:
            _, found = read_texts(file.read(entry.offset, entry.size, key), math.prod(entry.shape))
        except WireError as error:
            raise _bad(file, str(error), key) from error
    else:
        return
    if found != entry.checksum:  # guard: bundle-checksum
        raise _bad(file, "differs from its checksum", key)


def _bad(file: SourceFile, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
    name = printable(tensor)[:200] if tensor else None
    return DamagedCheckpoint(f"{problem}.", hint=_AGAIN, file=str(file.path), tensor=name)
