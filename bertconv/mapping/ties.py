"""Places of a head that share one value: what a file stores of them, and which of two stored ones counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.table import Dialect, Table


@dataclass(frozen=True)
class Ties:
    """The ties of one head from one dialect to another.

    Attributes:
        table: the architecture.
        source: dialect of the file.
        target: dialect that is written.
        sources: the head's tensors in the source's dialect, by neutral id.
        is_tied: whether the config ties the decoder to the embeddings.
    """

    table: Table
    source: Dialect
    target: Dialect
    sources: Mapping[str, TensorSpec]
    is_tied: bool

    def is_written(self, place: str) -> bool:
        """Whether the target's files hold this place: not a tied copy, but for those that its dialect stores."""
        stored = self.table.stored_copies.get(self.target.name, {})
        return not self.is_tied or place not in self.table.tied or place in stored

    def homes(self, place: str) -> Iterator[str]:
        """The places whose tensor may fill this one, the one that counts first."""
        if (counted := self.counted(place)) is not None:
            yield counted
        yield place
        if (twin := self.twin_of(place)) is not None:
            yield twin

    def counted(self, place: str) -> str | None:
        """The other place that the source's dialect computes with instead of this one, if the head has it."""
        copy = self.table.counting(self.source).get(place)
        return copy if copy is not None and self.twin_of(copy) == place else None

    def twin_of(self, place: str) -> str | None:
        """The head's place that fills this one when the file lacks it; an untied decoder shares its bias at most."""
        copies = {original: copy for copy, original in self.table.tied.items()}
        twin = self.table.tied.get(place, copies.get(place))
        if twin is None or twin not in self.sources or place not in self.sources:
            return None
        return twin if self.is_tied or self.sources[twin].group == self.sources[place].group else None
