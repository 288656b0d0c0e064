"""Tables with a row for each token: rows of one token are held to each other, wherever the two sides have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from bertconv.checkpoint import Tensor
from bertconv.containers.stored import ITEM_SIZE
from bertconv.formats.streaming import PANEL, PIECE, Elements, Workspace
from bertconv.manage.difference.records import Rows
from bertconv.manage.difference.sums import Roundings, Sums
from bertconv.text import printable

SHOWN = 8
"""Tokens that are named of each kind."""

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class RowAlignment:
    """Which row of A belongs to which row of B.

    Rows are aligned by token where both sides' tokenizers list theirs, and else by number. A row that is no token's, as
    those that fill a table up, belongs to the row of its number if that is no token's either.

    Args:
        tokens_a: token -> id in A; None where no file says it.
        tokens_b: the same of B.
        rows_a: number of rows in A.
        rows_b: the same in B.
    """

    def __init__(
        self, tokens_a: Mapping[str, int] | None, tokens_b: Mapping[str, int] | None, rows_a: int, rows_b: int
    ) -> None:
        self.by = "row" if tokens_a is None or tokens_b is None else "token"
        self.rows_a, self.rows_b = rows_a, rows_b
        self._tokens = (tokens_a, tokens_b)
        self.in_place = rows_a == rows_b and (self.by == "row" or tokens_a == tokens_b)
        if not self.in_place:
            self.in_place = rows_a == rows_b and bool((self.sources == np.arange(rows_b)).all())

    @cached_property
    def sources(self) -> Numbers:
        """For every row of B the row of A that belongs to it, or -1."""
        tokens = self._tokens[0]
        if tokens is None or self.by == "row":
            numbers = np.arange(self.rows_b, dtype=np.int64)
            return np.where(numbers < self.rows_a, numbers, -1)
        one, other = self._names
        found = (
            (row if row < self.rows_a and one[row] is None else -1) if token is None else tokens.get(token, -1)
            for row, token in enumerate(other)
        )
        sources = np.fromiter(found, np.int64, self.rows_b)
        sources[sources >= self.rows_a] = -1
        return sources

    @cached_property
    def _names(self) -> tuple[list[str | None], list[str | None]]:
        """The token of every row, on both sides; of two tokens with one id the first."""
        found: list[list[str | None]] = []
        for tokens, rows in zip(self._tokens, (self.rows_a, self.rows_b), strict=True):
            names: list[str | None] = [None] * rows
            for token, number in (tokens or {}).items():
                if number < rows and names[number] is None:
                    names[number] = token
            found.append(names)
        return found[0], found[1]

    def names(self, rows: Iterable[int], *, in_a: bool = False) -> tuple[str, ...]:
        """The tokens of some rows, or their numbers; where one side alone lists its tokens, by these."""
        own = 0 if in_a else 1
        known = self._names[1 - own if self._tokens[own] is None else own]
        names = ((row, known[row] if row < len(known) else None) for row in rows)
        return tuple(f"row {row}" if token is None else printable(token) for row, token in names)

    def rows(self, changed: Mask) -> Rows:
        """What is to be said, once it is known which rows of B hold other values than theirs in A."""
        numbers = np.arange(self.rows_b)
        sources = numbers if self.in_place else self.sources
        there = sources >= 0
        moved = numbers[there & (sources != numbers)]
        new = numbers[~there]
        taken = np.zeros(self.rows_a, bool)
        taken[sources[there]] = True
        dropped = np.flatnonzero(~taken)
        differ = np.flatnonzero(changed)
        names = {
            kind: self.names(rows[:SHOWN].tolist(), in_a=kind == "dropped")
            for kind, rows in (("changed", differ), ("moved", moved), ("new", new), ("dropped", dropped))
        }
        kept = int(np.count_nonzero(there)) - moved.size
        return Rows(
            self.by, self.rows_a, self.rows_b, kept, moved.size, new.size, dropped.size, differ.size, names
        )  # fmt: skip


class RowFlags:
    """Which rows of a table differ, from masks of its elements in order.

    Args:
        rows: of the table.
        width: elements of a row.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.changed = np.zeros(rows, bool)
        self._width, self._row, self._offset = width, 0, 0

    def add(self, mask: Mask) -> None:
        """The mask of the elements that follow."""
        width = self._width
        if self._offset:
            head, mask = mask[: width - self._offset], mask[width - self._offset :]
            self.changed[self._row] |= head.any()
            self._offset += head.size
            if self._offset < width:
                return
            self._row, self._offset = self._row + 1, 0
        whole = mask.size // width
        self.changed[self._row : self._row + whole] = mask[: whole * width].reshape(whole, width).any(axis=1)
        self._row, rest = self._row + whole, mask[whole * width :]
        if rest.size:
            self.changed[self._row] |= rest.any()
            self._offset = rest.size


def compare_rows(
    a: Tensor, b: Tensor, alignment: RowAlignment, sums: Sums, roundings: Roundings, tick: Callable[[], None]
) -> Mask:
    """Sum over the rows that both sides have, in B's order; which rows of B differ from theirs in A.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    here, there = _Reader(a, alignment.rows_a), _Reader(b, alignment.rows_b)
    changed = np.zeros(alignment.rows_b, bool)
    numbers = np.flatnonzero(alignment.sources >= 0)
    step = max(PIECE // max(there.row_bytes, 1), 1)
    for start in range(0, numbers.size, step):
        rows = numbers[start : start + step]
        one, other = here.read(alignment.sources[rows]), there.read(rows)
        mask = sums.add(one, other)
        roundings.add(one, other)
        changed[rows] = mask.reshape(rows.size, -1).any(axis=1)
        tick()
    return changed


class _Reader:
    """Rows of a table by their numbers; a small table, or one whose rows do not lie in a row, is read whole."""

    def __init__(self, tensor: Tensor, rows: int) -> None:
        self._tensor, stored = tensor, tensor.stored
        self._width = tensor.spec.count // max(rows, 1)
        self._item = ITEM_SIZE[stored.dtype]
        self.row_bytes = self._width * self._item
        self._whole: Elements | None = None
        if tensor.transpose is not None or stored.strides is not None or stored.nbytes <= PANEL:
            parts = [piece.copy() for piece in tensor.elements(Workspace())]
            self._whole = np.concatenate(parts).reshape(rows, self._width)

    def read(self, rows: Numbers) -> Elements:
        """The elements of these rows, one after the other."""
        if self._whole is not None:
            return self._whole[rows].reshape(-1)
        stored = self._tensor.stored
        found = np.empty(rows.size * self._width, f"u{self._item}")
        content = found.data.cast("B")
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, end in zip((0, *ends.tolist()), (*ends.tolist(), rows.size), strict=True):
            part = content[first * self.row_bytes : end * self.row_bytes]
            stored.read_into(part, int(rows[first]) * self.row_bytes)
        return found
