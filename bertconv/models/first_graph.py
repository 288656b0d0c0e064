"""Variables of training that Keras would make inside the first graph of a step, which TensorFlow then traces twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable  # what tf.Variable makes outside of graphs

from bertconv.models.keras_internals import every_layer


def build_optimizer(model: Any) -> None:
    """Make the optimizer's variables outside the graph that is being made, as `apply` would inside it.

    Where layers are without weights yet, the graph makes those anyway. Under a strategy Keras has done it.

    Args:
        model: compiled, and about to make its first step.
    """
    optimizer = model.optimizer
    if optimizer is None or optimizer.built or tf.distribute.has_strategy():
        return
    if all(layer.built for layer in every_layer(model)):
        with _outside(), keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(model.trainable_variables)


def build_metrics(compiled: Any, y: Any, y_pred: Any) -> None:
    """Make the variables of the compiled metrics outside the graph, as their first update would inside it.

    Args:
        compiled: the model's CompileMetrics, or None.
        y: the labels, of which no more than shapes are looked at.
        y_pred: the outputs that they are for.
    """
    if compiled is None or compiled.built or tf.distribute.has_strategy():
        return
    with _outside():
        compiled.build(y, y_pred)


@contextmanager
def _outside() -> Iterator[None]:
    """Variables are made as outside of every graph: `tf.init_scope` alone leaves it to the graph how they are made."""

    def make(_: Any, **kwargs: Any) -> tf.Variable:
        return ResourceVariable(**kwargs)

    with tf.init_scope(), tf.variable_creator_scope(make):
        yield
