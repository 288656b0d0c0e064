"""Tables that one dialect keeps without some rows and with another table added: one step, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

from bertconv.containers.stored import StoredTensor
from bertconv.containers.views import Folded, Padded, folded, padded, zeros
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.plan import Move
from bertconv.mapping.within import Fold
from bertconv.records import dataclass


@dataclass(frozen=True)
class Folding:
    """What has to be folded from one dialect to another, or the reverse; nothing where both keep a table alike.

    Attributes:
        source: id of a table -> how the source keeps it.
        target: the same of the target.
        targets: neutral id -> what the target holds.
        first: the tensor of the source that has an id.
    """

    source: Mapping[str, Fold]
    target: Mapping[str, Fold]
    targets: Mapping[str, TensorSpec]
    first: Callable[[str], StoredTensor | None]

    @cached_property
    def added(self) -> Mapping[str, str]:
        """Id of a table that is added to another one on the way -> that one's id."""
        return {fold.add_row: table for table, fold in self.target.items() if table not in self.source}

    @cached_property
    def taken_apart(self) -> Mapping[str, Fold]:
        """Tables that the source keeps folded and the target does not."""
        return {table: fold for table, fold in self.source.items() if table not in self.target}

    def move(self, target: TensorSpec) -> Move | None:
        """What fills a tensor that is another one on either side; None for every other tensor."""
        if target.id in self.target and target.id not in self.source:
            inner = self.first(target.id)
            added = self.first(self.target[target.id].add_row)
            return None if inner is None else Move(target, folded(inner, added, target.shape), None, "computed")
        for table, fold in self.taken_apart.items():
            if (inner := self.first(table)) is None or target.id not in (table, fold.add_row):
                continue
            view = padded(inner, target.shape) if target.id == table else zeros(inner, target.shape)
            return Move(target, view, None, "computed")
        return None

    def read(self, moves: Iterable[Move]) -> Iterator[StoredTensor]:
        """The tables that are read in another form."""
        for move in moves:
            if isinstance(move.source, Padded | Folded) and move.source.inner is not None:
                yield move.source.inner

    def notes(self, dialect: Dialect) -> Iterator[str]:
        """What is done, one sentence each."""
        for other, table in self.added.items():
            fold = self.target[table]
            yield (
                f"{dialect.title} keeps {table} without its first {fold.skip_rows} rows and with the first row of "
                f"{other} added to each: these rows, and all of {other}, come back as zeros"
            )
        for table, fold in self.taken_apart.items():
            yield (
                f"{table} gets {fold.skip_rows} rows of zeros before its own, and {fold.add_row} is all zeros: the "
                "source holds both in one table"
            )
