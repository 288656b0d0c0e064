"""HDF5 files that read other files, loop, hide or invent data: refused from their metadata; and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import ml_dtypes
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.containers.hdf5 import child, process
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.hdf5.walk import MAX_OBJECTS
from bertconv.containers.registry import read_header
from bertconv.convert import convert_checkpoint
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    TiedTensorsDiffer,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)
from bertconv.formats.frame import create

SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 4
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
KERNEL = "dense/kernel:0"


def made(path: Path, build: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as root:
        build(root)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    """Every tensor by its name, its bytes taken by offset alone."""
    file = cp.open_file(path)
    try:
        header = read_hdf5(file)
    finally:
        file.close()
    raw, found = path.read_bytes(), {}
    for tensor in header.tensors:
        dtype = cp.numpy_type(tensor.dtype)
        count = int(np.prod(tensor.shape))
        flat = np.frombuffer(raw, dtype, count, tensor.offset) if count else np.empty(0, dtype)
        found[f"{tensor.group}/{tensor.name}".lstrip("/")] = flat.reshape(tensor.shape)
    return found


def refusal(kind: type[BertconvError], path: Path, whole: bool = False) -> BertconvError:
    """The error, which must be of exactly this class and name the file; the child gave it by itself."""
    file = cp.open_file(path)
    with pytest.raises(kind) as caught:
        (read_header if whole else read_hdf5)(file)
    file.close()
    assert type(caught.value) is kind
    assert caught.value.file == str(path)
    assert caught.value.hint
    assert "makes the HDF5 library" not in caught.value.message
    return caught.value


# Sound files


def plain(root: h5py.File) -> None:
    root.create_dataset(KERNEL, data=VALUES)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i8", "<i4", "|i1", "|u1", "<u2"])
def test_types(tmp_path: Path, dtype: str) -> None:
    values = np.arange(12).astype(dtype).reshape(3, 4)
    found = read(made(tmp_path / "a.h5", lambda root: root.create_dataset(KERNEL, data=values)))
    cp.assert_same(found, {KERNEL: values})


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 5), (1,), (2, 3, 4)])
def test_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = read(made(tmp_path / "a.h5", lambda root: root.create_dataset(KERNEL, data=values)))
    cp.assert_same(found, {KERNEL: np.asarray(values)})


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_versions_of_the_format(tmp_path: Path, libver: str) -> None:
    state = {f"layer_{number}/dense/kernel:0": VALUES + number for number in range(300)}
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as root:
        for name, values in state.items():
            root.create_dataset(name, data=values)
    cp.assert_same(read(tmp_path / "a.h5"), state)


def written(path: Path, datasets: list[Dataset], attributes: dict[str, Any]) -> tuple[int, ...]:
    """The file without its weights, and where they go."""
    layout = lay_out(datasets, attributes)
    create(path, layout)
    return layout.offsets


def test_bfloat16(tmp_path: Path) -> None:
    values = cp.random_array((3, 4), "bfloat16", 1)
    [offset] = written(tmp_path / "a.h5", [Dataset(KERNEL, "bfloat16", (3, 4))], {})
    with (tmp_path / "a.h5").open("r+b") as file:
        file.seek(offset)
        file.write(values.tobytes())
    cp.assert_same(read(tmp_path / "a.h5"), {KERNEL: values})
    with h5py.File(tmp_path / "a.h5") as root:
        assert np.array_equal(root[KERNEL].astype("f4")[()], values.astype(np.float32))


def test_one_dataset_under_two_names(tmp_path: Path) -> None:
    def build(root: h5py.File) -> None:
        plain(root)
        root["other/kernel:0"] = root[KERNEL]

    cp.assert_same(read(made(tmp_path / "a.h5", build)), {KERNEL: VALUES, "other/kernel:0": VALUES})


@pytest.mark.parametrize("differ", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_copies_of_the_embeddings(tmp_path: Path, differ: bool, linked: bool) -> None:
    head, scope = "BertForMaskedLM", "tf_bert_for_masked_lm"
    state = cp.state_dict(head)
    src = cp.write_config(tmp_path / "in", cp.config(head))
    cp.write_h5(src / "tf_model.h5", cp.tf_state(state), cp.Keras(scope, copies=not linked))
    name = f"{scope}/bert/embeddings/position_embeddings/embeddings:0"
    with h5py.File(src / "tf_model.h5", "r+") as root:
        if linked:
            root[f"mlm___cls/{name}"] = root[f"bert/{name}"]
        elif differ:
            root[f"mlm___cls/{name}"][-1, -1] += 1
    if differ and not linked:
        with pytest.raises(TiedTensorsDiffer, match="position_embeddings"):
            convert_checkpoint(src, tmp_path / "out", to="pt")
        return
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), state)


# Data of other files


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", "|u1"])
def test_external_raw_storage(tmp_path: Path, relative: bool, dtype: str) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    target = "secret" if relative else str(tmp_path / "secret")
    place = [(target, 0, h5py.h5f.UNLIMITED)]
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset(KERNEL, (4,), dtype, external=place))
    assert refusal(UnsafeCheckpoint, path).tensor == KERNEL


def external_leaf(root: h5py.File) -> None:
    root["dense/kernel:0"] = h5py.ExternalLink("other.h5", "/dense/kernel:0")


def external_group(root: h5py.File) -> None:
    root["dense"] = h5py.ExternalLink("other.h5", "/dense")


def external_middle(root: h5py.File) -> None:
    root["bert/encoder"] = h5py.ExternalLink("other.h5", "/")


def external_nowhere(root: h5py.File) -> None:
    root["dense"] = h5py.ExternalLink("no-such-file.h5", "/")


def soft_leaf(root: h5py.File) -> None:
    plain(root)
    root["dense/bias:0"] = h5py.SoftLink("/dense/kernel:0")


def soft_group(root: h5py.File) -> None:
    plain(root)
    root["other"] = h5py.SoftLink("/dense")


def soft_middle(root: h5py.File) -> None:
    plain(root)
    root["bert/encoder"] = h5py.SoftLink("/dense")


def soft_nowhere(root: h5py.File) -> None:
    root["dense/kernel:0"] = h5py.SoftLink("/no/such/place")


def named_weights(root: h5py.File) -> None:
    """The list of names points at the link; the walk does not need it to."""
    group = root.create_group("bert")
    group.attrs["weight_names"] = [b"scope/kernel:0"]
    group["scope/kernel:0"] = h5py.ExternalLink("other.h5", "/dense/kernel:0")


def model_weights(root: h5py.File) -> None:
    root["model_weights"] = h5py.ExternalLink("other.h5", "/")


def model_weights_soft(root: h5py.File) -> None:
    plain(root)
    root["model_weights"] = h5py.SoftLink("/dense")


def virtual(root: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4), "<f4")
    layout[:] = h5py.VirtualSource("other.h5", "/dense/kernel:0", (3, 4))
    root.create_virtual_dataset(KERNEL, layout)


def virtual_of_itself(root: h5py.File) -> None:
    root.create_dataset("source", data=VALUES)
    layout = h5py.VirtualLayout((3, 4), "<f4")
    layout[:] = h5py.VirtualSource(".", "/source", (3, 4))
    root.create_virtual_dataset(KERNEL, layout)


LINKED = [external_leaf, external_group, external_middle, external_nowhere, soft_leaf, soft_group, soft_middle,
          soft_nowhere, named_weights, model_weights, model_weights_soft, virtual, virtual_of_itself]  # fmt: skip


@pytest.mark.parametrize("build", LINKED)
def test_links_and_virtual_data(tmp_path: Path, build: Callable[[h5py.File], None]) -> None:
    made(tmp_path / "other.h5", plain)
    refusal(UnsafeCheckpoint, made(tmp_path / "a.h5", build))


# Shapes of the tree


def cycle(root: h5py.File) -> None:
    group = root.create_group("a/b")
    group["back"] = root["a"]


def root_again(root: h5py.File) -> None:
    root["a/root"] = root["/"]


def fan(root: h5py.File) -> None:
    """2^30 paths to one dataset in a file of 30 kB."""
    inner = root.create_group("g0")
    inner.create_dataset("kernel:0", data=VALUES)
    for number in range(1, 31):
        outer = root.create_group(f"g{number}")
        outer["left"], outer["right"] = inner, inner
        inner = outer


def deep(root: h5py.File) -> None:
    root.create_dataset("/".join(["g"] * 100) + "/kernel:0", data=VALUES)


def named_type(root: h5py.File) -> None:
    root["type"] = np.dtype("<f4")


@pytest.mark.parametrize("build", [cycle, root_again, fan, deep, named_type])
def test_odd_trees(tmp_path: Path, build: Callable[[h5py.File], None]) -> None:
    refusal(UnsafeCheckpoint, made(tmp_path / "a.h5", build))


def test_too_many_objects(tmp_path: Path) -> None:
    def build(root: h5py.File) -> None:
        for number in range(MAX_OBJECTS + 1):
            root.create_group(f"group_{number}")

    assert "more than 20,000" in str(refusal(UnsafeCheckpoint, made(tmp_path / "a.h5", build)))


# Data that is not there, or not plain


def never_written(root: h5py.File) -> None:
    root.create_dataset(KERNEL, (16, 8), "<f4")


def shape_bomb(root: h5py.File) -> None:
    root.create_dataset(KERNEL, (2**20, 2**14), "<f4")


def null_space(root: h5py.File) -> None:
    root.create_dataset(KERNEL, data=h5py.Empty("<f4"))


@pytest.mark.parametrize("build", [never_written, shape_bomb, null_space])
def test_data_that_was_never_written(tmp_path: Path, build: Callable[[h5py.File], None]) -> None:
    error = refusal(DamagedCheckpoint, made(tmp_path / "a.h5", build))
    assert error.tensor == KERNEL
    assert "stores 0" in str(error)


@pytest.mark.parametrize(
    "options",
    [{"chunks": (3, 2)}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True},
     {"scaleoffset": 2}, {"maxshape": (None, 4)}],
    ids=str,
)  # fmt: skip
def test_chunks_and_filters(tmp_path: Path, options: dict[str, Any]) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset(KERNEL, data=VALUES, **options))
    error = refusal(UnsupportedCheckpoint, path)
    assert error.tensor == KERNEL
    assert "h5repack" in error.hint


def test_compact_data(tmp_path: Path) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.COMPACT)

    def build(root: h5py.File) -> None:
        h5d.create(root.id, b"kernel", h5t.IEEE_F32LE, h5s.create_simple((4,)), creation)

    refusal(UnsupportedCheckpoint, made(tmp_path / "a.h5", build))


@pytest.mark.parametrize(
    "dtype",
    [">f4", ">f2", ">f8", ">i4", "S7", h5py.string_dtype(), h5py.vlen_dtype(np.dtype("<f4")), "V8", "?", "<c8",
     np.dtype([("a", "<f4"), ("b", "<i4")]), h5py.ref_dtype, h5py.enum_dtype({"A": 1}), np.dtype("g"),
     np.dtype(("<f4", (2,)))],
    ids=str,
)  # fmt: skip
def test_other_types(tmp_path: Path, dtype: Any) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset(KERNEL, (3,), dtype))
    assert refusal(UnsupportedCheckpoint, path).tensor == KERNEL


def odd_float(size: int, *fields: int) -> h5t.TypeFloatID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(*fields)
    kind.set_size(size)
    return kind


BIASED = ("float16", "bfloat16", "float32", "float64")


def biased(base: str) -> h5t.TypeFloatID:
    """A standard type but for its exponent's bias: h5py converts it, and its bits are other numbers."""
    names = {"float16": "IEEE_F16LE", "float32": "IEEE_F32LE", "float64": "IEEE_F64LE"}
    kind = odd_float(2, 15, 7, 8, 0, 7) if base == "bfloat16" else getattr(h5t, names[base]).copy()
    kind.set_ebias(kind.get_ebias() - 3)
    return kind


def without_hidden_bit(kind: h5t.TypeFloatID) -> h5t.TypeFloatID:
    kind.set_norm(h5t.NORM_NONE)
    return kind


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda: odd_float(3, 23, 15, 8, 0, 15), id="24 bits"),
        pytest.param(lambda: odd_float(2, 15, 9, 6, 0, 9), id="16 bits of another division"),
        pytest.param(lambda: odd_float(4, 31, 20, 11, 0, 20), id="32 bits of another division"),
        *(pytest.param(lambda base=base: biased(base), id=f"{base} with another bias") for base in BIASED),
        pytest.param(lambda: without_hidden_bit(h5t.IEEE_F32LE.copy()), id="32 bits without a hidden one"),
    ],
)
def test_odd_floats(tmp_path: Path, kind: Callable[[], Any]) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)

    def build(root: h5py.File) -> None:
        h5d.create(root.id, b"kernel", kind(), h5s.create_simple((4,)), creation)

    refusal(UnsupportedCheckpoint, made(tmp_path / "a.h5", build))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "x" * 1025, "\u202e", "\x7f"])
@pytest.mark.parametrize("kind", ["group", "dataset"])
def test_names_that_are_not_printable(tmp_path: Path, name: str, kind: str) -> None:
    full = f"{name}/kernel:0" if kind == "group" else f"dense/{name}"
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset(full, data=VALUES))
    assert "\x1b" not in str(refusal(DamagedCheckpoint, path))


def test_name_that_is_not_text(tmp_path: Path) -> None:
    def build(root: h5py.File) -> None:
        h5d.create(root.id, b"\xff\xfe", h5t.IEEE_F32LE, h5s.create_simple((4,)))

    refusal(DamagedCheckpoint, made(tmp_path / "a.h5", build))


# Damage


def keras_file(path: Path, style: cp.Keras) -> Path:
    return cp.write_h5(path, {"bert/pooler/dense/kernel:0": VALUES, "classifier/bias:0": VALUES[0]}, style)


def test_every_truncation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a process for each would take a minute
    monkeypatch.setattr(process, "ask", lambda file: json.dumps(child.answer(child.OpenFile(file.fd))).encode())
    whole = keras_file(tmp_path / "whole.h5", cp.Keras()).read_bytes()
    for length in range(0, len(whole), 61):
        path = tmp_path / "a.h5"
        path.write_bytes(whole[:length])
        refusal(DamagedCheckpoint, path, whole=True)


@pytest.mark.parametrize("size", [512, 1024])
def test_user_block(tmp_path: Path, size: int) -> None:
    """Bytes before the signature can make a file two things at once."""
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=size) as root:
        plain(root)
    refusal(DamagedCheckpoint, tmp_path / "a.h5", whole=True)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\0" * 2000, b"no HDF5 " * 99])
def test_what_is_no_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    refusal(DamagedCheckpoint, tmp_path / "a.h5")


# What is written


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 6), max_size=3).map(tuple), max_size=6),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_plain_h5py_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], dtype: str
) -> None:
    path = tmp_path_factory.mktemp("written") / "a.h5"
    state = {f"group_{number}/kernel:0": cp.random_array(shape, dtype, number) for number, shape in enumerate(shapes)}
    datasets = [Dataset(name, dtype, value.shape, (f"again/{name}",)) for name, value in state.items()]
    offsets = written(path, datasets, {"": {"backend": "tensorflow"}})
    with path.open("r+b") as file:
        for offset, value in zip(offsets, state.values(), strict=True):
            file.seek(offset)
            file.write(value.tobytes() if value.size else b"")
    again = {f"again/{name}": value for name, value in state.items()}
    with h5py.File(path) as root:
        cp.assert_same({name: root[name][()] for name in (*state, *again)}, {**state, **again})
    cp.assert_same(read(path), {**state, **again})


@pytest.mark.parametrize("count", [3, 2000])
def test_lists_of_names(tmp_path: Path, count: int) -> None:
    """Beyond 64 kB a list is split into chunks, and Keras finds them by their numbers."""
    names = [f"tf_bert_model/bert/encoder/layer_._{number}/attention/self/kernel:0" for number in range(count)]
    written(tmp_path / "a.h5", [], {"bert": {"weight_names": names}, "": {"layer_names": ["bert"], "none": []}})
    with h5py.File(tmp_path / "a.h5") as root:
        attributes = root["bert"].attrs
        if count == 3:
            found = list(attributes["weight_names"])
        else:
            assert "weight_names" not in attributes
            found = [name for number in range(len(attributes)) for name in attributes[f"weight_names{number}"]]
        assert [name.decode() for name in found] == names
        assert list(root.attrs["none"]) == []


def test_the_layout_keras_reads(tmp_path: Path) -> None:
    """Every name of every layer's list leads to its dataset, and the embeddings are stored once."""
    head, scope = "BertForMaskedLM", "tf_bert_for_masked_lm"
    state = cp.state_dict(head)
    convert_checkpoint(cp.save(tmp_path / "in", head, state), tmp_path / "out", to="tf")
    expected = cp.tf_state(state)
    with h5py.File(tmp_path / "out" / "tf_model.h5") as root:
        layers = [name.decode() for name in root.attrs["layer_names"]]
        assert layers == ["bert", "mlm___cls"]
        assert root.attrs["backend"] in {b"tensorflow", "tensorflow"}
        for layer in layers:
            names = [name.decode() for name in root[layer].attrs["weight_names"]]
            assert len(names) == len(set(names))
            for name in names:
                assert np.array_equal(root[layer][name][()], expected[name.removeprefix(f"{scope}/")])
        word = f"{scope}/bert/embeddings/word_embeddings/weight:0"
        assert root[f"bert/{word}"] == root[f"mlm___cls/{word}"]


def test_bfloat16_bits_survive(tmp_path: Path) -> None:
    state = cp.state_dict(dtype="bfloat16")
    convert_checkpoint(cp.save(tmp_path / "in", "BertModel", state), tmp_path / "out", to="tf")
    cp.assert_same(cp.written(tmp_path / "out"), cp.tf_state(state))
    assert {value.dtype for value in cp.written(tmp_path / "out").values()} == {np.dtype(ml_dtypes.bfloat16)}
