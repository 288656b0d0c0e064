"""What transformers 4.57's TensorFlow classes write, and other sharded files: an index and its shards name the same."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv import verify_checkpoint
from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint
from bertconv.inspection import inspect_checkpoint

MLM = "BertForMaskedLM"
SCOPES = {
    "second of its process": "tf_bert_for_masked_lm_1",
    "a name of the user's": "my_name",
    "a name with a slash": "outer/inner",
    "in another model": "outer_model/tf_bert_for_masked_lm",
    "load_weight_prefix of two parts": "dpr/ctx/tf_bert_for_masked_lm",
    "a scope named like the encoder": "bert/tf_bert_for_masked_lm",
}
LACKING = "names tensors that its shards lack"


def settings(head: str) -> dict[str, int]:
    return {"labels": 2} if head == "BertForQuestionAnswering" else {}


def written(folder: Path, head: str, scope: str, container: str) -> Path:
    cp.write_config(folder, cp.config(head, **settings(head)))
    return cp.save_tf(folder, cp.tf_state(cp.state_dict(head, **settings(head))), scope, container)


def arrives(folder: Path, out: Path, head: str) -> None:
    """It is inspected as what it is, converts to the right values, and is the same model."""
    expected = cp.native(head, cp.state_dict(head, **settings(head)))
    found = inspect_checkpoint(folder)
    assert (found.head, found.dialect) == (head, "tf")
    report = convert_checkpoint(folder, out, to="pt", source_dialect="tf")
    assert [one for one in report.left_out if one.state != "tied"] == []
    cp.assert_same(cp.written(out), expected)
    assert verify_checkpoint(folder, out, level="weights").ok


@pytest.mark.parametrize("head", cp.HEADS)
def test_every_head(tmp_path: Path, head: str) -> None:
    arrives(written(tmp_path / "in", head, cp.keras_name(head), "safetensors-shards"), tmp_path / "out", head)


@pytest.mark.parametrize("container", ["safetensors", "safetensors-shards"])
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_every_scope(tmp_path: Path, scope: str, container: str) -> None:
    arrives(written(tmp_path / "in", MLM, scope, container), tmp_path / "out", MLM)


@pytest.mark.parametrize("container", ["h5", "h5-shards"])  # each opening of an HDF5 file is a process
def test_scopes_in_hdf5(tmp_path: Path, container: str) -> None:
    arrives(written(tmp_path / "in", MLM, "dpr/ctx/tf_bert_for_masked_lm", container), tmp_path / "out", MLM)


@pytest.mark.parametrize(
    ("change", "container"),
    [
        ("two scopes for one tensor", "safetensors-shards"),
        ("with and without", "safetensors-shards"),
        ("no such tensor", "safetensors-shards"),
        ("moved", "safetensors-shards"),
        ("two scopes for one tensor", "h5-shards"),
    ],
)
def test_an_index_of_another_save(tmp_path: Path, change: str, container: str) -> None:
    """A scope is no licence: each tensor answers to one name."""
    folder = written(tmp_path / "in", MLM, "scope", container)
    (index,) = folder.glob("*.index.json")
    weight_map = json.loads(index.read_bytes())["weight_map"]
    name, shard = "bert/embeddings/LayerNorm/beta:0", weight_map["scope/bert/embeddings/LayerNorm/beta:0"]
    if change == "moved":
        weight_map[f"scope/{name}"] = next(other for other in weight_map.values() if other != shard)
        reported = f"scope/{name}"
    else:
        reported = {"two scopes for one tensor": f"second/{name}", "with and without": f"scope/{name}",
                "no such tensor": "scope/bert/other:0"}[change]  # fmt: skip
        weight_map[name if change == "with and without" else reported] = shard
    cp.write_index(folder, weight_map, index.name)
    with pytest.raises(DamagedCheckpoint, match=LACKING) as caught:
        inspect_checkpoint(folder)
    assert reported in caught.value.message
