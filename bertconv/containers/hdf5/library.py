"""A file's objects as libhdf5 sees them, by h5py; only the child that `process` starts lets it at a stranger's file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py

from bertconv.containers.hdf5 import objects
from bertconv.containers.hdf5.constants import OPAQUE_ATTRIBUTE, OPAQUE_DTYPE
from bertconv.containers.stored import ITEM_SIZE, MAX_NAME

_STANDARD = {
    "float16": "IEEE_F16LE", "float32": "IEEE_F32LE", "float64": "IEEE_F64LE",
    "int8": "STD_I8LE", "int16": "STD_I16LE", "int32": "STD_I32LE", "int64": "STD_I64LE",
    "uint8": "STD_U8LE", "uint16": "STD_U16LE", "uint32": "STD_U32LE", "uint64": "STD_U64LE",
}  # fmt: skip
"""Element type -> HDF5's own type whose bits are read as they are."""

_BFLOAT16_FIELDS = (15, 7, 8, 0, 7)
"""Sign bit, exponent begin and size, mantissa begin and size. HDF5 readers turn such a type into float32 themselves."""


class Group(objects.Group):
    """A group of h5py."""

    def __init__(self, own: Any) -> None:
        self._own = own

    @property
    def address(self) -> int:
        """Where its header lies."""
        return int(h5py.h5o.get_info(self._own.id).addr)

    def count(self) -> int:
        """How many names are in it."""
        return len(self._own)

    def names(self) -> Iterator[str | bytes]:
        """Its names, ascending."""
        yield from self._own

    def has(self, name: str) -> bool:
        """Whether a name is in it and leads to something."""
        return name in self._own

    def is_hard(self, name: str) -> bool:
        """Whether a name leads to an object of this file by its address."""
        return bool(self._own.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD)

    def open(self, name: str) -> objects.Group | objects.Dataset | None:
        """What a hard link leads to."""
        try:
            found = self._own[name]
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise objects.CannotOpen(str(error)) from error
        if isinstance(found, h5py.Group):
            return Group(found)
        return Dataset(found) if isinstance(found, h5py.Dataset) else None

    def attributes(self) -> Iterator[str]:
        """Names of its attributes."""
        yield from self._own.attrs

    def attribute(self, name: str) -> objects.Attribute | None:
        """One of its attributes."""
        return _attribute(self._own, name)

    def text(self, name: str) -> bytes | str:
        """The value of an attribute that is one text of a fixed length."""
        value = self._own.attrs[name]
        return value if isinstance(value, bytes) else str(value)

    def label(self, name: str) -> str | None:
        """The value of an attribute that is one text of any length."""
        return _label(self._own, name)


class Dataset(objects.Dataset):
    """A dataset of h5py."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._plan = own.id.get_create_plist()

    def is_elsewhere(self) -> bool:
        """Whether its data are in other datasets or files."""
        return bool(self._plan.get_layout() == h5py.h5d.VIRTUAL or self._plan.get_external_count())

    def element(self) -> objects.Element:
        """Its elements."""
        kind = self._own.id.get_type()
        opaque = kind.get_class() == h5py.h5t.OPAQUE and kind.get_size() == ITEM_SIZE[OPAQUE_DTYPE]
        if opaque and not kind.get_tag() and _label(self._own, OPAQUE_ATTRIBUTE) == OPAQUE_DTYPE:
            return objects.Element(number=True, dtype=OPAQUE_DTYPE, nbytes=kind.get_size())
        number = kind.get_class() in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) and kind.get_order() == h5py.h5t.ORDER_LE
        return objects.Element(number, dtype_of(kind) if number else None, kind.get_size())

    def shape(self) -> tuple[int, ...]:
        """Its sizes; none where it has no elements at all."""
        return tuple(int(size) for size in self._own.shape or ())

    def is_plain(self) -> bool:
        """Whether its data are in one piece and as they are."""
        return self._plan.get_layout() == h5py.h5d.CONTIGUOUS and not self._plan.get_nfilters()

    def extent(self) -> tuple[int | None, int]:
        """Offset of its data in the file, and the bytes that are reserved for them."""
        return self._own.id.get_offset(), self._own.id.get_storage_size()


def _attribute(own: Any, name: str) -> objects.Attribute | None:
    """An attribute of a group or a dataset."""
    if name not in own.attrs:
        return None
    known = own.attrs.get_id(name)
    kind = known.get_type()
    text = kind.get_class() == h5py.h5t.STRING
    loose = text and bool(kind.is_variable_str())
    nbytes = 0 if known.shape is None else math.prod(known.shape) * kind.get_size()  # libhdf5 fails where it is 0
    return objects.Attribute(text and not loose, known.shape, nbytes, loose)


def _label(own: Any, name: str) -> str | None:
    """An attribute that is one text: libhdf5 may hang on a damaged heap, and is ended then."""
    known = _attribute(own, name)
    if known is None or known.shape != () or not (known.fixed_text or known.loose_text) or known.nbytes > MAX_NAME:
        return None
    value = own.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def type_of(dtype: str) -> Any:
    """The HDF5 type of an element type."""
    if dtype != "bfloat16":
        return getattr(h5py.h5t, _STANDARD[dtype])
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(*_BFLOAT16_FIELDS)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def dtype_of(kind: Any) -> str | None:
    """The element type of an HDF5 type; None where its bits mean something else.

    numpy's name for it would say too little: a float16 may have another exponent bias, and its bits be read as others.
    """
    if kind.get_class() == h5py.h5t.FLOAT and kind.equal(type_of("bfloat16")):
        return "bfloat16"
    return next((dtype for dtype, name in _STANDARD.items() if kind.equal(getattr(h5py.h5t, name))), None)
