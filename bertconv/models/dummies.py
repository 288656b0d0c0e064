"""A first call that creates the weights which only a call creates, whatever a user's own `call` takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.keras_internals import every_layer

OTHER_INPUTS = (
    TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, RequestError,
    tf.errors.InvalidArgumentError,
)  # fmt: skip
"""What a `call` raises for inputs that it does not take."""


def call_with_dummies(model: Any) -> None:
    """Call a model once with small inputs.

    What a user's own `call(self, inputs)` takes is not known beforehand: a dict, the ids, or a list of arrays. They are
    tried in this order. Where none will do, its own layers get their weights in the first call, and a warning says so.

    Args:
        model: the model itself.
    """
    inputs = model.dummy_inputs
    if model.call_inputs.is_ours:
        model(inputs)
        return
    failures: list[Exception] = []
    was_built, model.built = model.built, True  # else Keras traces the call, and warns of what does not fit
    for packed in _packed(inputs, takes_whole=model.call_inputs.takes_whole):
        try:
            model(packed, training=False)
        except OTHER_INPUTS as error:
            failures.append(error)
        else:
            return
    model.built = was_built
    if not model.call_inputs.takes_whole:
        raise failures[0]
    unbuilt = [layer.name for layer in every_layer(model) if layer is not model and not layer.built]
    warnings.warn(
        f"{type(model).__name__} could not be called with small inputs to create its weights ({failures[0]!s:.200}): "
        f"{', '.join(unbuilt)} will get new ones in the first call. Define a property `dummy_inputs` in the class, "
        "with inputs that it takes, so that its weights are loaded.",
        stacklevel=2,
    )


def _packed(inputs: Any, *, takes_whole: bool) -> Iterator[Any]:
    yield inputs
    if not takes_whole or not isinstance(inputs, Mapping):
        return
    values = list(inputs.values())
    yield from (values[0], values[:2], values)
