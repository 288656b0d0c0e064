"""Indexes of tensor bundles, with TensorFlow's view of what is accepted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bertconv.containers.bundle import entries as wire
from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.constants import MAGIC
from bertconv.containers.bundle.entries import BundleEntry
from bertconv.containers.bundle.graph import GRAPH_KEY, VARIABLE, graph_bytes
from bertconv.containers.bundle.reader import read_bundle
from bertconv.containers.bundle.slices import slice_key
from bertconv.containers.bundle.table import write_table
from bertconv.containers.bundle.texts import write_text
from bertconv.containers.container import Links
from bertconv.containers.protobuf import varint, write_bytes, write_number
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError, DamagedCheckpoint
from qa.fuzz.mutations import Seed
from qa.fuzz.targets.common import Target, differ

_MARK = b"\xfe\xfd\xfe"
_DATA = "m.data-00000-of-00001"
_TOKENS = (
    b"\0", b"\1", b"\x7f", b"\x80\1", b"\xff" * 9 + b"\1", b"\xff" * 10, b"\x08\1", b"\x12\0", b"\x3a\0", b"\x30\0",
    b"\x10\1", b"_CHECKPOINTABLE_OBJECT_GRAPH", b"a/kernel", b"..", b"\x1b[2J", b"\xc3\xa9", b"\0\0a\0\1",
    b"\x12\4\x12\2\x08\3", b"\xfe", b"a", b"/", b"_1",
)  # fmt: skip
"""Numbers, fields and keys."""


def bundle_indexes() -> Target:
    import tensorflow as tf  # before the limits of a run begin

    with suppress(RuntimeError):  # its threads are there already: a process that used TensorFlow before
        tf.config.threading.set_inter_op_parallelism_threads(1)

    data, plain, graph, sliced = _sound()
    folder = Path(tempfile.mkdtemp(prefix="bundle-fuzz-"))
    (folder / _DATA).write_bytes(data)
    blocks = [Seed(_pieces(rows), partial(_table_of, rows[-1][0])) for rows in (plain, graph, sliced)]
    files = [Seed(_cut(write_table(rows))) for rows in (plain, graph, sliced)]
    tables = [Seed(_apart(rows), _table) for rows in (plain, graph, sliced)]
    read, agrees = partial(_read, folder), partial(_agrees, folder)
    return Target("bundle", (*blocks, *tables, *tables, *files), _TOKENS, read, agrees, inside=True)


Rows = list[tuple[bytes, bytes]]


def _sound() -> tuple[bytes, Rows, Rows, Rows]:
    """One file of tensors, and the keys and values of three indexes of it."""
    data = bytearray()

    def put(code: int, shape: tuple[int, ...], content: bytes) -> bytes:
        data.extend(content)
        entry = BundleEntry(code, shape, 0, len(data) - len(content), len(content), masked([content]))
        return wire.entry_bytes(entry)

    numbers = bytes(number * 37 % 251 for number in range(400))
    kernel, bias, half = put(1, (3, 4), numbers[:48]), put(1, (4,), numbers[48:64]), put(14, (5, 1), numbers[64:74])
    step, empty, name = put(9, (), numbers[80:88]), put(1, (0, 2), b""), wire.entry_bytes(_text(data, b"a text"))
    objects = wire.entry_bytes(_text(data, graph_bytes(["a/kernel", "a/bias"], Links())))
    top, rest = put(1, (2, 3), numbers[100:124]), put(1, (1, 3), numbers[124:136])
    extents = [((0, 2), (0, None)), ((2, 1), (0, None))]
    cut = write_number(1, 1) + write_bytes(2, b"".join(write_bytes(2, write_number(1, size)) for size in (3, 3)))
    cut += b"".join(write_bytes(7, b"".join(map(_extent, one))) for one in extents)
    head = (wire.HEADER_KEY, wire.header_bytes(1))
    plain = [head, (b"a/bias", bias), (b"a/kernel", kernel), (b"b", half), (b"e", empty), (b"n", name), (b"step", step)]
    end = VARIABLE.encode()
    graph = [head, (GRAPH_KEY.encode(), objects), (b"a/bias" + end, bias), (b"a/kernel" + end, kernel)]
    sliced = [
        head,
        *((slice_key(b"v", one), value) for one, value in zip(extents, (top, rest), strict=True)),
        (b"v", cut),
    ]
    return bytes(data), plain, graph, sliced


def _text(data: bytearray, value: bytes) -> BundleEntry:
    raw, entry = write_text(value, 0, len(data))
    data.extend(raw)
    return entry


def _extent(extent: tuple[int, int | None]) -> bytes:
    start, length = extent
    return write_bytes(1, write_number(1, start) + (b"" if length is None else write_number(2, length)))


def _pieces(rows: Rows) -> tuple[bytes, ...]:
    """A block without shared parts of keys, cut between numbers, keys and values."""
    found: list[bytes] = []
    for key, value in rows:
        found += [b"\0", varint(len(key)), varint(len(value)), key, *_cut(value, 3)]
    return (*found, bytes(4), (1).to_bytes(4, "little"))


def _apart(rows: Rows) -> tuple[bytes, ...]:
    """Keys and values with marks between them, which no field of these seeds has."""
    return tuple(piece for key, value in rows for piece in (key, _MARK, *_cut(value, 4), _MARK))


def _table(body: bytes) -> bytes:
    """A table of what stands between marks, in order and each key once: only what it says may be wrong."""
    parts = body.split(_MARK)
    return write_table(sorted(dict(zip(parts[::2], parts[1::2], strict=False)).items()))


def _cut(data: bytes, size: int = 16) -> tuple[bytes, ...]:
    return tuple(data[start : start + size] for start in range(0, len(data), size))


def _table_of(last: bytes, block: bytes) -> bytes:
    """A table of one block, its checksum and place right whatever the block says."""

    def packed(content: bytes) -> bytes:
        return content + b"\0" + masked([content, b"\0"]).to_bytes(4, "little")

    nothing = bytes(4) + (1).to_bytes(4, "little")
    handle = varint(0) + varint(len(block))
    index = b"\0" + varint(len(last) + 1) + varint(len(handle)) + last + b"\xff" + handle + nothing
    meta = len(block) + 5
    places = varint(meta) + varint(len(nothing)) + varint(meta + len(nothing) + 5) + varint(len(index))
    return packed(block) + packed(nothing) + packed(index) + places.ljust(40, b"\0") + MAGIC


def _read(folder: Path, path: Path) -> tuple[Header, Mapping[str, bytes]]:
    """What we see, with the bytes of every tensor."""
    try:
        with closing(SourceFile(path)) as index:
            spread = read_bundle(index, "m")
        if spread.files != (_DATA,):
            raise DamagedCheckpoint("names other files.", hint="They are not here.", file=str(path))
        with closing(SourceFile(folder / _DATA)) as file:
            header = spread.read([file], check_data=True)
            return header, {one.name: _elements(one) for one in header.tensors}
    except BertconvError as error:
        error.file = str(path) if error.file == str(folder / _DATA) else error.file
        raise


def _elements(tensor: StoredTensor) -> bytes:
    buffer = bytearray(tensor.nbytes)
    tensor.read_into(memoryview(buffer), 0)
    return bytes(buffer)


def _agrees(folder: Path, data: bytes, found: tuple[Header, Mapping[str, bytes]]) -> str:
    """Names, element types, shapes and bytes as TensorFlow has them."""
    import tensorflow as tf

    header, content = found
    (folder / "m.index").write_bytes(data)
    reader: Any = tf.train.load_checkpoint(str(folder / "m"))
    shapes = reader.get_variable_to_shape_map()
    ours = {_key(one.name, shapes): (one.dtype, one.shape, content[one.name]) for one in header.tensors}
    if strange := shapes.keys() - ours.keys() - {*header.others, GRAPH_KEY}:
        return f"TensorFlow sees {sorted(strange)[:5]!r} too"
    arrays = {key: reader.get_tensor(key) for key in ours}
    return differ(ours, {key: (_name(one), one.shape, one.tobytes()) for key, one in arrays.items()}, "TensorFlow")


def _key(name: str, known: Mapping[str, object]) -> str:
    return name if name in known else name + VARIABLE


def _name(array: Any) -> str:
    return str(np.dtype(array.dtype).name if array.dtype != ml_dtypes.bfloat16 else "bfloat16")
