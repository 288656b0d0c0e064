"""Configs of classes that are not bertconv's: transformers' own and users' subclasses of them, as models take them.

A model keeps the user's own object, as with transformers: what a program changes in it, the model sees. The object's
class becomes a subclass of what it was, which also answers what bertconv asks of a `Config`. Classes are known by what
they can do: transformers is never imported.
"""

from __future__ import annotations

import copy
import copyreg
import json
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, cast

from bertconv.config import content, defaults
from bertconv.config.classes import COMMON, Config, overridden
from bertconv.errors import RequestError
from bertconv.families import Family

_answers: dict[int, tuple[Any, Config]] = {}
"""id of a user's config -> its attributes when it was last asked, and what it said.

They are not kept in the config itself, whose attributes its class writes and compares; it has no hash.
"""

_TAKEN = ("values", "raw", "family", "named_classes", "says", "knows", "replace", "to_bytes", "own_keys", "as_config",
          "_reading", "_theirs", "_own", "_computed")  # fmt: skip
"""Names that a user's config cannot have: a model asks for them what a `Config` says."""

_LABELS = ("num_labels", "id2label", "label2id")
"""Keys of which any one says the others."""

_MAKER = "transformers"
"""The package whose own classes have nothing that a `Config` has not: their objects become one."""


class Reading:
    """Mixed into a class of configs: what is read with it, is read as a class of the user's would read it.

    Attributes:
        theirs: that class.
    """

    theirs: ClassVar[type]

    @classmethod
    def from_dict(
        cls, raw: Mapping[str, Any], path: str = "config", family: Family | None = None, **overrides: Any
    ) -> Any:
        """As for `Config`; the keys that the user's class adds or has other defaults for are there too."""
        config = super().from_dict(raw, path, family)  # type: ignore[misc]
        made = content.plain(content.content_of(made_of(cls.theirs, config.raw), cls.__name__))
        config = config.replace(**{key: value for key, value in made.items() if not _is_said(config, key, value)})
        return overridden(config, overrides) if overrides else config

    @classmethod
    def coerce(cls, value: Any) -> Any:
        """As for `Config`; keys alone are read as the user's class reads them."""
        return cls.from_dict(value, "") if isinstance(value, Mapping) else super().coerce(value)  # type: ignore[misc]

    def knows(self, key: str) -> bool:
        """Whether a config of the user's class has this key."""
        is_known: bool = super().knows(key)  # type: ignore[misc]
        return is_known or hasattr(made_of(self.theirs, cast("Config", self).raw), key)


class Bridge:
    """Mixed into the class of a user's config: what a model asks of a `Config` beside what that class has itself.

    The names of `_TAKEN` are taken: the user's class cannot have keys or methods of these names.
    """

    path = ""
    notes = ()
    _reading: ClassVar[type[Config]]
    _theirs: ClassVar[type]
    _own: ClassVar[type[Config]]
    _computed: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """The user's class has no say in what becomes of this one."""

    def as_config(self) -> Config:
        """The keys as a `Config`, checked; RequestError for values that no such model can have."""
        before, config = _answers.get(id(self), (None, None))
        now = _seen(object.__getstate__(self)), {key: getattr(self, key) for key in self._computed}
        if config is None or before != now:  # a model asks at every call, and transformers' classes are slow to answer
            if config is None:
                weakref.finalize(self, _answers.pop, id(self), None)
            config = self._reading(**_content_of(self, self._theirs, now[1]))
            _answers[id(self)] = now, config
        return config

    @property
    def values(self) -> Mapping[str, Any]:
        """See `Config`."""
        return self.as_config().values

    @property
    def raw(self) -> Mapping[str, Any]:
        """See `Config`."""
        return self.as_config().raw

    @property
    def family(self) -> Family:
        """See `Config`."""
        return self._reading.own_family()

    @property
    def named_classes(self) -> tuple[str, ...]:
        """See `Config`."""
        return self.as_config().named_classes

    def says(self, key: str) -> bool:
        """See `Config`."""
        return self.as_config().says(key)

    def knows(self, key: str) -> bool:
        """See `Config`."""
        return hasattr(self, key) or self._reading().knows(key)

    def replace(self, **changes: Any) -> Bridge:
        """A copy with some keys changed, by assignment as the user's class has it."""
        changed = copy.deepcopy(self)
        for key, value in changes.items():
            setattr(changed, key, value)
        return changed

    def to_bytes(self) -> bytes:
        """See `Config`; RequestError where an attribute is nothing that JSON can hold, which a file would lack."""
        return written(self).to_bytes()

    def own_keys(self) -> dict[str, Any]:
        """Every key, as JSON has them."""
        return content.plain(cast("Any", self).to_dict())

    def __getattr__(self, name: str) -> Any:
        if name in defaults.ASKED or name in defaults.HIDDEN:  # gone from transformers 5
            return defaults.asked(name)
        if name in defaults.NAMES:
            return ""
        if name in _LABELS:
            return getattr(self.as_config(), name)
        meant = {**COMMON, **self._reading.own_family().schema.defaults}
        if name in meant:
            return meant[name]
        own = getattr(super(), "__getattr__", None)
        if own is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return own(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self._theirs) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the user's class has it, but for the class: no module holds this one."""
        reduced = super().__reduce_ex__(max(protocol, 2))
        if isinstance(reduced, tuple) and reduced[0] is _NEW:
            return _again, (self._theirs, self._own, *reduced[1][1:]), *reduced[2:]
        return reduced


def is_foreign(kind: Any) -> bool:
    """Whether a class of configs is none of bertconv's, and can be read and written as transformers' can."""
    able = all(callable(getattr(kind, name, None)) for name in ("to_dict", "from_dict"))
    return isinstance(kind, type) and not issubclass(kind, Config) and able and hasattr(kind, "model_type")


def is_users_own(config: Any) -> bool:
    """Whether an object is a config of a user's class, which has more than transformers' own."""
    kind = type(config)
    return is_foreign(kind) and kind.__module__.partition(".")[0] != _MAKER


def own_class(kind: type) -> Any:
    """The class of bertconv's configs for a class of models: its own, or of the nearest class it derives from."""
    declared = (vars(each).get("config_class") for each in kind.__mro__)
    own = next((each for each in declared if isinstance(each, type) and issubclass(each, Config)), None)
    if own is None:
        raise RequestError(f"{kind.__name__} has no config_class.", hint="Derive it from one of bertconv's classes.")
    return own


@cache
def reading_class(theirs: Any, own: Any) -> type[Config]:
    """The class that reads configs as a user's class does, into bertconv's own.

    Args:
        theirs: the user's class.
        own: bertconv's, of the family of the model.
    """
    model_type = theirs.model_type or own.model_type
    made = type(theirs.__name__, (Reading, own), {"theirs": theirs, "model_type": model_type})
    return cast("type[Config]", made)


def reader(kind: type, given: Any = None) -> type[Config]:
    """What reads the configs of a class of models.

    Args:
        kind: the class of models.
        given: what its caller gives as a config.
    """
    own, declared = own_class(kind), cast("Any", kind).config_class
    if isinstance(given, Bridge):
        return given._reading  # noqa: SLF001
    if is_users_own(given):
        return reading_class(cast("Any", type(given)), own)
    return reading_class(declared, own) if is_foreign(declared) else own


def config_for(kind: type, given: Any) -> Any:
    """What a model keeps as its config.

    Args:
        kind: its class.
        given: what its caller gives.

    Raises:
        RequestError, DamagedCheckpoint, UnsupportedCheckpoint: as for `Config.coerce`.
    """
    own, declared = own_class(kind), cast("Any", kind).config_class
    if isinstance(given, Bridge):
        own.coerce(given.as_config())
        return given
    if isinstance(given, Config):
        theirs = getattr(type(given), "theirs", declared if is_foreign(declared) else None)
        return own.coerce(given) if theirs is None else bridged(made_of(theirs, own.coerce(given).raw), theirs, own)
    if is_users_own(given) or (is_foreign(declared) and isinstance(given, declared)):
        return bridged(given, type(given), own)
    if is_foreign(declared):
        return bridged(made_of(declared, content.keys_of(given, declared.__name__)), declared, own)
    return own.coerce(given)


def inner(config: Any) -> Config:
    """The config of a model as bertconv's own object: itself, or what a user's says."""
    return config.as_config() if isinstance(config, Bridge) else cast("Config", config)


def made_of(theirs: Any, keys: Mapping[str, Any]) -> Any:
    """An object of a user's class, made as it makes one of what was read."""
    made = theirs.from_dict(content.plain(keys))
    for key in defaults.GENERATION.keys() & keys.keys():  # which the classes of transformers 5 leave out
        setattr(made, key, keys[key])
    return made


def bridged(config: Any, theirs: Any, own: Any) -> Any:
    """A user's config, which now also answers as a `Config`; it is still of the user's class.

    Raises:
        RequestError, UnsupportedCheckpoint: values that no such model can have; the config stays as it was then.
    """
    if taken := next((name for name in _TAKEN if hasattr(config, name)), None):
        raise RequestError(
            f"{theirs.__name__} has {taken!r}, a name that bertconv's own configs need.", hint="Give it another name."
        )
    reading_class(theirs, own)(**_content_of(config, theirs, {}))
    object.__setattr__(config, "__class__", _bridge(theirs, own))
    return config


def written(config: Any) -> Config:
    """The config of a model as it stands in a file; RequestError where it holds what no file can."""
    if not isinstance(config, Bridge):
        return cast("Config", config)
    said = content.content_of(config, type(config).__name__)
    return config._reading(**_without_names(said))  # noqa: SLF001


def _content_of(config: Any, theirs: Any, computed: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a user's config for a model, which asks for none that JSON cannot hold: a table, a function, a lock.

    Args:
        config: the config.
        theirs: its class.
        computed: keys that are properties of that class, with their values.
    """
    try:
        said = _without_names(content.content_of(config, theirs.__name__))
    except RequestError:
        bare = theirs.__new__(theirs)
        for each in _parts(object.__getstate__(config)):
            for name, value in each.items():
                if name in defaults.DTYPES or callable(getattr(value, "to_dict", None)) or _is_json(value):
                    object.__setattr__(bare, name, value)
        said = _without_names(content.content_of(bare, theirs.__name__))
    for key, value in computed.items():
        said = content.in_step(said, content.plain({key: value}))
    return said


def _without_names(said: Mapping[str, Any]) -> dict[str, Any]:
    return content.plain({key: value for key, value in said.items() if key not in defaults.NAMES})


def _parts(state: Any) -> list[dict[str, Any]]:
    """Attributes, and those of slots, as `object.__getstate__` gives them."""
    return [each for each in (state if isinstance(state, tuple) else (state,)) if each]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _seen(value: Any) -> Any:
    """A copy of a value to tell a change by; of what JSON cannot hold, which object it is."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _seen(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_seen(each) for each in value]
    if not isinstance(value, type) and callable(getattr(value, "to_dict", None)):
        return _seen(value.to_dict())
    return type(value), id(value)


def _is_computed(theirs: type, key: str) -> bool:
    """Whether a user's class, and none of transformers', has a property of this name."""
    owner = next((each for each in theirs.__mro__ if key in vars(each)), object)
    return isinstance(vars(owner).get(key), property) and owner.__module__.partition(".")[0] != _MAKER


_NEW = copyreg.__newobj__  # type: ignore[attr-defined]  # what object.__reduce_ex__ gives


def _again(theirs: Any, own: Any, *args: Any) -> Any:
    bridge: Any = _bridge(theirs, own)
    return bridge.__new__(bridge, *args)


@cache
def _bridge(theirs: Any, own: Any) -> type:
    shown = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__, "__doc__": theirs.__doc__}
    meant = {**COMMON, **own.own_family().schema.defaults, "num_labels": None}
    computed = tuple(key for key in meant if _is_computed(theirs, key))
    more = {"_theirs": theirs, "_own": own, "_reading": reading_class(theirs, own), "_computed": computed}
    return type(theirs.__name__, (Bridge, theirs), shown | more)


def _is_said(config: Config, key: str, value: Any) -> bool:
    """Whether a config says this of a key already, or means it where it says nothing."""
    labels = content.plain({"id2label": _as_text(config.id2label), "label2id": dict(config.label2id)})
    known = {**defaults.ASKED, **config.values, **labels, **config.raw, "dtype": config.dtype}
    return key in {"transformers_version", "model_type"} or (key in known and known[key] == value)


def _as_text(labels: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(number): name for number, name in labels.items()}
