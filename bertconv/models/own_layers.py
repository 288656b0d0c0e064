"""What programs with layers of their own import from transformers 4.57 beside classes: three small functions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bertconv.models.activations import Activation, activation


def shape_list(tensor: Any) -> Any:
    """The shape of a tensor: numbers where they are known, scalar tensors where a graph leaves a length open.

    Args:
        tensor: a tf.Tensor, tf.Variable or array; anything that TensorFlow takes for one.

    Returns:
        A list; for a tensor whose number of axes is unknown, a tensor.
    """
    if isinstance(tensor, np.ndarray):
        return list(tensor.shape)
    tensor = tf.convert_to_tensor(tensor)
    lengths = tf.shape(tensor)
    if tensor.shape.rank is None:
        return lengths
    return [lengths[axis] if known is None else known for axis, known in enumerate(tensor.shape.as_list())]


def get_initializer(initializer_range: float = 0.02) -> keras.initializers.Initializer:
    """How weights of BERT and its relatives are drawn: a normal distribution around 0, cut at two deviations.

    Args:
        initializer_range: the standard deviation, before the cut.
    """
    return keras.initializers.TruncatedNormal(stddev=initializer_range)


def get_tf_activation(activation_string: str) -> Activation:
    """The activation of a name that configs have in `hidden_act`, for a layer of one's own.

    Args:
        activation_string: the name, such as "gelu".

    Raises:
        UnsupportedCheckpoint: the name is unknown.
    """
    return activation(activation_string)
