"""Tensor bundles for tests: read whole, and written as the program writes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bertconv.containers.bundle import Bundle
from bertconv.containers.stored import ITEM_SIZE, Header, SourceFile, StoredTensor
from bertconv.formats.content import Content, Origin
from bertconv.formats.output import Format, Model
from bertconv.formats.staging import StagedFolder
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import table_for
from bertconv.saving import extra_spec, save_weights


def open_bundle(prefix: Path, *, check_data: bool = True) -> Header:
    """The header of a bundle by its prefix; its files are the caller's to close."""
    with closing(SourceFile(prefix.with_name(f"{prefix.name}.index"))) as index:
        spread = Bundle().read_index(index)
    with ExitStack() as stack:
        files = [stack.enter_context(closing(SourceFile(prefix.with_name(name)))) for name in spread.files]
        header = spread.read(files, check_data=check_data)
        stack.pop_all()
    return header


def elements(tensor: StoredTensor) -> bytes:
    """All of its bytes."""
    buffer = bytearray(tensor.nbytes)
    tensor.read_into(memoryview(buffer), 0)
    return bytes(buffer)


def write(folder: Path, tensors: Mapping[str, Any], container: Bundle, limit: int = 1 << 40) -> None:
    """Through the program's own way to the disk."""
    contents = [
        Content(extra_spec(name, value.shape), str(value.dtype), Origin(make=partial(_elements, value)))
        for name, value in tensors.items()
    ]
    dialect = load_dialects().reference
    with StagedFolder(folder) as staged:
        form, model = Format("any", dialect, container), Model(table_for("bert"), "BertModel")
        save_weights(staged, form, model, contents, limit, lambda *_: lambda _: None, verify=True)
        staged.commit()


def _elements(value: Any) -> Any:
    return value.reshape(-1).view(f"u{value.itemsize}")


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    raw = np.random.default_rng(seed).integers(0, 2, int(np.prod(shape)) * ITEM_SIZE[dtype], np.uint8)
    return raw.view(kind).reshape(shape)
