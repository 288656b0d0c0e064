"""Tensor bundles for tests: read whole, and made byte by byte where a sound writer would not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bertconv.containers.bundle import Bundle
from bertconv.containers.stored import Header, SourceFile, StoredTensor


def open_bundle(prefix: Path, *, check_data: bool = True) -> Header:
    """The header of a bundle by its prefix; its files are the caller's to close."""
    with closing(SourceFile(prefix.with_name(f"{prefix.name}.index"))) as index:
        spread = Bundle().read_index(index)
    files = []
    try:
        for name in spread.files:
            files.append(SourceFile(prefix.with_name(name)))
        return spread.read(files, check_data=check_data)
    except BaseException:
        for file in files:
            file.close()
        raise


def elements(tensor: StoredTensor) -> bytes:
    """All of its bytes."""
    buffer = bytearray(tensor.nbytes)
    tensor.read_into(memoryview(buffer), 0)
    return bytes(buffer)
