"""What a call inside a torch pickle means: a tensor's description, a dict, or nothing; arguments are checked, not run.

Argument lists follow `torch/_utils.py` and `torch/serialization.py` (torch 0.4 to 2.13).
"""

from __future__ import annotations

from bertconv.containers.pytorch.names import MODULE_PICKLED, PLAIN_TENSORS
from bertconv.containers.pytorch.values import (
    Global,
    Instance,
    Opaque,
    PickledDict,
    PickledList,
    PickledTuple,
    Record,
    Role,
    Storage,
    Tensor,
    damaged,
    unsafe,
    unsupported,
)
from bertconv.containers.stored import ITEM_SIZE
from bertconv.errors import BertconvError
from bertconv.text import printable

MAX_RANK = 32

# Arguments before which the optional metadata of a tensor comes (conjugate and negative bits), by its function.
_METADATA_AT = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6, "_rebuild_tensor_v3": 7}


def refused(file: str, name: str) -> BertconvError:
    """The error for a name that is on no list."""
    return unsafe(file, f"wants to call {printable(name)[:200]}, which no weights need.")


def call(function: object, arguments: object, file: str) -> object:
    """The meaning of `function(*arguments)`, from the opcode REDUCE.

    Raises:
        UnsafeCheckpoint: a function that is not one of those that state dicts need.
        DamagedCheckpoint: arguments that torch never writes.
        UnsupportedCheckpoint: a tensor that is not plain and dense.
    """
    if not isinstance(function, Global):
        raise damaged(file, "its pickle calls something that is not a function.")
    if not isinstance(arguments, PickledTuple):
        raise damaged(file, f"its pickle calls {printable(function.name)} without a tuple of arguments.")
    items = arguments.items
    if function.role is Role.INERT:
        return Opaque(function.name)
    if function.role is Role.NEW:
        return new(items[0] if items else None, file)
    if function.role in _CALLS:
        return _CALLS[function.role](function, items, file)
    raise refused(file, function.name)


def new(cls: object, file: str) -> object:
    """The meaning of `cls.__new__(cls)`, from the opcodes NEWOBJ and NEWOBJ_EX."""
    if not isinstance(cls, Global):
        raise damaged(file, "its pickle makes an instance of something that is not a class.")
    if cls.role is Role.REFUSED:
        return Instance(cls.name)  # decided by `build`, or refused at the end of the pickle
    if cls.role is Role.INERT:
        return Opaque(cls.name)
    if cls.role is Role.ORDERED_DICT:
        return PickledDict()
    if cls.role is Role.RECORD:
        return Record(cls.name)
    raise refused(file, cls.name)


def build(target: object, state: object, file: str) -> None:
    """The meaning of giving `target` its attributes, from the opcode BUILD; attributes are never weights."""
    if isinstance(target, Global):
        raise refused(file, target.name)
    if isinstance(target, Instance):
        if _is_module_state(state):
            raise unsupported(file, MODULE_PICKLED.format(printable(target.name)))
        raise refused(file, target.name)
    if isinstance(target, Record) and not target.items:
        target.items.append(state)
    elif not isinstance(target, Opaque | PickledDict):
        raise damaged(file, "its pickle gives attributes to something that has none.")


def _is_module_state(state: object) -> bool:
    if not isinstance(state, PickledDict):
        return False
    names = {key for key, _ in state.items if isinstance(key, str)}
    return "_modules" in names or "_parameters" in names


def storage(identity: object, file: str) -> Storage:
    """The storage that a persistent id describes: `("storage", type, key, location, count[, view])`.

    `view` is None or `(key, first element, elements)`: legacy files name parts of a storage with it.
    """
    items = identity.items if isinstance(identity, PickledTuple) else []
    kind = items[0] if items else None
    if kind == "module":
        raise unsupported(file, MODULE_PICKLED.format("legacy format"))
    if kind != "storage" or len(items) not in (5, 6):
        raise damaged(file, "its pickle refers to something outside that is not a storage.")
    cls, key, location, count = items[1:5]
    if not isinstance(cls, Global) or cls.role is not Role.STORAGE:
        raise refused(file, cls.name) if isinstance(cls, Global) else damaged(file, "has a storage without a type.")
    if not isinstance(key, str) or not isinstance(location, str) or len(key) > 1024:
        raise damaged(file, "has a storage whose key or place is not text.")
    size = natural(count, file)
    start, length = _view(items[5] if len(items) == 6 else None, size, file)
    return Storage(key, cls.detail, size, start, length)


def _view(view: object, size: int, file: str) -> tuple[int, int]:
    if view is None:
        return 0, size
    if not isinstance(view, PickledTuple) or len(view.items) != 3:
        raise damaged(file, "has a view of a storage that is not a triple.")
    start, length = natural(view.items[1], file), natural(view.items[2], file)
    if start + length > size:
        raise damaged(file, "has a view that lies outside its storage.")
    return start, length


def natural(value: object, file: str) -> int:
    """A size; DamagedCheckpoint for what is none."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise damaged(file, "has a tensor or storage whose size, offset or stride is not a whole number of 63 bits.")
    return value


def naturals(value: object, file: str) -> tuple[int, ...]:
    """Sizes; DamagedCheckpoint for what are none, UnsafeCheckpoint for too many."""
    if not isinstance(value, PickledTuple | PickledList):
        raise damaged(file, "has a tensor whose shape or strides are not a tuple.")
    if len(value.items) > MAX_RANK:
        raise unsafe(file, f"has a tensor of more than {MAX_RANK} axes.")
    return tuple(natural(item, file) for item in value.items)


def _rebuild(function: Global, items: list[object], file: str) -> Tensor:
    version = function.name.rpartition(".")[2]
    metadata_at = _METADATA_AT[version]
    if len(items) not in (metadata_at, metadata_at + (version != "_rebuild_tensor")):
        raise damaged(file, f"calls {function.name} with {len(items)} arguments.")
    root = items[0]
    if not isinstance(root, Storage):
        raise damaged(file, "has a tensor without a storage.")
    if len(items) > metadata_at and not _is_empty(items[metadata_at]):
        raise unsupported(file, "has a tensor with a lazy conjugate or negation.", hint="Save tensor.resolve_neg().")
    shape, strides = naturals(items[2], file), naturals(items[3], file)
    if len(shape) != len(strides):
        raise damaged(file, "has a tensor with another number of strides than of axes.")
    dtype = _typed(items[6], root, file) if version == "_rebuild_tensor_v3" else root.dtype or "uint8"
    return Tensor(root, dtype, natural(items[1], file), shape, strides)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, PickledDict) and not value.items)


def _typed(dtype: object, root: Storage, file: str) -> str:
    if not isinstance(dtype, Global) or dtype.role is not Role.DTYPE or root.dtype:
        raise damaged(file, "has a tensor whose element type is not one.")
    if dtype.detail not in ITEM_SIZE:
        raise unsupported(file, f"has a tensor of element type {dtype.detail}.", hint="Save it as float32.")
    return dtype.detail


def _parameter(function: Global, items: list[object], file: str) -> Tensor:
    if len(items) not in (3, 4) or not isinstance(items[0], Tensor):
        raise damaged(file, f"calls {function.name} without a tensor.")
    return items[0]


def _from_type(function: Global, items: list[object], file: str) -> object:
    if len(items) != 4 or not isinstance(items[0], Global) or not isinstance(items[1], Global):
        raise damaged(file, f"calls {function.name} with unknown arguments.")
    if items[1].name not in PLAIN_TENSORS:
        raise unsupported(file, f"holds a tensor subclass ({printable(items[1].name)}).")
    if items[0].role not in (Role.REBUILD, Role.PARAMETER):
        raise refused(file, items[0].name)
    return call(items[0], items[2], file)


def _ordered_dict(function: Global, items: list[object], file: str) -> PickledDict:
    if not items:
        return PickledDict()
    if len(items) > 1 or not isinstance(items[0], PickledList):
        raise damaged(file, f"calls {function.name} with unknown arguments.")
    pairs = []
    for pair in items[0].items:
        if not isinstance(pair, PickledTuple | PickledList) or len(pair.items) != 2:
            raise damaged(file, f"calls {function.name} with something that is not a list of pairs.")
        pairs.append((pair.items[0], pair.items[1]))
    return PickledDict(pairs, items[0].depth)


def _size(function: Global, items: list[object], file: str) -> PickledTuple:
    if len(items) != 1 or not isinstance(items[0], PickledTuple | PickledList):
        raise damaged(file, f"calls {function.name} without a tuple.")
    return PickledTuple(items[0].items)


def _encode(function: Global, items: list[object], file: str) -> bytes:
    text, encoding = items if len(items) == 2 else (None, None)
    if (
        not isinstance(text, str)
        or not isinstance(encoding, str)  # guard-kept: for the type checker; the next alternative refuses it too
        or encoding not in ("latin1", "latin-1", "ascii")
    ):
        raise refused(file, function.name)
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise damaged(file, "has text in its pickle that does not stand for bytes.") from error


_CALLS = {
    Role.REBUILD: _rebuild,
    Role.PARAMETER: _parameter,
    Role.FROM_TYPE: _from_type,
    Role.ORDERED_DICT: _ordered_dict,
    Role.SIZE: _size,
    Role.ENCODE: _encode,
}
