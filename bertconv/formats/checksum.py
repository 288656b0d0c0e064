"""One checksum for every tensor, taken while its source is read and again of what was written.

It is xxh3_128 of the package `xxhash` (measured: more than 20 GB/s, where sha256 does 1.8): both sides are our own, so
it has to find faults, not attackers. Digests that leave the process are sha256 (`tensor_digest`). They are taken on the
first pass too, while the disk is busy: equal checksums mean that what was written has the same.

Elements go into it in the order in which the source has them: rows count as they are read, before they are transposed,
and what was written has to be brought back to agree, so that a wrong transpose shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from bertconv.containers.stored import ITEM_SIZE, PIECE
from bertconv.mapping.layout import Transpose, both

if TYPE_CHECKING:
    from bertconv.formats.content import Content
    from bertconv.formats.streaming import Elements

_MODULUS = 1 << 128


class Taken(NamedTuple):
    """What was taken of a tensor while its source was read.

    Attributes:
        checksum: 16 bytes.
        digest: as reports and manifests have it; empty where the elements did not come in PyTorch's order.
    """

    checksum: bytes
    digest: str = ""


class Checksum:
    """Of elements in the order in which they come.

    Args:
        digest: to be fed with the same elements.
    """

    def __init__(self, digest: hashlib._Hash | None = None) -> None:
        import xxhash

        self._hash = xxhash.xxh3_128()
        self._digest = digest

    def update(self, content: memoryview) -> None:
        """Elements or bytes that follow those before."""
        self._hash.update(content)
        if self._digest is not None:
            self._digest.update(content)

    def rows(self, block: Elements, top: int, left: int) -> None:  # noqa: ARG002  (they come in order)
        """Whole rows of a matrix, which need not follow each other in memory; as `streaming.AsRead`."""
        self.update(block.copy().data)  # one update of many rows is cheaper than the copy and one of each row

    def parts(self, piece: Elements) -> Iterator[Elements]:
        """A piece in parts that a processor's cache holds, to be given to `update` one after the other."""
        size = max(PIECE // piece.itemsize, 1)
        for start in range(0, piece.size, size):
            yield piece[start : start + size]

    def value(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()

    def taken(self) -> Taken:
        """The checksum, and the digest where there is one."""
        return Taken(self.value(), "" if self._digest is None else digest_text(self._digest))


class PanelChecksum(Checksum):
    """Of a matrix that is read in panels, some columns at a time: the sum over the parts of rows, each with its place.

    It takes no digest, whose elements have to come in order: such a matrix is digested when it is read back.

    Args:
        columns: of the matrix.
        width: columns of a panel.
    """

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self._columns, self._width = columns, width
        self._sum = self._row = 0

    def update(self, content: memoryview) -> None:
        """Whole rows that follow those before."""
        import numpy as np

        matrix = np.asarray(content).reshape(-1, self._columns)
        self.rows(matrix, self._row, 0)
        self._row += len(matrix)

    def rows(self, block: Elements, top: int, left: int) -> None:
        """Rows of one panel, or whole ones."""
        from xxhash import xxh3_128_intdigest

        for first in range(0, block.shape[1], self._width):
            part = block[:, first : first + self._width]
            places = range(top * self._columns + left + first, _MODULUS, self._columns)
            self._sum += sum(xxh3_128_intdigest(row, place) for row, place in zip(part, places, strict=False))

    def parts(self, piece: Elements) -> Iterator[Elements]:
        """All of it: a part would end within a row."""
        yield piece

    def value(self) -> bytes:
        """16 bytes."""
        return (self._sum % _MODULUS).to_bytes(16, "little")


def source_turn(content: Content) -> Transpose | None:
    """How the elements of the source change order on the way to the output; None where they do not, or are made."""
    origin = content.origin
    return None if origin.tensor is None or origin.transpose is None else origin.transpose.reduced


def checksum_of(content: Content, *, digest: bool = False) -> Checksum:
    """What takes the checksum of a tensor, in both passes.

    Args:
        content: the tensor.
        digest: also take its digest, where the source has the elements in PyTorch's order.
    """
    turn, source = source_turn(content), content.origin.tensor
    if turn is not None and source is not None and len(turn.shape) == 2:
        from bertconv.formats.streaming import panel_columns

        width = panel_columns(turn, ITEM_SIZE[source.dtype])
        if width < turn.shape[1]:
            return PanelChecksum(turn.shape[1], width)
    in_order = both(turn, content.canonical) is None
    return Checksum(tensor_digest(content.dtype, content.spec.canonical.shape) if digest and in_order else None)


def tensor_digest(dtype: str, shape: tuple[int, ...]) -> hashlib._Hash:
    """A sha256 to be fed with the little-endian elements in PyTorch's order.

    It begins with the element type and the shape, so that the same weights have the same digest in every format and a
    reshaped or reinterpreted tensor has another.
    """
    sizes = ",".join(map(str, shape))
    return hashlib.sha256(b"bertconv-t1\0" + f"{dtype}\0{sizes}\0".encode())


def digest_text(digest: hashlib._Hash) -> str:
    """A tensor's digest as reports and manifests have it."""
    return f"sha256:{digest.hexdigest()}"
