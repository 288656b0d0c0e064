"""The process that lets libhdf5 at a file: it confines itself, walks the metadata, and says what it found as JSON.

`process` starts it as a program of its own: a fork of a process with TensorFlow's threads in it could deadlock.
"""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bertconv.containers.hdf5 import sandbox
from bertconv.containers.hdf5.layout import Attributes, Dataset, lay_out
from bertconv.containers.hdf5.walk import walk
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint
from bertconv.text import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_TEXT = 1000
"""Characters of libhdf5's own message that are passed on."""


class OpenFile(io.RawIOBase):
    """What libhdf5 reads of: an open file, by its descriptor, or a part of one. It never learns a path.

    Args:
        fd: the descriptor.
        start: first byte of the part.
        size: bytes of the part; None for all up to the file's end.
    """

    def __init__(self, fd: int, start: int = 0, size: int | None = None) -> None:
        self._fd = fd
        self._start = start
        self._size = os.fstat(fd).st_size - start if size is None else size
        self._offset = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset."""
        self._offset = offset + (0, self._offset, self._size)[whence]
        return self._offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer; OSError where the file ends before."""
        view = memoryview(buffer).cast("B")
        if self._offset + len(view) > self._size:
            raise OSError(f"something of it is said to lie at byte {self._offset:,}, behind its end")
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], self._start + self._offset)
            if not count:
                raise OSError(f"the file ends at byte {self._offset}")
            done += count
            self._offset += count
        return done


def answer(file: io.RawIOBase | io.BytesIO) -> dict[str, Any]:
    """What a walk finds in a file, or the error that it ends with, as facts that JSON can hold."""
    import h5py

    from bertconv.containers.hdf5.library import Group

    error: BertconvError
    try:
        with h5py.File(file, "r") as root:
            return asdict(walk(Group(root)))
    except MemoryError:
        error = UnsafeCheckpoint(
            f"has metadata that take more than {sandbox.MEMORY >> 20} MiB of memory.",
            hint="No tool writes weights so; do not trust the file.",
        )
    except BertconvError as found:
        error = found
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as found:
        error = DamagedCheckpoint(
            f"is not sound HDF5: {printable(str(found)[:MOST_TEXT])}.", hint="Download or save the file again."
        )
    return {"error": error.to_json()}


def main(fd: int, start: int = 0, size: int | None = None) -> None:
    """Confine this process, then read the file of a descriptor, or a part of it, and answer on standard output."""
    warm_up()
    sandbox.confine()  # guard: hdf5-confined
    sys.stdout.write(json.dumps(answer(OpenFile(fd, start, size))))
    sys.stdout.flush()


def warm_up() -> None:
    """Walk a sound file: what Python imports at first use cannot be imported once the process is confined."""
    attributes: Attributes = {"": {"backend": ""}, "layer": {"weight_names": []}, "vars": {"name": ""}}
    sound = lay_out([Dataset("layer/bias:0", "bfloat16", (1,))], attributes)
    answer(io.BytesIO(sound.parts[0].ljust(sound.size, b"\0")))
