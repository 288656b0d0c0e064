"""Tensors of a file that no class's table knows: what each is, which may be left out, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from bertconv.containers.stored import StoredTensor
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.identify import Identity
from bertconv.mapping.ignore import IgnoreLists, first_match, module_patterns
from bertconv.mapping.inside import is_inside, stranger_patterns
from bertconv.mapping.plan import PlanOptions, UnloadedTensor
from bertconv.mapping.refusals import has_foreign_part
from bertconv.mapping.table import Table
from bertconv.records import dataclass


@dataclass(frozen=True)
class Unrecognised:
    """The unrecognised tensors of a file that is taken for a class.

    Attributes:
        identity: what the names of the file say.
        table: the architecture.
        options: what the caller wants.
        head: the class.
        ignore: the two regex lists that count.
        groups: the groups that the model owns.
    """

    identity: Identity
    table: Table
    options: PlanOptions
    head: str
    ignore: IgnoreLists
    groups: tuple[str, ...]

    def unknown(self) -> list[StoredTensor]:
        """Unrecognised tensors that no list allows."""
        return [
            tensor
            for tensor in self.identity.unrecognised
            if self.expected(tensor.name) is None
            and not self.of_training(tensor)
            and not (self.options.head is not None and self.foreign(tensor) is not None)
            and first_match(self.options.allow_unknown, tensor.name) is None
        ]

    def of_training(self, tensor: StoredTensor) -> bool:
        """Whether it is what files of the source's dialect keep of a training."""
        return first_match(self.identity.dialect.training, tensor.name) is not None

    def expected(self, name: str) -> str | None:
        """The first regex of the class's lists that leaves out a name that no table knows."""
        lists = (self.ignore.unexpected, self.of_modules)
        return first_match(stranger_patterns(name, *lists, self.identity, self.table, self.groups), name)

    @cached_property
    def of_modules(self) -> tuple[str, ...]:
        return module_patterns(self.table, load_dialects(), self.head)

    def refuse_foreign(self, unknown: list[StoredTensor]) -> None:
        """Refuse parts of models that no class has; they may stay behind where the caller says which class it is."""
        for tensor in unknown:
            if self.options.head is None and (what := self.foreign(tensor)) is not None:
                raise has_foreign_part(self.head, tensor, what)

    def foreign(self, tensor: StoredTensor) -> str | None:
        """What a tensor is, where no class has it."""
        known = self.table.in_dialect(self.identity.dialect).foreign
        return next((what for pattern, what in known.items() if first_match((pattern,), tensor.name)), None)

    def left_out(self, tensor: StoredTensor) -> UnloadedTensor:
        """What becomes of one of them, where none is refused."""
        if self.of_training(tensor):
            return UnloadedTensor(tensor, "ignored", "state of the training")
        if (pattern := first_match(self.table.ignore["unexpected"], tensor.name)) is not None:
            return UnloadedTensor(tensor, "ignored", f"matches {pattern!r}")
        inside = is_inside(tensor.name, self.identity, self.table, self.groups)
        if (pattern := first_match(self.options.ignore_unexpected, tensor.name)) is not None:
            return UnloadedTensor(tensor, "ignored", f"matches {pattern!r}", inside)
        if self.options.head is not None and (what := self.foreign(tensor)) is not None:
            return UnloadedTensor(tensor, "unused", what)
        if (pattern := self.expected(tensor.name)) is not None:
            known = pattern in self.of_modules
            return UnloadedTensor(tensor, "unused", f"not of this class: matches {pattern!r}", inside and not known)
        return UnloadedTensor(tensor, "unknown", "allowed by --allow-unknown", inside)

    def notes(self) -> Iterator[str]:
        """How many tensors are left out as state of the training, and whether averages are among them."""
        kept = [one.name for one in self.identity.unrecognised if self.of_training(one)]
        if kept:
            every = len({id(one) for found in self.identity.by_id.values() for one in found})
            every += len(self.identity.unrecognised) + len(self.identity.elsewhere) + len(self.identity.outside)
            yield f"{every} tensors, {len(kept)} of them state of the training (optimizer, steps): left out"
        average = self.identity.dialect.average
        if average and (
            taken := {id(it) for found in self.identity.by_id.values() for it in found if it.name.endswith(average)}
        ):
            yield f"{len(taken)} tensors are averages over the training, as --ema asks for"
        if averaged := sum(name.endswith(average) for name in kept if average):
            yield f"{averaged} tensors have an average over the training beside them: --ema takes those"
