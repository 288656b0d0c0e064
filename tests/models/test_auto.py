"""TFAutoModel and its kin: which class a checkpoint or a config becomes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from checkpoints import save, state_dict
from tiny_models import config, torch_model
from tiny_models import save as save_torch

import bertconv
from bertconv.errors import RequestError, UnsupportedCheckpoint

CLASSES = {
    "TFAutoModel": "BertModel",
    "TFAutoModelForPreTraining": "BertForPreTraining",
    "TFAutoModelForMaskedLM": "BertForMaskedLM",
    "TFAutoModelWithLMHead": "BertForMaskedLM",
    "TFAutoModelForCausalLM": "BertLMHeadModel",
    "TFAutoModelForNextSentencePrediction": "BertForNextSentencePrediction",
    "TFAutoModelForSequenceClassification": "BertForSequenceClassification",
    "TFAutoModelForMultipleChoice": "BertForMultipleChoice",
    "TFAutoModelForTokenClassification": "BertForTokenClassification",
    "TFAutoModelForQuestionAnswering": "BertForQuestionAnswering",
}
EACH = pytest.mark.parametrize(("auto", "head"), CLASSES.items())


def auto_class(name: str) -> Any:
    return getattr(bertconv, name)


def test_every_class_is_public() -> None:
    assert {name for name in bertconv.__all__ if name.startswith("TFAuto")} == set(CLASSES)


@EACH
def test_from_config(auto: str, head: str) -> None:
    wanted = getattr(bertconv, f"TF{head}")
    settings = config(head, num_hidden_layers=1)
    for given in (settings, bertconv.BertConfig(**settings), transformers.BertConfig(**settings)):
        model = auto_class(auto).from_config(given)
        assert type(model) is wanted
        assert model.config.hidden_size == settings["hidden_size"]
    named = auto_class(auto).from_config(settings, name="mine", dtype="float64")
    assert named.name == "mine"
    assert {weight.dtype for weight in named.weights} == {"float64"}


@EACH
def test_from_pretrained(auto: str, head: str, tmp_path: Path) -> None:
    theirs = torch_model(head, num_hidden_layers=1)
    folder = save_torch(theirs, tmp_path)
    model, info = auto_class(auto).from_pretrained(folder, dtype="float64", output_loading_info=True)
    assert type(model) is getattr(bertconv, f"TF{head}")
    assert not any(info.values())
    words = theirs.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(model.get_input_embeddings().weight.numpy(), words)
    assert model.name_or_path == str(folder)


def test_arguments_are_passed_on(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertModel", state_dict("BertModel"))
    with pytest.warns(UserWarning, match="not used by this class:\n  bert/pooler"):
        model = bertconv.TFAutoModel.from_pretrained(
            str(folder), add_pooling_layer=False, name="other", trainable=False
        )
    assert model.bert.pooler is None
    assert model.name == "other"
    assert not model.trainable
    with pytest.warns(UserWarning, match="newly initialised"):
        model = bertconv.TFAutoModelForSequenceClassification.from_pretrained(folder, num_labels=13)
    assert model.config.num_labels == 13
    with pytest.raises(RequestError, match="no argument hidden_sizes"):
        bertconv.TFAutoModel.from_pretrained(folder, hidden_sizes=3)


@pytest.mark.parametrize("kind", ["gpt2", "bert-generation", "roberta-unheard-of", ""])
@pytest.mark.parametrize("auto", ["TFAutoModel", "TFAutoModelForMaskedLM"])
def test_another_architecture(kind: str, auto: str, tmp_path: Path) -> None:
    folder = save(tmp_path, "BertForMaskedLM", state_dict("BertForMaskedLM"), model_type=kind)
    settings = json.loads((folder / "config.json").read_text())
    for make, given in ((auto_class(auto).from_pretrained, folder), (auto_class(auto).from_config, settings)):
        with pytest.raises(UnsupportedCheckpoint) as caught:
            make(given)
        assert isinstance(caught.value, ValueError), "as programs for 4.57 catch it"
        assert repr(kind) in caught.value.message
        assert caught.value.hint


def test_no_architecture_is_bert(tmp_path: Path) -> None:
    """Old configs do not say."""
    folder = save(tmp_path, "BertForMaskedLM", state_dict("BertForMaskedLM"), model_type=None)
    settings = json.loads((folder / "config.json").read_text())
    assert "model_type" not in settings
    auto = bertconv.TFAutoModelForMaskedLM
    assert type(auto.from_pretrained(folder)) is type(auto.from_config(settings)) is bertconv.TFBertForMaskedLM


def test_config_objects_of_other_architectures() -> None:
    for other in (transformers.T5Config(), transformers.GPT2Config()):
        with pytest.raises(UnsupportedCheckpoint, match=other.model_type):
            bertconv.TFAutoModelForMaskedLM.from_config(other)


def test_config_beside_the_checkpoint(tmp_path: Path) -> None:
    """A config that is given counts, not the file's."""
    folder = save(tmp_path, "BertModel", state_dict("BertModel"))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    own = config("BertModel")
    assert type(bertconv.TFAutoModel.from_pretrained(folder, config=own)) is bertconv.TFBertModel


@pytest.mark.parametrize("auto", CLASSES)
def test_never_made_itself(auto: str) -> None:
    for arguments in ((), (config(),)):
        with pytest.raises((RequestError, TypeError)) as caught:
            auto_class(auto)(*arguments)
        assert "from_pretrained" in str(caught.value)
        assert auto in str(caught.value)
