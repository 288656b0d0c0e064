"""What the elements of one tensor say by themselves, in one pass over its pieces, whatever its element type is.

Elements are looked at as unsigned integers: without its sign a number's bits are in the order of its magnitude.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bertconv.containers.stored import ITEM_SIZE, StoredTensor
from bertconv.formats.streaming import Elements, Workspace, pieces
from bertconv.formats.workers import Tick
from bertconv.mapping.layout import Transpose
from bertconv.records import dataclass

Array = np.ndarray[Any, Any]

_TOO_LARGE, _TOO_SMALL = 65520.0, 2.0**-24
"""The smallest number that float16 rounds to infinity, and its own smallest one."""
_WEIGHT, _SCALE = "weight", "scale"
"""Roles of the tables: matrices, and what normalisations multiply with."""


@dataclass(frozen=True)
class Job:
    """A tensor to be looked at.

    Attributes:
        stored: where it lies.
        role: its part in its module, as the tables call it; empty where nothing says it.
        transpose: what brings it into the order of `rows`.
        rows: the sizes of an embedding table, whose rows are looked at too; empty for anything else.
    """

    stored: StoredTensor
    role: str = ""
    transpose: Transpose | None = None
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rows:
    """What the rows of an embedding table are: whether each holds one number throughout, and a hash of its bits."""

    constant: Array
    hashes: Array


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes:
        name: of the tensor in the file.
        role: its part in its module, as the tables call it.
        rank: its number of axes.
        count: its number of elements.
        nan: how many of them are no number.
        infinite: how many are infinite.
        zeros: how many are zero.
        too_large: how many finite ones float16 rounds to infinity.
        too_small: how many that are not zero are smaller than float16's smallest.
        rows: of an embedding table.
    """

    name: str
    role: str
    rank: int
    count: int
    nan: int
    infinite: int
    zeros: int
    too_large: int
    too_small: int
    rows: Rows | None

    @property
    def is_zero(self) -> bool:
        """Whether it holds nothing but zeros."""
        return 0 < self.count == self.zeros

    @property
    def is_weight(self) -> bool:
        """Whether zeros throughout are unusual in it: in biases they are not."""
        return self.role in (_WEIGHT, _SCALE)

    @property
    def is_scale(self) -> bool:
        """Whether a normalisation multiplies with it."""
        return self.role == _SCALE and self.rank == 1


@dataclass(frozen=True)
class _Bits:
    """The bits of an element type's bounds."""

    magnitude: Any
    infinity: Any
    too_large: Any
    too_small: Any


@cache
def _bits(dtype: str) -> _Bits:
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    unsigned = np.dtype(f"u{ITEM_SIZE[dtype]}").type
    with np.errstate(over="ignore"):
        bounds = [np.array(value, np.float64).astype(kind) for value in (np.inf, _TOO_LARGE, _TOO_SMALL)]
    found = [bound.view(f"u{ITEM_SIZE[dtype]}")[()] for bound in bounds]
    return _Bits(unsigned(2 ** (8 * ITEM_SIZE[dtype] - 1) - 1), *found)


def measured(job: Job, workspace: Workspace, tick: Tick) -> Facts:
    """The facts of a tensor of floating-point numbers.

    Raises:
        DamagedCheckpoint: the file ends too early or cannot be read.
    """
    stored, bits = job.stored, _bits(job.stored.dtype)
    nan = infinite = zeros = large = small = 0
    looker = _ByRow(job.rows) if len(job.rows) == 2 and stored.count else None
    for piece in pieces(stored, job.transpose, workspace):
        if looker is not None:
            looker.take(piece)
        magnitudes = piece & bits.magnitude
        zeros += piece.size - int(np.count_nonzero(magnitudes))
        small += int(np.count_nonzero(magnitudes < bits.too_small))
        if magnitudes.max() >= bits.too_large:  # of few pieces
            beyond = int(np.count_nonzero(magnitudes >= bits.infinity))
            more = int(np.count_nonzero(magnitudes == bits.infinity))
            infinite, nan = infinite + more, nan + beyond - more
            large += int(np.count_nonzero(magnitudes >= bits.too_large)) - beyond
        tick(piece.nbytes)
    rows = looker.done() if looker is not None else None
    return Facts(
        stored.name, job.role, len(stored.shape), stored.count, nan, infinite, zeros, large, small - zeros, rows
    )  # fmt: skip


class _ByRow:
    """Takes the elements of a matrix in pieces that end anywhere, and looks at whole rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.width = shape
        self.constant = np.zeros(self.count, bool)
        self.hashes = np.zeros(self.count, np.uint64)
        self.odd = np.random.default_rng(0).integers(0, 2**63, self.width, np.uint64) * np.uint64(2) + np.uint64(1)
        self.number = 0
        self.rest: Array | None = None

    def take(self, piece: Elements) -> None:
        """The next elements."""
        flat = piece if self.rest is None else np.concatenate([self.rest, piece])
        whole = flat.size // self.width * self.width
        step = max(_BLOCK // self.width, 1) * self.width
        for start in range(0, whole, step):
            self._look(flat[start : min(start + step, whole)].reshape(-1, self.width))
        self.rest = flat[whole:].copy()

    def _look(self, rows: Elements) -> None:
        place = slice(self.number, self.number + len(rows))
        self.constant[place] = (rows == rows[:, :1]).all(axis=1)
        mixed = rows.astype(np.uint64)
        # Bits of a number are far from evenly spread: they are mixed before each column's own factor counts.
        mixed ^= mixed >> np.uint64(13)
        mixed *= _MIX
        mixed ^= mixed >> np.uint64(32)
        self.hashes[place] = (mixed * self.odd).sum(axis=1, dtype=np.uint64)
        self.number += len(rows)

    def done(self) -> Rows:
        """What was found."""
        return Rows(self.constant, self.hashes)


_MIX = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 1 << 16
"""Elements that are looked at together: what is made of them takes eight bytes each."""
