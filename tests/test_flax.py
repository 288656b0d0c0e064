"""Flax checkpoints from end to end: read, written, back, in shards and in safetensors, and what they have not."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import checkpoints as cp
import msgpack
import numpy as np
import pytest
from flax_files import FILE, INDEX, flax_bytes, flax_state, prepared, read_flax, save_flax, tree_of

from bertconv.containers.chunks import PiecedTensor
from bertconv.containers.msgpack import writer
from bertconv.containers.registry import read_header
from bertconv.containers.stored import SourceFile
from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint, MissingTensors, TiedTensorsDiffer, UnsupportedCheckpoint
from bertconv.inspection import inspect_checkpoint
from bertconv.mapping.dialects import load_dialects
from bertconv.source import open_source
from bertconv.verification import check_checkpoint, verify_checkpoint

FLAX = load_dialects().by_name["flax"]
HEADS = [
    head
    for head in cp.EVERY_HEAD
    if cp.table_of(head).speaks(FLAX) and (head in cp.APART or head.endswith("ForMaskedLM"))
]
"""Every class of a table, and one of each family that shares another's."""
MLM, DECODER = "BertForMaskedLM", "cls.predictions.decoder.weight"


def in_shards(folder: Path) -> cp.Tensors:
    """What shards hold, each as its index says, by names with slashes."""
    weight_map = json.loads((folder / INDEX).read_bytes())["weight_map"]
    found: cp.Tensors = {}
    for name in sorted(set(weight_map.values())):
        held = read_flax((folder / name).read_bytes())
        assert {key for key, shard in weight_map.items() if shard == name} == set(held)
        found |= held
    return found


@pytest.mark.parametrize("head", HEADS)
def test_every_class_there_and_back(head: str, tmp_path: Path) -> None:
    """The file is what Flax writes of the same tree, in every element type; whole, in shards and in safetensors."""
    state = cp.state_dict(head, "mixed")
    expected = flax_state(cp.native(head, state))
    source = cp.save(tmp_path / "in", head, state)
    there = convert_checkpoint(source, tmp_path / "flax", to="flax")
    assert (tmp_path / "flax" / FILE).read_bytes() == flax_bytes(expected)
    split = convert_checkpoint(tmp_path / "flax", tmp_path / "split", to="flax", max_shard_size=5000)
    cp.assert_same(in_shards(tmp_path / "split"), expected)
    safe = convert_checkpoint(tmp_path / "split", tmp_path / "safe", to="flax-safetensors")
    held, metadata = cp.read_safetensors(tmp_path / "safe" / "model.safetensors")
    cp.assert_same(held, {name.replace("/", "."): value for name, value in expected.items()})
    assert metadata == {"format": "flax"}
    back = convert_checkpoint(tmp_path / "safe", tmp_path / "back", to="pt")
    cp.assert_same(cp.written(tmp_path / "back"), cp.native(head, state))
    assert there.digest == split.digest == safe.digest == back.digest
    assert {report.head for report in (there, split, safe, back)} == {head}


@pytest.mark.parametrize("shards", [1, 3])
def test_a_file_of_flax_becomes_tensorflow_s(shards: int, tmp_path: Path) -> None:
    state = cp.state_dict("BertForPreTraining")
    folder = save_flax(tmp_path / "in", "BertForPreTraining", state, shards)
    convert_checkpoint(folder, tmp_path / "out", to="tf")
    cp.assert_same(cp.written(tmp_path / "out"), cp.tf_state(state))
    assert verify_checkpoint(folder, tmp_path / "out", level="weights").ok
    found = inspect_checkpoint(folder)
    assert (found.container, found.dialect, found.head) == ("msgpack", "flax", "BertForPreTraining")


def test_arrays_in_pieces_are_written_checked_and_read(tmp_path: Path) -> None:
    """As Flax writes arrays of more than a gigabyte, at a small limit; cut within rows, and turned on the way."""
    state = cp.state_dict(MLM)
    source = cp.save(tmp_path / "in", MLM, state)
    with mock.patch.object(writer, "CHUNK", 1000):
        for number, options in enumerate(({}, {"dtype": "bfloat16"}, {"verify": "none"})):
            convert_checkpoint(source, tmp_path / f"out{number}", to="flax", **options)
        again = convert_checkpoint(tmp_path / "out0", tmp_path / "again", to="flax")
    data = (tmp_path / "out0" / FILE).read_bytes()
    assert data == flax_bytes(flax_state(state), 1000) == (tmp_path / "again" / FILE).read_bytes()
    assert data == (tmp_path / "out2" / FILE).read_bytes()
    assert any(isinstance(one, PiecedTensor) for one in read_header(SourceFile(tmp_path / "out0" / FILE)).tensors)
    assert check_checkpoint(tmp_path / "out0").ok
    back = convert_checkpoint(tmp_path / "out0", tmp_path / "back", to="pt")
    cp.assert_same(cp.written(tmp_path / "back"), state)
    assert again.digest == back.digest
    turned = {name: value.astype(cp.numpy_type("bfloat16")) for name, value in state.items()}
    cp.assert_same(read_flax((tmp_path / "out1" / FILE).read_bytes()), flax_state(turned))


@pytest.mark.parametrize("changed", ["a tensor", "the frame"])
def test_a_written_file_that_changed_is_seen(changed: str, tmp_path: Path) -> None:
    with mock.patch.object(writer, "CHUNK", 1000):
        convert_checkpoint(cp.save(tmp_path / "in", MLM, cp.state_dict(MLM)), tmp_path / "out", to="flax")
    path = tmp_path / "out" / FILE
    data = bytearray(path.read_bytes())
    place = read_header(SourceFile(path)).tensors[0].offset if changed == "a tensor" else data.index(b"query") + 2
    data[place] ^= 1
    path.write_bytes(data)
    assert not check_checkpoint(tmp_path / "out").ok


def test_a_state_of_training_gives_the_model(tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    folder = cp.write_config(tmp_path / "in", cp.config(MLM))
    tree = prepared(tree_of(flax_state(state)))
    moments = {"0": {"count": 5, "mu": tree, "nu": tree}}
    (folder / FILE).write_bytes(msgpack.packb({"step": 5, "params": tree, "opt_state": moments}))
    report = convert_checkpoint(folder, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), state)
    assert "beside params, left out: opt_state, step" in report.notes


def test_an_untied_decoder_stays_one(tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    state[DECODER] = cp.random_array(state["bert.embeddings.word_embeddings.weight"].shape, "float32", 77)
    both = state | {"cls.predictions.decoder.bias": state["cls.predictions.bias"]}
    source = cp.save(tmp_path / "in", MLM, both, tie_word_embeddings=False)
    convert_checkpoint(source, tmp_path / "out", to="flax")
    cp.assert_same(read_flax((tmp_path / "out" / FILE).read_bytes()), flax_state(state))
    convert_checkpoint(tmp_path / "out", tmp_path / "back", to="pt")
    cp.assert_same(cp.written(tmp_path / "back"), both)


def test_two_biases_of_a_decoder_that_differ_are_not_made_one(tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    other = {
        DECODER: state["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": state["cls.predictions.bias"] + 1,
    }
    source = cp.save(tmp_path / "in", MLM, state | other, tie_word_embeddings=False)
    with pytest.raises(TiedTensorsDiffer):
        convert_checkpoint(source, tmp_path / "out", to="flax")


def test_relative_positions_have_no_place_in_flax(tmp_path: Path) -> None:
    changes = {"position_embedding_type": "relative_key"}
    source = cp.save(tmp_path / "in", MLM, cp.state_dict(MLM, **changes), **changes)
    with pytest.raises(UnsupportedCheckpoint, match="distance_embedding"):
        convert_checkpoint(source, tmp_path / "out", to="flax")


def test_a_family_without_flax_classes_is_refused(tmp_path: Path) -> None:
    source = cp.save(tmp_path / "in", "MPNetModel", cp.state_dict("MPNetModel"))
    with pytest.raises(UnsupportedCheckpoint, match="Flax"):
        convert_checkpoint(source, tmp_path / "out", to="flax")


def test_an_array_that_lacks_is_named_as_flax_names_it(tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    del state["bert.encoder.layer.1.output.dense.weight"]
    folder = save_flax(tmp_path / "in", MLM, state)
    with pytest.raises(MissingTensors, match=r"bert\.encoder\.layer\.1\.output\.dense\.kernel"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")


@pytest.mark.parametrize("spelled", ["a.b", "bert/pooler/dense/kernels"])
def test_an_index_that_names_what_its_shards_lack_is_refused(spelled: str, tmp_path: Path) -> None:
    folder = save_flax(tmp_path / "in", MLM, cp.state_dict(MLM), shards=2)
    index = json.loads((folder / INDEX).read_bytes())
    index["weight_map"][spelled] = next(iter(index["weight_map"].values()))
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(DamagedCheckpoint, match="names tensors that its shards lack"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = save_flax(tmp_path / "in", MLM, cp.state_dict(MLM), shards=2)
    first, second = sorted(folder.glob("flax_model-*"))
    held = read_flax(first.read_bytes())
    second.write_bytes(flax_bytes(read_flax(second.read_bytes()) | dict([next(iter(held.items()))])))
    with pytest.raises(DamagedCheckpoint, match="in two shards"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")


@pytest.mark.parametrize(("other", "container"), [("model.safetensors", "safetensors"), ("pytorch_model.bin", "bin"),
                                                  ("tf_model.h5", "h5")])  # fmt: skip
def test_flax_is_taken_where_nothing_else_is_there(other: str, container: str, tmp_path: Path) -> None:
    state = cp.state_dict(MLM)
    folder = save_flax(tmp_path / "in", MLM, state)
    assert open_source(folder).weights.files == (FILE,)
    cp.save_weights(folder, MLM, state, container)
    source = open_source(folder)
    assert source.weights.files == (other,)
    assert any(FILE in note for note in source.notes)


def test_names_of_flax_in_a_pytorch_file_s_place_are_still_flax_s(tmp_path: Path) -> None:
    """Names decide, never the file: some tool saved a Flax tree with safetensors, without metadata."""
    state = cp.state_dict(MLM)
    folder = cp.write_config(tmp_path / "in", cp.config(MLM))
    named = {name.replace("/", "."): value for name, value in flax_state(state).items()}
    (folder / "model.safetensors").write_bytes(cp.safetensors_bytes(named))
    assert inspect_checkpoint(folder).dialect == "flax"
    convert_checkpoint(folder, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), state)


def test_a_square_kernel_is_turned(tmp_path: Path) -> None:
    """Of a square matrix no shape tells which way it lies."""
    state = cp.state_dict(MLM)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert state[name].shape[0] == state[name].shape[1]
    convert_checkpoint(cp.save(tmp_path / "in", MLM, state), tmp_path / "out", to="flax")
    held = read_flax((tmp_path / "out" / FILE).read_bytes())
    np.testing.assert_array_equal(held["bert/encoder/layer/0/attention/self/query/kernel"], state[name].T)
