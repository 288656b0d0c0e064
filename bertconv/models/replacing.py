"""Layers that are replaced after a model was built: the old one is forgotten, the new one takes its place."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from bertconv.models.held import Held, are_same, as_plain, hold, is_among, layers_in
from bertconv.models.keras_internals import every_layer
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
            # Keras and TensorFlow would look for what it holds, and leave a property alone that has the value already:
            # `model.trainable = True` would not reach the layers that were frozen inside, as it did in Keras 2.
            object.__setattr__(self, name, value)
            return
        if value is held_before and isinstance(value, Held):  # after += or |=: it stays the same object
            return
        if _is_inner(name):
            super().__setattr__(name, value)
            return
        old, new = layers_in(held_before), layers_in(value)
        gone = [each for each in old if not is_among(each, new)]
        is_added = any(not is_among(each, old) for each in new)
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
            if _is_inner(name) or not isinstance(value, list | tuple | dict) or not (held := layers_in(value)):
                continue
            if name not in known or not are_same(layers_in(known[name][0]), held):
                plain = as_plain(value)
                known[name] = plain, tf.__internal__.tracking.wrap(plain)
            children[name] = known[name][1]
        return children

    def __delattr__(self, name: str) -> None:
        gone = layers_in(vars(self).get(name))
        super().__delattr__(name)
        self._forget(gone)

    def _forget(self, gone: Iterable[Any]) -> None:
        """Keep no track of these any longer, unless another attribute still holds them."""
        kept = [each for key, value in vars(self).items() if not _is_inner(key) for each in layers_in(value)]
        for each in gone:
            if not is_among(each, kept):
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
    is_other = graph in made and not are_same(old, layers)
    made[graph] = [weakref.ref(layer) for layer in layers]
    return is_other


def _put_in_place(layers: list[Any], before: list[Any]) -> None:
    """Move what was added to where the first that is gone was, so that the order of weights stays."""
    added = [each for each in layers if not is_among(each, before)]
    place = next((number for number, each in enumerate(before) if not is_among(each, layers)), None)
    if added and place is not None:
        kept = [each for each in layers if is_among(each, before)]
        layers[:] = [*kept[:place], *added, *kept[place:]]
