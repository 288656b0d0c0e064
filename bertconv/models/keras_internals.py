"""What Keras has no public way for: a layer's inner layers, the exchange of a variable, what a call is traced for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.utils.naming import to_snake_case as to_snake_case  # noqa: PLC0414  (for the other modules)
from keras.src.utils.tracking import TrackedDict as TrackedDict  # noqa: PLC0414
from keras.src.utils.tracking import TrackedList as TrackedList  # noqa: PLC0414
from keras.src.utils.tracking import TrackedOrderedDict as TrackedOrderedDict  # noqa: PLC0414


def inner_layers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself, in the order in which they were assigned."""
    return list(layer._flatten_layers(include_self=False, recursive=False))  # noqa: SLF001


def every_layer(layer: Any) -> list[Any]:
    """The layer and all layers inside it."""
    return list(layer._flatten_layers())  # noqa: SLF001


def exchanged(layer: Any, old: Any, make: Callable[[], Any]) -> Any:
    """A variable that `make` creates in place of `old`, at its place; those of a built layer are fixed otherwise."""
    tracker = layer._tracker  # noqa: SLF001
    variables = layer._trainable_variables  # noqa: SLF001
    place = next((number for number, each in enumerate(variables) if each is old), None)
    tracker.unlock()
    try:
        layer._untrack_variable(old)  # noqa: SLF001
        with layer._open_name_scope():  # noqa: SLF001
            new = make()
    finally:
        tracker.lock()
    if place is not None:
        variables[:] = [each for each in variables if each is not new]
        variables.insert(place, new)
    return new


def names_given(prefix: str) -> int:
    """How many layers Keras has named after this prefix since the session began."""
    return int((get_global_attribute("object_name_uids") or {}).get(prefix, 0))


def has_training(layer: Any) -> bool:
    """Whether Keras hands `training` to a layer."""
    return bool(layer._call_has_training_arg)  # noqa: SLF001


def is_asked_for_shapes() -> bool:
    """Whether Keras traces a call only for its shapes: inputs are then floats where it has no more than a shape.

    It does so too for the signature that it gives every Keras model in a SavedModel, whatever others are asked for.
    """
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None and getattr(graph, "name", "") != "serving_default":
        graph = getattr(graph, "outer_graph", None)
    return graph is not None or bool(in_symbolic_scope())
