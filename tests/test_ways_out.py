"""What a refusal says can be done with weights of another kind, done: it leads to a checkpoint that converts."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import distributed_folders as dcp
import numpy as np
import pytest

from bertconv import convert_checkpoint
from bertconv.errors import UnsupportedCheckpoint

MLM = "BertForMaskedLM"


def refused(src: Path, out: Path) -> str:
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        convert_checkpoint(src, out)
    return refusal.value.hint


@pytest.mark.filterwarnings("ignore")  # torch's own, of a process that is alone
def test_a_distributed_checkpoint_whose_chunks_are_transposed(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    state, folder = cp.state_dict(MLM), cp.write_config(tmp_path / "in", cp.config(MLM))
    tensors = cp.torch_tensors(state)
    tensors[cp.WORD] = tensors[cp.WORD].t().contiguous().t()
    place = dcp.write(folder / "pytorch_model_fsdp_0", {"model": tensors}, dcp.along(1, 2))
    for given in (folder, place):
        assert "torch.distributed.checkpoint.format_utils dcp_to_torch" in refused(given, tmp_path / "out")
    dcp_to_torch_save(place, folder / "pytorch_model.bin")  # what that command calls
    convert_checkpoint(folder, tmp_path / "out", to="pt", verify="weights")
    cp.assert_same(cp.written(tmp_path / "out"), state)


@pytest.mark.filterwarnings("ignore")  # torch's own, of a process that is alone
def test_shards_of_processes_as_safetensors(tmp_path: Path) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files

    state, folder = cp.state_dict(MLM), cp.write_config(tmp_path / "in", cp.config(MLM))
    writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(cp.torch_tensors(state), storage_writer=writer, no_dist=True)
    assert "consolidate_safetensors_files(FOLDER, OUTPUT, " in refused(folder, tmp_path / "out")
    whole = cp.write_config(tmp_path / "whole", cp.config(MLM))
    consolidate_safetensors_files(str(folder), str(whole), dict.fromkeys(state, 1))
    convert_checkpoint(whole, tmp_path / "out", to="pt", verify="weights")
    cp.assert_same(cp.written(tmp_path / "out"), state)


def test_arrays_of_numpy(tmp_path: Path) -> None:
    import safetensors.numpy

    state, folder = cp.state_dict(MLM), cp.write_config(tmp_path / "in", cp.config(MLM))
    np.savez(folder / "bert.npz", **state)
    for place in (folder, folder / "bert.npz"):
        assert 'safetensors.numpy.save_file({**numpy.load(FILE)}, "model.safetensors")' in refused(
            place, tmp_path / "x"
        )
    with np.load(folder / "bert.npz") as arrays:
        safetensors.numpy.save_file({**arrays}, folder / "model.safetensors")
    convert_checkpoint(folder, tmp_path / "out", to="pt", verify="weights")
    cp.assert_same(cp.written(tmp_path / "out"), state)
