"""Layers of heads that families share: scores of words, and classifiers of more than one linear map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from bertconv.errors import UnsupportedCheckpoint
from bertconv.models.activations import activation
from bertconv.models.blocks import dropout, linear, norm
from bertconv.models.layers import BaseLayer
from bertconv.models.replacing import run
from bertconv.models.settings import Settings

SUMMARIES: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "first": lambda hidden: hidden[:, 0],
    "last": lambda hidden: hidden[:, -1],
    "cls_index": lambda hidden: hidden[:, -1],  # of the position that is given, and our heads are given none
    "mean": lambda hidden: tf.reduce_mean(hidden, 1),  # padding included, as in PyTorch
}
"""Values of `summary_type`: `[batch sequence hidden]` -> `[batch hidden]`."""

DECODER = "mlm.decoder"
"""The module of the words' output vectors in every family's table."""


class WordScores(BaseLayer):
    """Scores of every word from hidden states: their product with the words' vectors, and a bias.

    The vectors are the embeddings. Untied they are its own: those of a `decoder`, or where the bias is the decoder's
    already, so that the layer is the decoder itself, its `kernel`. What comes before the product is `transform`,
    nothing here.

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
        self.embedding, self.is_tied = settings.embedding, settings.is_tied
        self.make_transform(settings, act or settings.activation, norm_name)
        self.decoder: Any = None
        self.kernel: Any = None
        if not self.is_tied and not self.is_decoder:
            self.decoder = linear(settings, settings.embedding, settings.vocab, "decoder", DECODER)

    @property
    def is_decoder(self) -> bool:
        """Whether the layer is the decoder itself, with its bias."""
        return self.bias_module == DECODER

    @property
    def vectors(self) -> Any:
        """The layer that holds the words' vectors when they are untied; None when they are the embeddings."""
        return self.decoder if self.kernel is None else self

    def make_transform(self, settings: Settings, act: str, norm_name: str) -> None:
        """Make the layers before the product."""

    def transformed(self, rows: tf.Tensor) -> tf.Tensor:
        """States as they are multiplied with the words' vectors: `[rows width]` -> `[rows embedding]`."""
        return rows

    def build(self, input_shape: Any = None) -> None:
        """Create the bias, the layers and, where it has one, the kernel."""
        if not self.is_tied and self.is_decoder:
            self.kernel = self.new_weight("kernel", (self.embedding, self.units), "weight", module=DECODER)
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


class SequenceSummary(BaseLayer):
    """One vector for a sequence: that of one position or the mean of all, a linear map, an activation, dropout.

    Args:
        settings: of the model.
        values: of its config, of which those that begin with `summary_` say what is done.
        module: neutral id of the map.
        name: of the layer.

    Raises:
        UnsupportedCheckpoint: a `summary_type` that is none of `SUMMARIES`.
    """

    def __init__(
        self, settings: Settings, values: Mapping[str, Any], *, module: str, name: str = "sequence_summary"
    ) -> None:
        super().__init__(name=name, dtype=settings.dtype)
        if values["summary_type"] not in SUMMARIES:
            raise UnsupportedCheckpoint(
                f"summary_type is {values['summary_type']!r}.", hint=f"Known are {', '.join(SUMMARIES)}."
            )
        self.summarised = SUMMARIES[values["summary_type"]]
        self.summary: Any = None
        if values["summary_use_proj"]:
            self.summary = linear(settings, settings.hidden, settings.hidden, "summary", module)
        self.act_fn = activation(values["summary_activation"] or "linear")
        rates = (float(values.get(f"summary_{place}_dropout") or 0) for place in ("first", "last"))
        self.first_dropout, self.last_dropout = (dropout(settings, rate) if rate else None for rate in rates)

    def call(self, hidden: tf.Tensor, training: bool = False) -> tf.Tensor:
        """hidden: `[batch sequence hidden]` -> `[batch hidden]`."""
        found = self.summarised(hidden)
        if self.first_dropout is not None:
            found = run(self.first_dropout, found, training=training)
        found = self.act_fn(found if self.summary is None else run(self.summary, found))
        return found if self.last_dropout is None else run(self.last_dropout, found, training=training)


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
