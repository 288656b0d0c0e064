"""From what a pickle describes to named tensors: which dict is the state dict, and where each tensor's bytes lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bertconv.containers.pytorch.machine import MAX_TENSORS
from bertconv.containers.pytorch.stream import MAX_NAME
from bertconv.containers.pytorch.values import Container, PickledDict, Tensor, children, damaged, unsafe, unsupported
from bertconv.containers.stored import FLOATS, ITEM_SIZE, SourceFile, StoredTensor
from bertconv.errors import BertconvError
from bertconv.table_files import module_names
from bertconv.text import printable

ENVELOPES = ("state_dict", "model_state_dict", "model", "net", "module", "encoder")
"""Keys under which training frameworks put a state dict."""

MAX_ENVELOPES = 3
FEW = 5
"""Matrices; a body of one layer has nine."""
MAX_EXPANSION = 4
"""Bytes of all tensors once they are written out, as a multiple of the file."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a storage lies: offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StateDict:
    """The state dict of a checkpoint.

    Attributes:
        path: the keys under which it lies; empty at the root.
        tensors: descriptions by name, in the file's order.
        others: names of what is not a weight, in it and beside it.
        nested: those of `others` in it that hold tensors although they are lists or dicts.
        beside: those of `others` beside it that are or hold tensors.
        layers: those of `beside` that are a dict with the matrix of a layer, as a head that was saved by itself.
    """

    path: tuple[str, ...]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)


def find_state_dict(root: object, file: str, envelopes: tuple[str, ...] = ENVELOPES) -> StateDict:
    """The one state dict in what a file describes, under some of the `envelopes` or none.

    Raises:
        DamagedCheckpoint: no tensor at all, or a key twice.
        UnsupportedCheckpoint: several dicts that could be it, or tensors under an unknown key only; Megatron-LM's.
        UnsafeCheckpoint: more or longer names than any checkpoint has.
    """
    _refuse_megatron(root, file)
    found = _candidates(root, (), set(), envelopes)
    if len(found) > 1:  # class weights, states of random generators, metrics: tensors, but no model
        found = [candidate for candidate in found if _holds_a_layer(candidate[1])] or found
    if len(found) > 1:  # the matrix of a loss lies around the state dict, and is called as no layer of a table is
        found = [one for one in found if not _lies_around(one, found) or _is_named_as_a_layer(one[1])] or found
    if len(found) > 1:
        places = ", ".join(".".join(path) or "the root" for path, _ in found)
        raise unsupported(file, f"has several state dicts: {places}.", hint="Save the one you want by itself.")
    if not found:
        raise _no_tensors(root, file)
    path, mapping = found[0]
    state = StateDict(path)
    _collect_siblings(root, path, state, file)
    _collect(mapping, state, file)
    return state


def _candidates(
    value: object, path: tuple[str, ...], seen: set[int], envelopes: tuple[str, ...]
) -> list[tuple[tuple[str, ...], PickledDict]]:
    if not isinstance(value, PickledDict) or id(value) in seen:
        return []
    seen.add(id(value))
    found: list[tuple[tuple[str, ...], PickledDict]] = []
    if len(path) < MAX_ENVELOPES:
        for key, item in value.items:
            if isinstance(key, str) and key in envelopes:
                found += _candidates(item, (*path, key), seen, envelopes)
    own = [item for _, item in value.items if isinstance(item, Tensor)]
    # Beside a state dict, tensors without axes are counters and losses of the training.
    if own and (not found or any(item.shape for item in own)):
        found.insert(0, (path, value))
    return found


def _holds_a_layer(mapping: PickledDict) -> bool:
    """Whether a tensor in it is the matrix of a layer, as every model here has some."""
    return any(
        isinstance(key, str) and isinstance(item, Tensor) and len(item.shape) > 1
        and item.dtype in FLOATS and key.rpartition(".")[2] == "weight"
        for key, item in mapping.items
    )  # fmt: skip


def _lies_around(one: tuple[tuple[str, ...], PickledDict], found: list[tuple[tuple[str, ...], PickledDict]]) -> bool:
    """Whether a dict has few layers of its own and another one inside it."""
    path, mapping = one
    few = sum(_holds_a_layer(PickledDict([pair])) for pair in mapping.items) < FEW
    return few and any(len(other) > len(path) and other[: len(path)] == path for other, _ in found)


def _is_named_as_a_layer(mapping: PickledDict) -> bool:
    names = module_names()
    return any(isinstance(key, str) and names.intersection(key.split(".")) for key, _ in mapping.items)


def _no_tensors(root: object, file: str) -> BertconvError:
    pairs = root.items if isinstance(root, PickledDict) else []
    holding = holders(root)
    places = [printable(key)[:200] for key, value in pairs if isinstance(key, str) and _holds(value, holding)]
    if places:
        text = ", ".join(places[:10])
        return unsupported(file, f"has tensors under {text} only.", hint="Save that state dict by itself.")
    if _holds(root, holding):
        return unsupported(file, "has tensors, but no state dict.", hint="Save model.state_dict().")
    return damaged(file, "has no tensors.", hint="Give the file with the weights; this one may hold settings only.")


def _refuse_megatron(root: object, file: str) -> None:
    """Refuse a checkpoint of Megatron-LM, whose models keep a dictionary per part: model, language_model, embedding."""
    if any(_below(_below(one, "language_model"), "embedding") for one in (root, _below(root, "model"))):
        what = "is Megatron's: dictionaries inside each other under language_model, of another architecture than BERT."
        hint = "transformers' MegatronBert classes run it once it was converted to them; bertconv does not convert it."
        raise unsupported(file, what, hint=hint)


def _below(value: object, key: str) -> object:
    """What a dictionary has under a key; None where it is no dictionary or has none."""
    items = value.items if isinstance(value, PickledDict) else []
    return next((inner for name, inner in items if name == key), None)


def holders(root: object) -> set[int]:
    """The containers in which a tensor lies, at whatever depth, by their ids; each is visited once."""
    inside: dict[int, list[int]] = {}
    found: list[int] = []
    waiting = [root]
    seen = {id(root)}
    while waiting:
        outer = waiting.pop()
        for item in children(outer) if isinstance(outer, Container) else ():
            if isinstance(item, Tensor):
                found.append(id(outer))
            elif isinstance(item, Container):
                inside.setdefault(id(item), []).append(id(outer))
                if id(item) not in seen:
                    seen.add(id(item))
                    waiting.append(item)
    holding: set[int] = set()
    while found:
        if (inner := found.pop()) not in holding:
            holding.add(inner)
            found += inside.get(inner, ())
    return holding


def _holds(value: object, holding: set[int]) -> bool:
    return isinstance(value, Tensor) or id(value) in holding


def _collect_siblings(root: object, path: tuple[str, ...], state: StateDict, file: str) -> None:
    level = root
    holding = holders(root) if path else set()
    for index, step in enumerate(path):
        following: list[object] = []
        for key, value in level.items if isinstance(level, PickledDict) else []:
            if isinstance(key, str) and key == step:
                following.append(value)
            else:
                state.others.append(".".join((*path[:index], _label(key))))
                if _holds(value, holding):
                    state.beside.append(state.others[-1])
                    if _holds_a_layer(value if isinstance(value, PickledDict) else PickledDict([(key, value)])):
                        state.layers.append(state.others[-1])
        if len(following) != 1:
            raise damaged(file, f"has the key {step} twice.")
        level = following[0]


def _label(key: object) -> str:
    return str(key)[:MAX_NAME] if isinstance(key, str | int | float) else f"({type(key).__name__})"


def _collect(mapping: PickledDict, state: StateDict, file: str) -> None:
    names: set[str] = set()
    holding = holders(mapping)
    for key, value in mapping.items:
        label = _label(key)
        if isinstance(key, str):
            if key in names:
                raise damaged(file, "is in the state dict twice.", tensor=label)
            names.add(key)
        if "_packed_params" in label:
            raise unsupported(file, "is quantised.", tensor=label, hint="Save the model before it is quantised.")
        if isinstance(value, Tensor):
            if not isinstance(key, str):
                raise unsupported(file, "is a tensor whose key is not text.", tensor=label)
            if len(key.encode()) > MAX_NAME:
                raise unsafe(file, f"has a tensor whose name is longer than {MAX_NAME} bytes.")
            state.tensors[key] = value
        else:
            state.others.append(label)
            if isinstance(value, Container) and id(value) in holding:
                state.nested.append(label)
    if len(state.tensors) > MAX_TENSORS:
        raise unsafe(file, f"holds more than {MAX_TENSORS:,} tensors.")


def place(tensors: dict[str, Tensor], extents: dict[str, Extent], file: SourceFile) -> tuple[StoredTensor, ...]:
    """The tensors as byte ranges of `file`, each checked against its storage.

    Raises:
        DamagedCheckpoint: a storage that is missing, has another size, or two element types; a view outside of it.
        UnsafeCheckpoint: tensors that together are much larger than the file.
    """
    types: dict[str, str] = {}
    stored = []
    for name, tensor in tensors.items():
        if types.setdefault(tensor.storage.key, tensor.dtype) != tensor.dtype:
            raise damaged(str(file.path), "shares its storage with a tensor of another element type.", tensor=name)
        stored.append(_place(name, tensor, extents.get(tensor.storage.key), file))
    total = sum(tensor.nbytes for tensor in stored)
    if total > MAX_EXPANSION * file.size:
        largest = max(stored, key=lambda tensor: tensor.nbytes)
        message = f"its tensors need {total:,} bytes, more than {MAX_EXPANSION} times the file."
        raise unsafe(str(file.path), message, tensor=largest.name, hint="Save tensor.contiguous() of expanded ones.")
    return tuple(stored)


def _place(name: str, tensor: Tensor, extent: Extent | None, file: SourceFile) -> StoredTensor:
    path, storage, size = str(file.path), tensor.storage, ITEM_SIZE[tensor.dtype]
    if extent is None:
        raise damaged(path, "has no storage in the file.", tensor=name)
    if storage.count * storage.item_size != extent.size:
        message = f"needs a storage of {storage.count * storage.item_size:,} bytes; the file's has {extent.size:,}."
        raise damaged(path, message, tensor=name)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    reach = tensor.offset + sum((length - 1) * step for length, step in steps) + 1
    if 0 in tensor.shape:
        reach = tensor.offset
    if reach > storage.length * storage.item_size // size:
        raise damaged(path, "lies outside its storage.", tensor=name)
    if math.prod(max(length, 1) for length in tensor.shape) * size >= 2**62:
        raise damaged(path, "has a shape that no machine can hold.", tensor=name)
    offset = extent.offset + storage.start * storage.item_size + tensor.offset * size
    return StoredTensor(name, tensor.dtype, tensor.shape, file, offset, _strides(tensor))


def _strides(tensor: Tensor) -> tuple[int, ...] | None:
    """Strides in elements, with those that no element depends on made regular; None in C order."""
    regular: list[int] = []
    step = 1
    for length in reversed(tensor.shape):
        regular.insert(0, step)
        step *= length
    if step == 0:
        return None
    rows = zip(tensor.shape, tensor.strides, regular, strict=True)
    strides = tuple(normal if length == 1 else given for length, given, normal in rows)
    return None if strides == tuple(regular) else strides
