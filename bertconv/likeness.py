"""Objects that pass for those of transformers: programs ask `isinstance(model.config, PretrainedConfig)`.

`isinstance` believes an object that names another class as its `__class__`, as `unittest.mock` does. Where transformers
is loaded, `__class__` of ours is a stand-in: a subclass of the object's class and of transformers' both, of which
nothing is ever made. In everything but its bases it is the object's own class: it has the same name and attributes,
equals it, and makes and pickles it when it is called or pickled. `type(...)` of an object is always its own class, so
that libraries that go by it (Keras, TensorFlow, optree) see no difference. transformers is not imported here, nor is
anything of it changed; and its own code is told the truth, for it would go on to use what only its own objects have
(`AutoModel.from_pretrained(path, config=ours)` works where it sees a config that is not its own).
"""

from __future__ import annotations

import copyreg
import sys
import types
from typing import TYPE_CHECKING, Any, ClassVar, cast

_THEIRS = "transformers"


class Alike:
    """An object that passes for one of a class of transformers, where that is loaded."""

    __slots__ = ()
    _alike: ClassVar[tuple[str, ...]] = ()
    """`module:class` of what it passes for, the first that is there; in them `{name}` is a class that the object is of,
    and `{family}` that class's model type."""

    if not TYPE_CHECKING:  # for type checkers an object is of its class

        @property
        def __class__(self) -> type:
            """The class of the object, or its stand-in."""
            kind = type(self)
            if _THEIRS not in sys.modules:
                return kind
            try:
                asked_by = str(sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001  (isinstance has no frame)
            except ValueError:  # a thread of C's asks
                asked_by = ""
            theirs = None if asked_by.partition(".")[0] == _THEIRS else _loaded(kind)
            if theirs is None:
                return kind
            found = _stand_ins.get((kind, theirs))
            return _stand_ins.setdefault((kind, theirs), _stand_in(kind, theirs)) if found is None else found

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As for any object; pickle holds an object of this class for damaged where `__class__` is another one."""
        reduced = super().__reduce_ex__(protocol)
        if isinstance(reduced, tuple) and reduced[0] is _NEW:
            return _new, *reduced[1:]
        return reduced


class _StandIn(type):
    """The class of stand-ins: all that is asked of one is asked of the class that it stands for."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any], **kwargs: Any) -> Any:
        """A class that a program derives from a stand-in is derived from what that stands for."""
        owns = tuple(_own(base) if isinstance(base, _StandIn) else base for base in bases)
        return types.new_class(name, owns, kwargs, lambda made: made.update(attributes))

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _own(cls)(*args, **kwargs)

    def __getattribute__(cls, name: str) -> Any:
        return getattr(_own(cls), name)

    def __setattr__(cls, name: str, value: Any) -> None:
        setattr(_own(cls), name, value)

    def __eq__(cls, other: object) -> bool:
        return _own(cls) is (_own(other) if isinstance(other, _StandIn) else other)

    def __hash__(cls) -> int:
        return hash(_own(cls))

    def __repr__(cls) -> str:
        return repr(_own(cls))


class _Silent:
    """First of a stand-in's bases: it is no subclass that transformers or Keras should register."""

    def __init_subclass__(cls) -> None:
        pass


_NEW = copyreg.__newobj__  # type: ignore[attr-defined]  # what object.__reduce_ex__ gives
_stand_ins: dict[tuple[type, type], type] = {}
_places: dict[type, tuple[tuple[str, str], ...]] = {}
"""Class -> modules and names of what its objects may pass for."""


def _own(stand_in: Any) -> Any:
    """The class that a stand-in stands for, which is all that it has itself."""
    return type.__getattribute__(stand_in, "_stands_for")


def _loaded(kind: type) -> type | None:
    """The class of transformers that objects of this one pass for; None where it is not loaded, or they are of all."""
    places = _places.get(kind)
    if places is None:
        places = _places.setdefault(kind, _possible(kind))
    for module, name in places:
        if (there := sys.modules.get(module)) is not None:
            theirs = vars(there).get(name)  # a module may be half loaded
            # a program may have put ours there: then objects pass for what the next place holds
            if isinstance(theirs, type) and not issubclass(kind, theirs):
                return theirs
    return None


def _possible(kind: Any) -> tuple[tuple[str, str], ...]:
    found = []
    for pattern in kind._alike:  # noqa: SLF001
        for each in kind.__mro__[: kind.__mro__.index(Alike)]:
            family = str(getattr(each, "model_type", "")).replace("-", "_")
            module, _, name = pattern.format(name=each.__name__, family=family).partition(":")
            found.append((module, name))
    return tuple(dict.fromkeys(found))


def _stand_in(kind: type, theirs: type) -> type:
    """A class that is a subclass of both in the eyes of `isinstance`; the object's own where no class can be."""
    metas: tuple[type, ...] = tuple(dict.fromkeys((_StandIn, type(kind), type(theirs))))
    metas = tuple(meta for meta in metas if not any(meta is not each and issubclass(each, meta) for each in metas))
    try:
        meta = _StandIn if metas == (_StandIn,) else type(_StandIn.__name__, metas, {})
        made = type.__new__(cast("Any", meta), kind.__name__, (_Silent, kind, theirs), {"_stands_for": kind})
    except TypeError:  # a user's class may have bases, or a class of its own, that do not go together with theirs
        return kind
    copyreg.pickle(meta, lambda stand_in: (_itself, (_own(stand_in),)))
    return cast("type", made)


def _itself(kind: type) -> type:
    return kind


def _new(kind: type, *args: Any) -> Any:
    return kind.__new__(kind, *args)
