"""The static checks of a table: what must hold before a single checkpoint is read. `check_table` runs them all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

from bertconv.config.classes import ABSENT, ACTIVATIONS, COMMON
from bertconv.errors import BadTable
from bertconv.families import ACTIVATION
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec, expand, join
from bertconv.mapping.expressions import fulfilled
from bertconv.mapping.ignore import ignore_lists
from bertconv.mapping.indices import TensorId, variables
from bertconv.mapping.layout import transpose_between
from bertconv.mapping.table import COPIES, Group, Module, Table, load_table
from bertconv.table_files import bad

Problem = str
"""One sentence without its stop; a check yields every problem that it finds."""


def check_table(table: Table, dialects: Dialects) -> int:
    """Run every check.

    Returns:
        How many names were expanded.

    Raises:
        BadTable: with every problem found by the first check that finds one.
    """
    checks: tuple[Callable[[Table, Dialects], Iterator[Problem]], ...] = (
        rows_have_their_kinds_axes,
        sizes_are_known_and_used,
        config_keys_are_known,
        groups_are_known_and_used,
        places_name_their_variables,
        overrides_point_and_differ,
        ties_fit,
        stored_copies_are_tied,
        dialects_hold_what_there_is,
        views_differ_in_what_there_is,
        programs_compute_what_is_known,
        names_are_unique,
        ignore_lists_spare_owned_names,
        layouts_come_back,
    )
    for check in checks:
        if problems := list(dict.fromkeys(check(table, dialects))):
            raise bad(table.path, "; ".join(problems))
    config = probe_config(table, 2)
    return sum(len(expand(table, dialect, config)) for dialect in table.spoken(dialects))


def open_table(path: Path, model_type: str | None = None) -> Table:
    """A built-in table, which the tests hold to every check, or one of the user's own, which is checked here.

    Args:
        path: the file.
        model_type: whose classes its heads name; by default the first that it is for.

    Raises:
        BadTable: as `check_table`, for a table of the user's own that `bertconv tables check` refuses.
    """
    table = load_table(path, model_type)
    if not table.is_builtin:
        check_table(table, load_dialects())
    return table


def probe_config(table: Table, layers: int) -> dict[str, Any]:
    """A config under which every condition holds, groups repeat `layers` times, sizes are all different.

    A second variable that a group repeats over has one more, so that two that are swapped give other names.
    """
    repeats = {
        table.sizes[size].key: depth for group in table.groups.values() for depth, (_, size) in enumerate(group.repeat)
    }
    divisors = {size.divisor for size in table.sizes.values() if size.divisor}
    dividends = {size.key for size in table.sizes.values() if size.divisor}
    primes = iter((11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67))
    config: dict[str, Any] = {}
    for key in dict.fromkeys(key for size in table.sizes.values() for key in size.keys):
        if key in repeats:
            config[key] = layers + repeats[key]
        else:
            config[key] = 5 if key in divisors else 35 if key in dividends else next(primes)
    for size in table.sizes.values():
        if isinstance(size.minus, str):  # what it is taken from must be the larger one
            config[size.key] += config[size.minus] * (size.divisor is None)
    for group in table.groups.values():
        fulfilled(group.when, config)
        for module in group.modules.values():
            fulfilled(module.when, config)
    return config


def rows_have_their_kinds_axes(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 1: a row's kind exists, and the row gives exactly its axes."""
    for group, module in _rows(table):
        roles = dialects.kinds.get(module.kind)
        if roles is None:
            yield f"{group.id}.{module.id} is of the unknown kind {module.kind!r}"
            continue
        wanted = {axis for axes in roles.values() for axis in axes}
        if wanted != set(module.axes):
            yield f"{group.id}.{module.id} gives the axes {sorted(module.axes)}, its kind has {sorted(wanted)}"


def sizes_are_known_and_used(table: Table, _: Dialects) -> Iterator[Problem]:
    """Check 2: every factor of an axis is a size or an integer, and every size is used."""
    used = {size for group in table.groups.values() for _, size in group.repeat}
    yield from (f"a group repeats over the unknown size {size!r}" for size in sorted(used) if size not in table.sizes)
    for group, module in _rows(table):
        for axis, factors in module.axes.items():
            used |= set(factors)
            if not factors:
                yield f"{group.id}.{module.id}.{axis} has no size"
            for factor in factors:
                if factor not in table.sizes and not re.fullmatch(r"[1-9]\d*", factor):
                    yield f"{group.id}.{module.id}.{axis} names the unknown size {factor!r}"
    yield from (f"size {size!r} is never used" for size in table.sizes if size not in used)


def config_keys_are_known(table: Table, _: Dialects) -> Iterator[Problem]:
    """Check 12: sizes and conditions are made of keys that every config of the family has a value for."""
    known = table.family.schema.known() | COMMON.keys() | ABSENT.keys() | {"num_labels"}
    for name, size in table.sizes.items():
        lacking = [key for key in size.keys if key not in known]
        yield from (f"size {name!r} needs the config key {key!r}, which [config] has not" for key in lacking)
    rows = [(group.id, group.when) for group in table.groups.values()]
    rows += [(f"{group.id}.{module.id}", module.when) for group, module in _rows(table)]
    for name, conditions in rows:
        used = {key for one in conditions for key in (one.key, one.other) if key}
        yield from (f"{name} is there when {key!r} says so, which [config] has not" for key in sorted(used - known))


def groups_are_known_and_used(table: Table, _: Dialects) -> Iterator[Problem]:
    """Check 3: heads own groups that exist, every group is owned, every head builds on the first, the base model."""
    owned = {group for groups in table.heads.values() for group in groups}
    stored = {group for groups in table.unused.values() for group in groups}
    stored |= {group for within in table.within.values() for group in within.fills}
    yield from (f"a head owns the unknown group {group!r}" for group in owned if group not in table.groups)
    yield from (f"no head owns group {group!r}" for group in table.groups if group not in owned | stored)
    base = set(table.heads[table.base_head]) - set(table.optional.get(table.base_head, ()))
    yield from (
        f"{head} lacks groups of {table.base_head}" for head, own in table.heads.items() if not base <= set(own)
    )
    for head, groups in table.optional.items():
        if not set(groups) <= set(table.heads.get(head, ())):
            yield f"{head} may lack groups that it does not own"
    for one, other in table.keras2_repeats.items():
        if not {one, other} <= set(table.groups):
            yield f"[keras2_repeats] {one} = {other!r} names an unknown group"


def places_name_their_variables(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 5: a group's path in every dialect names exactly the variables that it repeats over, each once."""
    for dialect, names in table.names.items():
        if dialect not in dialects.by_name:
            yield f"[names.{dialect}] is of an unknown dialect"
        for key, name in names.items():
            group = table.groups.get(key)
            wanted = sorted(variable for variable, _ in group.repeat) if group else []
            if any(sorted(variables(spelling)) != wanted for spelling in name.split("|")):
                yield f"[names.{dialect}] {key} = {name!r} does not name exactly the variables {wanted}"


def overrides_point_and_differ(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Checks 8 and 10: an override points at something, says something new, and leaves layouts alone."""
    for name, overrides in table.names.items():
        dialect = dialects.by_name[name]
        for key, value in overrides.items():
            default = _default(table, dialect, key)
            if default is None:
                yield f"[names.{name}] {key} points at nothing"
            elif value == default:
                yield f"[names.{name}] {key} only repeats the default"
            if re.search(r"[\[\] ]", value):
                yield f"[names.{name}] {key} = {value!r}: layouts are the dialect's, not a row's"


def ties_fit(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 7: tied pairs exist, have the same sizes in the same order, and are owned together."""
    dialect = next(iter(dialects.by_name.values()))
    specs = expand(table, dialect, probe_config(table, 2))
    for copy, original in table.tied.items():
        if copy not in specs or original not in specs:
            yield f"[tied] {copy} = {original!r} names a tensor that does not exist"
            continue
        if specs[copy].canonical.shape != specs[original].canonical.shape:
            yield f"[tied] {copy} and {original} have different sizes"
        for head, groups in table.heads.items():
            if specs[copy].group in groups and specs[original].group not in groups:
                yield f"{head} owns the tied copy {copy} and not its original"


def stored_copies_are_tied(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 12: what a dialect stores beyond the rule is a tied copy, or a group, in a dialect that exists."""
    for where, rows in (("stored_copies", table.stored_copies), ("unused", table.unused)):
        yield from (f"[{where}] {name} is an unknown dialect" for name in rows if name not in dialects.by_name)
    for name, copies in table.stored_copies.items():
        for copy, kind in copies.items():
            if copy not in table.tied:
                yield f"[stored_copies.{name}] {copy} is no copy of [tied]"
            if kind not in COPIES:
                yield f"[stored_copies.{name}] {copy} = {kind!r} is none of {', '.join(COPIES)}"
    for name, groups in table.unused.items():
        yield from (f"[unused] {name} names the unknown group {one!r}" for one in groups if one not in table.groups)


def dialects_hold_what_there_is(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 13: what a dialect's files can hold is said of dialects that exist and of tensors that there are."""
    every = expand(table, dialects.reference, None)
    places = {TensorId.parse(tensor_id) for tensor_id in every}
    known = {
        part for at in places for part in (at.group, f"{at.group}.{at.module}", f"{at.group}.{at.module}.{at.role}")
    }
    for name, within in table.within.items():
        if name not in dialects.by_name:
            yield f"[in.{name}] is of an unknown dialect"
        yield from (f"[in.{name}] lacks {place!r}, which there is not" for place in sorted(within.lacks - known))
        named = sorted({*within.twice, *within.fills} - table.groups.keys())
        yield from (f"[in.{name}] names the unknown group {group!r}" for group in named)
        folded = {place: at for at, fold in within.folds.items() for place in (at, fold.add_row)}
        yield from (
            f"[fold.{name}] {at} names {one!r}, which there is not" for one, at in folded.items() if one not in every
        )


def programs_compute_what_is_known(table: Table, _: Dialects) -> Iterator[Problem]:
    """Check 14: what a dialect's program computes is said by names of activations and keys that have a meaning."""
    schema = table.family.schema
    defaults = {**COMMON, **schema.defaults, **schema.fixed}
    for name, within in table.within.items():
        functions = within.activations
        if functions is not None and not functions:
            yield f"[in.{name}] activations is empty"
        words = Counter(word for spelled in (functions or {}).values() for word in spelled)
        yield from (f"[in.{name}] has the word {word!r} for two activations" for word in words if words[word] > 1)
        yield from (
            f"[in.{name}] computes the unknown activation {one!r}" for one in functions or () if one not in ACTIVATIONS
        )
        for head in within.head_fixed:
            if head not in within.heads:
                yield f"[in.{name}] head_fixed has {head.removeprefix(table.prefix)!r}, which is none of its heads"
        for fixed in (within.fixed, *within.head_fixed.values()):
            for key, value in fixed.items():
                own = defaults.get(schema.spelled(key))
                if own is None or type(value) is not type(own):
                    yield f"[in.{name}] fixes {key} = {value!r}, which no config of the family has so"
                elif key == ACTIVATION and value not in ACTIVATIONS:
                    yield f"[in.{name}] computes the unknown activation {value!r}"


def views_differ_in_what_there_is(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 15: other models in a file are of dialects and places that there are; what is implied can be used."""
    for name, views in table.views.items():
        if name not in dialects.by_name:
            yield f"[views.{name}] is of an unknown dialect"
            continue
        every = [(view, key) for view, row in views.items() for key in row.names]
        unknown = [one for one in every if _default(table, dialects.by_name[name], one[1]) is None]
        yield from (f"[views.{name}.{view}] {key} points at nothing" for view, key in unknown)
    for name, within in table.within.items():
        for size in within.sizes:
            if size not in table.sizes or table.sizes[size].divisor is None:
                yield f"[in.{name}] sizes has {size!r}, which is no size with a divisor"
        for pattern in within.foreign:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"[in.{name}] foreign {pattern!r} does not compile: {error}"


def names_are_unique(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 6: with two and three layers, no two tensors of a head share a name, aliases and base-less included."""
    for dialect in table.spoken(dialects):
        base = table.base + dialect.separator
        for layers in (2, 3):
            for head, groups in ((head, table.heads[head]) for head in table.in_dialect(dialect).heads):
                every = dict.fromkeys((*groups, *table.unused.get(dialect.name, ())))
                specs = expand(table, dialect, probe_config(table, layers), every).values()
                names = Counter(name for spec in specs for name in _spellings(spec, base if dialect.drops_base else ""))
                yield from (f"{head} has two tensors {name!r} in {dialect.name}" for name in names if names[name] > 1)


def ignore_lists_spare_owned_names(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 9: the regexes compile and hit no name that the head owns."""
    for pattern in (*table.ignore["unexpected"], *table.ignore["missing"]):
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"[ignore] {pattern!r} does not compile: {error}"
            return
    for head, groups in table.heads.items():
        lists = ignore_lists(table, dialects, head)
        for dialect in table.spoken(dialects):
            owned = expand(table, dialect, probe_config(table, 2), groups).values()
            names = [name for spec in owned if spec.id not in table.tied for name in spec.names]
            for pattern in lists.unexpected + lists.missing:
                if hit := next((name for name in names if re.search(pattern, name)), None):
                    yield f"the ignore list of {head} hits its own {hit} with {pattern!r}"


def layouts_come_back(table: Table, dialects: Dialects) -> Iterator[Problem]:
    """Check 11: between every pair of dialects, there and back is the identity."""
    config = probe_config(table, 2)
    for one, other in permutations(table.spoken(dialects), 2):
        left, right = expand(table, one, config), expand(table, other, config)
        folds = table.in_dialect(one).folds.keys() ^ table.in_dialect(other).folds.keys()
        both = [tensor_id for tensor_id in left if tensor_id in right and tensor_id not in folds]
        for tensor_id, spec in ((tensor_id, left[tensor_id]) for tensor_id in both):
            try:
                there = transpose_between(spec.layout, right[tensor_id].layout)
                back = transpose_between(right[tensor_id].layout, spec.layout)
            except BadTable as error:
                yield f"{tensor_id}: {error.message.rstrip('.')}"
                continue
            if (there and there.inverse) != back:
                yield f"{tensor_id} does not come back from {other.name} to {one.name}"


def _rows(table: Table) -> Iterator[tuple[Group, Module]]:
    for group in table.groups.values():
        for module in group.modules.values():
            yield group, module


def _default(table: Table, dialect: Dialect, key: str) -> str | None:
    """What the dialect would say without this override; None when the key points at nothing."""
    group_id, _, rest = key.partition(".")
    module_id, _, role = rest.partition(".")
    group = table.groups.get(group_id)
    if group is None:
        return None
    if not module_id:
        return group.at.replace(".", dialect.separator)
    module = group.modules.get(module_id)
    if module is None:
        return None
    name = module.name.replace(".", dialect.separator)
    if not role:
        return name
    stored = dialect.kinds[module.kind].get(role)
    return None if stored is None else "|".join(join(dialect, name, leaf) for leaf in stored.leaves)


def _spellings(spec: TensorSpec, base: str) -> set[str]:
    return set(spec.names) | {name.removeprefix(base) for name in spec.names}
