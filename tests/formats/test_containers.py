"""A container is a module and a line: what one has to say, and that nothing else has to know it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest

from bertconv.config import BertConfig
from bertconv.containers import registry
from bertconv.containers.container import Container, Entry, FileLayout, FileOptions
from bertconv.containers.registry import CONTAINERS, SPREAD, preferred, read_header
from bertconv.containers.stored import FLOATS, Header, SourceFile, StoredTensor
from bertconv.errors import DamagedCheckpoint
from bertconv.formats.content import Content, Origin
from bertconv.formats.output import Format, Model, formats
from bertconv.formats.staging import StagedFolder
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.saving import save_weights

HEAD = "BertModel"
MAGIC = b"TOY1"


class Toy(Container):
    """A line of JSON between a magic and the elements."""

    name = title = kind = "toy"
    stem = "model"
    suffixes = (".toy",)
    magic = (MAGIC,)
    dtypes = FLOATS
    dtypes_in_words = "floating-point numbers"

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002
        text, data, _ = file.read(0, file.size).partition(b"\n")
        if not data:
            raise DamagedCheckpoint("has no end of its header.", hint="Save it again.", file=str(file.path))
        rows = json.loads(text.removeprefix(MAGIC))
        offset, tensors = len(text) + 1, []
        for name, dtype, shape in rows:
            tensors.append(StoredTensor(name, dtype, tuple(shape), file, offset))
            offset += tensors[-1].nbytes
        return Header(self.name, tuple(tensors))

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:  # noqa: ARG002
        text = MAGIC + json.dumps([(one.name, one.dtype, one.shape) for one in entries]).encode() + b"\n"
        sizes = [int(np.prod(one.shape)) * cp.numpy_type(one.dtype).itemsize for one in entries]
        first, *others = [len(text) + sum(sizes[:number]) for number in range(len(sizes) + 1)]
        return FileLayout([first, *others][-1], (first, *others)[:-1], {0: text})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(registry, "CONTAINERS", (*CONTAINERS, made))
    monkeypatch.setitem(registry.BY_NAME, made.name, made)
    return made


@pytest.mark.parametrize(("limit", "files"), [(1 << 40, 1), (40_000, 3)])
def test_a_new_container_is_written_checked_and_read(toy: Toy, tmp_path: Path, limit: int, files: int) -> None:
    table, dialect = table_for("bert"), load_dialects().reference
    state = cp.state_dict(HEAD)
    specs = expand(table, dialect, BertConfig.from_dict(cp.config(HEAD)).values, table.heads[HEAD])
    contents = [
        Content(spec, "float32", Origin(make=partial(lambda value: value.reshape(-1).view("u4"), state[spec.name])))
        for spec in specs.values()
        if spec.name in state
    ]
    with StagedFolder(tmp_path / "out") as staged:
        form = Format("pt-toy", dialect, toy)
        written, checks = save_weights(
            staged, form, Model(table, HEAD), contents, limit, lambda *_: lambda _: None, verify=True
        )
        assert len(checks) == len(contents) == len(state)
        assert len(written) >= files
        assert [file.name for file in written] == toy.file_names(len(written))
        assert (staged.path / toy.index_name).exists() == (len(written) > 1)
        for file in written:
            with closing(SourceFile(staged.path / file.name)) as opened:
                assert read_header(opened).container == "toy"


def test_a_file_of_no_container_is_told_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0" * 99)
    kinds = " nor ".join(container.kind for container in CONTAINERS)
    with pytest.raises(DamagedCheckpoint, match=f"is neither {kinds}"):
        read_header(SourceFile(tmp_path / "a.bin"))


def test_formats_follow_from_dialects_and_containers() -> None:
    dialects = load_dialects().by_name.values()
    assert {(form.dialect.name, form.container.name) for form in formats().values()} == {
        (dialect.name, name) for dialect in dialects for name in dialect.containers
    }
    assert {name: form.container.file_name for name, form in formats().items()} == {
        "pt": "model.safetensors", "tf": "tf_model.h5", "tf-safetensors": "model.safetensors",
        "tf1": "bert_model.ckpt.index", "garden": "bert_model.ckpt.index", "flax": "flax_model.msgpack",
        "flax-safetensors": "model.safetensors", "keras-hub": "model.weights.h5",
    }  # fmt: skip


def test_names_of_files() -> None:
    st, torch, hdf5, _, flax = CONTAINERS[:5]
    assert st.names_of("fp16") == ("model.fp16.safetensors", "model.safetensors.index.fp16.json")
    assert torch.names_of(None) == ("pytorch_model.bin", "pytorch_model.bin.index.json")
    assert hdf5.file_names(2) == ["tf_model-00001-of-00002.h5", "tf_model-00002-of-00002.h5"]
    assert all(map(hdf5.is_output, (*hdf5.file_names(2), hdf5.file_name, hdf5.index_name)))
    assert not any(map(hdf5.is_output, ("model.h5", "tf_model.h5.bak", "tf_model.hdf5", "xtf_model.h5")))
    assert flax.names_of("fp16") == ("flax_model.fp16.msgpack", "flax_model.msgpack.index.fp16.json")
    assert flax.file_names(2) == ["flax_model-00001-of-00002.msgpack", "flax_model-00002-of-00002.msgpack"]
    every = [container.name for container in (*CONTAINERS, *SPREAD)]
    assert preferred() == tuple(dict.fromkeys(every))
    assert preferred("hdf5") == tuple(dict.fromkeys(("hdf5", *every)))


def test_what_is_only_read_cannot_be_written() -> None:
    torch = CONTAINERS[1]
    assert torch.dtypes == ()
    with pytest.raises(NotImplementedError):
        torch.lay_out([], FileOptions())
