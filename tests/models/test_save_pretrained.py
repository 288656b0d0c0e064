"""save_pretrained and Keras's own ways: exact, whole or not at all, the same names however a model was made."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import checkpoints as cp
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
import torch
import transformers

import bertconv
import bertconv.saving as files
from bertconv.errors import BertconvError, HubError, OutputError, ParityError, RequestError
from bertconv.formats import staging
from bertconv.formats.checksum import Taken
from bertconv.formats.content import OutputFile
from bertconv.models import saving

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_endpoint import pointed_at
from hub_writes import WritableHub, answers

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

CLASSIFIER = "BertForSequenceClassification"
FORMATS = ("tf", "tf-safetensors", "pt")
EACH_FORMAT = pytest.mark.parametrize("form", FORMATS)
EACH_HEAD = pytest.mark.parametrize("head", cp.HEADS)
LM_HEADS = ("BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel")
TOKENIZER = {"vocab.txt": b"[PAD]\n", "tokenizer.json": b"{}", "README.md": b"mine", "sub/file.txt": b"mine as well"}


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with normal numbers in every weight."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.5)
    return model


def make(head: str = CLASSIFIER, seed: int = 0, keywords: Any = None, **changes: Any) -> Any:
    """A tiny model of one layer with random weights everywhere."""
    settings = tiny.config(head, **{"num_hidden_layers": 1, **changes})
    return randomised(tiny.tf_class(head)(settings, **(keywords or {})), seed)


def weights(model: Any) -> cp.Tensors:
    """Every weight by its TensorFlow name, without the model's own in front."""
    return {f"{weight.path.partition('/')[2]}:0": weight.numpy() for weight in model.weights}


def load(folder: Path, head: str = CLASSIFIER, **keywords: Any) -> Any:
    """The model of a folder, which must have everything and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = tiny.tf_class(head).from_pretrained(folder, output_loading_info=True, **keywords)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    return model


def logits(model: Any, head: str = CLASSIFIER) -> list[np.ndarray]:
    return [np.asarray(value) for value in keras.tree.flatten(model(tiny.inputs(head)))]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def torch_state(folder: Path, head: str) -> cp.Tensors:
    """What transformers 5 reads, by its own names; it must find everything, and nothing that it does not know."""
    model, info = getattr(transformers, head).from_pretrained(folder, output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


# What is written


@EACH_HEAD
def test_every_format(tmp_path: Path, head: str) -> None:
    model = make(head)
    own = weights(model)
    for form in FORMATS:
        model.save_pretrained(tmp_path / form, format=form)
        names = {"tf": "tf_model.h5"}.get(form, "model.safetensors")
        beside = {"config.json", "bertconv.json", *(["generation_config.json"] if model.can_generate() else [])}
        assert {path.name for path in (tmp_path / form).iterdir()} == {names, *beside}
        config = cp.config_of(tmp_path / form)
        assert (config["architectures"], config["model_type"]) == ([head], "bert")
    for form in ("tf", "tf-safetensors"):
        cp.assert_same(cp.written(tmp_path / form), own)
    for form in ("tf", "pt"):
        again = load(tmp_path / form, head)
        cp.assert_same(weights(again), own)
        assert again.config.own_keys() == {**model.config.own_keys(), "architectures": [head]}


@EACH_HEAD
def test_transformers_reads_it(tmp_path: Path, head: str) -> None:
    """From transformers 5 to a TensorFlow model and back: the same bits under the same names."""
    original = tiny.torch_model(head, num_hidden_layers=1).float()
    original.save_pretrained(tmp_path / "in")
    model = load(tmp_path / "in", head)
    model.save_pretrained(tmp_path / "out", format="pt", max_shard_size="40kB")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    expected = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
    cp.assert_same(torch_state(tmp_path / "out", head), expected)
    assert (
        model.num_parameters()
        == original.num_parameters()
        == sum({tensor.data_ptr(): tensor.numel() for tensor in original.parameters()}.values())
    )
    assert type(transformers.AutoConfig.from_pretrained(tmp_path / "out")) is transformers.BertConfig


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False}, {"is_decoder": True, "add_cross_attention": True},
        {"tie_word_embeddings": False, "is_decoder": True},
    ],
    ids=str,
)  # fmt: skip
def test_transformers_reads_odd_models(tmp_path: Path, changes: dict[str, Any]) -> None:
    original = tiny.torch_model("BertLMHeadModel", num_hidden_layers=1, **changes).float()
    original.save_pretrained(tmp_path / "in")
    for form in FORMATS:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "without is_decoder")
            model = tiny.tf_class("BertLMHeadModel").from_pretrained(tmp_path / "in")
        model.save_pretrained(tmp_path / form, format=form)
        cp.assert_same(weights(load(tmp_path / form, "BertLMHeadModel")), weights(model))
    expected = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
    cp.assert_same(torch_state(tmp_path / "pt", "BertLMHeadModel"), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_element_type(tmp_path: Path, dtype: str) -> None:
    """What the variables are is what is written, and what config.json says of it."""
    model = make(keywords={"dtype": dtype}, dtype="float32")
    for form in FORMATS:
        model.save_pretrained(tmp_path / form, format=form)
        assert {value.dtype.name for value in cp.written(tmp_path / form).values()} == {dtype}
        cp.assert_same(weights(load(tmp_path / form, dtype=dtype)), weights(model))
        assert cp.config_of(tmp_path / form)["dtype"] == dtype
    assert getattr(transformers, CLASSIFIER).from_pretrained(tmp_path / "pt").dtype == getattr(torch, dtype)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_half_checkpoint_that_was_trained_in_full(tmp_path: Path, key: str) -> None:
    """config.json must not tell PyTorch to cut float32 weights down to what the checkpoint once was."""
    state = cp.state_dict(CLASSIFIER, "float16", num_hidden_layers=1)
    cp.save(tmp_path / "half", CLASSIFIER, state, num_hidden_layers=1, **{key: "float16"})
    model = randomised(load(tmp_path / "half"))
    model.save_pretrained(tmp_path / "out", format="pt")
    assert cp.config_of(tmp_path / "out")[key] == "float32"
    assert {value.dtype.name for value in torch_state(tmp_path / "out", CLASSIFIER).values()} == {"float32"}


def test_mixed_precision_is_saved_whole(tmp_path: Path) -> None:
    model = make(keywords={"dtype": "mixed_float16"})
    model.save_pretrained(tmp_path)
    assert {value.dtype.name for value in cp.written(tmp_path).values()} == {"float32"}
    cp.assert_same(weights(load(tmp_path)), weights(model))


def test_safe_serialization(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path, safe_serialization=True)
    values, metadata = cp.read_safetensors(tmp_path / "model.safetensors")
    cp.assert_same(values, weights(model))
    assert metadata["format"] == "tf"


def test_config_of_the_caller_is_kept(tmp_path: Path) -> None:
    """Keys that bertconv does not know, labels and architectures are saved."""
    names = {0: "no", 1: "yes"}
    model = make(num_labels=None, id2label=names, label2id={"no": 0, "yes": 1}, my_key=[1, {"a": None}])
    model.save_pretrained(tmp_path)
    config = cp.config_of(tmp_path)
    assert config["my_key"] == [1, {"a": None}]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    again = load(tmp_path)
    assert (again.config.id2label, again.config.num_labels) == (names, 2)
    assert model.config.says("architectures") is False, "saving changes no model"


# Shards, and what was there before


@EACH_FORMAT
def test_shards(tmp_path: Path, form: str) -> None:
    """No shard is larger than asked for unless it holds one tensor, and none is empty."""
    model = make("BertForPreTraining")
    model.save_pretrained(tmp_path, format=form, max_shard_size=12_000)
    stem = "tf_model.h5" if form == "tf" else "model.safetensors"
    index = json.loads((tmp_path / f"{stem}.index.json").read_bytes())
    shards = sorted(path for path in tmp_path.iterdir() if path.suffix in {".h5", ".safetensors"})
    assert len(shards) > 4
    assert {path.name for path in shards} == set(index["weight_map"].values())
    for path in shards:
        held = cp.read_h5(path) if form == "tf" else cp.read_safetensors(path)[0]
        assert held
        assert len(held) == 1 or sum(value.nbytes for value in held.values()) <= 12_000
    cp.assert_same(weights(load(tmp_path, "BertForPreTraining")), weights(model))


@EACH_FORMAT
def test_stale_shards_go_and_other_files_stay(tmp_path: Path, form: str) -> None:
    """Many shards, fewer, one file: after each save the folder holds that save and the files of others."""
    for name, content in TOKENIZER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    counts = []
    for seed, size in enumerate((12_000, 25_000, "5GB", 12_000)):
        model = make(seed=seed)
        model.save_pretrained(tmp_path, format=form, max_shard_size=size)
        found = {name: content for name, content in cp.snapshot(tmp_path).items() if content is not None}
        shards = [name for name in found if name.endswith((".h5", ".safetensors"))]
        counts.append(len(shards))
        indexes = [name for name in found if name.endswith(".index.json")]
        assert len(indexes) == (len(shards) > 1)
        assert set(found) == {*TOKENIZER, *shards, *indexes, "config.json", "bertconv.json"}
        assert {name: found[name] for name in TOKENIZER} == TOKENIZER
        cp.assert_same(weights(load(tmp_path)), weights(model))
    assert counts[0] > counts[1] > counts[2] == 1
    assert counts[3] == counts[0]


def test_saving_over_a_save_of_transformers(tmp_path: Path) -> None:
    """Its shards and its config go; what belongs to nobody's weights stays."""
    state = cp.state_dict(CLASSIFIER, num_hidden_layers=1)
    cp.write_config(tmp_path, cp.config(CLASSIFIER, num_hidden_layers=1))
    cp.save_shards(tmp_path, state)
    model = make()
    model.save_pretrained(tmp_path, format="pt")
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json", "bertconv.json"}
    cp.assert_same(weights(load(tmp_path)), weights(model))


def test_weights_in_another_format_beside_it(tmp_path: Path) -> None:
    """They stay, and one warning says that from_pretrained would take the older ones."""
    make(seed=1).save_pretrained(tmp_path, format="pt")
    model = make(seed=2)
    with pytest.warns(UserWarning, match=r"model\.safetensors") as caught:
        model.save_pretrained(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    cp.assert_same(weights(load(tmp_path, use_safetensors=False)), weights(model))


def test_versions_of_the_saved_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF Serving keeps several side by side: one is replaced, the others stay."""

    def save(_module: Any, folder: str, **_: Any) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "saved_model.pb").write_bytes(b"new")

    monkeypatch.setattr(tf.saved_model, "save", save)
    for version in ("1", "2", "10"):
        (tmp_path / "saved_model" / version / "assets").mkdir(parents=True)
        (tmp_path / "saved_model" / version / "assets" / "old.txt").write_bytes(b"old")
    model = make()
    model.save_pretrained(tmp_path, saved_model=True, signatures={})
    assert (tmp_path / "saved_model" / "1" / "saved_model.pb").is_file()
    assert {path.parts[-3] for path in tmp_path.rglob("old.txt")} == {"2", "10"}
    model.save_pretrained(tmp_path)
    assert (tmp_path / "saved_model" / "1" / "saved_model.pb").is_file()


# Whole or not at all


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """Two models with different weights, which are only saved."""
    return make(seed=1), make(seed=2)


def no_room(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (saving, "save_weights"), (staging, "_fsync"), (staging, "_renameat2"), (staging, "_carry"),
        (saving, "manifest_bytes"), (saving, "config_bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_failure_leaves_the_old_save(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: tuple[Any, Any],
    module: Any,
    name: str,
    failure: type[BaseException],
) -> None:
    folder, (model, other) = tmp_path / "model", models
    model.save_pretrained(folder, max_shard_size=12_000)
    (folder / "vocab.txt").write_bytes(b"[PAD]")
    before = cp.snapshot(tmp_path)

    def fail(*_: Any, **__: Any) -> Any:
        raise failure(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        with pytest.raises(OutputError if failure is OSError else KeyboardInterrupt, match="No space") as caught:
            other.save_pretrained(folder)
    if failure is OSError:
        assert str(folder) in str(caught.value)
    assert cp.snapshot(tmp_path) == before


@contextmanager
def without_privileges() -> Iterator[None]:
    """Within it file permissions count in this thread, for root too (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, data = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    for each in (before, data):
        assert libc.capget(header, each) == 0
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are not in effect
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def test_folder_that_cannot_be_replaced(tmp_path: Path, models: tuple[Any, Any]) -> None:
    """Its parent must be writable; until it is, the old save stays."""
    folder = tmp_path / "parent" / "model"
    models[0].save_pretrained(folder)
    before = cp.snapshot(tmp_path)
    folder.parent.chmod(0o555)
    with without_privileges(), pytest.raises(OutputError, match="Permission denied"):
        models[1].save_pretrained(folder)
    folder.parent.chmod(0o755)
    assert cp.snapshot(tmp_path) == before
    with without_privileges():
        models[1].save_pretrained(folder)
    assert cp.snapshot(tmp_path) != before


def test_failure_of_the_saved_model_leaves_the_old_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple[Any, Any]
) -> None:
    models[0].save_pretrained(tmp_path / "model")
    before = cp.snapshot(tmp_path)
    monkeypatch.setattr(tf.saved_model, "save", no_room)
    with pytest.raises(OutputError):
        models[1].save_pretrained(tmp_path / "model", saved_model=True, signatures={})
    assert cp.snapshot(tmp_path) == before


def test_what_was_not_written_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple[Any, Any]
) -> None:
    """Every tensor is read back: a disk that changes a bit is found out."""
    write = files.write_weights

    def flipping(folder: Path, written: list[OutputFile], *rest: Any, **options: Any) -> dict[str, Taken]:
        taken = write(folder, written, *rest, **options)
        with (folder / written[0].name).open("r+b") as file:
            file.seek(written[0].tensors[0].offset)
            first = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([first ^ 1]))
        return taken

    monkeypatch.setattr(files, "write_weights", flipping)
    with pytest.raises(ParityError, match="differs"):
        models[0].save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "link", "/proc/self/model"])
def test_places_that_are_no_folder(tmp_path: Path, models: tuple[Any, Any], place: str) -> None:
    target = tmp_path / "target" if place != "/proc/self/model" else Path(place)
    if place == "file":
        target.write_bytes(b"mine")
    elif place == "link":
        (tmp_path / "real").mkdir()
        target.symlink_to(tmp_path / "real")
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError) as caught:
        models[0].save_pretrained(target)
    assert str(target) in str(caught.value)
    assert cp.snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"format": "onnx"}, "onnx"), ({"max_shard_size": "many"}, "many"), ({"max_shard_size": 0}, "max_shard_size"),
        ({"max_shard_size": -5}, "max_shard_size"), ({"is_main_process": False}, "is_main_process"),
        ({"format": "pt", "save_format": "h5"}, "save_format"),
    ],
    ids=str,
)  # fmt: skip
def test_arguments_that_make_no_sense(
    tmp_path: Path, models: tuple[Any, Any], keywords: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        models[0].save_pretrained(tmp_path / "model", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_config_that_was_changed_afterwards(tmp_path: Path) -> None:
    """A config that says what the weights are not is refused, rather than saved for somebody else to find out."""
    model = make()
    model.config.num_labels = 3
    with pytest.raises(BertconvError, match=r"no longer describes.*\n.*classifier"):
        model.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# Names


def nested(model: Any) -> Any:
    """The model, called for the first time inside another one."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    keras.Model(ids, keras.layers.Dense(2)(model(ids).logits), name="outer")(np.ones((2, 3), np.int32))
    return model


class Outer(keras.Model):
    def __init__(self, inner: Any) -> None:
        super().__init__(name="outer")
        self.inner = inner

    def call(self, ids: Any) -> Any:
        return self.inner(ids).logits


def in_a_class(model: Any) -> Any:
    Outer(model)(np.ones((2, 3), np.int32))
    return model


def built(model: Any) -> Any:
    model.build((None, None))
    return model


def in_a_scope() -> Any:
    with keras.name_scope("scope"):
        return tiny.tf_class(CLASSIFIER)(tiny.config(CLASSIFIER, num_hidden_layers=1))


def called(model: Any) -> Any:
    model(tiny.inputs(CLASSIFIER))
    return model


def new(**keywords: Any) -> Any:
    return tiny.tf_class(CLASSIFIER)(tiny.config(CLASSIFIER, num_hidden_layers=1), **keywords)


WAYS: dict[str, Callable[[], Any]] = {
    "uncalled": new, "called": lambda: called(new()), "built": lambda: built(new()),
    "second instance": lambda: [new(), new(), new()][-1], "name": lambda: new(name="mine"),
    "nested": lambda: nested(new()), "in a class": lambda: in_a_class(new()), "in a scope": in_a_scope,
    "float64": lambda: new(dtype="float64"), "name of a layer": lambda: new(name="bert"),
    "from_config": lambda: tiny.tf_class(CLASSIFIER).from_config(new().get_config()),
    "fitted": lambda: fitted(new()), "renamed": lambda: renamed(new()),
    "cloned": lambda: keras.models.clone_model(new()),
}  # fmt: skip
"""Ways to make and use a model, none of which is to be seen in its files."""


def fitted(model: Any) -> Any:
    model.compile("sgd", run_eagerly=True)
    model.train_on_batch(tiny.inputs(CLASSIFIER), tiny.labels(CLASSIFIER)["labels"])
    return model


def renamed(model: Any) -> Any:
    model.name = "other"
    return model


@pytest.mark.parametrize("way", WAYS)
def test_names_do_not_depend_on_how_a_model_is_used(tmp_path: Path, way: str) -> None:
    model = WAYS[way]()
    for form in FORMATS:
        model.save_pretrained(tmp_path / form, format=form)
    names = [cp.tf_name(name) for name in cp.shapes(CLASSIFIER, cp.config(CLASSIFIER, num_hidden_layers=1))]
    assert set(cp.written(tmp_path / "tf")) == set(cp.written(tmp_path / "tf-safetensors")) == set(names)
    groups = {name.split("/")[0] for name in cp.read_h5(tmp_path / "tf" / "tf_model.h5")}
    assert groups == {"bert", "classifier"}
    scopes = {name.split("/")[1] for name in cp.read_h5(tmp_path / "tf" / "tf_model.h5")}
    assert scopes == {cp.keras_name(CLASSIFIER)}
    own = [weight.numpy() for weight in model.weights]
    assert_equal([cp.written(tmp_path / "tf-safetensors")[name] for name in names], own)
    for form in ("tf", "pt"):
        assert_equal([weight.numpy() for weight in load(tmp_path / form, dtype=model.dtype_policy).weights], own)


def test_name_with_a_slash() -> None:
    """Keras 3 itself refuses it; 4.57 took it and saved a model that could not be read."""
    with pytest.raises(ValueError, match="/"):
        new(name="my/model")


# Another number of words


@pytest.mark.parametrize("head", ["BertModel", *LM_HEADS])
@pytest.mark.parametrize("count", [110, 7])
def test_resize(tmp_path: Path, head: str, count: int) -> None:
    tied = head != "BertForMaskedLM"
    model = make(head, tie_word_embeddings=tied)
    before = weights(model)
    layer = model.resize_token_embeddings(count)
    assert layer is model.get_input_embeddings()
    assert model.config.vocab_size == count
    after = weights(model)
    assert set(after) == set(before)
    kept = min(count, 101)
    for name, value in after.items():
        axis = {(101, 35): 0, (35, 101): 1, (101,): 0}.get(before[name].shape)
        if axis is None:
            np.testing.assert_array_equal(value, before[name])
            continue
        assert value.shape[axis] == count
        np.testing.assert_array_equal(value.take(range(kept), axis), before[name].take(range(kept), axis))
        if count > kept:
            fresh = value.take(range(kept, count), axis)
            assert (fresh == 0).all() if value.ndim == 1 else 0.005 < fresh.std() < 0.03
    ids = np.array([[count - 1, 1]])
    out = model(ids)
    if head != "BertModel":
        assert out[0].shape == (1, 2, count)
    with pytest.raises(RequestError, match=str(count)):
        model(ids + 1)
    if head in {"BertForMaskedLM", "BertForPreTraining"}:
        for form in FORMATS:
            model.save_pretrained(tmp_path / form, format=form)
            assert cp.config_of(tmp_path / form)["vocab_size"] == count
            cp.assert_same(weights(load(tmp_path / form, head)), after)
        assert torch_state(tmp_path / "pt", head)["bert.embeddings.word_embeddings.weight"].shape == (count, 35)
        model.save(tmp_path / "model.keras")
        assert_equal(logits_of(keras.models.load_model(tmp_path / "model.keras"), ids), logits_of(model, ids))


def test_keras_files_are_checkpoints_and_what_loads_them_saves_them(tmp_path: Path) -> None:
    """Both ways from files of Keras 3 to PyTorch's: by themselves, and through the class that they are of."""
    model = make()
    model(tiny.inputs(CLASSIFIER))
    own = weights(model)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    keras.models.load_model(tmp_path / "m.keras").save_pretrained(tmp_path / "a", format="pt")
    fresh = make(seed=1)
    fresh.load_weights(tmp_path / "m.weights.h5")
    fresh.save_pretrained(tmp_path / "b", format="pt")
    config = tmp_path / "a" / "config.json"
    (tmp_path / "m.weights.h5").rename(tmp_path / "weights.h5")
    bertconv.convert_checkpoint(tmp_path / "m.keras", tmp_path / "c", to="pt")
    bertconv.convert_checkpoint(tmp_path / "weights.h5", tmp_path / "d", to="pt", config=config)
    for folder in ("a", "b", "c", "d"):
        cp.assert_same(weights(load(tmp_path / folder)), own)


def logits_of(model: Any, ids: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(value) for value in keras.tree.flatten(model(ids))]


def test_resized_model_is_the_resized_torch_model() -> None:
    """Old words get the logits that they had, and the ones that PyTorch gives them."""
    model = make("BertForMaskedLM")
    ids = tiny.inputs()["input_ids"]
    before = model(ids).logits.numpy()
    model.resize_token_embeddings(120)
    np.testing.assert_allclose(model(ids).logits.numpy()[..., :101], before, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [((), 101), ((None,), 101), ((101,), 101), ((None, 8), 104), ((100, 64), 128), ((104, 8), 104), ((5, None), 5)],
)
def test_number_of_words(arguments: tuple[int | None, ...], count: int) -> None:
    model = make("BertForMaskedLM")
    model.resize_token_embeddings(*arguments)
    assert model.config.vocab_size == count
    assert model.get_input_embeddings().weight.shape == (count, 35)
    assert model.get_bias()["bias"].shape == (count,)


@pytest.mark.parametrize("count", [0, -1])
def test_no_words(count: int) -> None:
    with pytest.raises(RequestError, match=str(count)):
        make("BertModel").resize_token_embeddings(count)


def test_resized_model_trains() -> None:
    model = make("BertForMaskedLM")
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    data = {**tiny.inputs(), **tiny.labels("BertForMaskedLM")}
    model.train_on_batch(data)
    model.resize_token_embeddings(130)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    data["labels"] = np.full_like(data["labels"], 129)
    before = weights(model)
    model.train_on_batch(data)
    after = weights(model)
    assert {weight.path for weight in model.trainable_weights} == {weight.path for weight in model.weights}
    changed = {name for name in after if (after[name] != before[name]).any()}
    assert {"bert/embeddings/word_embeddings/weight:0", "mlm___cls/predictions/bias:0"} <= changed


def test_two_models_of_one_config(tmp_path: Path) -> None:
    """The config of another model does not follow when one is resized."""
    config = bertconv.BertConfig(**tiny.config("BertModel", num_hidden_layers=1))
    one, two = bertconv.TFBertModel(config), bertconv.TFBertModel(config)
    one.resize_token_embeddings(120)
    assert (one.config.vocab_size, two.config.vocab_size) == (120, 101)
    two.save_pretrained(tmp_path)
    cp.assert_same(weights(load(tmp_path, "BertModel")), weights(two))


# The layers that hold words


def test_embeddings_and_heads() -> None:
    model = make("BertForMaskedLM")
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, bertconv.TFBertEmbeddings)
    assert embeddings.weight.shape == (101, 35)
    assert model.get_output_embeddings() is embeddings
    assert model.get_lm_head() is model.mlm.predictions
    assert {name: tuple(bias.shape) for name, bias in model.get_bias().items()} == {"bias": (101,)}
    untied = make("BertForMaskedLM", tie_word_embeddings=False)
    assert untied.get_output_embeddings() is untied.mlm.predictions.decoder
    for head in ("BertModel", CLASSIFIER, "BertForNextSentencePrediction"):
        other = make(head)
        assert other.get_input_embeddings().weight.shape == (101, 35)
        assert (other.get_output_embeddings(), other.get_lm_head(), other.get_bias()) == (None, None, None)


@pytest.mark.parametrize("rows", [101, 60, 130])
@pytest.mark.parametrize("kind", [np.asarray, tf.constant, tf.Variable, keras.Variable])
def test_set_input_embeddings(rows: int, kind: Callable[[Any], Any]) -> None:
    model = make("BertForMaskedLM")
    values = np.random.default_rng(5).standard_normal((rows, 35)).astype("float32")
    model.set_input_embeddings(kind(values))
    np.testing.assert_array_equal(model.get_input_embeddings().weight.numpy(), values)
    assert model.config.vocab_size == rows
    assert model(np.array([[rows - 1]])).logits.shape == (1, 1, rows)


def test_set_input_embeddings_to_a_layer_of_another_model() -> None:
    model, other = make("BertForMaskedLM"), make("BertModel", seed=1, vocab_size=77)
    model.set_input_embeddings(other.get_input_embeddings())
    np.testing.assert_array_equal(model.get_input_embeddings().weight.numpy(), other.get_input_embeddings().weight)
    for wrong in (np.zeros((101, 34)), np.zeros(35), np.zeros((2, 3, 35))):
        with pytest.raises(RequestError, match="hidden_size"):
            model.set_input_embeddings(wrong)


@EACH_HEAD
def test_inputs_to_build_with(head: str) -> None:
    model = make(head)
    given = model.dummy_inputs
    shape = (1, 2, 2) if head == "BertForMultipleChoice" else (1, 2)
    assert {name: (tuple(value.shape), value.dtype, int(np.max(value))) for name, value in given.items()} == {
        "input_ids": (shape, tf.int32, 1), "attention_mask": (shape, tf.int32, 1),
        "token_type_ids": (shape, tf.int32, 0),
    }  # fmt: skip
    assert model(given)
    signature = model.input_signature
    assert list(signature) == ["input_ids", "attention_mask", "token_type_ids"]
    for name, spec in signature.items():
        assert (spec.shape.as_list(), spec.dtype, spec.name) == ([None] * len(shape), tf.int32, name)
    assert model.main_input_name == "input_ids"
    assert model.framework == "tf"
    assert model.can_generate() == (head == "BertLMHeadModel")


def test_inputs_to_build_a_decoder_with() -> None:
    model = make("BertLMHeadModel", add_cross_attention=True)
    assert model.dummy_inputs["encoder_hidden_states"].shape == (1, 2, 35)
    assert "logits" in model(model.dummy_inputs)


@EACH_HEAD
def test_number_of_parameters(head: str) -> None:
    model = make(head)
    count = sum(value.size for value in weights(model).values())
    assert model.num_parameters() == model.count_params() == count
    model.bert.trainable = False
    inner = sum(value.size for name, value in weights(model).items() if name.startswith("bert/"))
    assert model.num_parameters(only_trainable=True) == count - inner


@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel", CLASSIFIER])
def test_config_there_and_back(head: str) -> None:
    cls = tiny.tf_class(head)
    keywords = {"name": "mine", "trainable": False, "dtype": "mixed_bfloat16"}
    model = cls(tiny.config(head, num_hidden_layers=1, hidden_act="relu"), **keywords)
    config = model.get_config()
    json.dumps(config)
    again = cls.from_config(config)
    assert (again.name, again.trainable, again.dtype_policy.name) == ("mine", False, "mixed_bfloat16")
    assert again.config.own_keys() == model.config.own_keys()
    assert cls.from_config(config, name="other").name == "other"
    for form in (model.config, model.config.to_dict(), transformers.BertConfig(**tiny.config(head, hidden_act="relu"))):
        fresh = cls.from_config(form)
        assert fresh.config.hidden_act == "relu"
        assert fresh.trainable


def test_config_that_is_none() -> None:
    for wrong in (None, 3, "no/such/folder", object()):
        with pytest.raises(RequestError):
            bertconv.TFBertModel(wrong)


# Keras's own ways


@EACH_HEAD
def test_save_weights(tmp_path: Path, head: str) -> None:
    model, other = make(head), make(head, seed=1)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other.load_weights(path)
    cp.assert_same(weights(other), weights(model))


@EACH_HEAD
def test_keras_file(tmp_path: Path, head: str) -> None:
    """Uncompiled, uncalled."""
    model = make(head)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    cp.assert_same(weights(again), weights(model))
    assert again.config.own_keys() == model.config.own_keys()
    assert_equal(logits(again, head), logits(model, head))


@pytest.mark.parametrize(
    ("head", "keywords", "changes"),
    [
        ("BertModel", {"add_pooling_layer": False}, {}), ("BertForMaskedLM", {}, {"tie_word_embeddings": False}),
        ("BertLMHeadModel", {}, {"add_cross_attention": True}), (CLASSIFIER, {"dtype": "float64"}, {}),
        (CLASSIFIER, {"dtype": "mixed_float16"}, {}), (CLASSIFIER, {"name": "mine", "trainable": False}, {}),
        (CLASSIFIER, {}, {"position_embedding_type": "relative_key_query"}),
        (CLASSIFIER, {}, {"num_labels": None, "id2label": {0: "a", 1: "b", 2: "c"}, "problem_type": "regression"}),
    ],
    ids=str,
)  # fmt: skip
def test_keras_file_of_odd_models(tmp_path: Path, head: str, keywords: dict[str, Any], changes: dict[str, Any]) -> None:
    model = make(head, keywords=keywords, **changes)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    cp.assert_same(weights(again), weights(model))
    assert (again.name, again.trainable, again.dtype_policy.name) == (
        model.name,
        model.trainable,
        model.dtype_policy.name,
    )
    assert again.config.own_keys() == model.config.own_keys()
    assert_equal(logits(again, head), logits(model, head))


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9), "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: bertconv.create_optimizer(0.01, 20, 2, weight_decay_rate=0.01)[0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("way", "optimizer"),
    [*(("keras", each) for each in OPTIMIZERS), ("weights", "adam"), ("backup", "adamw")],
)
def test_training_goes_on_where_it_was(tmp_path: Path, optimizer: str, way: str) -> None:
    """A model that was saved and loaded between two steps is the same as one that was not."""
    x, y = tiny.inputs(CLASSIFIER), tiny.labels(CLASSIFIER)["labels"]
    model = make()
    model.compile(OPTIMIZERS[optimizer](), metrics=["accuracy"], run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(x, y)
    if way == "keras":
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
    else:
        path = tmp_path / "model.weights.h5"
        model.save_weights(path)
        again = make(seed=1)
        again.compile(OPTIMIZERS[optimizer](), metrics=["accuracy"], run_eagerly=True)
        if way == "backup":
            again.train_on_batch(x, y)
        again.optimizer.build(again.trainable_variables)
        again.load_weights(path)
    assert int(again.optimizer.iterations) == 2
    assert_equal(logits(again), logits(model))
    assert_equal(
        [variable.numpy() for variable in again.optimizer.variables],
        [variable.numpy() for variable in model.optimizer.variables],
    )
    for each in (model, again):
        each.reset_metrics()
        each.train_on_batch(x, y)
    cp.assert_same(weights(again), weights(model))
    assert float(again.optimizer.learning_rate) == float(model.optimizer.learning_rate)


def test_keras_file_compiled_with_a_loss(tmp_path: Path) -> None:
    x, y = tiny.inputs(CLASSIFIER), tiny.labels(CLASSIFIER)["labels"]
    model = make()
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], run_eagerly=True
    )
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert model.evaluate(x, y, verbose=0) == again.evaluate(x, y, verbose=0)


def test_keras_file_into_another_process_format(tmp_path: Path) -> None:
    """What comes out of a .keras file can be saved for PyTorch."""
    model = make()
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras").save_pretrained(tmp_path / "out", format="pt")
    read = torch_state(tmp_path / "out", CLASSIFIER)
    np.testing.assert_array_equal(read["classifier.weight"], weights(model)["classifier/kernel:0"].T)


# SavedModel


SERVER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"bertconv", "transformers", "torch", "h5py"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
import json
import numpy as np
import tensorflow as tf

for folder in sys.argv[1:]:
    loaded = tf.saved_model.load(folder + "/saved_model/1")
    assert sorted(loaded.signatures) == ["int64_serving", "serving_default"], sorted(loaded.signatures)
    asked = np.load(folder + "/asked.npz")
    for signature, kind in (("serving_default", tf.int32), ("int64_serving", tf.int64)):
        serve = loaded.signatures[signature]
        _, specs = serve.structured_input_signature
        assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()} == {
            name: (kind, [None] * asked["input_ids"].ndim) for name in specs
        }
        answers = serve(**{name: tf.constant(asked[name], kind) for name in specs})
        np.savez(f"{folder}/{signature}.npz", **{name: value.numpy() for name, value in answers.items()})
assert not {"bertconv", "transformers", "torch"} & set(sys.modules)
"""

SERVED: dict[str, dict[str, Any]] = {
    CLASSIFIER: {"output_hidden_states": True, "output_attentions": True, "num_hidden_layers": 2},
    "BertForMultipleChoice": {}, "BertLMHeadModel": {"num_hidden_layers": 2},
}  # fmt: skip
STACKED = ("hidden_states", "attentions", "past_key_values")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a SavedModel for each head, and the models."""
    folder = tmp_path_factory.mktemp("served")
    models = {head: make(head, **changes) for head, changes in SERVED.items()}
    for head, model in models.items():
        model.save_pretrained(folder / head, saved_model=True)
    return folder, models


def test_saved_model_without_bertconv(served: tuple[Path, dict[str, Any]]) -> None:
    """A process that has TensorFlow and no bertconv gets the model's own answers, for shapes it has not seen."""
    folder, models = served
    expected = {}
    for head, model in models.items():
        asked = tiny.inputs(head, seed=4)
        np.savez(folder / head / "asked.npz", **asked)
        expected[head] = model(asked)
        cp.assert_same(weights(load(folder / head, head)), weights(model))
    done = subprocess.run(
        [sys.executable, "-c", SERVER, *(str(folder / head) for head in SERVED)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for head, outputs in expected.items():
        for signature in ("serving_default", "int64_serving"):
            answers = dict(np.load(folder / head / f"{signature}.npz"))
            assert set(answers) == set(outputs)
            for name, value in outputs.items():
                own = np.stack([np.asarray(each) for each in value]) if name in STACKED else np.asarray(value)
                assert answers[name].dtype == own.dtype
                assert tiny.relative_error(answers[name], own) < 1e-5
    assert len(expected[CLASSIFIER].hidden_states) == 3
    assert expected[CLASSIFIER].hidden_states[0].shape == (3, 11, 35)


def test_a_loaded_saved_model_is_called(served: tuple[Path, dict[str, Any]]) -> None:
    """As what 4.57 wrote: with one dict, of int32 or int64, by itself or by the name of its method."""
    folder, models = served
    loaded, asked = tf.saved_model.load(str(folder / CLASSIFIER / "saved_model" / "1")), tiny.inputs()
    expected = models[CLASSIFIER](asked)
    for kind in (np.int32, np.int64):
        batch = {name: value.astype(kind) for name, value in asked.items()}
        for found in (loaded(batch), loaded(batch, training=False)):
            assert set(found) == set(expected)
            assert tiny.relative_error(found["logits"], expected.logits) < 1e-5
            assert len(found["hidden_states"]) == len(expected.hidden_states)
    batch = {name: value.astype(np.int32) for name, value in asked.items()}
    assert tiny.relative_error(loaded.serving(batch)["logits"], expected.logits) < 1e-5


def test_saved_model_as_a_layer(served: tuple[Path, dict[str, Any]]) -> None:
    folder, models = served
    layer, model = keras.layers.TFSMLayer(str(folder / CLASSIFIER / "saved_model" / "1")), models[CLASSIFIER]
    given = {name: tf.constant(value, tf.int32) for name, value in tiny.inputs().items()}
    assert tiny.relative_error(layer(given)["logits"], model(given).logits) < 1e-5
    assert sum(tf.size(weight) for weight in layer.weights) == model.num_parameters()


def test_saved_model_with_a_version_and_signatures_of_its_own(tmp_path: Path) -> None:
    model = make()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def classes(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"classes": tf.argmax(model(ids).logits, -1)}

    model.save_pretrained(tmp_path, saved_model=True, version=7, signatures={"classes": classes})
    loaded = tf.saved_model.load(str(tmp_path / "saved_model" / "7"))
    ids = tiny.inputs()["input_ids"].astype("int32")
    found = loaded.signatures["classes"](ids=tf.constant(ids))["classes"]
    np.testing.assert_array_equal(found, model(ids).logits.numpy().argmax(-1))
    assert list(loaded.signatures) == ["classes"]


def test_serving() -> None:
    """What a server returns, without one."""
    model = make(output_hidden_states=True)
    given = {name: tf.constant(value, tf.int32) for name, value in tiny.inputs().items()}
    answers = model.serving(given)
    assert {name: value.shape.as_list() for name, value in answers.items()} == {
        "logits": [3, 7], "hidden_states": [2, 3, 11, 35],
    }  # fmt: skip
    np.testing.assert_allclose(answers["logits"], model(given).logits, rtol=1e-6)


# The Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    """A Hub that can be written to, in place of the real one; nobody waits for it."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with WritableHub() as server:
        for _ in pointed_at(server, server.url, tmp_path, monkeypatch):
            monkeypatch.setenv("HF_TOKEN", server.token)
            yield server


PUSHES = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library


@PUSHES
def test_push_to_hub(hub: WritableHub, tmp_path: Path) -> None:
    model = make()
    url = model.push_to_hub("org/model", commit_message="mine", private=True, token="hf_x", create_pr=True, format="pt")
    made = hub.head("org/model", "refs/pr/1")
    assert url == f"{hub.url}/org/model/commit/{made}"
    assert hub.texts[made] == ("mine", "")
    assert hub.repositories["org/model"].private
    assert set(hub.authorizations) == {"Bearer hf_x", ""}
    sent = hub.files("org/model", "refs/pr/1")
    assert set(sent) == {"model.safetensors", "config.json", "bertconv.json", ".gitattributes"}
    (tmp_path / "sent").mkdir()
    for name, content in sent.items():
        (tmp_path / "sent" / name).write_bytes(content)
    cp.assert_same(weights(load(tmp_path / "sent")), weights(model))


@PUSHES
def test_save_pretrained_that_pushes(hub: WritableHub, tmp_path: Path) -> None:
    (tmp_path / "name" / ".git").mkdir(parents=True)
    (tmp_path / "name" / ".git" / "config").write_text("mine")
    (tmp_path / "name" / "README.md").write_text("a card")
    make().save_pretrained(tmp_path / "name", push_to_hub=True, max_shard_size=20_000)
    assert {"tf_model.h5.index.json", "README.md"} <= set(hub.files("me/name"))
    make().save_pretrained(tmp_path / "name", push_to_hub=True, repo_id="org/other", commit_message="x")
    sent = hub.files("org/other")
    assert "tf_model.h5.index.json" not in sent
    assert not any(name.startswith(".git/") for name in sent)
    make(seed=1).save_pretrained(tmp_path / "name", push_to_hub=True, repo_id="org/other")
    assert hub.files("org/other")["tf_model.h5"] != sent["tf_model.h5"]


@PUSHES
@pytest.mark.parametrize("what", ["/repos/create", "/preupload/", "PUT", "/commit/"])
def test_hub_that_refuses(hub: WritableHub, what: str) -> None:
    hub.fault = answers(what, 403)
    with pytest.raises(HubError, match="org/model"):
        make().push_to_hub("org/model")


@PUSHES
def test_hub_that_keeps_other_bytes(hub: WritableHub) -> None:
    hub.keeps = lambda data: data[:-1] + b"?"
    with pytest.raises(ParityError, match="is not what was verified"):
        make().push_to_hub("org/model")
