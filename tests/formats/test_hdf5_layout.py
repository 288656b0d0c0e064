"""The writer of HDF5: what libhdf5 makes of it is what it makes of its own files, and it goes on writing into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import checkpoints as cp
import h5py
import h5py_layout as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.containers.hdf5 import process
from bertconv.containers.hdf5.encodings import Member, SymbolTable
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.stored import FLOATS
from bertconv.errors import RequestError
from bertconv.formats.frame import create

Attributes = Mapping[str, Mapping[str, str | Sequence[str]]]


def made(path: Path, datasets: Sequence[Dataset], attributes: Attributes) -> tuple[int, ...]:
    layout = lay_out(datasets, attributes)
    create(path, layout)
    return layout.offsets


def places(path: Path, datasets: Sequence[Dataset]) -> tuple[int, ...]:
    """Where libhdf5 finds the datasets; 0 for those without elements."""
    with h5py.File(path) as root:
        return tuple(root[dataset.path].id.get_offset() or 0 for dataset in datasets)


def filled(path: Path, datasets: Sequence[Dataset], offsets: Sequence[int]) -> dict[str, bytes]:
    """Put bytes into every dataset; what was put where, under all names."""
    found = {}
    with path.open("r+b") as file:
        for number, (dataset, offset) in enumerate(zip(datasets, offsets, strict=True)):
            content = bytes((number + place) % 251 for place in range(dataset.nbytes))
            file.seek(offset)
            file.write(content)
            found |= dict.fromkeys((dataset.path, *dataset.links), content)
    return found


# As h5py writes


PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "."
)
PATHS = st.lists(st.sampled_from(["a", "b", "kernel:0", "größe", "ab"]) | PARTS, min_size=1, max_size=5).map("/".join)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def compatible(paths: Sequence[str]) -> list[str]:
    """Those that can be datasets side by side."""
    found: list[str] = []
    for path in dict.fromkeys(paths):
        if not any(one.startswith(f"{path}/") or path.startswith(f"{one}/") for one in found):
            found.append(path)
    return found


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Dataset], dict[str, dict[str, str | list[str]]]]:
    paths = compatible(draw(st.lists(PATHS, max_size=30)))
    datasets = []
    while paths:
        path, count = paths.pop(), draw(st.integers(0, 2))
        links, paths = tuple(paths[:count]), paths[count:]
        datasets.append(Dataset(path, draw(st.sampled_from(FLOATS)), draw(SHAPES), links))
    taken = {path for one in datasets for path in (one.path, *one.links)}
    groups = {"", *(path.rpartition("/")[0] for path in taken)}
    values = st.dictionaries(TEXTS.filter(bool), TEXTS | st.lists(TEXTS, max_size=6), max_size=3)
    return datasets, {group: draw(values) for group in sorted(groups) if draw(st.booleans()) or not group}


@settings(max_examples=100, deadline=None)
@given(requests())
def test_what_h5py_reads_is_as_if_it_had_written_it(
    tmp_path_factory: pytest.TempPathFactory, request_: tuple[list[Dataset], Attributes]
) -> None:
    datasets, attributes = request_
    folder = tmp_path_factory.mktemp("layout")
    offsets = made(folder / "ours.h5", datasets, attributes)
    oracle.write(folder / "theirs.h5", datasets, attributes)
    assert oracle.described(folder / "ours.h5") == oracle.described(folder / "theirs.h5")
    assert places(folder / "ours.h5", datasets) == offsets
    contents = filled(folder / "ours.h5", datasets, offsets)
    with h5py.File(folder / "ours.h5") as root:
        for dataset in datasets:
            if dataset.dtype != "bfloat16":
                assert root[dataset.path][()].tobytes() == contents[dataset.path]
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text("ab/ü_:0", min_size=1, max_size=8).map(lambda name: "/".join(filter(None, name.split("/"))) or "x"),
        SHAPES, max_size=12,
    ),
    st.sampled_from(FLOATS),
)  # fmt: skip
def test_what_our_own_reader_finds(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, ...]], dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("read")
    datasets = [Dataset(path, dtype, shapes[path]) for path in compatible(list(shapes))]
    offsets = made(folder / "a.h5", datasets, {})
    file = cp.open_file(folder / "a.h5")
    with mock.patch.object(process, "ask", side_effect=AssertionError("libhdf5 is asked")):
        found = {one.name: (one.dtype, one.shape, one.offset) for one in read_hdf5(file).tensors}
    file.close()
    assert found == {one.path: (dtype, one.shape, offset) for one, offset in zip(datasets, offsets, strict=True)}
    shutil.rmtree(folder)


# Sizes at which something is full


def numbered(count: int) -> list[Dataset]:
    return [Dataset(f"layer/{number:05}", "float32", (2,)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 255, 256, 257, 511, 512, 513, 8192, 8193, 10_000])
def test_groups_of_every_size(tmp_path: Path, count: int) -> None:
    """Leaves take eight names and nodes of the tree 32 others: a leaf, a node, two levels, three."""
    datasets = numbered(count)
    offsets = made(tmp_path / "a.h5", datasets[::-1], {})[::-1]
    with h5py.File(tmp_path / "a.h5") as root:
        assert list(root["layer"]) == [one.path[6:] for one in datasets]
        for number in {0, 1, count // 2, count - 1} & set(range(count)):
            assert root[datasets[number].path].id.get_offset() == offsets[number]
        assert "layer/00000x" not in root
        assert "layer/" not in root["layer"] or count


@pytest.mark.parametrize("count", [0, 1, 8, 9, 256, 257, 9000])
def test_h5py_goes_on_writing(tmp_path: Path, count: int) -> None:
    path, names = tmp_path / "a.h5", [f"{'x' * 60}{number}" for number in range(count)]
    datasets = [*numbered(count), Dataset("kept", "float64", (3, 2), ("layer/linked",))]
    contents = filled(path, datasets, made(path, datasets, {"layer": {"weight_names": names}}))
    more = {f"layer/{number:05}new" for number in range(0, 10_000, 37)}
    gone = {one.path for one in datasets[:count:3]}
    with h5py.File(path, "r+") as root:
        for name in more:
            root[name] = np.array(name.encode())
        for name in gone:
            del root[name]
        root["deep/er/still"] = [1.0]
        root["layer"].attrs["added"] = "a" * 3000
        root["kept"].attrs["added"] = [1, 2, 3]
        root.attrs["added"] = "b"
    with h5py.File(path) as root:
        left = {one.path for one in datasets} - gone - {"kept"}
        assert {f"layer/{name}" for name in root["layer"]} == left | more | {"layer/linked"}
        assert all(root[name][()] == name.encode() for name in more)
        assert all(root[name][()].tobytes() == contents[name] for name in left)
        assert root["kept"][()].tobytes() == contents["kept"]
        assert root["layer"].attrs["added"] == "a" * 3000
        assert list(root["kept"].attrs["added"]) == [1, 2, 3]
        assert root["deep/er/still"][0] == 1


@pytest.mark.parametrize("length", [1, 7, 8, 9, 1000, 64_511, 64_512])
def test_attributes_of_every_size(tmp_path: Path, length: int) -> None:
    attributes = {
        "": {"one": ["n" * length], "text": "t" * min(length, 1000)},
        "layer": {"kernel": ["a", "b" * length]},
    }
    made(tmp_path / "ours.h5", [], attributes)
    oracle.write(tmp_path / "theirs.h5", [], attributes)
    assert oracle.described(tmp_path / "ours.h5") == oracle.described(tmp_path / "theirs.h5")


@pytest.mark.parametrize("count", [1008, 1009, 3000, 20_000])
def test_chunks_of_names(tmp_path: Path, count: int) -> None:
    attributes = {"layer": {"weight_names": [f"{number:064}" for number in range(count)]}}
    made(tmp_path / "ours.h5", [], attributes)
    oracle.write(tmp_path / "theirs.h5", [], attributes)
    assert oracle.described(tmp_path / "ours.h5") == oracle.described(tmp_path / "theirs.h5")


def test_deep_and_long_paths(tmp_path: Path) -> None:
    deep, long = "/".join("d" * 3000), "n" * 60_000
    datasets = [Dataset(deep, "float32", (3,)), Dataset(f"{long}/{long}", "float32", (3,))]
    offsets = made(tmp_path / "a.h5", datasets, {})
    with h5py.File(tmp_path / "a.h5") as root:
        group = root
        for part in deep.split("/"):
            group = group[part]
        assert group.id.get_offset() == offsets[0]
        assert root[long][long].id.get_offset() == offsets[1]


def test_a_table_is_as_long_as_it_says() -> None:
    for count in (0, 1, 8, 9, 256, 257, 8192, 8193):
        names = [f"{number}".encode() for number in range(count)]
        table = SymbolTable(names, 96)
        assert len(table.to_bytes(dict.fromkeys(names, Member(96)))) == table.end - 96


# Tools


@pytest.mark.skipif(shutil.which("h5repack") is None, reason="the tools of HDF5 are not installed")
def test_the_tools_of_hdf5(tmp_path: Path) -> None:
    datasets = [*numbered(300), Dataset("half", "float16", (3, 5), ("layer/again",)), Dataset("none", "float64", (0,))]
    datasets.append(Dataset("brain", "bfloat16", (7,)))
    attributes = {"": {"backend": "tensorflow"}, "layer": {"weight_names": ["w" * 70 + f"{n:04}" for n in range(2000)]}}
    path, repacked = tmp_path / "a.h5", tmp_path / "b.h5"
    filled(path, datasets, made(path, datasets, attributes))
    for command in (["h5ls", "-r", path], ["h5dump", path], ["h5repack", path, repacked], ["h5diff", path, repacked],
                    ["h5stat", path]):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert {name: one[:2] for name, one in oracle.described(path).items() if one[0] == "dataset"} == {
        name: one[:2] for name, one in oracle.described(repacked).items() if one[0] == "dataset"
    }


# What cannot be


@pytest.mark.parametrize(("paths", "links", "problem"), [
    (["a/./b"], (), "is no path"), (["."], (), "is no path"), (["a\0b"], (), "is no path"), ([""], (), "is no path"),
    (["/"], (), "is no path"), (["a\ud800"], (), "no Unicode"), (["a", "a"], (), "two things"),
    (["a"], ("a",), "two things"), (["a", "/a/"], (), "two things"), (["a/b", "a"], (), "two things"),
    (["a", "a/b"], (), "through another tensor"), (["x"], ("x/y",), "through another tensor"),
])  # fmt: skip
def test_names_that_cannot_be(paths: list[str], links: tuple[str, ...], problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as caught:
        lay_out([Dataset(path, "float32", (1,), links) for path in paths], {})
    assert caught.value.tensor in (*paths, *links)
    assert caught.value.hint


def test_a_group_that_is_a_tensor_cannot_say_anything() -> None:
    with pytest.raises(RequestError, match="two things"):
        lay_out([Dataset("a", "float32", (1,))], {"a": {"weight_names": []}})


def test_a_name_that_is_too_long_for_a_list() -> None:
    with pytest.raises(RequestError, match="more than 64,512 bytes"):
        lay_out([], {"": {"layer_names": ["short", "n" * 64_513]}})


# What it costs


def test_it_needs_neither_h5py_nor_numpy() -> None:
    program = "import sys; from bertconv.containers.hdf5.layout import Dataset, lay_out\n"
    program += "lay_out([Dataset('a/b', 'bfloat16', (2, 3))], {'': {'layer_names': ['a']}, 'a': {'text': 'b'}})\n"
    program += "print(sorted({'h5py', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_same_request_gives_the_same_bytes() -> None:
    request: tuple[Any, Any] = (numbered(20), {"layer": {"weight_names": ["a", "bc"]}})
    assert lay_out(*request) == lay_out(*request)
    assert lay_out(*request).parts[0][:9] == b"\x89HDF\r\n\x1a\n\0"
