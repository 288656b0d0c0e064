"""Names for weights that Keras 3 numbered: `vars/0` of a layer is its first role, and layers are known by their names.

A path in such a file is made of attributes and classes (`encoder/layer/encoder_layer_1`), which say little; the names
of the layers that it records beside them are those that a dialect's names are made of (`encoder/layer_._1`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from bertconv.containers.keras3.parts import VARIABLE
from bertconv.containers.stored import StoredTensor
from bertconv.errors import UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialect, Dialects
from bertconv.mapping.expand import specs_by_name, spellings
from bertconv.mapping.table import Table

_WAY_OUT = (
    "Load it into a model of its class (load_weights, or keras.models.load_model for a .keras file), then "
    'save_pretrained(FOLDER, format="pt").'
)


def are_numbered(tensors: Iterable[StoredTensor]) -> bool:
    """Whether weights are numbered in their layers, as Keras 3 does it."""
    return any(VARIABLE.search(tensor.name) for tensor in tensors)


def unresolved(tensors: Sequence[StoredTensor]) -> UnsupportedCheckpoint:
    """The error for numbered weights whose layers are not known."""
    numbered = next(tensor for tensor in tensors if VARIABLE.search(tensor.name))
    known = "the names of its layers are no model's that bertconv knows"
    why = known if numbered.recorded else "records no layers' names"
    return UnsupportedCheckpoint(
        f"is a Keras 3 file, which numbers a layer's weights, and {why}.",
        hint=_WAY_OUT, file=str(numbered.file.path), tensor=numbered.name,
    )  # fmt: skip


def named(tensors: Sequence[StoredTensor], table: Table, dialects: Dialects) -> list[StoredTensor]:
    """The same tensors with the names that their layers' names and the table give them.

    Args:
        tensors: of a header, of which some are numbered; one that the table does not know keeps its number.
        table: the architecture.
        dialects: every dialect.

    Raises:
        UnsupportedCheckpoint: the table knows none of them.
    """
    for dialect in table.spoken(dialects):
        if dialect.numbered:
            found = _named(tensors, table, dialect)
            if any(not VARIABLE.search(tensor.name) for tensor in found):
                return found
    raise unresolved(tensors)


def _named(tensors: Sequence[StoredTensor], table: Table, dialect: Dialect) -> list[StoredTensor]:
    leaves = _leaves(table, dialect)
    possible = [list(_possible(tensor, leaves, dialect)) for tensor in tensors]
    ends = {end for names in possible for name in names for end in _ends(name, dialect)}
    known = specs_by_name(table, dialect, ends)
    found = []
    for tensor, names in zip(tensors, possible, strict=True):
        rank = len(tensor.shape)
        fits = (name for name in names for end in _ends(name, dialect) for spec in known.get(end, ())
                if len(spec.shape) == rank)  # fmt: skip
        name = next(fits, None)
        found.append(replace(tensor, name=name or tensor.recorded or tensor.name))
    return found


def _possible(tensor: StoredTensor, leaves: Mapping[int, Sequence[str]], dialect: Dialect) -> Iterator[str]:
    """Full names that a numbered tensor may have, likeliest first."""
    if not VARIABLE.search(tensor.recorded):
        return
    layer, _, number = tensor.recorded.rsplit("/", 2)
    for place in range(int(number[:3]), len(leaves)):  # a layer may lack a variable: a decoder's weight is tied
        for leaf in leaves[place]:
            yield dialect.separator.join((*layer.split("/"), leaf)) + dialect.suffix


def _ends(name: str, dialect: Dialect) -> Iterator[str]:
    """A name, and what is left of it without the models around the one that a table describes."""
    parts = name.split(dialect.separator)
    return (dialect.separator.join(parts[first:]) for first in range(len(parts) - 1))


def _leaves(table: Table, dialect: Dialect) -> Mapping[int, Sequence[str]]:
    """Place of a variable in its layer -> what names may end with there: roles are in the order of their kind.

    Where a kind's module is the variable itself, it is the first one of the layer around it.
    """
    found: dict[int, dict[str, None]] = {}
    for roles in dialect.kinds.values():
        for place, role in enumerate(roles.values()):
            found.setdefault(place, {}).update(dict.fromkeys(leaf for leaf in role.leaves if leaf))
    for group in table.groups.values():
        for module in group.modules.values():
            if any("" in role.leaves for role in dialect.kinds[module.kind].values()):
                names = spellings(table, dialect, group, module)
                found[0].update(dict.fromkeys(name.rpartition(dialect.separator)[2] for name in names))
    return {place: tuple(names) for place, names in found.items()}
