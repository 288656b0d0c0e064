"""safetensors files: a strict header parser and a header writer (format: github.com/huggingface/safetensors, README).

Eight bytes of little-endian header length, a JSON header padded with spaces, then the tensors without holes or overlap.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from bertconv.containers.container import Container, Entry, FileLayout, FileOptions
from bertconv.containers.stored import ITEM_SIZE, MAX_NAME, MAX_RANK, Header, SourceFile, StoredTensor
from bertconv.errors import DamagedCheckpoint, MappingError, UnsafeCheckpoint
from bertconv.text import parse_json, printable

MAX_HEADER = 100_000_000
"""Longest header in bytes that the format allows."""
MAX_TENSORS = 100_000
"""Most tensors that are read; a model of 100 layers has fewer than 3,000."""

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Safetensors(Container):
    """A file of the format's own library; it has no magic."""

    name = "safetensors"
    title = "safetensors"
    kind = "safetensors"
    stem = "model"
    suffixes = (".safetensors",)
    dtypes = tuple(_CODES)
    pads = True
    dtypes_in_words = "the element types that safetensors names"

    def recognises(self, start: bytes, size: int) -> bool:
        """Whether the first bytes are a length that fits the file, and the beginning of a header."""
        length = int.from_bytes(start[:8], "little")
        return self.resembles(start) and length <= MAX_HEADER and 8 + length <= size

    def resembles(self, start: bytes) -> bool:
        """Whether a header may begin where it should, whatever its length says."""
        return start[8:9] == b"{"

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002  (it has no checksums)
        """As `read_safetensors`."""
        return read_safetensors(file)

    def confirm(self, header: Header) -> None:
        """Names, element types, shapes and metadata by `safe_open`: 2 to 10 ms, most of it the library's import.

        The library maps files, so it is not asked of a file that somebody else may truncate: none of an input.
        """
        from safetensors import SafetensorError, safe_open

        for file in header.files:
            if file.is_remote:  # there is nothing to map
                continue
            ours = {one.name: (_CODES[one.dtype], list(one.shape)) for one in header.tensors if one.file is file}
            try:
                with safe_open(file.path, framework="numpy") as opened:
                    slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  (it is no dict)
                    theirs = {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}
                    metadata = opened.metadata() or {}
            except SafetensorError as error:
                raise _not_confirmed(file, f"it says: {printable(str(error))}") from error
            if (theirs, metadata) != (ours, header.metadata):
                raise _not_confirmed(file, "it reads other names, types or shapes")

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:
        """The header, with tensors in the order of the reference writer."""
        ordered = sorted(entries, key=lambda entry: file_order(entry.name, entry.dtype))
        described = [(entry.name, entry.dtype, entry.shape) for entry in ordered]
        header, offsets = header_bytes(described, options.metadata, options.padding)
        by_name = {entry.name: offset for entry, offset in zip(ordered, offsets, strict=True)}
        size = len(header) + sum(math.prod(entry.shape) * ITEM_SIZE[entry.dtype] for entry in entries)
        return FileLayout(size, tuple(by_name[entry.name] for entry in entries), {0: header})


def read_safetensors(file: SourceFile) -> Header:
    """Read and check the header; no tensor data is read.

    Raises:
        DamagedCheckpoint: anything that the format forbids, duplicate keys, unknown fields and unusual names included.
        UnsafeCheckpoint: a header or a number of tensors beyond the limits.
    """
    length = int.from_bytes(file.read(0, 8, "header length"), "little")
    if length > MAX_HEADER:
        raise UnsafeCheckpoint(
            f"declares a header of {length:,} bytes; the format allows {MAX_HEADER:,}.",
            hint="This is not a safetensors file that a tool wrote; download it again.",
            file=str(file.path),
        )
    if 8 + length > file.size:
        raise _bad(file, f"declares a header of {length:,} bytes but has only {file.size:,}: it is truncated")
    raw = file.read(8, length, "header")
    _check_count(file, raw.count(b'"data_offsets"'))  # before any is made: a million of them take a gigabyte
    header = _parse(file, raw)
    metadata = _metadata(file, header.pop("__metadata__", None))
    _check_count(file, len(header))
    tensors = [_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
    _check_ranges(file, tensors, 8 + length)
    return Header("safetensors", tuple(tensors), metadata)


def _check_count(file: SourceFile, tensors: int) -> None:
    if tensors > MAX_TENSORS:
        raise UnsafeCheckpoint(
            f"declares {tensors:,} tensors; the limit is {MAX_TENSORS:,}.",
            hint="No model of these families has so many; check where the file came from.",
            file=str(file.path),
        )


def header_bytes(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str], padding: int = 0
) -> tuple[bytes, list[int]]:
    """The header of a file that holds these tensors one after the other, and where each begins in the file.

    Args:
        tensors: name, element type and shape of each, in the order of `file_order`.
        metadata: text for `__metadata__`.
        padding: spaces more than the reference writer puts behind it, a multiple of 8; the format allows any number.

    Returns:
        Length field and header as bytes, and the offset of every tensor from the start of the file.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    begin, begins = 0, []
    for name, dtype, shape in tensors:
        end = begin + math.prod(shape) * ITEM_SIZE[dtype]
        entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        begins.append(begin)
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8 + padding)
    return len(text).to_bytes(8, "little") + text, [8 + len(text) + start for start in begins]


def file_order(name: str, dtype: str) -> tuple[int, str]:
    """Sort key of tensors within a file, the reference writer's: wide element types first, then by name."""
    order = ("float64", "float32", "bfloat16", "float16")
    return order.index(dtype) if dtype in order else len(order), name


def _not_confirmed(file: SourceFile, problem: str) -> MappingError:
    return MappingError(
        f"was written, but not as the safetensors library reads it: {problem}; the output was not kept.",
        hint="Report this as a bug.", file=file.name,
    )  # fmt: skip


def _bad(file: SourceFile, problem: str, tensor: str | None = None) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{problem}.", hint="Download or save the file again.", file=str(file.path), tensor=tensor)


def _parse(file: SourceFile, raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _bad(file, "is not a safetensors file: its header does not begin with '{'")
    try:
        text = raw.decode().rstrip(" ")
        header = parse_json(text, parse_float=_integer, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise _bad(file, f"has a broken header: {printable(str(error))}") from error
    if not text.endswith("}"):
        raise _bad(file, "has a header that is padded with something other than spaces")
    found: dict[str, Any] = header
    return found


def _integer(text: str) -> int:
    if text == "-0" or len(text) > 20 or not text.lstrip("-").isdigit():
        raise ValueError(f"{text[:20]} is not a size")
    return int(text)


def _metadata(file: SourceFile, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _bad(file, "has metadata that is not text")
    if any(_SURROGATE.search(key) or _SURROGATE.search(text) for key, text in value.items()):
        raise _bad(file, "has metadata that is not Unicode text")
    return value


def _tensor(file: SourceFile, name: str, entry: Any, data: int) -> StoredTensor:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise _bad(file, "has a tensor without a printable name of at most 1,024 characters", name[:100])
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _bad(file, "is not described by exactly dtype, shape and data_offsets", name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _bad(file, f"has the element type {printable(str(dtype)[:40])!r}, which is not known", name)
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2 or len(shape) > MAX_RANK:
        raise _bad(file, "has a shape or offsets that are not lists of whole numbers", name)
    if any(product >= 2**63 for product in accumulate(shape, mul)):
        raise _bad(file, "has more elements than can be counted", name)
    tensor = StoredTensor(name, _DTYPES[dtype], tuple(shape), file, data + offsets[0])
    if offsets[1] - offsets[0] != tensor.nbytes:
        raise _bad(
            file,
            f"has shape {shape} and type {dtype} but {offsets[1] - offsets[0]:,} bytes instead of {tensor.nbytes:,}",
            name,
        )
    return tensor


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _check_ranges(file: SourceFile, tensors: list[StoredTensor], data: int) -> None:
    end = data
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            kind = "overlaps the tensor before it" if tensor.offset < end else "leaves a hole before it"
            raise _bad(file, kind, tensor.name)
        end += tensor.nbytes
    if end > file.size:
        raise _bad(file, f"is truncated: its tensors end at byte {end:,}, the file at {file.size:,}")
    if end < file.size:
        raise _bad(file, f"has {file.size - end:,} bytes after its last tensor")
