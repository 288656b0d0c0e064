"""Turns any BERT checkpoint into any other, and proves that nothing changed.

Everything public is here and is imported when it is first used: `import bertconv` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bertconv.catalog import Catalog
    from bertconv.config import (
        AlbertConfig,
        BertConfig,
        CamembertConfig,
        DistilBertConfig,
        ElectraConfig,
        MPNetConfig,
        RobertaConfig,
        RobertaPreLayerNormConfig,
        XLMRobertaConfig,
    )
    from bertconv.config.auto import AutoConfig
    from bertconv.convert import convert_checkpoint
    from bertconv.errors import BertconvError
    from bertconv.inspection import Inspection, inspect_checkpoint
    from bertconv.manage.adapter import merge_adapter
    from bertconv.manage.attach import attach_head
    from bertconv.manage.average import average_checkpoints
    from bertconv.manage.cast import cast_checkpoint
    from bertconv.manage.diff import diff_checkpoints
    from bertconv.manage.difference.records import Diff
    from bertconv.manage.doctor import Diagnosis, Finding, diagnose
    from bertconv.manage.extract import extract_checkpoint
    from bertconv.manage.gc import Leftovers, collect_leftovers
    from bertconv.manage.hash import Digest, model_digest
    from bertconv.manage.history import Graph, lineage
    from bertconv.manage.layers import keep_layers
    from bertconv.manage.merge import merge_checkpoints
    from bertconv.manage.pull import Pull, pull_checkpoint
    from bertconv.manage.push import Push, push_checkpoint
    from bertconv.manage.resize import Resized, resize_vocabulary
    from bertconv.manage.shard import shard_checkpoint, unshard_checkpoint
    from bertconv.models.auto import (
        TFAutoModel,
        TFAutoModelForCausalLM,
        TFAutoModelForMaskedLM,
        TFAutoModelForMultipleChoice,
        TFAutoModelForNextSentencePrediction,
        TFAutoModelForPreTraining,
        TFAutoModelForQuestionAnswering,
        TFAutoModelForSequenceClassification,
        TFAutoModelForTokenClassification,
        TFAutoModelWithLMHead,
    )
    from bertconv.models.base_outputs import (
        TFBaseModelOutput,
        TFBaseModelOutputWithCrossAttentions,
        TFBaseModelOutputWithPast,
        TFBaseModelOutputWithPastAndCrossAttentions,
        TFBaseModelOutputWithPooling,
        TFCausalLMOutput,
        TFCausalLMOutputWithPast,
        TFSequenceClassifierOutputWithPast,
    )
    from bertconv.models.calls import unpack_inputs
    from bertconv.models.families.albert import (
        TFAlbertForMaskedLM,
        TFAlbertForMultipleChoice,
        TFAlbertForPreTraining,
        TFAlbertForQuestionAnswering,
        TFAlbertForSequenceClassification,
        TFAlbertForTokenClassification,
        TFAlbertMainLayer,
        TFAlbertModel,
        TFAlbertPreTrainedModel,
    )
    from bertconv.models.families.bert import (
        TFBertEmbeddings,
        TFBertForMaskedLM,
        TFBertForMultipleChoice,
        TFBertForNextSentencePrediction,
        TFBertForPreTraining,
        TFBertForQuestionAnswering,
        TFBertForSequenceClassification,
        TFBertForTokenClassification,
        TFBertLMHeadModel,
        TFBertMainLayer,
        TFBertModel,
        TFBertPreTrainedModel,
    )
    from bertconv.models.families.distilbert import (
        TFDistilBertForMaskedLM,
        TFDistilBertForMultipleChoice,
        TFDistilBertForQuestionAnswering,
        TFDistilBertForSequenceClassification,
        TFDistilBertForTokenClassification,
        TFDistilBertMainLayer,
        TFDistilBertModel,
        TFDistilBertPreTrainedModel,
    )
    from bertconv.models.families.electra import (
        TFElectraForCausalLM,
        TFElectraForMaskedLM,
        TFElectraForMultipleChoice,
        TFElectraForPreTraining,
        TFElectraForQuestionAnswering,
        TFElectraForSequenceClassification,
        TFElectraForTokenClassification,
        TFElectraMainLayer,
        TFElectraModel,
        TFElectraPreTrainedModel,
    )
    from bertconv.models.families.mpnet import (
        TFMPNetForMaskedLM,
        TFMPNetForMultipleChoice,
        TFMPNetForQuestionAnswering,
        TFMPNetForSequenceClassification,
        TFMPNetForTokenClassification,
        TFMPNetMainLayer,
        TFMPNetModel,
        TFMPNetPreTrainedModel,
    )
    from bertconv.models.families.roberta import (
        TFCamembertForCausalLM,
        TFCamembertForMaskedLM,
        TFCamembertForMultipleChoice,
        TFCamembertForQuestionAnswering,
        TFCamembertForSequenceClassification,
        TFCamembertForTokenClassification,
        TFCamembertMainLayer,
        TFCamembertModel,
        TFCamembertPreTrainedModel,
        TFRobertaForCausalLM,
        TFRobertaForMaskedLM,
        TFRobertaForMultipleChoice,
        TFRobertaForQuestionAnswering,
        TFRobertaForSequenceClassification,
        TFRobertaForTokenClassification,
        TFRobertaMainLayer,
        TFRobertaModel,
        TFRobertaPreTrainedModel,
        TFXLMRobertaForCausalLM,
        TFXLMRobertaForMaskedLM,
        TFXLMRobertaForMultipleChoice,
        TFXLMRobertaForQuestionAnswering,
        TFXLMRobertaForSequenceClassification,
        TFXLMRobertaForTokenClassification,
        TFXLMRobertaMainLayer,
        TFXLMRobertaModel,
        TFXLMRobertaPreTrainedModel,
    )
    from bertconv.models.families.roberta_prelayernorm import (
        TFRobertaPreLayerNormForCausalLM,
        TFRobertaPreLayerNormForMaskedLM,
        TFRobertaPreLayerNormForMultipleChoice,
        TFRobertaPreLayerNormForQuestionAnswering,
        TFRobertaPreLayerNormForSequenceClassification,
        TFRobertaPreLayerNormForTokenClassification,
        TFRobertaPreLayerNormMainLayer,
        TFRobertaPreLayerNormModel,
        TFRobertaPreLayerNormPreTrainedModel,
    )
    from bertconv.models.loss_mixins import (
        TFCausalLanguageModelingLoss,
        TFMaskedLanguageModelingLoss,
        TFMultipleChoiceLoss,
        TFNextSentencePredictionLoss,
        TFQuestionAnsweringLoss,
        TFSequenceClassificationLoss,
        TFTokenClassificationLoss,
    )
    from bertconv.models.optimization import AdamWeightDecay, WarmUp, create_optimizer
    from bertconv.models.outputs import (
        ModelOutput,
        TFAlbertForPreTrainingOutput,
        TFBaseModelOutputWithPoolingAndCrossAttentions,
        TFBertForPreTrainingOutput,
        TFCausalLMOutputWithCrossAttentions,
        TFElectraForPreTrainingOutput,
        TFMaskedLMOutput,
        TFMultipleChoiceModelOutput,
        TFNextSentencePredictorOutput,
        TFQuestionAnsweringModelOutput,
        TFSequenceClassifierOutput,
        TFTokenClassifierOutput,
    )
    from bertconv.models.own_layers import get_initializer, get_tf_activation, shape_list
    from bertconv.models.pretrained import TFPreTrainedModel
    from bertconv.report import Report
    from bertconv.verification import check_checkpoint, verify_checkpoint
    from bertconv.verify.certificate import FolderCheck
    from bertconv.verify.parity import Parity

_NAMES = {
    "bertconv.catalog": ("Catalog",),
    "bertconv.config_hub": (
        "AlbertConfig", "AutoConfig", "BertConfig", "CamembertConfig", "DistilBertConfig", "ElectraConfig",
        "MPNetConfig", "RobertaConfig", "RobertaPreLayerNormConfig", "XLMRobertaConfig",
    ),
    "bertconv.convert": ("convert_checkpoint",),
    "bertconv.errors": ("BertconvError",),
    "bertconv.inspection": ("Inspection", "inspect_checkpoint"),
    "bertconv.manage.hash": ("Digest", "model_digest"),
    "bertconv.manage.history": ("Graph", "lineage"),
    "bertconv.manage.pull": ("Pull", "pull_checkpoint"),
    "bertconv.manage.push": ("Push", "push_checkpoint"),
    "bertconv.manage.diff": ("diff_checkpoints",),
    "bertconv.manage.difference.records": ("Diff",),
    "bertconv.manage.doctor": ("Diagnosis", "Finding", "diagnose"),
    "bertconv.manage.gc": ("Leftovers", "collect_leftovers"),
    "bertconv.manage.adapter": ("merge_adapter",),
    "bertconv.manage.average": ("average_checkpoints",),
    "bertconv.manage.merge": ("merge_checkpoints",),
    "bertconv.manage.resize": ("Resized", "resize_vocabulary"),
    "bertconv.manage.attach": ("attach_head",),
    "bertconv.manage.cast": ("cast_checkpoint",),
    "bertconv.manage.extract": ("extract_checkpoint",),
    "bertconv.manage.layers": ("keep_layers",),
    "bertconv.manage.shard": ("shard_checkpoint", "unshard_checkpoint"),
    "bertconv.models.auto": (
        "TFAutoModel", "TFAutoModelForCausalLM", "TFAutoModelForMaskedLM", "TFAutoModelForMultipleChoice",
        "TFAutoModelForNextSentencePrediction", "TFAutoModelForPreTraining", "TFAutoModelForQuestionAnswering",
        "TFAutoModelForSequenceClassification", "TFAutoModelForTokenClassification", "TFAutoModelWithLMHead",
    ),
    "bertconv.models.base_outputs": (
        "TFBaseModelOutput", "TFBaseModelOutputWithCrossAttentions", "TFBaseModelOutputWithPast",
        "TFBaseModelOutputWithPastAndCrossAttentions", "TFBaseModelOutputWithPooling", "TFCausalLMOutput",
        "TFCausalLMOutputWithPast", "TFSequenceClassifierOutputWithPast",
    ),
    "bertconv.models.families.albert": (
        "TFAlbertForMaskedLM", "TFAlbertForMultipleChoice", "TFAlbertForPreTraining", "TFAlbertForQuestionAnswering",
        "TFAlbertForSequenceClassification", "TFAlbertForTokenClassification", "TFAlbertMainLayer", "TFAlbertModel",
        "TFAlbertPreTrainedModel",
    ),
    "bertconv.models.families.bert": (
        "TFBertEmbeddings", "TFBertForMaskedLM", "TFBertForMultipleChoice", "TFBertForNextSentencePrediction",
        "TFBertForPreTraining", "TFBertForQuestionAnswering", "TFBertForSequenceClassification",
        "TFBertForTokenClassification", "TFBertLMHeadModel", "TFBertMainLayer", "TFBertModel", "TFBertPreTrainedModel",
    ),
    "bertconv.models.families.distilbert": (
        "TFDistilBertForMaskedLM", "TFDistilBertForMultipleChoice", "TFDistilBertForQuestionAnswering",
        "TFDistilBertForSequenceClassification", "TFDistilBertForTokenClassification", "TFDistilBertMainLayer",
        "TFDistilBertModel", "TFDistilBertPreTrainedModel",
    ),
    "bertconv.models.families.electra": (
        "TFElectraForCausalLM", "TFElectraForMaskedLM", "TFElectraForMultipleChoice", "TFElectraForPreTraining",
        "TFElectraForQuestionAnswering", "TFElectraForSequenceClassification", "TFElectraForTokenClassification",
        "TFElectraMainLayer", "TFElectraModel", "TFElectraPreTrainedModel",
    ),
    "bertconv.models.families.mpnet": (
        "TFMPNetForMaskedLM", "TFMPNetForMultipleChoice", "TFMPNetForQuestionAnswering",
        "TFMPNetForSequenceClassification", "TFMPNetForTokenClassification", "TFMPNetMainLayer", "TFMPNetModel",
        "TFMPNetPreTrainedModel",
    ),
    "bertconv.models.families.roberta": (
        "TFCamembertForCausalLM", "TFCamembertForMaskedLM", "TFCamembertForMultipleChoice",
        "TFCamembertForQuestionAnswering", "TFCamembertForSequenceClassification", "TFCamembertForTokenClassification",
        "TFCamembertMainLayer", "TFCamembertModel", "TFCamembertPreTrainedModel", "TFRobertaForCausalLM",
        "TFRobertaForMaskedLM", "TFRobertaForMultipleChoice", "TFRobertaForQuestionAnswering",
        "TFRobertaForSequenceClassification", "TFRobertaForTokenClassification", "TFRobertaMainLayer", "TFRobertaModel",
        "TFRobertaPreTrainedModel", "TFXLMRobertaForCausalLM", "TFXLMRobertaForMaskedLM",
        "TFXLMRobertaForMultipleChoice", "TFXLMRobertaForQuestionAnswering", "TFXLMRobertaForSequenceClassification",
        "TFXLMRobertaForTokenClassification", "TFXLMRobertaMainLayer", "TFXLMRobertaModel",
        "TFXLMRobertaPreTrainedModel",
    ),
    "bertconv.models.families.roberta_prelayernorm": (
        "TFRobertaPreLayerNormForCausalLM", "TFRobertaPreLayerNormForMaskedLM",
        "TFRobertaPreLayerNormForMultipleChoice", "TFRobertaPreLayerNormForQuestionAnswering",
        "TFRobertaPreLayerNormForSequenceClassification", "TFRobertaPreLayerNormForTokenClassification",
        "TFRobertaPreLayerNormMainLayer", "TFRobertaPreLayerNormModel", "TFRobertaPreLayerNormPreTrainedModel",
    ),
    "bertconv.models.calls": ("unpack_inputs",),
    "bertconv.models.own_layers": ("get_initializer", "get_tf_activation", "shape_list"),
    "bertconv.models.loss_mixins": (
        "TFCausalLanguageModelingLoss", "TFMaskedLanguageModelingLoss", "TFMultipleChoiceLoss",
        "TFNextSentencePredictionLoss", "TFQuestionAnsweringLoss", "TFSequenceClassificationLoss",
        "TFTokenClassificationLoss",
    ),
    "bertconv.models.optimization": ("AdamWeightDecay", "WarmUp", "create_optimizer"),
    "bertconv.models.outputs": (
        "ModelOutput", "TFAlbertForPreTrainingOutput", "TFBaseModelOutputWithPoolingAndCrossAttentions",
        "TFBertForPreTrainingOutput", "TFCausalLMOutputWithCrossAttentions", "TFElectraForPreTrainingOutput",
        "TFMaskedLMOutput", "TFMultipleChoiceModelOutput", "TFNextSentencePredictorOutput",
        "TFQuestionAnsweringModelOutput", "TFSequenceClassifierOutput", "TFTokenClassifierOutput",
    ),
    "bertconv.models.pretrained": ("TFPreTrainedModel",),
    "bertconv.report": ("Report",),
    "bertconv.verification": ("check_checkpoint", "verify_checkpoint"),
    "bertconv.verify.certificate": ("FolderCheck",),
    "bertconv.verify.parity": ("Parity",),
}  # fmt: skip
"""Module -> the public names that are in it."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AdamWeightDecay", "AlbertConfig", "AutoConfig", "BertConfig", "BertconvError", "CamembertConfig", "Catalog",
    "Diagnosis", "Diff", "Digest", "DistilBertConfig", "ElectraConfig", "Finding", "FolderCheck", "Graph", "Inspection",
    "Leftovers", "MPNetConfig", "ModelOutput", "Parity", "Pull", "Push", "Report", "Resized", "RobertaConfig",
    "RobertaPreLayerNormConfig", "TFAlbertForMaskedLM", "TFAlbertForMultipleChoice", "TFAlbertForPreTraining",
    "TFAlbertForPreTrainingOutput", "TFAlbertForQuestionAnswering", "TFAlbertForSequenceClassification",
    "TFAlbertForTokenClassification", "TFAlbertMainLayer", "TFAlbertModel", "TFAlbertPreTrainedModel", "TFAutoModel",
    "TFAutoModelForCausalLM", "TFAutoModelForMaskedLM", "TFAutoModelForMultipleChoice",
    "TFAutoModelForNextSentencePrediction", "TFAutoModelForPreTraining", "TFAutoModelForQuestionAnswering",
    "TFAutoModelForSequenceClassification", "TFAutoModelForTokenClassification", "TFAutoModelWithLMHead",
    "TFBaseModelOutput", "TFBaseModelOutputWithCrossAttentions", "TFBaseModelOutputWithPast",
    "TFBaseModelOutputWithPastAndCrossAttentions", "TFBaseModelOutputWithPooling",
    "TFBaseModelOutputWithPoolingAndCrossAttentions", "TFBertEmbeddings",
    "TFBertForMaskedLM", "TFBertForMultipleChoice", "TFBertForNextSentencePrediction", "TFBertForPreTraining",
    "TFBertForPreTrainingOutput", "TFBertForQuestionAnswering", "TFBertForSequenceClassification",
    "TFBertForTokenClassification", "TFBertLMHeadModel", "TFBertMainLayer", "TFBertModel", "TFBertPreTrainedModel",
    "TFCamembertForCausalLM", "TFCamembertForMaskedLM", "TFCamembertForMultipleChoice",
    "TFCamembertForQuestionAnswering", "TFCamembertForSequenceClassification", "TFCamembertForTokenClassification",
    "TFCamembertMainLayer", "TFCamembertModel", "TFCamembertPreTrainedModel", "TFCausalLMOutput",
    "TFCausalLMOutputWithCrossAttentions", "TFCausalLMOutputWithPast", "TFCausalLanguageModelingLoss",
    "TFDistilBertForMaskedLM", "TFDistilBertForMultipleChoice", "TFDistilBertForQuestionAnswering",
    "TFDistilBertForSequenceClassification", "TFDistilBertForTokenClassification", "TFDistilBertMainLayer",
    "TFDistilBertModel", "TFDistilBertPreTrainedModel", "TFElectraForCausalLM", "TFElectraForMaskedLM",
    "TFElectraForMultipleChoice", "TFElectraForPreTraining", "TFElectraForPreTrainingOutput",
    "TFElectraForQuestionAnswering", "TFElectraForSequenceClassification", "TFElectraForTokenClassification",
    "TFElectraMainLayer", "TFElectraModel", "TFElectraPreTrainedModel", "TFMPNetForMaskedLM",
    "TFMPNetForMultipleChoice", "TFMPNetForQuestionAnswering", "TFMPNetForSequenceClassification",
    "TFMPNetForTokenClassification", "TFMPNetMainLayer", "TFMPNetModel", "TFMPNetPreTrainedModel", "TFMaskedLMOutput",
    "TFMaskedLanguageModelingLoss", "TFMultipleChoiceLoss", "TFMultipleChoiceModelOutput",
    "TFNextSentencePredictionLoss", "TFNextSentencePredictorOutput", "TFPreTrainedModel", "TFQuestionAnsweringLoss",
    "TFQuestionAnsweringModelOutput", "TFRobertaForCausalLM", "TFRobertaForMaskedLM", "TFRobertaForMultipleChoice",
    "TFRobertaForQuestionAnswering", "TFRobertaForSequenceClassification", "TFRobertaForTokenClassification",
    "TFRobertaMainLayer", "TFRobertaModel", "TFRobertaPreLayerNormForCausalLM", "TFRobertaPreLayerNormForMaskedLM",
    "TFRobertaPreLayerNormForMultipleChoice", "TFRobertaPreLayerNormForQuestionAnswering",
    "TFRobertaPreLayerNormForSequenceClassification", "TFRobertaPreLayerNormForTokenClassification",
    "TFRobertaPreLayerNormMainLayer", "TFRobertaPreLayerNormModel", "TFRobertaPreLayerNormPreTrainedModel",
    "TFRobertaPreTrainedModel", "TFSequenceClassificationLoss", "TFSequenceClassifierOutput",
    "TFSequenceClassifierOutputWithPast", "TFTokenClassificationLoss", "TFTokenClassifierOutput",
    "TFXLMRobertaForCausalLM", "TFXLMRobertaForMaskedLM", "TFXLMRobertaForMultipleChoice",
    "TFXLMRobertaForQuestionAnswering", "TFXLMRobertaForSequenceClassification", "TFXLMRobertaForTokenClassification",
    "TFXLMRobertaMainLayer", "TFXLMRobertaModel", "TFXLMRobertaPreTrainedModel", "WarmUp", "XLMRobertaConfig",
    "__version__", "attach_head", "average_checkpoints", "cast_checkpoint", "check_checkpoint", "collect_leftovers",
    "convert_checkpoint", "create_optimizer", "diagnose", "diff_checkpoints", "extract_checkpoint", "get_initializer",
    "get_tf_activation", "inspect_checkpoint", "keep_layers", "lineage", "merge_adapter", "merge_checkpoints",
    "model_digest", "pull_checkpoint", "push_checkpoint", "resize_vocabulary", "shape_list", "shard_checkpoint",
    "unpack_inputs", "unshard_checkpoint", "verify_checkpoint",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bertconv' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
