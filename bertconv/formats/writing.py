"""Move every tensor's elements to its place in the output: ranges inside the kernel, the others piece by piece."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bertconv.containers.stored import StoredTensor
from bertconv.errors import MappingError, RequestError
from bertconv.formats import workers
from bertconv.formats.content import Content, OutputFile
from bertconv.formats.streaming import Elements, Workspace, cast, not_finite, pieces

RANGE = 32 << 20
"""Most bytes that the kernel copies at a time, so that progress is seen and an interrupt is heard."""

FLUSH_SECONDS = 0.05
"""Pause between two flushes while the weights are written."""

_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


class _Job(NamedTuple):
    """A tensor with its place in a file that is open."""

    content: Content
    fd: int
    offset: int


def write_weights(folder: Path, files: Sequence[OutputFile], progress: workers.Tick) -> None:
    """Fill files that were laid out.

    Args:
        folder: where they are.
        files: with the place of every tensor.
        progress: called with bytes as they are written.

    Raises:
        DamagedCheckpoint: a source ends too early or cannot be read.
        MappingError: elements that were made are not as many as planned.
        RequestError: a number does not fit into the element type that was asked for.
        OSError: the output cannot be written.
    """
    with _opened(folder, files) as fds:
        jobs = [_Job(placed.content, fds[file.name], placed.offset) for file in files for placed in file.tensors]
        with _flushing(fds.values()):
            workers.run(jobs, _transfer, progress, lambda job: job.content.nbytes)


def sync(folder: Path, files: Sequence[OutputFile]) -> None:
    """Wait until every file has reached the disk."""
    with _opened(folder, files) as fds:
        for fd in fds.values():
            os.fsync(fd)  # guard: weights-fsync


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
        flushed.result()  # guard: flusher-error


@contextmanager
def _opened(folder: Path, files: Sequence[OutputFile]) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        fds = {}
        for file in files:
            fd = os.open(folder / file.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)  # guard: weights-link
            stack.callback(os.close, fd)
            fds[file.name] = fd
        yield fds


def _transfer(job: _Job, workspace: Workspace, tick: workers.Tick) -> None:
    content, origin = job.content, job.content.origin
    source = origin.tensor
    if source is None:
        if origin.make is not None and content.nbytes:
            _write_made(origin.make(), job)
        tick(content.nbytes)
        return
    is_range = source.strides is None and origin.transpose is None and source.dtype == content.dtype
    done = _copy_range(source, job, tick) if is_range else 0
    if done == content.nbytes:
        return
    offset = job.offset
    for piece in pieces(source, origin.transpose, workspace):
        elements = checked_cast(piece, source, content.dtype)
        pwrite(job.fd, elements.data.cast("B"), offset)
        offset += elements.nbytes
        tick(elements.nbytes)


def _write_made(elements: Elements, job: _Job) -> None:
    if elements.nbytes != job.content.nbytes:  # more would run into the next tensor
        raise MappingError(
            f"was made of {elements.nbytes:,} bytes where {job.content.nbytes:,} were planned.",
            hint="Report this as a bug.",
            tensor=job.content.name,
        )
    pwrite(job.fd, elements.data.cast("B"), job.offset)


def _copy_range(source: StoredTensor, job: _Job, tick: workers.Tick) -> int:
    """Copy inside the kernel; 0 where the file system cannot, so that the caller does it."""
    done = 0
    while done < source.nbytes:
        length = min(RANGE, source.nbytes - done)
        try:
            count = os.copy_file_range(source.file.fd, job.fd, length, source.offset + done, job.offset + done)
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


def pwrite(fd: int, content: memoryview, offset: int) -> None:
    """Write all of it; the system may take less at a time."""
    done = 0
    while done < len(content):  # guard: short-write
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
