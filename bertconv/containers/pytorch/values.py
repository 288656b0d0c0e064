"""What a torch pickle comes down to: plain values and a few descriptions, none of which is ever executed.

Containers compare by identity and hold their items as they were written, so that nothing here hashes, compares or walks
a nested value that came from a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from bertconv.containers.stored import ITEM_SIZE
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

AGAIN = "Download or copy it again, or save it again with torch.save(model.state_dict(), path)."
TRUSTED = "Ask its author for a safetensors file, or save model.state_dict() again on a machine of no value."
STATE_DICT = "Load it with the torch and the code that wrote it, and save model.state_dict() instead."


class Role(Enum):
    """What the reader does with a name that a pickle asks for."""

    REBUILD = auto()  # a tensor from a storage
    PARAMETER = auto()  # a tensor around a tensor
    FROM_TYPE = auto()  # a tensor with Python attributes
    ORDERED_DICT = auto()
    SIZE = auto()
    STORAGE = auto()
    DTYPE = auto()
    ENCODE = auto()  # text that stands for bytes
    NEW = auto()  # an instance of a class that is given as an argument
    RECORD = auto()  # a class of which nothing but the attributes is looked at
    INERT = auto()  # known, harmless, and never built
    REFUSED = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A function or class that a pickle names; `detail` is the element type of storages and dtypes."""

    name: str
    role: Role
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object that a pickle describes and that is not built."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """An instance of a class that nothing is known about; only a whole `nn.Module` is distinguished from it later."""

    name: str


@dataclass(slots=True, eq=False)
class PickledTuple:
    """A tuple and how deep containers nest in it."""

    items: list[object]
    depth: int = 1


@dataclass(slots=True, eq=False)
class PickledList:
    """A list and how deep containers nest in it."""

    items: list[object] = field(default_factory=list)
    depth: int = 1


@dataclass(slots=True, eq=False)
class PickledDict:
    """A dict as the pairs that were written, repeated keys included."""

    items: list[tuple[object, object]] = field(default_factory=list)
    depth: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of elements in the file.

    Attributes:
        key: its name in the file.
        dtype: element type, or "" for bytes without a type.
        count: elements (bytes, without a type) of the whole storage.
        start: first element that its tensors count from (legacy views), else 0.
        length: elements from `start` on that its tensors may use.
    """

    key: str
    dtype: str
    count: int
    start: int
    length: int

    @property
    def item_size(self) -> int:
        """Bytes per element."""
        return ITEM_SIZE[self.dtype] if self.dtype else 1


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides in elements, not yet checked against the storage."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Record:
    """An instance of a class that only holds values, as its class's name and what it was given as its state."""

    name: str
    items: list[object] = field(default_factory=list)
    depth: int = 1

    def attributes(self) -> dict[str, object] | None:
        """Its attributes by name; None where it has no dictionary of them, or one with a name twice."""
        state = self.items[0] if self.items else None
        pairs = state.items if isinstance(state, PickledDict) else []
        found = {key: value for key, value in pairs if isinstance(key, str)}
        return found if isinstance(state, PickledDict) and len(found) == len(pairs) else None


Container = PickledTuple | PickledList | PickledDict | Record


def children(container: Container) -> Iterator[object]:
    """The values directly inside a container."""
    if isinstance(container, PickledDict):
        return (value for _, value in container.items)
    return iter(container.items)


def damaged(file: str, message: str, *, tensor: str | None = None, hint: str = AGAIN) -> DamagedCheckpoint:
    """The error for bytes that are not a whole torch checkpoint."""
    return DamagedCheckpoint(message, hint=hint, file=file, tensor=tensor)


def unsafe(file: str, message: str, *, tensor: str | None = None, hint: str = TRUSTED) -> UnsafeCheckpoint:
    """The error for a file that could run code or exhaust the machine."""
    return UnsafeCheckpoint(message, hint=hint, file=file, tensor=tensor)


def unsupported(file: str, message: str, *, tensor: str | None = None, hint: str = STATE_DICT) -> UnsupportedCheckpoint:
    """The error for a sound file of a kind that is not converted."""
    return UnsupportedCheckpoint(message, hint=hint, file=file, tensor=tensor)
