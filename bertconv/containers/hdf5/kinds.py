"""Element types as HDF5 spells them."""

from __future__ import annotations

from struct import Struct
from typing import Any


def _float(size: int, sign: int, exponent: int, bias: int) -> bytes:
    mantissa = sign - exponent
    fields = Struct("<BBBBIHHBBBBI").pack
    return fields(0x11, 0x20, sign, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)


def _integer(size: int, *, signed: bool) -> bytes:
    return Struct("<BBBBIHH").pack(0x10, 8 if signed else 0, 0, 0, size, 0, 8 * size)


NUMBERS = {
    "float16": _float(2, 15, 5, 15), "float32": _float(4, 31, 8, 127), "float64": _float(8, 63, 11, 1023),
    "bfloat16": _float(2, 15, 8, 127),
    **{f"int{8 * size}": _integer(size, signed=True) for size in (1, 2, 4, 8)},
    **{f"uint{8 * size}": _integer(size, signed=False) for size in (1, 2, 4, 8)},
}  # fmt: skip
"""Element type -> the message that states it: section IV.A.2.d of the HDF5 File Format Specification 3.0."""

_STANDARD = {
    "float16": "IEEE_F16LE", "float32": "IEEE_F32LE", "float64": "IEEE_F64LE",
    "int8": "STD_I8LE", "int16": "STD_I16LE", "int32": "STD_I32LE", "int64": "STD_I64LE",
    "uint8": "STD_U8LE", "uint16": "STD_U16LE", "uint32": "STD_U32LE", "uint64": "STD_U64LE",
}  # fmt: skip
"""Element type -> HDF5's own type whose bits are read as they are."""

_BFLOAT16_FIELDS = (15, 7, 8, 0, 7)
"""Sign bit, exponent begin and size, mantissa begin and size. HDF5 readers turn such a type into float32 themselves."""


def type_of(dtype: str) -> Any:
    """The HDF5 type of an element type."""
    from h5py import h5t

    if dtype != "bfloat16":
        return getattr(h5t, _STANDARD[dtype])
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(*_BFLOAT16_FIELDS)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def dtype_of(kind: Any) -> str | None:
    """The element type of an HDF5 type; None where its bits mean something else.

    numpy's name for it would say too little: a float16 may have another exponent bias, and its bits be read as others.
    """
    from h5py import h5t

    if kind.get_class() == h5t.FLOAT and kind.equal(type_of("bfloat16")):
        return "bfloat16"
    return next((dtype for dtype, name in _STANDARD.items() if kind.equal(getattr(h5t, name))), None)
