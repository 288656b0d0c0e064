"""from_pretrained: any checkpoint that the core reads, tensor by tensor by the plan, straight into the variables."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import keras

from bertconv.config import Config
from bertconv.config.classes import overridden
from bertconv.config.foreign import inner, reader
from bertconv.config.places import Place
from bertconv.config_hub import HUB
from bertconv.containers.stored import Header
from bertconv.errors import (
    MissingConfig,
    MissingTensors,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
)
from bertconv.families import ACTIVATION
from bertconv.formats.readback import check_duplicates
from bertconv.mapping.identify import unknown_names
from bertconv.mapping.ignore import IgnoreLists
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.models import generation_config
from bertconv.models.arguments import NAMES
from bertconv.models.filling import LoadingInfo, filled, fits
from bertconv.models.memory import blank_weights
from bertconv.models.other_families import identified, read_config
from bertconv.models.variables import FRAMEWORK, Inventory, inventory
from bertconv.records import dataclass
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header
from bertconv.text import closest, listing
from bertconv.warn import warn

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
        may_be_shorter: whether a number of layers that the caller gives may be less than the file's.
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
    may_be_shorter: bool = False


def load(request: LoadRequest) -> tuple[keras.Model, LoadingInfo]:
    """Build the model and fill it.

    Raises:
        BertconvError: see `bertconv.errors`; MissingTensors when the file does not hold the model's body.
    """
    source = open_source(request.path, request.source)
    config = load_config(source, request)
    with closing(open_header(source, check_data=True)) as header:
        if header.container not in request.source.prefer:
            raise RequestError(
                f"holds {header.container} weights, and use_safetensors leaves these out.",
                hint="Leave use_safetensors out.", file=str(request.path),
            )  # fmt: skip
        with blank_weights(), paused_collection():
            model, own, plan = planned(header, config, request)
            notes = () if _asked_activation(own, request) else plan.meaning.notes
            if plan.config.values != config.values:  # the file knows better: more rows, another number of labels
                model, own, plan = planned(header, _agreed(plan.config, request), request)
            check_stored_twice(plan)
            info = filled(own, plan, header, ignore_mismatched=request.ignore_mismatched_sizes)
    if model.can_generate():
        model._generation_config = generation_config.read(source, model.config)  # noqa: SLF001
    warn_of(request, info, notes=notes)
    return model, info


def load_opened(header: Header, config: Config, request: LoadRequest, plan: Plan | None) -> tuple[keras.Model, Plan]:
    """As `load`, from files that are open already and whose stored copies were compared, without its warnings.

    Args:
        header: of the files.
        config: with the sizes of the file.
        request: how the model is made.
        plan: of an earlier call with the same header, config and class; None makes it.
    """
    with blank_weights(), paused_collection():
        model, own = built(config, request)
        plan = plan or plan_of(header, own, config, request)
        filled(own, plan, header, ignore_mismatched=request.ignore_mismatched_sizes)
    return model, plan


def request_of(
    kind: Any, path: Any, config: Config, build: Callable[[Config], keras.Model], *, ignore_mismatched: bool = False
) -> LoadRequest:
    """What a class asks for where a caller gives the config and nothing else."""
    lists = (kind._keys_to_ignore_on_load_unexpected, kind._keys_to_ignore_on_load_missing)  # noqa: SLF001
    return LoadRequest(
        path=path, source=SourceOptions(), config=inner(config), config_class=reader(kind, config), overrides={},
        ignore_mismatched_sizes=ignore_mismatched, ignore=IgnoreLists(*(tuple(one or ()) for one in lists)),
        build=build, table_head=kind.table_head, class_name=kind.__name__,
    )  # fmt: skip


def planned(header: Header, config: Config, request: LoadRequest) -> tuple[keras.Model, Inventory, Plan]:
    """The model that a config describes, its variables, and how the file fills them."""
    model, own = built(config, request)
    return model, own, plan_of(header, own, config, request)


def built(config: Config, request: LoadRequest) -> tuple[keras.Model, Inventory]:
    """The model that a config describes, and its variables."""
    model = request.build(config)
    model.build_in_name_scope()
    return model, inventory(model, config, request.table_head)


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
            raise MissingConfig(
                "has no config.json.",
                hint=f"Pass config={request.config_class.__name__}(...): shapes alone do not tell the activation.",
                file=str(source.folder),
            )
        config = read_config(keys, str(source.config), request.config_class, request.table_head)
    if unknown := [key for key in request.overrides if not config.knows(key)]:
        near = closest(unknown[0], (*NAMES, *config.values))
        raise RequestError(
            f"{request.class_name}.from_pretrained has no argument {', '.join(unknown)}, and the config no such key.",
            hint="Take it out, or set it in the config." if near is None else f"Did you mean {near}?",
        )
    return overridden(copy.copy(config), dict(request.overrides)) if request.overrides else config


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


def plan_of(header: Header, own: Inventory, config: Config, request: LoadRequest) -> Plan:
    """How a file fills the variables of a model."""
    if own.groups:
        identity = identified(header.tensors, own.table, own.dialects, config)
    else:  # two bodies side by side, for instance: nothing of the model is the table's, and names alone decide
        identity = unknown_names(header.tensors, own.dialects.of(FRAMEWORK))
    options = PlanOptions(
        head=own.head, groups=own.groups, init_missing=True, allow_unknown=ANY_NAME, ignore=request.ignore,
        ignore_mismatched=request.ignore_mismatched_sizes, hidden_act=_asked_activation(own, request),
        fewer=_asked_layers(own, request),
    )  # fmt: skip
    try:
        plan = make_plan(identity, own.table, own.dialects, config, own.dialects.of(FRAMEWORK), options)
    except ShapeMismatch as error:
        error.hint = "Give the config that belongs to the checkpoint, or pass ignore_mismatched_sizes=True."
        raise
    except MissingTensors as error:
        error.hint = "Without its body a model is random: choose another checkpoint."
        raise
    if not fits(own, plan):
        raise MissingTensors(
            f"no tensor fits a weight of {request.class_name}.",
            hint=f"Choose a checkpoint of {own.table.model_type}.", file=str(request.path),
        )  # fmt: skip
    return plan


def _asked_activation(own: Inventory, request: LoadRequest) -> str | None:
    """The activation that the caller asks for, which is by transformers' name."""
    asked = own.table.family.schema.respelled(request.overrides)
    return asked.get(own.table.family.schema.spelled(ACTIVATION))


def _asked_layers(own: Inventory, request: LoadRequest) -> tuple[str, ...]:
    """The keys of numbers of layers that the caller gives, by a config or by name: a model may be the first ones."""
    schema, sizes = own.table.family.schema, own.table.sizes
    keys = {sizes[size].key for group in own.table.groups.values() for _, size in group.repeat}
    asked = {schema.spelled(key) for key in (keys if request.config is not None else request.overrides)}
    return tuple(key for key in sorted(keys) if request.may_be_shorter and schema.spelled(key) in asked)


def warn_of(
    request: LoadRequest, info: LoadingInfo, what: str = "newly initialised", notes: Sequence[str] = ()
) -> None:
    """One warning about everything that is not as the checkpoint has it.

    Args:
        request: what was asked for.
        info: how the weights were filled.
        what: what weights without values are.
        notes: what is said of the function that the model computes.
    """
    parts = [f"{note}." for note in notes]
    if info["missing_keys"]:
        parts.append(f"{what}, since the checkpoint lacks them (train before use):\n{listing(info['missing_keys'])}")
    if info["mismatched_keys"]:
        rows = [f"{name}: {list(stored)} stored, {list(own)} needed" for name, stored, own in info["mismatched_keys"]]
        parts.append(f"{what}, since their shapes differ:\n" + listing(rows))
    if info["unexpected_keys"]:
        parts.append(f"not used by this class:\n{listing(info['unexpected_keys'])}")
    if parts:
        warn(f"{request.class_name} from {request.path}: " + "\n".join(parts))


def config_of(path: Any, options: SourceOptions, config_class: type[Config]) -> Config:
    """The config that a caller gives: itself, or by path or Hub id."""
    if not isinstance(path, str) or Path(path).exists():
        return config_class.coerce(path)
    place = Place(
        cache_dir=options.cache_dir, force_download=options.force_download, token=options.token,
        local_files_only=options.local_files_only, revision=options.revision, subfolder=options.subfolder,
    )  # fmt: skip
    found: Config = config_class.from_dict(*HUB.fetch(path, place))
    return found
