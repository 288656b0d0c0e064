"""What the rows of new tokens are, and those of padding that is added."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bertconv.formats.streaming import as_floats, cast
from bertconv.manage.resizing.request import COPY, NORMAL, PIECES, ZERO
from bertconv.manage.resizing.tables import CHUNK, Numbers, OldTable, Take
from bertconv.manage.resizing.vocabulary import NewRows, RowPlan
from bertconv.records import dataclass

if TYPE_CHECKING:
    from bertconv.formats.streaming import Elements


@dataclass(frozen=True)
class Fresh:
    """How the rows of one table are made that no old row becomes, and which rows there are."""

    plan: RowPlan
    way: NewRows

    def of(self, old: OldTable) -> Callable[[Numbers, Take, slice], Elements]:
        """A function that makes rows of a table, as `NewTable.fresh`."""
        dtype = old.stored.dtype
        zero = np.zeros(old.width, f"u{old.item}")
        usual = zero if self.way.how == ZERO else self._mean(old)
        if self.way.how == COPY and self.way.copied is not None:
            same = old.take(np.array([self.way.copied]))[0]
            return partial(self._rows, usual, lambda _row, _take, window: same[window])
        if self.way.how == NORMAL:
            return partial(self._rows, usual, lambda row, _take, window: self._normal(row, old.width, dtype)[window])
        if self.way.how == PIECES:
            return partial(self._rows, usual, lambda row, take, window: self._joined(row, take, dtype, usual[window]))
        return lambda rows, _take, window: np.broadcast_to(usual[window], (len(rows), len(usual[window])))

    def _rows(
        self, usual: Elements, made: Callable[[int, Take, slice], Elements], rows: Numbers, take: Take, window: slice
    ) -> Elements:
        """Row by row: new tokens as they are made, padding as usual."""
        new = self.plan.new
        return np.stack([made(row, take, window) if row in new else usual[window] for row in rows.tolist()])

    def _mean(self, old: OldTable) -> Elements:
        """The mean of the rows of all old tokens: summed in float64 in their order, rounded once."""
        known = np.frombuffer(self.plan.known, np.int64)
        if not len(known):
            return np.zeros(old.width, f"u{old.item}")
        total = np.zeros(old.width)
        for start in range(0, len(known), CHUNK):
            part = as_floats(old.take(known[start : start + CHUNK]), old.stored.dtype)
            total += part.astype(np.float64).sum(axis=0)
        return _rounded(total / len(known), old.stored.dtype)

    def _normal(self, row: int, width: int, dtype: str) -> Elements:
        text = f"{self.way.seed}\0{self.plan.new[row]}".encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
        return _rounded(np.random.default_rng(number).standard_normal(width) * self.way.spread, dtype)

    def _joined(self, row: int, take: Take, dtype: str, usual: Elements) -> Elements:
        parts = self.way.pieces.get(row, ())
        if not parts:
            return usual
        total = np.zeros(len(usual))
        for part in take(np.array(parts)):
            total += as_floats(np.ascontiguousarray(part), dtype).astype(np.float64)
        return _rounded(total / len(parts), dtype)


def _rounded(values: np.ndarray[Any, Any], dtype: str) -> Elements:
    """Numbers in float64 as elements of a type."""
    return cast(np.ascontiguousarray(values, np.float64).view("u8"), "float64", dtype)
