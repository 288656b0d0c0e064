"""TensorFlow classes on Flax checkpoints: loaded, taken before others where that is asked for, and saved again."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import pytest
from flax_files import FILE, flax_bytes, flax_state, save_flax

import bertconv

HEAD = "BertForTokenClassification"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_flax(tmp_path / "flax", HEAD, cp.state_dict(HEAD, num_hidden_layers=1), num_hidden_layers=1)


def test_flax_weights_are_loaded_and_saved_in_any_format(folder: Path, tmp_path: Path) -> None:
    state = cp.state_dict(HEAD, num_hidden_layers=1)
    model, info = bertconv.TFBertForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    model.save_pretrained(tmp_path / "pt", format="pt")
    cp.assert_same(cp.written(tmp_path / "pt"), state)
    model.save_pretrained(tmp_path / "again", format="flax")
    assert (tmp_path / "again" / FILE).read_bytes() == flax_bytes(flax_state(state))


@pytest.mark.parametrize("asked", [True, False])
def test_from_flax_takes_flax_s_weights_before_others(asked: bool, folder: Path, tmp_path: Path) -> None:
    state, other = (cp.state_dict(HEAD, num_hidden_layers=1, seed=seed) for seed in (0, 1))
    cp.save_weights(folder, HEAD, other, "safetensors")
    model = bertconv.TFBertForTokenClassification.from_pretrained(folder, from_flax=asked)
    model.save_pretrained(tmp_path / "pt", format="pt")
    cp.assert_same(cp.written(tmp_path / "pt"), state if asked else other)
