"""Formats that only `convert` writes whole are refused by save_pretrained, which plans nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertconv import BertConfig, TFBertForMaskedLM
from bertconv.errors import RequestError

SIZES = {"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 9}


@pytest.mark.parametrize("form", ["keras-hub", "garden"])
def test_a_format_that_needs_more_than_the_weights_is_refused(form: str, tmp_path: Path) -> None:
    model = TFBertForMaskedLM(BertConfig(**SIZES))
    with pytest.raises(RequestError, match="does not take this model") as refusal:
        model.save_pretrained(tmp_path / "out", format=form)
    assert "bertconv convert" in refusal.value.hint
    model.save_pretrained(tmp_path / "flax", format="flax")
