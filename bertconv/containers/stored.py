"""What every container comes down to: named tensors that are byte ranges of regular files, read with pread.

Files are never mapped: a mapped file that is truncated kills the process, a short pread is an error with a name.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint
from bertconv.records import dataclass

ITEM_SIZE = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
"""Bytes per element of every element type that a container can name (numpy's and ml_dtypes' names)."""

FLOATS = ("float32", "float16", "bfloat16", "float64")
"""Element types of weights, the only ones that are converted."""


PIECE = 1 << 20
"""Bytes that are read at a time where a file is copied or hashed."""

MAX_NAME = 1024
"""Longest name of a tensor in a file, in characters: of all that are read, and so of those that are written."""
MAX_RANK = 32
"""Most sizes of a shape: what libhdf5 takes, and older numpy."""


def is_so(question: Callable[[], bool]) -> bool:
    """What `path.is_dir` and its like answer; False where the disk cannot hold such a path, as of a name too long."""
    try:
        return question()
    except OSError:
        return False


class SourceFile:
    """One input file, opened once for reading and watched for change.

    Args:
        path: the file; the last component must not be a symbolic link unless `follow_link`, which the local source
            sets for the Hub cache's own links only.
        name: what to call it in messages; by default the last component of `path`.

    Raises:
        UnsafeCheckpoint: a link, a FIFO, a device or a folder.
        DamagedCheckpoint: it cannot be opened.
    """

    def __init__(self, path: Path, name: str = "", *, follow_link: bool = False) -> None:
        self.path = path
        self.name = name or path.name
        self._fd = -1
        # guard: open-waits, open-links
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_link else os.O_NOFOLLOW)
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            if not follow_link and is_so(path.is_symlink):
                raise UnsafeCheckpoint(
                    "is a symbolic link out of the checkpoint.",
                    hint="Give the path of the file itself.",
                    file=str(path),
                ) from error
            raise DamagedCheckpoint(
                f"cannot be opened: {error.strerror}.", hint="Check the path and its permissions.", file=str(path)
            ) from error
        self._opened = os.fstat(self._fd)
        if not stat.S_ISREG(self._opened.st_mode):
            self.close()
            raise UnsafeCheckpoint(
                "is not a regular file.", hint="Give a file or a folder of regular files.", file=str(path)
            )

    @property
    def size(self) -> int:
        """Length in bytes when it was opened."""
        return self._opened.st_size

    @property
    def fd(self) -> int:
        """The open file descriptor, for copies inside the kernel."""
        return self._fd

    @property
    def is_remote(self) -> bool:
        """Whether every byte of it is fetched: such a file is read once, from its beginning to its end."""
        return False

    @property
    def number(self) -> int:
        """By which remote files are told apart and put in order; 0 of all others."""
        return 0

    def beside(self, name: str) -> SourceFile:
        """Open another file of the same folder; errors as for the class."""
        return SourceFile(self.path.with_name(name))

    @property
    def start(self) -> int:
        """Where it begins in what the descriptor stands for; not zero where it is a part of a file."""
        return 0

    def read(self, offset: int, length: int, what: str = "") -> bytes:
        """`length` bytes from `offset`; fewer is an error that names `what`."""
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), offset, what)
        return bytes(buffer)

    def read_up_to(self, limit: int) -> bytes:
        """All of a small file; nothing where it is longer than `limit`."""
        return self.read(0, self.size) if self.size <= limit else b""  # guard: small-size

    def pieces(self, start: int, end: int, what: str = "") -> Iterator[memoryview]:
        """The bytes from `start` to `end`, `PIECE` at a time, each valid until the next; errors as for `read`."""
        buffer = memoryview(bytearray(min(PIECE, max(end - start, 0))))
        for offset in range(start, end, PIECE):
            part = buffer[: end - offset]
            self.read_into(part, offset, what)
            yield part

    def read_into(self, buffer: memoryview, offset: int, what: str = "") -> None:
        """Fill `buffer` from `offset`; a short file is an error that names `what`."""
        done = 0
        while done < len(buffer):
            count = self._preadv([buffer[done:]], offset + done, what)
            if count == 0:
                raise self.too_short(offset + done, len(buffer) - done, what)
            done += count

    def read_rows(self, rows: list[memoryview], offset: int, what: str = "") -> None:
        """Fill buffers, one after the other, from bytes that follow each other."""
        done = self._preadv(rows, offset, what)
        if done == sum(map(len, rows)):  # nearly always, and called for every few rows of a matrix
            return
        for row in rows:
            if done < len(row):  # guard: short-read
                self.read_into(row[max(done, 0) :], offset + max(done, 0), what)
            done -= len(row)
            offset += len(row)

    def too_short(self, offset: int, lacking: int, what: str = "") -> DamagedCheckpoint:
        """The error of a file that ends at `offset` where `lacking` more bytes were expected."""
        return DamagedCheckpoint(
            f"ends at byte {offset:,}, {lacking:,} bytes too early.",
            hint="It is truncated: download or copy it again.",
            file=str(self.path),
            tensor=what or None,
        )

    def _preadv(self, buffers: list[memoryview], offset: int, what: str) -> int:
        try:
            return os.preadv(self._fd, buffers, offset)  # guard: end-of-file
        except OSError as error:
            raise DamagedCheckpoint(
                f"cannot be read at byte {offset}: {error.strerror}.",
                hint="Check the disk, or copy the file again.",
                file=str(self.path),
                tensor=what or None,
            ) from error

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened."""
        now = os.fstat(self._fd)
        before = self._opened
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):  # guard: changed-time
            raise DamagedCheckpoint(
                "was modified while it was being read.", hint="Wait until nothing writes to it.", file=str(self.path)
            )

    def close(self) -> None:
        """Close the file; reading is an error from here on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class Span(NamedTuple):
    """Bytes of a file that follow each other: the first one, and how many."""

    start: int
    nbytes: int


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in a file.

    Attributes:
        name: its name as the container spells it.
        dtype: element type by numpy's name, little-endian.
        shape: sizes, outermost first.
        file: the file that holds its bytes.
        offset: first byte of the element at index zero, from the start of the file.
        strides: elements (not bytes) from one index to the next along each axis; None in C order.
        group: where the container repeats names, the place of this one (a layer group in HDF5), else "".
        recorded: where the container numbers a layer's weights, its name by the names of the layers around it, else "".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: SourceFile
    offset: int
    strides: tuple[int, ...] | None = None
    group: str = ""
    recorded: str = ""

    @cached_property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @cached_property
    def nbytes(self) -> int:
        """Size in bytes once its elements lie one after the other."""
        return self.count * ITEM_SIZE[self.dtype]

    @property
    def is_range(self) -> bool:
        """Whether its elements lie in one file one after the other, in C order."""
        return self.strides is None

    @property
    def spans(self) -> tuple[Span, ...]:
        """The bytes of its file that are its own, where its elements lie in C order."""
        return (Span(self.offset, self.nbytes),)

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files that hold its bytes."""
        return (self.file,)

    @property
    def place(self) -> tuple[object, ...]:
        """Where its bytes lie and how they are read: equal for two names of the same bytes."""
        return self.file, self.offset, self.strides, self.dtype

    @property
    def turn(self) -> tuple[int, int]:
        """By which tensors are put in the order in which they are read: the largest first, or a remote file's own."""
        file = min(self.files, key=lambda file: file.number, default=self.file)
        return (file.number, self.offset) if file.is_remote else (0, -self.nbytes)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill `buffer` with its bytes in C order from byte `start` on; only where it has no strides of its own.

        Raises:
            DamagedCheckpoint: the file ends too early or cannot be read.
        """
        self.file.read_into(buffer, self.offset + start, self.name)

    def read_rows(self, rows: list[memoryview], start: int) -> None:
        """Fill buffers, one after the other, with its bytes from `start` on; errors as for `read_into`."""
        self.file.read_rows(rows, self.offset + start, self.name)


def turn_of(*tensors: StoredTensor) -> tuple[int, int]:
    """By which tensors that are read side by side are put in order, ascending: the turn of the first remote one."""
    return next((one.turn for one in tensors if any(file.is_remote for file in one.files)), tensors[-1].turn)


@dataclass(frozen=True)
class Header:
    """What one checkpoint says about itself before any weight is read.

    Attributes:
        container: name of the container, as "safetensors".
        tensors: every tensor, in the file's order; names repeat only across different `group`s.
        metadata: the container's own free text (safetensors `__metadata__`, HDF5 root attributes).
        notes: what is unusual about it, one sentence each, for `inspect` and the report.
        others: things in the files that are not weights (optimizer state, numbers), by name.
        beside: those of `others` that are matrices of floats or hold some: they may be a part of the model.
    """

    container: str
    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def close(self) -> None:
        """Close every file."""
        for file in self.files:
            file.close()

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files that hold the tensors, each once."""
        return tuple(dict.fromkeys(file for tensor in self.tensors for file in tensor.files))
