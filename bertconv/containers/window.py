"""A part of a file, read by what reads whole files."""

from __future__ import annotations

from dataclasses import replace

from bertconv.containers.stored import SourceFile, StoredTensor


class Window(SourceFile):
    """Some bytes of an open file, which stays the owner of its descriptor.

    Args:
        file: the file; the bytes lie in it.
        start: the first byte.
        length: how many.
    """

    def __init__(self, file: SourceFile, start: int, length: int) -> None:
        self.path = file.path
        self.name = file.name
        self._fd = -1
        self._file = file
        self._start = start
        self._length = length

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._length

    @property
    def fd(self) -> int:
        """The descriptor of the file."""
        return self._file.fd

    @property
    def is_remote(self) -> bool:
        """As the file."""
        return self._file.is_remote

    @property
    def number(self) -> int:
        """As of the file."""
        return self._file.number

    def beside(self, name: str) -> SourceFile:
        """As of the file."""
        return self._file.beside(name)

    @property
    def start(self) -> int:
        """Where it begins in the file."""
        return self._start

    def read_into(self, buffer: memoryview, offset: int, what: str = "") -> None:
        """Fill `buffer` from `offset`, which counts from the first byte of the part."""
        lacking = offset + len(buffer) - self._length
        if lacking > 0 or offset < 0:
            raise self._file.too_short(self._start + self._length, lacking, what)
        self._file.read_into(buffer, self._start + offset, what)

    def outside(self, tensor: StoredTensor) -> StoredTensor:
        """A tensor of the part as one of the file."""
        return replace(tensor, file=self._file, offset=self._start + tensor.offset)
