"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa and CamemBERT, which differ by name alone."""

from __future__ import annotations

from typing import ClassVar

from bertconv.config import CamembertConfig, Config, RobertaConfig, XLMRobertaConfig
from bertconv.models.blocks import Embeddings, Encoder, Pooler
from bertconv.models.body import MainLayer
from bertconv.models.heads.base import Base, derive
from bertconv.models.heads.tuned import (
    DeepSequenceClassification,
    MultipleChoice,
    QuestionAnswering,
    TokenClassification,
)
from bertconv.models.heads.words import CausalLM, LMHead, MaskedLM
from bertconv.models.settings import Settings


class TFRobertaMainLayer(MainLayer, is_family=True):
    """RoBERTa without a head, as a Keras layer of its own; positions are counted from the ids, behind the padding's."""

    config_class: ClassVar[type[Config]] = RobertaConfig
    base_name = "roberta"

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """See MainLayer."""
        self.encoder = Encoder(settings)
        self.pooler = Pooler(settings) if add_pooling_layer else None
        self.embeddings = Embeddings(settings, from_ids=True)


class TFRobertaPreTrainedModel(LMHead):
    """The base of every RoBERTa: subclass it for a head of your own, with a TFRobertaMainLayer as `self.roberta`."""

    config_class: ClassVar[type[Config]] = RobertaConfig
    main_layer = TFRobertaMainLayer
    base_model_prefix = "roberta"


class TFRobertaModel(Base, TFRobertaPreTrainedModel, is_head=True):
    """The body without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""


class TFRobertaForMaskedLM(MaskedLM, TFRobertaPreTrainedModel, is_head=True):
    """Predicts masked words."""


class TFRobertaForCausalLM(CausalLM, TFRobertaPreTrainedModel, is_head=True):
    """A decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""


class TFRobertaForSequenceClassification(DeepSequenceClassification, TFRobertaPreTrainedModel, is_head=True):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""


class TFRobertaForMultipleChoice(MultipleChoice, TFRobertaPreTrainedModel, is_head=True):
    """Chooses one of several continuations."""

    dropout_keys = ("hidden_dropout_prob",)


class TFRobertaForTokenClassification(TokenClassification, TFRobertaPreTrainedModel, is_head=True):
    """Classifies tokens."""


class TFRobertaForQuestionAnswering(QuestionAnswering, TFRobertaPreTrainedModel, is_head=True):
    """Finds where an answer starts and ends."""


class TFXLMRobertaMainLayer(TFRobertaMainLayer, is_family=True):
    """XLM-RoBERTa without a head, as a Keras layer of its own."""

    config_class = XLMRobertaConfig


class TFXLMRobertaPreTrainedModel(TFRobertaPreTrainedModel):
    """The base of every XLM-RoBERTa."""

    config_class = XLMRobertaConfig
    main_layer = TFXLMRobertaMainLayer


class TFCamembertMainLayer(TFRobertaMainLayer, is_family=True):
    """CamemBERT without a head, as a Keras layer of its own."""

    config_class = CamembertConfig


class TFCamembertPreTrainedModel(TFRobertaPreTrainedModel):
    """The base of every CamemBERT."""

    config_class = CamembertConfig
    main_layer = TFCamembertMainLayer


TFXLMRobertaModel = derive(TFRobertaModel, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForMaskedLM = derive(TFRobertaForMaskedLM, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForCausalLM = derive(TFRobertaForCausalLM, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForSequenceClassification = derive(TFRobertaForSequenceClassification, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForMultipleChoice = derive(TFRobertaForMultipleChoice, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForTokenClassification = derive(TFRobertaForTokenClassification, TFXLMRobertaPreTrainedModel)
TFXLMRobertaForQuestionAnswering = derive(TFRobertaForQuestionAnswering, TFXLMRobertaPreTrainedModel)
TFCamembertModel = derive(TFRobertaModel, TFCamembertPreTrainedModel)
TFCamembertForMaskedLM = derive(TFRobertaForMaskedLM, TFCamembertPreTrainedModel)
TFCamembertForCausalLM = derive(TFRobertaForCausalLM, TFCamembertPreTrainedModel)
TFCamembertForSequenceClassification = derive(TFRobertaForSequenceClassification, TFCamembertPreTrainedModel)
TFCamembertForMultipleChoice = derive(TFRobertaForMultipleChoice, TFCamembertPreTrainedModel)
TFCamembertForTokenClassification = derive(TFRobertaForTokenClassification, TFCamembertPreTrainedModel)
TFCamembertForQuestionAnswering = derive(TFRobertaForQuestionAnswering, TFCamembertPreTrainedModel)
