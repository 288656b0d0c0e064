"""tf_model.h5: the HDF5 layout of Keras 2 `save_weights`, as transformers' TensorFlow classes wrote it.

libhdf5 is used for metadata only: it says where each dataset's bytes lie, and they are read and written as plain ranges
of the file. Format: docs.hdfgroup.org, "HDF5 File Format Specification 3.0"; attributes: Keras 2, saving/hdf5_format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.source.stored import Header, SourceFile, StoredTensor
from bertconv.text import printable

MAX_OBJECTS = 100_000
"""Most groups and datasets that are looked at."""
MAX_DEPTH = 64
"""Deepest path that is followed."""
ATTRIBUTE_LIMIT = 64512
"""Bytes that fit into one attribute of an object header; Keras splits longer lists of names into chunks."""

_FLOATS = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}
_BFLOAT16 = (15, 7, 8, 0, 7)
"""Sign bit, exponent begin and size, mantissa begin and size. HDF5 readers turn such a type into float32 themselves."""


_STANDARD = {
    "float16": "IEEE_F16LE", "float32": "IEEE_F32LE", "float64": "IEEE_F64LE",
    "int8": "STD_I8LE", "int16": "STD_I16LE", "int32": "STD_I32LE", "int64": "STD_I64LE",
    "uint8": "STD_U8LE", "uint16": "STD_U16LE", "uint32": "STD_U32LE", "uint64": "STD_U64LE",
}  # fmt: skip
"""Element type -> HDF5's own type whose bits are read as they are."""


def read_hdf5(file: SourceFile) -> Header:
    """Walk the metadata and find every dataset's bytes; no tensor data is read.

    Names are those below their layer's group, `group` is the layer. Files of `model.save` hold them in `model_weights`.

    Raises:
        UnsafeCheckpoint: external or virtual data, links, cycles, too many objects.
        DamagedCheckpoint: not HDF5, truncated, or data that was never written.
        UnsupportedCheckpoint: compressed or chunked datasets.
    """
    import h5py

    try:
        with h5py.File(file.path, "r", locking=False) as root:
            walk = _Walk(file, h5py)
            saved_model = "model_weights" in root and "layer_names" not in root.attrs
            top = walk.child(root, "model_weights", "model_weights") if saved_model else root
            tensors = tuple(walk.tensors(top))
            others = [name for name in root if top is not root and name != "model_weights"]
            others += [name for name in root if top is root and name == "optimizer_weights"]
            metadata = {key: _text(root.attrs[key]) for key in ("backend", "keras_version") if _is_plain(root, key)}
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, (UnsafeCheckpoint, DamagedCheckpoint, UnsupportedCheckpoint)):
            raise
        raise _bad(file, f"is not sound HDF5: {printable(str(error))}") from error
    return Header("hdf5", tensors, metadata, others=tuple(others))


@dataclass
class _Walk:
    """One walk over hard links, each group once, no link followed out of the file."""

    file: SourceFile
    h5py: Any
    seen: set[int] = field(default_factory=set)
    objects: int = 0

    def tensors(self, top: Any) -> Iterator[StoredTensor]:
        for name in top:
            child = self.child(top, name, str(name))
            if name == "optimizer_weights" or child is None:
                continue
            if isinstance(child, self.h5py.Group):
                layer = name if any(key.startswith("weight_names") for key in child.attrs) else ""
                yield from self.below(child, "" if layer else name, layer, 1)
            else:
                yield self.tensor(child, name, "")

    def below(self, group: Any, path: str, layer: str, depth: int) -> Iterator[StoredTensor]:
        address = self.h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > MAX_DEPTH:
            raise self.unsafe(path or layer, "is a group that is reached twice or too deep")
        self.seen.add(address)
        for name in group:
            full = f"{path}/{name}" if path else str(name)
            child = self.child(group, name, full)
            if isinstance(child, self.h5py.Group):
                yield from self.below(child, full, layer, depth + 1)
            else:
                yield self.tensor(child, full, layer)

    def child(self, group: Any, name: str, full: str) -> Any:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise self.unsafe(full, f"is one of more than {MAX_OBJECTS:,} objects")
        if not isinstance(name, str) or len(full) > 1024 or not full.isprintable():  # bytes: not UTF-8
            raise _bad(self.file, "has a name that is not printable text of at most 1,024 characters", full[:100])
        if group.get(name, getlink=True).__class__ is not self.h5py.HardLink:
            raise self.unsafe(full, "is a link to another place or file")
        child = group[name]
        if not isinstance(child, (self.h5py.Group, self.h5py.Dataset)):
            raise self.unsafe(full, "is neither a group nor a dataset")
        return child

    def tensor(self, dataset: Any, name: str, layer: str) -> StoredTensor:
        plist = dataset.id.get_create_plist()
        if plist.get_layout() == self.h5py.h5d.VIRTUAL or plist.get_external_count():
            raise self.unsafe(name, "takes its data from another file")
        dtype = self.dtype(dataset, name)
        shape = tuple(int(size) for size in dataset.shape or ())
        tensor = StoredTensor(name, dtype, shape, self.file, 0, group=layer)
        if tensor.nbytes == 0:
            return tensor
        if plist.get_layout() != self.h5py.h5d.CONTIGUOUS or plist.get_nfilters():
            raise UnsupportedCheckpoint(
                "is chunked or compressed.",
                hint="Rewrite the file with `h5repack -l CONTI -f NONE in.h5 out.h5`.",
                file=str(self.file.path),
                tensor=name,
            )
        offset, stored = dataset.id.get_offset(), dataset.id.get_storage_size()
        if offset is None or stored != tensor.nbytes:
            raise _bad(self.file, f"declares {tensor.nbytes:,} bytes but stores {stored if offset else 0:,}", name)
        if offset + stored > self.file.size:
            raise _bad(self.file, f"ends at byte {offset + stored:,}, the file at {self.file.size:,}", name)
        return StoredTensor(name, dtype, shape, self.file, offset, group=layer)

    def dtype(self, dataset: Any, name: str) -> str:
        kind = dataset.id.get_type()
        classes = (self.h5py.h5t.FLOAT, self.h5py.h5t.INTEGER)
        if kind.get_class() not in classes or kind.get_order() != self.h5py.h5t.ORDER_LE:
            raise UnsupportedCheckpoint(
                "does not hold little-endian numbers.",
                hint="Only floating-point and integer datasets are weights.",
                file=str(self.file.path),
                tensor=name,
            )
        found = "bfloat16" if self.is_bfloat16(kind) else dataset.dtype.name
        standard = getattr(self.h5py.h5t, _STANDARD.get(found, ""), None)
        # numpy's name says too little: a float16 may have another exponent bias, and its bits would be read as others
        if found != "bfloat16" and (standard is None or not kind.equal(standard)):
            raise UnsupportedCheckpoint(
                f"has elements of {kind.get_size()} bytes of an unusual kind.",
                hint="Save the weights as float32 or float16.",
                file=str(self.file.path),
                tensor=name,
            )
        return str(found)

    def is_bfloat16(self, kind: Any) -> bool:
        """Whether a type is bfloat16 in all its parts."""
        if kind.get_class() != self.h5py.h5t.FLOAT or (kind.get_size(), kind.get_precision(), kind.get_offset()) != (
            2,
            16,
            0,
        ):
            return False
        parts = (kind.get_fields(), kind.get_ebias(), kind.get_norm())
        return bool(parts == (_BFLOAT16, 127, self.h5py.h5t.NORM_IMPLIED))

    def unsafe(self, name: str, problem: str) -> UnsafeCheckpoint:
        return UnsafeCheckpoint(
            f"{problem}.",
            hint="No tool writes weights so; do not trust the file.",
            file=str(self.file.path),
            tensor=name,
        )


@dataclass(frozen=True)
class Dataset:
    """One dataset to lay out: its path, element type, shape, and other paths that are hard links to it."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    links: tuple[str, ...] = ()


def lay_out(
    path: Path, datasets: Sequence[Dataset], attributes: Mapping[str, Mapping[str, str | Sequence[str]]]
) -> list[int]:
    """Create a file with every dataset's space allocated and nothing in it.

    Args:
        path: file to create.
        datasets: in the order in which their bytes are to follow each other.
        attributes: group path ("" is the root) -> attribute -> text, or a list of names, which is split into chunks.

    Returns:
        Offset in bytes of every dataset from the start of the file (0 for an empty one).
    """
    import h5py
    from h5py import h5d, h5p, h5s

    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.CONTIGUOUS)
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    offsets = []
    with h5py.File(path, "x", libver="earliest", locking=False) as root:
        for group, values in attributes.items():
            _write_attributes(root.require_group(group) if group else root, values)
        for dataset in datasets:
            space = h5s.create_simple(dataset.shape)
            made = h5d.create(root.id, None, _type(dataset.dtype), space, creation)
            for name in (dataset.path, *dataset.links):
                h5py.h5o.link(made, root.id, name.encode(), lcpl=links)
            offsets.append(made.get_offset() or 0)
    return offsets


def _type(dtype: str) -> Any:
    import numpy as np
    from h5py import h5t

    if dtype in _FLOATS:
        return h5t.py_create(np.dtype(_FLOATS[dtype]))
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(*_BFLOAT16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


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


def _bad(file: SourceFile, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{problem}.", hint="Download or save the file again.", file=str(file.path), tensor=tensor)


def _is_plain(root: Any, key: str) -> bool:
    """The attribute is there and of fixed length: a damaged heap of variable-length text can hang libhdf5 for ever."""
    return key in root.attrs and not root.attrs.get_id(key).get_type().is_variable_str()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
