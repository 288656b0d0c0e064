"""ALBERT (Lan et al. 2019, arXiv:1909.11942): layers share weights by groups, embeddings have a size of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from bertconv.config import AlbertConfig
from bertconv.models import blocks
from bertconv.models.activations import activation
from bertconv.models.attention import Attended, SelfAttention
from bertconv.models.body import MainLayer
from bertconv.models.heads.base import Base
from bertconv.models.heads.layers import DenseWordScores
from bertconv.models.heads.tuned import MultipleChoice, QuestionAnswering, SequenceClassification, TokenClassification
from bertconv.models.heads.words import MaskedLM, PreTraining
from bertconv.models.layers import BaseLayer
from bertconv.models.outputs import TFAlbertForPreTrainingOutput
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.replacing import run
from bertconv.models.settings import Settings


class _Attention(SelfAttention):
    """Self-attention with its output's map, dropout, the residual and layer normalisation inside."""

    def __init__(self, settings: Settings, at: str) -> None:
        names = ("query", "key", "value", "dense")
        super().__init__(settings, at=at, names=names, relative=settings.relative, name="attention")
        self.LayerNorm = blocks.norm(settings, f"{at}attention_norm")
        self.output_dropout = blocks.dropout(settings)


class _Layer(blocks.EncoderLayer):
    """One layer."""

    def make_layers(self, settings: Settings, at: str) -> None:
        """See EncoderLayer."""
        hidden, wide = settings.hidden, settings.ffn
        self.attention = _Attention(settings, at)
        self.ffn = blocks.linear(settings, hidden, wide, "ffn", f"{at}ffn_in")
        self.ffn_output = blocks.linear(settings, wide, hidden, "ffn_output", f"{at}ffn_out")
        self.full_layer_layer_norm = blocks.norm(settings, f"{at}ffn_norm", "full_layer_layer_norm")
        self.act_fn = activation(settings.activation)
        self.dropout = blocks.dropout(settings)

    def attend(
        self, hidden: tf.Tensor, context: blocks.Context, head_mask: tf.Tensor | None, past: Any
    ) -> tuple[tf.Tensor, Attended]:
        """See EncoderLayer."""
        own, training = self.attention, context.training
        attended = run(own, hidden, context.size, context.bias, head_mask, past=past, training=training)
        return blocks.added(attended.context, hidden, own.output_dropout, own.LayerNorm, training=training), attended

    def feed(self, hidden: tf.Tensor, training: bool) -> tf.Tensor:
        """See EncoderLayer."""
        fed = run(self.ffn_output, self.act_fn(run(self.ffn, hidden)))
        return blocks.added(fed, hidden, self.dropout, self.full_layer_layer_norm, training=training)


class _Group(BaseLayer):
    """The layers of one group, which are run one after the other."""

    def __init__(self, settings: Settings, number: int, layer: type[blocks.EncoderLayer]) -> None:
        super().__init__(name=f"albert_layer_groups_._{number}", dtype=settings.dtype)
        self.albert_layers = [
            layer(settings, at=f"layer.{number}.{inner}.", name=f"albert_layers_._{inner}")
            for inner in range(settings.inner)
        ]


class _Encoder(blocks.Encoder):
    """The map from the embeddings' size, and the groups, each of which serves several layers of the config."""

    def make_shared(self, settings: Settings) -> None:
        """See Encoder."""
        self.embedding_hidden_mapping_in = blocks.linear(
            settings, settings.embedding, settings.hidden, "embedding_hidden_mapping_in", "project.dense"
        )

    def make_layers(self, settings: Settings, layer: type[blocks.EncoderLayer]) -> None:
        """See Encoder."""
        self.inner = settings.inner
        self.albert_layer_groups = [_Group(settings, number, layer) for number in range(settings.groups)]
        # As PyTorch counts them: where the groups do not divide the layers, the quotient is no whole number.
        self.order = [int(number / (settings.layers / settings.groups)) for number in range(settings.layers)]

    def steps(self) -> Sequence[Any]:
        """See Encoder."""
        return [layer for group in self.order for layer in self.albert_layer_groups[group].albert_layers]


class TFAlbertMainLayer(MainLayer, is_family=True):
    """ALBERT without a head, as a Keras layer of its own.

    There is one of `hidden_states` for each layer of the config and one of `attentions` for each layer that is run,
    which are `inner_group_num` times as many; a row of `head_mask` is for a layer of the config.
    """

    config_class = AlbertConfig
    base_name = "albert"
    is_cached = False

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        hidden = settings.hidden
        self.embeddings = blocks.Embeddings(settings)
        self.encoder = _Encoder(settings, layer=_Layer)
        self.pooler = blocks.linear(settings, hidden, hidden, "pooler", "pooler.dense") if add_pooling_layer else None

    def project(self, embedded: tf.Tensor) -> tf.Tensor:
        """See MainLayer."""
        return run(self.encoder.embedding_hidden_mapping_in, embedded)

    def pool(self, hidden: tf.Tensor) -> tf.Tensor | None:
        """See MainLayer."""
        return None if self.pooler is None else tf.tanh(run(self.pooler, hidden[:, 0]))


class _SentenceOrder(BaseLayer):
    """Dropout and a linear map of the pooled states."""

    def __init__(self, settings: Settings, rate: float) -> None:
        super().__init__(name="sop_classifier", dtype=settings.dtype)
        self.dropout = blocks.dropout(settings, rate)
        self.classifier = blocks.linear(settings, settings.hidden, settings.labels, "classifier", "sop.dense")

    def call(self, pooled: tf.Tensor, training: bool = False) -> tf.Tensor:
        """pooled: `[batch hidden]` -> `[batch labels]`."""
        return run(self.classifier, run(self.dropout, pooled, training=training))


class TFAlbertPreTrainedModel(TFPreTrainedModel):
    """The base of every ALBERT: subclass it for a head of your own, with a TFAlbertMainLayer as `self.albert`.

    The bias of the predicted words is one variable here. TensorFlow's files hold it twice, and `predictions/decoder/
    bias` is the one that transformers computed with and that is read.
    """

    config_class = AlbertConfig
    main_layer = TFAlbertMainLayer
    base_model_prefix = "albert"

    def make_words(self, settings: Settings) -> None:
        """See TFPreTrainedModel."""
        self.predictions = DenseWordScores(settings, norm_name="LayerNorm", name="predictions")

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """See TFPreTrainedModel."""
        return self.predictions(hidden, self.albert.embeddings.weight)

    def get_lm_head(self) -> Any:
        """See TFPreTrainedModel."""
        return getattr(self, "predictions", None)


class TFAlbertModel(Base, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""


class TFAlbertForPreTraining(PreTraining, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT as it is pretrained: masked words and the order of sentences."""

    label_names: ClassVar = ("labels", "sentence_order_label")
    label_outputs: ClassVar = {"labels": "prediction_logits", "sentence_order_label": "sop_logits"}
    output_class = TFAlbertForPreTrainingOutput
    call_doc = """prediction_logits: `[batch sequence vocab]`, sop_logits: `[batch labels]`; see the main layer.

    Args:
        labels: words to predict, -100 where none: `[batch sequence]`.
        sentence_order_label: 0 where the sentences stand in their order, 1 where they were swapped: `[batch]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.make_words(settings)
        self.make_sentences(settings)

    def make_sentences(self, settings: Settings) -> None:
        """See Sentences."""
        self.sop_classifier = _SentenceOrder(settings, float(self.config.values["classifier_dropout_prob"] or 0))

    def score_sentences(self, outputs: Any, training: bool) -> Any:
        """See Sentences."""
        return self.sop_classifier(outputs.pooler_output, training=training)


class TFAlbertForMaskedLM(MaskedLM, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT that predicts masked words."""


class TFAlbertForSequenceClassification(SequenceClassification, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT that classifies sequences: one label, several labels, or a number, as `problem_type` says."""

    dropout_keys = ("classifier_dropout_prob", "hidden_dropout_prob")


class TFAlbertForMultipleChoice(MultipleChoice, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT that chooses one of several continuations."""

    dropout_keys = ("classifier_dropout_prob", "hidden_dropout_prob")  # PyTorch's; TensorFlow's had the second alone


class TFAlbertForTokenClassification(TokenClassification, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT that classifies tokens."""

    dropout_keys = ("classifier_dropout_prob", "hidden_dropout_prob")


class TFAlbertForQuestionAnswering(QuestionAnswering, TFAlbertPreTrainedModel, is_head=True):
    """ALBERT that finds where an answer starts and ends."""
