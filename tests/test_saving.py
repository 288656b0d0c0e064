"""Saving from memory: tensors that a table knows and the caller's own, in every format, single and sharded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv import saving
from bertconv.config import BertConfig
from bertconv.containers.container import FileLayout
from bertconv.containers.hdf5 import keras, walk
from bertconv.containers.registry import read_header
from bertconv.containers.stored import Header, SourceFile
from bertconv.errors import BertconvError, MappingError, OutputError, ParityError, RequestError
from bertconv.formats.content import Content, Origin, OutputFile
from bertconv.formats.destination import MANIFEST
from bertconv.formats.output import Model, formats, scope_of
from bertconv.formats.readback import TensorCheck
from bertconv.formats.staging import StagedFolder
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.record import manifest_bytes, saved_report
from bertconv.saving import extra_spec, save_weights

HEAD = "BertForMaskedLM"
TABLE = table_for("bert")
WHOLE, SHARDS = 1 << 40, 20_000
EXTRAS: dict[str, tuple[int, ...]] = {
    "adapter/dense/kernel:0": (7, 13), "adapter/dense/bias:0": (13,), "adapter/shape/of/three:0": (2, 3, 5),
    "temperature:0": (), "nothing:0": (0, 4), "bert/pooler_2/kernel:0": (5, 3), "mlm___cls/mine:0": (6,),
    "my layer/größe:0": (4,), "tf_bert_for_masked_lm/scale:0": (2,), "scale:0": (3,),
}  # fmt: skip
"""Names and shapes of variables of a user's own layers, unusual ones too."""
FORMATS = {name: form for name, form in formats().items() if not form.dialect.declared}
"""Those whose files are read here by other means; test_any_to_any has them all."""
EACH_FORMAT = pytest.mark.parametrize("form", FORMATS)
EACH_LIMIT = pytest.mark.parametrize("limit", [WHOLE, SHARDS])


def elements(value: np.ndarray) -> np.ndarray:
    return np.array(value, order="C").reshape(-1).view(f"u{value.dtype.itemsize}")


def from_memory(value: np.ndarray) -> Origin:
    return Origin(make=partial(elements, value))


def known(form: str, dtype: str = "float32") -> tuple[cp.Tensors, list[Content]]:
    """What the table knows: the values by their written names, and the contents."""
    dialect = FORMATS[form].dialect
    state = cp.state_dict(HEAD, dtype)
    values = state if dialect.name == "pt" else cp.tf_state(state)
    settings = BertConfig.from_dict(cp.config(HEAD)).values
    specs = expand(TABLE, dialect, settings, TABLE.heads[HEAD])
    return values, [
        Content(spec, values[spec.name].dtype.name, from_memory(values[spec.name]))
        for place, spec in specs.items()
        if place not in TABLE.tied
    ]


def extra(shapes: dict[str, tuple[int, ...]], dtype: str = "float32") -> tuple[cp.Tensors, list[Content]]:
    values = {name: cp.random_array(shape, dtype, number) for number, (name, shape) in enumerate(shapes.items())}
    return values, [Content(extra_spec(name, value.shape), dtype, from_memory(value)) for name, value in values.items()]


def both(form: str, dtype: str = "float32") -> tuple[cp.Tensors, list[Content]]:
    one, contents = known(form, dtype)
    other, more = extra(EXTRAS, "float32" if dtype == "mixed" else dtype)
    return one | other, contents + more


def save(
    folder: Path,
    form: str,
    contents: Sequence[Content],
    limit: int = WHOLE,
    *,
    verify: bool = True,
    counter: Callable[[str, int], Callable[[int], None]] = lambda *_: lambda _: None,
) -> tuple[Sequence[OutputFile], Sequence[TensorCheck]]:
    with StagedFolder(folder) as staged:
        done = save_weights(staged, FORMATS[form], Model(TABLE, HEAD), contents, limit, counter, verify=verify)
        staged.commit()
    return done


def refused(kind: type[BertconvError], tmp_path: Path, *arguments: Any, **options: Any) -> BertconvError:
    """The error, which must leave nothing."""
    before = cp.snapshot(tmp_path)
    with pytest.raises(kind) as caught:
        save(tmp_path / "out", *arguments, **options)
    assert cp.snapshot(tmp_path) == before
    return caught.value


def digest(value: np.ndarray) -> str:
    head = f"bertconv-t1\0{value.dtype.name}\0{','.join(map(str, value.shape))}\0".encode()
    return "sha256:" + hashlib.sha256(head + value.tobytes()).hexdigest()


# What is written


@EACH_FORMAT
@EACH_LIMIT
@pytest.mark.parametrize("dtype", [*cp.FLOATS, "mixed"])
def test_every_tensor_is_there(tmp_path: Path, form: str, limit: int, dtype: str) -> None:
    values, contents = both(form, dtype)
    files, checks = save(tmp_path / "out", form, contents, limit)
    cp.assert_same(cp.written(tmp_path / "out"), values)
    assert [check.id for check in checks] == [content.spec.id for content in contents]
    assert len(files) == len([path for path in (tmp_path / "out").iterdir() if path.suffix != ".json"])
    assert (len(files) > 1) is (limit == SHARDS)


@EACH_FORMAT
@EACH_LIMIT
def test_digests_do_not_depend_on_the_format(tmp_path: Path, form: str, limit: int) -> None:
    _, contents = both(form)
    _, checks = save(tmp_path / "out", form, contents, limit)
    state = cp.state_dict(HEAD)
    expected = {content.spec.name: digest(value) for content, value in zip(known("pt")[1], state.values(), strict=True)}
    expected |= {name: digest(value) for name, value in extra(EXTRAS)[0].items()}
    assert [check.digest for check in checks] == list(expected.values())


@EACH_FORMAT
def test_the_index_says_where(tmp_path: Path, form: str) -> None:
    values, contents = both(form)
    files, _ = save(tmp_path / "out", form, contents, SHARDS)
    index = json.loads((tmp_path / "out" / FORMATS[form].container.index_name).read_bytes())
    scope = "tf_bert_for_masked_lm/" if form == "tf" else ""
    assert set(index["weight_map"]) == {scope + name for name in values}
    for file in files:
        there = cp.read_h5 if form == "tf" else lambda path: cp.read_safetensors(path)[0]
        assert {scope + name for name in there(tmp_path / "out" / file.name)} == {
            name for name, shard in index["weight_map"].items() if shard == file.name
        }


def test_a_keras_file_lists_every_weight(tmp_path: Path) -> None:
    values, contents = both("tf")
    save(tmp_path / "out", "tf", contents)
    with h5py.File(tmp_path / "out" / "tf_model.h5") as root:
        layers = [name.decode() for name in root.attrs["layer_names"]]
        listed = {layer: [name.decode() for name in root[layer].attrs["weight_names"]] for layer in layers}
        assert all(name in root[layer] for layer, names in listed.items() for name in names)
    assert layers == list(dict.fromkeys(name.split("/")[0] for name in values))
    repeated = [name for name in listed["mlm___cls"] if "/bert/embeddings/" in name]
    assert len(repeated) == 5
    own = [name.split("/", 1)[1] for names in listed.values() for name in names if name not in repeated]
    own += [name.split("/", 1)[1] for name in listed["bert"] if name in repeated]
    assert sorted(own) == sorted(values)


@EACH_FORMAT
@EACH_LIMIT
def test_numbers_that_are_no_floats(tmp_path: Path, form: str, limit: int) -> None:
    """Whole numbers of the caller's own go where the container has them."""
    _, contents = known(form)
    value = np.arange(-3, 3, dtype=np.int64).reshape(2, 3)
    contents.append(Content(extra_spec("mine/seen:0", value.shape), "int64", from_memory(value)))
    if form == "tf":
        error = refused(RequestError, tmp_path, form, contents, limit)
        assert error.tensor == "mine/seen:0"
    else:
        _, checks = save(tmp_path / "out", form, contents, limit)
        assert (cp.written(tmp_path / "out")["mine/seen:0"] == value).all()
        assert checks[-1] == TensorCheck("extra.mine/seen:0", digest(value), 0, all_zero=False)


NAMES = st.text("ab/_ ü.", min_size=1, max_size=9).map(lambda name: "/".join(filter(None, name.split("/"))) + ":0")
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(NAMES, SHAPES, min_size=1, max_size=5), st.sampled_from(list(FORMATS)), st.booleans())
def test_any_names_and_shapes(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, ...]], form: str, whole: bool
) -> None:
    """They are written and found again, or refused in a sentence, never lost."""
    folder = tmp_path_factory.mktemp("any")
    values, contents = extra(shapes)
    try:
        save(folder / "out", form, contents, WHOLE if whole else 30)
    except BertconvError:
        odd = {part for name in shapes for part in name.split("/")} & {".", ".:0"}
        assert odd, shapes  # a group is "." to itself in HDF5
        assert not (folder / "out").exists()
    else:
        cp.assert_same(cp.written(folder / "out"), values)


# How it is made


@EACH_FORMAT
@pytest.mark.parametrize("verify", [True, False])
def test_elements_are_made_when_they_are_needed(tmp_path: Path, form: str, verify: bool) -> None:
    """Once, by the threads that write them; never more of them at once than there are threads."""
    alive: list[int] = []
    most, calls, lock = 0, 0, threading.Lock()

    def make(value: np.ndarray) -> np.ndarray:
        nonlocal most, calls
        assert threading.current_thread() is not threading.main_thread()
        made = elements(value)
        with lock:
            alive.append(id(made))
            calls += 1
            most = max(most, len(alive))
        weakref.finalize(made, alive.remove, id(made))
        return made

    values, contents = both(form)
    lazy = [Content(one.spec, one.dtype, Origin(make=partial(make, values[one.spec.name]))) for one in contents]
    save(tmp_path / "out", form, lazy, verify=verify)
    empty = 1  # without elements there is nothing to write
    assert calls == len(contents) - empty
    assert most <= 2
    assert alive == []


@EACH_FORMAT
@pytest.mark.parametrize("verify", [True, False])
def test_the_counter_is_told_of_every_byte(tmp_path: Path, form: str, verify: bool) -> None:
    steps: dict[str, list[int]] = {}
    totals: dict[str, int] = {}

    def counter(step: str, total: int) -> Callable[[int], None]:
        totals[step] = total
        return steps.setdefault(step, []).append

    values, contents = both(form)
    save(tmp_path / "out", form, contents, verify=verify, counter=counter)
    nbytes = sum(value.nbytes for value in values.values())
    wanted = ["writing", "verifying"][: 1 + verify]
    assert totals == dict.fromkeys(wanted, nbytes)
    assert {step: sum(reported) for step, reported in steps.items()} == totals


# What is refused


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]) -> None:
    """Do this to every file once the weights are in it."""
    write = saving.write_weights

    def write_and_change(folder: Path, files: Sequence[OutputFile], *rest: Any, **options: Any) -> Any:
        found = write(folder, files, *rest, **options)
        for file in files:
            change(folder / file.name)
        return found

    monkeypatch.setattr(saving, "write_weights", write_and_change)


def change_header(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    path.write_bytes(cp.with_header(json.dumps(header).encode(), raw[8 + length :]))


def rename_entry(name: str, header: dict[str, Any]) -> None:
    if name in header:
        header[name + "x"] = header.pop(name)


def reshape_entry(name: str, header: dict[str, Any]) -> None:
    if name in header:
        header[name]["shape"] = [1, *header[name]["shape"]]


def retype_entry(name: str, header: dict[str, Any]) -> None:
    if name in header:
        header[name]["dtype"] = "I32"


def change_h5(kind: str, name: str, path: Path) -> None:
    with h5py.File(path, "r+") as root:
        paths: list[str] = []
        root.visit(lambda each: paths.append(each) if each.endswith(f"/{name}") or each == name else None)
        for each in paths:
            if isinstance(root[each], h5py.Dataset):
                value = root[each][()]
                del root[each]
                if kind == "shape":
                    root[each] = value[np.newaxis]
                elif kind == "dtype":
                    root[each] = value.view(np.int32)
                else:
                    root[f"{each}x"] = value


@pytest.mark.slow
@EACH_FORMAT
@EACH_LIMIT
@pytest.mark.parametrize("kind", ["name", "shape", "dtype"])
@pytest.mark.parametrize("whose", ["the table's", "the caller's"])
@pytest.mark.parametrize("verify", [True, False])
def test_what_was_not_written_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, limit: int, kind: str, whose: str, verify: bool
) -> None:
    """Lacking, of another shape or of another type: the bytes outside of the tensors are others, verified or not."""
    _, contents = both(form)
    names = [content.spec.name for content in contents]
    name = names[7] if whose == "the table's" else "adapter/dense/bias:0"
    changes = {"name": rename_entry, "shape": reshape_entry, "dtype": retype_entry}
    change = partial(change_h5, kind, name) if form == "tf" else partial(change_header, partial(changes[kind], name))
    tampered(monkeypatch, change)
    error = refused(ParityError, tmp_path, form, contents, limit, verify=verify)
    assert error.file is not None
    assert error.file.endswith(FORMATS[form].container.suffix)
    assert "outside of its tensors" in error.message


def change_byte(place: float, path: Path) -> None:
    """Change the byte of the frame that lies there, from 0 for the first to 1 for the last."""
    with closing(SourceFile(path)) as file:
        spans = sorted((one.offset, one.offset + one.nbytes) for one in read_header(file).tensors)
    content = bytearray(path.read_bytes())
    inside = {number for start, end in spans for number in range(start, end)}
    outside = [number for number in range(len(content)) if number not in inside]
    content[outside[int(place * (len(outside) - 1))]] ^= 1
    path.write_bytes(content)


@EACH_FORMAT
@pytest.mark.parametrize("limit", [WHOLE, SHARDS])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("verify", [True, False])
def test_one_bit_outside_of_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, limit: int, place: float, verify: bool
) -> None:
    before: dict[str, bytes] = {}

    def change(path: Path) -> None:
        before[path.name] = path.read_bytes()
        change_byte(place, path)
        after = path.read_bytes()
        places[path.name] = next(number for number, byte in enumerate(after) if byte != before[path.name][number])

    places: dict[str, int] = {}
    tampered(monkeypatch, change)
    error = refused(ParityError, tmp_path, form, both(form)[1], limit, verify=verify)
    assert f"at byte {places[str(error.file)]:,}, outside of its tensors" in error.message


@EACH_FORMAT
@EACH_LIMIT
def test_the_container_s_own_library_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, limit: int
) -> None:
    asked: list[Header] = []
    monkeypatch.setattr(type(FORMATS[form].container), "confirm", lambda _, header: asked.append(header))
    save(tmp_path / "unverified", form, both(form)[1], limit, verify=False)
    assert asked == []
    files, _ = save(tmp_path / "out", form, both(form)[1], limit)
    assert [header.files[0].name for header in asked] == [file.name for file in files]
    for header, file in zip(asked, files, strict=True):
        assert {one.name: one.offset for one in header.tensors} == {
            file.scope + one.content.name: one.offset for one in file.tensors
        }
        assert header.metadata == FORMATS[form].dialect.metadata


@EACH_FORMAT
@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, more: int) -> None:
    tampered(monkeypatch, lambda path: os.truncate(path, path.stat().st_size + more))
    assert "outside of its tensors" in refused(ParityError, tmp_path, form, both(form)[1], verify=False).message


@EACH_FORMAT
@EACH_LIMIT
@pytest.mark.parametrize("name", ["adapter/dense/kernel:0", "temperature:0", "scale:0"])
def test_one_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, limit: int, name: str) -> None:
    values, contents = both(form)
    raw = values[name].tobytes()

    def flip(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content.replace(raw, bytes([raw[0] ^ 1]) + raw[1:]))

    tampered(monkeypatch, flip)
    error = refused(ParityError, tmp_path, form, contents, limit)
    assert error.tensor is not None
    assert error.tensor.endswith(name)
    save(tmp_path / "out", form, contents, limit, verify=False)


@EACH_FORMAT
@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("verify", [True, False])
def test_too_many_or_too_few_elements(tmp_path: Path, form: str, more: int, verify: bool) -> None:
    """They must not run into the next tensor."""
    _, contents = known(form)
    wrong = Origin(make=lambda: np.zeros(35 + more, np.uint32))
    contents.append(Content(extra_spec("mine:0", (35,)), "float32", wrong))
    error = refused(MappingError, tmp_path, form, contents, verify=verify)
    assert error.tensor == "mine:0"


@EACH_FORMAT
def test_two_of_one_name(tmp_path: Path, form: str) -> None:
    _, contents = known(form)
    first, *_ = contents
    value = np.zeros(first.spec.shape, np.float32)
    duplicate = Content(extra_spec(first.spec.name, value.shape), "float32", from_memory(value))
    assert first.spec.name in refused(RequestError, tmp_path, form, [*contents, duplicate]).message


def test_two_of_one_id(tmp_path: Path) -> None:
    _, contents = known("pt")
    duplicate = replace(contents[0], spec=replace(contents[0].spec, names=("another",)))
    assert contents[0].spec.id in refused(RequestError, tmp_path, "pt", [*contents, duplicate]).message


@EACH_FORMAT
@pytest.mark.parametrize("name", ["a\nb:0", "right\u202eleft:0", "x" * 1025])
def test_names_that_are_not_read(tmp_path: Path, form: str, name: str) -> None:
    _, contents = extra({name: (2,)})
    assert "printable" in refused(RequestError, tmp_path, form, contents).message


@EACH_FORMAT
def test_the_longest_name(tmp_path: Path, form: str) -> None:
    scope = len(scope_of(FORMATS[form], Model(TABLE, HEAD)))
    _, contents = extra({"x" * (1025 - scope): (2,)})
    refused(RequestError, tmp_path, form, contents)
    values, contents = extra({"x" * (1024 - scope): (2,)})
    save(tmp_path / "out", form, contents)
    cp.assert_same(cp.written(tmp_path / "out"), values)


@EACH_FORMAT
def test_axes_that_files_do_not_hold(tmp_path: Path, form: str) -> None:
    _, contents = extra({"more:0": (1,) * 33})
    assert "33 axes" in refused(RequestError, tmp_path, form, contents).message
    values, contents = extra({"most:0": (1,) * 32})
    save(tmp_path / "out", form, contents)
    cp.assert_same(cp.written(tmp_path / "out"), values)


@pytest.mark.parametrize("limit", [WHOLE, 1])
def test_groups_too_deep_for_an_hdf5_file(tmp_path: Path, limit: int) -> None:
    above = 2 if limit == WHOLE else 0  # the layer's group and the model's
    _, contents = extra({"/".join("d" * (66 - above)): (2,), "other": (2,)})
    assert "more than 64 groups" in refused(RequestError, tmp_path, "tf", contents, limit).message
    values, contents = extra({"/".join("d" * (65 - above)): (2,), "other": (2,)})
    save(tmp_path / "out", "tf", contents, limit)
    cp.assert_same(cp.written(tmp_path / "out"), values)


def test_more_objects_than_are_read_of_an_hdf5_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (keras, walk):
        monkeypatch.setattr(module, "MAX_OBJECTS", 23)
    names = [f"a/{number}" for number in range(20)]  # the layer's group, the model's, and `a` in it
    _, contents = extra(dict.fromkeys([*names, "a/more"], (2,)))
    assert "24 groups" in refused(RequestError, tmp_path, "tf", contents).message
    values, contents = extra(dict.fromkeys(names, (2,)))
    save(tmp_path / "out", "tf", contents)
    cp.assert_same(cp.written(tmp_path / "out"), values)
    with closing(SourceFile(tmp_path / "out" / "tf_model.h5")) as file:
        assert len(read_header(file).tensors) == 20


def test_elements_that_cannot_be_made(tmp_path: Path) -> None:
    def fail() -> np.ndarray:
        raise ZeroDivisionError("the caller's own")

    _, contents = known("tf")
    contents.append(Content(extra_spec("mine:0", (3,)), "float32", Origin(make=fail)))
    with pytest.raises(ZeroDivisionError, match="the caller's own"):
        save(tmp_path / "out", "tf", contents)
    assert cp.snapshot(tmp_path) == {}


@EACH_FORMAT
@EACH_LIMIT
def test_weights_that_do_not_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, limit: int
) -> None:
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == (".h5" if form == "tf" else ".safetensors"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        save(tmp_path / "out", form, known(form)[1], limit)
    assert cp.snapshot(tmp_path) == {}


@pytest.mark.parametrize("layout", [
    FileLayout(30, (8, 19)), FileLayout(19, (8, 8)), FileLayout(31, (8, 20), {0: bytes(9)}), FileLayout(31, (20, 8)),
    FileLayout(32, (8, 20), {15: b"x"}), FileLayout(31, (8,)), FileLayout(31, (8, 20, 0)), FileLayout(32, (-1, 20)),
    FileLayout(32, (8, 20), {32: b"x"}), FileLayout(99, (8, 20), {25: bytes(70)}),
], ids=str)  # fmt: skip
def test_tensors_without_a_place_of_their_own(layout: FileLayout) -> None:
    """Whatever a container answers, no byte is two things; the sound layout is the one that is made of all these."""
    contents = tuple(Content(extra_spec(name, (size,)), "float32", Origin()) for name, size in (("a", 3), ("b", 3)))
    sound = FileLayout(32, (8, 20), {0: bytes(8)})
    assert OutputFile("weights", sound, contents).spans == ((8, 12), (20, 12))
    with pytest.raises(MappingError, match="no place of their own") as caught:
        OutputFile("weights", layout, contents)
    assert caught.value.file == "weights"


def test_a_full_disk(tmp_path: Path) -> None:
    huge = Content(extra_spec("mine:0", (1 << 48,)), "float32", Origin())
    assert "disk" in refused(OutputError, tmp_path, "pt", [huge]).message


# What is put on record


@EACH_FORMAT
@pytest.mark.parametrize("verify", [True, False])
def test_report_and_manifest(tmp_path: Path, form: str, verify: bool) -> None:
    values, contents = both(form)
    values["scale:0"][1] = np.nan
    with StagedFolder(tmp_path / "out") as staged:
        files, checks = save_weights(
            staged, FORMATS[form], Model(TABLE, HEAD), contents, SHARDS, lambda *_: lambda _: None, verify=verify
        )
        report = saved_report(
            contents, checks, head=HEAD, given="a model", form=FORMATS[form], files=files, staged=staged, table=TABLE
        )
        staged.write(MANIFEST, manifest_bytes(report, staged, files))
        staged.commit()
    assert {tensor.state for tensor in report.tensors} == {"saved"}
    assert [(tensor.target, tensor.source) for tensor in report.tensors] == [(name, "") for name in names_of(contents)]
    assert report.parameters == sum(value.size for value in values.values())
    assert report.nbytes == sum(value.nbytes for value in values.values())
    assert report.target == {"folder": str(tmp_path / "out"), "format": form, "files": [file.name for file in files]}
    assert report.notes == (("extra.scale:0 holds 1 numbers that are NaN or infinite",) if verify else ())
    assert report.verified == ("weights" if verify else "none")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_bytes())
    assert manifest["head"] == HEAD
    assert manifest["source"]["given"] == "a model"
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "out").iterdir()} - {MANIFEST}
    assert {one["digest"] for one in manifest["tensors"].values()} == ({check.digest for check in checks} or {""})
    assert manifest["tensors"]["extra.adapter/dense/bias:0"] == {
        "source": "", "target": "adapter/dense/bias:0", "state": "saved", "dtype": "float32", "shape": [13],
        "details": "", "digest": digest(values["adapter/dense/bias:0"]) if verify else "", "transposed": False,
    }  # fmt: skip
    assert bool(manifest["digest"]) is verify


def names_of(contents: Sequence[Content]) -> list[str]:
    return [content.spec.name for content in contents]
