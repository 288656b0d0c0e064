"""Configs of every family: transformers' defaults, positions and files, and both spellings of a key."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers

import bertconv
from bertconv import AutoConfig
from bertconv.config import BertConfig, Config
from bertconv.config.checks import check_counted_positions
from bertconv.config.classes import COMMON
from bertconv.errors import DamagedCheckpoint, RequestError, UnsupportedCheckpoint
from bertconv.families import Family, families

EACH = pytest.mark.parametrize("family", families().values(), ids=lambda family: family.model_type)
NEUTRAL = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "layer_norm_eps", "pad_token_id", "initializer_range", "position_embedding_type", "classifier_dropout",
    "add_cross_attention", "is_decoder", "tie_word_embeddings", "num_labels",
)  # fmt: skip
GONE = {"position_embedding_type", "use_cache", "is_decoder", "add_cross_attention", "sep_token_id",
        "decoder_start_token_id"}  # fmt: skip
"""Keys that transformers 5 no longer has for some families."""
SAME_SIZES = {"hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 53}


def ours(family: Family) -> type[Config]:
    found: type[Config] = getattr(bertconv, f"{family.prefix}Config")
    return found


def theirs(family: Family) -> Any:
    return getattr(transformers, f"{family.prefix}Config")


@EACH
def test_defaults_are_those_of_transformers(family: Family) -> None:
    config, other = ours(family)(), theirs(family)()
    for key in (*family.schema.defaults, *COMMON):
        if hasattr(other, key):
            assert getattr(config, key) == getattr(other, key), key
        else:
            assert key in GONE, key
    own = {key for key in other.to_dict() if key not in transformers.BertConfig().to_dict()}
    assert own <= set(config.to_dict())


@EACH
def test_the_keys_that_the_core_asks_for_are_always_there(family: Family) -> None:
    values = ours(family)(**SAME_SIZES).values
    assert set(NEUTRAL) <= set(values)
    assert {key: values[key] for key in SAME_SIZES} == SAME_SIZES


@EACH
def test_keys_are_taken_by_position(family: Family) -> None:
    schema = family.schema
    values = [schema.defaults[key] for key in schema.positional]
    assert ours(family)(*values).raw == dict(zip(schema.positional, values, strict=True))
    with pytest.raises(RequestError, match="given by position"):
        ours(family)(*values, 1)


@EACH
def test_files_of_transformers_are_read_and_written(family: Family, tmp_path: Path) -> None:
    other = theirs(family)(**family.schema.respelled(SAME_SIZES), num_labels=3)
    other.save_pretrained(tmp_path)
    for read in (ours(family).from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(read) is ours(family)
        assert (read.model_type, read.num_labels) == (family.model_type, 3)
        assert {key: getattr(read, key) for key in SAME_SIZES} == SAME_SIZES
    ours(family)(**SAME_SIZES, num_labels=3).save_pretrained(tmp_path / "ours")
    again = theirs(family).from_pretrained(tmp_path / "ours")
    assert again.num_labels == 3
    for key in family.schema.defaults:
        if hasattr(other, key):
            assert getattr(again, key) == getattr(other, key), key


@EACH
def test_automatic_configs_find_the_class(family: Family) -> None:
    made = AutoConfig.for_model(family.model_type, **SAME_SIZES)
    assert type(made) is ours(family)
    assert made.family == family
    assert AutoConfig.for_model(family.model_type).to_dict()["model_type"] == family.model_type


@EACH
def test_copies_and_pickles(family: Family) -> None:
    config = ours(family)(**SAME_SIZES, more=[1])
    for duplicate in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert (duplicate.values, duplicate) == (config.values, config)
    assert ours(family).from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_automatic_configs_refuse_what_they_cannot_know(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no mapping table for the model type 'gpt2'"):
        AutoConfig.for_model("gpt2")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="has no model_type"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").rename(tmp_path / "bert_config.json")
    assert type(AutoConfig.from_pretrained(tmp_path)) is BertConfig
    with pytest.raises(RequestError, match="never made itself"):
        AutoConfig()
    with pytest.raises(RequestError, match="Config itself is of no family"):
        Config()


def distilbert(**keys: Any) -> Config:
    return bertconv.DistilBertConfig(**keys)


def test_both_spellings_are_one_key() -> None:
    config = distilbert(hidden_size=40, n_heads=5)
    assert config.raw == {"dim": 40, "n_heads": 5}
    assert (config.dim, config.hidden_size, config.num_attention_heads) == (40, 40, 5)
    config.hidden_size = 45
    assert (config.dim, config.values["hidden_size"], config.raw["dim"]) == (45, 45, 45)
    config.dim = 50
    assert config.replace(num_hidden_layers=2).raw == {"dim": 50, "n_heads": 5, "n_layers": 2}
    assert (config.says("hidden_size"), config.says("dim"), config.says("n_layers")) == (True, True, False)
    assert config == distilbert(dim=50, num_attention_heads=5)


def test_files_keep_the_family_s_own_spelling() -> None:
    written = json.loads(distilbert(hidden_size=40, n_heads=5).to_json_string())
    assert (written["dim"], written["n_heads"], written["n_layers"]) == (40, 5, 6)
    for key in ("hidden_size", "num_attention_heads", "layer_norm_eps", "type_vocab_size", "classifier_dropout"):
        assert key not in written
        assert key not in distilbert().to_dict()
    assert distilbert().to_dict()["seq_classif_dropout"] == 0.2


def test_what_a_family_fixes_is_not_the_file_s_to_say() -> None:
    values = distilbert(layer_norm_eps=0.5, type_vocab_size=7).values
    assert (values["layer_norm_eps"], values["type_vocab_size"], values["add_cross_attention"]) == (1e-12, 0, False)


def test_spellings_that_contradict_each_other_are_refused() -> None:
    raw = {"hidden_size": 48, "dim": 36}
    with pytest.raises(DamagedCheckpoint, match="hidden_size and dim are two spellings of one key and differ"):
        bertconv.DistilBertConfig.from_dict(raw, "some/config.json")
    assert bertconv.DistilBertConfig.from_dict({"hidden_size": 48, "dim": 48}).raw == {"dim": 48}


def test_a_stray_key_of_bert_s_does_not_hide_the_family_s_own() -> None:
    """transformers keeps keys that are no DistilBERT's beside its own, and computes with its own."""
    raw = transformers.DistilBertConfig(intermediate_size=53, hidden_act="relu", hidden_dim=7).to_dict()
    config = bertconv.DistilBertConfig.from_dict(raw)
    assert (config.intermediate_size, config.hidden_act) == (7, "gelu")


@pytest.mark.parametrize(
    ("model_type", "key", "value", "problem"),
    [
        ("distilbert", "dim", 35, "dim 35 is not a multiple of n_heads 12"),
        ("distilbert", "n_layers", -1, "n_layers is -1, not a whole number from 0 up"),
        ("distilbert", "qa_dropout", 2, "qa_dropout is 2, not a number from 0 to 1"),
        ("distilbert", "sinusoidal_pos_embds", 1, "sinusoidal_pos_embds is 1, not true or false"),
        ("electra", "embedding_size", 0, "embedding_size is 0, not a whole number from 1 up"),
        ("mpnet", "relative_attention_num_buckets", 0, "relative_attention_num_buckets is 0, not a whole number"),
        ("albert", "inner_group_num", 0, "inner_group_num is 0, not a whole number from 1 up"),
        ("albert", "classifier_dropout_prob", None, "classifier_dropout_prob is None, not a number"),
    ],
)
def test_nonsense_is_refused_in_the_family_s_own_words(model_type: str, key: str, value: Any, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        AutoConfig.for_model(model_type, **{key: value})


def test_an_unknown_activation_is_named_as_the_file_has_it() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="activation 'glu' is unknown"):
        distilbert(activation="glu")


def test_configs_of_another_family_are_refused() -> None:
    with pytest.raises(RequestError, match="a BertConfig was given for a RobertaConfig"):
        bertconv.RobertaConfig.coerce(BertConfig())
    duplicate = bertconv.XLMRobertaConfig()
    assert bertconv.RobertaConfig.coerce(duplicate) is duplicate
    with pytest.raises(UnsupportedCheckpoint, match="model_type is 'bert', not 'roberta' or"):
        bertconv.RobertaConfig(model_type="bert")


@pytest.mark.parametrize(("padding", "rows"), [(None, 9), (-2, 9), (8, 9), (9, 9)])
def test_padding_that_leaves_no_position_is_refused(padding: int | None, rows: int) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="positions are counted") as caught:
        check_counted_positions(padding, rows)
    assert caught.value.hint


@pytest.mark.parametrize("padding", [-1, 0, 7])
def test_padding_that_leaves_a_position(padding: int) -> None:
    check_counted_positions(padding, 9)
