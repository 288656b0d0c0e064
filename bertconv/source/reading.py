"""Open the files of a source, whatever container they are, as one header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from bertconv.containers.registry import read_header
from bertconv.containers.stored import Header, StoredTensor
from bertconv.errors import DamagedCheckpoint
from bertconv.source.local import Source
from bertconv.text import listing, printable


def open_header(source: Source, *, check_data: bool = True) -> Header:
    """The header of a checkpoint, all its shards as one.

    Args:
        source: where the files are.
        check_data: check the checksums that a container carries (PyTorch's zip does); False reads headers only.

    Raises:
        DamagedCheckpoint: not a checkpoint, truncated, or shards that do not fit their index.
        UnsafeCheckpoint: refused for safety.
        UnsupportedCheckpoint: a kind that bertconv does not read.
    """
    if source.weights.spread is not None:
        return source.weights.spread.read([source.open(name) for name in source.weights.files], check_data=check_data)
    headers = {name: read_header(source.open(name), check_data=check_data) for name in source.weights.files}
    if source.weights.weight_map is not None:
        _check_shards(headers, source.weights.weight_map, str(source.folder / (source.weights.index or "")))
    first = next(iter(headers.values()))
    if not any(header.tensors for header in headers.values()):
        raise DamagedCheckpoint(
            "holds no tensors.",
            hint="Give the file or folder that holds the weights.",
            file=str(source.folder / source.weights.files[0]),
        )
    return Header(
        first.container,
        tuple(tensor for header in headers.values() for tensor in header.tensors),
        first.metadata,
        tuple(dict.fromkeys(note for header in headers.values() for note in header.notes)),
        tuple(other for header in headers.values() for other in header.others),
        tuple(other for header in headers.values() for other in header.beside),
    )


def _check_shards(headers: Mapping[str, Header], weight_map: Mapping[str, str], index: str) -> None:
    """Every tensor in one shard, and every shard as its index says."""
    spelled = Counter(_key(tensor) for header in headers.values() for tensor in header.tensors)
    if doubled := [name for name, count in spelled.items() if count > 1]:
        raise DamagedCheckpoint(
            f"these tensors are in two shards:\n{listing(doubled)}", hint="Save the checkpoint again.", file=index
        )
    found = {(shard, _key(tensor)) for shard, header in headers.items() for tensor in header.tensors}
    listed = _as_in_shards({(shard, name) for name, shard in weight_map.items()}, found)
    for problem, names in (("names tensors that its shards lack", listed - found),
                           ("does not name tensors that its shards hold", found - listed)):  # fmt: skip
        if names:
            raise DamagedCheckpoint(
                f"{problem}:\n{listing(sorted(printable(name) for _, name in names))}",
                hint="Shards of two saves are mixed: download or save the checkpoint again.",
                file=index,
            )


def _as_in_shards(listed: set[tuple[str, str]], found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What an index names, as its shards spell it: transformers' TensorFlow classes cut the first part of names there.

    An index of `scope/bert/...:0` then belongs to shards of `bert/...:0`, in HDF5 and in safetensors. Each tensor
    answers to one name of the index: a second one stays as it is, and so is lacking.
    """
    spelled: set[tuple[str, str]] = set()
    for shard, name in sorted(listed):
        short = (shard, name.partition("/")[2])
        full = (shard, name) in found or short not in found or short in listed or short in spelled
        spelled.add((shard, name) if full else short)
    return spelled


def _key(tensor: StoredTensor) -> str:
    return f"{tensor.group}/{tensor.name}" if tensor.group else tensor.name
