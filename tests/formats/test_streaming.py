"""Elements piece by piece against numpy: every shape, every stride, every transpose, whatever the size of a piece."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
from checkpoints import SourceFile
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.errors import DamagedCheckpoint
from bertconv.formats import streaming
from bertconv.formats.streaming import Workspace, cast, not_finite, pieces, reordered
from bertconv.mapping.layout import Transpose

DTYPES = ("float64", "float32", "float16", "bfloat16", "int8")
SIZES = ("PIECE", "PANEL", "ROWS")
MATRIX = Transpose.of_matrix
BOUNDED = settings(max_examples=150, deadline=None)


@contextmanager
def file_of(content: bytes) -> Iterator[SourceFile]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        path.write_bytes(content)
        file = cp.open_file(path)
        try:
            yield file
        finally:
            file.close()


@contextmanager
def small_pieces(*sizes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(SIZES, sizes, strict=True):
            patch.setattr(streaming, name, size)
        yield


def joined(stream: Iterator[np.ndarray]) -> bytes:
    """A piece is valid until the next one, so each is copied at once."""
    return b"".join([piece.tobytes() for piece in stream])


def random_bits(dtype: str, count: int, seed: int) -> np.ndarray:
    item = cp.numpy_type(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(count * item), f"u{item}")


some_sizes = st.tuples(st.integers(1, 200), st.integers(1, 400), st.integers(1, 9))


@BOUNDED
@given(
    dtype=st.sampled_from(DTYPES), rows=st.integers(1, 23), columns=st.integers(1, 23), offset=st.integers(0, 9),
    turned=st.booleans(), sizes=some_sizes, seed=st.integers(0, 999),
)  # fmt: skip
def test_matrices(
    dtype: str, rows: int, columns: int, offset: int, turned: bool, sizes: tuple[int, ...], seed: int
) -> None:
    matrix = random_bits(dtype, rows * columns, seed).reshape(rows, columns)
    with file_of(b"x" * offset + matrix.tobytes() + b"y" * 7) as file, small_pieces(*sizes):
        tensor = cp.stored(file, dtype, (rows, columns), offset)
        found = joined(pieces(tensor, MATRIX(rows, columns) if turned else None, Workspace()))
    assert found == (matrix.T if turned else matrix).tobytes()


@BOUNDED
@given(
    dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 7), max_size=4).map(tuple), data=st.data(),
    sizes=some_sizes,
)  # fmt: skip
def test_any_shape_as_a_matrix(dtype: str, shape: tuple[int, ...], data: st.DataObject, sizes: tuple[int, ...]) -> None:
    """Axes may be split anywhere into the rows and columns of one transpose."""
    cut = data.draw(st.integers(0, len(shape)))
    rows, columns = int(np.prod(shape[:cut])), int(np.prod(shape[cut:]))
    values = random_bits(dtype, rows * columns, 1)
    with file_of(values.tobytes()) as file, small_pieces(*sizes):
        found = joined(pieces(cp.stored(file, dtype, shape), MATRIX(rows, columns), Workspace()))
    assert found == values.reshape(rows, columns).T.tobytes()


@BOUNDED
@given(
    dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(1, 7), min_size=2, max_size=5).map(tuple), data=st.data(),
    sizes=some_sizes, run=st.integers(1, 60), offset=st.integers(0, 9),
)  # fmt: skip
def test_any_order_of_the_axes(
    dtype: str, shape: tuple[int, ...], data: st.DataObject, sizes: tuple[int, ...], run: int, offset: int
) -> None:
    """As numpy's transpose, in pieces of any size, short runs of the file read one by one or together."""
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    values = random_bits(dtype, int(np.prod(shape)), 1).reshape(shape)
    turn = Transpose(shape, order)
    with file_of(b"x" * offset + values.tobytes()) as file, small_pieces(*sizes), pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "RUN", run)
        tensor = cp.stored(file, dtype, (values.size,), offset)
        found = [piece.copy() for piece in pieces(tensor, turn, Workspace())]
    assert np.array_equal(np.concatenate(found), values.transpose(order).reshape(-1))
    assert np.array_equal(reordered(values.reshape(-1), turn), values.transpose(order).reshape(-1))
    if turn.reduced and len(turn.reduced.shape) > 2:
        assert max(piece.nbytes for piece in found) <= max(sizes[1], values.itemsize)


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_what_is_read_at_once_is_small(order: tuple[int, ...]) -> None:
    values = random_bits("float32", 16 * 24 * 40, 3).reshape(16, 24, 40)
    turn = Transpose(values.shape, order)
    with file_of(values.tobytes()) as file, small_pieces(512, 2048, 8):
        workspace, read = Workspace(), []
        with pytest.MonkeyPatch.context() as patch:
            plain = file.read_into
            patch.setattr(type(file), "read_into", lambda _, view, *rest: (read.append(len(view)), plain(view, *rest)))
            found = [piece.nbytes for piece in pieces(cp.stored(file, "float32", values.shape), turn, workspace)]
    assert sum(found) == values.nbytes
    assert max(found) <= 2048
    assert max(read) <= 512


@BOUNDED
@given(
    dtype=st.sampled_from(DTYPES), data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    sizes=some_sizes, turned=st.booleans(),
)  # fmt: skip
def test_any_strides(
    dtype: str, data: st.DataObject, shape: tuple[int, ...], sizes: tuple[int, ...], turned: bool
) -> None:
    strides = tuple(data.draw(st.integers(0, 40)) for _ in shape)
    start = data.draw(st.integers(0, 5))
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    storage = random_bits(dtype, start + extent, 2)
    item = storage.itemsize
    view = np.lib.stride_tricks.as_strided(storage[start:], shape, [stride * item for stride in strides])
    rows, columns = shape[0], int(np.prod(shape[1:]))
    with file_of(storage.tobytes()) as file, small_pieces(*sizes):
        tensor = cp.stored(file, dtype, shape, start * item, strides)
        found = joined(pieces(tensor, MATRIX(rows, columns) if turned else None, Workspace()))
    flat = np.ascontiguousarray(view).reshape(rows, columns)
    assert found == (flat.T if turned else flat).tobytes()


@pytest.mark.parametrize("turned", [False, True])
def test_pieces_are_small(turned: bool) -> None:
    """Memory does not grow with the tensor: a piece has at most as many bytes as the limit says."""
    matrix = random_bits("float32", 64 * 48, 3).reshape(64, 48)
    with file_of(matrix.tobytes()) as file, small_pieces(512, 2048, 8):
        found = [
            piece.nbytes
            for piece in pieces(cp.stored(file, "float32", (64, 48)), MATRIX(64, 48) if turned else None, Workspace())
        ]
    assert sum(found) == matrix.nbytes
    assert max(found) <= (2048 if turned else 512)


def test_one_workspace_for_tensors_of_every_kind() -> None:
    workspace = Workspace()
    for number, (dtype, rows, columns) in enumerate(
        [("int8", 3, 5), ("float64", 40, 7), ("bfloat16", 9, 300), ("float32", 1, 1)]
    ):
        matrix = random_bits(dtype, rows * columns, number).reshape(rows, columns)
        with file_of(matrix.tobytes()) as file, small_pieces(64, 256, 4):
            tensor = cp.stored(file, dtype, (rows, columns))
            assert joined(pieces(tensor, MATRIX(rows, columns), workspace)) == matrix.T.tobytes()
            assert joined(pieces(tensor, None, workspace)) == matrix.tobytes()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("strides", [None, (48, 1), (1, 64)])
@pytest.mark.parametrize("lacking", [1, 100, 64 * 48 * 4])
def test_short_files_name_the_tensor(turned: bool, strides: tuple[int, ...] | None, lacking: int) -> None:
    with file_of(b"x" * (64 * 48 * 4 - lacking)) as file, small_pieces(512, 2048, 8):
        tensor = cp.stored(file, "float32", (64, 48), 0, strides)
        with pytest.raises(DamagedCheckpoint) as caught:
            joined(pieces(tensor, MATRIX(64, 48) if turned else None, Workspace()))
    assert caught.value.tensor == "the.tensor"
    assert caught.value.file == str(file.path)
    assert "too early" in caught.value.message


def test_file_that_is_truncated_while_it_is_read() -> None:
    with file_of(b"x" * 4096) as file, small_pieces(512, 2048, 8):
        stream = pieces(cp.stored(file, "float32", (1024,)), None, Workspace())
        next(stream)
        file.path.write_bytes(b"x" * 700)
        with pytest.raises(DamagedCheckpoint, match="too early"):
            joined(stream)


# Numbers


def patterns(dtype: str) -> np.ndarray:
    """Every pattern of a 16-bit type; random ones and special ones of a wider type."""
    item = cp.numpy_type(dtype).itemsize
    if item == 2:
        return np.arange(2**16, dtype=np.uint16)
    info = np.finfo(dtype)
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, info.tiny / 8, 65504, 65519.99, 65520, 1.0],
        dtype,
    )
    return np.concatenate([special.view(f"u{item}"), random_bits(dtype, 50_000, 4)])


@pytest.mark.parametrize("dtype", cp.FLOATS)
def test_not_finite(dtype: str) -> None:
    bits = patterns(dtype)
    with np.errstate(all="ignore"):
        expected = np.count_nonzero(~np.isfinite(bits.view(cp.numpy_type(dtype)).astype(np.float64)))
    assert not_finite(bits, dtype) == expected > 0
    assert not_finite(bits[:0], dtype) == 0


@pytest.mark.parametrize("source", cp.FLOATS)
@pytest.mark.parametrize("target", cp.FLOATS)
def test_cast(source: str, target: str) -> None:
    bits = patterns(source)
    found = cast(bits, source, target)
    with np.errstate(all="ignore"):
        expected = bits.view(cp.numpy_type(source)).astype(cp.numpy_type(target))
    assert found.dtype == np.dtype(f"u{expected.itemsize}")
    assert found.tobytes() == (bits if source == target else expected).tobytes()


@pytest.mark.parametrize(("narrow", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float64")])
def test_wider_and_back_is_the_same(narrow: str, wide: str) -> None:
    bits = patterns(narrow)
    with np.errstate(all="ignore"):
        numbers = bits[~np.isnan(bits.view(cp.numpy_type(narrow)).astype(np.float64))]
    assert np.array_equal(cast(cast(numbers, narrow, wide), wide, narrow), numbers)
