"""torch is the oracle here: what it saves must be read bit for bit, what it views must be viewed the same way."""

from __future__ import annotations

import argparse
import collections
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch_cases import (
    FOUR,
    GOOD,
    Record,
    archive,
    assert_same,
    good_records,
    legacy,
    mapping,
    name,
    pickled,
    read,
    saved,
    tensor,
    text,
    zipped,
)

from bertconv.errors import DamagedCheckpoint, UnsupportedCheckpoint

BOTH = pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
DTYPES = ["float16", "float32", "float64", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "uint16"]
DTYPES += ["uint32", "uint64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"]


def check(path: Path, state: dict, expected: dict | None = None, **options) -> None:
    data = saved(state, **options)
    assert_same(read(path / "x.bin", data), data, state if expected is None else expected)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_type(tmp_path, dtype, old):
    noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) * 10
    check(tmp_path, {"w": noise.abs().to(getattr(torch, dtype)), "s": torch.tensor(1).to(noise.dtype)}, legacy=old)


@BOTH
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, protocol, old):
    check(tmp_path, torch.nn.Linear(3, 4).state_dict(), legacy=old, protocol=protocol)


@BOTH
def test_views(tmp_path, old):
    base = torch.arange(120.0).reshape(10, 12)
    views = {
        "base": base,
        "transposed": base.t(),
        "rows": base[2:5],
        "columns": base[:, 1:7:2],
        "expanded": torch.arange(3.0).expand(4, 3),
        "expanded_row": base[1].unsqueeze(0).expand(2, 12),
        "permuted": base.reshape(2, 5, 3, 4).permute(3, 1, 0, 2),
        "one_row": base.t()[3:4],
        "scalar": base[3, 3],
        "empty": base[0:0],
        "empty_alone": torch.zeros(0, 7),
    }
    check(tmp_path, views, legacy=old)


def test_strides_only_where_rows_do_not_follow(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    header = read(tmp_path / "x.bin", saved({"a": base, "b": base.t(), "c": base[1:, :], "d": base[:, 1:2]}))
    assert [tensor.strides for tensor in header.tensors] == [None, (1, 4), None, (4, 1)]
    assert header.notes == ("not contiguous: b, d",)


@BOTH
def test_parameters_metadata_and_shared_storages(tmp_path, old):
    module = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7))
    module[1].weight = module[0].weight
    state = module.state_dict(keep_vars=True)
    assert hasattr(state, "_metadata")
    state["noted"] = torch.nn.Parameter(torch.ones(2))
    state["noted"].note = "parameters may carry attributes"
    state["plain"] = torch.ones(3)
    state["plain"].note = "and tensors too"
    check(tmp_path, state, legacy=old)
    assert not any("not built" in note for note in read(tmp_path / "x.bin", saved(state, legacy=old)).notes)


@BOTH
def test_cuda_storages(tmp_path, old):
    data = (legacy if old else zipped)(GOOD.replace(text("cpu"), text("cuda:0")))
    assert_same(read(tmp_path / "x.bin", data), data, {"w": torch.arange(1.0, 5.0)})


@BOTH
def test_old_storage_names_and_rebuild_v1(tmp_path, old):
    first = tensor().replace(name("torch", "FloatStorage"), name("torch.cuda", "FloatStorage"))
    hooks = b"\x89" + name("collections", "OrderedDict") + b")R"
    second = tensor().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor").replace(hooks, b"")
    data = (legacy if old else zipped)(pickled(mapping(a=first, b=second)))
    truth = torch.arange(1.0, 5.0)
    assert_same(read(tmp_path / "x.bin", data), data, {"a": truth, "b": truth})


def test_legacy_views_of_storages(tmp_path):
    view = b"(" + text("1") + b"K\x01K\x02t"
    view_tensor = tensor(shape=(2,)).replace(b"tQ", view + b"tQ")
    data = legacy(pickled(mapping(w=view_tensor)))
    assert_same(read(tmp_path / "x.bin", data), data, {"w": torch.tensor([2.0, 3.0])})
    beyond = legacy(pickled(mapping(w=view_tensor.replace(b"K\x01K\x02", b"K\x01K\x04"))))
    with pytest.raises(DamagedCheckpoint, match="outside its storage"):
        read(tmp_path / "x.bin", beyond)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=5),
    offset=st.integers(0, 9),
    dtype=st.sampled_from(["float32", "bfloat16", "int8", "float64"]),
    old=st.booleans(),
)
def test_any_strided_view(tmp_path, axes, offset, dtype, old):
    base = torch.arange(160).to(getattr(torch, dtype))
    view = base.as_strided([size for size, _ in axes], [step for _, step in axes], offset)
    assume(view.nbytes <= 3 * base.nbytes)  # more than four times the file is refused
    check(tmp_path, {"base": base, "w": view}, legacy=old)


@BOTH
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "module", "encoder"])
def test_envelopes(tmp_path, key, old):
    state = torch.nn.Linear(2, 3).state_dict()
    data = saved({"epoch": 3, key: state, "optimizer_states": [{"state": {0: torch.ones(2)}}]}, legacy=old)
    header = read(tmp_path / "x.ckpt", data)
    assert_same(header, data, state)
    assert f"state dict found under '{key}'" in header.notes
    assert header.others == ("epoch", "optimizer_states")
    assert "tensors beside the state dict, left out: optimizer_states" in header.notes


BESIDE = {
    "states of random generators": {"cuda_rng_state_all": torch.get_rng_state()},
    "class weights": {"class_weights": torch.ones(3)},
    "weights of a loss": {"criterion.weight": torch.ones(3), "pos_weight": torch.ones(3)},
    "a matrix of a loss": {"criterion.weight": torch.ones(3, 3)},
    "metrics": {"metrics.f1": torch.rand(3), "confusion": torch.eye(3), "loss": torch.tensor(0.5)},
    "a copy of moving averages": {"ema": {"a.weight": torch.ones(2, 3)}, "decay": torch.ones(1)},
    "an optimizer": {"optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}}, "steps": torch.ones(2)},
    "matrices of integers": {"ids.weight": torch.ones(2, 3, dtype=torch.int64)},
    "an envelope of other things": {"module": {"rng": torch.get_rng_state()}},
}


@BOTH
@pytest.mark.parametrize("case", BESIDE)
def test_tensors_beside_a_state_dict(tmp_path, case, old):
    """They are none themselves, wherever they stand, and the note tells of them."""
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    beside = BESIDE[case]
    for content in ({"state_dict": state, **beside}, {**beside, "state_dict": state}):
        data = saved(content, legacy=old)
        header = read(tmp_path / "x.ckpt", data)
        assert_same(header, data, state)
        assert sorted(header.others) == sorted(beside)
        reported = next(note for note in header.notes if note.startswith("tensors beside the state dict, left out: "))
        assert sorted(reported.partition(": ")[2].split(", ")) == sorted(beside)


@BOTH
def test_a_key_that_is_no_text_beside_a_state_dict(tmp_path, old):
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    data = saved({0: "seed", "criterion.weight": torch.ones(3, 3), "state_dict": state}, legacy=old)
    assert_same(read(tmp_path / "x.bin", data), data, state)


def test_a_head_beside_a_state_dict(tmp_path):
    """A dict with the matrix of a layer may be the model's head: it is distinguished from metrics and optimizers."""
    state = {"a.weight": torch.randn(3, 2)}
    head = {"weight": torch.randn(7, 3), "bias": torch.randn(7)}
    data = saved({"model": state, "classifier": head, "rng": torch.ones(2), "optimizer": {"state": {0: torch.eye(2)}}})
    assert read(tmp_path / "x.pt", data).beside == ("classifier",)


def test_tensors_beside_a_nested_state_dict(tmp_path):
    state = {"a.weight": torch.randn(3, 2)}
    data = saved({"rng": torch.ones(2), "model": {"weights": torch.ones(3), "net": state, "step": 4}})
    header = read(tmp_path / "x.pt", data)
    assert_same(header, data, state)
    assert "tensors beside the state dict, left out: rng, model.weights" in header.notes


def test_two_matrices_are_a_choice_that_is_not_ours(tmp_path):
    """A layer of its own beside the state dict may be its head; two encoders are two models."""
    state = {"a.weight": torch.ones(3, 2)}
    for content, places in (
        ({"state_dict": state, "classifier.weight": torch.ones(7, 3), "classifier.bias": torch.ones(7)},
         "the root, state_dict"),
        ({"state_dict": state, "model": {"a.weight": torch.ones(3, 2)}, "rng": torch.ones(2)}, "state_dict, model"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedCheckpoint, match=f"several state dicts: {places}"):
            read(tmp_path / "x.pt", saved(content))


def test_lightning(tmp_path):
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 1,
        "loss": torch.tensor(0.5),
        "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": argparse.Namespace(lr=0.1, betas=(0.9, 0.99)),
        "scalar": np.float64(0.25),
        "counts": collections.Counter("abc"),
        "defaults": collections.defaultdict(list, a=[1]),
        "place": Path("somewhere"),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "set": {1, 2},
        "frozen": frozenset("a"),
        "array": np.arange(100),
    }
    header = read(tmp_path / "x.ckpt", saved(checkpoint))
    assert [tensor.name for tensor in header.tensors] == ["model.weight", "model.bias"]
    assert list(header.others) == [key for key in checkpoint if key != "state_dict"]
    (built,) = (note for note in header.notes if note.startswith("objects that were not built: "))
    assert "argparse.Namespace" in built
    assert "collections.Counter" in built


def test_nested_envelopes(tmp_path):
    state = {"w": torch.ones(2)}
    header = read(tmp_path / "x.pt", saved({"model": {"module": {"net": state}, "step": 4}, "args": 1}))
    assert header.notes == ("state dict found under 'model.module.net'",)
    assert header.others == ("args", "model.step")
    with pytest.raises(UnsupportedCheckpoint, match="under model only"):
        read(tmp_path / "x.pt", saved({"model": {"module": {"net": {"encoder": state}}}}))


def test_values_that_are_not_tensors(tmp_path):
    state = {"w": torch.ones(2), "_metadata": {"": {"version": 1}}, "steps": 7, "list": [torch.ones(1)]}
    header = read(tmp_path / "x.pt", saved(state))
    assert [tensor.name for tensor in header.tensors] == ["w"]
    assert header.others == ("_metadata", "steps", "list")
    assert header.notes == ("tensors inside lists or dicts, left out: list",)


def test_training_arguments(tmp_path):
    arguments = b"\x81".join([name("transformers.training_args", "TrainingArguments") + b")", b"}b"])
    enum = name("transformers.trainer_utils", "IntervalStrategy") + text("no") + b"\x85R"
    header = read(tmp_path / "x.bin", zipped(pickled(mapping(w=tensor(), args=arguments, enum=enum))))
    assert header.others == ("args", "enum")
    assert "transformers.training_args.TrainingArguments" in header.notes[0]


def test_other_ways_to_write_the_same(tmp_path):
    """Python 2, other picklers and old torch spell dicts, shapes and objects in more ways than torch 2.13 does."""
    ordered = name("collections", "OrderedDict")
    pair = b"(" + text("w") + tensor(shape=name("torch", "Size") + b"K\x04\x85\x85R") + b"t"
    inert = {
        "a": name("copy_reg", "_reconstructor")
        + b"("
        + name("argparse", "Namespace")
        + name("__builtin__", "object")
        + b"NtR",
        "b": ordered + b")\x81",
        "c": name("transformers.models.bert.configuration_bert", "BertConfig") + b")\x81}b",
        "d": name("numpy.dtypes", "Float32DType") + b")R",
        "e": name("collections", "deque") + b")R(K\x01K\x02e",
        "f": b"U\x02\xff\xfe",
        "g": b"\x8f(K\x01\x90",
        "h": b"(K\x01\x91",
    }
    pairs = [pair, *(b"(" + text(key) + value + b"t" for key, value in inert.items())]
    data = zipped(pickled(ordered + b"](" + b"".join(pairs) + b"e\x85R"))
    header = read(tmp_path / "x.bin", data)
    assert_same(header, data, {"w": torch.arange(1.0, 5.0)})
    assert header.others == tuple(inert)


class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


def sparse() -> dict:
    return {"w": torch.eye(3).to_sparse()}


def quantised() -> dict:
    return {"w": torch.nn.Parameter(torch.ones(3), requires_grad=False), "fc._packed_params": 1}


MEGATRON = {
    "language_model": {
        "embedding": {"word_embeddings": {"weight": torch.ones(3, 2)}},
        "encoder": {"layers.0.self_attention.query_key_value.weight": torch.ones(6, 2)},
    },
    "lm_head": {"bias": torch.ones(3)},
}


UNSUPPORTED = {
    "a whole module": (lambda: torch.nn.Linear(2, 2), "whole module"),
    "a whole module of an unknown class": (Whole, "whole module"),
    "a whole module in an envelope": (lambda: {"model": torch.nn.Linear(2, 2)}, "whole module"),
    "a sparse tensor": (sparse, "sparse"),
    "packed parameters": (quantised, "quantised"),
    "a negated view": (lambda: {"w": torch.ones(2, dtype=torch.complex64).conj().imag}, "negation"),
    "a meta tensor": (lambda: {"w": torch.ones(2, device="meta")}, "without data"),
    "two state dicts": (lambda: {"model": {"w": torch.ones(2)}, "net": {"w": torch.ones(2)}}, "model, net"),
    "tensors under an unknown key": (lambda: {"teacher": {"w": torch.ones(2)}}, "teacher"),
    "a bare tensor": (lambda: torch.ones(2), "no state dict"),
    "Megatron's": (lambda: {"model": MEGATRON, "iteration": 3, "torch_rng_state": torch.get_rng_state()}, "Megatron"),
    "Megatron's without an envelope": (lambda: MEGATRON, "Megatron"),
    "keys that are numbers": (lambda: {0: torch.ones(2)}, "not text"),
}


@BOTH
@pytest.mark.parametrize("case", UNSUPPORTED)
@pytest.mark.filterwarnings("ignore")
def test_unsupported(tmp_path, case, old):
    make, words = UNSUPPORTED[case]
    with pytest.raises(UnsupportedCheckpoint, match=words) as caught:
        read(tmp_path / "x.bin", saved(make(), legacy=old))
    assert caught.value.file == str(tmp_path / "x.bin")
    assert caught.value.hint


def test_quantised_tensor(tmp_path):
    quantised_tensor = name("torch._utils", "_rebuild_qtensor") + b")R"
    with pytest.raises(UnsupportedCheckpoint, match="quantised"):
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=quantised_tensor))))
    with pytest.raises(UnsupportedCheckpoint, match="quantised"):
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=name("torch", "QInt8Storage")))))


def test_tensor_subclass(tmp_path):
    arguments = name("torch._utils", "_rebuild_tensor_v2") + name("torchao.dtypes", "AffineTensor") + b")}"
    subclass = name("torch._tensor", "_rebuild_from_type_v2") + b"(" + arguments + b"tR"
    with pytest.raises(UnsupportedCheckpoint, match="torchao"):
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=subclass))))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(tmp_path):
    stream = io.BytesIO()
    program = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2), check_trace=False)
    torch.jit.save(program, stream)
    with pytest.raises(UnsupportedCheckpoint, match="TorchScript"):
        read(tmp_path / "x.pt", stream.getvalue())
    with pytest.raises(UnsupportedCheckpoint, match="TorchScript"):
        read(tmp_path / "x.pt", archive([*good_records(), Record("a/constants.pkl", b"\x80\x02).")]))


@pytest.mark.parametrize("order", [b"big", b"middle"])
def test_byte_order(tmp_path, order):
    records = good_records()
    records[1].data = order
    with pytest.raises(UnsupportedCheckpoint if order == b"big" else DamagedCheckpoint):
        read(tmp_path / "x.bin", archive(records))


def test_legacy_big_endian(tmp_path):
    with pytest.raises(UnsupportedCheckpoint, match="big-endian"):
        read(tmp_path / "x.bin", legacy(GOOD).replace(b"little_endian\x88", b"little_endian\x89"))


def test_tar(tmp_path):
    data = b"sys_info".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    with pytest.raises(UnsupportedCheckpoint, match="tar"):
        read(tmp_path / "x.bin", data)


@pytest.mark.parametrize(
    "data", [b"", b"P", b"PK", b"PK\3\4" + bytes(40), b"\x80", b"\x80\x02.", b"<!DOCTYPE html>", FOUR]
)
def test_something_else(tmp_path, data):
    with pytest.raises(DamagedCheckpoint):
        read(tmp_path / "x.bin", data)


def test_no_tensors(tmp_path):
    for old in (False, True):
        with pytest.raises(DamagedCheckpoint, match="no tensors"):
            read(tmp_path / "x.bin", saved({"lr": 0.1}, legacy=old))


def test_checksums(tmp_path):
    data = bytearray(saved({"w": torch.arange(600_000.0)}))
    at = data.index(np.float32(500_000).tobytes())
    data[at] ^= 1
    with pytest.raises(DamagedCheckpoint, match="checksum") as caught:
        read(tmp_path / "x.bin", bytes(data))
    assert caught.value.tensor == "w"
    assert len(read(tmp_path / "x.bin", bytes(data), crc=False).tensors) == 1
    data[at] ^= 1
    data[data.index(b"_rebuild_tensor_v2") + 70] ^= 1
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        read(tmp_path / "x.bin", bytes(data), crc=False)


def test_imports_nothing(tmp_path):
    """numpy may import pickle by itself, so its modules are hidden behind what only torch would bring."""
    (tmp_path / "x.bin").write_bytes(saved({"w": torch.ones(3)}))
    (tmp_path / "y.bin").write_bytes(saved({"w": torch.ones(3)}, legacy=True))
    (tmp_path / "z.bin").write_bytes(zipped(pickled(name("antigravity", "fly") + b")R")))
    program = """
import sys
from pathlib import Path
from bertconv.errors import UnsafeCheckpoint
from bertconv.containers.stored import SourceFile
from bertconv.containers.pytorch.reader import read_torch
before = set(sys.modules)
for name in "xyz":
    try:
        read_torch(SourceFile(Path(f"{name}.bin")))
    except UnsafeCheckpoint as error:
        assert "antigravity.fly" in str(error)
assert not {"torch", "pickle", "_pickle", "zipfile", "tarfile", "antigravity"} & set(sys.modules)
assert set(sys.modules) <= before, set(sys.modules) - before
"""
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env={"PYTHONPATH": root})
