"""Casting a checkpoint: which tensors are cast, what is counted, what is refused and put on record."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints as cp
import click
import numpy as np
import pytest

from bertconv import cast_checkpoint, convert_checkpoint
from bertconv.cli.cast import _KEPT, cast
from bertconv.errors import RequestError
from bertconv.manage.cast import GROUPS
from bertconv.mapping.table import table_for

HEAD = "BertForSequenceClassification"


@pytest.fixture(scope="module")
def tensors() -> cp.Tensors:
    return {name: np.clip(value, -100, 100) for name, value in cp.state_dict(HEAD).items()}


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory, tensors: cp.Tensors) -> Path:
    return cp.save(tmp_path_factory.mktemp("cast") / "in", HEAD, tensors, dtype="float32", torch_dtype="float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("verify", ["none", "weights"])
def test_numbers_and_counts(tmp_path: Path, src: Path, tensors: cp.Tensors, dtype: str, verify: str) -> None:
    report = cast_checkpoint(src, tmp_path / "out", dtype=dtype, verify=verify)
    expected = {name: value.astype(cp.numpy_type(dtype)) for name, value in tensors.items()}
    cp.assert_same(cp.written(tmp_path / "out"), expected)
    changed = {name: np.count_nonzero(expected[name].astype(np.float32) != value) for name, value in tensors.items()}
    zeros = {name: np.count_nonzero((expected[name] == 0) & (value != 0)) for name, value in tensors.items()}
    assert {one.source: (one.cast or {})["rounded"] for one in report.tensors} == changed
    assert {one.source: (one.cast or {})["flushed"] for one in report.tensors} == zeros
    assert report.cast is not None
    assert report.cast["rounded"] == sum(changed.values())
    assert report.cast["flushed"] == sum(zeros.values())
    assert report.cast["tensors"] == len(tensors)
    assert ("rounded" in report.summary()) == (dtype != "float64")
    config = cp.config_of(tmp_path / "out")
    assert config["dtype"] == config["torch_dtype"] == dtype


KEPT = {
    "norm": lambda name: "LayerNorm" in name,
    "bias": lambda name: name.endswith(".bias") and "LayerNorm" not in name,
    "embeddings": lambda name: ".embeddings." in name,
    "head": lambda name: "pooler" in name or name.startswith("classifier"),
    r"^layer\.1\.(query|key)\.": lambda name: "layer.1.attention.self" in name and "value" not in name,
}


@pytest.mark.parametrize("keep", KEPT)
def test_what_keeps_its_type(tmp_path: Path, src: Path, keep: str) -> None:
    report = cast_checkpoint(src, tmp_path / "out", dtype="bfloat16", keep=[keep], verify="none")
    kept = {name for name, value in cp.written(tmp_path / "out").items() if value.dtype == np.float32}
    assert kept == {name for name in cp.written(tmp_path / "out") if KEPT[keep](name)} != set()
    assert {one.source for one in report.tensors if one.cast is None} == kept
    assert cp.config_of(tmp_path / "out")["dtype"] == "bfloat16"


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "electra", "mpnet", "albert"])
def test_every_family_has_the_groups(model_type: str) -> None:
    table = table_for(model_type)
    assert "embeddings" in table.groups
    assert {one.kind for one in table.groups["embeddings"].modules.values()} <= {"embedding", "norm"}


def test_mixed_types_and_both_layouts(tmp_path: Path) -> None:
    mixed = {name: np.clip(value.astype(np.float32), -9, 9).astype(value.dtype)
             for name, value in cp.state_dict(HEAD, "mixed").items()}  # fmt: skip
    src = cp.save(tmp_path / "in", HEAD, mixed, "tf-safetensors")
    report = cast_checkpoint(src, tmp_path / "out", dtype="float16")
    assert report.target["format"] == "tf-safetensors"
    assert {one.dtype for one in report.tensors} == {"float16"}
    there = {one.target for one in report.tensors if one.cast is None}
    assert len(there) == sum(value.dtype == np.float16 for value in mixed.values())
    to_pt = convert_checkpoint(src, tmp_path / "pt", to="pt", dtype="float16", verify="weights")
    assert to_pt.digest == report.digest
    assert to_pt.cast == report.cast


def test_a_number_that_does_not_fit(tmp_path: Path, tensors: cp.Tensors) -> None:
    large = {**tensors, "classifier.bias": np.full(cp.LABELS, 1e6, np.float32)}
    src = cp.save(tmp_path / "in", HEAD, large)
    with pytest.raises(RequestError, match="numbers that float16 cannot hold"):
        cast_checkpoint(src, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()
    cast_checkpoint(src, tmp_path / "out", dtype="float16", keep=["^classifier"])


@pytest.mark.parametrize(
    ("options", "says"),
    [({"dtype": "int8"}, "dtype is 'int8'"), ({"dtype": "float16", "keep": ["nothing"]}, "no tensor is what"),
     ({"dtype": "float16", "keep": ["("]}, "is not a regular expression|regex")],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, src: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        cast_checkpoint(src, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path: Path, src: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(GROUPS) == _KEPT
    assert cp.call("cast", src, tmp_path / "out", "--dtype", "float16", "--keep", "norm,bias", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["operation"] == {"verb": "cast", "options": {"dtype": "float16", "keep": ["norm", "bias"]}}
    assert found["cast"]["rounded"] == sum(one["cast"]["rounded"] for one in found["tensors"] if one["cast"])
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())
    counted = [one["cast"] for one in manifest["tensors"].values() if "cast" in one]
    assert counted == [one["cast"] for one in found["tensors"] if one["cast"]]
    assert cp.call("cast", src, tmp_path / "dry", "--dtype", "bfloat16", "--dry-run", "-v") == 0
    assert "float32 to bfloat16" in capsys.readouterr().out
    assert cp.call("cast", src, tmp_path / "lines", "--dtype", "float16", "-v") == 0
    assert "float32 to float16," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("begun", "found"),
    [("n", ["norm"]), ("norm,b", ["norm,bias"]), ("norm,bias,", ["norm,bias,embeddings", "norm,bias,head"]), ("x", [])],
)  # fmt: skip
def test_completion(begun: str, found: list[str]) -> None:
    (keep,) = (one for one in cast.params if one.name == "keep")
    assert [item.value for item in keep.shell_complete(click.Context(cast), begun)] == found
