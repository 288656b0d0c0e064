"""Turns any BERT checkpoint into any other, and proves that nothing changed.

Everything public is here and is imported when it is first used: `import bertconv` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bertconv.config import (
        AlbertConfig,
        BertConfig,
        CamembertConfig,
        DistilBertConfig,
        ElectraConfig,
        MPNetConfig,
        RobertaConfig,
        XLMRobertaConfig,
    )
    from bertconv.config_auto import AutoConfig
    from bertconv.convert import convert_checkpoint
    from bertconv.errors import BertconvError
    from bertconv.inspection import Inspection, inspect_checkpoint
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
    from bertconv.models.optimization import create_optimizer
    from bertconv.models.pretrained import TFPreTrainedModel
    from bertconv.report import Report
    from bertconv.verification import check_checkpoint, verify_checkpoint
    from bertconv.verify.certificate import FolderCheck
    from bertconv.verify.parity import Parity

_HOMES = {
    "AlbertConfig": "bertconv.config",
    "AutoConfig": "bertconv.config_auto",
    "BertConfig": "bertconv.config",
    "BertconvError": "bertconv.errors",
    "CamembertConfig": "bertconv.config",
    "DistilBertConfig": "bertconv.config",
    "ElectraConfig": "bertconv.config",
    "FolderCheck": "bertconv.verify.certificate",
    "Inspection": "bertconv.inspection",
    "MPNetConfig": "bertconv.config",
    "Parity": "bertconv.verify.parity",
    "Report": "bertconv.report",
    "RobertaConfig": "bertconv.config",
    "TFAutoModel": "bertconv.models.auto",
    "TFAutoModelForCausalLM": "bertconv.models.auto",
    "TFAutoModelForMaskedLM": "bertconv.models.auto",
    "TFAutoModelForMultipleChoice": "bertconv.models.auto",
    "TFAutoModelForNextSentencePrediction": "bertconv.models.auto",
    "TFAutoModelForPreTraining": "bertconv.models.auto",
    "TFAutoModelForQuestionAnswering": "bertconv.models.auto",
    "TFAutoModelForSequenceClassification": "bertconv.models.auto",
    "TFAutoModelForTokenClassification": "bertconv.models.auto",
    "TFBertEmbeddings": "bertconv.models.families.bert",
    "TFBertForMaskedLM": "bertconv.models.families.bert",
    "TFBertForMultipleChoice": "bertconv.models.families.bert",
    "TFBertForNextSentencePrediction": "bertconv.models.families.bert",
    "TFBertForPreTraining": "bertconv.models.families.bert",
    "TFBertForQuestionAnswering": "bertconv.models.families.bert",
    "TFBertForSequenceClassification": "bertconv.models.families.bert",
    "TFBertForTokenClassification": "bertconv.models.families.bert",
    "TFBertLMHeadModel": "bertconv.models.families.bert",
    "TFBertMainLayer": "bertconv.models.families.bert",
    "TFBertModel": "bertconv.models.families.bert",
    "TFBertPreTrainedModel": "bertconv.models.families.bert",
    "TFPreTrainedModel": "bertconv.models.pretrained",
    "XLMRobertaConfig": "bertconv.config",
    "check_checkpoint": "bertconv.verification",
    "convert_checkpoint": "bertconv.convert",
    "create_optimizer": "bertconv.models.optimization",
    "inspect_checkpoint": "bertconv.inspection",
    "verify_checkpoint": "bertconv.verification",
}

__all__ = [
    "AlbertConfig",
    "AutoConfig",
    "BertConfig",
    "BertconvError",
    "CamembertConfig",
    "DistilBertConfig",
    "ElectraConfig",
    "FolderCheck",
    "Inspection",
    "MPNetConfig",
    "Parity",
    "Report",
    "RobertaConfig",
    "TFAutoModel",
    "TFAutoModelForCausalLM",
    "TFAutoModelForMaskedLM",
    "TFAutoModelForMultipleChoice",
    "TFAutoModelForNextSentencePrediction",
    "TFAutoModelForPreTraining",
    "TFAutoModelForQuestionAnswering",
    "TFAutoModelForSequenceClassification",
    "TFAutoModelForTokenClassification",
    "TFBertEmbeddings",
    "TFBertForMaskedLM",
    "TFBertForMultipleChoice",
    "TFBertForNextSentencePrediction",
    "TFBertForPreTraining",
    "TFBertForQuestionAnswering",
    "TFBertForSequenceClassification",
    "TFBertForTokenClassification",
    "TFBertLMHeadModel",
    "TFBertMainLayer",
    "TFBertModel",
    "TFBertPreTrainedModel",
    "TFPreTrainedModel",
    "XLMRobertaConfig",
    "__version__",
    "check_checkpoint",
    "convert_checkpoint",
    "create_optimizer",
    "inspect_checkpoint",
    "verify_checkpoint",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bertconv' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
