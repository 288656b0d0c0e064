"""Distributed checkpoints of several processes, made in one: of torch's own metadata classes and torch.save.

`test_dcp_ranks.py` has real processes write some, and torch itself reads what is made here (`loaded`).
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise, product
from pathlib import Path
from typing import Any

Corner = tuple[int, ...]
Box = tuple[Corner, tuple[int, ...]]
Cut = Callable[[str, tuple[int, ...]], list[Box]]


def whole(_name: str, shape: tuple[int, ...]) -> list[Box]:
    """One chunk."""
    return [((0,) * len(shape), shape)]


def along(axis: int, parts: int) -> Cut:
    """Parts of equal size along an axis, the last ones smaller or empty, as DTensor shards."""

    def cut(name: str, shape: tuple[int, ...]) -> list[Box]:
        if len(shape) <= axis:
            return whole(name, shape)
        size, step = shape[axis], -(-shape[axis] // parts)
        edges = [min(number * step, size) for number in range(parts + 1)]
        sides = dict.fromkeys((start, end - start) for start, end in pairwise(edges))
        return [
            (
                tuple(start if one == axis else 0 for one in range(len(shape))),
                tuple(length if one == axis else each for one, each in enumerate(shape)),
            )
            for start, length in sides
        ]

    return cut


def grid(parts: int) -> Cut:
    """Parts along every axis: a mesh of processes with as many axes as the tensor."""

    def cut(_name: str, shape: tuple[int, ...]) -> list[Box]:
        edges = [sorted({size * number // parts for number in range(parts + 1)}) for size in shape]
        sides = product(*(list(pairwise(one)) or [(0, 0)] for one in edges))
        return [(tuple(a for a, _ in box), tuple(b - a for a, b in box)) for box in sides]

    return cut


def flattened(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, (*path, key))
        else:
            yield (*path, key), value


def write(
    folder: Path,
    tree: Mapping[str, Any],
    cut: Cut = whole,
    *,
    ranks: int = 2,
    safetensors: bool = False,
    edit: Callable[[Any], object] = lambda _: None,
    save: Callable[[Any], bytes] | None = None,
) -> Path:
    """Write a nested dictionary of tensors and other values.

    Args:
        folder: to make, or to write to.
        tree: what is saved.
        cut: the chunks of a tensor.
        ranks: chunk 0 goes to the file of process 0, the next to that of the next one, and around.
        safetensors: as the storage writer does that has SerializationFormat.SAFETENSORS.
        edit: changes the metadata before they are pickled, and may return others.
        save: the bytes of a chunk; by default what torch.save writes.
    """
    import torch
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    save = save or saved
    folder.mkdir(parents=True, exist_ok=True)
    files: list[bytes] = [b""] * ranks
    streams: list[dict[str, Any]] = [{} for _ in range(ranks)]
    starts: list[dict[str, Any]] = [{} for _ in range(ranks)]
    listed: dict[str, Any] = {}
    places: dict[Any, Any] = {}
    names = {".".join(path): path for path, _ in flattened(tree)}
    ordered = sorted(flattened(tree), key=lambda pair: isinstance(pair[1], torch.Tensor))
    for path, value in ordered:  # bytes come first in a file
        name = ".".join(path)
        if not isinstance(value, torch.Tensor):
            data = saved(value)
            listed[name] = m.BytesStorageMetadata()
            places[m.MetadataIndex(name)] = _StorageInfo("__0_0.distcp", len(files[0]), len(data))
            files[0] += data
            continue
        chunks = cut(name, tuple(value.shape))
        listed[name] = m.TensorStorageMetadata(
            m.TensorProperties(dtype=value.dtype),
            value.shape,
            [m.ChunkStorageMetadata(torch.Size(corner), torch.Size(sizes)) for corner, sizes in chunks],
        )
        for number, (corner, sizes) in enumerate(chunks):
            rank = number % ranks
            part = value[tuple(slice(a, a + b) for a, b in zip(corner, sizes, strict=True))]
            part = part if part.untyped_storage().nbytes() == part.nbytes else part.clone()
            data = part.numpy(force=True).tobytes() if safetensors else save(part)
            at = m.MetadataIndex(name, corner, number)
            places[at] = _StorageInfo(f"__{rank}_0.distcp", len(files[rank]), len(data))
            if safetensors:
                streams[rank][name], starts[rank][name] = part.contiguous(), {"saved_offsets": list(corner)}
            else:
                files[rank] += data
    for rank, content in enumerate(files):
        stream = _stream(streams[rank], starts[rank]) if safetensors and streams[rank] else b""
        if content or stream:
            (folder / f"__{rank}_0.distcp").write_bytes(content + stream)
    found = m.Metadata(listed, names, places, m.StorageMeta(folder, "an-id"), "1.0.0")
    found = edit(found) or found
    (folder / ".metadata").write_bytes(pickle.dumps(found))
    return folder


def saved(value: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _stream(tensors: Mapping[str, Any], starts: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    facts = {"DCP_SHARDING_INFO": json.dumps(starts), "DCP_VERSION": "1.0", "format": "pt"}
    found: bytes = save(dict(tensors), facts)
    return found


def loaded(folder: Path) -> dict[str, Any]:
    """What torch reads of a folder."""
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    found: dict[str, Any] = {}
    _load_state_dict(found, FileSystemReader(folder), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    return found
