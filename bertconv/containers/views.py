"""Tensors that a file holds in another form: read as if they lay there as they are wanted, piece by piece.

A dialect may keep a table of positions without its first rows, and with a row of another table added to every one of
its own. Either form is read from the other one here, so that nothing after the plan has to know that there are two.
"""

from __future__ import annotations

from functools import cached_property

from bertconv.containers.stored import ITEM_SIZE, SourceFile, StoredTensor
from bertconv.errors import UnsupportedCheckpoint
from bertconv.records import dataclass


@dataclass(frozen=True)
class Padded(StoredTensor):
    """A tensor with rows of zeros before its own; of zeros alone where there is none.

    Attributes:
        inner: the rows behind the zeros; None where nothing follows them.
    """

    inner: StoredTensor | None = None

    @property
    def is_range(self) -> bool:
        """It is not: the zeros are in no file."""
        return False

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of the rows that are stored."""
        return (self.file,) if self.inner is None else self.inner.files

    @property
    def place(self) -> tuple[object, ...]:
        """Where the rows lie that are stored, and how many bytes of zeros stand before them."""
        return (self._zeros, () if self.inner is None else self.inner.place)

    @property
    def _zeros(self) -> int:
        return self.nbytes - (0 if self.inner is None else self.inner.nbytes)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """As `StoredTensor.read_into`."""
        zeros = min(max(self._zeros - start, 0), len(buffer))
        buffer[:zeros] = bytes(zeros)
        if self.inner is not None and zeros < len(buffer):
            self.inner.read_into(buffer[zeros:], start + zeros - self._zeros)

    def read_rows(self, rows: list[memoryview], start: int) -> None:
        """As `StoredTensor.read_rows`."""
        for row in rows:
            self.read_into(row, start)
            start += len(row)


@dataclass(frozen=True)
class Folded(StoredTensor):
    """A table without its first rows, the first row of another table added to each of the others.

    Where the added row holds nothing but zeros, every element keeps its bits.

    Attributes:
        inner: the table.
        added: the other table.
    """

    inner: StoredTensor | None = None
    added: StoredTensor | None = None

    @property
    def is_range(self) -> bool:
        """It is not: its elements are computed."""
        return False

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of both tables."""
        both = [one for one in (self.inner, self.added) if one is not None]
        return tuple(dict.fromkeys(file for one in both for file in one.files))

    @property
    def place(self) -> tuple[object, ...]:
        """Where both tables lie."""
        return tuple(one.place for one in (self.inner, self.added) if one is not None)

    def lost(self) -> tuple[str, ...]:
        """The tables of which something that is not zero cannot be had back: the first rows, all of the added one."""
        found = []
        for tensor, length in ((self.inner, self._skipped), (self.added, self.added.nbytes if self.added else 0)):
            if tensor is not None and any(_whole(tensor, length)):
                found.append(tensor.name)
        return tuple(found)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """As `StoredTensor.read_into`; from the beginning of an element on."""
        if self.inner is None:
            return
        self.inner.read_into(buffer, self._skipped + start)
        if not any(self._row):
            return
        import numpy as np

        width, item = len(self._row), ITEM_SIZE[self.dtype]
        first = start % width
        row = np.frombuffer(self._row * 2, f"u{item}")[first // item : first // item + width // item]
        elements = np.frombuffer(buffer, f"u{item}")
        elements[:] = _sum(elements, np.resize(row, elements.shape), self.dtype)

    def read_rows(self, rows: list[memoryview], start: int) -> None:
        """As `StoredTensor.read_rows`."""
        for row in rows:
            self.read_into(row, start)
            start += len(row)

    @property
    def _skipped(self) -> int:
        return 0 if self.inner is None else self.inner.nbytes - self.nbytes

    @cached_property
    def _row(self) -> bytes:
        """The bytes of the added row."""
        if self.added is None or not self.added.count:
            return b""
        return _whole(self.added, self.added.nbytes // self.added.shape[0])


def padded(inner: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    """A stored table with rows of zeros before it that bring it to a shape; errors as for `folded`."""
    _check_plain(inner)
    return Padded(inner.name, inner.dtype, shape, inner.file, inner.offset, inner=inner)


def zeros(beside: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    """A table of zeros of the element type of another one, whose name it has."""
    return Padded(beside.name, beside.dtype, shape, beside.file, beside.offset)


def folded(inner: StoredTensor, added: StoredTensor | None, shape: tuple[int, ...]) -> Folded:
    """The last rows of a table, as many as a shape has, with the first row of another one added to each.

    Raises:
        UnsupportedCheckpoint: a table whose elements do not follow each other in its file, or of another type.
    """
    for one in filter(None, (inner, added)):
        _check_plain(one)
    if added is not None and added.dtype != inner.dtype:
        raise UnsupportedCheckpoint(
            f"is {added.dtype}, and {inner.name}, to which it is to be added, is {inner.dtype}.",
            hint="Cast the checkpoint to one type first: `bertconv cast`.",
            file=added.file.name,
            tensor=added.name,
        )
    return Folded(inner.name, inner.dtype, shape, inner.file, inner.offset, inner=inner, added=added)


def _check_plain(tensor: StoredTensor) -> None:
    if tensor.strides is not None:
        raise UnsupportedCheckpoint(
            "is a view with strides of its own, and has to be changed on the way.",
            hint="Convert the checkpoint to safetensors first: `bertconv convert SRC FOLDER --to pt`.",
            file=tensor.file.name,
            tensor=tensor.name,
        )


def _whole(tensor: StoredTensor, length: int) -> bytes:
    """The first bytes of a tensor; a few rows of a table."""
    buffer = bytearray(length)
    tensor.read_into(memoryview(buffer), 0)
    return bytes(buffer)


def _sum(left: object, right: object, dtype: str) -> object:
    """Elements and others as numbers of a type, added and rounded once, as elements."""
    import ml_dtypes  # noqa: F401  (numpy knows bfloat16 by its name from then on)
    import numpy as np

    one, other = np.asarray(left), np.asarray(right)
    return np.add(one.view(np.dtype(dtype)), other.view(np.dtype(dtype))).view(one.dtype)
