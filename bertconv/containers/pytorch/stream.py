"""The bytes of a pickle, taken from front to back with every length checked first."""

from __future__ import annotations

import re

from bertconv.containers.pytorch.values import damaged
from bertconv.errors import DamagedCheckpoint

MAX_NAME = 1024


class ByteStream:
    """A buffer and a position in it.

    Args:
        data: the bytes.
        file: the file's name for messages.

    Attributes:
        position: index of the next byte.
        ended: whether reading stopped because the buffer was too short.
    """

    def __init__(self, data: bytes, file: str) -> None:
        self.position = 0
        self.ended = False
        self._data = data
        self._file = file

    def damaged(self, message: str) -> DamagedCheckpoint:
        """The error for a stream that no pickler writes."""
        return damaged(self._file, message)

    def read(self, length: int) -> bytes:
        """The next `length` bytes."""
        start, end = self.position, self.position + length
        if end > len(self._data):
            self.require(length)
        self.position = end
        return self._data[start:end]

    def require(self, length: int) -> None:
        """Refuse a buffer that does not hold `length` more bytes."""
        if self.position + length > len(self._data):
            self.ended = True
            raise self.damaged("its pickle ends too early.")

    def read_int(self, length: int, *, signed: bool = False) -> int:
        """The next little-endian integer of `length` bytes."""
        return int.from_bytes(self.read(length), "little", signed=signed)

    def read_text(self, length: int) -> str:
        """The next `length` bytes as UTF-8."""
        try:
            return str(self.read(length), "utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("its pickle has text that is not UTF-8.") from error

    def skip(self, pattern: re.Pattern[bytes]) -> None:
        """Go past bytes that must match `pattern`."""
        found = pattern.match(self._data, self.position)
        if not found:
            raise self.damaged("is not a file that torch.save writes.")
        self.position = found.end()

    def read_line(self) -> str:
        """The next line of a protocol 0 opcode, without its end."""
        end = self._data.find(b"\n", self.position, self.position + MAX_NAME)
        if end < 0:
            self.ended = len(self._data) < self.position + MAX_NAME
            raise self.damaged("its pickle has a name without an end.")
        line = self.read_text(end - self.position)
        self.position += 1
        return line
