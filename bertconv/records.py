"""`@dataclass(frozen=True)` at a quarter of its price: a command is too short for what dataclasses compile.

The standard library writes six methods for each class as source and compiles them, 0.4 ms a class; a conversion has
sixty of them, which is as long as copying 60 MB takes. Here `__init__` alone is compiled and the other five are shared.
Everything else is the standard library's: fields, `replace`, `asdict`. Type checkers see its decorator.

Every frozen dataclass of the package is made here. Those with slots (what a pickle is made of, in great numbers) and
those that change are the standard library's own; a conversion of safetensors or HDF5 imports none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    Class = TypeVar("Class", bound=type)

    def dataclass(*, frozen: Literal[True]) -> Callable[[Class], Class]:  # noqa: ARG001  (the one kind that there is)
        """A decorator of a class whose instances are equal by their fields and never change."""
        return _record


__all__ = ["dataclass"]


def _record(cls: type) -> type:
    made: Any = dataclasses.dataclass(repr=False, eq=False)(cls)
    fields = dataclasses.fields(made)
    made.__field_names__ = frozenset(field.name for field in fields)
    made.__shown__ = tuple(field.name for field in fields if field.repr)
    made.__compared__ = staticmethod(attrgetter(*[field.name for field in fields if field.compare]))
    for method in (_Methods.__setattr__, _Methods.__delattr__, _Methods.__repr__, _Methods.__eq__, _Methods.__hash__):
        if cls.__dict__.get(method.__name__) is None:  # a class with an equality of its own has None as its hash
            setattr(made, method.__name__, method)
    found: type = made
    return found


class _Methods:
    """What all such classes have in common."""

    __dict__: dict[str, Any]
    __field_names__: frozenset[str]
    __shown__: tuple[str, ...]
    __compared__: Callable[[Any], Any]

    def __setattr__(self, name: str, value: object) -> None:
        """`__init__` sets each field once."""
        if name in self.__dict__ or name not in self.__field_names__:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__shown__)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return bool(self.__compared__(self) == self.__compared__(other))

    def __hash__(self) -> int:
        return hash(self.__compared__(self))
