"""What programs of transformers 4.57 do with a config: `data/config_4_57.json` has what 4.57.6 says of each class.

`common` and `own` are the attributes of `BertConfig()` and the others, `to_dict` the keys of that method, `methods` the
public ones, `absent` what a config has not.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_endpoint import writable

import bertconv
from bertconv import AutoConfig, BertConfig, DistilBertConfig
from bertconv.config.defaults import ASKED, GENERATION
from bertconv.errors import MissingPath, RequestError

FACTS = json.loads((Path(__file__).parent / "data" / "config_4_57.json").read_text())
CLASSES = sorted(FACTS["own"])
PRIVATE = {"_attn_implementation_internal", "_output_attentions"}
"""Where 4.57 keeps the values of its properties."""
OF_SEVERAL_MODELS = {"from_text_audio_configs", "from_text_vision_configs"}
INNER = {"dict_dtype_to_str"}
SMALL = {"hidden_size": 36, "num_attention_heads": 4}


@pytest.mark.parametrize("name", CLASSES)
def test_every_attribute_has_the_value_of_4_57(name: str) -> None:
    config = getattr(bertconv, name)()
    wanted = {key: value for key, value in {**FACTS["common"], **FACTS["own"][name]}.items() if key not in PRIVATE}
    found = {key: getattr(config, key) for key in wanted}
    found["id2label"] = {str(number): label for number, label in found["id2label"].items()}
    assert found == wanted
    assert {key for key in wanted if not key.startswith("_")} <= {*dir(config)} | {"transformers_version"}


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_only_asked_for_is_neither_written_nor_compared(name: str, tmp_path: Path) -> None:
    kind = getattr(bertconv, name)
    config, untouched = kind(num_labels=3), kind(num_labels=3)
    before = config.to_bytes(), config.to_json_string(), dict(config.raw), dict(config.values)
    for key in {*FACTS["common"]} - PRIVATE:
        getattr(config, key)
    config.pruned_heads[1] = [0]  # a copy
    config.name_or_path = "somewhere"
    assert config == untouched
    assert (config.to_bytes(), config.to_json_string(), dict(config.raw), dict(config.values)) == before
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.keys() & {*ASKED, "_name_or_path", "name_or_path", "transformers_version"} == set()
    assert kind.from_pretrained(tmp_path).name_or_path == ""  # as in 4.57, which tells those of AutoConfig alone
    assert AutoConfig.from_pretrained(tmp_path).name_or_path == str(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, name_or_path="given").name_or_path == "given"


def test_every_method_is_there() -> None:
    assert {name for name in FACTS["methods"] if not hasattr(BertConfig, name)} == OF_SEVERAL_MODELS | INNER
    assert [name for name in FACTS["absent"] if hasattr(BertConfig(), name)] == []


def test_the_dictionary_has_the_keys_of_4_57() -> None:
    config = BertConfig(**SMALL, max_length=7)
    found = config.to_dict()
    assert {*FACTS["to_dict"]} - {*found} == {"transformers_version"}
    assert {*found} - {*FACTS["to_dict"]} == set()
    assert (found["max_length"], found["num_beams"], found["_name_or_path"]) == (7, 1, "")
    assert [*config] == [*found]
    assert "num_beams" in config
    assert BertConfig(**found).to_dict() == BertConfig.from_dict(found).to_dict() == found
    names = {0: "a", 1: "b", 2: "c"}
    assert BertConfig(**{**found, "id2label": names, "label2id": {"a": 0, "b": 1, "c": 2}}).num_labels == 3
    assert BertConfig(**BertConfig(num_labels=0).to_dict()).num_labels == 0
    assert config.to_diff_dict() == json.loads(config.to_json_string())
    assert "num_beams" not in config.to_diff_dict()


@pytest.mark.parametrize("key", sorted(ASKED))
def test_a_key_is_given_and_set_as_any_other(key: str, tmp_path: Path) -> None:
    if key in {"pruned_heads", "architectures"}:
        value: Any = None
    else:
        value = {"x": 1} if ASKED[key] is None else not ASKED[key] if ASKED[key] in (True, False) else 7
    BertConfig(**SMALL).save_pretrained(tmp_path)
    config = BertConfig.from_pretrained(tmp_path, **{key: value})
    other = BertConfig(**SMALL)
    setattr(other, key, value)
    assert getattr(config, key) == getattr(other, key) == value
    assert other.raw == {**SMALL, key: value}
    assert other.to_dict()[key] == json.loads(other.to_json_string())[key] == value
    assert json.loads(other.to_bytes()) == other.raw
    for same in (copy.deepcopy(other), pickle.loads(pickle.dumps(other)), other.replace()):
        assert getattr(same, key) == value
        assert same == other != BertConfig(**SMALL)


@pytest.mark.parametrize("file", [{}, {"_name_or_path": "old"}])
def test_the_name_is_kept_beside_the_keys(file: dict[str, Any]) -> None:
    config = BertConfig.from_dict({**SMALL, **file})
    assert config.name_or_path == config._name_or_path == file.get("_name_or_path", "")
    config.name_or_path = Path("new")
    config.num_labels = 3
    for same in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.replace(vocab_size=7)):
        assert same.name_or_path == same.to_dict()["_name_or_path"] == "new"
    assert config.raw == {**SMALL, **file, "num_labels": 3}


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_both_spellings_of_the_type(key: str, dtype: Any) -> None:
    config = BertConfig(**{key: dtype})
    assert (config.dtype, config.torch_dtype, config.raw) == ("float16", "float16", {key: "float16"})
    config.dtype = "float32"
    assert (config.torch_dtype, config.raw) == ("float32", {key: "float32"})
    config.torch_dtype = None
    assert (config.dtype, BertConfig(torchscript=True).use_return_dict) == (None, FACTS["torchscript"])


def test_changes_by_a_text() -> None:
    config = BertConfig()
    config.update_from_string("hidden_dropout_prob=0.5,is_decoder=yes,max_length=7,hidden_act=relu")
    found = [config.hidden_dropout_prob, config.is_decoder, config.max_length, config.hidden_act]
    assert found == FACTS["update_from_string"]
    for text, problem in (
        ("nonsense=1", "'nonsense=1' changes no key"), ("is_decoder", "'is_decoder' changes no key"),
        ("is_decoder=perhaps", "is_decoder is True"), ("max_length=x", "max_length is 7"),
        ("prefix=x", "prefix is None"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=problem):
            config.update_from_string(text)


def test_the_map_of_attributes_is_of_the_class_too() -> None:
    wanted = FACTS["own"]["DistilBertConfig"]["attribute_map"]
    assert DistilBertConfig.attribute_map == DistilBertConfig().attribute_map == wanted
    assert BertConfig.attribute_map == {}
    with pytest.raises(AttributeError, match="belongs to the class"):
        BertConfig().attribute_map = {}
    assert BertConfig().get_text_config(decoder=True) == BertConfig()
    assert (BertConfig.sub_configs, BertConfig._auto_class) == ({}, None)


# Reading


@pytest.mark.parametrize("kind", [BertConfig, AutoConfig])
def test_arguments_that_ask_for_nothing(kind: Any, tmp_path: Path) -> None:
    BertConfig(**SMALL).save_pretrained(tmp_path / "inner")
    config, unused = kind.from_pretrained(
        pretrained_model_name_or_path=str(tmp_path), subfolder="inner", revision="main", cache_dir=tmp_path,
        force_download=False, resume_download=None, proxies=None, local_files_only=True, token=None,
        use_auth_token=None, trust_remote_code=False, _from_auto=True, return_unused_kwargs=True, num_labels=5,
        max_length=9, name_or_path="given", nonsense=3,
    )  # fmt: skip
    assert (type(config), config.num_labels, config.max_length, config.name_or_path) == (BertConfig, 5, 9, "given")
    assert unused == {"nonsense": 3}
    assert "name_or_path" not in config.raw
    with pytest.warns(match="no key 'num_label', 'output_loading_info': left out. Did you mean num_labels") as caught:
        config = kind.from_pretrained(
            tmp_path, subfolder="inner", num_label=3, is_decoder=True, output_loading_info=True
        )
    assert [each.filename for each in caught] == [__file__]
    assert (config.num_labels, config.is_decoder, hasattr(config, "num_label")) == (2, True, False)
    with pytest.raises(RequestError, match="does not take proxies"):
        kind.from_pretrained(tmp_path, subfolder="inner", proxies={"https": "x"})
    with pytest.raises(RequestError, match="both token and use_auth_token"):
        kind.from_pretrained(tmp_path, subfolder="inner", token="x", use_auth_token="y")


def test_keys_without_a_config(tmp_path: Path) -> None:
    BertConfig(**SMALL, x=1).save_pretrained(tmp_path)
    keys, others = BertConfig.get_config_dict(tmp_path, revision="main", num_labels=3)
    assert (keys, others) == (json.loads((tmp_path / "config.json").read_text()), {"num_labels": 3})
    config, unused = BertConfig.from_dict(keys, num_labels=3, nonsense=4, return_unused_kwargs=True)
    assert (config.num_labels, config.x, unused) == (3, 1, {"nonsense": 4})


@pytest.mark.parametrize("kind", [BertConfig, AutoConfig])
@pytest.mark.parametrize("place", ["no/such/folder", "", Path("nowhere"), "empty"])
def test_what_is_not_there_is_an_os_error(
    kind: Any, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as refusal:  # noqa: PT011  (as programs catch it)
        kind.from_pretrained(place)
    assert isinstance(refusal.value, MissingPath)


# The Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "source"))
    from hub_writes import WritableHub

    yield from writable(WritableHub(), tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", [BertConfig, AutoConfig])
def test_a_config_of_the_hub(hub: Any, kind: Any, tmp_path: Path) -> None:
    """A repository that holds nothing else will do; it is found again without the network."""
    first, second = (BertConfig(**SMALL, num_labels=count).to_json_string().encode() for count in (3, 4))
    hub.add_repo("org/bert", {"config.json": first, "inner/config.json": second})
    config = kind.from_pretrained("org/bert")
    assert (type(config), config.num_labels, config.hidden_size) == (BertConfig, 3, 36)
    assert kind.from_pretrained("org/bert", revision="main", subfolder="inner", num_labels=7).num_labels == 7
    hub.requests.clear()
    assert kind.from_pretrained("org/bert", local_files_only=True).num_labels == 3
    assert hub.requests == []
    assert kind.from_pretrained("org/bert", cache_dir=tmp_path / "mine").num_labels == 3
    assert list((tmp_path / "mine").glob("models--org--bert/snapshots/*/config.json"))
    hub.add_repo("org/nothing", {"README.md": b"nothing"})
    for gone in ("org/nothing", "org/absent"):
        with pytest.raises(OSError, match=gone):
            kind.from_pretrained(gone)


def test_a_config_of_a_hub_that_is_down(hub: Any) -> None:
    hub.add_repo("org/bert", {"config.json": BertConfig(**SMALL, num_labels=3).to_json_string().encode()})
    BertConfig.from_pretrained("org/bert")
    hub.fail = 503
    with pytest.warns(UserWarning, match=r"org/bert: the Hub is out of reach \(HTTP 503\)"):
        assert BertConfig.from_pretrained("org/bert").num_labels == 3


def test_a_config_is_pushed_alone(hub: Any, tmp_path: Path) -> None:
    config = BertConfig(**SMALL, num_labels=3)
    config.push_to_hub("me/config", commit_message="Mine", private=True, use_temp_dir=True, tags=None)
    assert hub.files("me/config")["config.json"] == config.to_json_string().encode()
    assert hub.repositories["me/config"].private
    assert BertConfig.from_pretrained("me/config") == BertConfig.from_dict(json.loads(config.to_json_string()))
    config.num_labels = 4
    config.save_pretrained(tmp_path / "config", push_to_hub=True, repo_id="me/config")
    assert BertConfig.from_pretrained("me/config").num_labels == 4
    with pytest.raises(RequestError, match="does not take organization"):
        config.push_to_hub("config", organization="org")


def test_keys_of_generate_are_those_of_4_57() -> None:
    assert all(FACTS["common"][key] == value for key, value in GENERATION.items())
