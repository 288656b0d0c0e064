"""Tensors whose elements are moved by this process, because they change order or type on the way or are made."""

from __future__ import annotations

from bertconv.containers.stored import StoredTensor
from bertconv.errors import MappingError, RequestError
from bertconv.formats.checksum import Checksum, Taken, checksum_of, source_turn
from bertconv.formats.content import Content, Placed, Tally
from bertconv.formats.ranges import put
from bertconv.formats.streaming import Elements, Workspace, cast, not_finite, pieces
from bertconv.formats.workers import Local, Tick


def transfer(placed: Placed, fd: int, local: Local, checksums: bool, tick: Tick) -> dict[str, Taken]:
    """Write one tensor.

    Args:
        placed: the tensor and its place.
        fd: the open file.
        local: the thread's buffers.
        checksums: take its checksum.
        tick: called with bytes as they are written.

    Returns:
        Its id -> its checksum and digest; nothing without `checksums`.

    Raises:
        As `writing.write_weights`.
    """
    content = placed.content
    checksum = checksum_of(content, digest=True) if checksums else None
    source = content.origin.tensor
    if source is None:
        if content.nbytes:
            _fill(placed, fd, local.workspace, checksum, tick)
    else:
        _move(source, placed, fd, local.workspace, checksum, tick)
    return {} if checksum is None else {content.id: checksum.taken()}


def checked_cast(piece: Elements, source: StoredTensor, dtype: str, tally: Tally | None = None) -> Elements:
    """Numbers as another type, counted by `tally` where they change; RequestError where that has no such numbers."""
    elements = cast(piece, source.dtype, dtype, tally)
    infinite = 0 if elements is piece else not_finite(elements, dtype)
    if infinite and infinite > not_finite(piece, source.dtype):
        raise RequestError(
            f"holds numbers that {dtype} cannot hold.",
            hint="Use --dtype keep, float32 or bfloat16.",
            file=source.file.name,
            tensor=source.name,
        )
    return elements


def _move(
    source: StoredTensor, placed: Placed, fd: int, workspace: Workspace, checksum: Checksum | None, tick: Tick
) -> None:
    content, done = placed.content, 0
    turn = source_turn(content)

    def rows(block: Elements, top: int, left: int) -> None:
        if checksum is not None:
            checksum.rows(cast(block, source.dtype, content.dtype), top, left)

    as_read = rows if turn is not None and checksum is not None else None
    if turn is not None and len(turn.shape) != 2 and checksum is not None:  # not read in an order that could be used
        for piece in pieces(source, None, workspace):
            checksum.update(cast(piece, source.dtype, content.dtype).data)
    for piece in pieces(source, content.origin.transpose, workspace, as_read):
        elements = checked_cast(piece, source, content.dtype, content.origin.tally)
        put(placed, fd, elements.data.cast("B"), done)
        if checksum is not None and turn is None:
            checksum.update(elements.data)
        done += elements.nbytes
        tick(elements.nbytes)


def _fill(placed: Placed, fd: int, workspace: Workspace, checksum: Checksum | None, tick: Tick) -> None:
    """Write elements that are made; more or fewer than planned would run into the next tensor or leave zeros."""
    content, done = placed.content, 0
    for elements in content.origin.made(workspace):
        whole = content.origin.compute is None
        if done + elements.nbytes > content.nbytes or (whole and elements.nbytes < content.nbytes):
            raise _wrong_length(content, done + elements.nbytes)
        put(placed, fd, elements.data.cast("B"), done)
        if checksum is not None:
            checksum.update(elements.data)
        done += elements.nbytes
        tick(elements.nbytes)
    if not (content.origin.make or content.origin.compute):  # zeros, which the file has already
        tick(content.nbytes)
    elif done != content.nbytes:
        raise _wrong_length(content, done)


def _wrong_length(content: Content, nbytes: int) -> MappingError:
    return MappingError(
        f"was made of {nbytes:,} bytes where {content.nbytes:,} were planned.",
        hint="Report this as a bug.",
        tensor=content.name,
    )
