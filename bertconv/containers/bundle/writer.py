"""Tensor bundles laid out, and the index of one whose tensors were written.

What a bundle has beside the tensors, the graph of objects and the number of saves, lies at the beginning of its first
file, so that the layouts alone say all bytes of all files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.entries import CODES, HEADER_KEY, BundleEntry, entry_bytes, header_bytes
from bertconv.containers.bundle.graph import COUNTER, GRAPH_KEY, VARIABLE, graph_bytes
from bertconv.containers.bundle.table import write_table
from bertconv.containers.bundle.texts import read_texts, write_text
from bertconv.containers.container import Entry, FileLayout, FileOptions, Opener, PlannedFile

_COUNT = (1).to_bytes(8, "little")
"""How often it was saved, which TensorFlow counts on from."""


def key_of(name: str, *, objects: bool) -> str:
    """The key of a tensor: its name, or the one that TensorFlow gives the object at this path."""
    return name + VARIABLE if objects else name


def lay_out(tensors: Sequence[Entry], options: FileOptions, *, objects: bool) -> FileLayout:
    """A file with room for tensors, one after the other in their order, behind what belongs to all files."""
    graph = graph_bytes([COUNTER, *sorted(options.names)], options.links) if objects and options.number == 0 else None
    extra = {} if graph is None else _extra(graph)
    parts = {entry.offset: data for entry, data in extra.values()}
    at = sum(map(len, parts.values()))
    offsets = []
    for tensor in tensors:
        offsets.append(at)
        at += tensor.nbytes
    return FileLayout(at, tuple(offsets), parts)


def index_bytes(opened: Opener, files: Sequence[PlannedFile], *, objects: bool) -> bytes:
    """The index of files that were written, with a checksum of everything that lies in them."""
    items = {key: entry for key, (entry, _) in (_extra(_graph_in(files[0].layout)) if objects else {}).items()}
    for number, file in enumerate(files):
        items.update(_described(opened, number, file, objects=objects))
    rows = sorted((key.encode(), entry_bytes(entry)) for key, entry in items.items())
    return write_table([(HEADER_KEY, header_bytes(len(files))), *rows])


def _described(opened: Opener, number: int, file: PlannedFile, *, objects: bool) -> Iterator[tuple[str, BundleEntry]]:
    with closing(opened(file.name)) as there:
        for entry, offset in zip(file.entries, file.layout.offsets, strict=True):
            checksum = masked(there.pieces(offset, offset + entry.nbytes, entry.name))
            place = BundleEntry(CODES[entry.dtype], entry.shape, number, offset, entry.nbytes, checksum)
            yield key_of(entry.name, objects=objects), place


def _graph_in(layout: FileLayout) -> bytes:
    """The graph that lies at the beginning of the first file."""
    return read_texts(layout.parts[0], 1)[0][0]


def _extra(graph: bytes) -> Mapping[str, tuple[BundleEntry, bytes]]:
    """By its key what a checkpoint of objects has beside their variables; all of it in the first file."""
    text, entry = write_text(graph, 0, 0)
    count = BundleEntry(CODES["int64"], (), 0, len(text), len(_COUNT), masked([_COUNT]))
    return {GRAPH_KEY: (entry, text), COUNTER + VARIABLE: (count, _COUNT)}
