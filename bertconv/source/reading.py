"""Open the files of a source, whatever container they are, as one header."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from bertconv.containers.registry import BY_NAME, read_header, refuse_impostor
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsupportedCheckpoint
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.local import Source
from bertconv.source.weights import index_beside, read_spread
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
        files = [source.open(name) for name in source.weights.files]
        try:
            return source.weights.spread.read(files, check_data=check_data)
        except DamagedCheckpoint:
            for file in files:  # only now: elements may begin with any byte, a brace among them
                refuse_impostor(file)
            raise
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


def in_chunks(source: Source) -> UnsupportedCheckpoint:
    """The error of a source of whose tensors a manifest can keep no record."""
    return UnsupportedCheckpoint(
        "holds tensors in chunks over several files, of which bertconv.json can keep no record.",
        hint=f"Convert it instead: bertconv convert {shlex.quote(source.given)} DST --to FORMAT.", file=source.given,
    )  # fmt: skip


def headers_of(
    folder: Path, files: Mapping[str, SourceFile], *, check_data: bool = True
) -> tuple[dict[str, Header], dict[str, BertconvError]]:
    """The header of each of some files of weights by its name, and the error of each that cannot be read.

    Files that say what they hold only together with their index have the tensors that it says are in them.

    Args:
        folder: where they lie.
        files: by their names relative to it, opened.
        check_data: also check the checksums that their containers have.
    """
    headers: dict[str, Header] = {}
    errors: dict[str, BertconvError] = {}
    together: dict[str, dict[str, SourceFile]] = {}
    for name, file in files.items():
        if (index := index_beside(name)) is not None:
            together.setdefault(index, {})[name] = file
            continue
        try:
            headers[name] = read_header(file, check_data=check_data)
        except BertconvError as error:
            errors[name] = error
    for index, own in together.items():
        try:
            headers |= _parts(folder, index, own, check_data=check_data)
        except BertconvError as error:
            errors |= dict.fromkeys(own, error)
    return headers, errors


def _parts(folder: Path, index: str, files: Mapping[str, SourceFile], *, check_data: bool) -> dict[str, Header]:
    """What an index says of each of its files."""
    with closing(open_in(folder, index)) as file:
        spread = read_spread(file)
    place = index[: index.rfind("/") + 1]
    names = [place + name for name in spread.files]
    if absent := [name for name in names if name not in files]:
        raise DamagedCheckpoint(
            f"names files that are not there: {listing(absent)}.", hint="Copy the checkpoint again.",
            file=str(folder / index),
        )  # fmt: skip
    whole = spread.read([files[name] for name in names], check_data=check_data)
    return {
        name: Header(whole.container, tuple(one for one in whole.tensors if file in one.files), others=whole.others)
        for name, file in files.items()
    }


def _check_shards(headers: Mapping[str, Header], weight_map: Mapping[str, str], index: str) -> None:
    """Every tensor in one shard, and every shard as its index says."""
    spelled = Counter(_key(tensor, header) for header in headers.values() for tensor in header.tensors)
    if doubled := [name for name, count in spelled.items() if count > 1]:
        raise DamagedCheckpoint(
            f"these tensors are in two shards:\n{listing(doubled)}", hint="Save the checkpoint again.", file=index
        )
    found = {(shard, _key(tensor, header)) for shard, header in headers.items() for tensor in header.tensors}
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


def _key(tensor: StoredTensor, header: Header) -> str:
    """What an index calls a tensor of a shard."""
    return BY_NAME[header.container].in_index(f"{tensor.group}/{tensor.name}" if tensor.group else tensor.name)
