"""config.json: BERT's defaults, nonsense refused with the file's name, everything else kept as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.config import ACTIVATIONS, DEFAULTS, MAX_BYTES, BertConfig, read_json
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsupportedCheckpoint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KNOWN = [*DEFAULTS, "num_labels", "id2label", "model_type", "architectures", "pruned_heads", "quantization_config"]


def load(tmp_path: Path, content: bytes | dict[str, Any]) -> BertConfig:
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return BertConfig.load(path)


def refused(tmp_path: Path, content: bytes | dict[str, Any], kind: type[BertconvError]) -> str:
    with pytest.raises(kind) as refusal:
        load(tmp_path, content)
    assert type(refusal.value) is kind
    assert refusal.value.file == str(tmp_path / "config.json")
    assert refusal.value.hint
    return refusal.value.message


def test_an_empty_config_is_bert_base(tmp_path: Path) -> None:
    config = load(tmp_path, {})
    assert config.values == {**DEFAULTS, "num_labels": 2}
    assert (config.raw, config.architectures) == ({}, ())
    assert (config.values["vocab_size"], config.values["layer_norm_eps"]) == (30522, 1e-12)


def test_what_the_file_says_goes_before_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, {"hidden_size": 36, "num_attention_heads": 4, "layer_norm_eps": 1e-6, "hidden_act": "relu"})
    assert [config.values[key] for key in config.raw] == [36, 4, 1e-6, "relu"]
    assert config.values["intermediate_size"] == 3072
    assert config.says("hidden_size")
    assert not config.says("vocab_size")


@pytest.mark.parametrize(
    "key",
    ["vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings",
     "num_hidden_layers", "type_vocab_size", "num_labels"],
)  # fmt: skip
@pytest.mark.parametrize("value", [-1, 0, 1.0, "12", True, None, [12], 2**31], ids=repr)
def test_sizes_are_whole_numbers(key: str, value: Any, tmp_path: Path) -> None:
    if value == 0 and key in {"num_hidden_layers", "type_vocab_size", "num_labels"} and value is not False:
        assert load(tmp_path, {key: value}).values[key] == 0
        return
    assert f"{key} is {value!r}, not a whole number" in refused(tmp_path, {key: value}, DamagedCheckpoint)


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "tie_word_embeddings", "use_cache"])
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_flags_are_true_or_false(key: str, value: Any, tmp_path: Path) -> None:
    assert f"{key} is {value!r}" in refused(tmp_path, {key: value}, DamagedCheckpoint)


@pytest.mark.parametrize(
    ("key", "value"),
    [("layer_norm_eps", -1e-12), ("layer_norm_eps", 1.5), ("layer_norm_eps", "1e-12"), ("hidden_dropout_prob", 1.1),
     ("attention_probs_dropout_prob", None), ("initializer_range", -0.1), ("initializer_range", True)],
)  # fmt: skip
def test_numbers_are_in_their_range(key: str, value: Any, tmp_path: Path) -> None:
    assert f"{key} is {value!r}, not a number" in refused(tmp_path, {key: value}, DamagedCheckpoint)


def test_heads_divide_the_hidden_size(tmp_path: Path) -> None:
    problem = refused(tmp_path, {"hidden_size": 35, "num_attention_heads": 4}, DamagedCheckpoint)
    assert problem == "hidden_size 35 is not a multiple of num_attention_heads 4."


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', not 'bert'"),
        ({"model_type": None}, "model_type is None"),
        ({"hidden_act": "glu"}, "hidden_act 'glu' is unknown"),
        ({"hidden_act": None}, "hidden_act None is unknown"),
        ({"hidden_act": ["gelu"]}, r"hidden_act ['gelu'] is unknown"),
        ({"hidden_act": {}}, "hidden_act {} is unknown"),
        ({"position_embedding_type": "rotary"}, "position_embedding_type 'rotary' is unknown"),
        ({"position_embedding_type": []}, "position_embedding_type [] is unknown"),
        ({"pruned_heads": {"0": [1]}}, "attention heads were pruned"),
        ({"quantization_config": {"bits": 4}}, "the weights are quantised"),
    ],
)
def test_other_models_are_refused_by_name(raw: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert problem in refused(tmp_path, raw, UnsupportedCheckpoint)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_known_activations_are_taken(activation: str, tmp_path: Path) -> None:
    assert load(tmp_path, {"hidden_act": activation}).values["hidden_act"] == activation


@pytest.mark.parametrize(
    "raw", [{"pruned_heads": {}}, {"quantization_config": None}, {"id2label": None}, {"id2label": {}}]
)
def test_empty_values_say_nothing(raw: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, raw).values["num_labels"] == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" " * (MAX_BYTES + 1), "larger than 1,000,000 bytes"),
        (b'{"a": 1, "b": 2, "a": 1}', "key 'a' stands twice"),
        (b'{"label": {"x": 1, "x": 2}}', "key 'x' stands twice"),
        (b'{"layer_norm_eps": NaN}', "NaN is not JSON"),
        (b'{"x": Infinity}', "Infinity is not JSON"),
        (b'{"x": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"initializer_range": 1e999}', "1e999 is too large"),
        (b'{"x": -1e999}', "-1e999 is too large"),
        (b'{"x": ' + b"1" * 5000 + b"}", "is not sound JSON"),
        (b"[" * 100_000, "is not sound JSON"),
        (b"{", "is not sound JSON"),
        (b"\xff\xfe\x00", "is not sound JSON"),
        (b"[1]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'"bert"', "is not a JSON object"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not sound JSON"),
    ],
    ids=lambda value: value[:16] if isinstance(value, bytes) else None,
)
def test_what_is_no_config_is_damage(content: bytes, problem: str, tmp_path: Path) -> None:
    assert problem in refused(tmp_path, content, DamagedCheckpoint)


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_what_cannot_be_read_is_damage(name: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="cannot be read") as refusal:
        read_json(tmp_path / name, MAX_BYTES)
    assert refusal.value.file == str(tmp_path / name)


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, b"{}" + b" " * (MAX_BYTES - 2)).raw == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_json_are_read(encoding: str, tmp_path: Path) -> None:
    assert load(tmp_path, '{"name": "größer"}'.encode(encoding)).raw == {"name": "größer"}


def test_the_file_s_keys_are_kept_in_their_order(tmp_path: Path) -> None:
    raw = {
        "zebra": [1, {"x": None}],
        "vocab_size": 99,
        "_name_or_path": "größer/模型",
        "a": 1.5,
        "auto_map": {"A": "b.C"},
    }
    config = load(tmp_path, raw)
    assert list(config.raw.items()) == list(raw.items())
    assert config.to_bytes().decode() == json.dumps(raw, indent=2, ensure_ascii=False) + "\n"
    assert "größer/模型".encode() in config.to_bytes()


def test_half_a_character_is_kept_as_the_escape_that_it_was(tmp_path: Path) -> None:
    config = load(tmp_path, rb'{"name": "\ud800"}')
    assert b'"\\ud800"' in config.to_bytes()
    assert load(tmp_path, config.to_bytes()).raw == config.raw


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key not in KNOWN), JSON, max_size=5))
def test_unknown_keys_come_back_as_they_were(raw: dict[str, Any]) -> None:
    config = BertConfig.from_dict(raw)
    assert list(json.loads(config.to_bytes()).items()) == list(raw.items())
    assert config.values == {**DEFAULTS, "num_labels": 2, **raw}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN), JSON, max_size=4))
def test_no_value_does_more_than_be_refused(raw: dict[str, Any]) -> None:
    try:
        config = BertConfig.from_dict(raw, "some/config.json")
    except (DamagedCheckpoint, UnsupportedCheckpoint) as refusal:
        assert refusal.file == "some/config.json"  # noqa: PT017  (it may also pass)
        return
    assert config.values["hidden_size"] % config.values["num_attention_heads"] == 0
    assert isinstance(config.architectures, tuple)


@pytest.mark.parametrize(
    ("raw", "labels", "says"),
    [
        ({}, 2, False),
        ({"num_labels": 5}, 5, True),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3, True),
        ({"num_labels": 1, "id2label": {"0": "a"}}, 1, True),
        ({"num_labels": 0}, 0, True),
    ],
)
def test_labels_are_counted(raw: dict[str, Any], labels: int, says: bool, tmp_path: Path) -> None:
    config = load(tmp_path, raw)
    assert (config.values["num_labels"], config.says("num_labels")) == (labels, says)
    assert config.raw == raw


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"num_labels": 3, "id2label": {"0": "a"}}, "num_labels is 3, but id2label has 1 labels"),
        ({"id2label": ["a"]}, "id2label is not an object"),
        ({"id2label": "a"}, "id2label is not an object"),
    ],
)
def test_labels_that_contradict_each_other_are_damage(raw: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert problem in refused(tmp_path, raw, DamagedCheckpoint)


@pytest.mark.parametrize(
    ("named", "architectures"),
    [
        (["BertModel"], ("BertModel",)),
        (["TFBertForMaskedLM", "BertModel"], ("BertForMaskedLM", "BertModel")),
        (["BertTFModel"], ("BertTFModel",)),
        ([None, 3, "BertModel"], ("BertModel",)),
        ([], ()),
        (None, ()),
        ("BertModel", ()),
    ],
)
def test_architectures_lose_tensorflow_s_prefix(named: Any, architectures: tuple[str, ...], tmp_path: Path) -> None:
    config = load(tmp_path, {"architectures": named})
    assert config.architectures == architectures
    assert config.raw["architectures"] == named


def test_other_model_types_are_the_table_s_choice(tmp_path: Path) -> None:
    raw = {"model_type": "electra"}
    assert BertConfig.from_dict(raw, model_types=("bert", "electra")).values["model_type"] == "electra"
    assert "'bert'" in refused(tmp_path, raw, UnsupportedCheckpoint)


def test_oddities_are_noted(tmp_path: Path) -> None:
    assert load(tmp_path, {"model_type": "bert"}).notes == ()
    code, absent = load(tmp_path, {"auto_map": {}}).notes
    assert "'auto_map' asks for code to be run" in code
    assert "no model_type" in absent


def test_replacing_changes_those_keys_and_is_checked() -> None:
    config = BertConfig.from_dict({"x": 1, "vocab_size": 99, "y": 2}, "some/config.json")
    changed = config.replace(vocab_size=104, num_labels=3)
    assert list(changed.raw.items()) == [("x", 1), ("vocab_size", 104), ("y", 2), ("num_labels", 3)]
    assert (changed.path, changed.values["num_labels"], config.raw["vocab_size"]) == ("some/config.json", 3, 99)
    with pytest.raises(DamagedCheckpoint, match="vocab_size is 0"):
        config.replace(vocab_size=0)
