"""Tensors of a head that share one value: what a file stores of them, and which of two stored ones counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bertconv.mapping.dialects import Dialect
from bertconv.mapping.table import Table
from bertconv.records import dataclass


@dataclass(frozen=True)
class Ties:
    """The ties of one head from one dialect to another.

    Attributes:
        table: the architecture.
        source: dialect of the file.
        target: dialect that is written.
        groups: the head's tensors that one of both dialects has, by neutral id, each with its group.
        is_tied: whether the config ties the decoder to the embeddings.
    """

    table: Table
    source: Dialect
    target: Dialect
    groups: Mapping[str, str]
    is_tied: bool

    def is_written(self, tensor_id: str) -> bool:
        """Whether the target's files hold this tensor: not a tied copy, but for those that its dialect stores."""
        stored = self.table.stored_copies.get(self.target.name, {})
        return not self.is_tied or tensor_id not in self.table.tied or tensor_id in stored

    def candidates(self, tensor_id: str) -> Iterator[str]:
        """The ids whose tensor may fill this one, the one that counts first."""
        if (counted := self.counted(tensor_id)) is not None:
            yield counted
        yield tensor_id
        if (partner := self.partner_of(tensor_id)) is not None:
            yield partner

    def counted(self, tensor_id: str) -> str | None:
        """The other tensor that the source's dialect computes with instead of this one, if the head has it."""
        copy = self.table.counting(self.source).get(tensor_id)
        return copy if copy is not None and self.partner_of(copy) == tensor_id else None

    def partner_of(self, tensor_id: str) -> str | None:
        """The head's tensor that fills this one when the file lacks it; an untied decoder shares its bias at most."""
        copies = {original: copy for copy, original in self.table.tied.items()}
        partner = self.table.tied.get(tensor_id, copies.get(tensor_id))
        if partner is None or partner not in self.groups or tensor_id not in self.groups:
            return None
        return partner if self.is_tied or self.groups[partner] == self.groups[tensor_id] else None
