"""A file with room for every dataset, as libhdf5 lays it out in memory.

So libhdf5 never sees a write fail. On a full disk it loses small datasets without a word, or crashes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertconv.containers.container import FileLayout
from bertconv.containers.hdf5.kinds import type_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

ATTRIBUTE_LIMIT = 64512
"""Bytes that fit into one attribute of an object header; Keras splits longer lists of names into chunks."""


@dataclass(frozen=True)
class Dataset:
    """One dataset to lay out: its path, element type, shape, and other paths that are hard links to it."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    links: tuple[str, ...] = ()


class SparseFile(io.RawIOBase):
    """A file in memory that holds only the blocks that were written to; all other bytes are zero."""

    BLOCK = 1 << 12

    def __init__(self) -> None:
        self.blocks: dict[int, bytearray] = {}
        self.size = 0
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, in bytes."""
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer; what lies behind the end is zero."""
        view = memoryview(buffer).cast("B")
        for place, number, start, count in self._parts(len(view)):
            block = self.blocks.get(number)
            view[place : place + count] = block[start : start + count] if block else bytes(count)
        self._place += len(view)
        return len(view)

    def write(self, data: ReadableBuffer, /) -> int:
        """Put bytes at the place, and the end behind them where it was before."""
        view = memoryview(data).cast("B")
        for place, number, start, count in self._parts(len(view)):
            block = self.blocks.setdefault(number, bytearray(self.BLOCK))
            block[start : start + count] = view[place : place + count]
        self._place += len(view)
        self.size = max(self.size, self._place)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the end."""
        self.size = self._place if size is None else size
        return self.size

    def _parts(self, length: int) -> list[tuple[int, int, int, int]]:
        """The next bytes as pieces of blocks: place in the buffer, block, start in it, count."""
        parts, done = [], 0
        while done < length:
            number, start = divmod(self._place + done, self.BLOCK)
            count = min(self.BLOCK - start, length - done)
            parts.append((done, number, start, count))
            done += count
        return parts


Attributes = Mapping[str, Mapping[str, str | Sequence[str]]]
"""Group path ("" is the root) -> attribute -> text, or a list of names, which is split into chunks."""


def lay_out(datasets: Sequence[Dataset], attributes: Attributes) -> FileLayout:
    """A file with every dataset's space allocated and nothing in it.

    Args:
        datasets: in the order in which their bytes are to follow each other.
        attributes: what groups say of themselves.
    """
    memory, offsets = in_memory(datasets, attributes)
    starts = {number * memory.BLOCK: block for number, block in sorted(memory.blocks.items())}
    parts = {start: bytes(block[: memory.size - start]) for start, block in starts.items()}
    return FileLayout(memory.size, tuple(offsets), parts)


def in_memory(datasets: Sequence[Dataset], attributes: Attributes) -> tuple[SparseFile, list[int]]:
    """The file that h5py makes, in memory, and the offset of every dataset (0 for an empty one)."""
    import h5py
    from h5py import h5d, h5p, h5s

    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.CONTIGUOUS)
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    memory = SparseFile()
    offsets = []
    with h5py.File(memory, "w", libver="earliest") as root:
        for group, values in attributes.items():
            _write_attributes(root.require_group(group) if group else root, values)
        for dataset in datasets:
            space = h5s.create_simple(dataset.shape)
            made = h5d.create(root.id, None, type_of(dataset.dtype), space, creation)
            for name in (dataset.path, *dataset.links):
                h5py.h5o.link(made, root.id, name.encode(), lcpl=links)
            offsets.append(made.get_offset() or 0)
    return memory, offsets


def _write_attributes(group: Any, values: Mapping[str, str | Sequence[str]]) -> None:
    import numpy as np

    for key, value in values.items():
        if isinstance(value, str):
            group.attrs.create(key, np.bytes_(value.encode()))
            continue
        names = np.array([name.encode() for name in value] or [], dtype="S" if value else "S1")
        if names.nbytes <= ATTRIBUTE_LIMIT:
            group.attrs.create(key, names)
            continue
        per_chunk = ATTRIBUTE_LIMIT // names.itemsize
        for number, start in enumerate(range(0, len(names), per_chunk)):
            group.attrs.create(f"{key}{number}", names[start : start + per_chunk])
