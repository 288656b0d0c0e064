"""What every target has, and how two readers' views of one file are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertconv.containers.registry import read_header
from bertconv.containers.stored import ITEM_SIZE, Header, SourceFile, StoredTensor
from qa.fuzz.mutations import Seed


@dataclass(frozen=True)
class Target:
    """One reader under attack.

    Attributes:
        name: of the target.
        seeds: sound inputs.
        tokens: pieces that mean something in its format.
        read: the reader; takes the file's path, raises a BertconvError or returns what it found.
        agree: compares that with another reader's view of the same bytes; says what differs, or "".
        inside: mutate before lengths and checksums are put right.
        forked: its C library may hang or crash: every run has a process of its own.
    """

    name: str
    seeds: tuple[Seed, ...]
    tokens: tuple[bytes, ...]
    read: Callable[[Path], Any]
    agree: Callable[[bytes, Any], str]
    inside: bool = False
    forked: bool = False


def read(path: Path) -> Header:
    file = SourceFile(path)
    try:
        return read_header(file)
    finally:
        file.close()


def bytes_of(data: bytes, tensor: StoredTensor) -> bytes:
    """The tensor's elements in C order; ValueError where its description leads out of the file."""
    size = ITEM_SIZE[tensor.dtype]
    if tensor.strides is None:
        ends = [(start, start + nbytes) for start, nbytes in tensor.spans]
    else:
        reach = sum((length - 1) * step for length, step in zip(tensor.shape, tensor.strides, strict=True))
        ends = [(tensor.offset, tensor.offset + (reach + 1) * size)]
    if tensor.nbytes and not all(0 <= start <= end <= len(data) for start, end in ends):
        raise ValueError(f"{tensor.name} lies outside the file")
    if tensor.strides is None or not tensor.nbytes:
        return b"".join(data[start:end] for start, end in ends)
    raw = np.frombuffer(data, np.uint8)[tensor.offset :]
    strides = (*(step * size for step in tensor.strides), 1)
    return np.lib.stride_tricks.as_strided(raw, (*tensor.shape, size), strides).tobytes()


def differ(ours: Mapping[str, tuple[Any, ...]], theirs: Mapping[str, tuple[Any, ...]], who: str) -> str:
    if ours.keys() != theirs.keys():
        return f"{who} sees other tensors: {sorted(ours.keys() ^ theirs.keys())[:5]!r}"
    wrong = [name for name in ours if ours[name] != theirs[name]]
    return f"{who} sees {wrong[0]!r} as {theirs[wrong[0]]!r:.200}, not {ours[wrong[0]]!r:.200}" if wrong else ""
