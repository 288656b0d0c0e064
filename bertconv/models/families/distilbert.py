"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without token types and pooler, its heads with a map more."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.config import DistilBertConfig
from bertconv.models.activations import activation
from bertconv.models.attention import Attended, SelfAttention
from bertconv.models.blocks import Context, Embeddings, Encoder, EncoderLayer, dropout, linear, norm
from bertconv.models.body import MainLayer
from bertconv.models.heads import tuned
from bertconv.models.heads.base import Base
from bertconv.models.heads.layers import WordScores
from bertconv.models.heads.words import MaskedLM
from bertconv.models.layers import BaseLayer
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.replacing import run
from bertconv.models.settings import Settings


class _FeedForward(BaseLayer):
    """Both halves of the feed-forward layer, without its residual."""

    def __init__(self, settings: Settings, at: str) -> None:
        super().__init__(name="ffn", dtype=settings.dtype)
        self.lin1 = linear(settings, settings.hidden, settings.ffn, "lin1", f"{at}ffn_in")
        self.activation = activation(settings.activation)
        self.lin2 = linear(settings, settings.ffn, settings.hidden, "lin2", f"{at}ffn_out")
        self.dropout = dropout(settings)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x: `[rows hidden]` -> the same shape."""
        return run(self.dropout, run(self.lin2, self.activation(run(self.lin1, x))), training=training)


class _Layer(EncoderLayer):
    """One layer; there is no dropout between attention and its residual."""

    def make_layers(self, settings: Settings, at: str) -> None:
        """See EncoderLayer."""
        names = ("q_lin", "k_lin", "v_lin", "out_lin")
        self.attention = SelfAttention(settings, at=at, names=names, name="attention")
        self.sa_layer_norm = norm(settings, f"{at}attention_norm", "sa_layer_norm")
        self.ffn = _FeedForward(settings, at)
        self.output_layer_norm = norm(settings, f"{at}ffn_norm", "output_layer_norm")

    def attend(self, hidden: tf.Tensor, context: Context, head_mask: Any, past: Any) -> tuple[tf.Tensor, Attended]:
        """See EncoderLayer."""
        attended = run(
            self.attention, hidden, context.size, context.bias, head_mask, past=past, training=context.training
        )
        return run(self.sa_layer_norm, attended.context + hidden), attended

    def feed(self, hidden: tf.Tensor, training: bool) -> tf.Tensor:
        """See EncoderLayer."""
        return run(self.output_layer_norm, run(self.ffn, hidden, training=training) + hidden)


class TFDistilBertMainLayer(MainLayer, is_family=True):
    """DistilBERT without a head, as a Keras layer of its own: for functional models and models of your own."""

    config_class = DistilBertConfig
    base_name = "distilbert"
    model_inputs = ()
    is_cached = can_pool = False

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        self.embeddings = Embeddings(settings)
        self.encoder = Encoder(settings, layer=_Layer, name="transformer")

    @property
    def transformer(self) -> Encoder:
        """The layers, by the name that checkpoints give them."""
        encoder: Encoder = self.encoder
        return encoder


class TFDistilBertPreTrainedModel(TFPreTrainedModel):
    """The base of every DistilBERT: subclass it for a head of your own, with a main layer as `self.distilbert`."""

    config_class = DistilBertConfig
    main_layer = TFDistilBertMainLayer
    base_model_prefix = "distilbert"

    def make_words(self, settings: Settings) -> None:
        """See TFPreTrainedModel."""
        self.vocab_transform = linear(settings, settings.hidden, settings.hidden, "vocab_transform", "mlm.dense")
        self.act = activation(settings.activation)
        self.vocab_layer_norm = norm(settings, "mlm.norm", "vocab_layer_norm")
        self.vocab_projector = WordScores(settings, bias="mlm.decoder.bias", name="vocab_projector")

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """See TFPreTrainedModel."""
        states = self.vocab_layer_norm(self.act(self.vocab_transform(hidden)))
        return self.vocab_projector(states, self.distilbert.embeddings.weight)

    def get_lm_head(self) -> Any:
        """See TFPreTrainedModel."""
        return getattr(self, "vocab_projector", None)


class _FirstToken(tuned.Classifier):
    """Classifies by the first position, behind a linear map and ReLU."""

    is_pooled = False
    dropout_keys = ("seq_classif_dropout",)

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.pre_classifier = linear(settings, settings.hidden, settings.hidden, "pre_classifier", "before.dense")
        super().make_head(settings)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        states = tf.nn.relu(self.pre_classifier(outputs.last_hidden_state[:, 0]))
        return self.classifier(self.dropout(states, training=training))


class TFDistilBertModel(Base, TFDistilBertPreTrainedModel, is_head=True):
    """The body without a head: hidden states."""


class TFDistilBertForMaskedLM(MaskedLM, TFDistilBertPreTrainedModel, is_head=True):
    """Predicts masked words."""


class TFDistilBertForSequenceClassification(
    _FirstToken, tuned.SequenceClassification, TFDistilBertPreTrainedModel, is_head=True
):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""


class TFDistilBertForMultipleChoice(_FirstToken, tuned.MultipleChoice, TFDistilBertPreTrainedModel, is_head=True):
    """Chooses one of several continuations."""


class TFDistilBertForTokenClassification(tuned.TokenClassification, TFDistilBertPreTrainedModel, is_head=True):
    """Classifies tokens."""

    dropout_keys = ("hidden_dropout_prob",)


class TFDistilBertForQuestionAnswering(tuned.QuestionAnswering, TFDistilBertPreTrainedModel, is_head=True):
    """Finds where an answer starts and ends."""

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        super().make_head(settings)
        self.dropout = dropout(settings, float(self.config.values["qa_dropout"]))

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        states = self.dropout(outputs.last_hidden_state, training=training)
        return tf.unstack(self.qa_outputs(states), 2, axis=-1)
