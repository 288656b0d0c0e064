"""Where distributed checkpoints lie and what is said of them: folders, files, the Hub's cache, other weights beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import distributed_folders as dcp
import pytest

from bertconv.source import SourceOptions, open_source

MLM = "BertForMaskedLM"
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of a process that is alone
Cli = Callable[..., cp.Outcome]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tree = {"model": cp.torch_tensors(cp.state_dict(MLM))}
    return dcp.write(tmp_path / "in", tree, dcp.along(0, 2))


def config(tmp_path: Path) -> Path:
    return cp.write_config(tmp_path / "settings", cp.config(MLM)) / "config.json"


def test_inspect(cli: Cli, saved: Path, tmp_path: Path) -> None:
    outcome = cli("inspect", saved, "--config", config(tmp_path), "--json")
    facts = json.loads(outcome.out)
    assert outcome.code == 0
    assert facts["container"] == "dcp"
    assert facts["files"] == ["__0_0.distcp", "__1_0.distcp"]
    assert facts["head"] == MLM
    assert facts["tensors"] == len(cp.state_dict(MLM))
    assert any(note.endswith("chunks in 2 files") for note in facts["notes"])


def test_without_config(cli: Cli, saved: Path, tmp_path: Path) -> None:
    outcome = cli("convert", saved, tmp_path / "out", "--to", "pt")
    assert outcome.code == 3
    assert "--config" in outcome.err


def test_the_index_is_given(cli: Cli, saved: Path, tmp_path: Path) -> None:
    arguments = ("convert", saved / ".metadata", tmp_path / "out", "--to", "pt", "--config", config(tmp_path))
    assert cli(*arguments).code == 0
    cp.assert_same(cp.written(tmp_path / "out"), cp.state_dict(MLM))


def test_one_of_the_files_is_given(cli: Cli, saved: Path) -> None:
    outcome = cli("inspect", saved / "__0_0.distcp")
    assert outcome.code == 6
    assert "Give the folder" in outcome.err


def test_a_folder_of_the_trainer(tmp_path: Path) -> None:
    """accelerate saves the model into a folder of its own; config and tokenizer lie around it."""
    state = cp.state_dict(MLM)
    folder = cp.write_config(tmp_path / "checkpoint-500", cp.config(MLM))
    (folder / "vocab.txt").write_text("a\n")
    dcp.write(folder / "pytorch_model_fsdp_0", {"model": cp.torch_tensors(state)}, dcp.along(0, 2))
    source = open_source(folder)
    assert source.weights.index == "pytorch_model_fsdp_0/.metadata"
    assert source.sidecars == ("vocab.txt",)
    from bertconv import convert_checkpoint

    convert_checkpoint(folder, tmp_path / "out", to="pt", verify="weights")
    cp.assert_same(cp.written(tmp_path / "out"), state)


def test_other_weights_come_first(saved: Path) -> None:
    cp.save(saved, MLM, cp.state_dict(MLM))
    source = open_source(saved)
    assert source.weights.files == ("model.safetensors",)
    assert any("model.safetensors is used; .metadata is there too" in note for note in source.notes)


def test_an_index_alone_is_none(tmp_path: Path) -> None:
    """Other programs have files of this name."""
    cp.save(tmp_path / "in", MLM, cp.state_dict(MLM))
    (tmp_path / "in" / ".metadata").write_text("{}")
    assert open_source(tmp_path / "in").notes == ()


def test_a_file_that_the_index_does_not_name(saved: Path, tmp_path: Path, cli: Cli) -> None:
    """One that is left of an earlier save by more processes."""
    (saved / "__7_0.distcp").write_bytes(b"left over")
    facts = json.loads(cli("inspect", saved, "--config", config(tmp_path), "--json").out)
    assert "files that .metadata does not name are ignored: __7_0.distcp" in facts["notes"]


def test_files_of_the_optimizer_alone_are_not_needed(tmp_path: Path) -> None:
    import torch

    tree: dict[str, Any] = {"model": cp.torch_tensors(cp.state_dict(MLM)), "optim": {"exp_avg": torch.ones(4, 4)}}
    folder = dcp.write(tmp_path / "in", tree, apart, ranks=2)
    (folder / "__1_0.distcp").unlink()
    assert open_source(folder).weights.files == ("__0_0.distcp",)


def apart(name: str, shape: tuple[int, ...]) -> list[dcp.Box]:
    """The model in file 0, the optimizer's state in both."""
    return dcp.whole(name, shape) if name.startswith("model.") else dcp.along(0, 2)(name, shape)


def test_a_variant(saved: Path) -> None:
    from bertconv.errors import RequestError

    with pytest.raises(RequestError, match="variant"):
        open_source(saved, SourceOptions(variant="fp16"))


def test_safetensors_streams(tmp_path: Path) -> None:
    """What FileSystemWriter writes with SerializationFormat.SAFETENSORS: bytes first, then all chunks as one stream."""
    import torch
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.filesystem import SerializationFormat

    state = cp.state_dict(MLM)
    tree = {"model": cp.torch_tensors(state), "step": 3, "optim": {"exp_avg": torch.ones(4)}}
    writer = checkpoint.FileSystemWriter(tmp_path / "torch", serialization_format=SerializationFormat.SAFETENSORS)
    checkpoint.save(tree, storage_writer=writer, no_dist=True)
    dcp.write(tmp_path / "ours", tree, dcp.along(0, 3), ranks=3, safetensors=True)
    from bertconv import convert_checkpoint

    for name in ("torch", "ours"):
        cp.write_config(tmp_path / name, cp.config(MLM))
        convert_checkpoint(tmp_path / name, tmp_path / f"out-{name}", to="pt", verify="weights")
        cp.assert_same(cp.written(tmp_path / f"out-{name}"), state)
