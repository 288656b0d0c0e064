"""Pickles of torch, in a sound archive, and the archives themselves."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertconv.containers.pytorch.archive import read_archive
from bertconv.containers.stored import Header, SourceFile
from qa.fuzz.mutations import Seed
from qa.fuzz.targets.common import Target, bytes_of, differ, read


def pickles() -> Target:
    files = [_torch_bytes(value) for value in _states()]
    seeds = [Seed(_opcodes(records.pop("data.pkl")), _archive_wrap(records)) for records in map(_records, files)]
    seeds += [Seed(_opcodes(_torch_bytes(value, legacy=True))) for value in _states()[:2]]
    return Target("pickle", tuple(seeds), _PICKLE_TOKENS, read, torch_agrees, inside=True)


def archives() -> Target:
    files = [_torch_bytes(value) for value in _states()[:2]]
    records = _records(files[1])
    files += [_archive(records, descriptor=True), _archive(records)]
    seeds = [Seed(tuple(re.split(rb"(?=PK[\1-\7][\2-\10])", file))) for file in files]
    fields = [struct.pack("<I", value) for value in (0, 1, 8, 0x800, 0x10, 0xFFFFFFFF)]
    tokens = (b"PK\1\2", b"PK\3\4", b"PK\5\6" + bytes(18), b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\1\0\x10\0", *fields)
    return Target("zip", tuple(seeds), tokens, _read_both, _zip_agrees)


def _states() -> list[Any]:
    import torch

    matrix = torch.arange(15, dtype=torch.float32).reshape(3, 5) / 7
    state = OrderedDict({"a.weight": matrix, "a.bias": matrix[1], "b.weight": matrix.t(), "h": matrix.half() + 1})
    other = {
        "b": matrix.bfloat16(),
        "n": torch.tensor(3),
        "p": torch.nn.Parameter(matrix[:2, 1:4] * 2),
        "z": matrix[:0],
    }
    envelope = {"state_dict": other, "epoch": 3, "args": argparse.Namespace(lr=1e-3), "names": ["x", ("y", 2.5, None)]}
    return [state, other, envelope]


def _torch_bytes(value: Any, *, legacy: bool = False) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def _records(file: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        found = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def _archive(records: Mapping[str, bytes], *, descriptor: bool = False) -> bytes:
    """A zip archive as torch writes it, by hand: the standard library takes a millisecond for each."""
    body, directory = bytearray(), bytearray()
    for name, content in records.items():
        raw, numbers = b"archive/" + name.encode(), (zlib.crc32(content), len(content), len(content))
        flags, start = 8 * descriptor, len(body)
        local = (0, 0, 0) if descriptor else numbers
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, 0, 0, 0, *local, len(raw), 0) + raw + content
        body += struct.pack("<4s3L", b"PK\7\x08", *numbers) if descriptor else b""
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, flags, 0, 0, 0, *numbers, len(raw), 0, 0, 0, 0, 0, start
        )
        directory += raw
    count = len(records)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory) + end


def _archive_wrap(records: Mapping[str, bytes]) -> Callable[[bytes], bytes]:
    return lambda body: _archive({"data.pkl": body, **records})


def _opcodes(data: bytes) -> tuple[bytes, ...]:
    """The pickles at the beginning, cut into opcodes; the rest is one piece."""
    pieces, stream = [], io.BytesIO(data)
    while data[stream.tell() : stream.tell() + 1] == b"\x80":
        base = stream.tell()
        starts = [base + position for _, _, position in pickletools.genops(data[base:]) if position is not None]
        end = starts[-1] + 1
        pieces += [data[start:stop] for start, stop in zip(starts, [*starts[1:], end], strict=True)]
        stream.seek(end)
    return (*pieces, data[stream.tell() :])


_PICKLE_NAMES = (
    "os\nsystem", "builtins\neval", "torch\nload", "collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2",
    "torch._utils\n_rebuild_parameter", "torch\nFloatStorage", "torch\nHalfStorage", "torch\nSize", "_codecs\nencode",
    "torch.storage\nUntypedStorage", "torch\nfloat32", "argparse\nNamespace", "copyreg\n_reconstructor",
    "builtins\nset", "torch._tensor\n_rebuild_from_type_v2", "torch._utils\n_rebuild_tensor_v3",
    "collections\ndefaultdict",
)  # fmt: skip
_PICKLE_TOKENS = (
    *(bytes([opcode.code.encode("latin-1")[0]]) for opcode in pickletools.opcodes),
    *(f"c{name}\n".encode() for name in _PICKLE_NAMES),
    *(pickle.dumps(value, 2)[2:-1] for value in (0, 1, 255, 2**31 - 1, -1, 2**62, 2**63, 2**64, 2.5, "state_dict")),
    *(b"h" + bytes([index]) for index in range(40)), b"\x85R", b"\x86R", b"(t", b")R", b"}b", b"Nb", b"(lp", b"K\0a",
)  # fmt: skip


def torch_agrees(data: bytes, header: Header) -> str:
    """The same tensors as `torch.load(weights_only=True)`; what that refuses (Namespace, say) has no second opinion."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  (six kinds of them, and which one is torch's business)
        return ""
    for note in header.notes:
        if note.startswith("state dict found under"):
            for step in note.split("'")[1].split("."):
                value = value[step]
    theirs = {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _torch_content(tensor))
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }
    ours = {t.name: (t.dtype, t.shape, bytes_of(data, t)) for t in header.tensors}
    return differ(ours, theirs, "torch")


def _torch_content(tensor: Any) -> bytes:
    import torch

    if not tensor.numel():
        return b""
    found: bytes = (
        tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
    )
    return found


def _read_both(path: Path) -> tuple[Header, dict[str, tuple[int, int]]]:
    header, file = read(path), SourceFile(path)
    try:
        members = read_archive(file).members if header.container == "torch" and file.read(0, 2) == b"PK" else {}
    finally:
        file.close()
    return header, {name: (member.offset, member.size) for name, member in members.items()}


def _zip_agrees(data: bytes, found: tuple[Header, Mapping[str, tuple[int, int]]]) -> str:
    header, members = found
    ours = {name: (data[offset : offset + size],) for name, (offset, size) in members.items()}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            theirs = {info.filename.partition("/")[2]: (archive.read(info),) for info in archive.infolist()}
            count = len(archive.infolist())
    except NotImplementedError as error:  # it trusts the field "version needed"; ours and torch look at what is there
        return torch_agrees(data, header) if "zip file version" in str(error) else f"zipfile refuses it: {error}"
    except Exception as error:  # noqa: BLE001  (whatever it is: it does not read what we accept)
        return f"zipfile refuses it: {type(error).__name__}: {error}"
    if count != len(members):
        return f"zipfile sees {count} records, not {len(members)}"
    return differ(ours, theirs, "zipfile") or torch_agrees(data, header)
