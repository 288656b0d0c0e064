"""Traps in real checkpoints: the number in a test's name is that of its case in the design notes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints as cp
import h5py
import ml_dtypes
import numpy as np
import pytest
from checkpoints import Keras, Outcome, Tensors, assert_same

from bertconv.convert import convert_checkpoint
from bertconv.errors import (
    AmbiguousHead,
    BertconvError,
    DamagedCheckpoint,
    HubError,
    MissingFiles,
    MissingTensors,
    OutputError,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
    UnknownPrefix,
    UnknownTensors,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)
from bertconv.inspection import inspect_checkpoint
from bertconv.report import Report

MLM, SEQ, BASE = "BertForMaskedLM", "BertForSequenceClassification", "BertModel"
ST, BIN, H5 = "model.safetensors", "pytorch_model.bin", "tf_model.h5"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def give(folder: Path, tensors: Tensors, head: str = BASE, name: str = ST, **changes: Any) -> Path:
    """A checkpoint with exactly these names."""
    cp.write_config(folder, cp.config(head, **changes))
    content = cp.safetensors_bytes(tensors) if name == ST else cp.torch_bytes(cp.torch_tensors(tensors))
    (folder / name).write_bytes(content)
    return folder


def give_h5(folder: Path, tensors: Tensors, style: Keras, head: str = BASE) -> Path:
    cp.write_config(folder, cp.config(head))
    cp.write_h5(folder / H5, tensors, style)
    return folder


def refusal(kind: type[BertconvError], src: Path, out: Path, **options: Any) -> BertconvError:
    """The error of a conversion, which must be of exactly this class, hint at something, and write nothing."""
    before = cp.snapshot(out.parent)
    with pytest.raises(kind) as caught:
        convert_checkpoint(src, out, **{"to": "pt", **options})
    assert type(caught.value) is kind
    assert caught.value.hint
    assert cp.snapshot(out.parent) == before
    return caught.value


def to_pt(src: Path, out: Path, found: str, expected: Tensors, **options: Any) -> Report:
    """Convert to PyTorch and compare every bit; the report must call it whole."""
    report = convert_checkpoint(src, out, to="pt", **options)
    assert report.ok
    assert report.head == found
    assert_same(cp.written(out), cp.native(found, expected))
    return report


def said(report: Report, *words: str) -> bool:
    """Whether one note holds all of these words."""
    return any(all(word in note for word in words) for note in report.notes)


# Names


@pytest.mark.parametrize("name", [ST, BIN])
@pytest.mark.parametrize("only", ["", "bert.embeddings."])
def test_01_old_layer_norm_names(tmp_path: Path, out: Path, name: str, only: str) -> None:
    state = cp.state_dict(MLM)
    old = cp.renamed(state, rf"^({only}.*LayerNorm)\.weight$", r"\1.gamma")
    old = cp.renamed(old, rf"^({only}.*LayerNorm)\.bias$", r"\1.beta")
    assert any(key.endswith("LayerNorm.gamma") for key in old)
    to_pt(give(tmp_path / "in", old, MLM, name), out, MLM, state)


@pytest.mark.parametrize("head", ["BertForPreTraining", BASE])
@pytest.mark.parametrize("to", ["pt", "tf"])
def test_01_nvidia_s_dense_act(tmp_path: Path, out: Path, head: str, to: str) -> None:
    """Its name for a dense layer with an activation is read, and never written."""
    tensors = cp.state_dict(head)
    theirs = {
        re.sub(r"(intermediate|pooler|transform)\.dense\.", r"\1.dense_act.", name): tensors[name] for name in tensors
    }
    assert len(theirs.keys() - tensors.keys()) == (8 if head == "BertForPreTraining" else 6)
    report = convert_checkpoint(give(tmp_path / "in", cp.native(head, theirs), head), out, to=to)
    assert (report.ok, report.left_out) == (True, ())
    assert_same(cp.written(out), cp.native(head, tensors) if to == "pt" else cp.tf_state(tensors))


@pytest.mark.parametrize(
    ("odd", "shape"),
    [("bert.embeddings.gamma", (35,)), ("bert.pooler.dense.gamma", (35, 35)), ("bert.encoder.gamma.weight", (35,)),
     ("bert.encoder.layer.0.output.dense.beta", (35,))],
)  # fmt: skip
def test_01_gamma_elsewhere_is_not_renamed(tmp_path: Path, out: Path, odd: str, shape: tuple[int, ...]) -> None:
    state = {**cp.state_dict(), odd: np.ones(shape, np.float32)}
    assert odd in str(refusal(UnknownTensors, give(tmp_path / "in", state), out))


def test_01_both_names_of_one_scale(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    state["bert.embeddings.LayerNorm.gamma"] = state["bert.embeddings.LayerNorm.weight"] + 1
    refusal(DamagedCheckpoint, give(tmp_path / "in", state), out)


@pytest.mark.parametrize("head", [BASE, SEQ, MLM, "BertForPreTraining"])
@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda state: state, id="present"),
        pytest.param(cp.bare, id="absent, head keys at the root"),
        pytest.param(lambda state: cp.renamed(state, r"^bert\.", "bert.bert."), id="doubled, head keys at the root"),
        pytest.param(lambda state: cp.prefixed(state, "bert."), id="doubled everywhere"),
    ],
)
def test_02_base_prefix(tmp_path: Path, out: Path, head: str, spell: Callable[[Tensors], Tensors]) -> None:
    state = cp.state_dict(head)
    to_pt(give(tmp_path / "in", spell(state), head), out, head, state)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "0.auto_model.", "model._orig_mod.",
     "model.module."],
)  # fmt: skip
@pytest.mark.parametrize("head", [BASE, SEQ])
@pytest.mark.parametrize("name", [ST, BIN])
def test_03_wrappers(tmp_path: Path, out: Path, prefix: str, head: str, name: str) -> None:
    state = cp.state_dict(head)
    wrapped = cp.prefixed(cp.native(head, state), prefix)
    report = to_pt(give(tmp_path / "in", wrapped, head, name), out, head, state)
    assert report.source["prefix"] == prefix


def test_03_unknown_wrapper(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict(SEQ)
    src = give(tmp_path / "in", cp.prefixed(state, "student."), SEQ)
    assert "--strip-prefix student." in refusal(UnknownPrefix, src, out).hint
    to_pt(src, out, SEQ, state, strip_prefix="student.")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "encoder", "module"])
@pytest.mark.parametrize("legacy", [False, True])
def test_04_envelopes(tmp_path: Path, out: Path, key: str, legacy: bool) -> None:
    state = cp.state_dict(SEQ)
    value = {key: cp.torch_tensors(state), "epoch": 3, "loss": 0.5, "args": {"lr": 1e-5}}
    folder = cp.write_config(tmp_path / "in", cp.config(SEQ))
    (folder / BIN).write_bytes(cp.torch_bytes(value, legacy=legacy))
    report = to_pt(folder, out, SEQ, state)
    assert said(report, "state dict found under", key)
    assert {"epoch", "loss", "args"} <= {one.source for one in report.left_out}


def test_04_a_head_beside_the_body_s_state_dict(tmp_path: Path, out: Path) -> None:
    """The body arrives, and it is not said that nothing was lost."""
    body, head = cp.state_dict(BASE), {"weight": np.ones((7, 3), np.float32), "bias": np.ones(7, np.float32)}
    value = {"model": cp.torch_tensors(body), "classifier": cp.torch_tensors(head), "epoch": 3}
    folder = cp.write_config(tmp_path / "in", cp.config(BASE))
    (folder / BIN).write_bytes(cp.torch_bytes(value))
    report = to_pt(folder, out, BASE, body)
    assert {one.source: one.state for one in report.left_out} == {"classifier": "outside", "epoch": "ignored"}
    assert report.summary().endswith("1 left out")


@pytest.mark.parametrize("prefix", ["model.", "model.bert."])
def test_04_lightning(tmp_path: Path, out: Path, prefix: str) -> None:
    """`model.bert.` in front of a base model's own names is the same as `model.` in front of a head's."""
    import torch

    head = SEQ if prefix == "model." else BASE
    state = cp.state_dict(head)
    tensors = cp.torch_tensors(cp.prefixed(cp.native(head, state), prefix))
    value = {
        "state_dict": OrderedDict(tensors), "epoch": 3, "global_step": 500, "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 2e-5, "name": "bert"}, "loops": {"fit": {"state": {}}}, "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 2e-5}]}],
    }  # fmt: skip
    path = tmp_path / "in" / "epoch=3.ckpt"
    cp.write_config(path.parent, cp.config(head))
    path.write_bytes(cp.torch_bytes(value))
    report = to_pt(path, out, head, state)
    assert {"optimizer_states", "hyper_parameters"} <= {one.source for one in report.left_out}


@pytest.mark.parametrize(
    ("style", "head"),
    [
        pytest.param(Keras("tf_bert_model"), BASE, id="class name"),
        pytest.param(Keras("tf_bert_for_sequence_classification_3"), SEQ, id="class name with a counter"),
        pytest.param(Keras("bert_lm"), MLM, id="custom scope"),
        pytest.param(Keras("my_scope/tf_bert_model"), BASE, id="inside tf.name_scope"),
        pytest.param(Keras("outer/inner/tf_bert_for_masked_lm_1"), MLM, id="inside two scopes"),
        pytest.param(Keras("bert"), BASE, id="scope named like the layer"),
        pytest.param(Keras(""), BASE, id="no scope"),
        pytest.param(Keras("tf_bert_for_masked_lm", copies=True), MLM, id="embeddings twice"),
        pytest.param(Keras("tf_bert_for_masked_lm", copies=False), MLM, id="embeddings once"),
        pytest.param(Keras("tf_bert_for_pre_training", text="vlen", top_level=True), "BertForPreTraining", id="h5py 3"),
        pytest.param(Keras("tf_bert_for_pre_training", chunked=True), "BertForPreTraining", id="chunked lists"),
        pytest.param(Keras("tf_bert_for_masked_lm", chunked=True, text="vlen"), MLM, id="chunked lists, h5py 3"),
        pytest.param(Keras(dropout=False), BASE, id="no dropout groups"),
    ],
)
def test_07_keras_names(tmp_path: Path, out: Path, style: Keras, head: str) -> None:
    state = cp.state_dict(head)
    report = to_pt(give_h5(tmp_path / "in", cp.tf_state(state), style, head), out, head, state)
    assert report.source["dialect"] == "tf"
    assert report.source["container"] == "hdf5"


@pytest.mark.parametrize("leaf", ["weight:0", "embeddings:0", "weight", "embeddings"])
def test_07_keras_word_embeddings(tmp_path: Path, out: Path, leaf: str) -> None:
    state = cp.state_dict()
    old = cp.renamed(cp.tf_state(state), r"(word_embeddings)/weight:0$", rf"\1/{leaf}")
    to_pt(give_h5(tmp_path / "in", old, Keras()), out, BASE, state)


def test_07_keras_weights_outside_of_any_layer(tmp_path: Path, out: Path) -> None:
    """A resized word matrix belongs to the model itself, so Keras stores it a second time."""
    state = cp.state_dict()
    src = give_h5(tmp_path / "in", cp.tf_state(state), Keras(text="vlen"))
    name = "tf_bert_model/bert/embeddings/word_embeddings/weight:0"
    with h5py.File(src / H5, "r+") as root:
        group = root.create_group("top_level_model_weights")
        group.attrs["weight_names"] = [name]
        group.create_dataset(name, data=state[cp.WORD])
    to_pt(src, out, BASE, state)


def test_07_keras_copies_that_differ(tmp_path: Path, out: Path) -> None:
    src = give_h5(tmp_path / "in", cp.tf_state(cp.state_dict(MLM)), Keras("tf_bert_for_masked_lm"), MLM)
    name = "mlm___cls/tf_bert_for_masked_lm/bert/embeddings/word_embeddings/weight:0"
    with h5py.File(src / H5, "r+") as root:
        root[name][3, 5] += 1
    assert "word_embeddings" in str(refusal(TiedTensorsDiffer, src, out))


@pytest.mark.parametrize("metadata", [..., None, {}, {"format": "tf"}, {"format": "pt"}, {"format": "np"}], ids=str)
@pytest.mark.parametrize("head", [BASE, MLM])
def test_08_tensorflow_names_in_safetensors(tmp_path: Path, out: Path, metadata: object, head: str) -> None:
    """Decided by names, not by metadata: 35x35 kernels show a missing transpose by their values only."""
    state = cp.state_dict(head)
    cp.write_config(tmp_path / "in", cp.config(head))
    (tmp_path / "in" / ST).write_bytes(cp.safetensors_bytes(cp.tf_state(state), metadata))
    report = to_pt(tmp_path / "in", out, head, state)
    assert report.source["dialect"] == "tf"


def test_08_pytorch_names_that_say_tf(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    cp.write_config(tmp_path / "in", cp.config())
    (tmp_path / "in" / ST).write_bytes(cp.safetensors_bytes(cp.bare(state), {"format": "tf"}))
    assert to_pt(tmp_path / "in", out, BASE, state).source["dialect"] == "pt"


def test_08_square_kernels_are_transposed(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict(hidden_size=768, num_attention_heads=12, num_hidden_layers=1)
    src = give(tmp_path / "in", state, hidden_size=768, num_attention_heads=12, num_hidden_layers=1)
    convert_checkpoint(src, out, to="tf-safetensors")
    found = cp.written(out)
    for part in ("query", "key", "value"):
        ours = found[f"bert/encoder/layer_._0/attention/self/{part}/kernel:0"]
        theirs = state[f"bert.encoder.layer.0.attention.self.{part}.weight"]
        assert ours.shape == (768, 768)
        assert np.array_equal(ours, theirs.T)
        assert not np.array_equal(ours, theirs)


# Content


@pytest.mark.parametrize("prefix", ["bert.embeddings.", "embeddings."])
@pytest.mark.parametrize("buffers", [("position_ids",), ("token_type_ids",), ("position_ids", "token_type_ids")])
def test_12_buffers(tmp_path: Path, out: Path, prefix: str, buffers: tuple[str, ...]) -> None:
    state = cp.state_dict()
    named = state if prefix.startswith("bert.") else cp.bare(state)
    extra = {prefix + name: np.arange(37, dtype=np.int64).reshape(1, 37) for name in buffers}
    report = to_pt(give(tmp_path / "in", {**extra, **named}), out, BASE, state)
    assert {(one.source, one.state) for one in report.left_out} == {(name, "ignored") for name in extra}


@pytest.mark.parametrize("head", [MLM, "BertForPreTraining", "BertLMHeadModel"])
@pytest.mark.parametrize("weight", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", [ST, BIN])
def test_13_tied_copies_that_are_equal(
    tmp_path: Path, out: Path, head: str, weight: bool, bias: bool, name: str
) -> None:
    state = cp.state_dict(head)
    copies = {cp.DECODER: state[cp.WORD]} if weight else {}
    copies |= {cp.DECODER_BIAS: state[cp.MLM_BIAS]} if bias else {}
    report = to_pt(give(tmp_path / "in", {**state, **copies}, head, name), out, head, state)
    assert {(one.source, one.state) for one in report.left_out} == {(copy, "tied") for copy in copies}


@pytest.mark.parametrize(("gone", "copy"), [(cp.WORD, cp.DECODER), (cp.MLM_BIAS, cp.DECODER_BIAS)])
@pytest.mark.parametrize("to", ["pt", "tf"])
def test_13_only_the_copy_is_there(tmp_path: Path, out: Path, gone: str, copy: str, to: str) -> None:
    state = cp.state_dict(MLM)
    there = {copy if key == gone else key: value for key, value in state.items()}
    report = convert_checkpoint(give(tmp_path / "in", there, MLM), out, to=to)
    assert_same(cp.written(out), state if to == "pt" else cp.tf_state(state))
    assert [tensor.source for tensor in report.tensors if tensor.state == "tied"] == [copy]


def differing(which: str) -> Tensors:
    state = cp.state_dict(MLM)
    copies = {"weight": {cp.DECODER: state[cp.WORD] * 2}, "bias": {cp.DECODER_BIAS: state[cp.MLM_BIAS] + 1}}
    last_bit = state[cp.WORD].copy()
    last_bit.view(np.uint32)[-1, -1] ^= 1
    copies |= {"both": copies["weight"] | copies["bias"], "last bit": {cp.DECODER: last_bit}}
    return {**state, **copies[which]}


@pytest.mark.parametrize("which", ["weight", "bias", "both", "last bit"])
@pytest.mark.parametrize("name", [ST, BIN])
def test_13_tied_copies_that_differ(tmp_path: Path, out: Path, which: str, name: str) -> None:
    error = refusal(TiedTensorsDiffer, give(tmp_path / "in", differing(which), MLM, name), out)
    assert error.exit_code == 3
    assert "--untie" in error.hint
    assert "tie_word_embeddings" in error.hint
    assert "decoder" in str(error)


@pytest.mark.parametrize("by", ["option", "config"])
@pytest.mark.parametrize("which", ["weight", "both"])
def test_13_untied(tmp_path: Path, out: Path, by: str, which: str) -> None:
    state = differing(which)
    src = give(tmp_path / "in", state, MLM, tie_word_embeddings=None if by == "option" else False)
    report = convert_checkpoint(src, out, to="pt", untie=by == "option")
    found = cp.written(out)
    assert_same({name: found[name] for name in state}, state)
    assert cp.config_of(out)["tie_word_embeddings"] is False
    assert said(report, "untied")


@pytest.mark.parametrize("bias", [pytest.param(False, id="nothing"), pytest.param(True, id="bias only")])
def test_13_untied_decoder_that_is_absent(tmp_path: Path, out: Path, bias: bool) -> None:
    """The config says that it is not the embeddings, so they must not be put in its place."""
    state = cp.state_dict(MLM)
    state |= {cp.DECODER_BIAS: state[cp.MLM_BIAS]} if bias else {}
    error = refusal(MissingTensors, give(tmp_path / "in", state, MLM, tie_word_embeddings=False), out)
    assert cp.DECODER in str(error)
    assert "set tie_word_embeddings to true" in error.hint  # and not another class, which lacks it just so
    assert "--head" not in error.hint


@pytest.mark.parametrize("to", ["tf", "tf-safetensors"])
def test_13_untied_there_and_back(tmp_path: Path, out: Path, to: str) -> None:
    state = differing("both")
    convert_checkpoint(give(tmp_path / "in", state, MLM), tmp_path / "tf", to=to, untie=True)
    convert_checkpoint(tmp_path / "tf", out, to="pt")
    assert_same(cp.written(out), state)
    assert cp.config_of(out)["tie_word_embeddings"] is False


@pytest.mark.parametrize("forced", [BASE, MLM, "BertForNextSentencePrediction"])
def test_14_extra_heads_are_left_out_by_request(tmp_path: Path, out: Path, forced: str) -> None:
    state = cp.state_dict("BertForPreTraining")
    src = give(tmp_path / "in", state, "BertForPreTraining")
    wanted = {name: state[name] for name in cp.shapes(forced, cp.config())}
    report = to_pt(src, out, forced, wanted, head=forced)
    unused = {one.source for one in report.left_out if one.state == "unused"}
    assert unused == set(state) - set(wanted)
    assert cp.config_of(out)["architectures"] == [forced]


def test_14_the_tensors_decide_the_class(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict("BertForPreTraining")
    report = to_pt(give(tmp_path / "in", state, BASE), out, "BertForPreTraining", state)
    assert said(report, "config names BertModel", "BertForPreTraining")


@pytest.mark.parametrize("name", ["score", "pre_classifier", "classifiers.0", "linear"])
def test_14_unknown_heads(tmp_path: Path, out: Path, name: str) -> None:
    state = cp.state_dict()
    extra = {f"{name}.weight": np.ones((11, 35), np.float32), f"{name}.bias": np.ones(11, np.float32)}
    src = give(tmp_path / "in", {**state, **extra})
    error = refusal(UnknownTensors, src, out)
    assert all(each in str(error) for each in extra)
    assert "--allow-unknown" in error.hint
    report = to_pt(src, out, BASE, state, allow_unknown=[rf"^{name}\."])
    assert {one.source for one in report.left_out if one.state == "unknown"} == set(extra)


@pytest.mark.parametrize("segments", [0, 1, 2, 16])
@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
def test_16_segments(tmp_path: Path, out: Path, segments: int, to: str) -> None:
    state = cp.state_dict(type_vocab_size=segments)
    convert_checkpoint(give(tmp_path / "in", state, type_vocab_size=segments), tmp_path / "there", to=to)
    to_pt(tmp_path / "there", out, BASE, state)


def test_16_segments_as_the_config_says(tmp_path: Path, out: Path) -> None:
    src = give(tmp_path / "in", cp.state_dict(type_vocab_size=1), type_vocab_size=2)
    assert "type_vocab_size" in str(refusal(ShapeMismatch, src, out))


@pytest.mark.parametrize("head", [BASE, MLM])
@pytest.mark.parametrize("rows", [104, 128, 96])
@pytest.mark.parametrize("to", ["pt", "tf"])
def test_17_rows_win(tmp_path: Path, out: Path, head: str, rows: int, to: str) -> None:
    state = cp.state_dict(head, vocab_size=rows)
    src = give(tmp_path / "in", state, head, vocab_size=101)
    (src / "vocab.txt").write_text("\n".join(f"word{number}" for number in range(99)))
    report = convert_checkpoint(src, out, to=to)
    assert said(report, "vocab_size", str(rows), "101")
    assert cp.config_of(out)["vocab_size"] == rows
    assert_same(cp.written(out), cp.native(head, state) if to == "pt" else cp.tf_state(state))
    assert (out / "vocab.txt").read_bytes() == (src / "vocab.txt").read_bytes()


def test_17_rows_that_contradict_each_other(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict(MLM)
    state[cp.MLM_BIAS] = np.ones(104, np.float32)
    refusal(ShapeMismatch, give(tmp_path / "in", state, MLM), out)


@pytest.mark.parametrize("absent", [("model_type",), ("architectures",), ("model_type", "architectures")])
@pytest.mark.parametrize("head", [BASE, MLM, SEQ])
def test_22_config_without(tmp_path: Path, out: Path, absent: tuple[str, ...], head: str) -> None:
    state = cp.state_dict(head)
    src = give(tmp_path / "in", state, head, **dict.fromkeys(absent))
    forced = head if head == SEQ and "architectures" in absent else None
    if forced:  # a model for token classification may have these tensors too
        assert "BertForTokenClassification" in refusal(AmbiguousHead, src, out).message
    report = to_pt(src, out, head, state, head=forced)
    assert head in report.equals
    assert cp.config_of(out)["model_type"] == "bert"
    assert cp.config_of(out)["architectures"] == [report.head]


@pytest.mark.parametrize("to", ["pt", "tf"])
def test_22_an_old_model_for_token_classification(tmp_path: Path, out: Path, to: str) -> None:
    """No architectures, and a pooler, which its class does not own: its labels say what it is."""
    body = cp.state_dict(SEQ, labels=5)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    src = give(tmp_path / "in", body, SEQ, name=BIN, architectures=None, label2id=None,
               id2label={str(number): name for number, name in enumerate(tags)})  # fmt: skip
    report = convert_checkpoint(src, out, to=to)
    assert report.head == "BertForTokenClassification"
    assert said(report, "id2label", "B-PER")
    assert {one.source for one in report.left_out} == set(cp.POOLER)
    state = {name: value for name, value in body.items() if name not in cp.POOLER}
    assert_same(cp.written(out), state if to == "pt" else cp.tf_state(state))
    assert cp.config_of(out)["architectures"] == ["BertForTokenClassification"]


def test_22_bert_config(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    src = give(tmp_path / "in", cp.bare(state))
    (src / "config.json").rename(src / "bert_config.json")
    to_pt(src, out, BASE, state)
    assert (out / "config.json").exists()


def test_22_config_json_wins_over_bert_config(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    src = give(tmp_path / "in", cp.bare(state))
    cp.write_config(src, cp.config(hidden_act="relu"), "bert_config.json")
    to_pt(src, out, BASE, state)
    assert cp.config_of(out)["hidden_act"] == "gelu"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"id2label": None, "label2id": None, "num_labels": 5}, ShapeMismatch),
        ({"num_labels": 5}, DamagedCheckpoint),
        ({"labels": 5}, ShapeMismatch),
        ({"num_labels": "11"}, DamagedCheckpoint),
        ({"id2label": ["a"]}, DamagedCheckpoint),
    ],
    ids=str,
)
def test_22_wrong_labels(tmp_path: Path, out: Path, changes: dict[str, Any], kind: type[BertconvError]) -> None:
    assert "label" in str(refusal(kind, give(tmp_path / "in", cp.state_dict(SEQ), SEQ, **changes), out))


@pytest.mark.parametrize("changes", [{}, {"id2label": None, "label2id": None}, {"num_labels": cp.LABELS}], ids=str)
def test_22_right_or_unsaid_labels(tmp_path: Path, out: Path, changes: dict[str, Any]) -> None:
    state = cp.state_dict(SEQ)
    to_pt(give(tmp_path / "in", state, SEQ, **changes), out, SEQ, state)
    raw = cp.config_of(out)
    assert raw.get("num_labels", len(raw.get("id2label", ()))) == cp.LABELS
    if "id2label" in raw:
        assert raw["id2label"] == cp.config(SEQ)["id2label"]


@pytest.mark.parametrize(
    "named", [["BertForMaskedLM", "BertForPreTraining"], ["BertLMHeadModel", MLM], ["TFBertForMaskedLM"], "BertModel"]
)
def test_22_several_architectures(tmp_path: Path, out: Path, named: object) -> None:
    state = cp.state_dict(MLM)
    report = convert_checkpoint(give(tmp_path / "in", state, MLM, architectures=named), out, to="pt")
    assert report.head in {MLM, "BertLMHeadModel"}
    assert_same(cp.written(out), state)
    assert cp.config_of(out)["architectures"] == [report.head]


@pytest.mark.parametrize(
    "extra",
    [
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight",
        "bert.encoder.layer.0.attention.self.query.lora_B.weight",
        "base_model.model.bert.embeddings.word_embeddings.lora_embedding_A.default",
        "bert.encoder.layer.0.output.adapters.task.adapter_down.0.weight",
        "bert.prompt_encoder.embedding.weight",
    ],
)
@pytest.mark.parametrize("name", [ST, BIN])
def test_23_adapters(tmp_path: Path, out: Path, extra: str, name: str) -> None:
    state = {**cp.state_dict(), extra: np.ones((4, 35), np.float32)}
    error = refusal(UnsupportedCheckpoint, give(tmp_path / "in", state, BASE, name), out)
    assert error.tensor == extra
    assert "merge" in error.hint.lower()


def test_23_adapter_folder(tmp_path: Path, out: Path) -> None:
    src = tmp_path / "in"
    src.mkdir()
    (src / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (src / "adapter_model.safetensors").write_bytes(cp.safetensors_bytes({"x": np.ones(1, np.float32)}))
    error = refusal(UnsupportedCheckpoint, src, out)
    assert "LoRA" in str(error)
    assert "merge" in error.hint.lower()


def test_23_modules_to_save_are_not_merged_to_nothing(tmp_path: Path, out: Path) -> None:
    state = cp.prefixed(cp.state_dict(SEQ), "base_model.model.")
    state = cp.renamed(state, r"model\.classifier\.", "model.classifier.modules_to_save.default.")
    refusal(UnknownPrefix, give(tmp_path / "in", state, SEQ), out)


@pytest.mark.parametrize(
    "leaf", ["SCB", "weight_format", "qweight", "qzeros", "absmax", "quant_state.bitsandbytes__nf4", "weight_scale",
             "weight_scale_inv", "_packed_params._packed_params"],
)  # fmt: skip
@pytest.mark.parametrize("name", [ST, BIN])
def test_24_quantised(tmp_path: Path, out: Path, leaf: str, name: str) -> None:
    extra = f"bert.encoder.layer.1.output.dense.{leaf}"
    state = {**cp.state_dict(), extra: np.ones(53, np.float32)}
    error = refusal(UnsupportedCheckpoint, give(tmp_path / "in", state, BASE, name), out)
    assert "quantised" in str(error)
    assert error.tensor == extra


def test_24_quantised_by_the_config(tmp_path: Path, out: Path) -> None:
    src = give(tmp_path / "in", cp.state_dict(), quantization_config={"load_in_8bit": True})
    assert "quantised" in str(refusal(UnsupportedCheckpoint, src, out))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_24_dynamically_quantised_by_torch(tmp_path: Path, out: Path) -> None:
    import torch

    inner = torch.quantize_per_tensor(torch.ones(35, 35), 0.1, 0, torch.qint8)
    value = {**cp.torch_tensors(cp.state_dict()), "bert.pooler.dense.weight": inner}
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(cp.torch_bytes(value))
    assert "quantised" in str(refusal(UnsupportedCheckpoint, src, out))


@pytest.mark.parametrize("dtype", ["int64", "int8"])
@pytest.mark.parametrize("name", [ST, BIN])
def test_25_integer_weights(tmp_path: Path, out: Path, dtype: str, name: str) -> None:
    state = cp.state_dict()
    state[cp.POOLER[0]] = state[cp.POOLER[0]].astype(dtype)
    error = refusal(UnsupportedCheckpoint, give(tmp_path / "in", state, BASE, name), out)
    assert error.tensor == cp.POOLER[0]
    assert dtype in str(error)


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.inf, 2), (-np.inf, 3)])
@pytest.mark.parametrize("dtype", cp.FLOATS)
@pytest.mark.parametrize("to", ["pt", "tf"])
def test_25_numbers_that_are_none(tmp_path: Path, out: Path, value: float, count: int, dtype: str, to: str) -> None:
    state = cp.state_dict(dtype=dtype)
    state[cp.WORD][-count:, 7] = value
    report = convert_checkpoint(give(tmp_path / "in", state), out, to=to)
    assert said(report, "embeddings.word.weight", str(count), "NaN or infinite")
    assert_same(cp.written(out), cp.bare(state) if to == "pt" else cp.tf_state(state))


@pytest.mark.parametrize("name", ["bert.pooler.dense.weight", "bert.embeddings.LayerNorm.weight", cp.WORD])
def test_25_all_zero(tmp_path: Path, out: Path, name: str) -> None:
    state = cp.state_dict()
    state[name][:] = 0
    state["bert.pooler.dense.bias"][:] = 0
    report = convert_checkpoint(give(tmp_path / "in", state), out, to="tf")
    assert sum("all zero" in note for note in report.notes) == 1


def test_25_nothing_unusual(tmp_path: Path, out: Path) -> None:
    assert (
        to_pt(give(tmp_path / "in", cp.state_dict(dtype="float64")), out, BASE, cp.state_dict(dtype="float64")).notes
        == ()
    )


# Encoding


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed"])
@pytest.mark.parametrize("container", ["safetensors", "bin", "legacy", "sharded"])
@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
def test_26_half_and_mixed(tmp_path: Path, out: Path, dtype: str, container: str, to: str) -> None:
    state = cp.state_dict(SEQ, dtype)
    convert_checkpoint(cp.save(tmp_path / "in", SEQ, state, container), out, to=to)
    assert_same(cp.written(out), state if to == "pt" else cp.tf_state(state))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_26_half_in_keras_files(tmp_path: Path, out: Path, dtype: str) -> None:
    state = cp.state_dict(SEQ, dtype)
    to_pt(cp.save(tmp_path / "in", SEQ, state, "h5"), out, SEQ, state)


@pytest.mark.parametrize("to", ["pt", "tf"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["transposed", "every second row", "shared", "expanded", "part of a vector"])
def test_27_views(tmp_path: Path, out: Path, kind: str, legacy: bool, to: str) -> None:
    import torch

    state = cp.torch_tensors(cp.state_dict())
    query, key = (f"bert.encoder.layer.0.attention.self.{part}.weight" for part in ("query", "key"))
    big = torch.randn(3, 80, 80)
    if kind == "transposed":
        state[query] = torch.randn(35, 35).T
        state["bert.encoder.layer.0.intermediate.dense.weight"] = torch.randn(35, 53).T
    elif kind == "every second row":
        state[query] = big[1, ::2, ::2][:35, 3:38]
    elif kind == "shared":
        state[query], state[key] = big[0, :35, :35], big[0, 1:36, 2:37]
        state["bert.pooler.dense.bias"] = state["bert.embeddings.LayerNorm.bias"]
    elif kind == "expanded":
        state["bert.embeddings.LayerNorm.weight"] = torch.ones(1).expand(35)
        state[query] = torch.randn(35, 1).expand(35, 35)
    else:
        state["bert.pooler.dense.bias"] = big.reshape(-1)[1001:1036]
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(cp.torch_bytes(state, legacy=legacy))
    expected = {name: value.contiguous().numpy() for name, value in state.items()}
    report = convert_checkpoint(src, out, to=to)
    assert report.ok
    assert_same(cp.written(out), cp.bare(expected) if to == "pt" else cp.tf_state(expected))


def cuda(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bytes:
    import torch

    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    return cp.torch_bytes(state)


def with_metadata(state: dict[str, Any], _: pytest.MonkeyPatch) -> bytes:
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict({"": {"version": 1}, "embeddings": {"version": 1}})  # type: ignore[attr-defined]
    return cp.torch_bytes(ordered)


def parameters(state: dict[str, Any], _: pytest.MonkeyPatch) -> bytes:
    import torch

    return cp.torch_bytes({name: torch.nn.Parameter(value) for name, value in state.items()})


def numpy_scalars(state: dict[str, Any], _: pytest.MonkeyPatch) -> bytes:
    return cp.torch_bytes({"state_dict": state, "best_f1": np.float64(0.5), "step": np.int64(3)})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda state, _: cp.torch_bytes(state), id="zip"),
        pytest.param(lambda state, _: cp.torch_bytes(state, legacy=True), id="legacy"),
        cuda, with_metadata, parameters, numpy_scalars,
    ],
)  # fmt: skip
def test_28_kinds_of_bin(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, write: Callable[..., bytes]
) -> None:
    state = cp.state_dict(dtype=dtype)
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(write(cp.torch_tensors(cp.bare(state)), monkeypatch))
    to_pt(src, out, BASE, state)


@pytest.mark.parametrize("legacy", [False, True])
def test_28_whole_module(tmp_path: Path, out: Path, legacy: bool) -> None:
    import torch

    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(cp.torch_bytes(torch.nn.Linear(3, 4), legacy=legacy))
    error = refusal(UnsupportedCheckpoint, src, out)
    assert "module" in str(error)
    assert "state_dict" in error.hint


def test_28_legacy_tar(tmp_path: Path, out: Path) -> None:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(stream.getvalue())
    assert "tar" in str(refusal(UnsupportedCheckpoint, src, out))


@pytest.mark.parametrize(
    "metadata", [..., None, {}, *({"format": each} for each in ("pt", "np", "mlx", "tf"))], ids=str
)
def test_29_metadata(tmp_path: Path, out: Path, metadata: object) -> None:
    state = cp.state_dict()
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / ST).write_bytes(cp.safetensors_bytes(cp.bare(state), metadata))
    to_pt(src, out, BASE, state)
    assert cp.read_safetensors(out / ST)[1] == {"format": "pt"}


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 129, 4096])
def test_29_header_padding(tmp_path: Path, out: Path, padding: int) -> None:
    state = cp.state_dict()
    src = cp.write_config(tmp_path / "in", cp.config())
    raw = cp.safetensors_bytes(cp.bare(state))
    length = int.from_bytes(raw[:8], "little")
    (src / ST).write_bytes(cp.with_header(raw[8 : 8 + length] + b" " * padding, raw[8 + length :]))
    to_pt(src, out, BASE, state)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"\0" * 9, cp.with_header(b"{}"), cp.with_header(b'{"__metadata__":{}}')]
)
def test_29_empty_files(tmp_path: Path, out: Path, content: bytes) -> None:
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / ST).write_bytes(content)
    with pytest.raises((DamagedCheckpoint, UnsupportedCheckpoint)) as caught:
        convert_checkpoint(src, out, to="tf")
    assert ST in str(caught.value)
    assert not out.exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 440449768\n"
PAGES = (
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"<html>\n<head><title>502 Bad Gateway</title></head></html>",
    b"\n\n<!doctype html>\n<html lang='en'></html>",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
)


@pytest.mark.parametrize("name", [ST, BIN, H5])
@pytest.mark.parametrize(("content", "word"), [(LFS, "git lfs pull"), *((page, "page") for page in PAGES)])
def test_30_pointers_and_pages(tmp_path: Path, out: Path, name: str, content: bytes, word: str) -> None:
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / name).write_bytes(content)
    error = refusal(DamagedCheckpoint, src, out)
    assert word in str(error)
    assert name in str(error)


@pytest.mark.parametrize("container", ["safetensors", "bin", "legacy", "h5", "tf-safetensors"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_30_truncated(tmp_path: Path, out: Path, container: str, part: float) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(), container)
    path = next(path for path in src.iterdir() if path.name != "config.json")
    os.truncate(path, int(path.stat().st_size * part))
    assert path.name in str(refusal(DamagedCheckpoint, src, out))


@pytest.mark.parametrize("name", [ST, BIN, H5, "weights.ckpt"])
@pytest.mark.parametrize("container", ["safetensors", "bin", "legacy", "h5"])
def test_30_named_as_something_else(tmp_path: Path, out: Path, name: str, container: str) -> None:
    """The content decides: .safetensors in name only (hf#26729) is read as what it is."""
    state = cp.state_dict()
    src = cp.save(tmp_path / "in", BASE, state, container)
    next(path for path in src.iterdir() if path.name != "config.json").rename(src / name)
    to_pt(src, out, BASE, state)


@pytest.mark.parametrize("name", [ST, BIN])
def test_30_zip_of_a_folder(tmp_path: Path, out: Path, name: str) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(), "bin")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for path in src.iterdir():
            archive.write(path, f"checkpoint/{path.name}")
    (src / BIN).unlink()
    (tmp_path / "packed.zip").rename(src / name)
    refusal(DamagedCheckpoint, src, out)


def test_31_missing_shard(tmp_path: Path, out: Path) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(), "sharded")
    (src / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors" in str(refusal(MissingFiles, src, out))


def test_31_stale_shards_beside_a_new_file(tmp_path: Path, out: Path) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(seed=1), "sharded")
    state = cp.state_dict(seed=2)
    cp.save_weights(src, BASE, state, "safetensors")
    report = to_pt(src, out, BASE, state)
    assert said(report, "model-00001-of-00003.safetensors", "ignored")


def test_31_shards_of_two_saves(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    src = cp.save(tmp_path / "in", BASE, state, "sharded")
    cp.save_shards(src, dict(reversed(cp.bare(state).items())), shards=3)
    (src / "model.safetensors.index.json").rename(src / "kept")
    cp.save_shards(src, cp.bare(state), shards=3)
    (src / "kept").rename(src / "model.safetensors.index.json")
    refusal(DamagedCheckpoint, src, out)


@pytest.mark.parametrize(("to", "winner"), [("tf", ST), ("pt", H5)])
def test_31_containers_that_differ(tmp_path: Path, out: Path, to: str, winner: str) -> None:
    """The one that the direction implies is taken, and the report says which was not."""
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(seed=1), "safetensors")
    cp.save_weights(src, BASE, cp.state_dict(seed=2), "bin")
    cp.save_weights(src, BASE, cp.state_dict(seed=3), "h5")
    state = cp.state_dict(seed=1 if winner == ST else 3)
    report = convert_checkpoint(src, out, to=to, source_dialect="pt" if to == "tf" else "tf")
    assert_same(cp.written(out), cp.tf_state(state) if to == "tf" else cp.bare(state))
    assert said(report, f"{winner} is used", BIN)


def test_32_tensor_in_two_shards(tmp_path: Path, out: Path) -> None:
    state = cp.bare(cp.state_dict())
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(), "sharded")
    first = dict(list(state.items())[::3])
    again = {**first, "pooler.dense.bias": state["pooler.dense.bias"]}
    (src / "model-00001-of-00003.safetensors").write_bytes(cp.safetensors_bytes(again))
    error = str(refusal(DamagedCheckpoint, src, out))
    assert "pooler.dense.bias" in error
    assert "in two shards" in error


@pytest.mark.parametrize("change", ["absent", "unlisted", "moved"])
def test_32_index_that_does_not_fit(tmp_path: Path, out: Path, change: str) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(), "sharded")
    index = src / "model.safetensors.index.json"
    weight_map = json.loads(index.read_bytes())["weight_map"]
    if change == "absent":
        weight_map["pooler.other"] = "model-00001-of-00003.safetensors"
    elif change == "unlisted":
        del weight_map["pooler.dense.bias"]
    else:
        old = weight_map["pooler.dense.bias"]
        weight_map["pooler.dense.bias"] = next(shard for shard in weight_map.values() if shard != old)
    cp.write_index(src, weight_map)
    assert "pooler" in str(refusal(DamagedCheckpoint, src, out))


@pytest.mark.parametrize("container", ["sharded", "sharded-bin"])
def test_32_sharded(tmp_path: Path, out: Path, container: str) -> None:
    state = cp.state_dict(MLM)
    report = to_pt(cp.save(tmp_path / "in", MLM, state, container), out, MLM, state)
    assert len(report.source["files"]) == 3


@pytest.mark.parametrize("file", ["model.fp16.safetensors", "pytorch_model.fp16.bin"])
def test_32_variants(tmp_path: Path, out: Path, file: str) -> None:
    state = cp.state_dict(dtype="float16")
    src = give(tmp_path / "in", cp.state_dict())
    content = cp.safetensors_bytes(state) if file.endswith("safetensors") else cp.torch_bytes(cp.torch_tensors(state))
    (src / file).write_bytes(content)
    to_pt(src, out, BASE, state, variant="fp16")
    assert "fp16" in refusal(RequestError, src, tmp_path / "other", variant="int8").hint


def test_32_sharded_variant(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict(dtype="float16")
    src = cp.save(tmp_path / "in", BASE, state, "sharded")
    (src / "model.safetensors.index.json").rename(src / "model.safetensors.index.fp16.json")
    to_pt(src, out, BASE, state, variant="fp16")


def test_32_subfolder(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    give(tmp_path / "in" / "deep" / "er", state)
    to_pt(tmp_path / "in", out, BASE, state, subfolder="deep/er")
    refusal(RequestError, tmp_path / "in", tmp_path / "other", subfolder="../in")


def test_32_file_named_by_the_config(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict(seed=4)
    src = give(tmp_path / "in", cp.state_dict(), transformers_weights="adapted.safetensors")
    (src / "adapted.safetensors").write_bytes(cp.safetensors_bytes(state))
    report = to_pt(src, out, BASE, state)
    assert said(report, "adapted.safetensors", "transformers_weights")


@pytest.mark.parametrize("named", ["../in/model.safetensors", "/etc/passwd", "a\\b.safetensors"])
def test_32_file_outside_named_by_the_config(tmp_path: Path, out: Path, named: str) -> None:
    refusal(UnsafeCheckpoint, give(tmp_path / "in", cp.state_dict(), transformers_weights=named), out)


def test_33_big_endian_torch(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.serialization, "sys", SimpleNamespace(byteorder="big"))
    src = cp.write_config(tmp_path / "in", cp.config())
    (src / BIN).write_bytes(cp.torch_bytes(cp.torch_tensors(cp.state_dict())))
    assert "big-endian" in str(refusal(UnsupportedCheckpoint, src, out))


def test_33_big_endian_keras(tmp_path: Path, out: Path) -> None:
    state = {name: value.astype(">f4") for name, value in cp.tf_state(cp.state_dict()).items()}
    src = give_h5(tmp_path / "in", state, Keras())
    assert "little-endian" in str(refusal(UnsupportedCheckpoint, src, out))


@pytest.mark.parametrize("shard", ["..\\x.safetensors", "C:x.safetensors", "../x.safetensors", "/x.safetensors"])
def test_33_paths_in_an_index(tmp_path: Path, out: Path, shard: str) -> None:
    src = cp.write_config(tmp_path / "in", cp.config())
    cp.write_index(src, {"embeddings.word_embeddings.weight": shard})
    (tmp_path / "x.safetensors").write_bytes(cp.safetensors_bytes(cp.state_dict()))
    refusal(UnsafeCheckpoint, src, out)


def hub_cache(root: Path, files: dict[str, bytes]) -> Path:
    """A snapshot whose files are links to blobs, as huggingface_hub keeps them."""
    snapshot, blobs = root / "models--a--b" / "snapshots" / ("c" * 40), root / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name, content in files.items():
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_33_linked_hub_cache(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    files = {ST: cp.safetensors_bytes(state), "config.json": json.dumps(cp.config()).encode(), "vocab.txt": b"a\nb\n"}
    src = hub_cache(tmp_path / "cache", files)
    before = cp.snapshot(tmp_path / "cache")
    to_pt(src, out, BASE, state)
    assert cp.snapshot(tmp_path / "cache") == before
    assert not any(path.is_symlink() for path in out.iterdir())


@pytest.mark.parametrize("name", [ST, "config.json", "vocab.txt"])
def test_33_damaged_hub_cache(tmp_path: Path, out: Path, name: str) -> None:
    """The path of a commit in the cache is as good as the Hub id: a blob has to be what its name says."""
    state = cp.state_dict()
    files = {ST: cp.safetensors_bytes(state), "config.json": json.dumps(cp.config()).encode(), "vocab.txt": b"a\nb\n"}
    src = hub_cache(tmp_path / "cache", files)
    raw = bytearray((src / name).read_bytes())
    raw[-1] ^= 1
    (src / name).resolve().write_bytes(raw)
    error = refusal(HubError, src, out)
    assert error.file == str(src / name)
    assert "is not the file that the Hub has" in error.message


def test_33_hub_cache_without_digests(tmp_path: Path, out: Path) -> None:
    """A mirror may name blobs otherwise; there is nothing to hold them to then."""
    state = cp.state_dict()
    src = hub_cache(
        tmp_path / "cache", {ST: cp.safetensors_bytes(state), "config.json": json.dumps(cp.config()).encode()}
    )
    for number, link in enumerate(sorted(src.iterdir())):
        blob = link.resolve()
        link.unlink()
        link.symlink_to(os.path.relpath(blob.rename(blob.with_name(f"etag-{number}")), src))
    to_pt(src, out, BASE, state)


@pytest.mark.parametrize("name", [ST, "config.json"])
def test_33_other_links(tmp_path: Path, out: Path, name: str) -> None:
    src = give(tmp_path / "in", cp.state_dict())
    (src / name).rename(tmp_path / "elsewhere")
    (src / name).symlink_to(tmp_path / "elsewhere")
    assert name in str(refusal(UnsafeCheckpoint, src, out))


def command(src: Path, out: Path, before: str) -> Outcome:
    return cp.run("convert", src, out, "--to", "tf", "--json", before=before)


def assert_refused(done: Outcome, folder: Path, before: dict[str, bytes | None]) -> str:
    """Exit code 7 with an error in JSON, and nothing changed; the message."""
    assert done.code == OutputError.exit_code, done
    error = json.loads(done.out)["error"]
    assert error["kind"] == "OutputError"
    assert cp.snapshot(folder) == before
    return str(error["message"])


@pytest.mark.parametrize("limit", [0, 1, 1000, 20_000])
def test_33_no_space(tmp_path: Path, limit: int) -> None:
    give(tmp_path / "in", cp.state_dict())
    before = cp.snapshot(tmp_path)
    setup = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    assert_refused(command(tmp_path / "in", tmp_path / "new" / "out", setup), tmp_path, before)


def test_33_no_space_over_an_old_output(tmp_path: Path, out: Path) -> None:
    convert_checkpoint(give(tmp_path / "in", cp.state_dict()), out, to="tf")
    before = cp.snapshot(tmp_path)
    setup = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))"
    done = cp.run("convert", tmp_path / "in", out, "--to", "tf", "--overwrite", "--json", before=setup)
    assert_refused(done, tmp_path, before)


def test_33_disk_that_says_it_is_full(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = give(tmp_path / "in", cp.state_dict())
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "1,000" in str(refusal(OutputError, src, out))


def test_33_destination_that_cannot_be_written(tmp_path: Path) -> None:
    give(tmp_path / "in", cp.state_dict())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    before = cp.snapshot(tmp_path)
    done = command(tmp_path / "in", closed / "deep" / "out", cp.UNPRIVILEGED)
    assert "Permission denied" in assert_refused(done, tmp_path, before)


def test_33_destination_below_a_file(tmp_path: Path) -> None:
    src = give(tmp_path / "in", cp.state_dict())
    (tmp_path / "file").write_text("mine")
    refusal(OutputError, src, tmp_path / "file" / "out")


def test_33_source_that_cannot_be_written(tmp_path: Path, out: Path) -> None:
    state = cp.state_dict()
    src = give(tmp_path / "in", state)
    for path in (*src.iterdir(), src):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = cp.snapshot(src)
    assert command(src, out, cp.UNPRIVILEGED).code == 0
    src.chmod(0o755)
    assert cp.snapshot(src) == before
    assert_same(cp.written(out), cp.tf_state(state))


def test_33_source_that_cannot_be_read(tmp_path: Path, out: Path) -> None:
    src = give(tmp_path / "in", cp.state_dict())
    (src / ST).chmod(0o000)
    done = command(src, out, cp.UNPRIVILEGED)
    assert done.code == DamagedCheckpoint.exit_code
    assert "Permission denied" in json.loads(done.out)["error"]["message"]


@pytest.mark.parametrize(
    "style", [Keras(optimizer=True), Keras(whole_model=True), Keras(whole_model=True, text="vlen")]
)
def test_34_optimizer_state_in_keras_files(tmp_path: Path, out: Path, style: Keras) -> None:
    state = cp.state_dict()
    report = to_pt(give_h5(tmp_path / "in", cp.tf_state(state), style), out, BASE, state)
    assert ("optimizer_weights", "ignored") in {(one.source, one.state) for one in report.left_out}


TRAINER = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin")


@pytest.mark.parametrize("container", ["safetensors", "bin"])
def test_34_trainer_folder(tmp_path: Path, out: Path, container: str) -> None:
    state = cp.state_dict()
    src = cp.save(tmp_path / "in", BASE, state, container)
    cp.save(src / "checkpoint-500", BASE, cp.state_dict(seed=5), container)
    for name in TRAINER:
        (src / name).write_bytes(cp.torch_bytes({"state": {}}))
    report = to_pt(src, out, BASE, state)
    assert set(TRAINER) <= set(report.not_carried)
    assert not set(TRAINER) & {path.name for path in out.iterdir()}


def test_34_trainer_folder_without_weights(tmp_path: Path, out: Path) -> None:
    for step in (500, 1000):
        cp.save(tmp_path / "in" / f"checkpoint-{step}", BASE, cp.state_dict())
    assert "checkpoint-1000" in refusal(MissingFiles, tmp_path / "in", out).hint


# There and back


@pytest.mark.slow
@pytest.mark.parametrize("head", cp.HEADS)
@pytest.mark.parametrize(("dtype", "between"), [*((dtype, "tf") for dtype in cp.FLOATS), ("mixed", "tf-safetensors")])
def test_38_pytorch_there_and_back(tmp_path: Path, out: Path, head: str, dtype: str, between: str) -> None:
    state = cp.state_dict(head, dtype)
    src = cp.save(tmp_path / "in", head, state)
    there = convert_checkpoint(src, tmp_path / "there", to=between, source_dialect="pt")
    back = convert_checkpoint(tmp_path / "there", out, to="pt", source_dialect="tf")
    assert (there.head, back.head) == (head, head)
    assert there.digest == back.digest
    assert_same(cp.written(tmp_path / "there"), cp.tf_state(state))
    assert_same(cp.written(out), cp.native(head, state))


@pytest.mark.parametrize("head", cp.HEADS)
def test_38_tensorflow_there_and_back(tmp_path: Path, out: Path, head: str) -> None:
    state = cp.state_dict(head)
    src = cp.save(tmp_path / "in", head, state, "h5")
    convert_checkpoint(src, tmp_path / "there", to="pt", source_dialect="tf")
    convert_checkpoint(tmp_path / "there", out, to="tf", source_dialect="pt")
    assert_same(cp.written(out), cp.tf_state(state))


def test_38_inspect_says_the_same_of_every_format(tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    sizes = []
    for container in ("safetensors", "bin", "legacy", "sharded", "h5", "tf-safetensors"):
        found = inspect_checkpoint(cp.save(tmp_path / container, MLM, state, container))
        assert MLM in {found.head, *found.equals}
        assert found.notes == () or container == "legacy"
        sizes.append(found.sizes)
    assert all(each == sizes[0] for each in sizes)
    assert sizes[0]["vocab_size"] == cp.SIZES["vocab_size"]


def test_helpers_make_numbers_that_show_a_mistake() -> None:
    """No matrix equals its transpose, no number is zero or not finite, whatever the type."""
    for dtype in (*cp.FLOATS, "mixed"):
        for name, value in cp.state_dict("BertForPreTraining", dtype).items():
            numbers = value.astype(np.float64)
            assert np.isfinite(numbers).all()
            assert numbers.any()
            assert value.ndim < 2 or value.shape[0] != value.shape[1] or not np.array_equal(numbers, numbers.T), name
    assert cp.state_dict(dtype="bfloat16")[cp.WORD].dtype == ml_dtypes.bfloat16
