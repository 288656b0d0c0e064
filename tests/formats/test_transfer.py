"""Tensors that this process moves: what is refused on the way, and that nothing is written then."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest

from bertconv.containers.container import FileLayout
from bertconv.convert import convert_checkpoint
from bertconv.errors import MappingError, RequestError
from bertconv.formats.content import Content, Origin, OutputFile
from bertconv.formats.writing import write_weights
from bertconv.saving import extra_spec


@pytest.mark.parametrize("count", [0, 3, 5])
def test_elements_that_are_not_as_many_as_planned(tmp_path: Path, count: int) -> None:
    """More would run into the next tensor."""
    (tmp_path / "file").write_bytes(bytes(32))
    made = Content(extra_spec("mine", (4,)), "float32", Origin(make=lambda: np.ones(count, np.uint32)))
    with pytest.raises(MappingError, match=f"{4 * count} bytes where 16 were planned"):
        write_weights(tmp_path, [OutputFile("file", FileLayout(32, (8,), {}), (made,))], lambda _: None)
    assert (tmp_path / "file").read_bytes() == bytes(32)


@pytest.mark.parametrize("form", ["pt", "tf-safetensors"])
@pytest.mark.parametrize("verify", ["none", "weights"])
def test_numbers_that_do_not_fit(tmp_path: Path, form: str, verify: str) -> None:
    state = {name: np.clip(np.nan_to_num(value), -1, 1) for name, value in cp.state_dict().items()}
    state["bert.pooler.dense.weight"][3, 5] = 1e6
    src = cp.save(tmp_path / "in", "BertModel", state)
    before = cp.snapshot(tmp_path)
    with pytest.raises(RequestError, match="numbers that float16 cannot hold") as caught:
        convert_checkpoint(src, tmp_path / "out", to=form, dtype="float16", verify=verify)
    assert caught.value.tensor == "pooler.dense.weight"
    assert cp.snapshot(tmp_path) == before
    state["bert.pooler.dense.weight"][3, 5] = np.inf
    src = cp.save(tmp_path / "infinite", "BertModel", state)
    convert_checkpoint(src, tmp_path / "out", to=form, dtype="float16", verify=verify)
