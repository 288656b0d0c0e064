"""Distributed checkpoints: what torch writes is read bit for bit, in whatever chunks, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints as cp
import distributed_folders as dcp
import pytest

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.containers.chunks import ChunkedTensor
from bertconv.containers.stored import Header
from bertconv.errors import TiedTensorsDiffer
from bertconv.formats.streaming import Workspace, pieces
from bertconv.source import open_source
from bertconv.source.reading import open_header

MLM = "BertForMaskedLM"
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of a process that is alone

CUTS = {
    "whole": (dcp.whole, 1),
    "rows of two": (dcp.along(0, 2), 2),
    "rows of more than there are": (dcp.along(0, 24), 24),
    "columns": (dcp.along(1, 3), 3),
    "grid": (dcp.grid(3), 4),
}


def state(**changes: Any) -> cp.Tensors:
    return cp.state_dict(MLM, **changes)


def read(folder: Path) -> tuple[Header, dict[str, bytes]]:
    header = open_header(open_source(folder))
    return header, {one.name: b"".join(p.tobytes() for p in pieces(one, None, Workspace())) for one in header.tensors}


def with_training(tensors: cp.Tensors) -> dict[str, Any]:
    import torch

    moments = {name: {"exp_avg": torch.ones(3, 5), "step": torch.tensor(1.0)} for name in list(tensors)[:2]}
    return {
        "model": cp.torch_tensors(tensors),
        "optim": {"state": moments, "param_groups": [{"lr": 1e-3}]},
        "step": 7,
        "lr_scheduler": {"last": 0.5},
    }


def test_a_state_dict_at_the_root_with_training_state_beside(tmp_path: Path) -> None:
    """As torchtitan saves it: the model's tensors are at the root, the rest below keys of its own."""
    tensors = state()
    training = with_training(tensors)
    tree = {**training.pop("model"), "optimizer": training.pop("optim"), **training}
    header, found = read(dcp.write(tmp_path / "in", tree, dcp.along(0, 2)))
    assert found == {name: value.tobytes() for name, value in tensors.items()}
    assert header.others == ("optimizer", "step", "lr_scheduler")
    assert "tensors inside lists or dicts, left out: optimizer" in header.notes


@pytest.mark.parametrize("around", ["", "app.", "state."])
def test_an_index_without_keys(tmp_path: Path, around: str) -> None:
    """Some planners keep full names alone: training state is told by its first part."""
    tensors = state()
    tree = {**cp.torch_tensors(cp.prefixed(tensors, f"{around}model.")), "optimizer": with_training(tensors)["optim"]}
    folder = dcp.write(tmp_path / "in", tree, dcp.along(0, 2), edit=lambda made: setattr(made, "planner_data", None))
    header, found = read(folder)
    assert found == {f"model.{name}": value.tobytes() for name, value in tensors.items()}
    assert header.others == (("optimizer",))


def as_torch_2_0(made: Any) -> None:
    """Its properties were of another module; versions and keys were not written."""
    from torch.distributed._shard.sharded_tensor.metadata import TensorProperties

    for one in made.state_dict_metadata.values():
        if hasattr(one, "properties"):
            one.properties = TensorProperties(dtype=one.properties.dtype)
    for name in ("storage_meta", "version"):
        del vars(made)[name]


def test_an_index_of_old_versions(tmp_path: Path) -> None:
    tensors = state(dtype="mixed")
    folder = dcp.write(tmp_path / "in", {"model": cp.torch_tensors(tensors)}, dcp.along(0, 2), edit=as_torch_2_0)
    assert b"_shard.sharded_tensor.metadata" in (folder / ".metadata").read_bytes()
    assert read(folder)[1] == {name: value.tobytes() for name, value in tensors.items()}


def test_tied_tensors_are_compared(tmp_path: Path) -> None:
    """A state dict has both, and each is saved; in shards on different axes they are equal all the same."""
    tensors = state()
    both = {**tensors, cp.DECODER: tensors[cp.WORD]}

    def cut(name: str, shape: tuple[int, ...]) -> list[dcp.Box]:
        return dcp.along(int(name.endswith(cp.DECODER)), 3)(name, shape)

    folder = cp.write_config(dcp.write(tmp_path / "in", cp.torch_tensors(both), cut), cp.config(MLM))
    report = convert_checkpoint(folder, tmp_path / "out", to="pt", verify="weights")
    assert [one.source for one in report.left_out if one.state == "tied"] == [cp.DECODER]
    both[cp.DECODER] = both[cp.WORD].copy()
    both[cp.DECODER][100, 34] += 1
    other = cp.write_config(dcp.write(tmp_path / "other", cp.torch_tensors(both), cut), cp.config(MLM))
    with pytest.raises(TiedTensorsDiffer):
        convert_checkpoint(other, tmp_path / "no", to="pt", verify="weights")


@pytest.mark.parametrize("dtype", ["float32", "mixed"])
def test_what_torch_itself_saves(tmp_path: Path, dtype: str) -> None:
    from torch.distributed import checkpoint

    tensors = state(dtype=dtype)
    checkpoint.save(with_training(tensors), checkpoint_id=tmp_path / "in", no_dist=True)
    header, found = read(tmp_path / "in")
    assert found == {name: value.tobytes() for name, value in tensors.items()}
    assert {one.name: (one.dtype, one.shape) for one in header.tensors} == {
        name: (value.dtype.name, value.shape) for name, value in tensors.items()
    }
    assert header.container == "dcp"
    assert header.others == ("optim", "step", "lr_scheduler")
    assert "state dict found under 'model'" in header.notes
    assert "tensors beside the state dict, left out: optim" in header.notes


@pytest.mark.parametrize("name", list(CUTS))
def test_chunks_of_several_processes(tmp_path: Path, name: str) -> None:
    """The folder is one that torch reads, and what is read of it is equal; so are its outputs and its digest."""
    cut, ranks = CUTS[name]
    tensors = state(dtype="mixed")
    folder = dcp.write(tmp_path / "in", with_training(tensors), cut, ranks=ranks)
    theirs = dcp.loaded(folder)["model"]
    header, found = read(folder)
    assert found == {name: value.tobytes() for name, value in tensors.items()}
    assert set(theirs) == set(found)
    assert any(isinstance(one, ChunkedTensor) for one in header.tensors) == (name != "whole")
    cp.write_config(folder, cp.config(MLM))
    plain = cp.save(tmp_path / "plain", MLM, tensors)
    digests = set()
    for number, place in enumerate((folder, plain)):
        for form in ("pt", "tf"):
            report = convert_checkpoint(place, tmp_path / f"{form}{number}", to=form, verify="weights")
            digests.add(report.digest)
    assert len(digests) == 1
    for output in ("pt{}/model.safetensors", "tf{}/tf_model.h5"):
        ours, same = ((tmp_path / output.format(number)).read_bytes() for number in (0, 1))
        assert ours == same
    cp.assert_same(cp.written(tmp_path / "pt0"), tensors)


@pytest.mark.parametrize("verify", ["weights", "none"])
def test_ranges_are_copied(tmp_path: Path, verify: str) -> None:
    tensors = state()
    folder = cp.write_config(dcp.write(tmp_path / "in", {"model": cp.torch_tensors(tensors)}), cp.config(MLM))
    convert_checkpoint(folder, tmp_path / "out", to="pt", verify=verify)
    cp.assert_same(cp.written(tmp_path / "out"), tensors)


def test_verify_finds_equal_and_different(tmp_path: Path) -> None:
    tensors = state()
    plain = cp.save(tmp_path / "plain", MLM, tensors)
    folder = dcp.write(tmp_path / "in", {"model": cp.torch_tensors(tensors)}, dcp.along(1, 2))
    cp.write_config(folder, cp.config(MLM))
    assert verify_checkpoint(folder, plain, level="weights").ok
    tensors[cp.WORD] = tensors[cp.WORD].copy()
    tensors[cp.WORD][40, 33] += 1
    other = dcp.write(tmp_path / "other", {"model": cp.torch_tensors(tensors)}, dcp.along(1, 2))
    cp.write_config(other, cp.config(MLM))
    assert not verify_checkpoint(other, plain, level="weights").ok


@pytest.mark.parametrize(
    "around", [(), ("model",), ("app", "model"), ("state", "model"), ("state_dict",)], ids=".".join
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_envelopes_and_prefixes(tmp_path: Path, around: tuple[str, ...], prefix: str) -> None:
    tensors = state()
    tree: dict[str, Any] = cp.torch_tensors(cp.prefixed(tensors, prefix))
    for key in reversed(around):
        tree = {key: tree}
    folder = cp.write_config(dcp.write(tmp_path / "in", tree, dcp.along(0, 2)), cp.config(MLM))
    report = convert_checkpoint(folder, tmp_path / "out", to="pt", verify="none", dry_run=True)
    assert {one.source for one in report.tensors if one.source} == {prefix + name for name in tensors}
