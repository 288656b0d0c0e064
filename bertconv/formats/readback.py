"""Weights equal, bit for bit, through the table; and the digest that a tensor has in every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bertconv.containers.stored import FLOATS, ITEM_SIZE, StoredTensor, turn_of
from bertconv.errors import ParityError, TiedTensorsDiffer
from bertconv.formats import workers
from bertconv.formats.checksum import Checksum, Taken, checksum_of, digest_text, source_turn, tensor_digest
from bertconv.formats.content import Content
from bertconv.mapping.layout import Transpose, both
from bertconv.mapping.plan import Duplicate
from bertconv.records import dataclass
from bertconv.text import printable

if TYPE_CHECKING:  # numpy is imported where elements are read: a plan needs none
    import hashlib

    from bertconv.formats.streaming import Elements, Workspace


@dataclass(frozen=True)
class Written:
    """A tensor that was written, and where it stands in the output."""

    content: Content
    stored: StoredTensor


@dataclass(frozen=True)
class TensorCheck:
    """What the check found: the digest, how many numbers are NaN or infinite, and whether all are zero."""

    id: str
    digest: str
    not_finite: int
    all_zero: bool


def verify_weights(
    tensors: Sequence[Written], progress: workers.Tick, before: Mapping[str, Taken]
) -> list[TensorCheck]:
    """Read every written tensor back, and digest it; what was read must be what its source gave.

    Args:
        tensors: what was written.
        progress: called with bytes as they are read.
        before: id -> what `write_weights` took; a tensor that is not in it is compared with its source, read again.

    Raises:
        ParityError: an element differs; names the tensor and the first such element.
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    return workers.run(tensors, partial(_verify, before), progress, lambda tensor: tensor.stored.turn)


def check_duplicates(pairs: Sequence[Duplicate], progress: workers.Tick = lambda _: None) -> tuple[str, ...]:
    """Compare the two tensors of every pair, bit by bit.

    Returns:
        One sentence for each pair that may differ and does.

    Raises:
        TiedTensorsDiffer: the tensors of a pair that must be equal differ.
    """
    pairs = [pair for pair in pairs if not _is_one(pair)]
    return tuple(
        filter(None, workers.run(pairs, _check_duplicate, progress, lambda pair: turn_of(pair.copy, pair.original)))
    )


def digest_of(
    tensor: StoredTensor, transpose: Transpose | None, shape: tuple[int, ...], workspace: Workspace, tick: workers.Tick
) -> str:
    """The digest of a stored tensor.

    Args:
        tensor: the tensor.
        transpose: what brings its elements into PyTorch's order.
        shape: its sizes in that order.
        workspace: buffers.
        tick: called with the bytes that were read.

    Raises:
        DamagedCheckpoint: the file ends too early or cannot be read.
    """
    from bertconv.formats.streaming import pieces

    digest = tensor_digest(tensor.dtype, shape)
    for piece in pieces(tensor, transpose, workspace):
        digest.update(piece.data)
        tick(piece.nbytes)
    return digest_text(digest)


def _verify(before: Mapping[str, Taken], tensor: Written, workspace: Workspace, tick: workers.Tick) -> TensorCheck:
    from bertconv.formats.streaming import not_finite

    written, content = tensor.stored, tensor.content
    taken = before.get(content.id, Taken(b""))
    digest = None if taken.digest else tensor_digest(written.dtype, content.spec.canonical.shape)
    checksum = checksum_of(content)
    bad, zero = 0, True
    for elements in _read_back(tensor, checksum, digest, workspace):
        bad += not_finite(elements, written.dtype) if written.dtype in FLOATS else 0
        zero = zero and not elements.any()
        tick(elements.nbytes)
    if taken.checksum != checksum.value():  # guard: compared-with-source
        _compare(tensor, workspace, was_read=content.id in before)
    found = taken.digest if digest is None else digest_text(digest)
    return TensorCheck(content.id, found, bad, zero and written.count > 0)


def _read_back(
    tensor: Written, checksum: Checksum, digest: hashlib._Hash | None, workspace: Workspace
) -> Iterator[Elements]:
    """What was written: for the checksum in the source's order, for the digest, if it is wanted, in PyTorch's.

    Both orders come of one reading where they are one, or where one is the output's own.
    """
    from bertconv.formats.streaming import panel_columns, pieces

    written, turn = tensor.stored, source_turn(tensor.content)
    back, canonical = turn.inverse.reduced if turn else None, tensor.content.canonical
    if digest is None or back == canonical:
        for piece in pieces(written, back, workspace):
            for part in checksum.parts(piece):
                checksum.update(part.data)
                if digest is not None:
                    digest.update(part.data)
                yield part
        return
    other, turned = (digest, checksum) if back else (checksum, digest)
    way = back or canonical

    def rows(block: Elements, _top: int, _left: int) -> None:
        other.update(block.copy().data)

    whole_rows = (
        way is not None and len(way.shape) == 2 and panel_columns(way, ITEM_SIZE[written.dtype]) == way.shape[1]
    )
    one_reading = whole_rows and None in (back, canonical)
    for piece in pieces(written, way, workspace, rows if one_reading else None):
        turned.update(piece.data)
        yield piece
    if not one_reading:
        for piece in pieces(written, canonical if back else None, workspace):
            other.update(piece.data)


def _compare(tensor: Written, workspace: Workspace, *, was_read: bool) -> None:
    """Name the first element that differs; where none does, the source or the disk gave something else before."""
    import numpy as np

    position = 0
    order = "in the file's order" if tensor.content.origin.compute else "in PyTorch's order"
    for elements, expected in _side_by_side(tensor, workspace):
        if not np.array_equal(elements, expected):
            first = position + int(np.flatnonzero(elements != expected)[0])
            raise _differs(tensor, f"differs from its source at element {first} ({order})")
        position += elements.size
    if was_read:
        raise _differs(tensor, "differs from what was first read of its source, although their elements are equal now")


def _differs(tensor: Written, what: str) -> ParityError:
    return ParityError(
        f"{what}; the output was not kept.",
        hint="Check disk and memory, and run the conversion again.",
        file=tensor.stored.file.name,
        tensor=tensor.stored.name,
    )


def _side_by_side(tensor: Written, workspace: Workspace) -> Iterator[tuple[Elements, ...]]:
    """Written and expected elements, both in PyTorch's order, or as they are computed, in slices of equal length."""
    from bertconv.formats.streaming import cast, lockstep, pieces

    origin, canonical = tensor.content.origin, tensor.content.canonical
    if origin.compute is not None:  # in no other order: what is computed need not fit into memory
        return lockstep(pieces(tensor.stored, None, workspace), origin.compute(workspace.second))
    written = pieces(tensor.stored, canonical, workspace)
    if origin.tensor is None:
        return lockstep(written, iter(()) if origin.make is None else _in_order(origin.make, canonical))
    source = origin.tensor
    elements = pieces(source, both(origin.transpose, canonical), workspace.second)
    return lockstep(written, (cast(piece, source.dtype, tensor.stored.dtype) for piece in elements))


def _in_order(make: Callable[[], Elements], canonical: Transpose | None) -> Iterator[Elements]:
    from bertconv.formats.streaming import reordered

    yield reordered(make(), canonical)


def _is_one(pair: Duplicate) -> bool:
    """Whether both are the same bytes, not a copy of them."""
    return pair.copy.place == pair.original.place


def _check_duplicate(pair: Duplicate, workspace: Workspace, tick: workers.Tick) -> str:
    import numpy as np

    from bertconv.formats.streaming import lockstep, pieces

    copy, original = pair.copy, pair.original
    for one, other in lockstep(pieces(copy, pair.transpose, workspace), pieces(original, None, workspace.second)):
        if copy.dtype != original.dtype or not np.array_equal(one, other):
            if pair.may_differ:
                return (
                    f"{printable(original.name)} holds other values than {printable(copy.name)}, with which the model "
                    "computes: left out"
                )
            raise TiedTensorsDiffer(
                f"holds other values than {printable(original.name)}, of which it should be a second copy.",
                hint="If the model was trained untied, set tie_word_embeddings to false in its config or pass --untie.",
                file=copy.file.name,
                tensor=copy.name,
            )
        tick(one.nbytes)
    return ""
