"""Our own reader of classic HDF5 sees what libhdf5 sees, and leaves it what it does not know to the last byte."""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import checkpoints as cp
import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertconv.containers.hdf5 import child, classic, pages, process, walk
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.pages import NotClassic
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint
from bertconv.formats.frame import create
from qa.fuzz import targets
from qa.fuzz.targets.hdf5 import check_same

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def made(path: Path, build: Callable[[h5py.File], object], **options: Any) -> Path:
    with h5py.File(path, "w", **options) as root:
        build(root)
    return path


def ours(path: Path) -> walk.Found:
    file = cp.open_file(path)
    try:
        return classic.read_classic(file)
    finally:
        file.close()


def theirs(path: Path) -> dict[str, Any]:
    """What libhdf5 sees in this process: for files that it made."""
    with path.open("rb") as stream:
        return child.answer(child.OpenFile(stream.fileno()))


def assert_same(path: Path) -> walk.Found:
    found = ours(path)
    assert json.loads(json.dumps(asdict(found))) == json.loads(json.dumps(theirs(path)))
    return found


def left(path: Path, words: str) -> None:
    with pytest.raises(NotClassic, match=words):
        ours(path)


def shut(*_: object) -> bytes:
    raise AssertionError("a process was asked")


# What it reads


def keras(path: Path, style: cp.Keras) -> None:
    cp.write_h5(path, {f"bert/layer_{n}/kernel:0": VALUES for n in range(40)} | {"cls/bias:0": VALUES[0]}, style)


@pytest.mark.parametrize(
    "style", [cp.Keras(), cp.Keras(text="vlen"), cp.Keras(whole_model=True), cp.Keras(text="vlen", whole_model=True)]
)
def test_files_of_keras(tmp_path: Path, style: cp.Keras) -> None:
    keras(tmp_path / "a.h5", style)
    assert len(assert_same(tmp_path / "a.h5").tensors) == 41


def test_files_of_our_own(tmp_path: Path) -> None:
    dtypes = ("float16", "float32", "float64", "bfloat16")
    sets = [Dataset(f"bert/{dtype}:0", dtype, (3, n), (f"cls/{dtype}:0",)) for n, dtype in enumerate(dtypes)]
    names = [f"bert/{'long' * 200}/{number}" for number in range(300)]
    create(tmp_path / "a.h5", lay_out(sets, {"": {"backend": "tensorflow"}, "bert": {"weight_names": names}}))
    found = assert_same(tmp_path / "a.h5")
    assert {(tensor.group, tensor.name, tensor.dtype) for tensor in found.tensors} == {
        *(("bert", f"{dtype}:0", dtype) for dtype in dtypes), *(("", f"cls/{dtype}:0", dtype) for dtype in dtypes),
    }  # fmt: skip
    assert found.metadata == {"backend": "tensorflow"}


def test_no_process_and_no_library_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras(tmp_path / "a.h5", cp.Keras())
    monkeypatch.setattr(process, "ask", shut)
    monkeypatch.setitem(sys.modules, "h5py", None)
    file = cp.open_file(tmp_path / "a.h5")
    assert len(read_hdf5(file).tensors) == 41
    file.close()


ELEMENTS = ("<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8")
NAMES = st.text(st.characters(blacklist_characters="/", blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=5).map("/".join)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
TEXTS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30)


def put_attribute(group: Any, key: str, text: str, kind: int) -> None:
    if kind == 0:
        group.attrs[key] = text
    elif kind == 1:
        group.attrs[key] = np.bytes_(text.encode() or b"-")
    elif kind == 2:
        group.attrs[key] = [text.encode() or b"-"] * len(text)
    else:
        group.attrs[key] = len(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tree_that_h5py_writes(tmp_path: Path, data: st.DataObject) -> None:
    """Nested groups, empty and scalar datasets, hard links, and attributes of several kinds that come and go."""
    path = tmp_path / "a.h5"
    drawn = data.draw(st.lists(st.tuples(PATHS, SHAPES, st.sampled_from(ELEMENTS)), max_size=12))
    with h5py.File(path, "w") as root:
        sets = []
        for name, shape, dtype in drawn:
            try:
                sets.append(root.create_dataset(name, data=np.zeros(shape, dtype)))
            except (ValueError, TypeError, OSError):
                continue  # a part of its path is taken
            if data.draw(st.booleans()):
                root[f"again/{len(sets)}"] = sets[-1]
        for key in data.draw(st.lists(st.sampled_from(["backend", "keras_version", "weight_names", "x"]), max_size=4)):
            where = data.draw(st.sampled_from([root, *sets, *(each.parent for each in sets)]))
            put_attribute(where, key, data.draw(TEXTS), data.draw(st.integers(0, 3)))
        if sets and data.draw(st.booleans()):
            del root[sets[0].name]
    reported = theirs(path)
    try:
        found = asdict(ours(path))
    except BertconvError as error:
        found = {"error": error.to_json()}
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(reported))


def wide(root: h5py.File) -> None:
    data = root.create_dataset("layer/kernel:0", data=VALUES)
    for number in range(1200):  # a tree of three levels
        root[f"layer/name {number * 37 % 1200}"] = data
    for number in range(0, 1200, 90):
        del root[f"layer/name {number}"]


def lists(root: h5py.File) -> None:
    root.create_dataset("layer/kernel:0", data=VALUES)
    for number in range(40):  # more than a megabyte of a header, in blocks
        root["layer"].attrs[f"weight_names{number}"] = np.array([b"n" * 30_000] * 2)


def tallest(root: h5py.File) -> None:
    root.create_dataset("/".join("g" * walk.MAX_DEPTH) + "/kernel:0", data=VALUES)


@pytest.mark.parametrize("build", [wide, lists, tallest])
def test_large_groups_headers_and_depths(tmp_path: Path, build: Callable[[h5py.File], None]) -> None:
    found = assert_same(made(tmp_path / "a.h5", build))
    assert len(found.tensors) == {wide: 1201 - 14}.get(build, 1)


def test_attributes_that_hold_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.attrs.update({"backend": [], "keras_version": np.bytes_(b"1")}))
    assert assert_same(path).metadata == {"keras_version": "1"}


def test_times_that_older_versions_of_h5py_write(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset("kernel:0", data=VALUES, track_times=True))
    assert len(assert_same(path).tensors) == 1


# What it leaves to libhdf5


def early_but_empty(root: h5py.File) -> None:
    plan = h5p.create(h5p.DATASET_CREATE)
    plan.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    h5d.create(root.id, b"kernel:0", h5py.h5t.IEEE_F32LE, h5s.create_simple((0, 3)), plan)


@pytest.mark.parametrize("libver", ["v108", "v110", "latest"])
def test_newer_versions(tmp_path: Path, libver: str) -> None:
    left(made(tmp_path / "a.h5", lambda root: root.create_dataset("a", data=VALUES), libver=libver), "superblock")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda root: root.create_dataset("a", data=VALUES, chunks=True), "layout"),
        (lambda root: root.create_dataset("a", data=VALUES, compression="gzip"), "message"),
        (lambda root: root.create_dataset("a", data=VALUES, fillvalue=3), "message|fill"),
        (lambda root: root.create_dataset("a", data=VALUES.astype(">f4")), "elements"),
        (lambda root: root.create_dataset("a", data=[b"text"]), "elements"),
        (lambda root: root.create_dataset("a", data=h5py.Empty("f4")), "dataspace|message"),
        (lambda root: root.create_dataset("a", (4,), "f4", maxshape=(None,)), "dataspace|layout"),
        (lambda root: root.__setitem__("a", h5py.SoftLink("/b")), "name of another kind"),
        (lambda root: root.__setitem__("a", h5py.ExternalLink("b.h5", "/b")), "message|group"),
        (lambda root: root.__setitem__("a", np.dtype("f4")), "message|dataset"),
        (lambda root: root.attrs.__setitem__("a", True), "attribute"),
        (lambda root: root.attrs.__setitem__("a", h5py.Empty("f4")), "attribute|dataspace"),
    ],
)
def test_what_it_does_not_know(tmp_path: Path, build: Callable[[h5py.File], object], words: str) -> None:
    left(made(tmp_path / "a.h5", build), words)


def test_a_file_behind_a_block_of_the_user(tmp_path: Path) -> None:
    left(made(tmp_path / "a.h5", lambda root: root.create_dataset("a", data=VALUES), userblock_size=512), "superblock")


def test_early_space_for_nothing(tmp_path: Path) -> None:
    assert len(assert_same(made(tmp_path / "a.h5", early_but_empty)).tensors) == 1


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(88), b"x" * 4096])
def test_what_is_no_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    left(tmp_path / "a.h5", "short|superblock")


def test_metadata_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.h5", lists)
    monkeypatch.setattr(pages, "MOST_METADATA", 1 << 20)
    left(path, "too much")


def test_few_pages_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_PAGES", 2)
    file = cp.open_file(made(tmp_path / "a.h5", wide))
    seen = pages.Pages(file)
    for number in range(9):
        seen.take(number * pages.PAGE, 8)
        assert len(seen._pages) <= 2
    file.close()
    assert_same(tmp_path / "a.h5")


# The rules of the walk are the same


@pytest.mark.parametrize(
    ("build", "kind", "words"),
    [
        (lambda root: root.create_group("a").__setitem__("b", root["a"]), UnsafeCheckpoint, "reached twice"),
        (lambda root: root.create_group("/".join("g" * (walk.MAX_DEPTH + 1))), UnsafeCheckpoint, "too deep"),
        (lambda root: root.create_dataset("a", (3,), "f4"), DamagedCheckpoint, "declares 12 bytes but stores 0"),
        (lambda root: root.create_dataset("a\tb", data=VALUES), DamagedCheckpoint, "printable"),
        (lambda root: root.create_dataset(b"\xff", data=VALUES), DamagedCheckpoint, "printable"),
        (lambda root: root.create_dataset("model_weights", data=VALUES), DamagedCheckpoint, "layers should be"),
    ],
)
def test_rules(tmp_path: Path, build: Callable[[h5py.File], object], kind: type[BertconvError], words: str) -> None:
    path = made(tmp_path / "a.h5", build)
    with pytest.raises(kind, match=words) as caught:
        ours(path)
    assert theirs(path)["error"] == caught.value.to_json()
    file = cp.open_file(path)
    with pytest.raises(kind, match=words) as caught:
        read_hdf5(file)
    file.close()
    assert caught.value.file == str(path)
    assert caught.value.hint


def test_too_many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_OBJECTS", 100)
    path = made(tmp_path / "a.h5", wide)
    with pytest.raises(UnsafeCheckpoint, match="more than 100 objects") as caught:
        ours(path)
    assert theirs(path)["error"] == caught.value.to_json()


def test_a_group_under_two_names(tmp_path: Path) -> None:
    """It is no circle, and as deep as it looks."""

    def build(root: h5py.File) -> None:
        root.create_dataset("a/kernel:0", data=VALUES)
        root["b"] = root["a"]

    path = made(tmp_path / "a.h5", build)
    with pytest.raises(UnsafeCheckpoint, match="reached twice") as caught:
        ours(path)
    assert theirs(path)["error"] == caught.value.to_json()


def test_other_numbers_are_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset("a", data=VALUES.astype(">f4")))
    assert theirs(path)["error"]["message"] == "does not hold little-endian numbers."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:-1], "ends at byte .*, 1 bytes too early"),
        (lambda raw: raw + b"x", "goes on for 1 bytes behind its end"),
    ],
)
def test_the_end_of_the_file_is_looked_at_first(tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    path = made(tmp_path / "a.h5", lambda root: root.create_dataset("a", data=VALUES))
    path.write_bytes(change(path.read_bytes()))
    file = cp.open_file(path)
    with pytest.raises(DamagedCheckpoint, match=words):
        read_hdf5(file)
    file.close()


# Changed bytes


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    return [b"".join(seed.pieces) for seed in targets.build("hdf5").seeds]


def library(files: Sequence[bytes]) -> list[Any]:
    """What libhdf5 sees in each of these files: in one process, which may not hang or crash."""
    child.warm_up()
    reading, writing = os.pipe()
    number = os.fork()
    if not number:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            with os.fdopen(writing, "w") as pipe:
                json.dump([child.answer(io.BytesIO(file)) for file in files], pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
    return json.loads(said)


def changed(rng: Random, sound: bytes) -> bytes:
    place = rng.randrange(len(sound))
    value = rng.choice((0, 255, sound[place] + 1, sound[place] ^ 128)) % 256
    return sound[:place] + bytes((value,)) + sound[place + 1 :]


def test_seeds_of_the_campaign_are_classic(tmp_path: Path, seeds: list[bytes]) -> None:
    for sound in seeds:
        (tmp_path / "a.h5").write_bytes(sound)
        assert check_same(tmp_path / "a.h5") == "accepted"


@pytest.mark.parametrize(("number", "count"), [(0, 300), (1, 300), (2, 60)])
def test_single_bytes(tmp_path: Path, seeds: list[bytes], number: int, count: int) -> None:
    """Where our reader accepts a file, libhdf5 sees the same in it; all bytes were tried once, and here some are."""
    path, rng = tmp_path / "a.h5", Random(12)
    accepted: dict[bytes, object] = {}
    refused, left_over = [], 0
    for _ in range(count):
        file = changed(rng, seeds[number])
        path.write_bytes(file)
        try:
            accepted[file] = json.loads(json.dumps(asdict(ours(path))))
        except NotClassic:
            left_over += 1
        except BertconvError:
            refused.append(file)
    assert library(list(accepted)) == list(accepted.values())
    assert all("error" in said for said in library(refused))
    assert min(len(accepted), left_over) > count // 10
