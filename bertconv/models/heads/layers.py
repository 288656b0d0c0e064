"""Layers of heads that families share: scores of words, and classifiers of more than one linear map."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.models.activations import activation
from bertconv.models.blocks import dropout, linear, norm
from bertconv.models.layers import BaseLayer
from bertconv.models.replacing import run
from bertconv.models.settings import Settings

_DECODER = "mlm.decoder"
"""Neutral id of the map from states to scores of words."""


class WordScores(BaseLayer):
    """Scores of every word from hidden states: their product with the words' vectors, and a bias.

    The vectors are the embeddings or, when untied, its own: those of a `decoder` in here, or its own `kernel` where the
    table's decoder is this layer itself, bias and all. What comes before the product is `transform`, nothing here.

    Args:
        settings: of the model.
        width: size of the states that it is given; by default that of the hidden states.
        bias: neutral id of the bias.
        name: of the layer.
        act: name of the activation of what comes before; by default the config's.
        norm_name: name of its layer normalisation.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        width: int | None = None,
        bias: str = "mlm.bias.value",
        act: str | None = None,
        norm_name: str = "layer_norm",
        name: str,
    ) -> None:
        super().__init__(name=name, dtype=settings.dtype, spread=settings.spread)
        self.width = width or settings.hidden
        self.units = settings.vocab
        self.bias_module, _, self.bias_role = bias.rpartition(".")
        self.make_transform(settings, act or settings.activation, norm_name)
        self.decoder: Any = None
        self.kernel: Any = None
        self.inputs = settings.embedding
        self.has_kernel = not settings.is_tied and self.bias_module == _DECODER
        if not settings.is_tied and not self.has_kernel:
            self.decoder = linear(settings, settings.embedding, settings.vocab, "decoder", _DECODER)

    def make_transform(self, settings: Settings, act: str, norm_name: str) -> None:
        """Make the layers before the product."""

    def transformed(self, rows: tf.Tensor) -> tf.Tensor:
        """States as they are multiplied with the words' vectors: `[rows width]` -> `[rows embedding]`."""
        return rows

    def build(self, input_shape: Any = None) -> None:
        """Create the kernel, where there is one, the bias and the layers."""
        if self.has_kernel:
            self.kernel = self.new_weight("kernel", (self.inputs, self.units), "weight", module=_DECODER)
        self.bias = self.new_weight("bias", (self.units,), self.bias_role, module=self.bias_module)
        super().build()

    def call(self, hidden: tf.Tensor, words: Any) -> tf.Tensor:
        """hidden: `[batch sequence width]`, words: `[vocab embedding]` -> `[batch sequence vocab]`."""
        rows = self.transformed(tf.reshape(hidden, [-1, self.width]))
        if self.decoder is not None:
            scores = run(self.decoder, rows)
        elif self.kernel is not None:
            scores = tf.nn.bias_add(tf.matmul(rows, self.kernel), self.bias)
        else:
            vectors = tf.cast(words.value, rows.dtype)
            scores = tf.nn.bias_add(tf.matmul(rows, vectors, transpose_b=True), self.bias)
        return tf.reshape(scores, tf.concat([tf.shape(hidden)[:2], tf.shape(scores)[1:]], 0))


class DenseWordScores(WordScores):
    """WordScores behind a linear map, an activation and layer normalisation, all in one layer."""

    def make_transform(self, settings: Settings, act: str, norm_name: str) -> None:
        """See WordScores."""
        self.transform_act_fn = activation(act)
        self.dense = linear(settings, settings.hidden, settings.embedding, "dense", "mlm.dense")
        self.layer_norm = norm(settings, "mlm.norm", norm_name, settings.embedding)

    def transformed(self, rows: tf.Tensor) -> tf.Tensor:
        """See WordScores."""
        return run(self.layer_norm, self.transform_act_fn(run(self.dense, rows)))


class Transform(BaseLayer):
    """A linear map, an activation and layer normalisation, as a layer of their own.

    Args:
        settings: of the model.
        act: name of the activation; by default the config's.
        name: of the layer.
    """

    def __init__(self, settings: Settings, *, act: str | None = None, name: str = "transform") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, settings.hidden, settings.embedding, "dense", "mlm.dense")
        self.transform_act_fn = activation(act or settings.activation)
        self.LayerNorm = norm(settings, "mlm.norm", dim=settings.embedding)

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[... hidden]` -> `[... embedding]`."""
        return run(self.LayerNorm, self.transform_act_fn(run(self.dense, hidden)))


class FirstTokenClassifier(BaseLayer):
    """Dropout, a linear map, an activation, dropout and a second map, of the first position.

    Args:
        settings: of the model.
        rate: of dropout.
        act: name of the activation.
        name: of the layer.
    """

    def __init__(self, settings: Settings, *, rate: float, act: str = "tanh", name: str = "classifier") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, settings.hidden, settings.hidden, "dense", "sequence.dense")
        self.dropout = dropout(settings, rate)
        self.act_fn = activation(act)
        self.out_proj = linear(settings, settings.hidden, settings.labels, "out_proj", "sequence.out")

    def call(self, hidden: tf.Tensor, training: bool = False) -> tf.Tensor:
        """hidden: `[batch sequence hidden]` -> `[batch labels]`."""
        first = run(self.dropout, hidden[:, 0], training=training)
        inner = run(self.dropout, self.act_fn(run(self.dense, first)), training=training)
        return run(self.out_proj, inner)
