"""Which variables of a model a file fills, and their values; what is not as the file has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bertconv.config import Config
from bertconv.containers.stored import FLOATS, Header, StoredTensor
from bertconv.errors import ShapeMismatch
from bertconv.formats import workers
from bertconv.formats.streaming import Workspace, pieces
from bertconv.formats.transfer import checked_cast
from bertconv.mapping.ignore import first_match
from bertconv.mapping.layout import Transpose
from bertconv.mapping.plan import Plan
from bertconv.models.counted_names import same_but_for_numbers
from bertconv.models.layers import initial
from bertconv.models.memory import as_tensor, empty_array
from bertconv.models.variables import FRAMEWORK, Inventory
from bertconv.records import dataclass
from bertconv.text import listing

LoadingInfo = dict[str, list[Any]]
"""missing_keys, unexpected_keys, mismatched_keys and error_msgs, as transformers returns them."""


@dataclass(frozen=True)
class _Fill:
    """One variable and the stored tensor for it."""

    variable: keras.Variable
    tensor: StoredTensor
    transpose: Transpose | None


@dataclass(frozen=True)
class Matches:
    """Which variables a file fills.

    Attributes:
        fills: the variables with their tensors.
        fresh: the variables of the package's own layers that the file has nothing for. Those of the user's layers have
            the values that their own initializers gave.
        info: the four lists of what is not as the file has it.
    """

    fills: list[_Fill]
    fresh: list[keras.Variable]
    info: LoadingInfo


def matched(own: Inventory, plan: Plan, *, ignore_mismatched: bool) -> Matches:
    """Every variable with the tensor that fills it, those of the model's own layers by name."""
    moves = {move.target.id: move for move in plan.moves}
    fills: list[_Fill] = []
    fresh: list[keras.Variable] = []
    for place, variable in own.known.items():
        move = moves.get(place)
        if move is None or move.source is None:
            fresh.append(variable)
        else:
            fills.append(_Fill(variable, move.source, move.transpose))
    extras = _extras(own, plan, ignore_mismatched=ignore_mismatched)
    fills += extras.fills
    fresh += [own.extra[name] for name in (*extras.lacking, *extras.wrong)]
    return Matches(fills, [each for each in fresh if hasattr(each, "role")], _info(plan, extras, own))


def fits(own: Inventory, plan: Plan) -> bool:
    """Whether a file has anything for a model, under the names of the table or of the model's own layers."""
    return any(move.source for move in plan.moves) or bool(_extras(own, plan, ignore_mismatched=True).fills)


def filled(own: Inventory, plan: Plan, header: Header, *, ignore_mismatched: bool) -> LoadingInfo:
    """Give every variable its values, the file's or fresh ones."""
    matches = matched(own, plan, ignore_mismatched=ignore_mismatched)
    fill(matches, header)
    for variable in matches.fresh:
        variable.assign(fresh_values(variable, plan.config))
    return matches.info


def fill(matches: Matches, header: Header) -> None:
    """Read every tensor into its variable."""
    values = workers.run(matches.fills, _read, lambda _: None, lambda fill: fill.tensor.turn)
    for one in matches.fills:
        one.variable.assign(as_tensor(values.pop(0)))
    for file in header.files:
        file.check_unchanged()


def _read(fill: _Fill, workspace: Workspace, tick: workers.Tick) -> np.ndarray[Any, Any]:
    """The variable's values, in its own element type, on memory that TensorFlow takes over."""
    dtype = keras.backend.standardize_dtype(fill.variable.dtype)
    kind = "uint16" if dtype == "bfloat16" else dtype
    array = empty_array(fill.variable.shape, kind)
    flat, position = array.reshape(-1).view(f"u{array.itemsize}"), 0
    for piece in pieces(fill.tensor, fill.transpose, workspace):
        flat[position : position + piece.size] = checked_cast(piece, fill.tensor, dtype)
        position += piece.size
        tick(piece.nbytes)
    if dtype == "bfloat16":
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array


def fresh_values(variable: Any, config: Config) -> Any:
    """Initial values of a variable of the package's own layers, by its role."""
    return initial(variable.role, float(config.values["initializer_range"]))(variable.shape, dtype=variable.dtype)


@dataclass(frozen=True)
class _Extras:
    """Variables beyond the table: those that tensors fill by name, tensors of another shape, and those not found."""

    fills: list[_Fill]
    wrong: dict[str, StoredTensor]
    lacking: list[str]


def _extras(own: Inventory, plan: Plan, *, ignore_mismatched: bool) -> _Extras:
    exact, names = _unused(plan)
    shapes = {name: tuple(variable.shape) for name, variable in own.extra.items()}
    for stored in (_without_prefix(exact), exact):
        there = same_but_for_numbers(own.stems, shapes, {name: tensor.shape for name, tensor in stored.items()})
        names |= {name: stored[other] for name, other in there.items()}
    found = _Extras([], {}, [])
    for name, variable in own.extra.items():
        tensor = names.get(name)
        if tensor is None or tensor.dtype not in FLOATS:
            found.lacking.append(name)
        elif tensor.shape == shapes[name]:
            found.fills.append(_Fill(variable, tensor, None))
        else:
            found.wrong[name] = tensor
    if found.wrong and not ignore_mismatched:
        rows = [
            f"{name} is {list(tensor.shape)}, not {list(own.extra[name].shape)}" for name, tensor in found.wrong.items()
        ]
        raise ShapeMismatch(
            f"the file's tensors for the model's own layers have other shapes:\n{listing(rows)}",
            hint="Give the layers the file's sizes, or pass ignore_mismatched_sizes=True.",
        )
    return found


def _unused(plan: Plan) -> tuple[dict[str, StoredTensor], dict[str, StoredTensor]]:
    """Tensors that fill nothing of the table, by their names, and by all names that a variable beyond it would have."""
    taken = {id(move.source) for move in plan.moves}
    known = (tensor for tensors in plan.identity.by_id.values() for tensor in tensors)
    exact: dict[str, StoredTensor] = {}
    for tensor in (*plan.identity.unrecognised, *known):
        if id(tensor) not in taken:
            exact[tensor.name.removeprefix(plan.identity.prefix).removesuffix(":0")] = tensor
    tails = Counter(name.partition("/")[2] for name in exact)
    short = {tail: tensor for name, tensor in exact.items() if tails[tail := name.partition("/")[2]] == 1}
    return exact, short | exact


def _without_prefix(names: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
    """Tensors by name, without the model's own name, if it stands before all of them."""
    starts = {name.partition("/")[0] for name in names}
    return {name.partition("/")[2]: tensor for name, tensor in names.items()} if len(starts) == 1 else names


def _info(plan: Plan, extras: _Extras, own: Inventory) -> LoadingInfo:
    """The four lists, in TensorFlow's names where the table has them."""
    names = {spec.id: spec.name for spec in _every_spec(own, plan)}
    places = {
        id(tensor): names.get(place, tensor.name)
        for place, tensors in plan.identity.by_id.items()
        for tensor in tensors
    }
    used = {id(fill.tensor) for fill in extras.fills} | {id(tensor) for tensor in extras.wrong.values()}
    wrong = {id(tensor) for tensor, _ in plan.mismatched}
    missing = [move.target.name for move in plan.moves if move.source is None]
    missing = [name for name in missing if name not in {places[number] for number in wrong}]
    left = [
        (one.tensor.name, places.get(id(one.tensor), one.tensor.name))
        for one in plan.unloaded
        if one.state in ("unused", "unknown") and id(one.tensor) not in used
    ]
    return {
        "missing_keys": [
            name for name in [*missing, *(f"{name}:0" for name in extras.lacking)]
            if first_match(plan.ignore.missing, name) is None
        ],
        "unexpected_keys": [
            name for stored, name in left
            if first_match(plan.ignore.unexpected, stored) is None and first_match(plan.ignore.unexpected, name) is None
        ],
        "mismatched_keys": [
            *((places[id(tensor)], tensor.shape, spec.shape) for tensor, spec in plan.mismatched),
            *((f"{name}:0", tensor.shape, tuple(own.extra[name].shape)) for name, tensor in extras.wrong.items()),
        ],
        "error_msgs": [],
    }  # fmt: skip


def _every_spec(own: Inventory, plan: Plan) -> Sequence[Any]:
    from bertconv.mapping.expand import expand

    config = plan.config.values
    return [
        spec
        for group in own.table.groups
        for spec in expand(own.table, own.dialects.of(FRAMEWORK), config, (group,)).values()
    ]
