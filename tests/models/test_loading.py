"""from_pretrained: every format, exactly the stored weights, exact reports, every argument; nothing stored is drawn."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import checkpoints as cp
import h5py
import huggingface_hub
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
import transformers
from huggingface_hub import constants, file_download
from safetensors.numpy import save_file
from warm_python import KERAS, WarmPython

import bertconv
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    HubError,
    MappingError,
    MissingTensors,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
    UnsupportedCheckpoint,
)

CLASSIFIER = "BertForSequenceClassification"
ONE_LAYER = {"num_hidden_layers": 1}
CONTAINERS = (
    "safetensors", "bin", "legacy", "sharded", "sharded-bin", "h5", "h5-shards", "tf-safetensors", "safetensors-shards",
    "sharded-tf-safetensors",
)  # fmt: skip


def settings(head: str, **changes: Any) -> dict[str, Any]:
    """What the config of a head needs; for `cp.save` and `cp.state_dict`."""
    own = {"labels": 2} if head == "BertForQuestionAnswering" else {}
    own |= {"is_decoder": True} if head == "BertLMHeadModel" else {}
    return {**own, **changes}


def state_dict(head: str, dtype: str = "float32", **changes: Any) -> cp.Tensors:
    return cp.state_dict(head, dtype, **settings(head, **changes))


def make(
    folder: Path, head: str, state: cp.Tensors | None = None, container: str = "safetensors", **changes: Any
) -> Path:
    """A folder with weights of this head."""
    changes = settings(head, **changes)
    state = cp.state_dict(head, **changes) if state is None else state
    if container in ("h5-shards", "safetensors-shards"):
        cp.write_config(folder, cp.config(head, **changes))
        return cp.save_tf(folder, cp.tf_state(state), cp.keras_name(head), container)
    if container == "sharded-tf-safetensors":  # bertconv's own: its index has no scope
        cp.write_config(folder, cp.config(head, **changes))
        return cp.save_shards(folder, cp.tf_state(state))
    return cp.save(folder, head, state, container, **changes)


def load(
    source: Any, head: str | Any = CLASSIFIER, *args: Any, **keywords: Any
) -> tuple[Any, dict[str, Any], list[str]]:
    """The model, the loading info, and what was warned of."""
    cls = tiny.tf_class(head) if isinstance(head, str) else head
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, info = cls.from_pretrained(source, *args, output_loading_info=True, **keywords)
    assert {warning.filename for warning in caught} <= {__file__}, "a warning points to the line that called"
    return model, info, [str(warning.message) for warning in caught]


def weights(model: Any) -> cp.Tensors:
    """Every weight by its TensorFlow name, without the model's own in front."""
    return {f"{weight.path.partition('/')[2]}:0": weight.numpy() for weight in model.weights}


def expected(state: cp.Tensors, dtype: str = "float32") -> cp.Tensors:
    return {name: value.astype(cp.numpy_type(dtype)) for name, value in cp.tf_state(state).items()}


def names_of(head: str, **changes: Any) -> set[str]:
    """TensorFlow's names of everything that a head has."""
    return {cp.tf_name(name) for name in cp.shapes(head, cp.config(head, **settings(head, **changes)))}


def report(missing: Any = (), unexpected: Any = (), mismatched: Any = ()) -> dict[str, Any]:
    return {
        "missing_keys": sorted(missing), "unexpected_keys": sorted(unexpected), "mismatched_keys": sorted(mismatched),
        "error_msgs": [],
    }  # fmt: skip


def ordered(info: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value) for key, value in info.items()}


# Every format


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("head", ["BertModel", "BertForPreTraining", CLASSIFIER])
def test_every_format(tmp_path: Path, head: str, container: str) -> None:
    state = state_dict(head)
    model, info, warned = load(make(tmp_path, head, state, container), head)
    cp.assert_same(weights(model), expected(state))
    assert info == report()
    assert warned == []
    assert isinstance(model, keras.Model)
    assert model.name_or_path == str(tmp_path)


@pytest.mark.parametrize("head", sorted(set(cp.HEADS) - {"BertModel", "BertForPreTraining", CLASSIFIER}))
def test_every_class(tmp_path: Path, head: str) -> None:
    state = state_dict(head)
    model, info, warned = load(make(tmp_path, head, state, "sharded"), head)
    cp.assert_same(weights(model), expected(state))
    assert (info, warned) == (report(), [])


@pytest.mark.parametrize(
    ("stored", "container"),
    [
        *(("float16", each) for each in ("safetensors", "bin", "h5")), ("float64", "safetensors"), ("float64", "h5"),
        *((stored, each) for stored in ("bfloat16", "mixed") for each in ("safetensors", "bin")),
    ],
)  # fmt: skip
def test_stored_element_types(tmp_path: Path, stored: str, container: str) -> None:
    """Whatever is stored, the model is float32 unless it is asked for another, as in 4.57."""
    state = state_dict(CLASSIFIER, stored, **ONE_LAYER)
    model, info, warned = load(make(tmp_path, CLASSIFIER, state, container, torch_dtype=stored, **ONE_LAYER))
    cp.assert_same(weights(model), expected(state))
    assert (info, warned) == (report(), [])


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ("safetensors", "model.safetensors"),
        ("bin", "pytorch_model.bin"),
        ("h5", "tf_model.h5"),
        ("bin", "odd name.ckpt"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_file(tmp_path: Path, container: str, name: str, kind: Callable[[Path], Any]) -> None:
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    folder = make(tmp_path / "a folder", CLASSIFIER, state, container, **ONE_LAYER)
    file = next(path for path in folder.iterdir() if path.suffix != ".json").rename(folder / name)
    model, info, _ = load(kind(file))
    cp.assert_same(weights(model), expected(state))
    assert info == report()
    (folder / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(MappingError, match=r"no config\.json"):
        load(kind(file))
    model, _, _ = load(kind(file), config=str(tmp_path / "config.json"))
    cp.assert_same(weights(model), expected(state))


def test_subfolder(tmp_path: Path) -> None:
    inner, outer = state_dict(CLASSIFIER, **ONE_LAYER), state_dict(CLASSIFIER, **ONE_LAYER, seed=1)
    make(tmp_path, CLASSIFIER, outer, hidden_act="relu", **ONE_LAYER)
    make(tmp_path / "a" / "b", CLASSIFIER, inner, hidden_act="silu", **ONE_LAYER)
    model, _, _ = load(tmp_path, subfolder="a/b")
    cp.assert_same(weights(model), expected(inner))
    assert model.config.hidden_act == "silu"
    with pytest.raises(RequestError, match="subfolder 'c'"):
        load(tmp_path, subfolder="c")
    with pytest.raises(RequestError, match=r"\.\."):
        load(tmp_path / "a", subfolder="../..")


def test_variant(tmp_path: Path) -> None:
    plain, other = state_dict(CLASSIFIER, **ONE_LAYER), state_dict(CLASSIFIER, "float16", **ONE_LAYER, seed=1)
    make(tmp_path, CLASSIFIER, plain, **ONE_LAYER)
    (tmp_path / "model.fp16.safetensors").write_bytes(cp.safetensors_bytes(other))
    cp.assert_same(weights(load(tmp_path)[0]), expected(plain))
    cp.assert_same(weights(load(tmp_path, variant="fp16")[0]), expected(other))
    with pytest.raises(RequestError, match="variant 'bf16'"):
        load(tmp_path, variant="bf16")


@pytest.mark.parametrize(
    ("keywords", "container"),
    [
        ({}, "safetensors"), ({"use_safetensors": None}, "safetensors"), ({"use_safetensors": True}, "safetensors"),
        ({"use_safetensors": False}, "h5"), ({"from_pt": True}, "bin"), ({"from_pt": False}, "safetensors"),
        ({"from_pt": True, "use_safetensors": True}, "safetensors"),
        ({"from_pt": True, "use_safetensors": False}, "bin"),
    ],
)  # fmt: skip
def test_which_file_is_taken(tmp_path: Path, keywords: dict[str, Any], container: str) -> None:
    """The order of 4.57, of the files that are there."""
    states = {}
    for seed, each in enumerate(["safetensors", "h5", "bin"]):
        states[each] = state_dict(CLASSIFIER, **ONE_LAYER, seed=seed)
        make(tmp_path, CLASSIFIER, states[each], each, **ONE_LAYER)
    cp.assert_same(weights(load(tmp_path, **keywords)[0]), expected(states[container]))


def test_which_file_is_taken_of_those_that_are_there(tmp_path: Path) -> None:
    """from_pt chooses among files; it does not make a PyTorch checkpoint of what is none."""
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    make(tmp_path, CLASSIFIER, state, "h5", **ONE_LAYER)
    for asked in ({"from_pt": True}, {"use_safetensors": True}):
        cp.assert_same(weights(load(tmp_path, **asked)[0]), expected(state))
    (tmp_path / "tf_model.h5").unlink()
    make(tmp_path, CLASSIFIER, state, "bin", **ONE_LAYER)
    with pytest.raises(RequestError, match="use_safetensors leaves these out"):
        load(tmp_path, use_safetensors=True)


# What is missing, what is left


def loaded(kept: set[str], state: cp.Tensors, model: Any) -> None:
    """These weights are the stored ones."""
    stored = expected(state)
    cp.assert_same(
        {name: value for name, value in weights(model).items() if name in kept},
        {name: stored[name] for name in kept},
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("BertModel", "BertForMaskedLM"), ("BertModel", CLASSIFIER), ("BertModel", "BertForPreTraining"),
        ("BertModel", "BertForQuestionAnswering"), ("BertForPreTraining", "BertModel"),
        ("BertForPreTraining", "BertForMaskedLM"), ("BertForPreTraining", "BertForNextSentencePrediction"),
        ("BertForPreTraining", "BertForMultipleChoice"), ("BertForMaskedLM", "BertModel"),
        ("BertForMaskedLM", CLASSIFIER), ("BertForMaskedLM", "BertForPreTraining"),
        (CLASSIFIER, "BertForTokenClassification"), ("BertForTokenClassification", CLASSIFIER),
        (CLASSIFIER, "BertForQuestionAnswering"),
        ("BertForQuestionAnswering", "BertForNextSentencePrediction"), ("BertForMultipleChoice", "BertModel"),
        ("BertForMaskedLM", "BertLMHeadModel"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_one_class_from_the_file_of_another(tmp_path: Path, source: str, target: str, container: str) -> None:
    """What the file lacks is initialised with one warning that names it; what other classes own is passed over."""
    changes = {**ONE_LAYER, "is_decoder": True} if target == "BertLMHeadModel" else ONE_LAYER
    state = state_dict(source, **changes)
    overrides = {"num_labels": 2} if target == "BertForQuestionAnswering" else {}
    model, info, warned = load(make(tmp_path, source, state, container, **changes), target, **overrides)
    own, stored = names_of(target, **changes), set(cp.tf_state(state))
    missing = own - stored
    assert ordered(info) == report(missing)
    assert set(weights(model)) == own
    loaded(own & stored, state, model)
    assert len(warned) == bool(missing)
    for name in missing:
        assert name in warned[0]
        values = weights(model)[name]
        if name.endswith("gamma:0"):
            assert (values == 1).all()
        elif name.endswith(("bias:0", "beta:0")):
            assert (values == 0).all()
        else:
            assert 0 < values.std() < 0.03
            assert abs(values).max() < 0.05


def test_without_the_pooler(tmp_path: Path) -> None:
    """Neither the file nor the class need have one; what is stored and not wanted is reported, as in 4.57."""
    state = state_dict("BertModel", **ONE_LAYER)
    whole = make(tmp_path / "whole", "BertModel", state, **ONE_LAYER)
    model, info, warned = load(whole, "BertModel", add_pooling_layer=False)
    pooler = {cp.tf_name(name) for name in cp.POOLER}
    assert set(weights(model)) == names_of("BertModel", **ONE_LAYER) - pooler
    assert ordered(info) == report((), pooler)
    assert len(warned) == 1
    assert model(model.dummy_inputs).pooler_output is None
    model, _, _ = load(whole, "BertModel", False)
    assert model.bert.pooler is None
    for name in cp.POOLER:
        del state[name]
    bare = make(tmp_path / "bare", "BertModel", state, **ONE_LAYER)
    assert load(bare, "BertModel", add_pooling_layer=False)[1:] == (report(), [])
    model, info, warned = load(bare, "BertModel")
    assert ordered(info) == report(pooler)
    assert len(warned) == 1
    assert "bert/pooler/dense/kernel:0" in warned[0]


def test_half_a_head(tmp_path: Path) -> None:
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    bias = state.pop("classifier.bias")
    model, info, warned = load(make(tmp_path, CLASSIFIER, state, **ONE_LAYER))
    assert ordered(info) == report(["classifier/bias:0"])
    assert len(warned) == 1
    assert "classifier/bias:0" in warned[0]
    assert "kernel" not in warned[0]
    state["classifier.bias"] = np.zeros_like(bias)
    cp.assert_same(weights(model), expected(state))


@pytest.mark.parametrize("container", ["safetensors", "sharded", "h5"])
def test_tensors_that_nobody_knows(tmp_path: Path, container: str) -> None:
    """They are named in the info and in one warning, as they are stored; the model is loaded all the same."""
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    more = {"pre_classifier.weight": np.ones((35, 35), np.float32), "extra.thing": np.ones(3, np.int64)}
    if container == "h5":
        more = {"pre_classifier.weight": np.ones((35, 35), np.float32), "extra.thing": np.ones(3, np.float32)}
    model, info, warned = load(make(tmp_path, CLASSIFIER, {**state, **more}, container, **ONE_LAYER))
    names = more if container != "h5" else [f"{cp.keras_name(CLASSIFIER)}/{cp.tf_name(name)}" for name in more]
    assert ordered(info) == report((), names)
    assert len(warned) == 1
    for name in names:
        assert name in warned[0]
    cp.assert_same(weights(model), expected(state))


@pytest.mark.parametrize(
    "lacking",
    ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.bias",
     "bert.embeddings.LayerNorm.weight"],
)  # fmt: skip
@pytest.mark.parametrize("ignore", [False, True])
def test_body_that_is_not_whole(tmp_path: Path, lacking: str, ignore: bool) -> None:
    state = state_dict(CLASSIFIER)
    del state[lacking]
    with pytest.raises(MissingTensors, match=lacking.replace(".", r"\.")) as caught:
        load(make(tmp_path, CLASSIFIER, state), ignore_mismatched_sizes=ignore)
    assert "bertconv" not in caught.value.hint, "the hint is for Python"
    assert "--" not in caught.value.hint


@pytest.mark.parametrize("ignore", [False, True])
def test_layers_that_are_not_there(tmp_path: Path, ignore: bool) -> None:
    """Three layers are asked for and two are stored: not even ignore_mismatched_sizes makes the third one up."""
    folder = make(tmp_path, CLASSIFIER, state_dict(CLASSIFIER), num_hidden_layers=3)
    for asked in ({}, {"num_hidden_layers": 4}):
        with pytest.raises(MappingError, match=r"num_hidden_layers|layer\.\{?2"):
            load(folder, ignore_mismatched_sizes=ignore, **asked)


@pytest.mark.parametrize("container", ["safetensors", "h5", "sharded-tf-safetensors"])
@pytest.mark.parametrize("ignore", [False, True])
def test_the_first_layers_of_a_checkpoint(tmp_path: Path, container: str, ignore: bool) -> None:
    """Asked for by name, in a config, or in transformers' own one: the others are named, and nothing is fresh."""
    state = state_dict(CLASSIFIER)
    folder = make(tmp_path, CLASSIFIER, state, container)
    short = {name: value for name, value in state.items() if ".layer.1." not in name}
    left = [cp.tf_name(name) for name in state.keys() - short.keys()]
    config = bertconv.BertConfig.from_pretrained(folder, num_hidden_layers=1)
    theirs = transformers.BertConfig.from_pretrained(folder, num_hidden_layers=1)
    asked: list[dict[str, Any]] = [ONE_LAYER, {"config": config}, {"config": theirs}, {"config": config.to_dict()}]
    for given in asked:
        model, info, warned = load(folder, ignore_mismatched_sizes=ignore, **given)
        assert [len(info[key]) for key in report()] == [0, len(left), 0, 0]
        assert len(warned) == 1
        assert "not used by this class" in warned[0]
        assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == 1
        cp.assert_same(weights(model), expected(short))


def test_fewer_of_anything_else_are_refused(tmp_path: Path) -> None:
    """The first rows of a matrix are no model; and what nobody asked for is a config of another checkpoint."""
    folder = make(tmp_path, CLASSIFIER, state_dict(CLASSIFIER))
    with pytest.raises(ShapeMismatch, match="max_position_embeddings"):
        load(folder, max_position_embeddings=9)
    make(tmp_path, CLASSIFIER, state_dict(CLASSIFIER), **ONE_LAYER)
    with pytest.raises(ShapeMismatch, match="num_hidden_layers"):
        load(folder)
    model = bertconv.TFBertForSequenceClassification(bertconv.BertConfig.from_pretrained(folder))
    with pytest.raises(ShapeMismatch, match="num_hidden_layers"):
        model.load_weights(folder / "model.safetensors")


def test_no_bert(tmp_path: Path) -> None:
    state = {"encoder.block.0.weight": np.ones((35, 35), np.float32), "shared.weight": np.ones((101, 35), np.float32)}
    with pytest.raises(UnsupportedCheckpoint, match="no BERT"):
        load(make(tmp_path, CLASSIFIER, state))


def test_only_a_head(tmp_path: Path) -> None:
    state = {name: value for name, value in state_dict(CLASSIFIER).items() if name.startswith("classifier")}
    with pytest.raises(BertconvError, match=r"no BERT|missing"):
        load(make(tmp_path, CLASSIFIER, state))


def test_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="roberta"):
        load(make(tmp_path, CLASSIFIER, model_type="roberta"))


@pytest.mark.parametrize("source", [None, 3, "", "no/such/file.safetensors"])
def test_nothing_that_could_be_a_checkpoint(source: Any) -> None:
    with pytest.raises(RequestError):
        load(source)


def test_file_that_is_damaged(tmp_path: Path) -> None:
    folder = make(tmp_path, CLASSIFIER, **ONE_LAYER)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(DamagedCheckpoint):
        load(folder)


def test_numbers_that_do_not_fit(tmp_path: Path) -> None:
    """1e6 is infinite in float16: refused by name, not made infinite."""
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    state["classifier.bias"] = np.full(cp.LABELS, 1e6, np.float32)
    folder = make(tmp_path, CLASSIFIER, state, **ONE_LAYER)
    with pytest.raises(BertconvError, match=r"classifier\.bias"):
        load(folder, dtype="float16")


# Shapes that differ


def test_wrong_shape(tmp_path: Path) -> None:
    state = state_dict(CLASSIFIER)
    name = "bert.encoder.layer.1.output.dense.weight"
    state[name] = np.ones((35, 54), np.float32)
    folder = make(tmp_path, CLASSIFIER, state)
    with pytest.raises(ShapeMismatch, match=r"output\.dense\.weight is \[35, 54\], not \[35, 53\]") as caught:
        load(folder)
    assert "ignore_mismatched_sizes=True" in caught.value.hint
    model, info, warned = load(folder, ignore_mismatched_sizes=True)
    own = cp.tf_name(name)
    assert ordered(info) == report(mismatched=[(own, (35, 54), (35, 53))])
    assert len(warned) == 1
    assert f"{own}: [35, 54] stored, [35, 53] needed" in warned[0]
    loaded(names_of(CLASSIFIER) - {own}, state, model)
    values = weights(model)[own]
    assert values.shape == (53, 35)
    assert 0.01 < values.std() < 0.03


def test_transposed_matrix_is_no_reshape(tmp_path: Path) -> None:
    """The right number of elements in the wrong shape is wrong (4.57 scrambles it)."""
    state = state_dict(CLASSIFIER)
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    state[name] = np.ascontiguousarray(state[name].T)
    with pytest.raises(ShapeMismatch, match=r"is \[35, 53\], not \[53, 35\] \(transposed\)"):
        load(make(tmp_path, CLASSIFIER, state))


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_another_number_of_labels(tmp_path: Path, container: str) -> None:
    state = state_dict(CLASSIFIER)
    folder = make(tmp_path, CLASSIFIER, state, container)
    with pytest.raises(ShapeMismatch) as caught:
        load(folder, num_labels=5)
    for part in ("num_labels", "config 5 ", "file 11 ", "[11, 35]" if container == "safetensors" else "[11]"):
        assert part in str(caught.value)
    assert "ignore_mismatched_sizes=True" in caught.value.hint
    model, info, warned = load(folder, num_labels=5, ignore_mismatched_sizes=True)
    shapes = [(11, 35), (5, 35)] if container == "safetensors" else [(35, 11), (35, 5)]
    assert ordered(info) == report(mismatched=[("classifier/bias:0", (11,), (5,)), ("classifier/kernel:0", *shapes)])
    assert len(warned) == 1
    loaded(names_of(CLASSIFIER) - {"classifier/kernel:0", "classifier/bias:0"}, state, model)
    assert model.config.num_labels == 5
    assert len(model.config.id2label) == 5
    assert model(model.dummy_inputs).logits.shape == (1, 5)


def test_labels_by_name(tmp_path: Path) -> None:
    names = {0: "no", 1: "yes", 2: "perhaps"}
    ids = {name: number for number, name in names.items()}
    folder = make(tmp_path, "BertModel", **ONE_LAYER)
    model, info, _ = load(folder, num_labels=3, id2label=names, label2id=ids)
    assert info["missing_keys"] == ["classifier/kernel:0", "classifier/bias:0"]
    assert (model.config.num_labels, model.config.id2label, model.config.label2id) == (3, names, ids)
    assert weights(model)["classifier/bias:0"].shape == (3,)


def test_the_file_knows_its_labels_and_its_words(tmp_path: Path) -> None:
    """Where the config says nothing of labels, and where the vocabulary grew after the config was written."""
    state = state_dict(CLASSIFIER)
    state[cp.WORD] = cp.random_array((104, 35), "float32", 7)
    folder = make(tmp_path, CLASSIFIER, state, id2label=None, label2id=None)
    model, info, warned = load(folder)
    assert (info, warned) == (report(), [])
    assert (model.config.num_labels, model.config.vocab_size) == (11, 104)
    cp.assert_same(weights(model), expected(state))
    with pytest.raises(ShapeMismatch, match=r"104.*101|101.*104"):
        load(folder, vocab_size=101)
    assert len(load(folder, "BertForTokenClassification", ignore_mismatched_sizes=True)[2]) == 1
    assert load(folder, "BertForMaskedLM")[1]["missing_keys"]


def test_a_choice_is_no_class(tmp_path: Path) -> None:
    """Two heads call different layers `classifier`; their shapes tell them apart."""
    folder = make(tmp_path, CLASSIFIER, **ONE_LAYER)
    with pytest.raises(ShapeMismatch, match=r"classifier\.weight is \[11, 35\], not \[1, 35\]"):
        load(folder, "BertForMultipleChoice")
    _, info, _ = load(folder, "BertForMultipleChoice", ignore_mismatched_sizes=True)
    assert [name for name, *_ in info["mismatched_keys"]] == ["classifier/kernel:0", "classifier/bias:0"]


# Configs


def config_forms(folder: Path) -> dict[str, Any]:
    values = cp.config("BertModel", **ONE_LAYER, hidden_act="relu", layer_norm_eps=1e-5)
    return {
        "object": bertconv.BertConfig(**values), "dict": values, "folder": str(folder), "path": folder,
        "file": str(folder / "config.json"), "transformers": transformers.BertConfig(**values),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["object", "dict", "folder", "path", "file", "transformers"])
def test_config_of_the_caller(tmp_path: Path, form: str) -> None:
    """It wins over the checkpoint's and is not changed."""
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    folder = make(tmp_path / "model", CLASSIFIER, state, **ONE_LAYER)
    own = config_forms(
        cp.write_config(tmp_path / "mine", cp.config("BertModel", hidden_act="relu", layer_norm_eps=1e-5, **ONE_LAYER))
    )
    before = own[form].to_dict() if hasattr(own[form], "to_dict") else repr(own[form])
    model, info, warned = load(folder, config=own[form], output_attentions=True, problem_type="regression")
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))
    asked = {key: model.config.values[key] for key in ("hidden_act", "layer_norm_eps", "num_labels", "problem_type")}
    assert asked == {"hidden_act": "relu", "layer_norm_eps": 1e-5, "num_labels": 11, "problem_type": "regression"}
    assert "attentions" in model(model.dummy_inputs)
    assert (own[form].to_dict() if hasattr(own[form], "to_dict") else repr(own[form])) == before


def test_no_config(tmp_path: Path) -> None:
    folder = make(tmp_path, CLASSIFIER, **ONE_LAYER)
    values = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").unlink()
    with pytest.raises(MappingError, match=r"no config\.json") as caught:
        load(folder)
    assert "config=" in caught.value.hint
    assert load(folder, config=values)[1:] == (report(), [])


def test_config_that_does_not_fit(tmp_path: Path) -> None:
    folder = make(tmp_path, CLASSIFIER, **ONE_LAYER)
    with pytest.raises(ShapeMismatch, match="intermediate_size") as caught:
        load(folder, config=cp.config(CLASSIFIER, **ONE_LAYER, intermediate_size=54))
    assert "--" not in caught.value.hint


def test_key_of_the_checkpoints_own_config(tmp_path: Path) -> None:
    """A key that some other program put there can be overridden as well."""
    folder = make(tmp_path, CLASSIFIER, **ONE_LAYER, my_key=1)
    assert load(folder)[0].config.my_key == 1
    assert load(folder, my_key=2)[0].config.my_key == 2


# Arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"), "BertModel", **ONE_LAYER)


@pytest.mark.parametrize(
    "keywords",
    [
        {"config": None}, {"cache_dir": "/nonexistent"}, {"cache_dir": None}, {"ignore_mismatched_sizes": True},
        {"force_download": True}, {"local_files_only": True}, {"token": "hf_x"}, {"token": True}, {"token": False},
        {"token": None}, {"revision": None}, {"use_safetensors": True}, {"from_pt": True}, {"subfolder": ""},
        {"variant": None}, {"trust_remote_code": False}, {"add_pooling_layer": True}, {"trainable": True},
        {"dtype": "float32"}, {"dtype": None}, {"name": "mine"}, {"layer_norm_eps": 1e-7}, {"use_cache": False},
    ],
    ids=str,
)  # fmt: skip
def test_argument_that_works(folder: Path, keywords: dict[str, Any]) -> None:
    model, info, warned = load(folder, "BertModel", **keywords)
    assert (info, warned) == (report(), [])
    for key in ("layer_norm_eps", "use_cache"):
        if key in keywords:
            assert model.config.values[key] == keywords[key]


REFUSED = {
    "proxies": {"http": "x"}, "mirror": "tuna", "device_map": "auto", "state_dict": {},
    "load_weight_prefix": "x", "tf_to_pt_weight_rename": str, "adapter_kwargs": {"x": 1}, "quantization_config": {},
    "attn_implementation": "sdpa", "trust_remote_code": True, "_commit_hash": "0" * 40,
    "no_such_argument": 1, "add_pooling_layers": True, "subfolder": "x", "dtype": "int8",
    "variant": "fp16", "hidden_act": "no_such_activation", "num_labels": -1,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_argument_that_is_refused(folder: Path, name: str) -> None:
    """By name, with what to do instead."""
    with pytest.raises(BertconvError) as caught:
        load(folder, "BertModel", **{name: REFUSED[name]})
    assert name in str(caught.value)
    assert caught.value.hint


def test_pooling_layer_of_a_class_that_has_no_choice(folder: Path) -> None:
    with pytest.raises(RequestError, match="add_pooling_layer"):
        load(folder, "BertForMaskedLM", add_pooling_layer=False)


def test_name_and_trainable(folder: Path) -> None:
    model, _, _ = load(folder, "BertModel", name="mine", trainable=False)
    assert model.name == "mine"
    assert {weight.path.split("/")[0] for weight in model.weights} == {"mine"}
    assert (model.trainable, model.trainable_weights) == (False, [])
    assert load(folder, "BertModel")[0].trainable


@pytest.mark.parametrize(
    ("dtype", "variables", "compute"),
    [
        ("float16", "float16", "float16"), ("bfloat16", "bfloat16", "bfloat16"), ("float32", "float32", "float32"),
        ("float64", "float64", "float64"), ("mixed_float16", "float32", "float16"),
        ("mixed_bfloat16", "float32", "bfloat16"), (tf.float16, "float16", "float16"),
        (tf.bfloat16, "bfloat16", "bfloat16"), (np.float64, "float64", "float64"),
        (np.dtype("float16"), "float16", "float16"),
        (keras.DTypePolicy("mixed_bfloat16"), "float32", "bfloat16"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("stored", ["float32", "mixed"])
def test_dtype(tmp_path: Path, stored: str, dtype: Any, variables: str, compute: str) -> None:
    state = state_dict(CLASSIFIER, stored, **ONE_LAYER)
    state = {name: (value.astype("float64") % 7).astype(value.dtype) for name, value in state.items()}
    model, info, warned = load(make(tmp_path, CLASSIFIER, state, **ONE_LAYER), dtype=dtype)
    assert (info, warned) == (report(), [])
    assert {weight.dtype for weight in model.weights} == {variables}
    cp.assert_same(weights(model), expected(state, variables))
    assert model(model.dummy_inputs).logits.dtype == compute


def test_dtype_of_the_process(folder: Path) -> None:
    keras.config.set_dtype_policy("float64")
    try:
        model, _, _ = load(folder, "BertModel")
    finally:
        keras.config.set_dtype_policy("float32")
    assert {weight.dtype for weight in model.weights} == {"float64"}


# Names and copies that old and unusual files have


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefix_of_a_wrapper(tmp_path: Path, prefix: str) -> None:
    state = state_dict(CLASSIFIER, **ONE_LAYER)
    model, info, warned = load(make(tmp_path, CLASSIFIER, cp.prefixed(state, prefix), **ONE_LAYER))
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))


def test_position_ids_and_copies_and_old_names_are_silent(tmp_path: Path) -> None:
    state = state_dict("BertForMaskedLM", **ONE_LAYER)
    old = cp.renamed(cp.renamed(state, r"LayerNorm\.weight", "LayerNorm.gamma"), r"LayerNorm\.bias", "LayerNorm.beta")
    old |= {
        "bert.embeddings.position_ids": np.arange(37)[None], cp.DECODER: state[cp.WORD],
        cp.DECODER_BIAS: state[cp.MLM_BIAS], "bert.pooler.dense.weight": np.ones((35, 35), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
    }  # fmt: skip
    model, info, warned = load(make(tmp_path, "BertForMaskedLM", old, **ONE_LAYER), "BertForMaskedLM")
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))


@pytest.mark.parametrize(("copy", "original"), [(cp.DECODER, cp.WORD), (cp.DECODER_BIAS, cp.MLM_BIAS)])
def test_tied_copies_that_differ(tmp_path: Path, copy: str, original: str) -> None:
    """4.57 takes one of the two without a word."""
    state = state_dict("BertForMaskedLM", **ONE_LAYER)
    state[copy] = state[original] + 1
    with pytest.raises(TiedTensorsDiffer, match=copy.replace(".", r"\.")) as caught:
        load(make(tmp_path, "BertForMaskedLM", state, **ONE_LAYER), "BertForMaskedLM")
    assert "--" not in caught.value.hint
    assert "tie_word_embeddings=False" in caught.value.hint


def test_copies_of_keras_2_that_differ(tmp_path: Path) -> None:
    """tf_model.h5 holds the embeddings of a language model twice; 4.57 takes one or the other, by the class."""
    state = state_dict("BertForMaskedLM", **ONE_LAYER)
    folder = make(tmp_path, "BertForMaskedLM", state, "h5", **ONE_LAYER)
    with h5py.File(folder / "tf_model.h5", "r+") as root:
        scope = root["mlm___cls"][cp.keras_name("BertForMaskedLM")]
        scope["bert/embeddings/word_embeddings/weight:0"][3, 4] += 1
    with pytest.raises(TiedTensorsDiffer, match="word_embeddings/weight:0") as caught:
        load(folder, "BertForMaskedLM")
    assert "--" not in caught.value.hint
    assert "tie_word_embeddings" not in caught.value.hint


def test_untied_decoder(tmp_path: Path) -> None:
    state = state_dict("BertForMaskedLM", **ONE_LAYER)
    state |= {cp.DECODER: state[cp.WORD] + 1, cp.DECODER_BIAS: state[cp.MLM_BIAS] + 1}
    folder = make(tmp_path, "BertForMaskedLM", state, tie_word_embeddings=False, **ONE_LAYER)
    model, info, warned = load(folder, "BertForMaskedLM")
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))
    with pytest.raises(TiedTensorsDiffer):
        load(folder, "BertForMaskedLM", tie_word_embeddings=True)
    cp.write_config(tmp_path, cp.config("BertForMaskedLM", **ONE_LAYER))
    model, info, warned = load(folder, "BertForMaskedLM", tie_word_embeddings=False)
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions(tmp_path: Path, kind: str) -> None:
    changes = {"position_embedding_type": kind, **ONE_LAYER}
    state = state_dict(CLASSIFIER, **changes)
    assert any("distance_embedding" in name for name in state)
    model, info, warned = load(make(tmp_path, CLASSIFIER, state, **changes))
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))
    with pytest.raises(ShapeMismatch, match="position_embedding_type"):
        load(tmp_path, position_embedding_type="absolute")


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_cross_attention(tmp_path: Path, container: str) -> None:
    changes = {"is_decoder": True, "add_cross_attention": True}
    state = state_dict("BertLMHeadModel", **changes)
    model, info, warned = load(make(tmp_path, "BertLMHeadModel", state, container, **changes), "BertLMHeadModel")
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))


# The ignore lists


class Mute(bertconv.TFBertForSequenceClassification):
    _keys_to_ignore_on_load_unexpected: ClassVar = [
        *bertconv.TFBertForSequenceClassification._keys_to_ignore_on_load_unexpected, r"extra\.",
    ]  # fmt: skip
    _keys_to_ignore_on_load_missing: ClassVar = ["dropout", "classifier"]


class Loud(bertconv.TFBertForSequenceClassification):
    _keys_to_ignore_on_load_unexpected = None
    _keys_to_ignore_on_load_missing: ClassVar = []


@pytest.mark.parametrize("head", cp.HEADS)
def test_ignore_lists_are_regexes_of_the_class(head: str) -> None:
    cls = tiny.tf_class(head)
    for own in (cls._keys_to_ignore_on_load_unexpected, cls._keys_to_ignore_on_load_missing):
        assert isinstance(own, list)
        assert all(isinstance(each, str) for each in own)
    assert any("position_ids" in each for each in cls._keys_to_ignore_on_load_unexpected)
    assert (
        cls._keys_to_ignore_on_load_unexpected is not bertconv.TFBertPreTrainedModel._keys_to_ignore_on_load_unexpected
    )


def test_longer_ignore_lists(tmp_path: Path) -> None:
    state = state_dict("BertForPreTraining", **ONE_LAYER) | {
        "extra.thing": np.ones(3, np.float32),
        "more": np.ones(2, np.float32),
    }
    folder = make(tmp_path, "BertForPreTraining", state, **ONE_LAYER)
    _, info, warned = load(folder)
    assert ordered(info) == report(["classifier/bias:0", "classifier/kernel:0"], ["extra.thing", "more"])
    assert len(warned) == 1
    model, info, warned = load(folder, Mute)
    assert ordered(info) == report((), ["more"])
    assert len(warned) == 1
    assert "classifier" not in warned[0]
    assert weights(model)["classifier/kernel:0"].std() > 0.01
    assert bertconv.TFBertForSequenceClassification._keys_to_ignore_on_load_missing == ["dropout"]


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_empty_ignore_lists(tmp_path: Path, container: str) -> None:
    """Everything that the class has no use for is reported, in TensorFlow's names."""
    state = state_dict("BertForPreTraining", **ONE_LAYER)
    folder = make(tmp_path, "BertForPreTraining", state, container, **ONE_LAYER)
    _, info, _ = load(folder, Loud)
    unused = {cp.tf_name(name) for name in state if name.startswith("cls.")}
    assert ordered(info) == report(["classifier/bias:0", "classifier/kernel:0"], unused)


def test_ignoring_everything_is_no_model(tmp_path: Path) -> None:
    class Careless(bertconv.TFBertForSequenceClassification):
        _keys_to_ignore_on_load_missing: ClassVar = [""]

    state = {"bert.embeddings.word_embeddings.weight": np.ones((101, 34), np.float32)}
    with pytest.raises(MappingError):
        load(make(tmp_path, CLASSIFIER, state), Careless, ignore_mismatched_sizes=True)


# Nothing random that is stored


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Every call of an initializer of Keras, and of its random numbers."""
    found: list[tuple[str, tuple[int, ...]]] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            shape = next(
                each for each in (*args, keywords.get("shape")) if isinstance(each, tuple | list | tf.TensorShape)
            )
            found.append((name, tuple(shape)))
            return original(*args, **keywords)

        return call

    kinds = {value for value in vars(keras.initializers).values() if isinstance(value, type)}
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if "__call__" in vars(kind):
            monkeypatch.setattr(kind, "__call__", watched(kind.__name__, kind.__call__))
    for module, name in ((keras.random, "truncated_normal"), (keras.random, "normal"), (keras.random, "uniform")):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "mixed_float16"])
@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_no_initializer_is_called_for_what_is_stored(
    tmp_path: Path, drawn: list[Any], dtype: str, container: str
) -> None:
    state = {name: (value % 7).astype("float32") for name, value in state_dict(CLASSIFIER, **ONE_LAYER).items()}
    model, _, _ = load(make(tmp_path, CLASSIFIER, state, container, **ONE_LAYER), dtype=dtype)
    assert drawn == []
    cp.assert_same(weights(model), expected(state, "float32" if dtype == "mixed_float16" else dtype))
    tiny.tf_class(CLASSIFIER)(cp.config(CLASSIFIER, **ONE_LAYER))
    assert len(drawn) >= len(state), "the counter works"


def test_only_what_is_lacking_is_drawn(tmp_path: Path, drawn: list[Any]) -> None:
    load(make(tmp_path, "BertModel", **ONE_LAYER), num_labels=6)
    assert drawn == [("TruncatedNormal", (35, 6)), ("Zeros", (6,))]


def test_what_is_drawn_follows_the_seed(folder: Path) -> None:
    found = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        found.append(weights(load(folder, "BertForPreTraining")[0]))
    cp.assert_same(found[0], found[1])
    name = "mlm___cls/predictions/transform/dense/kernel:0"
    assert (found[0][name] != found[2][name]).any()
    assert (found[0][name][:, :2] != found[0]["nsp___cls/seq_relationship/kernel:0"]).any()


def test_two_models_share_nothing(folder: Path) -> None:
    one, two = load(folder, "BertModel")[0], load(folder, "BertModel")[0]
    before = weights(two)
    for weight in one.weights:
        weight.assign(weight + 1)
    cp.assert_same(weights(two), before)


def test_weights_outlive_the_files(tmp_path: Path) -> None:
    state = state_dict("BertModel", **ONE_LAYER)
    folder = make(tmp_path / "model", "BertModel", state, "tf-safetensors", **ONE_LAYER)
    model, _, _ = load(folder, "BertModel")
    file = folder / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    shutil.rmtree(folder)
    cp.assert_same(weights(model), expected(state))


MEMORY = """
import sys
import numpy as np
import tensorflow as tf
from bertconv import TFBertModel

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

TFBertModel.from_pretrained(sys.argv[2])  # what TensorFlow itself sets up once
before = peak()
model = TFBertModel.from_pretrained(sys.argv[1])
after = peak()
print(after - before, sum(weight.numpy().nbytes for weight in model.weights))
"""


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_memory_that_loading_takes(warm: WarmPython, tmp_path: Path, folder: Path, container: str) -> None:
    """At its peak 1.35 times the weights, in a process of its own."""
    sizes = {
        "vocab_size": 30_000, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024,
        "num_hidden_layers": 9, "max_position_embeddings": 512,
    }  # fmt: skip
    shapes = cp.shapes("BertModel", cp.config("BertModel", **sizes))
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    cp.write_config(tmp_path, cp.config("BertModel", **sizes))
    if container == "h5":
        cp.write_h5(tmp_path / "tf_model.h5", cp.tf_state(state))
    else:
        save_file(cp.bare(state), tmp_path / "model.safetensors")
    total = sum(value.nbytes for value in state.values())
    assert total > 55e6
    done = warm.run("-c", MEMORY, tmp_path, folder, folder=tmp_path, needs=KERAS)
    assert done.returncode == 0, done.stderr
    extra, loaded_bytes = map(int, done.stdout.split())
    assert loaded_bytes == total
    assert extra <= 1.35 * total, f"{extra / total:.2f} times"
    assert extra > 0.9 * total, "the measure sees the weights"


# The Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "source"))
    from hub_server import HubServer

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        yield server
        getattr(huggingface_hub, "close_session", lambda: None)()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_hub(hub: Any, tmp_path: Path) -> None:
    """The config and one file of weights are downloaded, once, and found again without the network."""
    state, other = state_dict("BertModel", **ONE_LAYER), state_dict("BertModel", **ONE_LAYER, seed=1)
    make(tmp_path / "model", "BertModel", state, **ONE_LAYER)
    make(tmp_path / "model", "BertModel", other, "h5", **ONE_LAYER)
    hub.add_repo("org/bert", {**files_of(tmp_path / "model"), "vocab.txt": b"[PAD]"})
    model, info, warned = load("org/bert", "BertModel")
    assert (info, warned) == (report(), [])
    cp.assert_same(weights(model), expected(state))
    assert model.name_or_path == "org/bert"
    assert set(hub.downloaded()) <= {"config.json", "model.safetensors", "vocab.txt"}
    hub.requests.clear()
    cp.assert_same(weights(load("org/bert", "BertModel", local_files_only=True)[0]), expected(state))
    assert hub.requests == []
    load("org/bert", "BertModel")
    assert hub.downloaded() == []
    load("org/bert", "BertModel", force_download=True)
    assert "model.safetensors" in hub.downloaded()
    cp.assert_same(weights(load("org/bert", "BertModel", use_safetensors=False)[0]), expected(other))


@pytest.mark.parametrize("status", [None, 500, 429])
def test_hub_that_is_down(hub: Any, tmp_path: Path, status: int | None) -> None:
    """As in 4.57, the copy in the cache is loaded where the Hub does not answer (None) or not as it should."""
    hub.add_repo("org/bert", files_of(make(tmp_path / "model", "BertModel", state := state_dict("BertModel"))))
    load("org/bert", "BertModel")
    if status is None:
        hub.stop()
    else:
        hub.fail = status
    model, info, warned = load("org/bert", "BertModel")
    assert info == report()
    cp.assert_same(weights(model), expected(state))
    assert len(warned) == 1
    assert re.search(
        r"^org/bert: the Hub is out of reach \(.+\): its copy in the cache is used, commit [0-9a-f]{12}\.", warned[0]
    )
    for name, options in (("org/other", {}), ("org/bert", {"force_download": True}), ("org/bert", {"revision": "v2"})):
        with pytest.raises(HubError):
            load(name, "BertModel", **options)


def test_hub_cache_dir(hub: Any, tmp_path: Path) -> None:
    hub.add_repo("bert", files_of(make(tmp_path / "model", "BertModel", **ONE_LAYER)))
    load("bert", "BertModel", cache_dir=str(tmp_path / "mine"))
    assert list((tmp_path / "mine").glob("models--bert/snapshots/*/model.safetensors"))
    assert not (tmp_path / "cache").exists()
    load("bert", "BertModel", cache_dir=tmp_path / "mine", local_files_only=True)
    with pytest.raises(HubError, match="not in the Hub cache"):
        load("bert", "BertModel", local_files_only=True)


def test_hub_revision_and_subfolder_and_config(hub: Any, tmp_path: Path) -> None:
    state, other = state_dict("BertModel", **ONE_LAYER), state_dict("BertModel", **ONE_LAYER, seed=1)
    first = files_of(make(tmp_path / "one", "BertModel", state, **ONE_LAYER))
    second = files_of(make(tmp_path / "two", "BertModel", other, **ONE_LAYER, hidden_act="relu"))
    hub.add_repo("bert", first)
    hub.add_repo("bert", {**first, **{f"inner/{name}": data for name, data in second.items()}}, "b" * 40, ("v2",))
    cp.assert_same(weights(load("bert", "BertModel", revision="main")[0]), expected(state))
    for source, keywords in (("bert", {"revision": "v2"}), ("bert@v2", {}), ("bert", {"revision": "b" * 40})):
        model, _, _ = load(source, "BertModel", subfolder="inner", **keywords)
        cp.assert_same(weights(model), expected(other))
        assert model.config.hidden_act == "relu"
    with pytest.raises(HubError, match="v3"):
        load("bert", "BertModel", revision="v3")
    hub.add_repo("configs", {**second, "model.safetensors": second["model.safetensors"]})
    assert load("bert", "BertModel", config="configs")[0].config.hidden_act == "relu"


@pytest.mark.parametrize(("token", "sent"), [("hf_x", "hf_x"), (None, "hf_stored"), (True, "hf_stored"), (False, None)])
def test_hub_token(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: Any, sent: str | None) -> None:
    """A token of the caller's, the stored one, or none: as huggingface_hub has it."""
    seen = []
    original = huggingface_hub.HfApi.model_info

    def model_info(self: Any, *args: Any, **keywords: Any) -> Any:
        seen.append(self._build_hf_headers().get("authorization"))
        return original(self, *args, **keywords)

    monkeypatch.setenv("HF_TOKEN", "hf_stored")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    hub.add_repo("bert", files_of(make(tmp_path / "model", "BertModel", **ONE_LAYER)))
    load("bert", "BertModel", token=token)
    assert set(seen) == {sent and f"Bearer {sent}"}


def test_hub_without_the_model(hub: Any) -> None:
    hub.add_repo("bert", {"README.md": b"nothing"})
    with pytest.raises(HubError):
        load("bert", "BertModel")
    with pytest.raises(HubError):
        load("org/none", "BertModel")
