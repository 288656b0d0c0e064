"""Table + dialect + sizes = the exact names, shapes and layouts of every tensor of a head. Names are never matched."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, product
from typing import Any, NamedTuple

from bertconv.config import Config
from bertconv.mapping.dialects import Dialect, Role
from bertconv.mapping.expressions import Conditions
from bertconv.mapping.indices import Indices, TensorId, fill
from bertconv.mapping.layout import Axis, Layout, Transpose, both, transpose_between
from bertconv.mapping.table import Group, Module, Table
from bertconv.mapping.within import Fold
from bertconv.records import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an architecture in one dialect.

    Attributes:
        id: the neutral name, the same in every dialect: group, indices, module, role (`layer.3.query.weight`).
        group: the group that owns it.
        names: full names in the dialect; the first is written, all are read.
        layout: its axes as they lie in memory; the shape follows.
        canonical: the same axes in the canonical order of its kind, which is PyTorch's; digests are made in it.
        factors: for every dimension the names of the sizes (or integers) whose product it is.
        when: the conditions under which it exists: its group's and its module's.
    """

    id: str
    group: str
    names: tuple[str, ...]
    layout: Layout
    canonical: Layout
    factors: tuple[tuple[str, ...], ...]
    when: Conditions

    @property
    def name(self) -> str:
        """The name that is written."""
        return self.names[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return self.layout.shape

    def without(self, prefix: str) -> TensorSpec:
        """The same tensor, its names without a prefix."""
        return replace(self, names=tuple(name.removeprefix(prefix) for name in self.names))

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def expand(
    table: Table, dialect: Dialect, config: Mapping[str, Any] | None, groups: Iterable[str] | None = None
) -> dict[str, TensorSpec]:
    """Every tensor of `groups` (by default of all) under `config`, tied copies included, by neutral id.

    Args:
        table: the architecture.
        dialect: whose names and layouts.
        config: config keys with their values, defaults filled in; None for the names alone: every condition holds and
            every size is 1, so that what repeats is there once.
        groups: the groups that a head owns, in its order.
    """
    expansion = _Expansion(table, dialect, config)
    chosen = [table.groups[group] for group in (table.groups if groups is None else groups)]
    return {spec.id: spec for group in chosen for spec in expansion.group(group)}


def paths_of(table: Table, dialect: Dialect, group: Group) -> list[str]:
    """Where a group stands in a dialect, indices not yet filled in; the first is written, all are read."""
    override = table.names_in(dialect).get(group.id)
    return (group.at.replace(".", dialect.separator) if override is None else override).split("|")


def spellings(table: Table, dialect: Dialect, group: Group, module: Module) -> list[str]:
    """Names of a module below its group's path; the first is written, all are read."""
    override = table.names_in(dialect).get(f"{group.id}.{module.id}")
    return (module.name.replace(".", dialect.separator) if override is None else override).split("|")


def module_paths(table: Table, dialect: Dialect, group: Group) -> Iterator[str]:
    """Where each module of a group stands, in every spelling; indices not yet filled in."""
    for module in group.modules.values():
        for path, spelling in product(paths_of(table, dialect, group), spellings(table, dialect, group, module)):
            yield join(dialect, path, spelling)


def join(dialect: Dialect, *parts: str) -> str:
    """Parts of a name, empty ones left out."""
    return dialect.separator.join(part for part in parts if part)


class _Row(NamedTuple):
    """A tensor of a group before the group's path and indices are known; `place` is module and role."""

    place: str
    leaves: list[str]
    layout: Layout
    canonical: Layout
    factors: tuple[tuple[str, ...], ...]
    when: Conditions


class _Expansion:
    """One table in one dialect; without a config every condition holds and every size is 1."""

    def __init__(self, table: Table, dialect: Dialect, config: Mapping[str, Any] | None) -> None:
        self.table = table
        self.dialect = dialect
        self.config = config
        self.sizes = {name: 1 if config is None else size.value(config) for name, size in table.sizes.items()}
        self.overrides = table.names_in(dialect)
        self.within = table.in_dialect(dialect)
        self.known: dict[str, list[_Row]] = {}

    def holds(self, conditions: Conditions) -> bool:
        return self.config is None or all(condition.holds(self.config) for condition in conditions)

    def occurring(self, group: Group, present: Collection[str]) -> Iterator[TensorSpec]:
        """A group's tensors; a repeating one's as long as the next index occurs among the names `present`."""
        if group.repeat:
            yield from self.occurring_below(group, (), present)
        else:
            yield from self.at(group, ())

    def occurring_below(self, group: Group, outer: Indices, present: Collection[str]) -> Iterator[TensorSpec]:
        """A repeating group's tensors below the indices `outer`."""
        for index in count():
            inner = (*outer, index)
            if len(inner) < len(group.repeat):
                specs = list(self.occurring_below(group, inner, present))
            else:
                specs = list(self.at(group, inner))
                specs = specs if any(name in present for spec in specs for name in spec.names) else []
            if not specs:
                return
            yield from specs

    def group(self, group: Group) -> Iterator[TensorSpec]:
        if self.holds(group.when):
            for numbers in product(*(range(self.sizes[size]) for _, size in group.repeat)):
                yield from self.at(group, numbers)

    def at(self, group: Group, numbers: Indices) -> Iterator[TensorSpec]:
        sizes = None if self.config is None else self.sizes
        spelled = (fill(path, group.repeat, numbers, sizes) for path in paths_of(self.table, self.dialect, group))
        paths = [path for path in spelled if path is not None]
        if not paths:
            return
        prefix = TensorId(group.id, numbers, "", "").at
        for place, leaves, layout, canonical, factors, when in self.rows(group):
            yield TensorSpec(
                id=f"{prefix}.{place}",
                group=group.id,
                names=tuple(
                    [join(self.dialect, path, leaf) + self.dialect.suffix for path in paths for leaf in leaves]
                ),
                layout=layout,
                canonical=canonical,
                factors=factors,
                when=when,
            )

    def rows(self, group: Group) -> Sequence[_Row]:
        """What the tensors of a group have in common wherever it stands; worked out once."""
        if group.id not in self.known:
            self.known[group.id] = [
                _Row(
                    place=f"{module.id}.{role}",
                    leaves=self.leaves(group, module, role, stored),
                    layout=self.layout(module, stored.layout, fold),
                    canonical=self.layout(module, stored.canonical, fold),
                    factors=self.factors(module, stored, fold),
                    when=(*group.when, *module.when),
                )
                for module in group.modules.values()
                if self.holds(module.when)
                for role, stored in self.dialect.kinds[module.kind].items()
                for fold in (self.within.folds.get(f"{group.id}.{module.id}.{role}"),)
                if self.within.has(group.id, module.id, role)
            ]
        return self.known[group.id]

    def leaves(self, group: Group, module: Module, role: str, stored: Role) -> list[str]:
        if by_role := self.overrides.get(f"{group.id}.{module.id}.{role}"):
            return by_role.split("|")
        names = spellings(self.table, self.dialect, group, module)
        return [join(self.dialect, spelling, leaf) for spelling in names for leaf in stored.leaves]

    def factors(self, module: Module, stored: Role, fold: Fold | None) -> tuple[tuple[str, ...], ...]:
        """The sizes of every dimension; a table without some of its rows does not show their number."""
        factors: tuple[tuple[str, ...], ...] = ()
        for token in stored.layout:
            own = module.axes[token.removeprefix("*")]
            factors += tuple((one,) for one in own) if token.startswith("*") else (own,)
        return factors if fold is None else ((*factors[0], "1"), *factors[1:])

    def layout(self, module: Module, tokens: tuple[str, ...], fold: Fold | None) -> Layout:
        dims: list[tuple[Axis, ...]] = []
        for token in tokens:
            axis = token.removeprefix("*")
            factors = tuple(
                (f"{axis}.{size}", int(size) if size.isdigit() else self.sizes[size]) for size in module.axes[axis]
            )
            dims += [(factor,) for factor in factors] if token.startswith("*") else [factors]
        if fold is not None and self.config is not None:
            ((name, rows),) = dims[0]
            dims[0] = ((name, rows - fold.skip_rows),)
        return Layout(tuple(dims))


def specs_by_name(
    table: Table, dialect: Dialect, present: Collection[str], only: str | None = None
) -> dict[str, tuple[TensorSpec, ...]]:
    """Every name that some head may give a tensor, whatever the config says; sizes are all 1.

    Args:
        table: the architecture.
        dialect: whose names.
        present: names of a header; a group that repeats is expanded as long as the next index occurs among them.
        only: one group instead of all.
    """
    known: dict[str, list[TensorSpec]] = {}
    expansion = _Expansion(table, dialect, None)
    held = table.groups_in(dialect)
    for group in table.groups.values():
        if group.id in held and (only is None or group.id == only):
            for spec in expansion.occurring(group, present):
                for name in spec.names:
                    known.setdefault(name, []).append(spec)
    return {name: tuple(specs) for name, specs in known.items()}


def target_specs(
    table: Table, dialect: Dialect, config: Config, head: str, groups: Iterable[str]
) -> dict[str, TensorSpec]:
    """What a class's own file holds in a dialect, tied copies included: the base class may leave its prefix out."""
    specs = expand(table, table.as_written(dialect, head), config.values, groups)
    if dialect.drops_base and head == table.base_head:
        specs = {tensor_id: spec.without(table.base + dialect.separator) for tensor_id, spec in specs.items()}
    return specs


def transpose_specs(source: TensorSpec, target: TensorSpec) -> Transpose | None:
    """The transpose from one tensor's layout to another's, of the same sizes in the same canonical order."""
    there = transpose_between(source.layout, source.canonical)
    return both(there, transpose_between(target.canonical, target.layout))
