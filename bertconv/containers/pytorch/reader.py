"""PyTorch checkpoints (`pytorch_model.bin`, `.pt`, `.ckpt`): what they hold, read without torch and without pickle.

Nothing in the file is executed or imported; the pickle inside is read by `machine`, the zip by `archive`, the
format of torch before 1.6 by `legacy`.
"""

from __future__ import annotations

from bertconv.containers.pytorch.archive import Archive, Member, check_crc, read_archive
from bertconv.containers.pytorch.legacy import read_legacy
from bertconv.containers.pytorch.machine import MAX_BYTES, PickleReader
from bertconv.containers.pytorch.state import Extent, StateDict, find_state_dict, place
from bertconv.containers.pytorch.values import Tensor, damaged, unsupported
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.text import fold, printable

_SHOWN = 100  # names in a note, layers folded
_SMALL = 1024
_NEWEST = 10  # of the versions that torch 1.4 to 2.13 write and read


def read_torch(file: SourceFile, *, crc: bool = True) -> Header:
    """The tensors of a file that torch.save wrote, as byte ranges of it.

    Args:
        file: the opened file.
        crc: compare every record that holds weights with the archive's CRC-32, which reads all of them. The header's
            own records are always compared; the legacy format has no checksums.

    Raises:
        UnsafeCheckpoint: a pickle that wants to call something, compressed records, sizes beyond every budget.
        DamagedCheckpoint: truncated, contradictory, checksum wrong, no tensors.
        UnsupportedCheckpoint: a whole module, TorchScript, quantised or sparse tensors, a legacy tar, big-endian.
    """
    start = file.read(0, min(file.size, 512))
    if start.startswith(b"PK"):
        return _read_zip(file, crc=crc)
    if start.startswith(b"\x80"):
        value, reader, extents = read_legacy(file)
        state = find_state_dict(value, str(file.path))
        note = "legacy torch format (before 1.6), which has no checksums"
        return describe(place(state.tensors, extents, file), state, [note], list(reader.inert))
    if start[257:262] == b"ustar":
        hint = "Load it with torch in a sandbox and save model.state_dict() again."
        raise unsupported(str(file.path), "is a tar archive of torch 0.1.", hint=hint)
    raise damaged(str(file.path), "is not a file that torch.save writes." if start else "is empty.")


def _read_zip(file: SourceFile, *, crc: bool) -> Header:
    value, reader, members = _load_zip(file)
    state = find_state_dict(value, str(file.path))
    return describe(_place_in(members, state.tensors, file, crc=crc), state, [], list(reader.inert))


def read_tensor(file: SourceFile, name: str, *, crc: bool) -> StoredTensor:
    """The tensor that is all that a zip file of torch.save holds; arguments and errors as for `read_torch`.

    Args:
        file: the opened file.
        name: what to call the tensor.
        crc: compare its bytes with the archive's CRC-32.
    """
    value, _, members = _load_zip(file)
    if not isinstance(value, Tensor):
        raise damaged(str(file.path), "is described as a tensor and holds something else.", tensor=name)
    return _place_in(members, {name: value}, file, crc=crc)[0]


def _load_zip(file: SourceFile) -> tuple[object, PickleReader, dict[str, Member]]:
    """What the pickle of a zip file describes, its reader, and the records that hold storages by their keys."""
    archive, name = read_archive(file), str(file.path)
    _check_settings(archive, name)
    data = archive.read("data.pkl", MAX_BYTES)
    if data is None:
        raise damaged(name, "is a zip archive, but not one that torch.save writes: it has no data.pkl.")
    reader = PickleReader(data, name)
    value = reader.load()
    if reader.position != len(data):
        raise damaged(name, "has bytes after the end of its pickle.")
    members = {key.removeprefix("data/"): m for key, m in archive.members.items() if key.startswith("data/")}
    return value, reader, members


def _place_in(
    members: dict[str, Member], tensors: dict[str, Tensor], file: SourceFile, *, crc: bool
) -> tuple[StoredTensor, ...]:
    placed = place(tensors, {key: Extent(m.offset, m.size) for key, m in members.items()}, file)
    if crc:
        users = {tensor.storage.key: user for user, tensor in reversed(tensors.items())}
        for key, user in users.items():
            check_crc(file, members[key], user)
    return placed


def _check_settings(archive: Archive, name: str) -> None:
    """The small records beside the pickle: all of them whole, and of a version and byte order that is known."""
    for record, member in archive.members.items():
        if not record.startswith("data/") and member.size <= _SMALL:
            check_crc(archive.file, member)
    version = archive.read("version", _SMALL)
    if version is None or not version.strip().isdigit():
        raise damaged(name, "is a zip archive, but not one that torch.save writes: it has no version.")
    if not 1 <= int(version) <= _NEWEST:
        raise unsupported(name, f"is of version {int(version)}, which is not known.", hint="Update bertconv.")
    order = archive.read("byteorder", _SMALL) or b"little"
    if order == b"big":
        raise unsupported(name, "was written on a big-endian machine.", hint="Save it again on a little-endian one.")
    if order != b"little":
        raise damaged(name, "has an unknown byte order.")


def describe(
    tensors: tuple[StoredTensor, ...], state: StateDict, notes: list[str], inert: list[str], container: str = "torch"
) -> Header:
    """The header of a state dict.

    Args:
        tensors: its tensors, placed.
        state: what it is and what is beside it.
        notes: what is unusual about the file.
        inert: names of the objects in it that were not built.
        container: name of the container.
    """
    if state.path:
        notes.append(f"state dict found under '{'.'.join(state.path)}'")
    loose = [tensor.name for tensor in tensors if tensor.strides is not None]
    for text, names in (
        ("not contiguous: ", loose),
        ("objects that were not built: ", inert),
        ("tensors inside lists or dicts, left out: ", state.nested),
        ("tensors beside the state dict, left out: ", state.beside),
    ):
        if names:
            folded = list(fold(printable(name)[:200] for name in names))
            more = f" and {len(folded) - _SHOWN} more" if len(folded) > _SHOWN else ""
            notes.append(text + ", ".join(folded[:_SHOWN]) + more)
    return Header(container, tensors, notes=tuple(notes), others=tuple(state.others), beside=tuple(state.layers))
