"""Bytes that go from file to file as they are: shared between both where the file system can, else copied."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from bertconv.containers.chunks import apart
from bertconv.containers.stored import SourceFile, StoredTensor
from bertconv.formats.checksum import Checksum, Taken, checksum_of
from bertconv.formats.content import OutputFile, Placed
from bertconv.formats.workers import Local, Tick

PART = 32 << 20
"""Most bytes that the kernel copies at a time, so that progress is seen and an interrupt is heard; tensors that follow
each other are handed to a thread in parts of about this size."""
BLOCK = 4096
"""Bytes of a block of a file system: what is shared begins and ends with one in both files."""
LEAST_SHARED = 1 << 20
"""Bytes from which on it is worth to share blocks, and to begin a file's tensors where it is possible."""

Work = Callable[[Tick], dict[str, Taken]]
"""Writes tensors, and gives what was taken of each by its id."""

_FICLONERANGE = 0x4020940D
"""Linux, include/uapi/linux/fs.h: _IOW(0x94, 13, struct file_clone_range)."""
_NO_SHARING = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ENOSYS)
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


class Run(NamedTuple):
    """Tensors whose bytes follow each other in a source and, in the same order, in a file that is written.

    Attributes:
        source: the file that they are read from.
        start: first byte in it.
        tensors: with their places, in the order of the files.
        shared: places that need no copy: what is written there is the source's own blocks.
    """

    source: SourceFile
    start: int
    tensors: tuple[Placed, ...]
    shared: range = range(0)

    @property
    def offset(self) -> int:
        """First byte in the file that is written."""
        return self.tensors[0].offset

    @property
    def end(self) -> int:
        """First byte behind it in the file that is written."""
        return self.tensors[-1].offset + self.tensors[-1].content.nbytes

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.end - self.offset


def runs(tensors: Iterable[Placed]) -> list[Run]:
    """The tensors of one output file that are ranges, in runs as long as they can be."""
    found: list[tuple[StoredTensor, list[Placed]]] = []
    for placed in sorted(tensors, key=lambda placed: placed.offset):
        source = placed.content.origin.tensor
        if source is None or not placed.is_range:
            continue
        if found:
            first, others = found[-1]
            distance = placed.offset - others[0].offset
            is_next = placed.offset == others[-1].offset + others[-1].content.nbytes
            if is_next and source.file is first.file and source.offset - first.offset == distance:
                others.append(placed)
                continue
        found.append((source, [placed]))
    return [Run(first.file, first.offset, tuple(others)) for first, others in found]


def padding(file: OutputFile) -> int:
    """How many bytes further back an output's tensors must lie for its largest run to keep its place within blocks.

    Only a run that is worth sharing and most of the file counts: others keep the bytes of the reference writer.
    """
    largest = max(runs(file.tensors), key=lambda run: run.nbytes, default=None)
    if largest is None or largest.nbytes < max(LEAST_SHARED, file.size // 2):
        return 0
    lacking = (largest.start - largest.offset) % BLOCK
    return 0 if lacking % 8 else lacking


class Sharing:
    """Shares blocks between files, as long as their file systems can."""

    def __init__(self) -> None:
        self._refused: set[tuple[SourceFile, int]] = set()

    def share(self, run: Run, fd: int) -> Run:
        """Have the whole blocks of a run shared, one call for all of them; the run as it is where that cannot be.

        Raises:
            OSError: the output cannot be written.
        """
        first, last = -(-run.offset // BLOCK) * BLOCK, run.end // BLOCK * BLOCK
        shift = run.start - run.offset
        pair = (run.source, fd)
        if run.source.is_remote:
            return run
        if last - first < LEAST_SHARED or shift % BLOCK or pair in self._refused or sys.platform != "linux":
            return run
        wanted = struct.pack("=qQQQ", run.source.fd, first + shift, last - first, first)
        try:
            fcntl.ioctl(fd, _FICLONERANGE, wanted)
        except OSError as error:
            if error.errno not in _NO_SHARING:
                raise
            self._refused.add(pair)
            return run
        return run._replace(shared=range(first, last))


def parts(run: Run) -> Iterator[Run]:
    """A run in parts of about `PART` bytes, cut between tensors."""
    cuts, begin = [0], run.offset
    for number, placed in enumerate(run.tensors[1:], 1):
        if placed.offset - begin >= PART:
            cuts.append(number)
            begin = placed.offset
    for one, other in pairwise([*cuts, len(run.tensors)]):
        tensors = run.tensors[one:other]
        yield run._replace(start=run.start + tensors[0].offset - run.offset, tensors=tensors)


def copy(run: Run, fd: int, local: Local, checksums: bool, tick: Tick) -> dict[str, Taken]:
    """Write a run.

    Args:
        run: where from, where to and what of it is there already.
        fd: the open file that is written.
        local: the thread's buffers.
        checksums: read everything, to take checksums on the way; else the kernel copies where it can.
        tick: called with bytes as they are written.

    Returns:
        Id of each tensor -> its checksum and digest; nothing without `checksums`.

    Raises:
        As `writing.write_weights`.
    """
    found = {}
    for placed in run.tensors if checksums else ():
        checksum = checksum_of(placed.content, digest=True)
        _through(run, range(placed.offset, placed.offset + placed.content.nbytes), fd, local, tick, checksum)
        found[placed.content.id] = checksum.taken()
    if not checksums:
        for span in _lacking(range(run.offset, run.end), run.shared):
            done = _in_kernel(run, span, fd, tick)
            _through(run, span[done:], fd, local, tick)
        tick(len(_overlap(range(run.offset, run.end), run.shared)))
    return found


def pwrite(fd: int, content: memoryview, offset: int) -> None:
    """Write all of it."""
    done = 0
    while done < len(content):  # guard: short-write
        done += os.pwrite(fd, content[done:], offset + done)


def put(placed: Placed, fd: int, content: memoryview, start: int) -> None:
    """Write bytes of a tensor that stand from its byte `start` on."""
    if not placed.pieces:
        pwrite(fd, content, placed.offset + start)
    for offset, part in apart(placed.pieces, content, start):
        pwrite(fd, part, offset)


def _overlap(span: range, shared: range) -> range:
    return range(max(span.start, shared.start), min(span.stop, shared.stop))


def _lacking(span: range, shared: range) -> Sequence[range]:
    """The parts of a span of the output that are not shared."""
    both = _overlap(span, shared)
    if not both:
        return [span]
    return [part for part in (range(span.start, both.start), range(both.stop, span.stop)) if part]


def _in_kernel(run: Run, span: range, fd: int, tick: Tick) -> int:
    """Copy inside the kernel as far as it can; returns how many bytes."""
    if run.source.is_remote:
        return 0
    done, shift = 0, run.start - run.offset
    while done < len(span):
        place, length = span.start + done, min(PART, len(span) - done)
        try:
            count = os.copy_file_range(run.source.fd, fd, length, place + shift, place)
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY:
                break
            raise
        if count == 0:
            raise run.source.too_short(place + shift, len(span) - done, _name_at(run, place))
        done += count
        tick(count)
    return done


def _through(run: Run, span: range, fd: int, local: Local, tick: Tick, checksum: Checksum | None = None) -> None:
    """Copy through this process, what is shared already excepted; all of it goes into the checksum."""
    shift, buffer = run.start - run.offset, local.buffer
    for start in range(span.start, span.stop, len(buffer)):
        piece = buffer[: span.stop - start]
        run.source.read_into(piece, start + shift, _name_at(run, start))
        if checksum is not None:
            checksum.update(piece)
        for part in _lacking(range(start, start + len(piece)), run.shared):
            pwrite(fd, piece[part.start - start : part.stop - start], part.start)
        tick(len(piece))


def _name_at(run: Run, place: int) -> str:
    """The source's name of the tensor that has this byte of the output."""
    placed = next(one for one in reversed(run.tensors) if one.offset <= place)
    return placed.content.origin.tensor.name if placed.content.origin.tensor else placed.content.name
