"""What models are made of: linear maps, embeddings, layer normalisation, dropout. Sizes are known beforehand.

Inside the encoder hidden states are a matrix `[rows hidden]`, rows being batch x sequence. Every variable knows its
role ("weight", "bias", "scale", "shift", "value", see dialects.toml) and, where its layer was given which module of the
mapping table it is, its neutral id: `layer.3.query.weight`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bertconv.models.keras_internals import inner_layers
from bertconv.models.memory import Fresh
from bertconv.models.replacing import Replaceable
from bertconv.models.settings import SPREAD

HALF = ("float16", "bfloat16")


def initial(role: str, spread: float) -> keras.initializers.Initializer:
    """How a variable of a role starts: weights normal, scales one, all else zero (google-research/bert, modeling.py).

    Args:
        role: of the variable.
        spread: standard deviation of weights; they are truncated at two of them.
    """
    if role == "weight":
        return keras.initializers.TruncatedNormal(stddev=spread)
    return keras.initializers.get("ones" if role == "scale" else "zeros")


class BaseLayer(Replaceable, keras.layers.Layer):
    """A layer that builds itself and its layers, in the order in which they were assigned.

    Args:
        name: as in the variables' paths.
        dtype: Keras dtype policy.
        module: neutral id of the module whose tensors its own variables are, `layer.3.query`; "" for none.
        spread: standard deviation of its new weights.
    """

    def __init__(self, *, name: str | None = None, dtype: Any = None, module: str = "", spread: float = SPREAD) -> None:
        super().__init__(name=name, dtype=dtype)
        self.module = module
        self.spread = spread
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run with hidden states, the first argument, in the type that the layer computes in.

        That is for somebody's own layer around one of ours, which may compute in another type; Keras itself would
        convert every argument, masks included.
        """
        if args and tf.is_tensor(args[0]) and args[0].dtype.is_floating:
            args = (tf.cast(args[0], self.compute_dtype), *args[1:])
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Create every weight; layers of a user's own among ours get theirs when they are called first."""
        for layer in inner_layers(self):
            if isinstance(layer, BaseLayer) and not layer.built:
                layer.build()

    @property
    def wide_dtype(self) -> str:
        """Element type of sums over many numbers: float32 where the layer computes in half precision."""
        return "float32" if self.compute_dtype in HALF else str(self.compute_dtype)

    def new_weight(
        self, name: str, shape: tuple[int, ...], role: str, *, module: str | None = None, autocast: bool = True
    ) -> Any:
        """A variable; `module` where it is of another one than the layer's."""
        weight = self.add_weight(
            name=name, shape=shape, initializer=Fresh(initial(role, self.spread)), autocast=autocast
        )
        owner = self.module if module is None else module
        weight.role = role  # what `fresh_values` starts it as, when a checkpoint lacks it
        weight.neutral_id = f"{owner}.{role}" if owner else None
        return weight


class Linear(BaseLayer):
    """`x @ kernel + bias`; kernel: `[in out]`, bias: `[out]`; further arguments as for BaseLayer."""

    def __init__(self, inputs: int, units: int, *, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.inputs = inputs
        self.units = units

    def build(self, input_shape: Any = None) -> None:
        """Create kernel and bias."""
        self.kernel = self.new_weight("kernel", (self.inputs, self.units), "weight")
        self.bias = self.new_weight("bias", (self.units,), "bias")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[... in]` -> `[... out]`."""
        if x.shape.rank == 2:
            return tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)
        rows = tf.reshape(x, [-1, self.inputs])
        out = tf.nn.bias_add(tf.matmul(rows, self.kernel), self.bias)
        return tf.reshape(out, tf.concat([tf.shape(x)[:-1], [self.units]], 0))


class Embedding(BaseLayer):
    """A table of vectors: `[rows dim]`, under the name that the checkpoint format gives it.

    Args:
        rows: number of vectors.
        dim: size of each.
        leaf: name of the variable.
        name: of the layer.
        padding: row whose vector gets no gradient, as PyTorch's `padding_idx`.
        kwargs: as for BaseLayer.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        leaf: str = "embeddings",
        name: str,
        padding: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.rows = rows
        self.dim = dim
        self.leaf = leaf
        self.padding = padding

    def build(self, input_shape: Any = None) -> None:
        """Create the table."""
        # Cast after the look-up, not before it: the table is large.
        self.table = self.new_weight(self.leaf, (self.rows, self.dim), "weight", autocast=False)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """ids: `[...]` -> `[... dim]`."""
        return tf.cast(_look_up(tf.convert_to_tensor(self.table.value), ids, self.padding), self.compute_dtype)

    def first(self, start: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """The rows from `start`: `[count dim]`."""
        return tf.cast(tf.convert_to_tensor(self.table.value)[start : start + count], self.compute_dtype)

    # Programs for transformers 4 read the table as the variable that it was there: `embeddings.position_embeddings`.

    @property
    def shape(self) -> tf.TensorShape:
        """Of the table: `[rows dim]`."""
        return tf.TensorShape((self.rows, self.dim))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The table as an array."""
        return np.asarray(self.table.numpy())

    def assign(self, value: Any) -> Any:
        """Give the table other values: a tensor or array `[rows dim]`."""
        return self.table.assign(value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """For numpy."""
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        """For TensorFlow's functions."""
        value = tf.convert_to_tensor(self.table.value)
        return value if dtype is None else tf.cast(value, dtype)

    def __getitem__(self, place: Any) -> tf.Tensor:
        """Rows of the table."""
        return tf.convert_to_tensor(self.table.value)[place]


def _look_up(table: tf.Tensor, ids: tf.Tensor, padding: int | None) -> tf.Tensor:
    """Rows of a table: `[rows dim]`, `[...]` -> `[... dim]`; the gradient has the table's shape.

    TensorFlow's own gradient lists a row as often as it was looked up, and Keras's Adam squares each of them by itself.
    The table is a tensor, which costs no copy: a variable of a tf.distribute.Strategy is several, of which a function
    with a gradient of its own would read one that it was not given.
    """

    @tf.custom_gradient
    def look_up(table: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            if padding is not None:
                upstream = tf.where(tf.expand_dims(ids == padding, -1), tf.zeros((), upstream.dtype), upstream)
            size = tf.shape(table)
            rows = tf.reshape(upstream, [-1, size[1]])
            return tf.math.unsorted_segment_sum(rows, tf.reshape(ids, [-1]), size[0])

        return tf.gather(table, ids), gradient

    return look_up(table)


class LayerNorm(BaseLayer):
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450); gamma, beta: `[dim]`.

    Args:
        dim: size of the axis.
        epsilon: added to the variance.
        name: of the layer.
        kwargs: as for BaseLayer.
    """

    def __init__(self, dim: int, epsilon: float, *, name: str = "LayerNorm", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.dim = dim
        self.epsilon = epsilon

    def build(self, input_shape: Any = None) -> None:
        """Create gamma and beta."""
        self.gamma = self.new_weight("gamma", (self.dim,), "scale", autocast=False)
        self.beta = self.new_weight("beta", (self.dim,), "shift", autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[... dim]` -> the same shape."""
        wide = self.wide_dtype
        values = tf.cast(x, wide)
        centred = values - tf.reduce_mean(values, -1, keepdims=True)
        variance = tf.reduce_mean(centred * centred, -1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + tf.constant(self.epsilon, wide))
        return tf.cast(scaled * tf.cast(self.gamma, wide) + tf.cast(self.beta, wide), x.dtype)


class Dropout(keras.layers.Dropout):
    """Dropout with TensorFlow's stateful random numbers, which cost a third of Keras's stateless ones on a CPU.

    Programs look for layers of Keras's class to set their `rate`.
    """

    def __init__(self, rate: float, *, name: str = "dropout", dtype: Any = None) -> None:
        super().__init__(0.0, name=name, dtype=dtype)  # for a rate above 0 Keras keeps a state of its random numbers
        self.rate = rate
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """X with every element zeroed at the rate and the others scaled up, while training."""
        return tf.nn.dropout(x, self.rate) if training and self.rate > 0 else x
