"""The elements of a stored tensor, piece by piece, in its own order or transposed, in bounded memory.

Everything that touches weights goes through here: the writer, the check after it and the digests. Elements are moved
as unsigned integers of their width, so that a NaN keeps its payload and bfloat16 needs no special type.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from bertconv.containers.stored import ITEM_SIZE, StoredTensor

Elements = np.ndarray[tuple[int, ...], np.dtype[Any]]
"""Elements as unsigned integers of their width."""

Transpose = tuple[int, int] | None
"""Rows and columns of the matrix as it is stored, when its elements are wanted column by column; None: as stored."""

PIECE = 1 << 20
"""Bytes of a piece in stored order: small enough for a processor's cache."""
PANEL = 16 << 20
"""Bytes of a piece of a transposed tensor, and so of the largest matrix that is transposed in one go."""
ROWS = 64
"""Rows that are transposed at a time."""
PAD = 64
"""Bytes between the rows of the scratch: without them rows 4096 bytes apart fall on the same cache sets."""


class Workspace:
    """Buffers that one thread reuses; what `pieces` yields is valid until the next piece."""

    def __init__(self) -> None:
        self._panel = np.empty(0, np.uint8)
        self._scratch = np.empty(0, np.uint8)

    @cached_property
    def twin(self) -> Workspace:
        """A second set, for reading two tensors side by side."""
        return Workspace()

    def panel(self, count: int, item: int) -> Elements:
        """Room for `count` elements."""
        if self._panel.nbytes < count * item:
            self._panel = np.empty(count * item, np.uint8)
        return self._panel[: count * item].view(f"u{item}")

    def scratch(self, rows: int, columns: int, item: int) -> Elements:
        """Room for a matrix whose rows are padded."""
        width = -(-columns * item // PAD) * PAD + PAD
        if self._scratch.nbytes < rows * width:
            self._scratch = np.empty(rows * width, np.uint8)
        padded: Elements = self._scratch[: rows * width].view(f"u{item}").reshape(rows, width // item)
        return padded[:, :columns]


def piece_size(tensor: StoredTensor, transpose: Transpose) -> int:
    """Elements per piece: a transposed tensor comes in whole rows of its target."""
    item = ITEM_SIZE[tensor.dtype]
    if transpose is None:
        return max(PIECE // item, 1)
    rows, columns = transpose
    return rows * min(columns, max(PANEL // (rows * item), 1))


def pieces(tensor: StoredTensor, transpose: Transpose, workspace: Workspace, size: int = 0) -> Iterator[Elements]:
    """The elements in target order, `size` at a time (by default `piece_size`), as flat arrays of unsigned integers.

    Args:
        tensor: what to read.
        transpose: rows and columns of the stored matrix when its columns are to become rows.
        workspace: buffers; an array is overwritten by the next one.
        size: elements per piece; for a transposed tensor a multiple of its number of rows.

    Raises:
        DamagedCheckpoint: the file ends too early or cannot be read.
    """
    if tensor.count == 0:
        return
    size = size or piece_size(tensor, transpose)
    if tensor.strides is not None:
        yield from _strided(tensor, transpose, size)
    elif transpose is None:
        item = ITEM_SIZE[tensor.dtype]
        for start in range(0, tensor.count, size):
            flat = workspace.panel(min(size, tensor.count - start), item)
            tensor.file.read_into(flat.data.cast("B"), tensor.offset + start * item, tensor.name)
            yield flat
    else:
        yield from _transposed(tensor, transpose, workspace, size)


def _transposed(
    tensor: StoredTensor, transpose: tuple[int, int], workspace: Workspace, size: int
) -> Iterator[Elements]:
    rows, columns = transpose
    item = ITEM_SIZE[tensor.dtype]
    width = size // rows
    for left in range(0, columns, width):
        right = min(left + width, columns)
        flat = workspace.panel((right - left) * rows, item)
        target = flat.reshape(right - left, rows)
        height = min(ROWS, max(PANEL // 4 // ((right - left) * item), 1))
        for top in range(0, rows, height):
            block = workspace.scratch(min(height, rows - top), right - left, item)
            _read_block(tensor, block, (top * columns + left) * item, columns * item)
            target[:, top : top + len(block)] = block.T
        yield flat


def _read_block(tensor: StoredTensor, block: Elements, start: int, stride: int) -> None:
    """Fill a block's rows from a matrix in a file; `start` and the distance of rows, `stride`, are in bytes."""
    rows = [row.data.cast("B") for row in block]
    if len(rows[0]) == stride:
        tensor.file.read_rows(rows, tensor.offset + start, tensor.name)
        return
    for number, row in enumerate(rows):
        tensor.file.read_into(row, tensor.offset + start + number * stride, tensor.name)


def _strided(tensor: StoredTensor, transpose: Transpose, size: int) -> Iterator[Elements]:
    """A view with strides of its own: rare, and read whole."""
    strides = tensor.strides or ()
    item = ITEM_SIZE[tensor.dtype]
    extent = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, strides, strict=True))
    storage = np.empty(extent, f"u{item}")
    tensor.file.read_into(storage.data.cast("B"), tensor.offset, tensor.name)
    view = np.lib.stride_tricks.as_strided(storage, tensor.shape, tuple(stride * item for stride in strides))
    flat = np.ascontiguousarray(view).reshape(-1)
    if transpose is not None:
        flat = np.ascontiguousarray(flat.reshape(transpose).T).reshape(-1)
    for start in range(0, tensor.count, size):
        yield flat[start : start + size]


def cast(elements: Elements, source: str, target: str) -> Elements:
    """Numbers of one floating-point type as another, rounded to nearest even; the array itself where they are equal."""
    if source == target:
        return elements
    with np.errstate(over="ignore", invalid="ignore"):
        cast_to: Elements = as_floats(elements, source).astype(_float_type(target)).view(f"u{ITEM_SIZE[target]}")
    return cast_to


def as_floats(elements: Elements, dtype: str) -> Elements:
    """The same bytes as floating-point numbers."""
    return elements.view(_float_type(dtype))


def not_finite(elements: Elements, dtype: str) -> int:
    """How many of the numbers are NaN or infinite: their exponent bits are all ones."""
    if dtype in ("float32", "float64"):
        with np.errstate(all="ignore"):
            if np.isfinite(np.add.reduce(as_floats(elements, dtype))):  # one pass instead of three, and nearly always
                return 0
    exponent = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x1F << 10, "bfloat16": 0xFF << 7}[dtype]
    mask = elements.dtype.type(exponent)
    return int(np.count_nonzero((elements & mask) == mask))


def _float_type(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    found: np.dtype[Any] = np.dtype(dtype)
    return found
