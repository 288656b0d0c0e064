"""Builds torch files, sound and hostile, for the tests; nothing hostile does more than create a canary file."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from bertconv.containers.pytorch.reader import read_torch
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."


def saved(value: object, *, legacy: bool = False, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return stream.getvalue()


def read(path: Path, data: bytes, *, crc: bool = True) -> Header:
    path.write_bytes(data)
    file = SourceFile(path)
    try:
        return read_torch(file, crc=crc)
    finally:
        file.close()


def values(tensor: StoredTensor, data: bytes) -> np.ndarray:
    """The tensor's elements, taken from the file's bytes by offset and strides alone."""
    dtype = np.dtype(getattr(ml_dtypes, tensor.dtype, None) or tensor.dtype)
    steps = tensor.strides
    if steps is None:
        return np.frombuffer(data, dtype, tensor.count, tensor.offset if tensor.count else 0).reshape(tensor.shape)
    reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, steps, strict=True))
    flat = np.frombuffer(data, dtype, reach, tensor.offset)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, [step * dtype.itemsize for step in steps])


def assert_same(header: Header, data: bytes, expected: dict[str, torch.Tensor]) -> None:
    assert [tensor.name for tensor in header.tensors] == list(expected)
    for tensor in header.tensors:
        truth = expected[tensor.name].detach()
        assert tensor.dtype == str(truth.dtype).removeprefix("torch.")
        assert tensor.shape == tuple(truth.shape)
        flat = torch.empty(truth.numel(), dtype=truth.dtype).copy_(truth.reshape(-1))
        truth_bytes = flat.view(torch.uint8).numpy().tobytes()
        assert values(tensor, data).tobytes() == truth_bytes, tensor.name


# Pickles by hand: short names of opcodes, so that a case reads like the disassembly of it.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), integer(count)) + b"Q"


def tensor(key: str = "0", count: int = 4, offset: int = 0, shape: object = (4,), strides: object = (1,)) -> bytes:
    """A call of _rebuild_tensor_v2; `shape` and `strides` may be ready-made bytes."""
    sizes = shape if isinstance(shape, bytes) else group(*map(integer, shape))
    steps = strides if isinstance(strides, bytes) else group(*map(integer, strides))
    hooks = name("collections", "OrderedDict") + b")R"
    arguments = group(storage(key, count), integer(offset), sizes, steps, b"\x89", hooks)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


FOUR = struct.pack("<4f", 1, 2, 3, 4)
GOOD = pickled(mapping(w=tensor()))


@dataclass
class Record:
    """One zip member; every number that the headers repeat can be made to lie."""

    name: str
    data: bytes = b""
    local_name: str | None = None
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    at: int | None = None
    extra: bytes = b""
    attributes: int = 0
    after: bytes = b""


def good_records() -> list[Record]:
    records = [Record("a/data.pkl", GOOD), Record("a/byteorder", b"little"), Record("a/data/0", FOUR)]
    return [*records, Record("a/version", b"3\n")]


def archive(
    records: list[Record], *, prefix: bytes = b"", suffix: bytes = b"", wide: bool = True, **lies: int
) -> bytes:
    """A zip file; `lies` replaces numbers of the end records: count, start, size, count64, start64, size64, at64."""
    body, directory = bytearray(prefix), bytearray()
    for record in records:
        start = len(body)
        crc = zlib.crc32(record.data) if record.crc is None else record.crc
        size = len(record.data) if record.size is None else record.size
        packed = size if record.packed is None else record.packed
        raw, local = record.name.encode(), (record.local_name or record.name).encode()
        local_crc = crc if record.local_crc is None else record.local_crc
        local_size = size if record.local_size is None else record.local_size
        sizes = (local_crc, packed if record.local_size is None else local_size, local_size)
        head = struct.pack("<4s5H3L2H", b"PK\3\4", 20, record.flags, record.method, 0, 0, *sizes, len(local), 0)
        body += head + local + record.data + record.after
        fields = (
            record.flags,
            record.method,
            0,
            0,
            crc,
            packed,
            size,
            len(raw),
            len(record.extra),
            0,
            0,
            0,
            record.attributes,
        )
        at = start if record.at is None else record.at
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *fields, at) + raw + record.extra
    start, size, count = len(body), len(directory), len(records)
    ends = b""
    if wide:
        numbers = (lies.get("count64", count), lies.get("count64", count))
        numbers += (lies.get("size64", size), lies.get("start64", start))
        ends += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *numbers)
        ends += struct.pack("<4sLQL", b"PK\6\7", 0, lies.get("at64", start + size), 1)
    counts = (lies.get("count", count), lies.get("count", count))
    ends += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *counts, lies.get("size", size), lies.get("start", start), 0)
    return bytes(body + directory) + ends + suffix


def zipped(pickle: bytes, data: bytes = FOUR) -> bytes:
    """A zip file of one pickle and one storage."""
    return archive([Record("a/data.pkl", pickle), Record("a/data/0", data), Record("a/version", b"3\n")])


def legacy(pickle: bytes, keys: bytes | None = None, data: bytes = FOUR) -> bytes:
    """A legacy file of one pickle and one storage."""
    listed = pickled(b"](" + text("0") + b"e") if keys is None else keys
    return MAGIC + VERSION + SYSTEM + pickle + listed + struct.pack("<q", len(data) // 4) + data


def check_refused(path: Path, data: bytes, kind: type[BertconvError]) -> BertconvError:
    with pytest.raises(kind) as caught:
        read(path / "x.bin", data)
    assert caught.value.file == str(path / "x.bin")
    assert caught.value.hint
    return caught.value
