"""Lists and dicts in attributes of layers, whose changes the layer hears of, and what layers are in them."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

import keras
import optree

from bertconv.models.keras_internals import TrackedDict, TrackedList, TrackedOrderedDict

if TYPE_CHECKING:
    from bertconv.models.replacing import Replaceable


def layers_in(value: Any) -> list[Any]:
    """The layers and variables that an attribute's value holds."""
    if isinstance(value, keras.layers.Layer | keras.Variable):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple | set):
        return []
    return [each for inner in value for each in layers_in(inner)]


def as_plain(value: Any) -> Any:
    """A list, tuple or dict, and those inside it, as TensorFlow knows them."""
    if isinstance(value, dict):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (tuple if isinstance(value, tuple) else list)(map(as_plain, value))
    return value


def are_same(one: list[Any], other: list[Any]) -> bool:
    """By identity, one by one."""
    return len(one) == len(other) and all(map(operator.is_, one, other))


def is_among(value: Any, others: Iterable[Any]) -> bool:
    """By identity: variables compare by their values."""
    return any(value is other for other in others)


class Held:
    """A list or dict in an attribute of a layer, or inside one of these: a change of it counts as one of the attribute.

    Keras's own run what an item is replaced by, and go on counting, training and saving what was there before. `hold`
    makes these of Keras's; a copy, and what TensorFlow makes of one, is a plain list or dict, which no layer hears of.
    """

    owner: Replaceable
    tracker: Any
    plain: Any

    def __new__(cls, *values: Any) -> Any:
        return cls.plain(*values)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain, (self.plain(self),)

    def _change(self, touched: Any, change: Callable[[Any, Callable[[Any], Any]], object]) -> None:
        """Carry out a change: where it touches layers, by way of the owner.

        Args:
            touched: what is taken out and put in.
            change: changes a list or dict; it puts in what its second argument makes of an item.
        """
        if not layers_in(touched):
            change(self, self._tracked)
            return
        changed = self.plain(self)
        change(changed, lambda item: item)
        owner, new = self.owner, layers_in(changed)
        gone = [each for each in layers_in(self) if not is_among(each, new)]
        with owner._exchanging(gone, new):  # noqa: SLF001
            self._fill(changed)
        layers = owner._layers  # noqa: SLF001  (the order of weights)
        ordered = list({id(each): each for each in new if is_among(each, layers)}.values())
        places = [place for place, each in enumerate(layers) if is_among(each, ordered)]
        for place, each in zip(places, ordered, strict=True):
            layers[place] = each

    def _fill(self, changed: Any) -> None:
        """Hold these items and no others."""
        raise NotImplementedError

    def _tracked(self, item: Any) -> Any:
        if isinstance(item, Held) and item.owner is self.owner:  # it stays the object that a program may have
            return item
        kept = self.tracker.track(item)
        hold(kept, self.owner)
        return kept


class HeldList(Held, TrackedList):
    """See `Held`."""

    plain = list

    def _fill(self, changed: Any) -> None:
        list.__setitem__(self, slice(None), [self._tracked(each) for each in changed])

    def __setitem__(self, place: Any, value: Any) -> None:
        value = list(value) if isinstance(place, slice) else value
        self._change([self[place], value], lambda items, kept: list.__setitem__(items, place, kept(value)))

    def __delitem__(self, place: Any) -> None:
        self._change([self[place]], lambda items, _: list.__delitem__(items, place))

    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def append(self, value: Any) -> None:
        """As of any list; so are the others."""
        self._change([value], lambda items, kept: list.append(items, kept(value)))

    def extend(self, values: Iterable[Any]) -> None:
        """See `append`."""
        added = list(values)
        self._change(added, lambda items, kept: list.extend(items, kept(added)))

    def insert(self, place: Any, value: Any) -> None:
        """See `append`."""
        self._change([value], lambda items, kept: list.insert(items, place, kept(value)))

    def pop(self, place: Any = -1) -> Any:
        """See `append`."""
        value = self[place]
        del self[place]
        return value

    def remove(self, value: Any) -> None:
        """See `append`."""
        place = next((number for number, each in enumerate(self) if each is value), None)  # variables have no ==
        del self[self.index(value) if place is None else place]

    def clear(self) -> None:
        """See `append`."""
        self._change(self, lambda items, _: list.clear(items))

    def reverse(self) -> None:
        """See `append`."""
        self._change(self, lambda items, _: list.reverse(items))


class _HeldMapping(Held, dict[Any, Any]):
    """See `Held`."""

    def _fill(self, changed: Any) -> None:
        self.plain.clear(self)
        for key, value in changed.items():
            self.plain.__setitem__(self, key, self._tracked(value))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: Any) -> None:
        self._change([self[key]], lambda items, _: self.plain.__delitem__(items, key))

    def __ior__(self, values: Any) -> Self:  # type: ignore[misc]  # as wide as update
        self.update(values)
        return self

    def update(self, *values: Any, **named: Any) -> None:
        """As of any dict; so are the others."""
        given = dict(*values, **named)

        def change(items: Any, kept: Callable[[Any], Any]) -> None:
            for key, value in given.items():
                self.plain.__setitem__(items, key, kept(value))

        self._change([*given.values(), *(self.get(key) for key in given)], change)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """See `update`."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        """See `update`."""
        value = dict(self).pop(key, *default)
        if key in self:
            del self[key]
        return value

    def popitem(self, **last: Any) -> tuple[Any, Any]:
        """See `update`."""
        key, value = self.plain(self).popitem(**last)
        del self[key]
        return key, value

    def clear(self) -> None:
        """See `update`."""
        self._change(self, lambda items, _: self.plain.clear(items))


class HeldDict(_HeldMapping, TrackedDict):
    """See `Held`."""

    plain = dict


class HeldOrderedDict(_HeldMapping, TrackedOrderedDict):
    """See `Held`."""

    plain = OrderedDict


_HELD: tuple[tuple[type, type], ...] = (
    (TrackedList, HeldList), (TrackedDict, HeldDict), (TrackedOrderedDict, HeldOrderedDict)
)  # fmt: skip
for _own, _kind in _HELD:  # a tree that is made of theirs has Keras's own
    optree.register_pytree_node(_kind, _kind.tree_flatten, _own.tree_unflatten, namespace="keras")  # type: ignore[attr-defined]


def hold(value: Any, owner: Replaceable) -> None:
    """Let Keras's own lists and dicts, and those inside them, be such whose changes the owner hears of."""
    if not isinstance(value, list | tuple | dict):
        return
    for keras_own, held in _HELD:
        if type(value) is keras_own:
            value.__class__ = held
            cast("Held", value).owner = owner
    for each in value.values() if isinstance(value, dict) else value:
        hold(each, owner)
