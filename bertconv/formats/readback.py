"""Weights equal, bit for bit, through the table; and the digest that a tensor has in every format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bertconv.containers.stored import FLOATS, StoredTensor
from bertconv.errors import ParityError, TiedTensorsDiffer
from bertconv.formats import workers
from bertconv.formats.content import Content
from bertconv.formats.streaming import PIECE, Elements, Workspace, cast, not_finite, pieces, reordered
from bertconv.mapping.layout import Transpose, both
from bertconv.mapping.plan import Duplicate
from bertconv.text import printable


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


def verify_weights(tensors: Sequence[Written], progress: workers.Tick) -> list[TensorCheck]:
    """Read every written tensor back, compare it with its source, and digest it.

    Raises:
        ParityError: an element differs; names the tensor and the first such element.
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    return workers.run(tensors, _verify, progress, lambda tensor: tensor.stored.nbytes)


def check_duplicates(pairs: Sequence[Duplicate], progress: workers.Tick = lambda _: None) -> tuple[str, ...]:
    """Compare the two tensors of every pair, bit by bit.

    Returns:
        One sentence for each pair that may differ and does.

    Raises:
        TiedTensorsDiffer: the tensors of a pair that must be equal differ.
    """
    return tuple(filter(None, workers.run(pairs, _check_duplicate, progress, lambda pair: pair.copy.nbytes)))


def tensor_digest(dtype: str, shape: tuple[int, ...]) -> hashlib._Hash:
    """A sha256 to be fed with the little-endian elements in PyTorch's order.

    It begins with the element type and the shape, so that the same weights have the same digest in every format and a
    reshaped or reinterpreted tensor has another.
    """
    sizes = ",".join(map(str, shape))
    return hashlib.sha256(b"bertconv-t1\0" + f"{dtype}\0{sizes}\0".encode())


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
    digest = tensor_digest(tensor.dtype, shape)
    for piece in pieces(tensor, transpose, workspace):
        digest.update(piece.data)
        tick(piece.nbytes)
    return f"sha256:{digest.hexdigest()}"


def _verify(tensor: Written, workspace: Workspace, tick: workers.Tick) -> TensorCheck:
    written = tensor.stored
    digest = tensor_digest(written.dtype, tensor.content.spec.canonical.shape)
    bad, zero, position = 0, True, 0
    for elements, expected in _side_by_side(tensor, workspace):
        if not np.array_equal(elements, expected):
            first = position + int(np.flatnonzero(elements != expected)[0])
            raise ParityError(
                f"differs from its source at element {first} (in PyTorch's order); the output was not kept.",
                hint="Check disk and memory, and run the conversion again.",
                file=written.file.name,
                tensor=written.name,
            )
        digest.update(elements.data)
        bad += not_finite(elements, written.dtype) if written.dtype in FLOATS else 0
        zero = zero and not elements.any()
        position += elements.size
        tick(elements.nbytes)
    return TensorCheck(tensor.content.id, f"sha256:{digest.hexdigest()}", bad, zero and written.count > 0)


def _side_by_side(tensor: Written, workspace: Workspace) -> Iterator[tuple[Elements, Elements]]:
    """Written and expected elements, both in PyTorch's order, in slices of equal length."""
    origin, canonical = tensor.content.origin, tensor.content.canonical
    written = pieces(tensor.stored, canonical, workspace)
    if origin.tensor is None:
        return lockstep(written, iter(()) if origin.make is None else _in_order(origin.make, canonical))
    source = origin.tensor
    elements = pieces(source, both(origin.transpose, canonical), workspace.second)
    # guard: compared-with-source
    return lockstep(written, (cast(piece, source.dtype, tensor.stored.dtype) for piece in elements))


def _in_order(make: Callable[[], Elements], canonical: Transpose | None) -> Iterator[Elements]:
    yield reordered(make(), canonical)


def lockstep(one: Iterator[Elements], other: Iterator[Elements]) -> Iterator[tuple[Elements, Elements]]:
    """Two streams of the same elements, cut into slices of equal length; both end together or it is a ParityError."""
    left: Elements = np.empty(0, np.uint8)
    right = left
    while True:
        left = left if left.size else next(one, left)
        right = right if right.size else next(other, right)
        length = min(left.size, right.size, PIECE)
        if length == 0:
            break
        yield left[:length], right[:length]
        left, right = left[length:], right[length:]
    if left.size or right.size:
        raise ParityError("the two copies of a tensor have different lengths.", hint="This is a bug: report it.")


def _check_duplicate(pair: Duplicate, workspace: Workspace, tick: workers.Tick) -> str:
    copy, original = pair.copy, pair.original
    if (copy.file, copy.offset, copy.strides, copy.dtype) == (
        original.file, original.offset, original.strides, original.dtype,
    ):  # fmt: skip
        return ""
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
