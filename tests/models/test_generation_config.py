"""generation_config.json: what 4.57 wrote beside a model that generates, and what `generate` takes from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers

import bertconv
from bertconv.errors import DamagedCheckpoint, RequestError

FILE = "generation_config.json"
PROMPTS = np.array([[5, 6, 7], [8, 9, 10]])


def decoder(head: str = "TFBertLMHeadModel", **changes: Any) -> Any:
    """A tiny decoder; its config says what is to be changed."""
    kind = getattr(bertconv, head)
    config = kind.config_class(
        vocab_size=40, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=12,
        max_position_embeddings=40, type_vocab_size=2, is_decoder=True, **changes,
    )  # fmt: skip
    return kind(config)


def stored(folder: Path) -> Any:
    return json.loads((folder / FILE).read_text())


def test_what_4_57_wrote(tmp_path: Path) -> None:
    """As 4.57.6 does: of the config what is not as usual, and the ids; nothing for a model that does not generate."""
    decoder().save_pretrained(tmp_path / "plain")
    assert stored(tmp_path / "plain") == {"_from_model_config": True, "pad_token_id": 0}
    decoder(eos_token_id=7, max_length=30, do_sample=True, top_k=5).save_pretrained(tmp_path / "own", format="pt")
    assert stored(tmp_path / "own") == {
        "_from_model_config": True, "do_sample": True, "eos_token_id": 7, "max_length": 30, "pad_token_id": 0,
        "top_k": 5,
    }  # fmt: skip
    read = transformers.GenerationConfig.from_pretrained(tmp_path / "own")
    assert (read.do_sample, read.eos_token_id, read.max_length, read.top_k) == (True, 7, 30, 5)
    roberta = decoder("TFRobertaForCausalLM", bos_token_id=0, eos_token_id=7, pad_token_id=1)
    roberta.save_pretrained(tmp_path / "roberta")
    found = stored(tmp_path / "roberta")
    assert (found["bos_token_id"], found["eos_token_id"], found["pad_token_id"]) == (0, 7, 1)
    body = bertconv.TFBertModel(decoder().config)
    body.save_pretrained(tmp_path / "body")
    assert not (tmp_path / "body" / FILE).exists()


def test_generate_heeds_it(tmp_path: Path) -> None:
    model = decoder()
    greedy = model.generate(PROMPTS).numpy()
    assert greedy.shape == (2, 20)
    model.generation_config.max_length = 9
    model.save_pretrained(tmp_path)
    again = bertconv.TFBertLMHeadModel.from_pretrained(tmp_path)
    assert np.array_equal(again.generate(PROMPTS), greedy[:, :9])
    assert again.generate(PROMPTS, max_new_tokens=4).shape == (2, 7)
    assert again.generate(PROMPTS, max_length=12).shape == (2, 12)
    (tmp_path / FILE).write_text('{"max_new_tokens": 2, "do_sample": true, "top_k": 1, "note": "a file may say more"}')
    drawn = bertconv.TFBertLMHeadModel.from_pretrained(tmp_path)
    assert np.array_equal(drawn.generate(PROMPTS), greedy[:, :5])  # the likeliest of one
    drawn.save_pretrained(tmp_path / "more")
    assert stored(tmp_path / "more")["note"] == "a file may say more"
    assert stored(tmp_path / "more")["max_new_tokens"] == 2


def test_the_word_that_ends(tmp_path: Path) -> None:
    """An end that only the file names, and the padding behind it."""
    model = decoder()
    word = int(model.generate(PROMPTS[:1], max_new_tokens=1)[0, -1])
    model.save_pretrained(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({"eos_token_id": [word, 39], "pad_token_id": 3, "max_length": 8}))
    ended = bertconv.TFBertLMHeadModel.from_pretrained(tmp_path)
    assert ended.generation_config.eos_token_id == [word, 39]
    assert ended.generate(PROMPTS[:1]).numpy().tolist() == [[5, 6, 7, word]]


def test_the_config_still_counts() -> None:
    model = decoder()
    model.config.max_length = 6
    assert model.generate(PROMPTS).shape == (2, 6)
    model.generation_config = transformers.GenerationConfig(max_length=5)
    assert model.generate(PROMPTS).shape == (2, 5)
    model.generation_config = SimpleNamespace(to_dict=lambda: {"max_length": 4})
    assert model.generate(PROMPTS).shape == (2, 4)
    with pytest.raises(AttributeError, match="has no 'beams'"):
        _ = model.generation_config.beams


@pytest.mark.parametrize(("name", "value", "usual"), [("num_beams", 4, "1"), ("repetition_penalty", 1.5, "1.0")])
def test_what_generate_cannot_do(name: str, value: float, usual: str) -> None:
    model = decoder(**{name: value})
    with pytest.raises(RequestError, match=f"the config asks for {name}={value}") as caught:
        model.generate(PROMPTS)
    assert f"generation_config.{name} = {usual}" in caught.value.hint
    setattr(model.generation_config, name, float(usual))
    assert model.generate(PROMPTS).shape == (2, 20)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    decoder().save_pretrained(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(DamagedCheckpoint, match=FILE):
        bertconv.TFBertLMHeadModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("eos_token_id", "a"), ("pad_token_id", 1.5), ("max_length", "x"), ("penalty_alpha", 0.6)]
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: Any) -> None:
    model = decoder()
    setattr(model.generation_config, name, value)
    with pytest.raises(RequestError, match=f"{name}.*\nSet model.generation_config.{name}"):
        model.generate(PROMPTS)
