"""One checksum for every tensor, taken while its source is read and again of what was written.

It is xxh3_128 of the package `xxhash` (20 GB/s and more, where sha256 does 1.8): both sides are our own, so it has to
find faults, not attackers. Digests that leave the process are sha256 (`readback.tensor_digest`).

The order in which elements go into it is PyTorch's where the source is stored in it and the output is not: the source's
rows count as they are read, and what was written has to be brought back to agree, so that a wrong transpose shows.
Elsewhere it is the order of the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertconv.containers.stored import ITEM_SIZE
from bertconv.mapping.layout import Transpose, both

if TYPE_CHECKING:
    from bertconv.formats.content import Content
    from bertconv.formats.streaming import Elements

_MODULUS = 1 << 128


class Checksum:
    """Of elements in the order in which they come."""

    def __init__(self) -> None:
        import xxhash

        self._hash = xxhash.xxh3_128()

    def update(self, content: memoryview) -> None:
        """Elements or bytes that follow those before."""
        self._hash.update(content)

    def rows(self, block: Elements, top: int, left: int) -> None:  # noqa: ARG002  (they come in order)
        """Whole rows of a matrix, which need not follow each other in memory; as `streaming.AsRead`."""
        for row in block:
            self._hash.update(row)

    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


class PanelChecksum(Checksum):
    """Of a matrix that is read in panels, some columns at a time: the sum over the parts of rows, each with its place.

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

    def digest(self) -> bytes:
        """16 bytes."""
        return (self._sum % _MODULUS).to_bytes(16, "little")


def taken_from_source(content: Content) -> Transpose | None:
    """How the source's elements change order, where the checksum is of the order in which the source has them."""
    origin = content.origin
    if origin.tensor is None or origin.transpose is None or both(origin.transpose, content.canonical):
        return None
    return origin.transpose.reduced


def checksum_of(content: Content) -> Checksum:
    """What takes the checksum of a tensor, in both passes."""
    turn, source = taken_from_source(content), content.origin.tensor
    if turn is not None and source is not None and len(turn.shape) == 2:
        from bertconv.formats.streaming import panel_columns

        width = panel_columns(turn, ITEM_SIZE[source.dtype])
        if width < turn.shape[1]:
            return PanelChecksum(turn.shape[1], width)
    return Checksum()
