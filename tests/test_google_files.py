"""TensorFlow 1 checkpoints of Google's models from end to end: every class there and back, paths, averages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest

from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint, RequestError, UnsupportedCheckpoint
from bertconv.inspection import inspect_checkpoint
from bertconv.mapping.dialects import load_dialects
from bertconv.verification import verify_checkpoint

GOOGLE = load_dialects().by_name["google"]
HEADS = [
    head for head in cp.EVERY_HEAD
    if cp.table_of(head).speaks(GOOGLE) and head in cp.table_of(head).in_dialect(GOOGLE).heads
]  # fmt: skip
PRETRAINING = "BertForPreTraining"
PREFIX = "bert_model.ckpt"
GELU = {"hidden_act": "gelu_new"}
"""What Google's BERT and ALBERT compute; of ELECTRA it is the other form."""


def activation(head: str) -> dict[str, str]:
    return {} if head.startswith("Electra") else GELU


def google_folder(folder: Path, head: str = PRETRAINING) -> Path:
    """A checkpoint as Google published them: no config.json, and nothing of ours beside it."""
    source = cp.save(folder.with_name(f"{folder.name}-pt"), head, cp.state_dict(head), **activation(head))
    convert_checkpoint(source, folder, to="tf1")
    for name in ("config.json", "bertconv.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("head", HEADS)
def test_every_class_there_and_back(head: str, tmp_path: Path) -> None:
    """Bit for bit in every element type, with one digest; ALBERT in two groups of layers."""
    state = cp.state_dict(head, "mixed")
    source = cp.save(tmp_path / "in", head, state, **activation(head))
    there = convert_checkpoint(source, tmp_path / "tf1", to="tf1")
    back = convert_checkpoint(tmp_path / "tf1", tmp_path / "back", to="pt")
    cp.assert_same(cp.written(tmp_path / "back"), cp.native(head, state))
    assert (there.head, back.head) == (head, head)
    assert there.digest == back.digest
    assert verify_checkpoint(source, tmp_path / "tf1", level="weights").ok


@pytest.mark.parametrize("given", ["", PREFIX, f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001"])
def test_a_folder_from_2018_becomes_pytorchs_and_tensorflows(given: str, tmp_path: Path) -> None:
    folder = google_folder(tmp_path / "google")
    path = folder / given if given else folder
    to_pt = convert_checkpoint(os.fspath(path), tmp_path / "pt", to="pt")
    to_tf = convert_checkpoint(os.fspath(path), tmp_path / "tf", to="tf")
    state = cp.state_dict(PRETRAINING)
    cp.assert_same(cp.written(tmp_path / "pt"), state)
    cp.assert_same(cp.written(tmp_path / "tf"), cp.tf_state(state))
    assert to_pt.digest == to_tf.digest
    assert json.loads((tmp_path / "pt" / "config.json").read_text())["model_type"] == "bert"
    found = inspect_checkpoint(path)
    assert (found.dialect, found.head, found.family) == ("google", PRETRAINING, "bert")


@pytest.mark.parametrize("head", ["AlbertForPreTraining", "ElectraForPreTraining", "ElectraForMaskedLM"])
def test_the_family_is_that_of_the_names(head: str, tmp_path: Path) -> None:
    """With the config file that Google wrote for it, and for ELECTRA, which has 64 numbers to a head, with none."""
    folder = google_folder(tmp_path / "google", head)
    report = convert_checkpoint(folder, tmp_path / "pt", to="pt")
    assert report.head == head
    cp.assert_same(cp.written(tmp_path / "pt"), cp.native(head, cp.state_dict(head)))


def test_several_checkpoints_in_a_folder(tmp_path: Path) -> None:
    folder = google_folder(tmp_path / "google")
    for step in (9, 100):
        for part in list(folder.glob(f"{PREFIX}.*")):
            name = part.name.replace(PREFIX, f"model.ckpt-{step}")
            (folder / name).write_bytes(part.read_bytes())
    for part in folder.glob(f"{PREFIX}.*"):
        part.unlink()
    (folder / "checkpoint").unlink()
    report = convert_checkpoint(folder, tmp_path / "a", to="pt", dry_run=True)
    assert report.source["files"] == ["model.ckpt-100.data-00000-of-00001"]
    assert any("model.ckpt-100 is used" in note and "model.ckpt-9" in note for note in report.notes)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/run/model.ckpt-9"\n')
    report = convert_checkpoint(folder, tmp_path / "b", to="pt", dry_run=True)
    assert report.source["files"] == ["model.ckpt-9.data-00000-of-00001"]
    report = convert_checkpoint(os.fspath(folder / "model.ckpt-100"), tmp_path / "c", to="pt", dry_run=True)
    assert report.source["files"] == ["model.ckpt-100.data-00000-of-00001"]


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    folder = google_folder(tmp_path / "google")
    index, data = folder / f"{PREFIX}.index", folder / f"{PREFIX}.data-00000-of-00001"
    data.rename(folder / f"{PREFIX}.data-00000-of-00002")
    with pytest.raises(DamagedCheckpoint, match="not there"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")
    (folder / f"{PREFIX}.data-00000-of-00002").rename(data)
    index.unlink()
    with pytest.raises(DamagedCheckpoint, match=r"bert_model.ckpt.index, which says"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")


def test_tensorflow_reads_what_is_written_and_its_training_is_left_out(tmp_path: Path) -> None:
    """A file that TensorFlow wrote with an optimizer, a step and averages; `ema` takes the averages."""
    tf = pytest.importorskip("tensorflow")
    folder = google_folder(tmp_path / "google")
    reader = tf.train.load_checkpoint(os.fspath(folder / PREFIX))
    stored = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    slots = {f"{name}/adam_m": value * 0 for name, value in stored.items()}
    averages = {f"{name}/ExponentialMovingAverage": value / 2 for name, value in stored.items()}
    every = {**stored, **slots, **averages, "global_step": np.int64(5)}
    (tmp_path / "run").mkdir()
    tf.raw_ops.SaveV2(
        prefix=os.fspath(tmp_path / "run" / "model.ckpt-5"), tensor_names=list(every),
        shape_and_slices=[""] * len(every), tensors=[tf.constant(value) for value in every.values()],
    )  # fmt: skip
    (tmp_path / "run" / "bert_config.json").write_bytes((folder / "bert_config.json").read_bytes())
    state = cp.state_dict(PRETRAINING)
    plain = convert_checkpoint(tmp_path / "run", tmp_path / "plain", to="pt")
    cp.assert_same(cp.written(tmp_path / "plain"), state)
    assert {one.state for one in plain.left_out} == {"ignored"}
    assert any("--ema" in note for note in plain.notes)
    mean = convert_checkpoint(tmp_path / "run", tmp_path / "mean", to="pt", ema=True)
    cp.assert_same(cp.written(tmp_path / "mean"), {name: value / 2 for name, value in state.items()})
    assert mean.operation.options["ema"] is True
    with pytest.raises(RequestError, match="no averaged weights"):
        convert_checkpoint(folder, tmp_path / "none", to="pt", ema=True)


def test_a_class_that_google_has_not_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    head = "BertForMultipleChoice"
    source = cp.save(tmp_path / "in", head, cp.state_dict(head), **GELU)
    with pytest.raises(UnsupportedCheckpoint, match="no such class"):
        convert_checkpoint(source, tmp_path / "out", to="tf1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["", PREFIX])
def test_tensorflows_class_loads_it(given: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from bertconv import TFBertModel

    folder = google_folder(tmp_path / "google")
    with pytest.warns(UserWarning, match="tanh form of gelu"):
        model = TFBertModel.from_pretrained(os.fspath(folder / given if given else folder))
    words = cp.state_dict(PRETRAINING)["bert.embeddings.word_embeddings.weight"]
    held = {one.path: one for one in model.weights}
    (table,) = [one for path, one in held.items() if "word_embeddings" in path]
    np.testing.assert_array_equal(np.asarray(table), words)
