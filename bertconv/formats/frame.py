"""The frame of a file: all of its bytes that no tensor has. Its layout says what they are before the file is made.

So the file that is read back is compared with the layout, byte by byte, and no reader has to find anything in it. A
manifest has the frame's sha256, which `verify DST` takes again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bertconv.containers.chunks import in_file
from bertconv.containers.container import Container, FileLayout
from bertconv.containers.stored import PIECE, Header, SourceFile, Span
from bertconv.errors import ParityError
from bertconv.formats.content import OutputFile
from bertconv.formats.ranges import pwrite
from bertconv.formats.readback import Written
from bertconv.source.checkpoint_folder import open_in


def create(path: Path, layout: FileLayout) -> None:
    """Create a file of its full length, with holes where the tensors go.

    Args:
        path: of the file; its folder is made where it lacks.
        layout: of the file.

    Raises:
        OSError: it exists, or cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb", buffering=0) as file:
        for start, part in sorted(layout.parts.items()):
            pwrite(file.fileno(), memoryview(part), start)
        os.ftruncate(file.fileno(), layout.size)  # which is repeated after a signal; the file object's is not


@contextmanager
def written(
    folder: Path, files: Sequence[OutputFile], container: Container, metadata: Mapping[str, str], *, confirm: bool
) -> Iterator[list[Written]]:
    """The tensors of files that were written, in the order of `files`, open until the block ends.

    Args:
        folder: where the files are.
        files: as they were to be written.
        container: what they are.
        metadata: free text that they hold.
        confirm: have the container's own library read them too, where it has one.

    Raises:
        ParityError: a byte outside of the tensors is not what it should be.
        MappingError: the container's own library reads something else.
        DamagedCheckpoint: a file cannot be read.
    """
    with ExitStack() as stack:
        found: list[Written] = []
        for file in files:
            opened = stack.enter_context(closing(open_in(folder, file.name)))
            check_frame(opened, file)
            stored = [
                in_file(file.scope + one.content.name, one.content.dtype, one.content.spec.shape, opened, one.spans)
                for one in file.tensors
            ]
            if confirm:
                container.confirm(Header(container.name, tuple(stored), dict(metadata)))  # guard: confirm
            found += map(Written, file.contents, stored)
        yield found


def check_frame(opened: SourceFile, file: OutputFile) -> None:
    """Compare all bytes outside of the tensors with the layout.

    Raises:
        ParityError: one is another, or the file is longer or shorter; names the file and the first such byte.
        DamagedCheckpoint: it cannot be read.
    """
    if opened.size != file.size:
        raise _differs(file, min(opened.size, file.size))
    for offset, expected in frame(file):
        there = opened.read(offset, len(expected))
        if there != expected:
            raise _differs(file, offset + next(i for i, byte in enumerate(expected) if there[i] != byte))


def frame(file: OutputFile) -> Iterator[tuple[int, bytes]]:
    """All bytes outside of the tensors as they should be: offset and content of the next ones, at most `PIECE`."""
    parts = sorted(file.layout.parts.items())
    position = 0
    for offset, size in [*file.spans, (file.size, 0)]:
        for start in range(position, offset, PIECE):
            end = min(start + PIECE, offset)
            content = bytearray(end - start)
            for first, part in parts:
                if start < first + len(part) and first < end:
                    low, high = max(first, start), min(first + len(part), end)
                    content[low - start : high - start] = part[low - first : high - first]
            yield start, bytes(content)
        position = offset + size


def spans_of(header: Header) -> list[Span]:
    """Offset and size in bytes of every tensor of a file that is there, in the file's order, for `frame_digest`."""
    return sorted({span for tensor in header.tensors for span in tensor.spans})


def frame_digest(file: SourceFile, spans: Sequence[tuple[int, int]]) -> str:
    """sha256 of the frame of a file that is there; of all of it where there are no tensors.

    Args:
        file: the file.
        spans: offset and size in bytes of every tensor, in the file's order.

    Raises:
        DamagedCheckpoint: it ends before it should, or cannot be read.
    """
    digest, position = hashlib.sha256(), 0
    for offset, size in [*spans, (file.size, 1)]:
        if size:
            for piece in file.pieces(position, offset):
                digest.update(piece)
            position = offset + size
    return digest.hexdigest()


def planned_frame_digest(file: OutputFile) -> str:
    """As `frame_digest`, from the layout alone; once `check_frame` has passed both are the same."""
    digest = hashlib.sha256()
    for _, content in frame(file):
        digest.update(content)
    return digest.hexdigest()


def _differs(file: OutputFile, offset: int) -> ParityError:
    return ParityError(
        f"differs from what was written at byte {offset:,}, outside of its tensors; the output was not kept.",
        hint="Check disk and memory, and run the conversion again.",
        file=file.name,
    )
