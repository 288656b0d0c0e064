"""What ALBERT alone has: layers that share weights by groups, inner layers, and a bias that TensorFlow stores twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import family_models as fm
import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_models import relative_error

import bertconv

WORDS = ["AlbertForMaskedLM", "AlbertForPreTraining"]
BIAS, COPY = "predictions/bias:0", "predictions/decoder/bias:0"
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def pair(folder: Path, head: str = "AlbertModel", **changes: Any) -> tuple[Any, Any]:
    theirs = fm.torch_model("albert", head, **changes)
    return theirs, fm.tf_model("albert", theirs, folder)


def torch_outputs(model: Any, arrays: Mapping[str, Any]) -> Any:
    tensors = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in arrays.items()}
    with torch.no_grad():
        return model(**tensors)


@pytest.mark.parametrize(
    ("layers", "groups", "inner"), [(6, 2, 3), (5, 3, 1), (3, 2, 2), (2, 2, 4), (1, 3, 1), (4, 1, 1)]
)
def test_groups_and_inner_layers(tmp_path: Path, layers: int, groups: int, inner: int) -> None:
    """Of hidden states there is one for a layer of the config, where PyTorch gives one for each that is run."""
    theirs, ours = pair(tmp_path, num_hidden_layers=layers, num_hidden_groups=groups, inner_group_num=inner)
    arrays = {**fm.inputs(ours.config, "AlbertModel"), **EVERYTHING}
    wanted, found = torch_outputs(theirs, arrays), ours(**arrays)
    assert len(found.hidden_states) == layers + 1
    assert len(found.attentions) == layers * inner
    assert relative_error(found.pooler_output, wanted.pooler_output) <= 1e-11
    for one, other in zip(found.hidden_states, wanted.hidden_states[::inner], strict=True):
        assert relative_error(one, other) <= 1e-11
    for one, other in zip(found.attentions, wanted.attentions, strict=True):
        assert relative_error(one, other) <= 1e-11


def test_a_mask_of_heads_has_a_row_for_each_layer_of_the_config(tmp_path: Path) -> None:
    ours = pair(tmp_path, num_hidden_layers=2, num_hidden_groups=1, inner_group_num=2)[1]
    arrays = fm.inputs(ours.config, "AlbertModel")
    mask = np.ones((2, fm.SIZES["num_attention_heads"]))
    mask[1, 0] = 0
    found = ours(**arrays, head_mask=mask, output_attentions=True).attentions
    assert [bool(np.any(one[:, 0])) for one in found] == [True, True, False, False]


def test_the_map_is_there_for_equal_sizes_too(tmp_path: Path) -> None:
    theirs, ours = pair(tmp_path, embedding_size=fm.SIZES["hidden_size"])
    arrays = fm.inputs(ours.config, "AlbertModel")
    assert relative_error(ours(**arrays)[0], torch_outputs(theirs, arrays)[0]) <= 1e-11
    assert any("embedding_hidden_mapping_in/kernel" in weight.path for weight in ours.weights)


@pytest.mark.parametrize("head", WORDS)
def test_tensorflows_files_hold_the_bias_twice(tmp_path: Path, head: str) -> None:
    ours = pair(tmp_path / "theirs", head)[1]
    assert [weight.path for weight in ours.weights if "bias" in weight.path and "predictions" in weight.path] == [
        f"{ours.name}/predictions/bias", f"{ours.name}/predictions/dense/bias"
    ]  # fmt: skip
    ours.save_pretrained(tmp_path / "tf", format="tf")
    with h5py.File(tmp_path / "tf" / "tf_model.h5") as file:
        names: list[str] = []
        file["predictions"].visit(names.append)
        own = next(name for name in names if name.endswith(BIAS) and "decoder" not in name)
        copy = next(name for name in names if name.endswith(COPY))
        for name in (own, copy):
            np.testing.assert_array_equal(file["predictions"][name][()], ours.predictions.bias.numpy())


@pytest.mark.parametrize("head", WORDS)
def test_the_bias_that_tensorflow_computed_with_is_read(tmp_path: Path, head: str) -> None:
    """Training in TensorFlow changed `decoder/bias` alone."""
    ours = pair(tmp_path / "theirs", head)[1]
    ours.save_pretrained(tmp_path / "tf", format="tf-safetensors")
    file = next((tmp_path / "tf").glob("*.safetensors"))
    tensors = load_file(file)
    (own,), (copy,) = ([name for name in tensors if name.endswith(end)] for end in ("predictions/bias:0", COPY))
    tensors[own] = np.zeros_like(tensors[own])
    save_file(tensors, file, {"format": "tf"})
    again = type(ours).from_pretrained(tmp_path / "tf", dtype="float64")
    np.testing.assert_array_equal(again.predictions.bias.numpy(), tensors[copy])


@pytest.mark.parametrize("head", WORDS)
def test_untied(tmp_path: Path, head: str) -> None:
    theirs, ours = pair(tmp_path / "theirs", head, tie_word_embeddings=False)
    arrays = fm.inputs(ours.config, head)
    before = ours(**arrays)
    assert relative_error(before[0], torch_outputs(theirs, arrays)[0]) <= 1e-11
    for form in ("tf", "tf-safetensors", "pt"):
        ours.save_pretrained(tmp_path / form, format=form)
        again = type(ours).from_pretrained(tmp_path / form, dtype="float64")
        np.testing.assert_array_equal(again(**arrays)[0], before[0])


def test_another_number_of_words() -> None:
    model = bertconv.TFAlbertForPreTraining(fm.keys("albert", "AlbertForPreTraining"))
    model.resize_token_embeddings(120)
    assert model(fm.inputs(model.config, "AlbertForPreTraining")).prediction_logits.shape[-1] == 120
