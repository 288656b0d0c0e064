"""The container of Keras 3 by itself: what is read of a file as Keras writes it, and what h5py reads of ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import checkpoints as cp
import h5py
import keras3_files as k3
import ml_dtypes
import numpy as np
import pytest

from bertconv.containers.container import Entry, FileOptions, PlannedFile
from bertconv.containers.keras3 import Keras3
from bertconv.containers.registry import read_header
from bertconv.containers.stored import Header, SourceFile
from bertconv.errors import RequestError
from bertconv.formats.frame import create
from bertconv.source import open_source
from bertconv.source.reading import open_header

KERAS3 = Keras3()
TENSORS = cp.tf_state(cp.prefixed(cp.bare(cp.state_dict("BertModel", num_hidden_layers=2)), "bert."))
BODY = [
    Entry("layers/dense/vars/0", "float32", (5, 7)),
    Entry("layers/dense/vars/1", "bfloat16", (7,)),
    Entry("layers/norm/vars/0", "bfloat16", (3,)),
    Entry("layers/list/item_1/vars/0", "float16", (2, 3)),
]
HEAD = [Entry("task/layers/dense/vars/0", "float32", (7, 11)), Entry("task/layers/dense/vars/1", "float32", (11,))]


def header(path: Path, content: bytes) -> Header:
    path.write_bytes(content)
    return read_header(SourceFile(path))


def elements(found: Header) -> dict[str, bytes]:
    return {one.name: one.file.read(one.offset, one.nbytes) for one in found.tensors}


def save(folder: Path, entries: Sequence[Entry], limit: int = 1 << 30) -> dict[str, bytes]:
    """Write entries as an output is; the bytes of each by its name."""
    folder.mkdir()
    given = {one.name: bytes((7 * at + n) % 256 for n in range(one.nbytes)) for at, one in enumerate(entries)}
    files = []
    for name, numbers in KERAS3.divide(entries, limit):
        own = [entries[number] for number in numbers]
        layout = KERAS3.lay_out(own, FileOptions())
        create(folder / name, layout)
        with (folder / name).open("r+b") as file:
            for entry, offset in zip(own, layout.offsets, strict=True):
                file.seek(offset)
                file.write(given[entry.name])
        files.append(PlannedFile(name, own, layout))
    if index := KERAS3.index(lambda name: SourceFile(folder / name), files, ""):
        (folder / index[0]).write_bytes(index[1])
    return given


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_file_as_keras_writes_it(tmp_path: Path, libver: str, bfloat16: bool) -> None:
    """By our own reader, and by libhdf5 in its child where the file is of a later kind: the same."""
    found = header(tmp_path / "a", k3.weights(TENSORS, bfloat16=bfloat16, libver=libver))
    dtype = ml_dtypes.bfloat16 if bfloat16 else np.float32
    assert found.container == KERAS3.name
    assert elements(found) == {k3.path_of(name): value.astype(dtype).tobytes() for name, value in TENSORS.items()}
    assert {one.dtype for one in found.tensors} == {np.dtype(dtype).name}
    assert {one.recorded.rpartition("/vars/")[0] for one in found.tensors} == {
        f"tf_bert_model/{name.rpartition('/')[0]}" for name in TENSORS
    }


def test_state_is_no_weight(tmp_path: Path) -> None:
    def more(root: h5py.File) -> None:
        root["optimizer/vars/0"] = np.int64(3)
        root["optimizer/vars/1"] = np.zeros((3, 5), np.float32)
        root["bert_/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        root["bert_/dropout_1/seed_generator_state"] = np.zeros(2, np.uint32)

    found = header(tmp_path / "a", k3.weights(TENSORS, more))
    assert len(found.tensors) == len(TENSORS)
    assert sorted(found.others) == [
        "bert_/dropout/seed_generator/vars/0", "bert_/dropout_1/seed_generator_state", "optimizer/vars/0",
        "optimizer/vars/1",
    ]  # fmt: skip


def test_a_layer_without_a_name_hides_those_within(tmp_path: Path) -> None:
    def nameless(root: h5py.File) -> None:
        del root["bert_/encoder_/vars"].attrs["name"]

    found = header(tmp_path / "a", k3.weights(TENSORS, nameless))
    assert all(bool(one.recorded) != one.name.startswith("bert_/encoder_/") for one in found.tensors)


def test_an_archive_is_read_where_it_lies(tmp_path: Path) -> None:
    content = k3.weights(TENSORS)
    plain, found = header(tmp_path / "a", content), header(tmp_path / "b.keras", k3.archive(content))
    assert elements(found) == elements(plain)
    assert found.metadata == {"keras_version": "3.15.1"}
    assert {one.file for one in found.tensors} == set(found.files)
    assert len(found.files) == 1


def test_the_config_in_an_archive(tmp_path: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 35, "keras": {"name": "x"}}
    said = {"class_name": "TFBertModel", "config": config}
    (tmp_path / "a.keras").write_bytes(k3.archive(k3.weights(TENSORS), said))
    source = open_source(tmp_path / "a.keras")
    assert source.config_keys() == {"model_type": "bert", "hidden_size": 35, "architectures": ["BertModel"]}
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 7}')
    assert open_source(tmp_path / "a.keras").config_keys() == {"model_type": "bert", "hidden_size": 7}


@pytest.mark.parametrize(
    "said", [{}, {"config": 3}, {"config": {"layers": []}}, {"class_name": 3, "config": {"model_type": 3}}]
)
def test_an_archive_of_another_model_has_no_config(tmp_path: Path, said: dict[str, object]) -> None:
    (tmp_path / "a.keras").write_bytes(k3.archive(k3.weights(TENSORS), said))
    assert open_source(tmp_path / "a.keras").config_keys() is None


def test_what_is_written_is_what_h5py_reads(tmp_path: Path) -> None:
    given = save(tmp_path / "out", BODY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.weights.h5"]
    with h5py.File(tmp_path / "out" / "model.weights.h5") as root:
        for entry in BODY:
            found = root[entry.name]
            assert (found.shape, found[()].tobytes()) == (entry.shape, given[entry.name])
            opaque = entry.dtype == "bfloat16"
            assert found.dtype == ("V2" if opaque else entry.dtype)
            assert dict(found.attrs) == ({"dtype": "bfloat16"} if opaque else {})
        assert root["layers/list/item_1/vars"].attrs["name"] == b"item_1"
    assert elements(open_header(open_source(tmp_path / "out" / "model.weights.h5"))) == given


def test_what_is_written_can_be_changed_by_h5py(tmp_path: Path) -> None:
    """The heap of texts is one that libhdf5 can go on with."""
    save(tmp_path / "out", BODY)
    path = tmp_path / "out" / "model.weights.h5"
    with h5py.File(path, "r+") as root:
        del root["layers/dense/vars/1"].attrs["dtype"]
        root["layers/norm/vars/0"].attrs["more"] = "of any length"
        root["layers/norm/vars"].attrs["name"] = "other"
        root["layers/dense/vars/1"].attrs["dtype"] = "bfloat16"
    found = read_header(SourceFile(path))
    assert {one.name: one.dtype for one in found.tensors} == {one.name: one.dtype for one in BODY}
    with h5py.File(path) as root:
        assert root["layers/norm/vars/0"].attrs["dtype"] == "bfloat16"


@pytest.mark.parametrize("limit", [1, 60, 150])
def test_parts_and_shards(tmp_path: Path, limit: int) -> None:
    entries = BODY + HEAD
    folder = tmp_path / "out"
    given = save(folder, entries, limit)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"task.weights.h5", "model.weights.json", "model_00000.weights.h5"}
    assert all(map(KERAS3.is_output, names))
    index = json.loads((folder / "model.weights.json").read_bytes())
    assert index["metadata"]["total_size"] == sum(entry.nbytes for entry in BODY)
    assert set(index["weight_map"]) == {f"/{entry.name.rpartition('/')[0]}" for entry in BODY}
    with h5py.File(folder / "task.weights.h5") as root:
        assert root["layers/dense/vars/0"][()].tobytes() == given["task/layers/dense/vars/0"]
    source = open_source(folder)
    assert source.weights.index == "model.weights.json"
    assert set(source.weights.files) == names - {"model.weights.json"}
    assert elements(open_header(source)) == given


def test_a_head_beside_its_body(tmp_path: Path) -> None:
    given = save(tmp_path / "out", BODY + HEAD)
    source = open_source(tmp_path / "out")
    assert source.weights.files == ("model.weights.h5", "task.weights.h5")
    assert elements(open_header(source)) == given


def test_names_that_cannot_be_written() -> None:
    for name in ("layers/dense/vars/0/x", "layers/dense", "a\0b"):
        with pytest.raises(RequestError):
            KERAS3.lay_out([Entry("layers/dense/vars/0", "float32", (1,)), Entry(name, "float32", (1,))], FileOptions())


def test_a_large_heap(tmp_path: Path) -> None:
    """More texts than a collection of the usual size holds."""
    entries = [Entry(f"layers/dense_{n}/vars/0", "bfloat16", (1,)) for n in range(700)]
    given = save(tmp_path / "out", entries)
    assert elements(open_header(open_source(tmp_path / "out"))) == given
    content = (tmp_path / "out" / "model.weights.h5").read_bytes()
    assert struct.unpack_from("<Q", content, content.index(b"GCOL") + 8)[0] > 4096
    with h5py.File(tmp_path / "out" / "model.weights.h5") as root:
        assert all(root[one.name].attrs["dtype"] == "bfloat16" for one in entries)
