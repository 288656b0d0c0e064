"""The activations a checkpoint may name in `hidden_act`: those without parameters that PyTorch's classes know.

Numbers are plain Python floats, which TensorFlow turns into constants of the tensor's own dtype; a constant that was
float32 on its way would cost eight digits in float64. No finite input gives NaN, in value or gradient, in any dtype:
the one exception is TensorFlow's own erf in float64 beyond 1e154.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from bertconv.errors import UnsupportedCheckpoint

Activation = Callable[[tf.Tensor], tf.Tensor]


def activation(name: str) -> Activation:
    """The activation that `hidden_act` names; it works element by element and keeps the dtype.

    Args:
        name: a key of `ACTIVATIONS`.

    Raises:
        UnsupportedCheckpoint: the name is unknown, or the activation has parameters of its own (prelu, xielu).
    """
    if name not in ACTIVATIONS:
        raise UnsupportedCheckpoint(
            f"activation {name!r} is unknown or has parameters of its own.",
            hint=f"Known are {', '.join(sorted(ACTIVATIONS))}.",
        )
    return ACTIVATIONS[name]


def _gelu(x: tf.Tensor) -> tf.Tensor:
    """Gaussian error linear unit, x Φ(x) (Hendrycks and Gimpel, arXiv 1606.08415).

    In this very form, right after `tf.nn.bias_add` of a product of two matrices, TensorFlow's graph optimiser makes one
    operation of all three on the CPU.
    """
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def _gelu_10(x: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(_gelu(x), -10.0, 10.0)


def _gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    return _sigmoid_of_cubic(x, math.sqrt(2.0 / math.pi))


def _gelu_fast(x: tf.Tensor) -> tf.Tensor:
    return _sigmoid_of_cubic(x, 0.7978845608)  # √(2/π) as the checkpoints of that name were trained: ten digits


def _sigmoid_of_cubic(x: tf.Tensor, scale: float) -> tf.Tensor:
    """Gelu's x (1 + tanh u) / 2 as x sigmoid(2u), u = scale (x + 0.044715 x³): fewer steps, nothing lost on the left.

    Where x² is above 100, the sigmoid is 0 or 1 in every dtype; the square is cut there since it overflows in float16.
    """
    square = tf.minimum(x * x, 100.0)
    return x * tf.sigmoid(2.0 * scale * x * (1.0 + 0.044715 * square))


def _quick_gelu(x: tf.Tensor) -> tf.Tensor:
    return x * tf.sigmoid(1.702 * x)


def _silu(x: tf.Tensor) -> tf.Tensor:
    return x * tf.sigmoid(x)


def _mish(x: tf.Tensor) -> tf.Tensor:
    return x * tf.tanh(tf.math.softplus(x))


def _hardswish(x: tf.Tensor) -> tf.Tensor:
    """Swish in pieces, x min(max(x + 3, 0), 6) / 6; cut by x, since x + 3 is rounded and would move the gradient."""
    return tf.where(x >= 3.0, x, tf.where(x <= -3.0, tf.zeros_like(x), x * (x + 3.0) * (1.0 / 6.0)))


def _laplace(x: tf.Tensor) -> tf.Tensor:
    """Φ((x - 0.707107) / 0.282095), which stands in for relu² (Ma and others, arXiv 2209.10655)."""
    return 0.5 * (1.0 + tf.math.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def _leaky_relu(x: tf.Tensor) -> tf.Tensor:
    return tf.where(x > 0.0, x, 0.01 * x)  # tf.nn.leaky_relu holds its slope in float32


def _relu2(x: tf.Tensor) -> tf.Tensor:
    return tf.square(tf.nn.relu(x))


def _sqrt_softplus(x: tf.Tensor) -> tf.Tensor:
    """√log(1 + eˣ); PyTorch's softplus is x itself above 20.

    Far to the left it is √eˣ to the last digit, which has a gradient where the root of a vanishing softplus has none.
    """
    low = math.log(float(np.spacing(x.dtype.as_numpy_dtype(1))))
    softplus = tf.where(x > 20.0, x, tf.math.softplus(tf.maximum(x, low)))
    return tf.where(x < low, tf.exp(0.5 * tf.minimum(x, low)), tf.sqrt(softplus))


def _linear(x: tf.Tensor) -> tf.Tensor:
    return x


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "gelu": _gelu,
        "gelu_10": _gelu_10,
        "gelu_accurate": _gelu_tanh,
        "gelu_fast": _gelu_fast,
        "gelu_new": _gelu_tanh,
        "gelu_python": _gelu,
        "gelu_python_tanh": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh,
        "hardswish": _hardswish,
        "laplace": _laplace,
        "leaky_relu": _leaky_relu,
        "linear": _linear,
        "mish": _mish,
        "quick_gelu": _quick_gelu,
        "relu": tf.nn.relu,
        "relu2": _relu2,
        "relu6": tf.nn.relu6,
        "sigmoid": tf.sigmoid,
        "silu": _silu,
        "sqrtsoftplus": _sqrt_softplus,
        "swish": _silu,
        "tanh": tf.tanh,
    }
)
"""By their names in configs; `bertconv.config.ACTIVATIONS` is the same set for those who load no framework."""
