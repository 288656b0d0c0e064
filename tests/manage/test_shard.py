"""Sharding and joining: the same model in other files, nothing stale, an exact index."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv import shard_checkpoint, unshard_checkpoint
from bertconv.errors import RequestError

HEAD = "BertForMaskedLM"
CONTAINERS = ("safetensors", "h5", "tf-safetensors", "bin")


@pytest.fixture(scope="module")
def tensors() -> cp.Tensors:
    return cp.state_dict(HEAD, "mixed")


def total_of(folder: Path) -> int:
    (index,) = folder.glob("*.index.json")
    found = json.loads(index.read_bytes())
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(found["weight_map"].values()) == {name for name in sizes if "-of-" in name}
    return int(found["metadata"]["total_size"])


@pytest.mark.parametrize("container", CONTAINERS)
def test_shards_and_back(tmp_path: Path, container: str) -> None:
    given = cp.state_dict(HEAD)
    src = cp.save(tmp_path / "in", HEAD, given, container)
    sharded = shard_checkpoint(src, tmp_path / "shards", max_size=40_000)
    assert len(sharded.target["files"]) > 1
    joined = unshard_checkpoint(tmp_path / "shards", tmp_path / "one")
    assert len(joined.target["files"]) == 1
    assert sharded.digest == joined.digest == sharded.parents[0].digest != ""
    assert sharded.target["format"] == joined.target["format"]
    expected = cp.written(src) if container != "bin" else cp.native(HEAD, given)
    cp.assert_same(cp.written(tmp_path / "shards"), cp.written(tmp_path / "one"))
    assert set(cp.written(tmp_path / "one")) <= set(expected)
    assert total_of(tmp_path / "shards") == sharded.nbytes
    assert cp.config_of(tmp_path / "one") == cp.config_of(src)


def test_the_bytes_are_those_of_the_source(tmp_path: Path, tensors: cp.Tensors) -> None:
    src = cp.save(tmp_path / "in", HEAD, tensors, "sharded")
    unshard_checkpoint(src, tmp_path / "out")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(HEAD, tensors))


def test_an_earlier_output_leaves_no_stale_shards(tmp_path: Path, tensors: cp.Tensors) -> None:
    src = cp.save(tmp_path / "in", HEAD, tensors)
    first = shard_checkpoint(src, tmp_path / "out", max_size=20_000)
    second = shard_checkpoint(src, tmp_path / "out", max_size=60_000, overwrite=True)
    assert len(second.target["files"]) < len(first.target["files"])
    assert {path.name for path in (tmp_path / "out").glob("*-of-*")} == set(second.target["files"])
    unshard_checkpoint(src, tmp_path / "out", overwrite=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "config.json", "bertconv.json"}


def test_a_pickle_becomes_safetensors_and_it_is_said(tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD), "bin")
    report = unshard_checkpoint(src, tmp_path / "out")
    assert report.target["files"] == ["model.safetensors"]
    assert any("is not written: the output is safetensors" in note for note in report.notes)


def test_what_is_on_record(tmp_path: Path, tensors: cp.Tensors) -> None:
    src = cp.save(tmp_path / "in", HEAD, tensors)
    shard_checkpoint(src, tmp_path / "out", max_size="40kB")
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())
    assert manifest["operation"] == {"verb": "shard", "options": {"max_size": "40kB"}}
    assert manifest["parents"][0]["digest"] == manifest["digest"]
    assert "is not written" not in str(manifest["notes"])


def test_the_command_line(tmp_path: Path, tensors: cp.Tensors, capsys: pytest.CaptureFixture[str]) -> None:
    src = cp.save(tmp_path / "in", HEAD, tensors)
    assert cp.call("shard", src, tmp_path / "out", "--max-size", "40kB", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["verified"] == "weights"
    assert cp.call("unshard", tmp_path / "out", tmp_path / "one", "--dry-run", "-q") == 0
    assert not (tmp_path / "one").exists()
    assert cp.call("shard", src, tmp_path / "other", "--max-size", "nothing") == 2
    assert cp.call("shard", src, tmp_path / "other") == 2


def test_outputs_are_not_compared(tmp_path: Path, tensors: cp.Tensors) -> None:
    src = cp.save(tmp_path / "in", HEAD, tensors)
    with pytest.raises(RequestError, match="verify is 'outputs'"):
        shard_checkpoint(src, tmp_path / "out", verify="outputs")
