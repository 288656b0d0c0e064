"""HDF5 files: by our own reader and by libhdf5 in its child, with h5py's own view of what is accepted."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np

from bertconv.containers.hdf5 import child, process, sandbox
from bertconv.containers.hdf5.classic import read_classic
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.pages import NotClassic
from bertconv.containers.stored import Header, SourceFile
from bertconv.errors import BertconvError
from bertconv.formats.frame import create
from qa.fuzz.mutations import Seed
from qa.fuzz.targets.common import Target, bytes_of, differ, read


def forked(file: SourceFile) -> bytes:
    """What `process.ask` does, by a fork of this process, which has everything imported: a fifth of the time.

    The limits, the walk and what is made of the child's end are the package's own.
    """
    reading, writing = os.pipe()
    number = os.fork()
    if not number:
        code = 1
        try:
            os.close(reading)
            sandbox.confine()
            opened = child.OpenFile(file.fd, file.start, file.size)
            os.write(writing, json.dumps(child.answer(opened)).encode())  # less than a pipe holds
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    return process.checked(file, answer, status)


class OtherVerdictError(Exception):
    """Our own reader and libhdf5 in its child say different things of one file."""


def _read(path: Path) -> Header:
    with mock.patch.object(process, "ask", forked):
        check_same(path)
        return read(path)


def check_same(path: Path) -> str:
    """What our own reader makes of a file: "accepted", "refused" or "left"; then libhdf5 has to make the same of it.

    Raises:
        OtherVerdictError: it does not.
    """
    file = SourceFile(path)
    try:
        ours = _facts(lambda: asdict(read_classic(file)))
        theirs = ours and _facts(lambda: json.loads(forked(file)))
    except NotClassic:
        return "left"
    finally:
        file.close()
    if "error" in ours and "error" in theirs:
        return "refused"
    if ours != theirs:
        raise OtherVerdictError(f"our reader sees {ours}, libhdf5 {theirs}")
    return "accepted"


def _facts(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer as it comes through JSON, an error too."""
    try:
        found = ask()
    except BertconvError as error:
        found = {"error": error.to_json()}
    facts: dict[str, Any] = json.loads(json.dumps(found))
    return facts


def hdf5_files() -> Target:
    """Small files in the layouts of Keras 2 and of `lay_out`, read as the package reads them."""
    child.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        ours, keras, wide = (Path(folder, name) for name in ("ours.h5", "keras.h5", "wide.h5"))
        names = ["bert/pooler/kernel:0", "bert/pooler/bias:0"]
        sets = [Dataset(f"bert/{names[0]}", "float32", (3, 5)), Dataset(f"bert/{names[1]}", "bfloat16", (5,))]
        attributes: dict[str, Any] = {
            "": {"layer_names": ["bert"], "backend": "tensorflow"},
            "bert": {"weight_names": names},
        }
        layout = lay_out(sets, attributes)
        create(ours, layout)
        values = np.arange(15, dtype="<f4") / 8
        with ours.open("r+b") as file:
            parts = (values, (values[:5].view("<u4") >> 16).astype("<u2"))
            for offset, content in zip(layout.offsets, parts, strict=True):
                file.seek(offset)
                file.write(content.tobytes())
        with h5py.File(keras, "w") as root:
            root.attrs["layer_names"], root.attrs["keras_version"] = np.array([b"bert"]), "2.9.0"
            root.create_dataset("bert/x/kernel:0", data=np.arange(12, dtype=np.float16).reshape(3, 4))
            root.create_dataset("bert/x/bias:0", data=np.arange(7, dtype=np.float32))
            root["bert"].attrs["weight_names"] = np.array([b"x/kernel:0", b"x/bias:0"])
        with h5py.File(wide, "w") as root:  # a tree of two levels, gaps in its heap, and a header that is continued
            data = root.create_dataset("kernel:0", data=np.arange(3, dtype=np.float64))
            for number in range(150):
                root[f"name {number * 37 % 150}"] = data
            del root["name 7"], root["name 99"]
            root.attrs["note"] = "of any length"
            for number in range(20):
                data.attrs[f"attribute {number}"] = np.bytes_(b"x" * 100)
        files = [path.read_bytes() for path in (ours, keras, wide)]
    seeds = [Seed(pieces_of(file), with_its_end) for file in files]
    return Target("hdf5", tuple(seeds), TOKENS, _read, _agrees, forked=True)


TOKENS = (
    b"TREE", b"HEAP", b"SNOD", b"GCOL", b"OHDR", b"FRHP", bytes(8), b"\xff" * 8, b"\x10\0\x08\0", b"\x08\0\x18\0",
)  # fmt: skip
"""Pieces that mean something in HDF5."""


def pieces_of(file: bytes) -> tuple[bytes, ...]:
    """A file of HDF5 in pieces, at what its structures begin with."""
    return tuple(re.split(rb"(?=TREE|HEAP|SNOD|GCOL|\x11\0\x10\0)", file))


def with_its_end(body: bytes) -> bytes:
    """The superblock says where the file ends, so that changes of length are not refused for that alone."""
    return body[:40] + len(body).to_bytes(8, "little") + body[48:] if len(body) > 96 else body


def _agrees(data: bytes, header: Header) -> str:
    theirs, ours = {}, {}
    if header.container != "hdf5":
        return f"was read as {header.container}"
    with h5py.File(header.tensors[0].file.path, "r") if header.tensors else nullcontext({}) as root:
        listed = datasets(root, "") if header.tensors else []
        for tensor in header.tensors:
            name = f"{tensor.group}/{tensor.name}" if tensor.group else tensor.name
            ours[name] = (tensor.dtype, tensor.shape, bytes_of(data, tensor))
            theirs[name] = content_of(root[name], ours[name])
    lost = [name for name in listed if name not in ours and not name.startswith("optimizer_weights")]
    return differ(ours, theirs, "h5py") or (f"h5py sees {lost[0]!r} too" if lost else "")


def datasets(group: Any, path: str) -> list[str]:
    found: list[str] = []
    for name, item in group.items():  # visititems() also reads what neither reader needs
        found += datasets(item, f"{path}{name}/") if hasattr(item, "items") else [path + name]
    return found


def content_of(dataset: Any, ours: tuple[str, tuple[int, ...], bytes]) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes as h5py has them; it makes float32 of bfloat16, whose values are compared."""
    dtype, _, content = ours
    values = dataset[()]
    if dtype == "bfloat16" and dataset.dtype == np.float32:
        wide = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(dataset.shape)
        return (dtype, dataset.shape, content if np.array_equal(wide, values, equal_nan=True) else values.tobytes())
    return (dataset.dtype.name, dataset.shape, values.tobytes())
