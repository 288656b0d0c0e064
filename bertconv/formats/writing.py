"""Move every tensor's elements to its place in the output: ranges inside the kernel, the others piece by piece."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bertconv.errors import MappingError, RequestError
from bertconv.formats import workers
from bertconv.formats.output import OutputFile
from bertconv.formats.streaming import Elements, Workspace, cast, not_finite, pieces
from bertconv.mapping.layout import Transpose
from bertconv.source.stored import StoredTensor

RANGE = 32 << 20
"""Most bytes that the kernel copies at a time, so that progress is seen and an interrupt is heard."""

FLUSH_SECONDS = 0.05
"""Pause between two flushes while the weights are written."""

_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


@dataclass(frozen=True)
class Origin:
    """Where a tensor's elements come from: a file, or a function where no file holds them.

    Attributes:
        tensor: the stored tensor that they are read from.
        transpose: brings its elements into the order of the target.
        make: gives them, flat and in the order of the target: called by the thread that writes them and again by the
            check, so that not all of them are in memory at once.
    """

    tensor: StoredTensor | None = None
    transpose: Transpose | None = None
    make: Callable[[], Elements] | None = None


@dataclass(frozen=True)
class _Transfer:
    name: str
    origin: Origin
    dtype: str
    nbytes: int
    fd: int
    offset: int


def write_weights(
    folder: Path, files: Sequence[OutputFile], origins: Mapping[str, Origin], progress: workers.Tick
) -> None:
    """Fill files that were laid out.

    Args:
        folder: where they are.
        files: with the offset of every tensor.
        origins: neutral id -> where its elements come from.
        progress: told of bytes as they are written.

    Raises:
        DamagedCheckpoint: a source ends too early or cannot be read.
        MappingError: elements that were made are not as many as planned.
        RequestError: a number does not fit into the element type that was asked for.
        OSError: the output cannot be written.
    """
    with _opened(folder, files) as fds:
        transfers = [
            _Transfer(tensor.spec.name, origins[tensor.spec.id], tensor.dtype, tensor.nbytes, fds[file.name], offset)
            for file in files
            for tensor, offset in file.tensors
        ]
        with _flushing(fds.values()):
            workers.run(transfers, _transfer, progress, lambda transfer: transfer.nbytes)


def sync(folder: Path, files: Sequence[OutputFile]) -> None:
    """Wait until every file has reached the disk."""
    with _opened(folder, files) as fds:
        for fd in fds.values():
            os.fsync(fd)


@contextmanager
def _flushing(fds: Collection[int]) -> Iterator[None]:
    """Send what is written to the disk all along, so that the last fsync has little left to wait for."""
    done = threading.Event()

    def flush() -> None:
        while not done.wait(FLUSH_SECONDS):
            for fd in fds:
                os.fdatasync(fd)

    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(flush)
        try:
            yield
        finally:
            done.set()
        flushed.result()


@contextmanager
def _opened(folder: Path, files: Sequence[OutputFile]) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        fds = {}
        for file in files:
            fd = os.open(folder / file.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            stack.callback(os.close, fd)
            if os.fstat(fd).st_size < file.size:
                os.ftruncate(fd, file.size)
            fds[file.name] = fd
        yield fds


def _transfer(transfer: _Transfer, workspace: Workspace, tick: workers.Tick) -> None:
    source = transfer.origin.tensor
    if source is None:
        if transfer.origin.make is not None and transfer.nbytes:
            _write_made(transfer.origin.make(), transfer)
        tick(transfer.nbytes)
        return
    is_range = source.strides is None and transfer.origin.transpose is None and source.dtype == transfer.dtype
    done = _copy_range(source, transfer, tick) if is_range else 0
    if done == transfer.nbytes:
        return
    offset = transfer.offset
    for piece in pieces(source, transfer.origin.transpose, workspace):
        elements = checked_cast(piece, source, transfer.dtype)
        _pwrite(transfer.fd, elements.data.cast("B"), offset)
        offset += elements.nbytes
        tick(elements.nbytes)


def _write_made(elements: Elements, transfer: _Transfer) -> None:
    if elements.nbytes != transfer.nbytes:  # more would run into the next tensor
        raise MappingError(
            f"was made of {elements.nbytes:,} bytes where {transfer.nbytes:,} were planned.",
            hint="Report this as a bug.",
            tensor=transfer.name,
        )
    _pwrite(transfer.fd, elements.data.cast("B"), transfer.offset)


def _copy_range(source: StoredTensor, transfer: _Transfer, tick: workers.Tick) -> int:
    """Copy inside the kernel; 0 where the file system cannot, so that the caller does it."""
    done = 0
    while done < source.nbytes:
        length = min(RANGE, source.nbytes - done)
        try:
            count = os.copy_file_range(
                source.file.fd, transfer.fd, length, source.offset + done, transfer.offset + done
            )
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY and done == 0:
                return 0
            raise
        if count == 0:
            raise source.file.too_short(source.offset + done, source.nbytes - done, source.name)
        done += count
        tick(count)
    return done


def checked_cast(piece: Elements, source: StoredTensor, dtype: str) -> Elements:
    elements = cast(piece, source.dtype, dtype)
    if elements is not piece and not_finite(elements, dtype) > not_finite(piece, source.dtype):
        raise RequestError(
            f"holds numbers that {dtype} cannot hold.",
            hint="Use --dtype keep, float32 or bfloat16.",
            file=source.file.name,
            tensor=source.name,
        )
    return elements


def _pwrite(fd: int, content: memoryview, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(fd, content[done:], offset + done)


def initial_values(shape: tuple[int, ...], role: str, dtype: str, seed: str, spread: float) -> Elements:
    """Fresh values for a tensor that the source lacks, the same in every run.

    Weights are normal with the config's `initializer_range`, LayerNorm scales one, everything else zero, as the models'
    own initialisation (Devlin et al. 2018, google-research/bert, modeling.py).

    Args:
        shape: of the tensor.
        role: "weight", "bias", "scale", "shift" or "value".
        dtype: element type.
        seed: text that the values are drawn from, such as the tensor's neutral id.
        spread: standard deviation of weights.
    """
    import hashlib

    import numpy as np

    if role == "weight":
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
        values = np.random.default_rng(number).standard_normal(shape, dtype=np.float32) * np.float32(spread)
    else:
        values = np.full(shape, 1.0 if role == "scale" else 0.0, dtype=np.float32)
    return cast(values.reshape(-1).view("u4"), "float32", dtype)
