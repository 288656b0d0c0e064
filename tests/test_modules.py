"""Modules beside a transformer (sentence-transformers): their weights arrive, are counted, recorded and compared."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

import bertconv.modules
from bertconv import check_checkpoint, verify_checkpoint
from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint, OutputError, ParityError, UnsafeCheckpoint
from bertconv.formats.staging import StagedFolder
from bertconv.inspection import inspect_checkpoint
from bertconv.report import Report

BASE = "BertModel"
ST, BIN = "model.safetensors", "pytorch_model.bin"
MODULES = {"2_LayerNorm": "LayerNorm", "3_Dense": "Dense", "4_Dense": "Dense"}
"""Two of one class, so that their tensors have the same names."""
SHAPES = {
    "2_LayerNorm": {"norm.weight": (35,), "norm.bias": (35,)},
    "3_Dense": {"linear.weight": (17, 35), "linear.bias": (17,)},
    "4_Dense": {"linear.weight": (13, 17), "linear.bias": (13,), "steps": ()},
}
COUNT = 7


def values() -> dict[str, cp.Tensors]:
    """The tensors of every module; one of integers."""
    found: dict[str, cp.Tensors] = {}
    for seed, (folder, shapes) in enumerate(SHAPES.items()):
        arrays = {name: cp.random_array(shape, "float32", 10 * seed + len(shape)) for name, shape in shapes.items()}
        found[folder] = arrays | ({"steps": np.array(7, np.int64)} if "steps" in shapes else {})
    return found


def model(folder: Path, container: str = "bin", inner: str = "") -> Path:
    """A model of sentence-transformers; `inner` is the transformer's folder, as before 2021."""
    cp.save(folder / inner, BASE, cp.state_dict(), "bin")
    (folder / inner / "vocab.txt").write_text("[PAD]")
    kinds = {inner: "Transformer", "1_Pooling": "Pooling", **MODULES, "5_Normalize": "Normalize"}
    listing = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    cp.write_config(folder / "1_Pooling", {"word_embedding_dimension": 35})
    for name, tensors in values().items():
        cp.write_config(folder / name, {"in_features": 35})
        if container == "safetensors":
            (folder / name / ST).write_bytes(cp.safetensors_bytes(tensors, {"format": "pt", "by": "somebody"}))
        else:
            data = cp.torch_bytes(cp.torch_tensors(tensors), legacy=container == "legacy")
            (folder / name / BIN).write_bytes(data)
    return folder


def rows(report: Report) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    return {one.id: (one.state, one.dtype, one.shape) for one in report.tensors if "/" in one.id}


def assert_arrived(out: Path) -> None:
    for folder, tensors in values().items():
        cp.assert_same(cp.read_safetensors(out / folder / ST)[0], tensors)
        assert sorted(path.name for path in (out / folder).iterdir()) == ["config.json", ST]


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
@pytest.mark.parametrize("to", ["pt", "tf-safetensors"])
@pytest.mark.parametrize("container", ["bin", "legacy", "safetensors"])
def test_weights_of_modules_arrive(tmp_path: Path, container: str, to: str, inner: str) -> None:
    src, out = model(tmp_path / "in", container, inner), tmp_path / "out"
    plan = convert_checkpoint(src, out, to=to, dry_run=True)
    report = convert_checkpoint(src, out, to=to, verify="weights")
    assert_arrived(out)
    state = cp.state_dict()
    cp.assert_same(cp.read_safetensors(out / ST)[0], cp.bare(state) if to == "pt" else cp.tf_state(state))
    listing = json.loads((out / "modules.json").read_bytes())
    assert [entry["path"] for entry in listing] == ["", "1_Pooling", *MODULES, "5_Normalize"]
    assert report.summary().startswith(f"{len(state) + COUNT}/{len(state) + COUNT} tensors, ")
    assert rows(report) == rows(plan)
    assert set(rows(report)) == {f"{folder}/{name}" for folder, names in SHAPES.items() for name in names}
    assert all(one.digest for one in report.tensors)
    counts = [value.size for tensors in (state, *values().values()) for value in tensors.values()]
    assert report.parameters == plan.parameters == sum(counts)
    assert report.ok
    assert inspect_checkpoint(src).modules == tuple(
        f"{one}/{ST if container == 'safetensors' else BIN}" for one in MODULES
    )


def test_a_safetensors_file_is_copied(tmp_path: Path) -> None:
    src = model(tmp_path / "in", "safetensors")
    convert_checkpoint(src, tmp_path / "out", to="pt", verify="weights")
    for folder in MODULES:
        assert (tmp_path / "out" / folder / ST).read_bytes() == (src / folder / ST).read_bytes()


def test_element_types_stay(tmp_path: Path) -> None:
    """The modules' own code makes them, in float32, whatever the transformer's type is."""
    report = convert_checkpoint(model(tmp_path / "in"), tmp_path / "out", to="pt", dtype="float16", verify="weights")
    assert_arrived(tmp_path / "out")
    assert {one.dtype for one in report.tensors if "/" not in one.id} == {"float16"}


def test_to_hdf5_and_back(tmp_path: Path) -> None:
    src = model(tmp_path / "in", inner="0_BERT")
    there = convert_checkpoint(src, tmp_path / "tf", to="tf", verify="weights")
    back = convert_checkpoint(tmp_path / "tf", tmp_path / "pt", to="pt", verify="weights")
    assert_arrived(tmp_path / "pt")
    assert there.digest == back.digest != ""
    assert check_checkpoint(tmp_path / "tf").ok
    assert verify_checkpoint(src, tmp_path / "pt", level="weights").ok


# The record


@pytest.mark.parametrize("container", ["bin", "safetensors"])
def test_the_manifest_holds_the_modules(tmp_path: Path, container: str) -> None:
    out = tmp_path / "out"
    report = convert_checkpoint(model(tmp_path / "in", container), out, to="pt", verify="weights")
    found = check_checkpoint(out)
    assert found.ok, found.verdict()
    assert (found.tensors, found.digest) == (len(report.tensors), report.digest)
    path = out / "4_Dense" / ST
    sound = path.read_bytes()
    place = sound.index(values()["4_Dense"]["linear.bias"].tobytes())
    for damage, words in (
        (
            sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :],
            [("4_Dense/model.safetensors", "linear.bias")],
        ),
        (sound.replace(b'"format"', b'"f0rmat"'), [("4_Dense/model.safetensors", "")]),
    ):
        path.write_bytes(damage)
        assert [(one.file, one.tensor) for one in check_checkpoint(out).changes] == words
    path.unlink()
    assert ("4_Dense/model.safetensors", "is missing") in [
        (one.file, one.what) for one in check_checkpoint(out).changes
    ]


# Comparing


def test_modules_are_compared(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a"), model(tmp_path / "b", "safetensors")
    parity = verify_checkpoint(a, b, level="weights")
    assert parity.ok
    assert {row.id for row in parity.tensors if "/" in row.id} == {
        f"{folder}/{name}" for folder, names in SHAPES.items() for name in names
    }
    tensors = values()["3_Dense"]
    tensors["linear.weight"] = tensors["linear.weight"].copy()
    tensors["linear.weight"][11, 23] += 1
    (b / "3_Dense" / ST).write_bytes(cp.safetensors_bytes(tensors))
    parity = verify_checkpoint(a, b, level="weights")
    (wrong,) = [row for row in parity.tensors if not row.ok]
    assert (wrong.id, wrong.first, wrong.differing) == ("3_Dense/linear.weight", (11, 23), 1)
    assert "3_Dense/linear.weight" in parity.failure_text()


def test_modules_that_one_side_lost(tmp_path: Path) -> None:
    """As conversions lost them once: the list is there, and the settings, but no weights."""
    a, b = model(tmp_path / "a"), model(tmp_path / "b")
    (b / "3_Dense" / BIN).unlink()
    parity = verify_checkpoint(a, b, level="weights")
    assert not parity.ok
    assert {row.id: row.state for row in parity.tensors if not row.ok} == {
        "3_Dense/linear.weight": "only in A", "3_Dense/linear.bias": "only in A",
    }  # fmt: skip
    assert any("3_Dense is a Dense without weights" in note for note in parity.notes)


def test_a_side_that_is_no_model_of_sentence_transformers(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a"), cp.save(tmp_path / "b", BASE, cp.state_dict())
    for one, other, label in ((a, b, "A"), (b, a, "B")):
        parity = verify_checkpoint(one, other, level="weights")
        assert parity.ok
        assert len(parity.tensors) == len(cp.state_dict())
        (note,) = [note for note in parity.notes if "were not compared" in note]
        assert note.startswith(f"{label}: the weights of 2_LayerNorm, 3_Dense, 4_Dense were not compared")


# What cannot be


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("verify", ["weights", "none"])
def test_a_hostile_module(tmp_path: Path, verify: str) -> None:
    """It is read by the same reader as any other pickle."""
    src = model(tmp_path / "in")
    (src / "3_Dense" / BIN).write_bytes(cp.torch_bytes({"linear.weight": Hostile(tmp_path / "canary")}))
    before = cp.snapshot(tmp_path)
    with pytest.raises(UnsafeCheckpoint) as caught:
        convert_checkpoint(src, tmp_path / "out", to="pt", verify=verify)
    assert str(caught.value.file) == str(src / "3_Dense" / BIN)
    assert cp.snapshot(tmp_path) == before


def test_a_module_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = model(tmp_path / "in")
    write = bertconv.modules.write_weights

    def writing(*arguments: Any, **options: Any) -> dict[str, bytes]:
        found = write(*arguments, **options)
        (src / "3_Dense" / BIN).write_bytes(b"x" * 9)
        return found

    monkeypatch.setattr(bertconv.modules, "write_weights", writing)
    with pytest.raises(DamagedCheckpoint, match=r"was modified|ends at byte"):
        convert_checkpoint(src, tmp_path / "out", to="pt", verify="none")
    assert not (tmp_path / "out").exists()


def test_a_module_that_was_written_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = bertconv.modules.write_weights

    def flipping(folder: Path, files: list[bertconv.modules.OutputFile], *rest: Any, **options: Any) -> Any:
        found = write(folder, files, *rest, **options)
        path = folder / files[0].name
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        return found

    monkeypatch.setattr(bertconv.modules, "write_weights", flipping)
    with pytest.raises(ParityError, match="differs from its source"):
        convert_checkpoint(model(tmp_path / "in"), tmp_path / "out", to="pt", verify="weights")
    assert not (tmp_path / "out").exists()


def test_a_module_that_does_not_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().parent.name == "3_Dense":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        convert_checkpoint(model(tmp_path / "in"), tmp_path / "out", to="pt", verify="none")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("copied", [False, True])
def test_a_module_whose_header_was_written_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    read_back = bertconv.modules.written

    def change(folder: Path, files: list[bertconv.modules.OutputFile], *rest: Any, **options: Any) -> Any:
        path = folder / files[0].name
        path.write_bytes(path.read_bytes().replace(b"linear.weight", b"linear.weighs"))
        return read_back(folder, files, *rest, **options)

    src = model(tmp_path / "in")
    if copied:
        convert_checkpoint(src, tmp_path / "first", to="pt", verify="none")
        src = tmp_path / "first"
    monkeypatch.setattr(bertconv.modules, "written", change)
    with pytest.raises(ParityError, match="outside of its tensors"):
        convert_checkpoint(src, tmp_path / "out", to="pt", verify="none")
    assert not (tmp_path / "out").exists()


def test_no_room_for_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(StagedFolder, "reserve", lambda _, needed: asked.append(needed))
    convert_checkpoint(model(tmp_path / "in"), tmp_path / "out", to="pt", verify="none")
    assert asked[1] == sum(value.nbytes for tensors in values().values() for value in tensors.values())


def test_a_destination_that_is_a_module(tmp_path: Path) -> None:
    src = model(tmp_path / "in", inner="0_BERT")
    with pytest.raises(OutputError, match="is or holds what is read"):
        convert_checkpoint(src, src / "3_Dense", to="pt", overwrite=True)
