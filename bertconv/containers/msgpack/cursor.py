"""A place in a msgpack file, and what stands there: every length is held to the file's size before it is used."""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

from bertconv.containers.stored import MAX_NAME, SourceFile
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

MAX_TEXT = 4 * MAX_NAME
"""Most bytes of a key or of another text: a name in UTF-8."""
MAX_TEXTS = 32_000_000
"""Most bytes of all texts of a file: the names of more tensors than a file may have."""
_WINDOW = 4096
"""Bytes that are read at a time: the structure between two arrays, and little of the next array."""


class Kind(Enum):
    """What a value of msgpack is."""

    MAP = "map"
    ARRAY = "array"
    TEXT = "text"
    BINARY = "binary"
    EXTENSION = "extension"
    INTEGER = "integer"
    OTHER = "other"


class Value(NamedTuple):
    """A value's beginning.

    Attributes:
        kind: what it is.
        size: entries of a map or an array; bytes of a text, of binary data or of an extension, behind this beginning.
        number: an integer or a truth value; an extension's type.
    """

    kind: Kind
    size: int = 0
    number: int | float | None = None


_SIZED = {
    0xC4: (Kind.BINARY, "B"), 0xC5: (Kind.BINARY, "H"), 0xC6: (Kind.BINARY, "I"),
    0xC7: (Kind.EXTENSION, "B"), 0xC8: (Kind.EXTENSION, "H"), 0xC9: (Kind.EXTENSION, "I"),
    0xD9: (Kind.TEXT, "B"), 0xDA: (Kind.TEXT, "H"), 0xDB: (Kind.TEXT, "I"),
    0xDC: (Kind.ARRAY, "H"), 0xDD: (Kind.ARRAY, "I"), 0xDE: (Kind.MAP, "H"), 0xDF: (Kind.MAP, "I"),
}  # fmt: skip
_NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class Cursor:
    """Goes through a file from its beginning.

    Args:
        file: the file.
    """

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 0
        self._texts = 0
        self._window, self._start = b"", 0

    @property
    def left(self) -> int:
        """Bytes up to the end of the file."""
        return self.file.size - self.position

    def value(self) -> Value:
        """The beginning of a value; of a number, all of it.

        Raises:
            DamagedCheckpoint: the file ends in it or is too short for it, or it is none.
        """
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return Value(Kind.INTEGER, number=code if code < 0x80 else code - 256)
        if code < 0xC0:
            kind = Kind.MAP if code < 0x90 else Kind.ARRAY if code < 0xA0 else Kind.TEXT
            return self._sized(kind, code & (31 if kind is Kind.TEXT else 15))
        if code in _SIZED:
            kind, form = _SIZED[code]
            return self._sized(kind, self._number(form))
        if code in _NUMBERS:
            number = self._number(_NUMBERS[code])
            return Value(Kind.OTHER if _NUMBERS[code] in "fd" else Kind.INTEGER, number=number)
        if code == 0xC1:
            raise self.bad(f"has a byte at {self.position - 1:,} that begins no value of msgpack")
        if code in _CONSTANTS:
            return Value(Kind.OTHER, number=_CONSTANTS[code])
        return self._sized(Kind.EXTENSION, 1 << (code - 0xD4))

    def text(self, value: Value) -> str:
        """The text whose beginning was read.

        Raises:
            DamagedCheckpoint: it is no UTF-8.
            UnsafeCheckpoint: it is too long, or all texts together are.
        """
        self._texts += value.size
        if value.size > MAX_TEXT or self._texts > MAX_TEXTS:
            raise UnsafeCheckpoint(
                f"has a text of {value.size:,} bytes and {self._texts:,} bytes of them in all; "
                f"the limits are {MAX_TEXT:,} and {MAX_TEXTS:,}.",
                hint="No model has such names: do not use this file.", file=str(self.file.path),
            )  # fmt: skip
        try:
            return self._take(value.size).decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"has a text at byte {self.position - value.size:,} that is no UTF-8") from error

    def skip(self, size: int) -> None:
        """Go over bytes whose number `value` has held to the file's size."""
        self.position += size

    def bad(self, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
        """The error of a file that is not as it should be."""
        hint = "Download or save the file again."
        return DamagedCheckpoint(f"{problem}.", hint=hint, file=str(self.file.path), tensor=tensor)

    def unsupported(self, problem: str, hint: str, tensor: str | None = None) -> UnsupportedCheckpoint:
        """The error of a file that is sound, and of a kind that is not read."""
        return UnsupportedCheckpoint(f"{problem}.", hint=hint, file=str(self.file.path), tensor=tensor)

    def _sized(self, kind: Kind, size: int) -> Value:
        number = self._number("b") if kind is Kind.EXTENSION else None
        least = 2 * size if kind is Kind.MAP else size  # a key and its value are a byte each at the least
        if least > self.left:
            what = f"the {kind.value} of {size:,}" + ("" if kind in {Kind.MAP, Kind.ARRAY} else " bytes")
            raise self.bad(f"ends at byte {self.file.size:,}, within {what} before byte {self.position:,}")
        return Value(kind, size, number)

    def _number(self, form: str) -> int:
        number: int = struct.unpack(f">{form}", self._take(struct.calcsize(form)))[0]
        return number

    def _take(self, size: int) -> bytes:
        at = self.position - self._start
        if not 0 <= at <= at + size <= len(self._window):  # what is in the window is in the file
            if size > self.left:
                raise self.file.too_short(self.file.size, size - self.left)
            self._start, at = self.position, 0
            self._window = self.file.read(self.position, min(max(size, _WINDOW), self.left))
        self.position += size
        return self._window[at : at + size]
