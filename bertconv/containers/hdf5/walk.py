"""The walk over a file's metadata, in the child: hard links only, each group once, no dataset that hides something."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bertconv.containers.hdf5.kinds import dtype_of
from bertconv.containers.stored import ITEM_SIZE
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.text import printable

MAX_OBJECTS = 20_000
"""Most groups and datasets that are looked at; a BERT of 48 layers with its optimizer has 3,000."""
MAX_DEPTH = 64
"""Deepest path that is followed."""
MAX_NAME = 1024
"""Longest path, in characters."""


@dataclass(frozen=True)
class Entry:
    """One dataset: its name below its layer's group, that group, element type, shape, and offset in bytes."""

    name: str
    group: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Found:
    """What a walk found: datasets, root attributes that tell of the writer, and things that are not weights."""

    tensors: tuple[Entry, ...]
    metadata: dict[str, str]
    others: tuple[str, ...]


def walk(root: Any) -> Found:
    """Everything in an open file, from its metadata alone.

    Raises:
        UnsafeCheckpoint: external or virtual data, links, cycles, too many objects.
        DamagedCheckpoint: a name that is no text, or data that was never written.
        UnsupportedCheckpoint: compressed or chunked datasets, or elements of an unusual kind.
    """
    import h5py

    steps = _Walk(h5py)
    saved_model = "model_weights" in root and "layer_names" not in root.attrs
    if saved_model:
        others = [name for name in steps.names(root, "") if name != "model_weights"]
        tensors = tuple(steps.tensors(steps.child(root, "model_weights", "model_weights")))
    else:
        others = ["optimizer_weights"] if "optimizer_weights" in root else []
        tensors = tuple(steps.tensors(root))
    metadata = {key: text for key in ("backend", "keras_version") if (text := _short_text(h5py, root, key)) is not None}
    return Found(tensors, metadata, tuple(others))


@dataclass
class _Walk:
    """One walk, and what it has seen."""

    h5py: Any
    seen: set[int] = field(default_factory=set)
    objects: int = 0

    def tensors(self, top: Any) -> Iterator[Entry]:
        for name in self.names(top, ""):
            child = self.child(top, name, name)
            if name == "optimizer_weights":
                continue
            if isinstance(child, self.h5py.Group):
                layer = name if any(key.startswith("weight_names") for key in child.attrs) else ""
                yield from self.below(child, "" if layer else name, layer, 1)
            else:
                yield self.tensor(child, name, "")

    def below(self, group: Any, path: str, layer: str, depth: int) -> Iterator[Entry]:
        address = self.h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > MAX_DEPTH:
            raise _unsafe(path or layer, "is a group that is reached twice or too deep")
        self.seen.add(address)
        for name in self.names(group, path):
            full = f"{path}/{name}" if path else name
            child = self.child(group, name, full)
            if isinstance(child, self.h5py.Group):
                yield from self.below(child, full, layer, depth + 1)
            else:
                yield self.tensor(child, full, layer)

    def names(self, group: Any, path: str) -> Iterator[str]:
        self.objects += len(group)
        if self.objects > MAX_OBJECTS:
            raise _unsafe(path or None, f"holds more than {MAX_OBJECTS:,} objects")
        for name in group:
            full = f"{path}/{name}" if path else str(name)
            if not isinstance(name, str) or len(full) > MAX_NAME or not name.isprintable():  # bytes: not UTF-8
                raise _bad(full[:100], f"has a name that is not printable text of at most {MAX_NAME:,} characters")
            yield name

    def child(self, group: Any, name: str, full: str) -> Any:
        if group.id.links.get_info(name.encode()).type != self.h5py.h5l.TYPE_HARD:
            raise _unsafe(full, "is a link to another place or file")
        try:
            child = group[name]
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise _bad(full, f"cannot be opened: {printable(str(error)[:MAX_NAME])}") from error
        if not isinstance(child, (self.h5py.Group, self.h5py.Dataset)):
            raise _unsafe(full, "is neither a group nor a dataset")
        return child

    def tensor(self, dataset: Any, name: str, layer: str) -> Entry:
        plist = dataset.id.get_create_plist()
        if plist.get_layout() == self.h5py.h5d.VIRTUAL or plist.get_external_count():
            raise _unsafe(name, "takes its data from another file")
        dtype = self.dtype(dataset, name)
        shape = tuple(int(size) for size in dataset.shape or ())
        nbytes = math.prod(shape) * ITEM_SIZE[dtype]
        if nbytes == 0:
            return Entry(name, layer, dtype, shape, 0)
        if plist.get_layout() != self.h5py.h5d.CONTIGUOUS or plist.get_nfilters():
            raise UnsupportedCheckpoint(
                "is chunked or compressed.",
                hint="Rewrite the file with `h5repack -l CONTI -f NONE in.h5 out.h5`.",
                tensor=name,
            )
        offset, stored = dataset.id.get_offset(), dataset.id.get_storage_size()
        if offset is None or stored != nbytes:
            raise _bad(name, f"declares {nbytes:,} bytes but stores {stored if offset else 0:,}")
        return Entry(name, layer, dtype, shape, offset)

    def dtype(self, dataset: Any, name: str) -> str:
        kind = dataset.id.get_type()
        classes = (self.h5py.h5t.FLOAT, self.h5py.h5t.INTEGER)
        if kind.get_class() not in classes or kind.get_order() != self.h5py.h5t.ORDER_LE:
            raise UnsupportedCheckpoint(
                "does not hold little-endian numbers.",
                hint="Only floating-point and integer datasets are weights.",
                tensor=name,
            )
        if (dtype := dtype_of(kind)) is None:
            raise UnsupportedCheckpoint(
                f"has elements of {kind.get_size()} bytes of an unusual kind.",
                hint="Save the weights as float32 or float16.",
                tensor=name,
            )
        return dtype


def _unsafe(name: str | None, problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(f"{problem}.", hint="No tool writes weights so; do not trust the file.", tensor=name)


def _bad(name: str, problem: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{problem}.", hint="Download or save the file again.", tensor=name)


def _short_text(h5py: Any, root: Any, key: str) -> str | None:
    """A root attribute, where it is one short text: the damaged heap of a variable length can hang libhdf5 for ever."""
    if key not in root.attrs:
        return None
    attribute = root.attrs.get_id(key)
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING or attribute.shape != () or attribute.get_storage_size() > MAX_NAME:
        return None
    if kind.is_variable_str():
        return None
    value = root.attrs[key]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
