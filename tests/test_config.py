"""config.json: BERT's defaults, nonsense refused with the file's name, everything else kept as it was."""

from __future__ import annotations

import copy
import json
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.config import BertConfig
from bertconv.config import places as config_places
from bertconv.config.classes import ACTIVATIONS, COMMON
from bertconv.config.content import MAX_BYTES, read_json
from bertconv.config.defaults import ASKED
from bertconv.errors import BertconvError, DamagedCheckpoint, OutputError, RequestError, UnsupportedCheckpoint
from bertconv.families import Family

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DEFAULTS = {**COMMON, **BertConfig.own_family().schema.defaults}
KNOWN = [*DEFAULTS, "num_labels", "id2label", "model_type", "architectures", "pruned_heads", "quantization_config"]


def sharing(*model_types: str) -> Family:
    """BERT's family as a table of the user's own may have it, for other model types."""
    return replace(BertConfig.own_family(), model_types=model_types)


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
    assert (config.raw, config.architectures, config.named_classes) == ({}, None, ())
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


@pytest.mark.parametrize(
    "key",
    ["is_decoder", "add_cross_attention", "tie_word_embeddings", "use_cache", "output_attentions",
     "output_hidden_states", "return_dict"],
)  # fmt: skip
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_flags_are_true_or_false(key: str, value: Any, tmp_path: Path) -> None:
    assert f"{key} is {value!r}" in refused(tmp_path, {key: value}, DamagedCheckpoint)


@pytest.mark.parametrize(
    ("key", "value"),
    [("layer_norm_eps", -1e-12), ("layer_norm_eps", 1.5), ("layer_norm_eps", "1e-12"), ("hidden_dropout_prob", 1.1),
     ("attention_probs_dropout_prob", None), ("initializer_range", -0.1), ("initializer_range", True),
     ("classifier_dropout", 1.5), ("classifier_dropout", "0.1"), ("classifier_dropout", False)],
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
        (b'{"a": 1, "b": 2, "a": 1}', "duplicate key 'a'"),
        (b'{"label": {"x": 1, "x": 2}}', "duplicate key 'x'"),
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


def test_letters_of_every_language_are_read(tmp_path: Path) -> None:
    assert load(tmp_path, '{"name": "größer"}'.encode()).raw == {"name": "größer"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_refused(encoding: str, tmp_path: Path) -> None:
    """As JSON's standard (RFC 8259, 8.1) and transformers have it: a guess could be another than another program's."""
    with pytest.raises(DamagedCheckpoint, match="is not sound JSON"):
        load(tmp_path, '{"name": "größer"}'.encode(encoding))


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
    assert isinstance(config.named_classes, tuple)


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
    assert config.named_classes == architectures
    assert config.raw["architectures"] == config.architectures == named


def test_other_model_types_are_the_table_s_choice(tmp_path: Path) -> None:
    raw = {"model_type": "electra"}
    assert BertConfig.from_dict(raw, family=sharing("bert", "electra")).values["model_type"] == "electra"
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


SMALL = {
    "vocab_size": 101, "hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 52,
    "hidden_act": "relu", "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3,
    "max_position_embeddings": 40, "type_vocab_size": 5, "initializer_range": 0.05, "layer_norm_eps": 1e-6,
    "pad_token_id": 7, "position_embedding_type": "relative_key", "use_cache": False, "classifier_dropout": 0.4,
}  # fmt: skip
"""The keys that transformers takes by position, in its order, all of them other than the defaults."""

NAMES = {0: "neg", 1: "neutral", 2: "pos"}
IDS = {"neg": 0, "neutral": 1, "pos": 2}


def wrong(problem: str, hint: str = "") -> Any:
    """The context in which arguments are refused, with the problem and no file."""
    return pytest.raises(RequestError, match=f"{problem}.*\\n.*{hint}")


def test_keys_are_given_by_name_or_by_position() -> None:
    by_name, by_position = BertConfig(**SMALL), BertConfig(*SMALL.values())
    assert by_name.raw == by_position.raw == SMALL
    assert by_name.values == {**DEFAULTS, **SMALL, "num_labels": 2}
    assert (by_name.path, by_name.notes, by_name.family.model_type) == ("", (), "bert")
    mixed = BertConfig(101, 36, num_attention_heads=4, unknown=[1, {"x": None}], self="x", path="y")
    assert (mixed.vocab_size, mixed.hidden_size, mixed.unknown, mixed.path) == (101, 36, [1, {"x": None}], "")
    assert (mixed.raw["self"], mixed.raw["path"]) == ("x", "y")


def test_calls_that_say_too_much_are_refused() -> None:
    with wrong("17 values were given by position", "by name"):
        BertConfig(*range(17))
    with wrong("hidden_size was given twice"):
        BertConfig(101, 36, hidden_size=36)


def test_defaults_are_those_of_transformers() -> None:
    theirs, ours = transformers.BertConfig(), BertConfig()
    common = [key for key in DEFAULTS if hasattr(theirs, key)]
    assert {key: getattr(ours, key) for key in common} == {key: getattr(theirs, key) for key in common}
    gone = {"position_embedding_type": "absolute", "sep_token_id": None, "decoder_start_token_id": None}
    assert {key: getattr(ours, key) for key in DEFAULTS if key not in common} == gone


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"hidden_size": -1}, "hidden_size is -1, not a whole number from 1 up"),
        ({"hidden_size": 35, "num_attention_heads": 4}, "hidden_size 35 is not a multiple of num_attention_heads 4"),
        ({"output_attentions": 1}, "output_attentions is 1, not true or false"),
        ({"problem_type": "classification"}, "problem_type is 'classification', not null, regression"),
        ({"problem_type": ["regression"]}, r"problem_type is \['regression'\]"),
        ({"num_labels": 2, "id2label": NAMES}, "num_labels is 2, but id2label has 3 labels"),
        ({"id2label": ["neg", "pos"]}, "id2label is not an object"),
        ({"x": {1, 2}}, "x cannot be written as JSON: it holds a set"),
        ({"x": np.zeros(2)}, "x cannot be written as JSON: it holds a ndarray"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps cannot be written as JSON: NaN"),
        ({"x": {1: "a", "1": "b"}}, "duplicate key '1'"),
        ({"hidden_act": len}, "hidden_act cannot be written as JSON"),
    ],
)
def test_arguments_are_checked_and_no_file_is_blamed(keys: dict[str, Any], problem: str) -> None:
    with wrong(problem):
        BertConfig(**keys)
    with wrong(problem):
        BertConfig.coerce(keys)
    with pytest.raises(DamagedCheckpoint, match=problem) as refusal:
        BertConfig.from_dict(keys)
    assert refusal.value.file == "config"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"label2id": ["neg", "pos"]}, "label2id is not an object"),
        ({"id2label": {"neg": 0}}, "id2label has the id 'neg', not a whole number"),
        ({"label2id": {"neg": "no"}}, "label2id has the id 'no', not a whole number"),
        ({"label2id": {"neg": False}}, "label2id has the id 'False', not a whole number"),
    ],
)
def test_labels_of_arguments_have_numbers(keys: dict[str, Any], problem: str) -> None:
    with wrong(problem):
        BertConfig(**keys)
    with wrong(problem):
        BertConfig().update(keys)


def test_other_models_are_refused_as_arguments() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="model_type is 'roberta'") as refusal:
        BertConfig(model_type="roberta")
    assert refusal.value.file is None
    with pytest.raises(UnsupportedCheckpoint, match="hidden_act 'glu' is unknown"):
        BertConfig(hidden_act="glu")


def test_scalars_of_numpy_are_numbers() -> None:
    config = BertConfig(num_labels=np.int64(3), hidden_dropout_prob=np.float64(0.1), output_attentions=np.bool_(True))
    assert config.raw == {"num_labels": 3, "hidden_dropout_prob": 0.1, "output_attentions": True}
    assert [type(value) for value in config.raw.values()] == [int, float, bool]


def test_what_was_given_is_copied() -> None:
    given = {"x": [1], "id2label": dict(NAMES)}
    config = BertConfig(**given)
    given["x"].append(2)
    given["id2label"][3] = "new"
    assert (config.x, config.id2label) == ([1], NAMES)
    config.to_dict()["x"].append(3)
    assert config.x == [1]


def test_every_key_is_an_attribute() -> None:
    config = BertConfig(**SMALL, unknown="x")
    assert {key: getattr(config, key) for key in config.values} == config.values
    assert set(config.values) <= set(dir(config))
    assert config.use_return_dict is True
    assert BertConfig(return_dict=False).use_return_dict is False
    assert getattr(config, "nothing", "absent") == "absent"
    with pytest.raises(AttributeError, match="no 'hiden_size'; did you mean 'hidden_size'"):
        config.hiden_size  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'id2label'"):
        config.id2labels  # noqa: B018


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_labels", 5), ("output_attentions", True), ("problem_type", "regression"), ("classifier_dropout", None),
     ("unknown", {"x": [1]}), ("hidden_act", "silu"), ("architectures", ["TFBertModel"]), ("model_type", "bert")],
)  # fmt: skip
def test_attributes_are_written(key: str, value: Any) -> None:
    config, other = BertConfig(**SMALL), BertConfig(**SMALL)
    setattr(config, key, value)
    assert config.values[key] == config.raw[key] == value
    assert getattr(config, key) == value
    assert config.raw == {**SMALL, key: value}
    other.update({key: value})
    assert config == other == BertConfig(**{**SMALL, key: value})


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("hidden_size", 0, RequestError), ("return_dict", None, RequestError), ("x", object(), RequestError),
     ("id2label", {"a": 1}, RequestError), ("num_labels", "3", RequestError),
     ("hidden_act", "glu", NotImplementedError), ("model_type", "electra", NotImplementedError),
     ("values", {}, AttributeError), ("raw", {}, AttributeError),
     ("path", "x", AttributeError), ("update", 1, AttributeError), ("use_return_dict", True, AttributeError)],
)  # fmt: skip
def test_writing_nonsense_changes_nothing(key: str, value: Any, kind: type[Exception]) -> None:
    config = load_small("some/config.json")
    before = copy.deepcopy(vars(config))
    with pytest.raises(kind) as refusal:
        setattr(config, key, value)
    assert vars(config) == before
    assert getattr(refusal.value, "file", None) is None


def load_small(path: str) -> BertConfig:
    return BertConfig.from_dict({**SMALL, "model_type": "bert"}, path)


def test_sizes_may_be_written_one_after_the_other(tmp_path: Path) -> None:
    config = BertConfig()
    config.hidden_size = 32
    for use in (BertConfig.coerce, lambda it: it.save_pretrained(tmp_path), lambda it: it.replace(num_labels=3)):
        with wrong("hidden_size 32 is not a multiple of num_attention_heads 12"):
            use(config)
    assert list(tmp_path.iterdir()) == []
    config.num_attention_heads = 4
    assert BertConfig.coerce(config) is config


def test_private_names_are_plain_attributes() -> None:
    config = BertConfig(_name_or_path="x")
    marker = object()
    config._attn_implementation = marker
    config._name_or_path = "y"
    assert config._attn_implementation is marker
    assert config.name_or_path == config._name_or_path == "y"
    assert config.raw == {"_name_or_path": "x"}  # of a file that says it: its bytes stay


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copies_are_equal_and_apart(copied: Any) -> None:
    config = BertConfig.from_dict({**SMALL, "id2label": {"0": "a"}, "x": [1]}, "some/config.json", sharing("bert", "b"))
    other = copied(config)
    assert other == config
    assert vars(other) == vars(config)
    assert (other.id2label, other.path, other.family.model_types) == ({0: "a"}, "some/config.json", ("bert", "b"))
    other.num_labels = 5
    assert (config.num_labels, config.id2label, other.num_labels) == (1, {0: "a"}, 5)
    assert other != config


def test_equal_is_what_has_equal_keys(tmp_path: Path) -> None:
    assert (
        BertConfig(num_labels=3)
        == BertConfig.from_dict({"num_labels": 3}, "elsewhere")
        == load(tmp_path, {"num_labels": 3})
    )
    assert BertConfig(num_labels=3) != BertConfig(num_labels=4)
    assert BertConfig(hidden_size=768) != BertConfig()
    assert BertConfig() != {}
    with pytest.raises(TypeError, match="unhashable"):
        hash(BertConfig())


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(id2label=NAMES),
        BertConfig(id2label={str(number): name for number, name in NAMES.items()}, label2id=IDS, num_labels=3),
        BertConfig(label2id=IDS),
        BertConfig(num_labels=None, label2id=IDS | {"negative": 0}),
        BertConfig.from_dict({"id2label": {"0": "neg", "1": "neutral", "2": "pos"}}),
        BertConfig(num_labels=5).replace(id2label=NAMES),
    ],
)
def test_names_give_the_number_of_labels_and_back(config: BertConfig) -> None:
    assert (config.num_labels, config.id2label) == (3, NAMES)
    assert IDS.items() <= config.label2id.items()
    assert json.loads(config.to_json_string())["id2label"] == {"0": "neg", "1": "neutral", "2": "pos"}
    assert config.to_dict()["id2label"] == NAMES
    assert config.says("num_labels")


def test_labels_without_names_are_numbered() -> None:
    config = BertConfig(num_labels=3)
    assert config.id2label == transformers.BertConfig(num_labels=3).id2label
    assert config.label2id == transformers.BertConfig(num_labels=3).label2id
    assert BertConfig.from_dict({"label2id": {"a": 0}}).label2id == {"LABEL_0": 0, "LABEL_1": 1}


def test_another_number_drops_the_names() -> None:
    config = BertConfig(id2label=NAMES, label2id=IDS)
    config.num_labels = 3
    assert config.id2label == NAMES
    with wrong("num_labels is 4, but id2label has 3 labels"):
        config.update({"num_labels": 4, "id2label": NAMES})
    assert config.replace(num_labels=5).raw == {"num_labels": 5}
    config.num_labels = 4
    assert (config.raw, config.id2label[3], config.label2id["LABEL_3"]) == ({"num_labels": 4}, "LABEL_3", 3)
    config.id2label = {0: "x"}
    assert (config.num_labels, config.label2id) == (1, {"x": 0})
    config.label2id = {"y": 0, "z": 1}
    assert (config.num_labels, config.id2label) == (2, {0: "y", 1: "z"})
    config.id2label = None
    assert (config.num_labels, config.id2label) == (2, {0: "LABEL_0", 1: "LABEL_1"})
    assert "label2id" not in config.raw


LABELS = st.dictionaries(st.integers(0, 9), st.text(min_size=1), max_size=4).filter(
    lambda names: len(set(names.values())) == len(names)
)
STEPS = st.one_of(
    st.tuples(st.just("num_labels"), st.integers(0, 6)),
    st.tuples(st.just("id2label"), st.none() | LABELS),
    st.tuples(st.just("label2id"), LABELS.map(lambda names: {name: number for number, name in names.items()})),
)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_labels_stay_in_step_whatever_is_written(steps: list[tuple[str, Any]]) -> None:
    config = BertConfig()
    for key, value in steps:
        setattr(config, key, value)
        if value or key == "num_labels":
            assert getattr(config, key) == value
        assert config.num_labels == len(config.id2label) == len(config.label2id)
        assert {name: number for number, name in config.id2label.items()} == config.label2id
        assert BertConfig(**config.raw) == BertConfig.from_dict(config.raw) == config
        reloaded = BertConfig.from_dict(json.loads(config.to_json_string()))
        assert (reloaded.id2label, reloaded.num_labels) == (config.id2label, config.num_labels)


def test_labels_of_files_that_make_no_sense_are_kept() -> None:
    raw = {"id2label": {"neg": "0", "1": None}, "label2id": [3]}
    config = BertConfig.from_dict(raw)
    assert (config.num_labels, config.id2label, config.label2id) == (2, {"neg": "0", 1: None}, {"0": "neg", "None": 1})
    assert config.raw == raw
    assert json.loads(config.to_json_string())["id2label"] == raw["id2label"]
    assert BertConfig.from_dict({"id2label": {"9" * 5000: "x"}}).id2label == {"9" * 5000: "x"}


CHANGES: list[tuple[Callable[[dict[Any, Any]], Any], dict[int, str]]] = [
    (lambda names: names.__setitem__(0, "x"), {0: "x", 1: "yes", 2: "perhaps"}),
    (lambda names: names.__setitem__("0", "x"), {0: "x", 1: "yes", 2: "perhaps"}),
    (lambda names: names.__setitem__(3, "x"), {0: "no", 1: "yes", 2: "perhaps", 3: "x"}),
    (lambda names: names.update({0: "x"}, **{"1": "y"}), {0: "x", 1: "y", 2: "perhaps"}),
    (lambda names: operator.ior(names, {0: "x"}), {0: "x", 1: "yes", 2: "perhaps"}),
    (lambda names: names.setdefault(3, "x"), {0: "no", 1: "yes", 2: "perhaps", 3: "x"}),
    (lambda names: operator.delitem(names, 2), {0: "no", 1: "yes"}),
    (lambda names: names.pop(2), {0: "no", 1: "yes"}),
    (lambda names: names.popitem(), {0: "no", 1: "yes"}),
]


@pytest.mark.parametrize(("change", "wanted"), CHANGES)
def test_labels_are_changed_in_place(
    change: Callable[[dict[Any, Any]], Any], wanted: dict[int, str], tmp_path: Path
) -> None:
    """As programs for transformers do, with a map that they keep too; number and ids follow."""
    config = BertConfig(id2label={0: "no", 1: "yes", 2: "perhaps"})
    kept = config.id2label
    change(kept)
    assert kept == config.id2label == wanted
    assert config.num_labels == len(wanted)
    assert config.label2id == {name: number for number, name in wanted.items()}
    config.save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).id2label == wanted


def test_labels_of_a_config_of_transformers_keep_their_order() -> None:
    """Programs take list(config.label2id) for the labels."""
    names = {number: f"{chr(90 - number)}{number}" for number in range(12)}
    ids = {name: number for number, name in names.items()}
    theirs = transformers.BertConfig(id2label=names, label2id=ids)
    for config in (BertConfig.coerce(theirs), BertConfig(**theirs.to_dict())):
        assert ([*config.id2label], [*config.label2id]) == ([*names], [*ids])


def test_both_maps_are_changed_in_place_label_by_label() -> None:
    for start in ({"num_labels": 2}, {"id2label": {0: "no", 1: "yes"}}):
        for order in (("id2label", "label2id"), ("label2id", "id2label")):
            config = BertConfig(**start)
            for number, name in enumerate(["bad", "good", "fair"]):
                for key in order:
                    pair = (number, name) if key == "id2label" else (name, number)
                    getattr(config, key).__setitem__(*pair)
            assert config.id2label == {0: "bad", 1: "good", 2: "fair"}
            assert config.label2id == {"bad": 0, "good": 1, "fair": 2}
    config.label2id["awful"] = 0  # another spelling, which names nothing anew
    assert (config.id2label[0], config.label2id["awful"], config.num_labels) == ("bad", 0, 3)
    config.label2id.clear()
    assert config.label2id == {"bad": 0, "good": 1, "fair": 2}
    with wrong("id2label has the id 'x'"):
        config.id2label["x"] = "y"
    assert config.id2label == {0: "bad", 1: "good", 2: "fair"}


def test_labels_are_those_of_the_config_whoever_reads_them() -> None:
    config = BertConfig(num_labels=2)
    one, other = config.id2label, config.id2label
    one[0] = "no"
    other[1] = "yes"
    assert config.id2label == {0: "no", 1: "yes"}
    config.num_labels = 4
    one[3] = "last"
    assert (config.num_labels, config.id2label[3]) == (4, "last")


def test_labels_are_asked_for_by_a_number_as_text() -> None:
    """Which it is in the map that many programs assign."""
    config = BertConfig()
    config.id2label = {"0": "no", "1": "yes"}
    assert (config.id2label["0"], config.id2label.get("1"), config.id2label[0]) == ("no", "yes", "no")
    assert (config.id2label.get("2"), config.id2label.get("2", "x"), config.label2id.get("0")) == (None, "x", None)
    with pytest.raises(KeyError):
        config.id2label["2"]
    assert type(copy.deepcopy(config.id2label)) is type(pickle.loads(pickle.dumps(config.label2id))) is dict


def test_dictionaries_hold_every_key() -> None:
    config = BertConfig(**SMALL, unknown="x", architectures=["TFBertModel"])
    full = config.to_dict()
    own = {**config.values, "id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1},
           "model_type": "bert"}  # fmt: skip
    assert config.own_keys() == own
    assert full == {**ASKED, "_name_or_path": "", **{key: value for key, value in own.items() if key != "num_labels"}}
    again = BertConfig.from_dict(full)
    assert again.to_dict() == full == BertConfig(**full).to_dict() == BertConfig.coerce(full).to_dict()
    assert json.loads(config.to_json_string(use_diff=False)) == json.loads(json.dumps(full))


@pytest.mark.parametrize(
    "keys", [{}, SMALL, {"num_labels": 3}, {"id2label": NAMES, "label2id": IDS}, {"is_decoder": True}]
)
def test_json_is_what_transformers_writes_and_reads(keys: dict[str, Any], tmp_path: Path) -> None:
    config, theirs = BertConfig(**keys), transformers.BertConfig(**keys)
    ours = json.loads(config.to_json_string())
    written = json.loads(theirs.to_json_string())
    assert list(ours) == sorted(ours)
    common = ours.keys() & written.keys()
    assert {key: ours[key] for key in common} == {key: written[key] for key in common}
    new = {"is_decoder", "add_cross_attention", "tie_word_embeddings", "bos_token_id", "eos_token_id"}
    assert written.keys() - ours.keys() <= new | {"transformers_version"}
    assert ours.keys() - written.keys() <= {"position_embedding_type", "num_labels"}
    config.save_pretrained(tmp_path)
    read = transformers.BertConfig.from_pretrained(tmp_path)
    assert {key: getattr(read, key) for key in keys} == {key: getattr(theirs, key) for key in keys}
    assert read.id2label == theirs.id2label


def test_saving_and_loading_keeps_every_value(tmp_path: Path) -> None:
    config = BertConfig(**SMALL, id2label=NAMES, unknown="größer")
    folder = tmp_path / "new" / "folder"
    config.save_pretrained(folder)
    config.num_labels = 5
    config.save_pretrained(str(folder))
    assert [file.name for file in folder.iterdir()] == ["config.json"]
    for again in (BertConfig.from_pretrained(folder), BertConfig.from_json_file(folder / "config.json")):
        assert again.to_dict() == config.to_dict()
        assert (again.path, again.notes) == (str(folder / "config.json"), ())
    assert not BertConfig.from_dict(json.loads(BertConfig().to_json_string())).says("num_labels")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written: File exists"):
        BertConfig().save_pretrained(tmp_path / "file")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        BertConfig().save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "file"]


def test_configs_are_printed_as_json() -> None:
    name, text = repr(BertConfig(hidden_size=36, num_attention_heads=4, x="y")).split(" ", 1)
    assert name == "BertConfig"
    assert {"hidden_size": 36, "x": "y", "vocab_size": 30522}.items() <= json.loads(text).items()
    assert len(repr(BertConfig(num_labels=2**30))) < 1000


@pytest.mark.parametrize("name", ["config.json", "bert_config.json"])
def test_local_folders_and_files_are_loaded(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps({**SMALL, "id2label": {"0": "a"}}))
    for place in (tmp_path, tmp_path / name, str(tmp_path)):
        config = BertConfig.from_pretrained(place, num_labels=3, output_attentions=True, finetuning_task="sst2")
        assert (config.num_labels, config.output_attentions, config.finetuning_task) == (3, True, "sst2")
        assert config.raw == {**SMALL, "num_labels": 3, "output_attentions": True, "finetuning_task": "sst2"}
        assert config.path == str(tmp_path / name)
        assert BertConfig.coerce(place).num_labels == 1


def test_overrides_are_checked_together(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert BertConfig.from_pretrained(tmp_path, hidden_size=35, num_attention_heads=5).hidden_size == 35
    with wrong("hidden_size 35 is not a multiple of num_attention_heads 4"):
        BertConfig.from_pretrained(tmp_path, hidden_size=35)
    assert BertConfig.from_pretrained(tmp_path, token="secret").raw == SMALL
    assert [BertConfig().knows(key) for key in ("num_labels", "id2label", "torch_dtype", "cache_dir")] == [
        True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["google-bert/bert-base-uncased", "", "x" * 5000, "nul\0", ".."])
def test_what_is_not_here_is_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "inner")
    with wrong("is no config file here, and no folder with a config.json", "path on this machine"):
        BertConfig.coerce(place)
    monkeypatch.setattr(config_places, "_hubs", [])  # as where bertconv.config alone was imported
    with pytest.raises(OSError, match="is no config file here, and no folder"):
        BertConfig.from_pretrained(place)


def test_configs_come_from_what_users_have() -> None:
    theirs = transformers.BertConfig(
        hidden_size=36, num_attention_heads=4, id2label=NAMES, label2id=IDS, is_decoder=True
    )
    ours = BertConfig.coerce(theirs)
    assert (ours.hidden_size, ours.id2label, ours.label2id, ours.is_decoder) == (36, NAMES, IDS, True)
    assert "transformers" in sys.modules
    assert not BertConfig.coerce(transformers.BertConfig()).says("num_labels")
    config = BertConfig(**SMALL)
    assert BertConfig.coerce(config) is config
    assert BertConfig.coerce(SMALL) == config
    assert BertConfig.coerce(theirs.to_dict()).to_dict().items() >= {"hidden_size": 36, "id2label": NAMES}.items()


class Speaks:
    """An object that has only `to_dict`."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def to_dict(self) -> dict[str, Any]:
        return self.keys


def test_objects_are_known_by_what_they_can_do() -> None:
    assert BertConfig.coerce(Speaks(model_type="bert", vocab_size=99)).vocab_size == 99
    with pytest.raises(UnsupportedCheckpoint, match="model_type is 'roberta'"):
        BertConfig.coerce(transformers.RobertaConfig())
    with wrong("x cannot be written as JSON: it holds a object"):
        BertConfig.coerce(Speaks(model_type="bert", x=object()))


@pytest.mark.parametrize(
    "value",
    [None, 3, b"config.json", ["config.json"], BertConfig, transformers.BertConfig, transformers.GenerationConfig(),
     Speaks(vocab_size=99), object()],
    ids=lambda value: str(type(value).__name__),
)  # fmt: skip
def test_anything_else_is_no_config(value: Any) -> None:
    with wrong("a config was expected, not ", "Give a BertConfig, a dictionary"):
        BertConfig.coerce(value)


def test_dictionaries_with_odd_keys_are_refused() -> None:
    with wrong("the config's key 3 is not text"):
        BertConfig.coerce({3: 4})


class Wide(BertConfig):
    """A user's config, in the way of transformers' guide to custom models: attributes first."""

    model_type = "wide"
    depth = 1

    def __init__(self, width: int = 5, **keys: Any) -> None:
        self.width = width
        super().__init__(**keys)


def test_a_subclass_adds_keys(tmp_path: Path) -> None:
    config = Wide(width=7, num_labels=3, depth=2)
    assert (config.width, config.depth, config.num_labels, config.model_type) == (7, 2, 3, "wide")
    assert config.raw == {"width": 7, "num_labels": 3, "depth": 2}
    config.depth = 4
    assert (config.depth, copy.deepcopy(config).depth) == (4, 4)
    config.save_pretrained(tmp_path)
    again = Wide.from_pretrained(tmp_path, width=8)
    assert (type(again), again.width, again.depth, again.raw["model_type"]) == (Wide, 8, 4, "wide")
    assert Wide.from_dict(SMALL, "x").raw == {**SMALL, "width": 5}
    assert Wide.from_dict({"model_type": "bert"}).family.model_types == ("bert",)
    assert Wide.from_dict({"model_type": "wide"}).values["model_type"] == "wide"
    assert (Wide().width, Wide().raw, BertConfig().raw, BertConfig.raw) == (5, {"width": 5}, {}, {})
    assert BertConfig.model_type == "bert"
    with pytest.raises(UnsupportedCheckpoint, match="'wide'"):
        BertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("model_types", [("electra",), ("bert", "electra")])
def test_the_model_type_is_that_of_the_file(model_types: tuple[str, ...]) -> None:
    config = BertConfig.from_dict({"model_type": "electra"}, family=sharing(*model_types))
    assert (config.model_type, config.to_dict()["model_type"], config.replace(x=1).model_type) == ("electra",) * 3


def test_importing_the_config_loads_no_framework() -> None:
    frameworks = {"numpy", "tensorflow", "keras", "torch", "transformers", "huggingface_hub"}
    code = f"import sys, bertconv.config; print({frameworks!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("use_diff", [True, False])
def test_to_json_file(tmp_path: Path, use_diff: bool) -> None:
    config = BertConfig(hidden_size=35, num_attention_heads=5, num_labels=3)
    path = tmp_path / "sub" / "own.json"
    config.to_json_file(path, use_diff)
    assert path.read_text() == config.to_json_string(use_diff)
    assert BertConfig.from_json_file(path).to_dict() == config.to_dict()
    assert [each.name for each in path.parent.iterdir()] == ["own.json"]


def test_a_subfolder(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=35, num_attention_heads=5)
    config.save_pretrained(tmp_path / "inner")
    again = BertConfig.from_pretrained(tmp_path, subfolder="inner", num_labels=3)
    assert (again.hidden_size, again.num_labels) == (35, 3)
    with pytest.raises(RequestError, match="is no config file here"):
        BertConfig.from_pretrained(tmp_path, subfolder="other")


def test_whether_it_is_of_two_models() -> None:
    """Programs ask every config; a key of the file is reported as it is, and none is written that was not there."""
    assert BertConfig().is_encoder_decoder is False
    assert BertConfig().to_dict()["is_encoder_decoder"] is False
    assert "is_encoder_decoder" not in BertConfig().to_json_string()
    reported = BertConfig.from_dict({"is_encoder_decoder": True})
    assert reported.is_encoder_decoder is True
    assert reported.to_dict()["is_encoder_decoder"] is True


@pytest.mark.parametrize("value", [1.0, "1", True, [1]], ids=repr)
def test_the_pads_id_is_a_whole_number_or_null(value: Any, tmp_path: Path) -> None:
    problem = refused(tmp_path, {"pad_token_id": value}, DamagedCheckpoint)
    assert problem == f"pad_token_id is {value!r}, not null or a whole number."
    assert load(tmp_path, {"pad_token_id": None}).values["pad_token_id"] is None
    assert load(tmp_path, {"pad_token_id": -1}).values["pad_token_id"] == -1
