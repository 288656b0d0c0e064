"""`fit(class_weight=...)` wherever the labels lie, for heads with one label per sample."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bertconv.errors import RequestError


def weigh_classes(model: Any, x: Any, y: Any, given: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """The data as Keras needs them to weigh each sample by its class.

    Args:
        model: its `label_names`, `label_outputs` and `has_token_labels` tell what its labels are.
        x: inputs, with the labels among them or not; or a dataset. A dict is changed.
        y: labels, or a dict of them.
        given: class id -> weight, 1 for a class that is not there; or the weights in the order of the classes; None or
            nothing in it for no weights.
        sample_weight: what else weighs samples, which Keras does not combine with class weights.

    Returns:
        x and y with the labels in y alone, and the class weights; None for those where a dataset has them already.

    Raises:
        RequestError: labels of tokens, or of several outputs, which have no one class per sample; weights that are of
            no class or no numbers; weights of samples, too; data that Keras gives no class weights to.
    """
    weights = None if given is None else _by_class(given)
    if not weights:
        return x, y, None
    _check_labels(model, y)
    _check_data(x)
    if sample_weight is not None:
        raise RequestError("class_weight was given, and sample_weight too.", hint="Give one of the two.")
    if isinstance(x, tf.data.Dataset):
        return x.map(lambda *batch: _weighed(model, batch, weights)), y, None
    return *_separate(model, x, y), weights


def _by_class(given: Any) -> dict[int, float]:
    """Class id -> weight, of a mapping or of weights in order."""
    hint = "Pass {class id: weight}, or one weight for each class in order."
    try:
        found = dict(given if isinstance(given, Mapping) else enumerate(np.asarray(given, np.float64).tolist()))
        weights = {index(number): float(weight) for number, weight in found.items()}
    except (TypeError, ValueError):
        weights = {0: np.nan}
    if not all(map(np.isfinite, weights.values())):
        raise RequestError(f"class_weight is {given!r:.80}, not a number for each class.", hint=hint)
    return weights


def _check_data(x: Any) -> None:
    """Refuse what Keras gives no class weights to, or drops them for without a word."""
    if isinstance(x, tf.data.Dataset):
        return
    kind = type(getattr(x, "of", x)).__name__
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
        is_weighed = isinstance(batch, list | tuple) and len(batch) > 1 and not isinstance(batch[1], Mapping)
        if is_weighed and len(batch) > 2:
            raise _both()
    else:
        is_weighed = kind not in ("DataLoader", "MapDataset", "IterDataset")
    if not is_weighed:
        raise RequestError(
            f"class_weight was given, and Keras takes none for the batches of a {kind}.",
            hint="Make a tf.data.Dataset of it; or let batches be (features, labels, sample weights), without it.",
        )


def _both() -> RequestError:
    return RequestError("class_weight was given, and the dataset has weights of samples.", hint="Give one of the two.")


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
        raise _both()
    inputs, *rest = batch
    x, y = _separate(model, dict(inputs) if isinstance(inputs, Mapping) else inputs, rest[0] if rest else None)
    if not tf.is_tensor(y):
        raise RequestError("class_weight was given, and the dataset has no labels.", hint="Give labels, in x or as y.")
    classes = tf.argmax(y, -1) if y.shape.rank > 1 and y.shape[-1] != 1 else tf.reshape(y, [-1])
    keys, values = tf.constant(list(weights), tf.int64), tf.constant(list(weights.values()), tf.float32)
    chosen = tf.cast(classes, tf.int64)[:, tf.newaxis] == keys
    found = tf.reduce_sum(tf.where(chosen, values, 0.0), -1)
    return x, y, tf.where(tf.reduce_any(chosen, -1), found, 1.0)
