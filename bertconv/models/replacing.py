"""Layers that are replaced after a model was built: the old one is forgotten, the new one takes its place."""

from __future__ import annotations

import operator
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, cast

import keras
import optree
import tensorflow as tf

from bertconv.models.keras_internals import TrackedDict, TrackedList, TrackedOrderedDict, every_layer
from bertconv.models.strategies import scope_of, strategy_of, take_variables


class Replaceable:
    """A layer or model whose attributes may be given other layers or variables at any time.

    Keras itself locks a layer once it is built, and never forgets what an attribute held before: the old weights would
    be saved, counted and warned about.
    """

    _layers: Any
    _tracker: Any
    was_changed = False
    """Whether something in it was replaced or taken out."""

    def __setattr__(self, name: str, value: Any) -> None:
        held_before = vars(self).get(name)
        if type(value) in _PLAIN and type(held_before) in _PLAIN:
            # Keras and TensorFlow would look for what it holds. They leave a property alone that has the value already:
            # set to True, `trainable` of a layer that is trained changes none of those inside.
            if hasattr(getattr(type(self), name, None), "__set__"):
                super().__setattr__(name, value)
            else:
                object.__setattr__(self, name, value)
            return
        if value is held_before and isinstance(value, _Held):  # after += or |=: it stays the same object
            return
        if _is_inner(name):
            super().__setattr__(name, value)
            return
        old, new = _held(held_before), _held(value)
        gone = [each for each in old if not _is_among(each, new)]
        is_added = any(not _is_among(each, old) for each in new)
        if not gone and not (is_added and vars(self).get("built")):
            super().__setattr__(name, value)
        else:
            with self._exchanging(gone, new):
                self._delete_tracking(name)  # type: ignore[attr-defined]  # TensorFlow's own list
                super().__setattr__(name, value)
        hold(vars(self).get(name), self)

    @contextmanager
    def _exchanging(self, gone: list[Any], new: list[Any]) -> Iterator[None]:
        """Around a change of an attribute: what is gone is forgotten, what is new gets its place and is built."""
        layers = self._layers
        before, was_locked = list(layers), self._tracker.locked
        self._tracker.unlock()
        try:
            yield
            self._forget(gone)
        finally:
            if was_locked:
                self._tracker.lock()
        _put_in_place(layers, before)
        if gone and vars(self).get("built"):
            object.__setattr__(self, "was_changed", True)
        self._build_new(new)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        """For `tf.train.Checkpoint`: layers in lists and dicts too, which Keras 3 leaves out, under 4.57's names."""
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]
        if save_type != "checkpoint":
            return children
        known = vars(self).setdefault("_self_collections", {})  # TensorFlow asks twice, and goes by identity
        for name, value in vars(self).items():
            if _is_inner(name) or not isinstance(value, list | tuple | dict) or not (held := _held(value)):
                continue
            if name not in known or not _are_same(_held(known[name][0]), held):
                plain = _plain(value)
                known[name] = plain, tf.__internal__.tracking.wrap(plain)
            children[name] = known[name][1]
        return children

    def __delattr__(self, name: str) -> None:
        gone = _held(vars(self).get(name))
        super().__delattr__(name)
        self._forget(gone)

    def _forget(self, gone: Iterable[Any]) -> None:
        """Keep no track of these any longer, unless another attribute still holds them."""
        kept = [each for key, value in vars(self).items() if not _is_inner(key) for each in _held(value)]
        for each in gone:
            if not _is_among(each, kept):
                self._tracker.untrack(each)

    def _build_new(self, new: Iterable[Any]) -> None:
        """Build those that need no shapes, as the layer itself did with its first ones, under its own strategy."""
        if not vars(self).get("built"):
            return
        strategy = strategy_of(self.variables)  # type: ignore[attr-defined]
        for each in new:
            if isinstance(each, Replaceable) and not each.built:  # type: ignore[attr-defined]
                with scope_of(strategy):
                    each.build()  # type: ignore[attr-defined]
            if strategy is not None:
                take_variables([each] if isinstance(each, keras.Variable) else each.variables, strategy)


class _Held:
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
        if not _held(touched):
            change(self, self._tracked)
            return
        changed = self.plain(self)
        change(changed, lambda item: item)
        owner, new = self.owner, _held(changed)
        gone = [each for each in _held(self) if not _is_among(each, new)]
        with owner._exchanging(gone, new):  # noqa: SLF001
            self._fill(changed)
        layers = owner._layers  # noqa: SLF001  (the order of weights)
        ordered = list({id(each): each for each in new if _is_among(each, layers)}.values())
        places = [place for place, each in enumerate(layers) if _is_among(each, ordered)]
        for place, each in zip(places, ordered, strict=True):
            layers[place] = each

    def _fill(self, changed: Any) -> None:
        """Hold these items and no others."""
        raise NotImplementedError

    def _tracked(self, item: Any) -> Any:
        if isinstance(item, _Held) and item.owner is self.owner:  # it stays the object that a program may have
            return item
        kept = self.tracker.track(item)
        hold(kept, self.owner)
        return kept


class HeldList(_Held, TrackedList):
    """See `_Held`."""

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


class _HeldMapping(_Held, dict[Any, Any]):
    """See `_Held`."""

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
    """See `_Held`."""

    plain = dict


class HeldOrderedDict(_HeldMapping, TrackedOrderedDict):
    """See `_Held`."""

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
            cast("_Held", value).owner = owner
    for each in value.values() if isinstance(value, dict) else value:
        hold(each, owner)


# Without a dtype Keras would settle its global policy, and `keras.config.set_floatx` after an import have no effect.
_KERAS_OWN = frozenset().union(*(vars(kind(name="own", dtype="float32")) for kind in (keras.layers.Layer, keras.Model)))
"""Attributes of Keras's own in every layer and model: some change with each call, some list what a layer holds."""
_PLAIN = frozenset({type(None), bool, int, float, str})
"""Types of most attributes: a fifth of the time that making a model takes would go into asking what they hold."""


def _is_inner(name: str) -> bool:
    """Whether an attribute is Keras's own, or keeps what is in others for checkpoints of TensorFlow, as `_self_...`."""
    return name in _KERAS_OWN or name.startswith("_self_")


def run(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What a layer makes of its arguments: one of ours without Keras's bookkeeping, anybody else's with it."""
    is_ours = type(layer).__module__.startswith("bertconv.")
    return layer.call(*args, **kwargs) if is_ours else layer(*args, **kwargs)


def is_stale(model: Any, graph: str) -> bool:
    """Whether a graph of this name was made of other layers than the model has now; notes that it is made of these."""
    layers = every_layer(model)
    made = vars(model).setdefault("_graphs_made_of", {})
    old = [reference() for reference in made.get(graph, ())]
    is_other = graph in made and not _are_same(old, layers)
    made[graph] = [weakref.ref(layer) for layer in layers]
    return is_other


def _held(value: Any) -> list[Any]:
    """The layers and variables that an attribute's value holds."""
    if isinstance(value, keras.layers.Layer | keras.Variable):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple | set):
        return []
    return [each for inner in value for each in _held(inner)]


def _plain(value: Any) -> Any:
    """A list, tuple or dict, and those inside it, as TensorFlow knows them."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (tuple if isinstance(value, tuple) else list)(map(_plain, value))
    return value


def _are_same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _is_among(value: Any, others: Iterable[Any]) -> bool:
    """By identity: variables compare by their values."""
    return any(value is other for other in others)


def _put_in_place(layers: list[Any], before: list[Any]) -> None:
    """Move what was added to where the first that is gone was, so that the order of weights stays."""
    added = [each for each in layers if not _is_among(each, before)]
    place = next((number for number, each in enumerate(before) if not _is_among(each, layers)), None)
    if added and place is not None:
        kept = [each for each in layers if _is_among(each, before)]
        layers[:] = [*kept[:place], *added, *kept[place:]]
