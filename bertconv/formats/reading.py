"""Open the files of a source, whatever container they are, as one header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bertconv.errors import DamagedCheckpoint, UnsupportedCheckpoint
from bertconv.formats.hdf5 import read_hdf5
from bertconv.formats.safetensors import is_safetensors, read_safetensors
from bertconv.source import Source
from bertconv.source.stored import Header, SourceFile, StoredTensor
from bertconv.text import listing, printable

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PK\x03\x04", "torch"),
    (b"\x80", "torch"),
)
"""First bytes -> container; safetensors has no magic."""

_IMPOSTORS = (
    (b"version https://git-lfs", "is a Git-LFS pointer, not the file itself", "Run `git lfs pull` in its repository."),
    (b"<!doctype", "is an HTML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"<html", "is an HTML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"<?xml", "is an XML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it first."),
    (b"model_checkpoint_path:", "is TensorFlow's list of checkpoints, not one of them",
     "Give the folder, to hear what can be done with the checkpoints in it."),
    (b"{", "is a JSON text, not a checkpoint", "Give the file or folder that holds the weights."),
)  # fmt: skip


_EXPORTS = (
    (re.compile(rb"GGUF"), "is a GGUF model"),
    # A version, the length of a name, and the name of a specification: ctranslate2, specs/model_spec.py.
    (re.compile(rb".\0\0\0.\0\w{1,60}Spec\0", re.DOTALL), "is a CTranslate2 model"),
)
"""How files of other tools begin that were made from a checkpoint."""


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
    headers = {name: read_header(source.open(name), check_data=check_data) for name in source.weights.files}
    if len(headers) > 1 or source.weights.weight_map is not None:
        _check_shards(headers, source.weights.weight_map or {}, str(source.folder / (source.weights.index or "")))
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


def read_header(file: SourceFile, *, check_data: bool = True) -> Header:
    """The header of one file; the container is told from its first bytes, never from its name."""
    container = _sniff(file)
    if container == "hdf5":
        return read_hdf5(file)
    if container == "torch":
        from bertconv.formats.pytorch.reader import read_torch

        return read_torch(file, crc=check_data)
    return read_safetensors(file)


def read_written(folder: Path, names: Iterable[str]) -> Header:
    """The header of files that were just written, all as one; their index is not needed."""
    headers = [read_header(SourceFile(folder / name)) for name in names]
    return Header(headers[0].container, tuple(tensor for header in headers for tensor in header.tensors))


def _sniff(file: SourceFile) -> str:
    start = file.read(0, min(512, file.size))
    if is_safetensors(start, file.size):  # first: the bytes of a length may look like any of the others
        return "safetensors"
    for magic, container in _MAGIC:
        if start.startswith(magic):
            return container
    _refuse_known(file, start)
    if file.size < 9:
        raise DamagedCheckpoint(f"has only {file.size} bytes.", hint="Download or copy it again.", file=str(file.path))
    if start[257:262] == b"ustar":
        raise UnsupportedCheckpoint("is a tar archive.", hint="Unpack it first.", file=str(file.path))
    if start[8:9] == b"{":
        return "safetensors"  # with a length that its reader refuses
    raise DamagedCheckpoint(
        "is neither safetensors nor a PyTorch file nor HDF5.",
        hint="Give the file or folder that holds the weights.",
        file=str(file.path),
    )


def _refuse_known(file: SourceFile, start: bytes) -> None:
    """Refuse what is no checkpoint, or was made from one, by its first bytes."""
    text = start.lstrip().lower()
    for beginning, what, hint in _IMPOSTORS:
        if text.startswith(beginning):
            raise DamagedCheckpoint(f"{what}.", hint=hint, file=str(file.path))
    for pattern, what in _EXPORTS:
        if pattern.match(start):
            hint = "Give the checkpoint that it was made from."
            raise UnsupportedCheckpoint(f"{what}.", hint=hint, file=str(file.path))


def _check_shards(headers: Mapping[str, Header], weight_map: Mapping[str, str], index: str) -> None:
    """Every tensor in one shard, and every shard as its index says."""
    spelled = Counter(_key(tensor) for header in headers.values() for tensor in header.tensors)
    if doubled := [name for name, count in spelled.items() if count > 1]:
        raise DamagedCheckpoint(
            f"these tensors stand in two shards:\n{listing(doubled)}", hint="Save the checkpoint again.", file=index
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
