"""Whether a tensor that no table knows stands inside the model: then leaving it out leaves a part of the model out.

Names say so: what a tool adds to a body is called `bert.embeddings.task_type_embeddings`, a head of its own is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bertconv.mapping.expand import join, place_of
from bertconv.mapping.identify import Identity
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
    spellings = [name.removeprefix(identity.prefix)]
    if dialect.scoped:
        spellings.append(name.partition(dialect.separator)[2])  # under the name of another model
    above = [group for group in groups if group not in table.heads[table.base_head]]
    places = {base, *_head_places(table, identity, above)}
    if not _has_base(identity, base):
        places |= {f"{place.removeprefix(base).split(dialect.separator)[0]}{dialect.separator}"
                   for place in _body_places(table, identity)}  # fmt: skip
    return any(spelling.startswith(place) for place in places for spelling in spellings)


def _has_base(identity: Identity, base: str) -> bool:
    """Whether the names of the body begin with the base model's, as they do but in its own file."""
    names = (tensor.name.removeprefix(identity.prefix) for found in identity.places.values() for tensor in found)
    return any(name.startswith(base) for name in names)


def _body_places(table: Table, identity: Identity) -> Iterator[str]:
    for group in table.heads[table.base_head]:
        yield place_of(table, identity.dialect, table.groups[group])


def _head_places(table: Table, identity: Identity, groups: Collection[str]) -> Iterator[str]:
    dialect = identity.dialect
    for group in groups:
        place = place_of(table, dialect, table.groups[group])
        if place:
            yield place + dialect.separator
        for module in table.groups[group].modules.values():
            yield join(dialect, place, module.name.replace(".", dialect.separator)) + dialect.separator
