"""Distributed checkpoints of processes that are several: DTensors over gloo, on rows and on columns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv import convert_checkpoint
from bertconv.containers.chunks import ChunkedTensor
from bertconv.source import open_source
from bertconv.source.reading import open_header

pytestmark = pytest.mark.slow  # each process imports torch, and its DTensor
HEAD = "BertForSequenceClassification"

PROGRAM = """
import os
import sys
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

rank, store, weights, out = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
for axis in (0, 1):
    state = {}
    for number, (name, value) in enumerate(np.load(weights).items()):
        tensor = torch.from_numpy(value)
        placement = Shard(axis) if tensor.ndim > axis else Replicate()
        state[name] = tensor if number % 7 == 3 else distribute_tensor(tensor, mesh, [placement])
    moments = {name: {"exp_avg": torch.zeros_like(value)} for name, value in list(state.items())[:5]}
    dcp.save({"app": {"model": state, "optim": {"state": moments, "lr": 0.1}}, "step": 7}, checkpoint_id=f"{out}{axis}")
dist.barrier()
os._exit(0)  # threads of gloo may end a process that ends them, after all was written
"""


@pytest.fixture(scope="module")
def tensors() -> cp.Tensors:
    return cp.state_dict(HEAD, labels=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tensors: cp.Tensors) -> Path:
    """Folders in0 and in1: two processes wrote their shards of a model, on either axis."""
    import numpy as np

    root = tmp_path_factory.mktemp("ranks")
    np.savez(root / "weights.npz", **tensors)
    given = [str(root / "store"), str(root / "weights.npz"), str(root / "in")]
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    processes = [subprocess.Popen([*command, str(rank), *given], stderr=subprocess.PIPE) for rank in (0, 1)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return root


@pytest.mark.parametrize("axis", [0, 1])
def test_two_processes(tmp_path: Path, saved: Path, tensors: cp.Tensors, axis: int) -> None:
    """Of the one row of the classifier, only one process has anything where rows are sharded."""
    folder = cp.write_config(saved / f"in{axis}", cp.config(HEAD, labels=1))
    header = open_header(open_source(folder))
    chunked = [one for one in header.tensors if isinstance(one, ChunkedTensor)]
    assert len(chunked) > 10
    assert all(len(one.files) == 2 for one in chunked)
    assert {chunk.corner[axis] == 0 for one in chunked for chunk in one.chunks} == {True, False}
    assert "app.optim" in header.others
    header.close()
    for form, expected in (("pt", tensors), ("tf", cp.tf_state(tensors))):
        convert_checkpoint(folder, tmp_path / form, to=form, head=HEAD, verify="weights")
        cp.assert_same(cp.written(tmp_path / form), expected)
