"""Arguments of transformers 4.57 that programs pass along: what asks for nothing passes, what has a meaning has it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import checkpoints as cp
import keras
import numpy as np
import pytest
import tiny_models as tiny
import torch

import bertconv
from bertconv import BertConfig, TFAutoModel, TFBertForSequenceClassification, TFBertModel
from bertconv.arguments import LOADING, MAKING, PUSHING, SAVING, Argument
from bertconv.errors import HubError, RequestError
from bertconv.models import auto, loading
from bertconv.models.arguments import dtype_policy, settle_dtype
from bertconv.source import SourceOptions, hub_upload

LOADERS = pytest.mark.parametrize("loader", [TFBertModel, TFAutoModel])

REAL: dict[str, Any] = {
    "proxies": {"https": "x"}, "state_dict": {"a": 1}, "tf_to_pt_weight_rename": str, "key_mapping": {"a": "b"},
    "adapter_kwargs": {"token": "x"}, "quantization_config": {}, "trust_remote_code": True, "weights_only": False,
    "return_unused_kwargs": True, "use_temp_dir": False, "is_main_process": False, "save_function": print,
    "load_in_8bit": True, "load_in_4bit": True, "use_flash_attention_2": True, "use_kernels": True,
    "offload_buffers": True, "offload_state_dict": True,
}  # fmt: skip
"""Argument -> a value that asks for something; "x" for any other."""

DEFAULTS: dict[str, Any] = {
    "config": None, "cache_dir": None, "ignore_mismatched_sizes": False, "force_download": False, "token": None,
    "local_files_only": False, "revision": "main", "use_safetensors": None, "from_pt": False, "resume_download": None,
    "proxies": None, "output_loading_info": False, "use_auth_token": None, "trust_remote_code": None, "mirror": None,
    "load_weight_prefix": None, "_from_pipeline": None, "_from_auto": False, "subfolder": "", "_commit_hash": None,
    "tf_to_pt_weight_rename": None, "adapter_kwargs": None,
}  # fmt: skip
"""Every argument that 4.57's TFPreTrainedModel.from_pretrained looks at, with its default."""

SAVED: dict[str, Any] = {
    "saved_model": False, "version": 1, "push_to_hub": False, "signatures": None, "max_shard_size": "5GB",
    "create_pr": False, "safe_serialization": False, "token": None,
}  # fmt: skip
PUSHED = ["repo_id", "use_temp_dir", "commit_message", "private", "max_shard_size", "token", "use_auth_token",
          "create_pr"]  # fmt: skip


@pytest.fixture(scope="module")
def state() -> cp.Tensors:
    return cp.state_dict("BertModel", num_hidden_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, state: cp.Tensors) -> Path:
    return cp.save(tmp_path_factory.mktemp("arguments"), "BertModel", state, num_hidden_layers=1)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return TFBertModel.from_pretrained(folder)


def words(model: Any) -> Any:
    return model.get_input_embeddings().weight.numpy()


def test_reals_are_of_the_tables() -> None:
    assert REAL.keys() <= {*LOADING, *SAVING}


# from_pretrained


@LOADERS
@pytest.mark.parametrize("given", [DEFAULTS, dict.fromkeys((*DEFAULTS, *LOADING))], ids=["defaults", "None"])
def test_everything_that_asks_for_nothing(loader: Any, given: dict[str, Any], folder: Path, state: cp.Tensors) -> None:
    loaded = loader.from_pretrained(str(folder), **given)
    assert type(loaded) is TFBertModel
    np.testing.assert_array_equal(words(loaded), state["bert.embeddings.word_embeddings.weight"])
    assert loaded.compute_dtype == "float32"
    assert not {*given} & loaded.config.raw.keys()


@LOADERS
def test_every_value_without_effect_at_once(loader: Any, folder: Path, state: cp.Tensors) -> None:
    given = {name: one.harmless[-1] if one.harmless else "x" for name, one in LOADING.items()
             if one.harmless or one.is_free}  # fmt: skip
    given |= {"from_tf": True, "low_cpu_mem_usage": True, "resume_download": True, "user_agent": {"a": "b"}}
    np.testing.assert_array_equal(
        words(loader.from_pretrained(folder, **given)), state["bert.embeddings.word_embeddings.weight"]
    )


@pytest.mark.parametrize("name", [name for name, one in LOADING.items() if not one.is_free])
def test_what_asks_for_something_is_refused_by_name(name: str, folder: Path) -> None:
    for loader in (TFBertModel, TFAutoModel):
        with pytest.raises(RequestError, match=rf"^from_pretrained does not take {name}\b") as caught:
            loader.from_pretrained(folder, **{name: REAL.get(name, "x")})
        assert caught.value.hint == LOADING[name].advice != ""


def test_one_is_not_true(folder: Path) -> None:
    """0 and 1 are no truths: what they would mean is asked."""
    with pytest.raises(RequestError, match="weights_only=1"):
        TFBertModel.from_pretrained(folder, weights_only=1)


@LOADERS
@pytest.mark.parametrize("given", [{"output_attentions": "yes"}, {"hidden_size": 0}, {"num_labels": "many"}], ids=str)
def test_a_wrong_value_of_a_key_is_the_callers(loader: Any, given: dict[str, Any], folder: Path) -> None:
    """The file is sound: an error about it would send its reader to the wrong place."""
    with pytest.raises(RequestError, match=f"^{next(iter(given))} is ") as caught:
        loader.from_pretrained(folder, **given)
    assert caught.value.file is None


class Opened(Exception):
    """What a checkpoint was to be opened with."""


@LOADERS
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"use_auth_token": "x"}, {"token": "x"}),
        ({"use_auth_token": True}, {"token": True}),
        ({"use_auth_token": False}, {"token": False}),
        ({"use_auth_token": None, "token": "y"}, {"token": "y"}),
        ({"token": None}, {"token": None}),
        ({"revision": "main"}, {"revision": "main"}),
        ({"cache_dir": None}, {"cache_dir": None}),
        ({"cache_dir": "c"}, {"cache_dir": "c"}),
        ({"local_files_only": None, "force_download": None}, {"local_files_only": False, "force_download": False}),
        ({"local_files_only": True, "force_download": True}, {"local_files_only": True, "force_download": True}),
        ({"subfolder": None, "variant": None}, {"subfolder": "", "variant": None}),
        ({"subfolder": "a", "variant": "fp16"}, {"subfolder": "a", "variant": "fp16"}),
        ({"use_safetensors": True}, {"prefer": ("safetensors", "hdf5")}),
    ],
    ids=str,
)
def test_what_has_a_meaning_has_it(
    loader: Any, given: dict[str, Any], wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_path: Any, options: SourceOptions) -> Any:
        raise Opened(options)

    for module in (auto, loading):
        monkeypatch.setattr(module, "open_source", opened)
    with pytest.raises(Opened) as caught:
        loader.from_pretrained("org/name", **given)
    (options,) = caught.value.args
    assert {name: getattr(options, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"torch_dtype": None}, "float32"),
        ({"torch_dtype": "auto"}, "float32"),
        ({"torch_dtype": "float32"}, "float32"),
        ({"torch_dtype": torch.float32}, "float32"),
        ({"torch_dtype": torch.bfloat16}, "bfloat16"),
        ({"torch_dtype": np.float16}, "float16"),
        ({"dtype": "auto"}, "float32"),
        ({"dtype": torch.float16}, "float16"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "float16"),
        ({"dtype": "auto", "torch_dtype": "float16"}, "float16"),
    ],
    ids=str,
)
def test_types_by_both_names(given: dict[str, Any], wanted: str) -> None:
    asked = dict(given)
    settle_dtype(asked)
    assert dtype_policy(asked.get("dtype", "float32")) == wanted
    assert asked.keys() <= {"dtype"}


@LOADERS
def test_a_model_of_a_type_of_torch(loader: Any, folder: Path, state: cp.Tensors) -> None:
    loaded = loader.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert {weight.dtype for weight in loaded.weights} == {loaded.compute_dtype} == {"bfloat16"}
    stored = state["bert.embeddings.word_embeddings.weight"].astype(cp.numpy_type("bfloat16"))
    np.testing.assert_array_equal(words(loaded), stored)


def test_two_tokens(folder: Path) -> None:
    with pytest.raises(RequestError, match="both token and use_auth_token"):
        TFBertModel.from_pretrained(folder, token="x", use_auth_token="y")


def test_none_leaves_what_is_on_or_off(folder: Path, tmp_path: Path) -> None:
    keys = json.loads((folder / "config.json").read_text()) | {"output_attentions": True, "return_dict": False}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    given = dict.fromkeys(("output_attentions", "output_hidden_states", "return_dict", "use_cache", "trainable"))
    loaded = TFBertModel.from_pretrained(folder, config=str(tmp_path), **given)
    assert (loaded.config.output_attentions, loaded.config.output_hidden_states) == (True, False)
    assert (loaded.config.return_dict, loaded.config.use_cache, loaded.trainable) == (False, True, True)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("output_loading_infos", "output_loading_info"), ("use_auth_tokens", "use_auth_token"), ("from_ptt", "from_pt"),
     ("hidden_dropout_probs", "hidden_dropout_prob"), ("ignore_mismatched_size", "ignore_mismatched_sizes")],
)  # fmt: skip
def test_a_misspelling_is_an_error(wrong: str, meant: str, folder: Path) -> None:
    with pytest.raises(RequestError, match=f"no argument {wrong}") as caught:
        TFAutoModel.from_pretrained(folder, **{wrong: None})
    assert caught.value.hint == f"Did you mean {meant}?"


def test_a_class_with_an_argument_of_that_name(folder: Path) -> None:
    class Mirrored(TFBertModel):
        def __init__(self, config: Any, *inputs: Any, mirror: str = "", **kwargs: Any) -> None:
            super().__init__(config, *inputs, **kwargs)
            self.mirror = mirror

    assert Mirrored.from_pretrained(folder, mirror="left").mirror == "left"


def test_positional_arguments_of_a_class(folder: Path) -> None:
    class Scaled(TFBertModel):
        def __init__(self, config: Any, scale: float, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.scale = scale

    loaded, info = Scaled.from_pretrained(folder, 3.5, output_loading_info=True, ignore_mismatched_sizes=None)
    assert (loaded.scale, info["missing_keys"]) == (3.5, [])


# Classes and from_config


@pytest.mark.parametrize("how", ["class", "from_config", "auto"])
def test_making_a_model(how: str) -> None:
    settings = BertConfig(**tiny.config(num_hidden_layers=1))
    make = {"class": TFBertModel, "from_config": TFBertModel.from_config, "auto": TFAutoModel.from_config}[how]
    harmless = {name: one.harmless[-1] if one.harmless else None for name, one in MAKING.items()}
    made = make(settings, **harmless, torch_dtype=torch.float16, name="mine")
    assert (made.name, made.compute_dtype) == ("mine", "float16")
    with pytest.raises(RequestError, match="does not take device_map='auto'") as caught:
        make(settings, device_map="auto")
    assert caught.value.hint == MAKING["device_map"].advice


# save_pretrained and push_to_hub


def names(known: dict[str, Argument]) -> list[str]:
    return [name for name, one in known.items() if not one.is_free]


def test_saving_with_everything_that_asks_for_nothing(model: Any, tmp_path: Path) -> None:
    plain, told, none = (tmp_path / name for name in ("plain", "told", "none"))
    model.save_pretrained(plain)
    model.save_pretrained(told, **SAVED, **{name: one.harmless[-1] for name, one in SAVING.items() if one.harmless})
    model.save_pretrained(none, **dict.fromkeys((*SAVED, *SAVING, "use_auth_token", "repo_id", "commit_message")))
    wanted = cp.snapshot(plain)
    assert cp.snapshot(told).keys() == cp.snapshot(none).keys() == wanted.keys()
    for one in (told, none):
        cp.assert_same(cp.written(one), cp.written(plain))


@pytest.mark.parametrize("name", names(dict(SAVING)))
def test_saving_refuses_by_name(name: str, model: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"^save_pretrained does not take {name}\b") as caught:
        model.save_pretrained(tmp_path / "out", **{name: REAL.get(name, "x")})
    assert caught.value.hint == SAVING[name].advice != ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", names(dict(PUSHING)))
def test_pushing_refuses_by_name(name: str, model: Any) -> None:
    with pytest.raises(RequestError, match=rf"^push_to_hub does not take {name}\b") as caught:
        model.push_to_hub("org/name", **{name: REAL.get(name, "x")})
    assert caught.value.hint == PUSHING[name].advice != ""


@pytest.mark.parametrize(
    ("function", "wrong", "meant"),
    [("save_pretrained", "max_shard_sizes", "max_shard_size"), ("push_to_hub", "safe_serialisation",
     "safe_serialization"), ("push_to_hub", "organisation", "organization")],
)  # fmt: skip
def test_a_misspelling_in_saving(function: str, wrong: str, meant: str, model: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"^{function} has no argument {wrong}") as caught:
        getattr(model, function)(tmp_path / "out", **{wrong: 1})
    assert caught.value.hint == f"Did you mean {meant}?"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent to the Hub, which is not asked."""
    sent: list[dict[str, Any]] = []

    def upload(folder: Path, target: hub_upload.UploadTarget, **asked: Any) -> str:
        files = {path.name for path in folder.iterdir()}
        sent.append({"repository": target.repository, "token": target.token, "files": files, **asked})
        return "address"

    monkeypatch.setattr(hub_upload, "upload_folder", upload)
    return sent


PLAIN = {"token": None, "message": "Upload with bertconv", "description": "", "private": None, "create_pr": False}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"commit_message": "m", "commit_description": "d"}, {"message": "m", "description": "d"}),
        ({"use_auth_token": "x"}, {"token": "x"}),
        ({"use_auth_token": True}, {"token": True}),
        ({"token": "x", "use_auth_token": None}, {"token": "x"}),
        ({"private": True, "create_pr": True}, {"private": True, "create_pr": True}),
        ({"private": None, "create_pr": None, "max_shard_size": None, "commit_message": None}, {}),
        ({"organization": None, "repo_url": None, "use_temp_dir": True, "tags": None}, {}),
    ],
    ids=str,
)
def test_what_is_pushed(
    given: dict[str, Any], wanted: dict[str, Any], model: Any, uploads: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert model.push_to_hub("org/name", **given) == "address"
    model.save_pretrained(tmp_path / "name", push_to_hub=True, **given)
    files = {"tf_model.h5", "config.json", "bertconv.json"}
    assert uploads == [{"repository": one, "files": files, **PLAIN, **wanted} for one in ("org/name", "name")]


def test_push_takes_the_arguments_of_saving(model: Any, uploads: list[dict[str, Any]]) -> None:
    model.push_to_hub("org/name", None, "m", safe_serialization=True)
    assert uploads[0]["message"] == "m"
    assert "model.safetensors" in uploads[0]["files"]


def test_arguments_by_position_stand_where_they_stood() -> None:
    """As in 4.57; what is not told by position any more is refused, never taken for something else."""
    assert list(inspect.signature(TFBertModel.push_to_hub).parameters)[1:9] == PUSHED
    assert list(inspect.signature(TFBertModel.save_pretrained).parameters)[2:10] == list(SAVED)
    own = {name: one.default for name, one in inspect.signature(TFBertModel.from_pretrained).parameters.items()}
    assert {name: own[name] for name in DEFAULTS if name in own and name != "revision"} == {
        name: value for name, value in DEFAULTS.items() if name in own and name != "revision"
    }


# What is not there


NOT_THERE, PARTS = "is not a local folder and is not a valid model identifier", ("no weights", "no config")


@pytest.mark.parametrize("loader", [TFBertModel, TFAutoModel, TFBertForSequenceClassification, BertConfig])
@pytest.mark.parametrize("what", ["no path", "no folder at all", "bad--name", "no weights", "no config"])
def test_what_is_not_there_is_an_oserror(loader: Any, what: str, tmp_path: Path, folder: Path) -> None:
    """4.57 raises one, and programs catch it."""
    path = {"no path": "/no/such/model", "no folder at all": "a/b/c", "bad--name": "bad--name"}.get(what, str(tmp_path))
    if what == "no weights":
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        loader = TFBertModel if loader is BertConfig else loader
    elif what == "no config":
        (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(OSError, match=NOT_THERE if what not in PARTS and loader is not BertConfig else "no") as caught:
        loader.from_pretrained(path)
    assert isinstance(caught.value, bertconv.BertconvError)
    assert caught.value.errno is None


def test_offline_without_a_cache_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not in the Hub cache") as caught:
        TFAutoModel.from_pretrained("org/name", local_files_only=True, cache_dir=tmp_path)
    assert isinstance(caught.value, HubError)


def test_losing_a_subfolder_is_an_oserror(folder: Path) -> None:
    with pytest.raises(OSError, match="no subfolder 'x'"):
        TFBertModel.from_pretrained(folder, subfolder="x")


def test_keras_still_names_what_it_does_not_know() -> None:
    with pytest.raises((TypeError, ValueError), match="nonsense"):
        TFBertModel(BertConfig(**tiny.config()), nonsense=1)
    assert keras.Model in TFBertModel.__mro__
