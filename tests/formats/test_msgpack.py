"""msgpack files of Flax: what is written against the `msgpack` package, and what is read of all that Flax writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints as cp
import msgpack
import numpy as np
import pytest
from flax_files import array, flax_bytes, in_pieces, payload, prepared, read_flax, tree_of
from hypothesis import given
from hypothesis import strategies as st

from bertconv.containers.chunks import PiecedTensor, apart
from bertconv.containers.container import Entry
from bertconv.containers.msgpack import FlaxMsgpack
from bertconv.containers.msgpack.writer import lay_out
from bertconv.containers.registry import read_header
from bertconv.containers.stored import FLOATS, Header, SourceFile, Span
from bertconv.errors import DamagedCheckpoint, MappingError
from bertconv.formats.streaming import Workspace, as_floats, pieces
from bertconv.mapping.layout import Layout, transpose_between

Tensors = dict[str, np.ndarray]

NAMES = ["a/kernel", "a/bias", "layer/10/x", "layer/2/x", "layer/9/x", "B", "é/ü"]
SHAPES: list[tuple[int, ...]] = [(3, 5), (7,), (), (0, 4), (2, 3, 4), (1,), (30, 40)]


def tensors(dtype: str = "float32") -> Tensors:
    return {
        name: cp.random_array(shape, dtype, number)
        for number, (name, shape) in enumerate(zip(NAMES, SHAPES, strict=True))
    }


def opened(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return SourceFile(path)


def header_of(path: Path, tree: Any) -> Header:
    return read_header(opened(path, tree if isinstance(tree, bytes) else msgpack.packb(tree, strict_types=True)))


def elements(header: Header) -> Tensors:
    """Every tensor by its name with slashes, read as a conversion reads it."""
    found = {}
    for one in header.tensors:
        parts = [part.copy() for part in pieces(one, None, Workspace())]
        flat = np.concatenate(parts) if parts else np.empty(0, f"u{cp.numpy_type(one.dtype).itemsize}")
        found[one.name.replace(".", "/")] = as_floats(flat, one.dtype).reshape(one.shape)
    return found


def filled(values: Tensors, chunk: int) -> bytes:
    """The file that a layout is of, with the elements put where it says."""
    entries = [Entry(name.replace("/", "."), value.dtype.name, value.shape) for name, value in values.items()]
    layout = lay_out(entries, chunk)
    data = bytearray(layout.size)
    for start, part in layout.parts.items():
        data[start : start + len(part)] = part
    for number, (value, offset) in enumerate(zip(values.values(), layout.offsets, strict=True)):
        spans = layout.pieces.get(number) or (Span(offset, value.nbytes),)
        for start, part in apart(spans, memoryview(value.tobytes()), 0):
            data[start : start + len(part)] = part
    return bytes(data)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("chunk", [2**30, 64, 7])
def test_what_is_written_is_what_flax_writes(dtype: str, chunk: int, tmp_path: Path) -> None:
    values = tensors(dtype)
    written = filled(values, chunk)
    assert written == flax_bytes(values, chunk)
    cp.assert_same(read_flax(written), values)
    cp.assert_same(elements(read_header(opened(tmp_path / "a", written))), values)


SIZES = [0, 1, 2, 15, 31, 127, 128, 255, 256, 260, 65_500, 65_535, 65_536, 70_000]


@pytest.mark.parametrize("count", SIZES)
def test_every_length_has_the_code_that_msgpack_gives_it(count: int) -> None:
    values = {"x": np.full(count, 0.5, np.float16), "k" * min(count + 1, 1000): np.zeros((), np.float32)}
    assert filled(values, 2**30) == flax_bytes(values)
    many = {f"{number:05}": np.zeros(0, np.float32) for number in range(min(count, 2000) + 1)}
    assert filled(many, 2**30) == flax_bytes(many)


@given(
    names=st.lists(st.lists(st.text("abc019_", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
                   min_size=1, max_size=8, unique=True),
    rank=st.integers(0, 3), chunk=st.integers(1, 40),
)  # fmt: skip
def test_any_tree_is_written_as_flax_does_and_read_again(
    names: list[str], rank: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    values = {name: cp.random_array((2, 3, 2)[:rank], "float32", number) for number, name in enumerate(names)}
    written = filled(values, chunk)
    assert written == flax_bytes(values, chunk)
    cp.assert_same(elements(read_header(opened(tmp_path_factory.mktemp("tree") / "a", written))), values)


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a"], ["a.b", "a.b"]])
def test_names_that_have_no_place_beside_each_other_are_refused(names: list[str]) -> None:
    with pytest.raises(MappingError):
        lay_out([Entry(name, "float32", (1,)) for name in names])


@pytest.mark.parametrize("chunk", [4, 20, 52, 400])
def test_pieces_are_cut_anywhere_and_turned_whole(chunk: int, tmp_path: Path) -> None:
    value = cp.random_array((11, 13), "float32", 5)
    header = header_of(tmp_path / "a", {"x": in_pieces(value, chunk), "y": {"z": array(value)}})
    split, whole = header.tensors
    assert isinstance(split, PiecedTensor)
    assert not split.is_range
    assert split.place != whole.place
    rows, columns = ("rows", 11), ("columns", 13)
    turn = transpose_between(Layout(((rows,), (columns,))), Layout(((columns,), (rows,))))
    found = np.concatenate([part.copy() for part in pieces(split, turn, Workspace())])
    assert found.tobytes() == np.ascontiguousarray(value.T).tobytes()
    rows_at_once = [memoryview(bytearray(13 * 4)) for _ in range(4)]
    split.read_rows(rows_at_once, 3 * 13 * 4)
    assert b"".join(rows_at_once) == value[3:7].tobytes()


def test_pieces_may_stand_in_any_order_and_one_piece_is_a_plain_range(tmp_path: Path) -> None:
    value = cp.random_array((5, 2), "float32", 5)
    whole = in_pieces(value, 8)
    whole["chunks"] = dict(reversed(whole["chunks"].items()))
    whole["shape"] = dict(reversed(whole["shape"].items()))
    header = header_of(tmp_path / "a", {"x": whole, "y": in_pieces(value, 100)})
    cp.assert_same(elements(header), {"x": value, "y": value})
    assert [one.is_range for one in header.tensors] == [False, True]


def test_a_state_of_training_gives_its_weights_and_names_the_rest(tmp_path: Path) -> None:
    values = {"bert/a/kernel": np.ones((2, 3), np.float32), "bert/a/bias": np.ones(3, np.float32)}
    moments = prepared(tree_of(values))
    tree = {
        "step": 7, "params": prepared(tree_of(values)), "batch_stats": {}, "loss": 0.5, "name": "é", "none": None,
        "opt_state": {"0": {"count": msgpack.ExtType(3, payload(np.int32(3)[None][0])), "mu": moments, "nu": moments}},
        "list": [1, {"a": array(np.zeros(1, np.float32))}, b"raw", True, msgpack.ExtType(2, msgpack.packb([1.0, 2.0]))],
    }  # fmt: skip
    header = header_of(tmp_path / "a", tree)
    cp.assert_same(elements(header), {f"params/{name}": value for name, value in values.items()})
    assert header.notes == ("beside params, left out: list, loss, name, none, opt_state, step",)
    assert {"step", "loss", "opt_state.0.count", "opt_state.0.mu.bert.a.bias", "list.1.a", "list.4"} <= set(
        header.others
    )
    assert header.beside == ("opt_state.0.mu.bert.a.kernel", "opt_state.0.nu.bert.a.kernel")


@pytest.mark.parametrize("end", [1, 2, 3, 10, 50, 200, 5000])
def test_a_file_that_ends_early_is_damaged_wherever_it_ends(end: int, tmp_path: Path) -> None:
    data = flax_bytes(tensors())
    with pytest.raises(DamagedCheckpoint):
        read_header(opened(tmp_path / "a", data[:-end]))


def test_what_begins_like_a_map_of_names_is_recognised() -> None:
    container = FlaxMsgpack()
    assert container.recognises(flax_bytes(tensors())[:512], 1000)
    assert container.recognises(b"\xde\x00\x10\xd9\x40" + b"k" * 64 + b"\x80", 1000)
    others = (
        b"", b"\x80", b"\x80\x02}q\x00", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x81\x01\x02", b"\x81\xa1\x00\xc0",
        b"\x81\xa3ab", b"\x81\xa1a", b"\x81\xa1a\xc1", b"\x81\xa0\xc0", b"\xde\x00", b"\xdf\0\0\0\1\xa1a\xc0",
    )  # fmt: skip
    assert not any(container.recognises(start, 1000) for start in others)


def test_an_index_has_slashes() -> None:
    assert FlaxMsgpack().in_index("bert.layer.0.kernel") == "bert/layer/0/kernel"
