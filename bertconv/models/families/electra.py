"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): embeddings of a size of their own, no pooler, a discriminator."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.config import ElectraConfig
from bertconv.models.activations import activation
from bertconv.models.blocks import Embeddings, Encoder, linear, norm
from bertconv.models.body import MainLayer
from bertconv.models.heads.base import Base
from bertconv.models.heads.layers import DECODER, WordScores
from bertconv.models.heads.tuned import (
    DeepSequenceClassification,
    Discriminator,
    QuestionAnswering,
    SummarisedMultipleChoice,
    TokenClassification,
)
from bertconv.models.heads.words import CausalLM, MaskedLM
from bertconv.models.layers import BaseLayer
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.replacing import run
from bertconv.models.settings import Settings


class TFElectraMainLayer(MainLayer, is_family=True):
    """ELECTRA without a head, as a Keras layer of its own; embeddings are projected where their size differs."""

    config_class = ElectraConfig
    base_name = "electra"
    can_pool = False

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        sizes = settings.embedding, settings.hidden
        self.embeddings = Embeddings(settings)
        self.embeddings_project = None
        if sizes[0] != sizes[1]:
            self.embeddings_project = linear(settings, *sizes, "embeddings_project", "project.dense")
        self.encoder = Encoder(settings)

    def project(self, embedded: tf.Tensor) -> tf.Tensor:
        """See MainLayer."""
        return embedded if self.embeddings_project is None else run(self.embeddings_project, embedded)


class TFElectraGeneratorPredictions(BaseLayer):
    """A linear map to the size of the embeddings, gelu whatever the config says, and layer normalisation."""

    def __init__(self, settings: Settings, *, name: str = "generator_predictions") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.LayerNorm = norm(settings, "mlm.norm", dim=settings.embedding)
        self.dense = linear(settings, settings.hidden, settings.embedding, "dense", "mlm.dense")
        self.act_fn = activation("gelu")

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[... hidden]` -> `[... embedding]`."""
        return run(self.LayerNorm, self.act_fn(run(self.dense, hidden)))


class TFElectraDiscriminatorPredictions(BaseLayer):
    """A linear map, the activation and a map to one number per position."""

    def __init__(self, settings: Settings, *, name: str = "discriminator_predictions") -> None:
        super().__init__(name=name, dtype=settings.dtype)
        self.dense = linear(settings, settings.hidden, settings.hidden, "dense", "discriminator.dense")
        self.dense_prediction = linear(settings, settings.hidden, 1, "dense_prediction", "discriminator.out")
        self.act_fn = activation(settings.activation)

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[batch sequence hidden]` -> `[batch sequence]`."""
        return tf.squeeze(run(self.dense_prediction, self.act_fn(run(self.dense, hidden))), -1)


class TFElectraPreTrainedModel(TFPreTrainedModel):
    """The base of every ELECTRA: subclass it for a head of your own, with a TFElectraMainLayer as `self.electra`."""

    config_class = ElectraConfig
    main_layer = TFElectraMainLayer
    base_model_prefix = "electra"

    def make_words(self, settings: Settings) -> None:
        """See TFPreTrainedModel."""
        self.generator_predictions = TFElectraGeneratorPredictions(settings)
        self.generator_lm_head = WordScores(
            settings, width=settings.embedding, bias=f"{DECODER}.bias", name="generator_lm_head"
        )

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """See TFPreTrainedModel."""
        return self.generator_lm_head(self.generator_predictions(hidden), self.electra.embeddings.weight)

    def get_lm_head(self) -> Any:
        """See TFPreTrainedModel."""
        return getattr(self, "generator_lm_head", None)


class TFElectraModel(Base, TFElectraPreTrainedModel, is_head=True):
    """ELECTRA without a head: hidden states."""


class TFElectraForPreTraining(Discriminator, TFElectraPreTrainedModel, is_head=True):
    """The discriminator: tells which tokens were replaced."""

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.discriminator_predictions = TFElectraDiscriminatorPredictions(settings)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        return self.discriminator_predictions(outputs.last_hidden_state)


class TFElectraForMaskedLM(MaskedLM, TFElectraPreTrainedModel, is_head=True):
    """The generator: predicts masked words."""


class TFElectraForCausalLM(CausalLM, TFElectraPreTrainedModel, is_head=True):
    """A decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""


class TFElectraForSequenceClassification(DeepSequenceClassification, TFElectraPreTrainedModel, is_head=True):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""

    classifier_act = "gelu"


class TFElectraForMultipleChoice(SummarisedMultipleChoice, TFElectraPreTrainedModel, is_head=True):
    """Chooses one of several continuations, by one vector for each of them as the config's `summary_...` say."""


class TFElectraForTokenClassification(TokenClassification, TFElectraPreTrainedModel, is_head=True):
    """Classifies tokens."""


class TFElectraForQuestionAnswering(QuestionAnswering, TFElectraPreTrainedModel, is_head=True):
    """Finds where an answer starts and ends."""
