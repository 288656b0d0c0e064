"""A table with a row for each token, streamed into one with other rows, in bounded memory.

It lies row by row, as embeddings do, or with the vocabulary as its columns, as a decoder's kernel in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from bertconv.containers.stored import ITEM_SIZE, StoredTensor
from bertconv.formats.streaming import PANEL, PIECE, Elements, Workspace, pieces
from bertconv.manage.resizing.vocabulary import RowPlan
from bertconv.mapping.layout import Transpose
from bertconv.records import dataclass

PART = 4 << 20
"""Bytes of some dimensions of a table whose rows are its columns: an old and a new part are in memory at a time."""
CHUNK = 1024
"""Rows of a sum, or columns that are filled, at a time."""
Numbers = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of rows."""
Take = Callable[[Numbers], Elements]
"""Old rows by their numbers, as many columns of them as are asked for."""


@dataclass(frozen=True)
class OldTable:
    """The table as it is stored.

    Attributes:
        stored: where it is.
        rows: tokens and padding.
        width: elements of a row; 1 for a vector with an element for each token.
        by_row: it lies row by row; otherwise the rows are its columns.
    """

    stored: StoredTensor
    rows: int
    width: int
    by_row: bool

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEM_SIZE[self.stored.dtype]

    def read(self, numbers: Numbers, into: Elements) -> None:
        """Fill the rows of a matrix with old rows; those whose number is below 0 stay as they are."""
        places = np.flatnonzero(numbers >= 0)
        if not len(places):
            return
        wanted = numbers[places]
        if self._whole is not None:
            into[places] = self._whole[wanted]
        elif self.by_row:
            self._read_runs(places, wanted, into)
        else:
            self._read_columns(places, wanted, into)

    def take(self, numbers: Numbers) -> Elements:
        """Old rows by their numbers."""
        found = np.empty((len(numbers), self.width), f"u{self.item}")
        self.read(numbers, found)
        return found

    def dimensions(self, transpose: Transpose | None, workspace: Workspace) -> Iterator[Elements]:
        """Matrices of some dimensions each, with the old rows as their columns.

        Args:
            transpose: what brings its elements into that order.
            workspace: buffers.
        """
        if transpose is not None or self.stored.strides is not None:
            for piece in _rejoined(pieces(self.stored, transpose, workspace), self.rows):
                yield piece.reshape(-1, self.rows)
            return
        height = max(PART // (self.rows * self.item), 1)
        for top in range(0, self.width, height):
            count = min(height, self.width - top)
            flat = workspace.panel(count * self.rows, self.item)
            self.stored.read_into(flat.data.cast("B"), top * self.rows * self.item)
            yield flat.reshape(count, self.rows)

    def _read_runs(self, places: Numbers, wanted: Numbers, into: Elements) -> None:
        """In the order of the file, neighbours in one go."""
        size = self.width * self.item
        data = into.data.cast("B")
        ends = np.flatnonzero((np.diff(wanted) != 1) | (np.diff(places) != 1)) + 1
        starts = np.concatenate(([0], ends))
        lengths = np.diff(np.concatenate((starts, [len(wanted)])))
        order = np.argsort(wanted[starts], kind="stable")
        runs = zip(places[starts][order].tolist(), wanted[starts][order].tolist(), lengths[order].tolist(), strict=True)
        for place, row, length in runs:
            part = data[place * size : (place + length) * size]
            self.stored.read_into(part, row * size)

    def _read_columns(self, places: Numbers, wanted: Numbers, into: Elements) -> None:
        """Of every dimension what lies between the first column and the last."""
        first, last = int(wanted.min()), int(wanted.max()) + 1
        line = np.empty(last - first, f"u{self.item}")
        for dimension in range(self.width):
            self.stored.read_into(line.data.cast("B"), (dimension * self.rows + first) * self.item)
            into[places, dimension] = line[wanted - first]

    @cached_property
    def _whole(self) -> Elements | None:
        """All of a view with strides of its own, which is rare; None where it can be read in parts."""
        if self.stored.strides is None:
            return None
        flat = np.concatenate([piece.copy() for piece in pieces(self.stored, None, Workspace())])
        matrix = flat.reshape(self.rows, self.width) if self.by_row else flat.reshape(self.width, self.rows).T
        return np.ascontiguousarray(matrix)


def _columns(matrix: Elements, numbers: Numbers) -> Elements:
    """Columns by their numbers, each as a row."""
    found: Elements = matrix[:, numbers].T
    return found


def _rejoined(parts: Iterator[Elements], length: int) -> Iterator[Elements]:
    """Pieces of whole lines, where a tensor with strides of its own is cut anywhere."""
    rest: Elements | None = None
    for part in parts:
        joined = part if rest is None else np.concatenate((rest, part))
        whole = len(joined) // length * length
        if whole:
            yield joined[:whole]
        rest = joined[whole:].copy() if whole < len(joined) else None


@dataclass(frozen=True)
class NewTable:
    """The table that is to be written.

    Attributes:
        old: the one that it is made from.
        plan: which row becomes which.
        by_row: as in `OldTable`, of this one.
        transpose: between both, where one lies by row and the other does not.
        fresh: what rows are that no old one becomes: called with the old table, makes a function from row numbers, a
            way to take old rows, and the columns that are wanted, to their elements.
    """

    old: OldTable
    plan: RowPlan
    by_row: bool
    transpose: Transpose | None
    fresh: Callable[[OldTable], Callable[[Numbers, Take, slice], Elements]]

    def elements(self, workspace: Workspace) -> Iterator[Elements]:
        """Its elements in their order, piece by piece; the `compute` of an `Origin`."""
        sources = np.frombuffer(self.plan.sources, np.int64)
        fresh = self.fresh(self.old) if (sources < 0).any() else None
        made = self._by_row(sources, fresh, workspace) if self.by_row else self._by_column(sources, fresh, workspace)
        yield from made

    def _by_row(
        self, sources: Numbers, fresh: Callable[[Numbers, Take, slice], Elements] | None, workspace: Workspace
    ) -> Iterator[Elements]:
        width, item = self.old.width, self.old.item
        height = max(PIECE // (width * item), 1)
        if not self.old.by_row:
            height = max(PANEL // (width * item), 1)  # each reading goes through the whole file
        for top in range(0, len(sources), height):
            wanted = sources[top : top + height]
            flat = workspace.panel(len(wanted) * width, item)
            into = flat.reshape(len(wanted), width)
            self.old.read(wanted, into)
            places = np.flatnonzero(wanted < 0)
            if fresh is not None:
                for start in range(0, len(places), CHUNK):
                    some = places[start : start + CHUNK]
                    into[some] = fresh(some + top, self.old.take, slice(None))
            yield flat

    def _by_column(
        self, sources: Numbers, fresh: Callable[[Numbers, Take, slice], Elements] | None, workspace: Workspace
    ) -> Iterator[Elements]:
        kept, places = np.flatnonzero(sources >= 0), np.flatnonzero(sources < 0)
        left = 0
        for old in self.old.dimensions(self.transpose, workspace.second):
            flat = workspace.panel(len(old) * len(sources), self.old.item)
            into = flat.reshape(len(old), len(sources))
            into[:, kept] = old[:, sources[kept]]
            window = slice(left, left + len(old))
            if fresh is not None:
                for start in range(0, len(places), CHUNK):
                    some = places[start : start + CHUNK]
                    into[:, some] = fresh(some, partial(_columns, old), window).T
            yield flat
            left += len(old)
