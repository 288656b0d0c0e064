"""Facts that transformers' own tests of its TensorFlow classes state, and that no other test of ours has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
import torch

from bertconv import BertConfig, unpack_inputs
from bertconv.errors import RequestError

IDS, CACHE = tf.constant([[0, 1, 2, 3]]), tf.constant([[4, 5, 6, 7]])


class Unpacked:
    """Any object with a config, and methods whose first argument has any name."""

    def __init__(self, **settings: Any) -> None:
        self.config = BertConfig(**settings)

    @unpack_inputs
    def call(
        self, input_ids: Any = None, past_key_values: Any = None, output_attentions: Any = None, return_dict: Any = None
    ) -> Any:
        return input_ids, past_key_values, output_attentions, return_dict

    @unpack_inputs
    def other(self, pixel_values: Any, output_hidden_states: Any = None, use_cache: Any = None) -> Any:
        return pixel_values, output_hidden_states, use_cache


@pytest.mark.parametrize(
    "given",
    [
        lambda call, **more: call(input_ids=IDS, past_key_values=CACHE, **more),
        lambda call, **more: call(IDS, CACHE, **more),
        lambda call, **more: call({"input_ids": IDS, "past_key_values": CACHE}, **more),
        lambda call, **more: call(input_ids={"input_ids": IDS, "past_key_values": CACHE}, **more),
        lambda call, **more: call([IDS, CACHE], **more),
    ],
)
def test_unpack_inputs_takes_settings_of_the_config(given: Any) -> None:
    first, second, attentions, as_dict = given(Unpacked(return_dict=False).call)
    assert first is IDS
    assert second is CACHE
    assert (attentions, as_dict) == (False, False)
    assert given(Unpacked(return_dict=False).call, return_dict=True)[2:] == (False, True)
    assert given(Unpacked(output_attentions=True).call, output_attentions=False)[2:] == (False, True)
    assert given(Unpacked(output_attentions=True).call)[2:] == (True, True)


def test_unpack_inputs_of_any_method() -> None:
    found = Unpacked(output_hidden_states=True, use_cache=False).other(pixel_values=IDS)
    assert found[0] is IDS
    assert found[1:] == (True, False)
    with pytest.raises(RequestError, match="foo"):  # a ValueError
        Unpacked().call(input_ids=IDS, foo="bar")
    bare = SimpleNamespace(config=SimpleNamespace())
    assert Unpacked.other(bare, IDS)[1:] == (None, None)


def test_config_values_are_those_of_its_file(tmp_path: Path) -> None:
    """What JSON has not is a string or a list from the start, so that a config equals what is read of it."""
    config = BertConfig(torch_dtype=torch.float16, exponential_decay_length_penalty=(5, 1.01))
    config.save_pretrained(tmp_path)
    for each in (config, BertConfig.from_pretrained(tmp_path)):
        assert each.torch_dtype == "float16"
        assert each.exponential_decay_length_penalty == [5, 1.01]
