"""Tensor bundles as they are written: read back by our own reader, by TensorFlow, and by `bertconv verify`."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from bundles import elements, numbers, open_bundle, write
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.containers.bundle import Bundle, ObjectBundle
from bertconv.containers.registry import read_header
from bertconv.containers.stored import ITEM_SIZE, SourceFile
from bertconv.errors import BertconvError, MappingError, UnsupportedCheckpoint
from bertconv.formats.staging import StagedFolder
from bertconv.source.reading import headers_of

NAMES = ("a/kernel", "a/bias", "b", "encoder/layer_10/kernel", "encoder/layer_9/kernel", "ü/..x")


@pytest.fixture
def tensors() -> dict[str, Any]:
    return {name: numbers((number + 1, 3), "float32", number) for number, name in enumerate(NAMES)}


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
kinds = st.sampled_from(sorted(set(ITEM_SIZE) - {"complex128"}))  # of which the test makes no elements
models = st.dictionaries(st.text("ab/_.é", min_size=1, max_size=12), st.tuples(shapes, kinds), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(model=models, limit=st.integers(1, 400))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, model: Any, limit: int) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    tensors = {name: numbers(shape, dtype) for name, (shape, dtype) in model.items()}
    write(folder / "out", tensors, Bundle(), limit)
    with closing(open_bundle(folder / "out" / "bert_model.ckpt")) as header:
        counters = {name for name, value in tensors.items() if value.shape == () and "float" not in value.dtype.name}
        assert {one.name: (one.dtype, one.shape, elements(one)) for one in header.tensors} == {
            name: (value.dtype.name, value.shape, value.tobytes())
            for name, value in tensors.items()
            if name not in counters
        }
        assert set(header.others) == counters


@pytest.mark.parametrize("container", [Bundle(), ObjectBundle()], ids=lambda one: one.name)
@pytest.mark.parametrize(("limit", "files"), [(1 << 40, 1), (60, 5)])
def test_files_of_an_output(container: Bundle, limit: int, files: int, tmp_path: Path, tensors: Any) -> None:
    """The same names and bytes either way; whatever is written is known as an output."""
    write(tmp_path / "out", tensors, container, limit)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    data = [f"bert_model.ckpt.data-{number:05}-of-{files:05}" for number in range(files)]
    assert names == [*data, "bert_model.ckpt.index", "checkpoint"]
    assert all(map(container.is_output, names))
    assert Bundle().among(names, None) == ["bert_model.ckpt.index"]
    with closing(open_bundle(tmp_path / "out" / "bert_model.ckpt")) as header:
        assert {one.name: elements(one) for one in header.tensors} == {
            name: value.tobytes() for name, value in tensors.items()
        }
        assert header.others == (("save_counter/.ATTRIBUTES/VARIABLE_VALUE",) if container.name != "bundle" else ())


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path, tensors: Any) -> None:
    for folder, order in (("one", tensors), ("other", dict(reversed(tensors.items())))):
        write(tmp_path / folder, order, ObjectBundle())
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "other"))
    assert one == other


def test_an_index_that_says_something_else_is_not_kept(
    tmp_path: Path, tensors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is held to what the disk has of the index."""
    true = StagedFolder.write

    def changed(self: StagedFolder, name: str, content: bytes) -> None:
        if name.endswith(".index"):
            content = content[:20] + bytes([content[20] ^ 1]) + content[21:]
        true(self, name, content)

    monkeypatch.setattr(StagedFolder, "write", changed)
    with pytest.raises(MappingError, match="its index says something else"):
        write(tmp_path / "out", tensors, Bundle())
    assert not (tmp_path / "out").exists()


def test_every_changed_bit_of_an_output_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a/kernel": numbers((3, 4), "float32"), "b": numbers((5,), "bfloat16")}, ObjectBundle())
    prefix = tmp_path / "out" / "bert_model.ckpt"
    open_bundle(prefix).close()
    unseen = []
    for file in (prefix.with_name(f"{prefix.name}.index"), prefix.with_name(f"{prefix.name}.data-00000-of-00001")):
        sound = file.read_bytes()
        for place in range(0, len(sound), 3):
            file.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
            with suppress(BertconvError):
                open_bundle(prefix).close()
                unseen.append((file.name, place))
        file.write_bytes(sound)
    assert unseen == []


def test_a_checkpoint_of_the_first_version_is_named(tmp_path: Path, tensors: Any) -> None:
    """It is such a table too, in one file without a name that says so."""
    write(tmp_path / "out", tensors, Bundle())
    alone = (tmp_path / "out" / "bert_model.ckpt.index").rename(tmp_path / "model.ckpt")
    with closing(SourceFile(alone)) as file, pytest.raises(UnsupportedCheckpoint, match="of the first version"):
        read_header(file)


def test_the_parts_of_an_output_have_records_of_their_own(tmp_path: Path, tensors: Any) -> None:
    """Each file of tensors has the tensors that the index says are in it; a damaged one is one error for all."""
    write(tmp_path / "out", tensors, ObjectBundle(), 60)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.data-*"))
    with ExitStack() as stack:
        files = {name: stack.enter_context(closing(SourceFile(tmp_path / "out" / name))) for name in names}
        headers, errors = headers_of(tmp_path / "out", files)
        assert not errors
        assert {one.name: name for name, header in headers.items() for one in header.tensors}.keys() == tensors.keys()
        assert all(one.file is files[name] for name, header in headers.items() for one in header.tensors)
        del files[names[0]]
        headers, errors = headers_of(tmp_path / "out", files)
        assert not headers
        assert set(errors) == set(names[1:])
