"""Whether a tensor that no table knows stands inside the model: then leaving it out leaves a part of the model out.

Names say so: what a tool adds to a body is called `bert.embeddings.task_type_embeddings`, a head of its own is not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from bertconv.mapping.expand import module_paths, paths_of
from bertconv.mapping.identify import Identity
from bertconv.mapping.indices import path_pattern
from bertconv.mapping.table import Table


def is_inside(name: str, identity: Identity, table: Table, groups: Collection[str]) -> bool:
    """Whether a name of the file lies below a module of the body, or of the head's own groups.

    Args:
        name: as the file has it.
        identity: of the file.
        table: the architecture.
        groups: those that the class owns.
    """
    dialect = identity.dialect
    base = table.base + dialect.separator
    body = {path.removeprefix(base).split(dialect.separator)[0] for path in _body_paths(table, identity)}
    above = [group for group in groups if group not in table.heads[table.base_head]]
    paths = [re.escape(base), *(f"{part}{re.escape(dialect.separator)}" for part in map(re.escape, sorted(body)))]
    if not _has_base(identity, base):  # the root is the body's own, where a tool puts `task_type_embeddings`
        paths += [rf"\w+_{part}" for part in paths[1:]]
    paths += _head_paths(table, identity, above)
    return _stands_below(paths, _spellings(name, identity))


def _is_of_others(name: str, identity: Identity, table: Table, groups: Collection[str]) -> bool:
    """Whether a name stands where a module of a group stands that the class does not own."""
    dialect = identity.dialect
    base = table.base + dialect.separator
    spelled = _spellings(name, identity)
    end = f"({re.escape(dialect.separator)}|{dialect.suffix}$)"
    paths = [
        path_pattern(path) + end
        for group in table.groups.values()
        if group.id not in groups
        for path in module_paths(table, dialect, group)
    ]
    return _stands_below(paths, [*spelled, *(base + spelling for spelling in spelled)])


def stranger_patterns(
    name: str,
    patterns: Iterable[str],
    of_modules: Collection[str],
    identity: Identity,
    table: Table,
    groups: Collection[str],
) -> tuple[str, ...]:
    """Those of a class's regexes that may leave out a name that no table knows.

    A regex that is a module's name, `classifier`, says nothing of a `classifier` that some tool put inside the model.

    Args:
        name: as the file has it.
        patterns: the class's regexes, the caller's too.
        of_modules: those of them that are names of modules.
        identity: of the file.
        table: the architecture.
        groups: those that the class owns.
    """
    if is_inside(name, identity, table, groups) and not _is_of_others(name, identity, table, groups):
        return tuple(pattern for pattern in patterns if pattern not in of_modules)
    return tuple(patterns)


def _spellings(name: str, identity: Identity) -> list[str]:
    """A name without what stands before every name of its file, and without the name of another model."""
    found = [name.removeprefix(identity.prefix)]
    return [*found, name.partition(identity.dialect.separator)[2]] if identity.dialect.scoped else found


def _stands_below(paths: Iterable[str], spelled: Collection[str]) -> bool:
    return any(re.match(path, spelling) for path in paths for spelling in spelled)


def _has_base(identity: Identity, base: str) -> bool:
    """Whether the names of the body begin with the base model's, as they do but in its own file."""
    names = (tensor.name.removeprefix(identity.prefix) for found in identity.by_id.values() for tensor in found)
    return any(name.startswith(base) for name in names)


def _body_paths(table: Table, identity: Identity) -> Iterator[str]:
    for group in table.heads[table.base_head]:
        yield from paths_of(table, identity.dialect, table.groups[group])


def _head_paths(table: Table, identity: Identity, groups: Collection[str]) -> Iterator[str]:
    """Regexes of where groups and their modules stand."""
    dialect = identity.dialect
    for group in groups:
        own = paths_of(table, dialect, table.groups[group])
        for path in filter(None, (*own, *module_paths(table, dialect, table.groups[group]))):
            yield path_pattern(path + dialect.separator)
