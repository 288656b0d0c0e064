"""The elements of a stored tensor, piece by piece, in its own order or another, in bounded memory.

Everything that touches weights goes through here: the writer, the check after it and the digests. Elements are moved
as unsigned integers of their width, so that a NaN keeps its payload and bfloat16 needs no special type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bertconv.containers.stored import ITEM_SIZE, StoredTensor
from bertconv.errors import ParityError
from bertconv.formats.casting import convert, float_type
from bertconv.mapping.layout import Transpose

if TYPE_CHECKING:
    from bertconv.formats.content import Tally

Elements = np.ndarray[tuple[int, ...], np.dtype[Any]]
"""Elements as unsigned integers of their width."""

PIECE = 1 << 20
"""Bytes of a piece in stored order: small enough for a processor's cache."""
PANEL = 16 << 20
"""Bytes of a piece of a transposed tensor, and so of the largest matrix that is transposed in one go."""
ROWS = 64
"""Rows that are transposed at a time."""
RUN = 4096
"""Bytes below which a run of a file is read together with what lies between it and the next."""
PAD = 64
"""Bytes between the rows of the scratch: without them rows 4096 bytes apart fall on the same cache sets."""


AsRead = Callable[[Elements, int, int], None]
"""Called with rows of a matrix as they are read, and which row and column of it the first one begins with."""


class Workspace:
    """Buffers that one thread reuses; what `pieces` yields is valid until the next piece.

    Args:
        limit: most bytes of a piece, where many tensors are read side by side; None stands for PANEL.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = PANEL if limit is None else limit
        self._panel = np.empty(0, np.uint8)
        self._scratch = np.empty(0, np.uint8)
        self._side_by_side: tuple[Workspace, ...] = ()

    @cached_property
    def second(self) -> Workspace:
        """A second set, for reading two tensors side by side."""
        return Workspace()

    def several(self, count: int, limit: int) -> tuple[Workspace, ...]:
        """Sets for reading so many tensors side by side, the same ones the next time; `limit` as for a new one."""
        if len(self._side_by_side) != count:
            self._side_by_side = tuple(Workspace(limit) for _ in range(count))
        return self._side_by_side

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


def pieces(
    tensor: StoredTensor, transpose: Transpose | None, workspace: Workspace, as_read: AsRead | None = None
) -> Iterator[Elements]:
    """The elements in target order as flat arrays of unsigned integers, each of PIECE bytes or of PANEL at most.

    The workspace may have another limit. A matrix whose columns are longer than that comes column by column.

    Args:
        tensor: what to read.
        transpose: how its elements change order; None: as stored.
        workspace: buffers; an array is overwritten by the next one.
        as_read: called with the rows of a matrix that is transposed, in the order in which they are stored within every
            panel (`panel_columns`).

    Raises:
        DamagedCheckpoint: the file ends too early or cannot be read.
    """
    if tensor.count == 0:
        return
    turn = transpose.reduced if transpose else None
    if tensor.strides is not None:
        yield from _strided(tensor, turn, as_read)
    elif turn is None:
        yield from _as_stored(tensor, workspace)
    elif len(turn.shape) == 2:
        yield from _transposed(tensor, turn, workspace, as_read)
    else:
        yield from _permuted(tensor, turn, workspace)


def lockstep(*streams: Iterator[Elements], most: int | None = None) -> Iterator[tuple[Elements, ...]]:
    """Streams of equally many elements, cut into slices of equal length: of `most` elements at most, or PIECE.

    Raises:
        ParityError: they do not end together.
    """
    nothing = np.empty(0, np.uint8)
    left: list[Elements] = [nothing for _ in streams]
    while True:
        left = [part if part.size else next(stream, nothing) for part, stream in zip(left, streams, strict=True)]
        length = min(most or PIECE, *(part.size for part in left))
        if length == 0:
            break
        yield tuple(part[:length] for part in left)
        left = [part[length:] for part in left]
    if any(part.size for part in left):
        raise ParityError("tensors that belong together have different lengths.", hint="This is a bug: report it.")


def reordered(values: Elements, transpose: Transpose | None) -> Elements:
    """Elements that are in memory, flat and in target order; the array itself where the order stays."""
    if transpose is None:
        return values.reshape(-1)
    return np.ascontiguousarray(values.reshape(transpose.shape).transpose(transpose.order)).reshape(-1)


def _as_stored(tensor: StoredTensor, workspace: Workspace) -> Iterator[Elements]:
    item = ITEM_SIZE[tensor.dtype]
    size = max(min(PIECE, workspace.limit) // item, 1)
    for start in range(0, tensor.count, size):
        flat = workspace.panel(min(size, tensor.count - start), item)
        tensor.read_into(flat.data.cast("B"), start * item)
        yield flat


def panel_columns(turn: Transpose, item: int, limit: int | None = None) -> int:
    """How many columns of a matrix that is transposed are read at a time; `item` is the size of an element."""
    rows, columns = turn.shape
    return min(columns, max((PANEL if limit is None else limit) // (rows * item), 1))


def _transposed(
    tensor: StoredTensor, turn: Transpose, workspace: Workspace, as_read: AsRead | None
) -> Iterator[Elements]:
    """The columns of a matrix, as many at a time as a panel holds."""
    rows, columns = turn.shape
    item = ITEM_SIZE[tensor.dtype]
    width = panel_columns(turn, item, workspace.limit)
    for left in range(0, columns, width):
        right = min(left + width, columns)
        flat = workspace.panel((right - left) * rows, item)
        target = flat.reshape(right - left, rows)
        height = min(ROWS, max(workspace.limit // 4 // ((right - left) * item), 1))
        for top in range(0, rows, height):
            block = workspace.scratch(min(height, rows - top), right - left, item)
            _read_block(tensor, block, (top * columns + left) * item, columns * item)
            if as_read is not None:
                as_read(block, top, left)
            target[:, top : top + len(block)] = block.T
        yield flat


def _read_block(tensor: StoredTensor, block: Elements, start: int, stride: int) -> None:
    """Fill a block's rows from a matrix in a file; `start` and the distance of rows, `stride`, are in bytes."""
    rows = [row.data.cast("B") for row in block]
    if len(rows[0]) == stride:
        tensor.read_rows(rows, start)
        return
    for number, row in enumerate(rows):
        tensor.read_into(row, start + number * stride)


def _permuted(tensor: StoredTensor, turn: Transpose, workspace: Workspace) -> Iterator[Elements]:
    """Axes in any other order: box by box of the target, as large as a panel."""
    item = ITEM_SIZE[tensor.dtype]
    back = turn.inverse.order
    for box in _boxes(turn.result, max(workspace.limit // item, 1)):
        flat = workspace.panel(math.prod(map(len, box)), item)
        as_read = flat.reshape([len(side) for side in box]).transpose(back)
        _read_box(tensor, turn.shape, [box[axis] for axis in back], as_read, workspace)
        yield flat


def _boxes(shape: tuple[int, ...], most: int) -> Iterator[list[range]]:
    """Boxes of at most so many elements that follow each other in memory and fill the shape."""
    axis = next(number for number in range(len(shape)) if math.prod(shape[number + 1 :]) <= most)
    width = max(most // math.prod(shape[axis + 1 :]), 1)
    whole = [range(size) for size in shape[axis + 1 :]]
    for outer in product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], width):
            yield [*(range(one, one + 1) for one in outer), range(start, min(start + width, shape[axis])), *whole]


def _read_box(
    tensor: StoredTensor, shape: tuple[int, ...], box: list[range], into: Elements, workspace: Workspace
) -> None:
    """Fill an array with a box of a stored tensor, in runs as long as the scratch allows.

    Axes within the axis of a run are read whole: short runs are read together with what lies between them.
    """
    item, limit = ITEM_SIZE[tensor.dtype], workspace.limit // 4
    axis, inner = len(shape) - 1, 1
    while axis and inner * shape[axis] * item <= limit:
        if len(box[axis]) < shape[axis] and len(box[axis]) * inner * item >= RUN:
            break
        inner *= shape[axis]
        axis -= 1
    side, within = box[axis], tuple(slice(part.start, part.stop) for part in box[axis + 1 :])
    step = max(limit // (inner * item), 1)
    for outer in product(*box[:axis]):
        start = 0
        for size, index in zip(shape, (*outer, 0), strict=False):
            start = start * size + index
        corner = tuple(index - part.start for index, part in zip(outer, box, strict=False))
        for first in range(side.start, side.stop, step):
            last = min(first + step, side.stop)
            run = workspace.scratch(1, (last - first) * inner, item)[0]
            tensor.read_into(run.data.cast("B"), (start + first) * inner * item)
            block = run.reshape(last - first, *shape[axis + 1 :])[(slice(None), *within)]
            into[corner][first - side.start : last - side.start] = block


def _strided(tensor: StoredTensor, turn: Transpose | None, as_read: AsRead | None) -> Iterator[Elements]:
    """A view with strides of its own: rare, and read whole."""
    strides = tensor.strides or ()
    item = ITEM_SIZE[tensor.dtype]
    extent = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, strides, strict=True))
    storage = np.empty(extent, f"u{item}")
    tensor.file.read_into(storage.data.cast("B"), tensor.offset, tensor.name)
    view = np.lib.stride_tricks.as_strided(storage, tensor.shape, tuple(stride * item for stride in strides))
    whole = np.ascontiguousarray(view)
    if turn is not None and len(turn.shape) == 2 and as_read is not None:
        as_read(whole.reshape(turn.shape), 0, 0)
    flat = reordered(whole, turn)
    size = max((PANEL if turn else PIECE) // item, 1)
    for start in range(0, tensor.count, size):
        yield flat[start : start + size]


def cast(elements: Elements, source: str, target: str, tally: Tally | None = None) -> Elements:
    """Numbers of one floating-point type as another, rounded once to nearest even; as they are if it is one.

    Args:
        elements: the numbers.
        source: their type.
        target: the other type.
        tally: counts what changes; only of flat elements.
    """
    return elements if source == target else convert(elements, source, target, tally)


def as_floats(elements: Elements, dtype: str) -> Elements:
    """The same bytes as floating-point numbers."""
    return elements.view(float_type(dtype))


def not_finite(elements: Elements, dtype: str) -> int:
    """How many of the numbers are NaN or infinite: their exponent bits are all ones."""
    if dtype in ("float32", "float64"):
        with np.errstate(all="ignore"):
            if np.isfinite(np.add.reduce(as_floats(elements, dtype))):  # one pass instead of three, and nearly always
                return 0
    exponent = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x1F << 10, "bfloat16": 0xFF << 7}[dtype]
    mask = elements.dtype.type(exponent)
    exponents = elements & mask
    if exponents.max(initial=0) != mask:  # half the time of counting, and nearly always
        return 0
    return int(np.count_nonzero(exponents == mask))
