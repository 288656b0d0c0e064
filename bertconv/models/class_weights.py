"""`fit(class_weight=...)` wherever the labels lie, for heads with one label per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bertconv.errors import RequestError


def weigh_classes(model: Any, x: Any, y: Any, weights: Mapping[int, float]) -> tuple[Any, Any, Any]:
    """The data as Keras needs them to weigh each sample by its class.

    Args:
        model: its `label_names`, `label_outputs` and `has_token_labels` tell what its labels are.
        x: inputs, with the labels among them or not; or a dataset. A dict is changed.
        y: labels, or a dict of them.
        weights: class id -> weight; 1 for a class that is not there.

    Returns:
        x and y with the labels in y alone, and the class weights; None for those where a dataset has them already.

    Raises:
        RequestError: labels of tokens, or of several outputs, which have no one class per sample.
    """
    _check_labels(model, y)
    if isinstance(x, tf.data.Dataset):
        return x.map(lambda *batch: _weighed(model, batch, weights)), y, None
    return *_separate(model, x, y), weights


def _check_labels(model: Any, y: Any) -> None:
    hint = "Leave class_weight out, and compile with a loss of your own that weighs each label by its class."
    if len(model.label_names) > 1:
        names = " and ".join(model.label_names)
        raise RequestError(f"class_weight is for one label per sample, and these are {names}.", hint=hint)
    if model.has_token_labels or _is_of_tokens(y):
        raise RequestError("class_weight is for one label per sample, and these labels are of tokens.", hint=hint)


def _is_of_tokens(y: Any) -> bool:
    """Whether an array holds rows of class ids; rows of zeros and ones may also tell a sample's own class."""
    array: np.ndarray[Any, Any] = np.asarray(y) if isinstance(y, np.ndarray | tf.Tensor) else np.zeros(())
    return array.ndim > 1 and array.shape[-1] > 1 and array.dtype.kind in "iu" and not np.isin(array, (0, 1)).all()


def _separate(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs, and the label by itself: the only place where Keras looks for classes."""
    (name,) = model.label_names or ("",)
    if y is None and isinstance(x, dict):
        y = x.pop(name, None)
    if isinstance(y, Mapping) and len(y) == 1 and set(y) <= {name, model.label_outputs.get(name)}:
        (y,) = y.values()
    return x, y


def _weighed(model: Any, batch: tuple[Any, ...], weights: Mapping[int, float]) -> tuple[Any, Any, Any]:
    """A batch of a dataset with a weight per sample."""
    if len(batch) > 2:
        raise RequestError(
            "class_weight was given, and the dataset has weights of samples.", hint="Give one of the two."
        )
    inputs, *rest = batch
    x, y = _separate(model, dict(inputs) if isinstance(inputs, Mapping) else inputs, rest[0] if rest else None)
    if not tf.is_tensor(y):
        raise RequestError("class_weight was given, and the dataset has no labels.", hint="Give labels, in x or as y.")
    classes = tf.argmax(y, -1) if y.shape.rank > 1 and y.shape[-1] != 1 else tf.reshape(y, [-1])
    keys, values = tf.constant(list(weights), tf.int64), tf.constant(list(weights.values()), tf.float32)
    chosen = tf.cast(classes, tf.int64)[:, tf.newaxis] == keys
    found = tf.reduce_sum(tf.where(chosen, values, 0.0), -1)
    return x, y, tf.where(tf.reduce_any(chosen, -1), found, 1.0)
