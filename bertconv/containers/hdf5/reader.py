"""From a file to the place of every dataset's bytes in it: by our own reader, or as libhdf5 tells it in its child."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from bertconv.containers.hdf5 import process
from bertconv.containers.hdf5.classic import read_classic
from bertconv.containers.hdf5.pages import NotClassic
from bertconv.containers.stored import ITEM_SIZE, Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

_BEGINNING = 52
"""Bytes of the beginning that are looked at."""
_END_PLACES = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
"""Version of the superblock -> places of the width of addresses and of the address of the file's end."""
_WITH_FLAGS, _FLAGS_PLACE, _WRITING, _SWMR_WRITING = 3, 11, 1, 4
_REFUSALS = {kind.__name__: kind for kind in (UnsafeCheckpoint, DamagedCheckpoint, UnsupportedCheckpoint)}


def read_hdf5(file: SourceFile) -> Header:
    """Find every dataset's bytes from the metadata; no tensor data is read.

    Names are those below their layer's group, `group` is the layer. Files of `model.save` hold them in `model_weights`.

    Raises:
        UnsafeCheckpoint: external or virtual data, links, cycles, too many objects; libhdf5 hangs or crashes.
        DamagedCheckpoint: not HDF5, truncated, overlapping, or data that was never written.
        UnsupportedCheckpoint: compressed or chunked datasets, or elements of an unusual kind.
        BertconvError: the process that reads metadata cannot work here.
    """
    _check_superblock(file)
    found = _classic(file) or _understood(file, process.ask(file))
    if isinstance(found, BertconvError):
        raise found
    _check_places(found.tensors)
    return found


def _classic(file: SourceFile) -> Header | BertconvError | None:
    """What our own reader says; None where it leaves the file to libhdf5."""
    try:
        found = read_classic(file)
    except NotClassic:
        return None
    except BertconvError as error:
        return type(error)(error.message, hint=error.hint, file=str(file.path), tensor=error.tensor)
    tensors = tuple(
        StoredTensor(
            entry.name, entry.dtype, entry.shape, file, entry.offset, group=entry.group, recorded=entry.recorded
        )
        for entry in found.tensors
    )
    return Header("hdf5", tensors, found.metadata, others=found.others)


def _check_superblock(file: SourceFile) -> None:
    """Refuse a file that is truncated, and what libhdf5 lets pass: one that is being written, and bytes behind its end.

    Source: section II.A of the format's specification; addresses of another width than 8 are left to libhdf5.
    """
    block = file.read(0, min(_BEGINNING, file.size))
    if len(block) < _BEGINNING or block[8] not in _END_PLACES:
        return
    width_place, end_place = _END_PLACES[block[8]]
    if block[8] == _WITH_FLAGS and block[_FLAGS_PLACE] & (_WRITING | _SWMR_WRITING):
        raise DamagedCheckpoint(
            "is being written, or was not closed by the program that wrote it.",
            hint="Wait for that program, or repair the file with `h5clear -s`.",
            file=str(file.path),
        )
    end = int.from_bytes(block[end_place : end_place + 8], "little")
    if block[width_place] != 8:
        return
    if file.size < end:
        raise file.too_short(file.size, end - file.size)
    if file.size > end:
        raise DamagedCheckpoint(
            f"goes on for {file.size - end:,} bytes behind its end.",
            hint="Download or save the file again.",
            file=str(file.path),
        )


def _understood(file: SourceFile, answer: bytes) -> Header | BertconvError:
    """The child's answer: JSON of the kind that `child` writes, unless the file has taken it over."""
    try:
        said = json.loads(answer)
        if "error" in said:
            facts = said["error"]
            kind = _REFUSALS[facts["kind"]]
            return kind(str(facts["message"]), hint=facts["hint"], file=str(file.path), tensor=facts["tensor"])
        tensors = tuple(_tensor(file, **entry) for entry in said["tensors"])
        return Header("hdf5", tensors, dict(said["metadata"]), others=tuple(said["others"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnsafeCheckpoint(
            f"makes the process that reads HDF5 answer nonsense: {str(error)[:100]}.",
            hint="Do not trust the file.",
            file=str(file.path),
        ) from error


def _tensor(
    file: SourceFile, name: str, group: str, dtype: str, shape: list[int], offset: int, recorded: str
) -> StoredTensor:
    numbers = (*shape, offset)
    if not all(isinstance(text, str) for text in (name, group, recorded)) or dtype not in ITEM_SIZE:
        raise ValueError("a name or type")
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("a shape or place")
    return StoredTensor(name, dtype, tuple(shape), file, offset, group=group, recorded=recorded)


def _check_places(tensors: Sequence[StoredTensor]) -> None:
    """Names are different; datasets lie in the file, and share bytes only where they are one under several names."""
    names = Counter((tensor.group, tensor.name) for tensor in tensors)
    if doubled := next((tensor for tensor in tensors if names[tensor.group, tensor.name] > 1), None):
        raise _bad(doubled, "is a duplicate in its group")
    last: StoredTensor | None = None
    for tensor in sorted((tensor for tensor in tensors if tensor.nbytes), key=lambda tensor: tensor.offset):
        end = tensor.offset + tensor.nbytes
        if end > tensor.file.size:
            raise _bad(tensor, f"ends at byte {end:,}, the file at {tensor.file.size:,}")
        shared = last and tensor.offset < last.offset + last.nbytes
        if last and shared and (tensor.offset, tensor.nbytes) != (last.offset, last.nbytes):
            raise _bad(tensor, f"shares bytes with {last.name}")
        last = tensor


def _bad(tensor: StoredTensor, problem: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{problem}.", hint="Download or save the file again.", file=str(tensor.file.path), tensor=tensor.name
    )
