"""A `.keras` archive: its HDF5 is read where it lies, as a part of the file. Nothing is ever unpacked."""

from __future__ import annotations

import json
from dataclasses import replace

from bertconv.containers.hdf5.constants import SIGNATURE
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.keras3.parts import CONFIG, METADATA, WEIGHTS, is_keras_archive
from bertconv.containers.keras3.reader import as_keras3
from bertconv.containers.pytorch.archive import Archive, Member, check_crc, read_members
from bertconv.containers.stored import Header, SourceFile
from bertconv.containers.window import Window
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.text import parse_json, printable

MAX_TEXT = 8_000_000
"""Bytes of a config or of metadata that are read: a model's config has some thousand."""
MAX_MEMBERS = 10_000
"""Most records: weights, two texts, and the assets of a tokenizer."""
_CLASS, _OF_KERAS = "TF", "keras"
"""What our classes' names begin with beside PyTorch's, and the key of their config with what Keras itself wants."""
_AGAIN = "Download it or save the model again."
_UNPACK = (
    f"Take {WEIGHTS} out of it (`python -m zipfile -e FILE FOLDER`), lay the model's config.json beside it, and give "
    "that file."
)


def read_archive(file: SourceFile, *, crc: bool) -> Header:
    """The weights in a `.keras` archive.

    Args:
        file: the archive.
        crc: compare the weights with the archive's CRC-32, which reads all of them.

    Raises:
        UnsafeCheckpoint: names that lead out of a folder, encrypted records, too many of them; or as for `read_hdf5`.
        DamagedCheckpoint: truncated, contradictory, without weights, a wrong checksum; or as for `read_hdf5`.
        UnsupportedCheckpoint: compressed records, weights in several files or of another kind; or as for `read_hdf5`.
    """
    archive = _members(file)
    weights = archive.members.get(WEIGHTS)
    if weights is None:
        raise _without_weights(archive)
    for name in (CONFIG, METADATA):
        archive.read(name, MAX_TEXT)
    if crc:
        check_crc(file, weights)
    part = Window(file, weights.offset, weights.size)
    if part.read(0, min(len(SIGNATURE), part.size)) != SIGNATURE:
        raise DamagedCheckpoint(f"has a {WEIGHTS} that is no HDF5.", hint=_AGAIN, file=str(file.path))
    found = read_hdf5(part)
    tensors = tuple(part.outside(tensor) for tensor in found.tensors)
    header = as_keras3(replace(found, tensors=tensors), WEIGHTS)
    return replace(header, metadata=header.metadata | _version(archive))


def model_config(file: SourceFile) -> bytes | None:
    """The config.json of a model of one of bertconv's classes in a `.keras` archive, as its `get_config` gave it.

    None where it is no such model's, or where the file is no such archive, which whoever reads it will say. Errors as
    for `read_archive`.
    """
    if not is_keras_archive(file.read(0, min(file.size, 64))):
        return None
    try:
        said = parse_json(_members(file).read(CONFIG, MAX_TEXT) or b"{}")
    except (ValueError, RecursionError):
        return None
    config = said.get("config") if isinstance(said, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        return None
    name = said.get("class_name")
    named = {"architectures": [name.removeprefix(_CLASS)]} if isinstance(name, str) and name.startswith(_CLASS) else {}
    return json.dumps({key: value for key, value in config.items() if key != _OF_KERAS} | named).encode()


def _members(file: SourceFile) -> Archive:
    members = read_members(file, _check)
    if len(members) > MAX_MEMBERS:
        raise UnsafeCheckpoint(f"has {len(members):,} records.", hint=_AGAIN, file=str(file.path))
    return Archive(file, members)


def _check(member: Member, file: str) -> None:
    name = member.name
    parts = name.removesuffix("/").split("/")
    if "\\" in name or ":" in parts[0] or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise UnsafeCheckpoint(
            f"has a record {printable(name)} that leads out of its folder.", hint="Do not use this file.", file=file
        )
    if member.method:
        raise UnsupportedCheckpoint(
            f"has a compressed record {printable(name)}; Keras stores them as they are.", hint=_UNPACK, file=file
        )


def _without_weights(archive: Archive) -> DamagedCheckpoint | UnsupportedCheckpoint:
    path = str(archive.file.path)
    other = next((name for name in archive.members if name.startswith("model") and ".weights." in name), None)
    if other is None:
        return DamagedCheckpoint(f"is a .keras archive without {WEIGHTS}.", hint=_AGAIN, file=path)
    return UnsupportedCheckpoint(
        f"holds its weights as {printable(other)}, which is not read inside of an archive.",
        hint="Load it with keras.models.load_model and save it again as one .keras file.",
        file=path,
    )


def _version(archive: Archive) -> dict[str, str]:
    """The version of Keras that an archive names, where it does so soundly: nothing is decided by it."""
    try:
        found = parse_json(archive.read(METADATA, MAX_TEXT) or b"{}")
    except (ValueError, RecursionError):
        return {}
    version = found.get("keras_version") if isinstance(found, dict) else None
    return {"keras_version": version} if isinstance(version, str) and len(version) < 100 else {}
