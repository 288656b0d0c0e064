"""`.metadata`, the index of a distributed checkpoint: a pickle of a few classes, read without building any of them.

Classes and fields are those of `torch/distributed/checkpoint/metadata.py` and `filesystem.py` (torch 2.0 to 2.13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bertconv.containers.chunks import Box, fault
from bertconv.containers.pytorch import names
from bertconv.containers.pytorch.calls import natural, naturals
from bertconv.containers.pytorch.machine import MAX_BYTES, MAX_DEPTH, MAX_TENSORS, PickleReader
from bertconv.containers.pytorch.state import ENVELOPES, StateDict, find_state_dict
from bertconv.containers.pytorch.stream import MAX_NAME
from bertconv.containers.pytorch.values import (
    Global,
    Opaque,
    PickledDict,
    PickledList,
    PickledTuple,
    Record,
    Role,
    Storage,
    Tensor,
    damaged,
    unsafe,
    unsupported,
)
from bertconv.containers.stored import ITEM_SIZE, SourceFile
from bertconv.errors import DamagedCheckpoint
from bertconv.text import printable

MAX_STEPS = 3_000_000
"""A chunk takes 150: a base model and the two moments of Adam, 600 tensors, of 32 processes fit, in 85 MB."""

AGAIN = "Copy or download .metadata and all *.distcp files again, or save the checkpoint again."
CONVERT = (
    "Make one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER pytorch_model.bin"
)

_PACKAGES = ("torch.distributed.checkpoint.", "torch.distributed._shard.checkpoint.")
_RECORDS = {
    f"{package}{name}"
    for package in _PACKAGES
    for name in ("metadata.Metadata", "metadata.TensorStorageMetadata", "metadata.BytesStorageMetadata",
                 "metadata.ChunkStorageMetadata", "metadata.MetadataIndex", "metadata.TensorProperties",
                 "metadata.StorageMeta", "filesystem._StorageInfo", "_fsspec_filesystem._StorageInfo")
}  # fmt: skip
_RECORDS.add("torch.distributed._shard.sharded_tensor.metadata.TensorProperties")  # until torch 2.2
_INERT = {
    "torch.serialization._get_layout",
    "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",
    "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING",
}
_AROUND = ("app", "state")
"""Keys around those of a state dict: of torch's own examples, and of Composer."""
_TRAINING = ("optim", "optimizer", "optimizers", "lr_scheduler", "dataloader", "train_state")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item lies: bytes of a file, and the box of its tensor; None where it is no tensor.

    `coded` says by what the bytes were changed, as a compression; empty where they were not.
    """

    file: str
    offset: int
    length: int
    box: Box | None
    coded: str


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as the index describes it: its chunks fill its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an index says.

    Attributes:
        path: of the index, for messages.
        state: the state dict that was found in it, and what is beside it.
        tensors: the state dict's, by their names in it, in its order.
        places: of everything that it lists, whether it is wanted or not, by file.
    """

    path: str
    state: StateDict
    tensors: dict[str, Described]
    places: dict[str, list[Place]]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold the tensors."""
        return tuple(sorted({place.file for tensor in self.tensors.values() for place in tensor.chunks}))


def read_metadata(file: SourceFile) -> Metadata:
    """Read and check an index; no other file is looked at.

    Raises:
        UnsafeCheckpoint: a pickle that wants to call something, or beyond every budget.
        DamagedCheckpoint: truncated, not such a pickle, or one that contradicts itself.
        UnsupportedCheckpoint: several state dicts, or element types that are not read.
    """
    path = str(file.path)
    if file.size > MAX_BYTES:
        raise unsafe(path, f"has {file.size:,} bytes (limit {MAX_BYTES:,}).")
    data = file.read(0, file.size)
    if not data.startswith(b"\x80"):
        raise _bad(path, "is not the index of a distributed checkpoint" if data else "is empty")
    reader = PickleReader(data, path, _resolve, MAX_STEPS)
    root = reader.load()
    if reader.position != len(data):
        raise _bad(path, "has bytes after the end of its pickle")
    return _Index(path, _fields(root, "Metadata", path)).read()


def _resolve(name: str, file: str) -> Global:
    if name in _RECORDS:
        return Global(name, Role.RECORD)
    return Global(name, Role.INERT) if name in _INERT else names.resolve(name, file)


def _bad(path: str, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
    return damaged(path, f"{problem}.", tensor=tensor, hint=AGAIN)


def _fields(value: object, cls: str, path: str) -> dict[str, object]:
    """The attributes of an instance of a class."""
    found = value.attributes() if isinstance(value, Record) and value.name.endswith(f".{cls}") else None
    if found is None:
        raise _bad(path, f"has something else where a {cls} should be")
    return found


def _pairs(value: object, what: str, path: str) -> list[tuple[object, object]]:
    if not isinstance(value, PickledDict):
        raise _bad(path, f"has no dictionary of {what}")
    return value.items


class _Index:
    """The attributes of a `Metadata`, read one after the other."""

    def __init__(self, path: str, fields: Mapping[str, object]) -> None:
        self._path = path
        self._fields = fields

    def read(self) -> Metadata:
        items = self._items()
        stored = self._storage()
        described, places = self._describe(items, stored)
        state = find_state_dict(self._tree(items, described), self._path, (*ENVELOPES, *_AROUND))
        tensors = {name: described[tensor.storage.key] for name, tensor in state.tensors.items()}
        for name, tensor in tensors.items():
            if tensor.dtype not in ITEM_SIZE:
                hint = "Save it as float32."
                raise unsupported(self._path, f"has the element type {tensor.dtype}.", tensor=name, hint=hint)
        return Metadata(self._path, state, tensors, places)

    def _items(self) -> dict[str, Record]:
        """What the checkpoint holds, by its full names."""
        items: dict[str, Record] = {}
        pairs = _pairs(self._fields.get("state_dict_metadata"), "tensors", self._path)
        if len(pairs) > MAX_TENSORS:
            raise unsafe(self._path, f"lists more than {MAX_TENSORS:,} tensors.")
        for name, item in pairs:
            if not isinstance(name, str) or not isinstance(item, Record):
                raise _bad(self._path, "lists something that is neither a tensor nor bytes")
            if len(name.encode()) > MAX_NAME:
                raise unsafe(self._path, f"lists a tensor whose name is longer than {MAX_NAME} bytes.")
            if name in items:
                raise _bad(self._path, "is listed twice", name)
            items[name] = item
        return items

    def _storage(self) -> dict[tuple[str, tuple[int, ...] | None], Place]:
        """Where everything lies: by name, and for a chunk the first index along every axis."""
        found: dict[tuple[str, tuple[int, ...] | None], Place] = {}
        for key, value in _pairs(self._fields.get("storage_data"), "places", self._path):
            index, info = _fields(key, "MetadataIndex", self._path), _fields(value, "_StorageInfo", self._path)
            name, offset = index.get("fqn"), index.get("offset")
            if not isinstance(name, str):
                raise _bad(self._path, "has a place of something without a name")
            at = (name, None if offset is None else naturals(offset, self._path))
            if at in found:
                raise _bad(self._path, "has two places for one chunk", name)
            found[at] = self._place(info, name)
        return found

    def _place(self, info: Mapping[str, object], name: str) -> Place:
        file, coding = info.get("relative_path"), info.get("transform_descriptors")
        if not isinstance(file, str) or len(file) > MAX_NAME:
            raise _bad(self._path, "is in a file whose name is no text", name)
        offset, length = (natural(info.get(key), self._path) for key in ("offset", "length"))
        known = isinstance(coding, PickledList | PickledTuple) and all(isinstance(one, str) for one in coding.items)
        if coding is not None and not known:
            raise _bad(self._path, "is changed by something that has no name", name)
        coded = ", ".join(map(str, coding.items)) if isinstance(coding, PickledList | PickledTuple) else ""
        return Place(file, offset, length, None, printable(coded)[:200])

    def _describe(
        self, items: Mapping[str, Record], stored: dict[tuple[str, tuple[int, ...] | None], Place]
    ) -> tuple[dict[str, Described], dict[str, list[Place]]]:
        """Every tensor with its chunks, and every place by file; each place is of one item."""
        described: dict[str, Described] = {}
        places: dict[str, list[Place]] = {}
        for name, item in items.items():
            if item.name.endswith(".BytesStorageMetadata"):
                found = [one] if (one := stored.pop((name, None), None)) else []
            else:
                described[name] = self._tensor(name, _fields(item, "TensorStorageMetadata", self._path), stored)
                found = list(described[name].chunks)
            if not found:
                raise _bad(self._path, "is listed and has no place", name)
            for place in found:
                places.setdefault(place.file, []).append(place)
        if stored:
            raise _bad(self._path, "has a place for a chunk that it does not list", next(iter(stored))[0])
        return described, places

    def _tensor(
        self,
        name: str,
        fields: Mapping[str, object],
        stored: dict[tuple[str, tuple[int, ...] | None], Place],
    ) -> Described:
        shape = naturals(fields.get("size"), self._path)
        if math.prod(max(size, 1) for size in shape) >= 2**59:
            raise _bad(self._path, "has a shape that no machine can hold", name)
        boxes = list(dict.fromkeys(self._boxes(fields.get("chunks"), name)))  # of processes that have none of it
        if problem := fault(shape, boxes):
            raise _bad(self._path, problem, name)
        chunks = []
        for box in boxes:
            place = stored.pop((name, box.corner), None)
            if place is None and len(boxes) == 1:
                place = stored.pop((name, None), None)  # a tensor that was not sharded may have no first index
            if place is None:
                raise _bad(self._path, f"lacks the place of its chunk at {list(box.corner)}", name)
            chunks.append(Place(place.file, place.offset, place.length, box, place.coded))
        return Described(name, self._dtype(fields.get("properties"), name), shape, tuple(chunks))

    def _boxes(self, chunks: object, name: str) -> Iterator[Box]:
        if not isinstance(chunks, PickledList) or not chunks.items:
            raise _bad(self._path, "has no chunks", name)
        for chunk in chunks.items:
            fields = _fields(chunk, "ChunkStorageMetadata", self._path)
            yield Box(naturals(fields.get("offsets"), self._path), naturals(fields.get("sizes"), self._path))

    def _dtype(self, properties: object, name: str) -> str:
        """The first of the values that torch pickles of `TensorProperties`."""
        state = properties.items[0] if isinstance(properties, Record) and properties.items else None
        dtype = state.items[0] if isinstance(state, PickledTuple) and state.items else None
        if not isinstance(dtype, Global) or dtype.role is not Role.DTYPE:
            raise _bad(self._path, "has no element type", name)
        return dtype.detail

    def _tree(self, items: Mapping[str, Record], described: Mapping[str, Described]) -> PickledDict:
        """The nested dictionary that was saved, its tensors in it by their shapes."""
        root = PickledDict()
        inner: dict[tuple[object, ...], PickledDict] = {(): root}
        leaves: set[tuple[object, ...]] = set()
        for name, path in self._paths(items).items():
            for depth in range(1, len(path)):
                if path[:depth] not in inner:
                    inner[path[:depth]] = made = PickledDict()
                    inner[path[: depth - 1]].items.append((path[depth - 1], made))
            leaves.add(path)
            inner[path[:-1]].items.append((path[-1], _leaf(described[name]) if name in described else Opaque("bytes")))
        if not leaves.isdisjoint(inner):
            raise _bad(self._path, "has a name for a tensor and for a dictionary of some")
        return root

    def _paths(self, items: Mapping[str, Record]) -> dict[str, tuple[object, ...]]:
        """The keys under which each item was saved: of `planner_data`, where the writer left them."""
        planned = self._fields.get("planner_data")
        found: dict[str, tuple[object, ...]] = {}
        for name, keys in planned.items if isinstance(planned, PickledDict) else ():
            parts = keys.items if isinstance(keys, PickledTuple) else []
            plain = all(isinstance(part, str) or type(part) is int for part in parts)
            if not isinstance(name, str) or not 1 <= len(parts) <= MAX_DEPTH or not plain:
                raise _bad(self._path, "has keys of a tensor that are none")
            found[name] = tuple(parts)
        bare = [name for name in items if name not in found]
        return {name: found.get(name, path) for name, path in zip(items, _split(bare, items), strict=True)}


def _split(bare: list[str], items: Mapping[str, Record]) -> Iterator[tuple[object, ...]]:
    """Keys for names whose writer left none: training state apart, and without what is around all others."""
    model = [name for name in bare if name.partition(".")[0] not in _TRAINING]
    around = [key for key in _AROUND if model and all(name.startswith(f"{key}.") for name in model)]
    alone = set(bare)
    for name in items:
        first, _, rest = name.partition(".")
        yield (first, rest) if name in alone and rest and first in (*_TRAINING, *around) else (name,)


def _leaf(tensor: Described) -> Tensor:
    """A tensor for the search for a state dict, which asks for names, element types and shapes."""
    return Tensor(Storage(tensor.name, "", 0, 0, 0), tensor.dtype, 0, tensor.shape, ())
