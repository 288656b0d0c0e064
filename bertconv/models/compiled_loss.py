"""What `compile(loss=...)` was given: the head's own loss under any of its names, or one that takes no logits."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras

OWN_LOSS = ("auto", "auto_with_warning", "passthrough")
"""Values of `loss` that mean the head's own loss, as None does."""

_METHODS = ("hf_compute_loss", "compute_loss")
"""Methods of a model that programs for transformers 4 compile it with."""


def is_own_loss(model: Any, loss: Any) -> bool:
    """Whether a loss is the head's own: none, one of its names, or a method of the model itself."""
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if loss is None or isinstance(loss, str):
        return loss is None or loss in OWN_LOSS
    return getattr(loss, "__self__", None) is model and getattr(loss, "__name__", "") in _METHODS


def warn_of_probabilities(model: Any, loss: Any) -> None:
    """Warn of a loss of Keras that takes probabilities, where the outputs are the logits of one of our heads."""
    if not model.label_outputs or not type(model).call.__module__.startswith("bertconv."):
        return  # a call of the user's own may well return probabilities
    if name := next(filter(None, map(_takes_probabilities, _each(loss))), None):
        remedy = f"keras.losses.{name}(from_logits=True)"
        if name == "KLDivergence":
            remedy = "a function that applies keras.ops.softmax before keras.losses.kl_divergence"
        warnings.warn(
            f"the loss {name} takes probabilities, and {type(model).__name__} returns logits: training would go wrong. "
            f"Compile without a loss for the head's own, or with {remedy}.",
            stacklevel=3,
        )


def _each(loss: Any) -> Iterator[Any]:
    if isinstance(loss, Mapping):
        loss = list(loss.values())
    if isinstance(loss, list | tuple):
        for each in loss:
            yield from _each(each)
    else:
        yield loss


def _takes_probabilities(loss: Any) -> str | None:
    """The class of a loss of Keras that takes probabilities; None for any other loss."""
    if isinstance(loss, str) or inspect.isclass(loss):
        try:
            loss = keras.losses.get(loss)  # which makes an object of a class
        except (ValueError, TypeError):
            return None  # Keras tells of an unknown name, and of a class that needs arguments
    function = getattr(loss, "fn", loss)  # a loss object holds its function
    if getattr(function, "__module__", "").partition(".")[0] != "keras":
        return None
    known = _functions().get(getattr(function, "__name__", ""))
    return None if getattr(loss, "from_logits", False) else known


def _functions() -> dict[str, str]:
    """Functions of Keras that take probabilities unless stated otherwise, and the classes made of them."""
    classes = [kind for kind in vars(keras.losses).values() if inspect.isclass(kind)]
    found = {
        _snake(kind.__name__): kind.__name__ for kind in classes if "from_logits" in inspect.signature(kind).parameters
    }
    return found | {"kl_divergence": "KLDivergence"}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
