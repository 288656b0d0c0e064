"""Move every tensor's elements to its place in the output: ranges inside the kernel, the others piece by piece."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bertconv.formats import ranges, workers
from bertconv.formats.checksum import Taken
from bertconv.formats.content import OutputFile, Placed

FLUSH_SECONDS = 0.05
"""Pause between two flushes while the weights are written."""


def write_weights(
    folder: Path, files: Sequence[OutputFile], progress: workers.Tick, *, checksums: bool = False
) -> dict[str, Taken]:
    """Fill files that were laid out. Every source is read once.

    With one exception: where axes change in another way than a matrix's, it is read a second time for the checksum.

    Args:
        folder: where they are.
        files: with the place of every tensor.
        progress: called with bytes as they are written.
        checksums: take them of every tensor on the way (`checksum.py`), for `readback.verify_weights`.

    Returns:
        Id of each tensor -> its checksum and digest; nothing without `checksums`.

    Raises:
        DamagedCheckpoint: a source ends too early or cannot be read.
        MappingError: elements that were made are not as many as planned.
        RequestError: a number does not fit into the element type that was asked for.
        OSError: the output cannot be written.
    """
    with _opened(folder, files) as fds, _flushing(fds.values()):
        found = workers.run_batches(_batches(files, fds, checksums=checksums), progress)
    return {name: taken for one in found for name, taken in one.items()}


def _batches(files: Sequence[OutputFile], fds: Mapping[str, int], *, checksums: bool) -> Iterator[list[ranges.Work]]:
    """Ranges, then everything else: each the largest first. Where a source is remote, all in the order of its file."""
    local, sharing = workers.Local(), ranges.Sharing()
    pairs = [(run, fds[file.name]) for file in files for run in ranges.runs(file.tensors)]
    shared = [(sharing.share(run, fd), fd) for run, fd in pairs]
    copies = [(part, fd) for run, fd in shared for part in ranges.parts(run)]
    others = [(one, fds[file.name]) for file in files for one in file.tensors if not one.is_range]
    if any(map(_is_remote, files)):
        yield _in_turn(copies, others, local, checksums=checksums)
        return
    copies.sort(key=lambda pair: -pair[0].nbytes)
    yield [partial(ranges.copy, part, fd, local, checksums) for part, fd in copies]
    if others:
        from bertconv.formats.transfer import transfer  # and numpy: the threads copy meanwhile

        others.sort(key=lambda pair: -pair[0].content.nbytes)
        yield [partial(transfer, placed, fd, local, checksums) for placed, fd in others]


def _is_remote(file: OutputFile) -> bool:
    """Whether something of it comes from a file that is read once, from its beginning to its end."""
    sources = [placed.content.origin.tensor for placed in file.tensors]
    return any(one.is_remote for source in sources if source is not None for one in source.files)


def _in_turn(
    copies: Sequence[tuple[ranges.Run, int]],
    others: Sequence[tuple[Placed, int]],
    local: workers.Local,
    *,
    checksums: bool,
) -> list[ranges.Work]:
    """All tasks in the order in which their sources lie in their files; what has no source comes first."""
    from bertconv.formats.transfer import transfer

    tasks: list[tuple[tuple[int, int], ranges.Work]] = [
        ((part.source.number, part.start), partial(ranges.copy, part, fd, local, checksums)) for part, fd in copies
    ]
    for placed, fd in others:
        source = placed.content.origin.tensor
        turn = (-1, 0) if source is None else source.turn
        tasks.append((turn, partial(transfer, placed, fd, local, checksums)))
    return [task for _, task in sorted(tasks, key=lambda pair: pair[0])]


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
