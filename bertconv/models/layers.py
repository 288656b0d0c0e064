"""What BERT's layers are made of: linear maps, embeddings, layer normalisation, dropout. Sizes are known beforehand.

Inside the encoder hidden states are a matrix `[rows hidden]`, rows being batch x sequence.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.models.memory import Fresh
from bertconv.models.replacing import Replaceable

HALF = ("float16", "bfloat16")


class BertLayer(Replaceable, keras.layers.Layer):
    """A layer that builds itself and its layers, in the order in which they were assigned, from the config alone.

    Args:
        config: of the model.
        name: as in the variables' paths.
        dtype: Keras dtype policy.
    """

    def __init__(self, config: BertConfig, *, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.config = config
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
        """Create every weight."""
        for layer in self._flatten_layers(include_self=False, recursive=False):
            if not layer.built:
                layer.build()

    @property
    def wide_dtype(self) -> str:
        """Element type of sums over many numbers: float32 where the layer computes in half precision."""
        return "float32" if self.compute_dtype in HALF else str(self.compute_dtype)

    def new_weight(self, name: str, shape: tuple[int, ...], initializer: str, *, autocast: bool = True) -> Any:
        """A variable; "normal" is truncated at two standard deviations of `initializer_range`."""
        inner = keras.initializers.get(initializer) if initializer != "normal" else self.normal()
        weight = self.add_weight(name=name, shape=shape, initializer=Fresh(inner), autocast=autocast)
        weight.role = name  # what `fresh_values` starts it as, when a checkpoint lacks it
        return weight

    def normal(self) -> keras.initializers.Initializer:
        """Initial weights as BERT draws them (google-research/bert, modeling.py)."""
        return keras.initializers.TruncatedNormal(stddev=float(self.config.values["initializer_range"]))


class Linear(BertLayer):
    """`x @ kernel + bias`; kernel: `[in out]`, bias: `[out]`."""

    def __init__(self, config: BertConfig, inputs: int, units: int, *, name: str, dtype: Any) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.inputs = inputs
        self.units = units

    def build(self, input_shape: Any = None) -> None:
        """Create kernel and bias."""
        self.kernel = self.new_weight("kernel", (self.inputs, self.units), "normal")
        self.bias = self.new_weight("bias", (self.units,), "zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[... in]` -> `[... out]`."""
        if x.shape.rank == 2:
            return tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)
        rows = tf.reshape(x, [-1, self.inputs])
        out = tf.nn.bias_add(tf.matmul(rows, self.kernel), self.bias)
        return tf.reshape(out, tf.concat([tf.shape(x)[:-1], [self.units]], 0))


class Embedding(BertLayer):
    """A table of vectors: `[rows dim]`, under the name that the checkpoint format gives it.

    Args:
        config: of the model.
        rows: number of vectors.
        dim: size of each.
        leaf: name of the variable.
        name: of the layer.
        dtype: Keras dtype policy.
        padding: row whose vector gets no gradient, as PyTorch's `padding_idx`.
    """

    def __init__(
        self,
        config: BertConfig,
        rows: int,
        dim: int,
        *,
        leaf: str = "embeddings",
        name: str,
        dtype: Any,
        padding: int | None = None,
    ) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.rows = rows
        self.dim = dim
        self.leaf = leaf
        self.padding = padding

    def build(self, input_shape: Any = None) -> None:
        """Create the table."""
        # Cast after the look-up, not before it: the table is large.
        self.table = self.new_weight(self.leaf, (self.rows, self.dim), "normal", autocast=False)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """ids: `[...]` -> `[... dim]`."""
        return tf.cast(_look_up(self.table.value, ids, self.padding), self.compute_dtype)

    def first(self, start: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """The rows from `start`: `[count dim]`."""
        return tf.cast(self.table.value[start : start + count], self.compute_dtype)


def _look_up(table: tf.Tensor, ids: tf.Tensor, padding: int | None) -> tf.Tensor:
    """Rows of a table: `[rows dim]`, `[...]` -> `[... dim]`; the gradient has the table's shape.

    TensorFlow's own gradient lists a row as often as it was looked up, and Keras's Adam squares each of them by itself.
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


class LayerNorm(BertLayer):
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450); gamma, beta: `[dim]`."""

    def __init__(self, config: BertConfig, *, name: str = "LayerNorm", dtype: Any) -> None:
        super().__init__(config, name=name, dtype=dtype)

    def build(self, input_shape: Any = None) -> None:
        """Create gamma and beta."""
        size = (int(self.config.values["hidden_size"]),)
        self.gamma = self.new_weight("gamma", size, "ones", autocast=False)
        self.beta = self.new_weight("beta", size, "zeros", autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x: `[... dim]` -> the same shape."""
        wide = self.wide_dtype
        values = tf.cast(x, wide)
        centred = values - tf.reduce_mean(values, -1, keepdims=True)
        variance = tf.reduce_mean(centred * centred, -1, keepdims=True)
        epsilon = tf.constant(float(self.config.values["layer_norm_eps"]), wide)
        scaled = centred * tf.math.rsqrt(variance + epsilon)
        return tf.cast(scaled * tf.cast(self.gamma, wide) + tf.cast(self.beta, wide), x.dtype)


class Dropout(keras.layers.Layer):
    """Dropout with TensorFlow's stateful random numbers, which cost a third of Keras's stateless ones on a CPU."""

    def __init__(self, rate: float, *, name: str = "dropout", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.rate = rate
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """X with every element zeroed at the rate and the others scaled up, while training."""
        return tf.nn.dropout(x, self.rate) if training and self.rate > 0 else x
