"""from_pretrained: any checkpoint that the core reads, tensor by tensor by the plan, straight into the variables."""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bertconv.config import Config
from bertconv.containers.stored import FLOATS, Header, StoredTensor
from bertconv.errors import (
    MappingError,
    MissingTensors,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
)
from bertconv.formats import workers
from bertconv.formats.readback import check_duplicates
from bertconv.formats.streaming import Workspace, pieces
from bertconv.formats.transfer import checked_cast
from bertconv.mapping.identify import Identity
from bertconv.mapping.ignore import IgnoreLists, first_match
from bertconv.mapping.layout import Transpose
from bertconv.mapping.plan import Plan, PlanOptions, make_plan
from bertconv.models.layers import initial
from bertconv.models.memory import as_tensor, blank_weights, empty_array
from bertconv.models.other_families import identified, read_config
from bertconv.models.variables import FRAMEWORK, Inventory, inventory
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header
from bertconv.text import listing

LoadingInfo = dict[str, list[Any]]
"""missing_keys, unexpected_keys, mismatched_keys and error_msgs, as transformers returns them."""

ANY_NAME = (r"",)


@dataclass(frozen=True)
class LoadRequest:
    """What a call of from_pretrained asks for.

    Attributes:
        path: folder, file or Hub id.
        source: how to find it.
        config: to use instead of the checkpoint's.
        config_class: of a config that is read.
        overrides: config keys that the caller sets.
        ignore_mismatched_sizes: newly initialise a tensor of another shape.
        ignore: the class's two regex lists.
        build: makes the model from a config.
        table_head: the table's class that the model is; None for a class of the user's own.
        class_name: for messages.
    """

    path: Any
    source: SourceOptions
    config: Config | None
    config_class: type[Config]
    overrides: Mapping[str, Any]
    ignore_mismatched_sizes: bool
    ignore: IgnoreLists
    build: Callable[[Config], keras.Model]
    table_head: str | None
    class_name: str


def load(request: LoadRequest) -> tuple[keras.Model, LoadingInfo]:
    """Build the model and fill it.

    Raises:
        BertconvError: see `bertconv.errors`; MissingTensors when the file does not hold the model's body.
    """
    source = open_source(request.path, request.source)
    config = load_config(source, request)
    with closing(open_header(source, check_data=True)) as header, blank_weights(), paused_collection():
        if header.container not in request.source.prefer:
            raise RequestError(
                f"holds {header.container} weights, and use_safetensors leaves these out.",
                hint="Leave use_safetensors out.", file=str(request.path),
            )  # fmt: skip
        model, own, plan = planned(header, config, request)
        if plan.config.values != config.values:  # the file knows better: more rows, another number of labels
            model, own, plan = planned(header, _agreed(plan.config, request), request)
        check_stored_twice(plan)
        matches = matched(own, plan, ignore_mismatched=request.ignore_mismatched_sizes)
        fill(matches, header)
        for variable, place in matches.fresh:
            variable.assign(fresh_values(variable, place, plan.config))
    warn_of(request, matches.info)
    return model, matches.info


def planned(header: Header, config: Config, request: LoadRequest) -> tuple[keras.Model, Inventory, Plan]:
    """The model that a config describes, its variables, and how the file fills them."""
    model = request.build(config)
    model.build_in_name_scope()
    own = inventory(model, config, request.table_head)
    identity = identified(header.tensors, own.table, own.dialects, config)
    return model, own, _plan(identity, own, config, request)


def check_stored_twice(plan: Plan) -> None:
    """TiedTensorsDiffer where copies of one tensor in the file are not equal, with what to do about it here."""
    try:
        check_duplicates(plan.duplicates)
    except TiedTensorsDiffer as error:
        is_tied = any(pair.copy.name == error.tensor != pair.original.name for pair in plan.duplicates)
        error.hint = (
            "If the model was trained untied, pass tie_word_embeddings=False."
            if is_tied
            else "The file holds it twice, as Keras 2 does: save it again with the program that wrote it."
        )
        raise


@contextmanager
def paused_collection() -> Iterator[None]:
    """Without garbage collection: beside TensorFlow's modules a pass takes half a second, and loading leaves none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load_config(source: Source, request: LoadRequest) -> Config:
    """The config of the checkpoint or the caller's, with the caller's overrides."""
    config = request.config
    if config is None:
        keys = source.config_keys()
        if keys is None:
            raise MappingError(
                "has no config.json.",
                hint=f"Pass config={request.config_class.__name__}(...): shapes alone do not tell the activation.",
                file=str(source.folder),
            )
        config = read_config(keys, str(source.config), request.config_class, request.table_head)
    if unknown := [key for key in request.overrides if not config.knows(key)]:
        raise RequestError(
            f"{request.class_name}.from_pretrained has no argument {', '.join(unknown)}, and the config no such key.",
            hint="Take it out, or set it in the config.",
        )
    return config.replace(**request.overrides) if request.overrides else config


def _agreed(config: Config, request: LoadRequest) -> Config:
    """The config as the file has it, unless the caller said otherwise."""
    asked = config.replace(**request.overrides).values
    for key in ("num_labels", *request.overrides):
        if config.values.get(key) != asked.get(key):
            raise ShapeMismatch(
                f"{key} is {config.values.get(key)} in the checkpoint and {asked.get(key)} was asked for.",
                hint="Pass ignore_mismatched_sizes=True to newly initialise what does not fit.",
                file=str(request.path),
            )
    return config


def _plan(identity: Identity, own: Inventory, config: Config, request: LoadRequest) -> Plan:
    options = PlanOptions(
        head=own.head, groups=own.groups, init_missing=True, allow_unknown=ANY_NAME, ignore=request.ignore,
        ignore_mismatched=request.ignore_mismatched_sizes,
    )  # fmt: skip
    try:
        plan = make_plan(identity, own.table, own.dialects, config, own.dialects.of(FRAMEWORK), options)
    except ShapeMismatch as error:
        error.hint = "Give the config that belongs to the checkpoint, or pass ignore_mismatched_sizes=True."
        raise
    except MissingTensors as error:
        error.hint = "Without its body a model is random: choose another checkpoint."
        raise
    if not any(move.source for move in plan.moves):
        raise MissingTensors(
            f"no tensor fits a weight of {request.class_name}.",
            hint=f"Choose a checkpoint of {own.table.model_type}.", file=str(request.path),
        )  # fmt: skip
    return plan


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
        fresh: the variables that the file has nothing for, with their neutral ids.
        info: the four lists of what is not as the file has it.
    """

    fills: list[_Fill]
    fresh: list[tuple[keras.Variable, str | None]]
    info: LoadingInfo


def matched(own: Inventory, plan: Plan, *, ignore_mismatched: bool) -> Matches:
    """Every variable with the tensor that fills it, those of the model's own layers by name."""
    moves = {move.target.id: move for move in plan.moves}
    fills: list[_Fill] = []
    fresh: list[tuple[keras.Variable, str | None]] = []
    for place, variable in own.known.items():
        move = moves.get(place)
        if move is None or move.source is None:
            fresh.append((variable, place))
        else:
            fills.append(_Fill(variable, move.source, move.transpose))
    extras = _extras(own, plan, ignore_mismatched=ignore_mismatched)
    fills += extras.fills
    fresh += [(own.extra[name], None) for name in (*extras.lacking, *extras.wrong) if hasattr(own.extra[name], "role")]
    return Matches(fills, fresh, _info(plan, extras, own))


def fill(matches: Matches, header: Header) -> None:
    """Read every tensor into its variable."""
    values = workers.run(matches.fills, _read, lambda _: None, lambda fill: fill.tensor.nbytes)
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


def fresh_values(variable: keras.Variable, place: str | None, config: Config) -> Any:
    """Initial values by the variable's role, which a variable of the user's own has from its place in the table."""
    role = getattr(variable, "role", None) or (place or "").rpartition(".")[2]
    return initial(role, float(config.values["initializer_range"]))(variable.shape, dtype=variable.dtype)


@dataclass(frozen=True)
class _Extras:
    """Variables beyond the table: those that tensors fill by name, tensors of another shape, and those not found."""

    fills: list[_Fill]
    wrong: dict[str, StoredTensor]
    lacking: list[str]


def _extras(own: Inventory, plan: Plan, *, ignore_mismatched: bool) -> _Extras:
    names = _unused(plan)
    found = _Extras([], {}, [])
    for name, variable in own.extra.items():
        tensor = names.get(name)
        if tensor is None or tensor.dtype not in FLOATS:
            found.lacking.append(name)
        elif tensor.shape == tuple(variable.shape):
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


def _unused(plan: Plan) -> dict[str, StoredTensor]:
    """Tensors that fill nothing of the table, by the names that a variable beyond it would have."""
    taken = {id(move.source) for move in plan.moves}
    known = (tensor for tensors in plan.identity.by_id.values() for tensor in tensors)
    exact: dict[str, StoredTensor] = {}
    for tensor in (*plan.identity.unrecognised, *known):
        if id(tensor) not in taken:
            exact[tensor.name.removeprefix(plan.identity.prefix).removesuffix(":0")] = tensor
    tails = Counter(name.partition("/")[2] for name in exact)
    short = {tail: tensor for name, tensor in exact.items() if tails[tail := name.partition("/")[2]] == 1}
    return short | exact


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


def warn_of(request: LoadRequest, info: LoadingInfo, what: str = "newly initialised") -> None:
    """One warning about everything that is not as the checkpoint has it; `what` is what weights without values are."""
    parts = []
    if info["missing_keys"]:
        parts.append(f"{what}, since the checkpoint lacks them (train before use):\n{listing(info['missing_keys'])}")
    if info["mismatched_keys"]:
        rows = [f"{name}: {list(stored)} stored, {list(own)} needed" for name, stored, own in info["mismatched_keys"]]
        parts.append(f"{what}, since their shapes differ:\n" + listing(rows))
    if info["unexpected_keys"]:
        parts.append(f"not used by this class:\n{listing(info['unexpected_keys'])}")
    if parts:
        warnings.warn(f"{request.class_name} from {request.path}: " + "\n".join(parts), stacklevel=4)


def config_of(path: Any, options: SourceOptions, config_class: type[Config]) -> Config:
    """The config that a caller gives: itself, or by path or Hub id."""
    if not isinstance(path, str) or Path(path).exists():
        return config_class.coerce(path)
    source = open_source(path, options)
    keys = source.config_keys()
    if keys is None:
        raise RequestError("has no config.json.", hint="Give another config.", file=path)
    return config_class.from_dict(keys, str(source.config))
