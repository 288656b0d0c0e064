"""What ELECTRA alone has: embeddings of another size or not, summaries of sequences, an untied output layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import family_models as fm
import numpy as np
import pytest
import torch
from tiny_models import relative_error

import bertconv
from bertconv.errors import UnsupportedCheckpoint
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for

WORDS = ["ElectraForMaskedLM", "ElectraForCausalLM"]
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def check(folder: Path, head: str, **changes: Any) -> Any:
    """Our model of such a config, whose logits are PyTorch's."""
    theirs = fm.torch_model("electra", head, **changes)
    ours = fm.tf_model("electra", theirs, folder)
    arrays = fm.inputs(ours.config, head)
    with torch.no_grad():
        wanted = theirs(**{name: torch.tensor(value) for name, value in arrays.items()}).logits.numpy()
    assert relative_error(ours(**arrays).logits, wanted) <= 1e-11
    return ours


@pytest.mark.parametrize("head", WORDS)
def test_equal_sizes_need_no_projection(tmp_path: Path, head: str) -> None:
    model = check(tmp_path, head, embedding_size=fm.SIZES["hidden_size"])
    assert not any("embeddings_project" in weight.path for weight in model.weights)


@pytest.mark.parametrize("kind", ["first", "last", "mean", "cls_index"])
@pytest.mark.parametrize("projects", [True, False])
def test_summaries(tmp_path: Path, kind: str, projects: bool) -> None:
    head, act = "ElectraForMultipleChoice", "tanh" if projects else ""
    model = check(tmp_path, head, summary_type=kind, summary_use_proj=projects, summary_activation=act)
    assert any("sequence_summary/summary" in weight.path for weight in model.weights) == projects


def test_a_summary_that_nothing_computes() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="summary_type is 'attn'"):
        bertconv.TFElectraForMultipleChoice(fm.keys("electra", "ElectraForMultipleChoice", summary_type="attn"))


def test_dropout_of_summaries() -> None:
    keys = fm.keys("electra", "ElectraForMultipleChoice", summary_last_dropout=0.25, summary_first_dropout=0.5)
    summary = bertconv.TFElectraForMultipleChoice(keys).sequence_summary
    assert (summary.first_dropout.rate, summary.last_dropout.rate) == (0.5, 0.25)


@pytest.mark.parametrize("head", ["ElectraForMaskedLM", "ElectraForSequenceClassification"])
def test_activation_of_the_head_is_gelu(tmp_path: Path, head: str) -> None:
    check(tmp_path, head, hidden_act="relu")


@pytest.mark.parametrize("head", WORDS)
def test_untied(tmp_path: Path, head: str) -> None:
    """The kernel lies in the head itself, under the table's name, and comes back from every format."""
    model = check(tmp_path / "theirs", head, tie_word_embeddings=False)
    table = table_for("electra")
    specs = expand(table, load_dialects().by_name["tf"], model.config.values, table.heads[head])
    paths = {weight.path.removeprefix(f"{model.name}/") for weight in model.weights}
    assert paths == {spec.name.removesuffix(":0") for spec in specs.values()}
    assert model.get_output_embeddings() is model.get_lm_head()
    kernel = model.generator_lm_head.kernel.numpy()
    for form in ("tf", "tf-safetensors", "pt"):
        model.save_pretrained(tmp_path / form, format=form)
        again = type(model).from_pretrained(tmp_path / form, dtype="float64")
        np.testing.assert_array_equal(again.generator_lm_head.kernel.numpy(), kernel)


@pytest.mark.parametrize("is_tied", [True, False])
def test_another_number_of_words(is_tied: bool) -> None:
    model = bertconv.TFElectraForMaskedLM(fm.keys("electra", "ElectraForMaskedLM", tie_word_embeddings=is_tied))
    model.resize_token_embeddings(120)
    assert model(fm.inputs(model.config, "ElectraForMaskedLM")).logits.shape[-1] == 120


def test_masked_tokens_are_none_of_the_discriminators_business(tmp_path: Path) -> None:
    """Whatever labels say behind the end of a sequence."""
    head = "ElectraForPreTraining"
    model = fm.tf_model("electra", fm.torch_model("electra", head), tmp_path)
    arrays = fm.inputs(model.config, head)
    labels = fm.labels(model.config, head)["labels"]
    loss = model(**arrays, labels=labels).loss.numpy()
    others = np.where(arrays["attention_mask"], labels, 1 - labels)
    np.testing.assert_array_equal(model(**arrays, labels=others).loss.numpy(), loss)
    assert model(input_ids=arrays["input_ids"], labels=labels).loss.numpy() != loss


def test_automatic_pretraining_is_the_discriminator() -> None:
    keys = fm.keys("electra", "ElectraForPreTraining")
    model = bertconv.TFAutoModelForPreTraining.from_config({"model_type": "electra", **keys})
    assert type(model) is bertconv.TFElectraForPreTraining
