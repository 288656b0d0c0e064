"""Headers of checkpoints without checkpoints: the tensors that a table expects, as a file would list them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from observed_names import SIZES, filled, keras_groups, named

from bertconv.config import BertConfig
from bertconv.mapping.dialects import Dialects, load_dialects
from bertconv.mapping.identify import Identity, StoredTensor, identify
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.table import Table, table_for

HEADS = tuple(table_for("bert").heads)


class FakeFile(NamedTuple):
    name: str = "weights"


def stored(name: str, *shape: int, dtype: str = "float32", group: str = "") -> StoredTensor:
    return StoredTensor(name, dtype, shape, FakeFile(), 0, group=group)


def renamed(tensors: Iterable[StoredTensor], **parts: str) -> list[StoredTensor]:
    """The same header with parts of its names replaced: `_` in a keyword stands for itself."""
    found = list(tensors)
    for old, new in parts.items():
        found = [replace(tensor, name=tensor.name.replace(old, new)) for tensor in found]
    return found


def prefixed(tensors: Iterable[StoredTensor], prefix: str) -> list[StoredTensor]:
    return [replace(tensor, name=prefix + tensor.name) for tensor in tensors]


def without(tensors: Iterable[StoredTensor], *parts: str) -> list[StoredTensor]:
    """The same header less every name that holds one of the parts."""
    return [tensor for tensor in tensors if not any(part in tensor.name for part in parts)]


def only(tensors: Iterable[StoredTensor], part: str) -> list[StoredTensor]:
    return [tensor for tensor in tensors if part in tensor.name]


class Tables(NamedTuple):
    """A table with the dialects; the real ones by default."""

    table: Table
    dialects: Dialects

    @classmethod
    def real(cls) -> Tables:
        return cls(table_for("bert"), load_dialects())

    def header(self, head: str, dialect: str = "pt", *, copies: bool = False, **config: Any) -> list[StoredTensor]:
        """The tensors of a class's own file; `copies` are the tied ones, which only pickles hold."""
        specs = named(self.table, self.dialects, dialect, head, filled(**config))
        return [
            stored(spec.name, *spec.shape) for place, spec in specs.items() if copies or place not in self.table.tied
        ]

    def keras_header(self, head: str, **config: Any) -> list[StoredTensor]:
        """As a Keras 2 file lists it: every layer's names under the model's scope, the repeated ones twice."""
        specs = named(self.table, self.dialects, "tf", head, filled(**config))
        specs = {place: spec for place, spec in specs.items() if place not in self.table.tied}
        shapes = {spec.name: spec.shape for spec in specs.values()}
        groups = keras_groups(self.table, specs).items()
        return [stored(f"tf_bert/{name}", *shapes[name], group=layer) for layer, names in groups for name in names]

    def identify(self, tensors: Iterable[StoredTensor], strip_prefix: str | None = None) -> Identity:
        return identify(tensors, self.table, self.dialects, strip_prefix)

    def plan(
        self,
        tensors: Iterable[StoredTensor],
        config: dict[str, Any] | None = None,
        target: str | None = None,
        **options: Any,
    ) -> Plan:
        """The plan to the other dialect, under the small config with some keys changed."""
        chosen = PlanOptions(**options)
        identity = self.identify(tensors, chosen.strip_prefix)
        speaks = target or next(name for name in self.dialects.everywhere if name != identity.dialect.name)
        raw = BertConfig.from_dict(SIZES | (config or {}))
        return make_plan(identity, self.table, self.dialects, raw, self.dialects.by_name[speaks], chosen)


def in_one_state(plan: Plan, tensors: Sequence[StoredTensor]) -> bool:
    """Every tensor of the header is either what a move reads or in exactly one state, and nothing else is."""
    moved = {id(move.source) for move in plan.moves if move.source is not None}
    unloaded = [id(one.tensor) for one in plan.unloaded]
    return (
        len(unloaded) == len(set(unloaded))
        and not moved & set(unloaded)
        and moved | set(unloaded) == set(map(id, tensors))
    )


REAL = Tables.real()
