"""bertconv.json as it is read: a text that anybody can write, so its size, its digest and every field are checked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bertconv.errors import DamagedCheckpoint, RequestError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.record import manifest_digest
from bertconv.report import Operation, ParentReport
from bertconv.source import mounts
from bertconv.source.checkpoint_folder import open_in
from bertconv.text import parse_json

_MANIFEST = {
    "bertconv": str, "digest": str, "files": dict, "manifest_sha256": str, "parity": dict, "tensors": dict,
    "verified": str,
}  # fmt: skip
_FILE, _PLAIN, _WEIGHTS = {"size": int}, {"sha256": str}, {"sha256_outside_tensors": str}
_TENSOR = {"target": str, "state": str, "dtype": str, "shape": list, "digest": str, "transposed": bool}
_OPERATION = {"verb": str, "options": dict}
_PARENT = {"role": str, "given": str, "commit": (str, type(None)), "digest": str, "backbone_digest": str}
"""Fields of the manifest that are looked at."""

MOST_PARENTS = 1000
"""More checkpoints than that go into no model."""

_IN_MEMORY = "memory"
"""What stands for the container of a model that was saved from memory, which had no checkpoint as its source."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an output, intact and of the right kinds throughout.

    Raises:
        RequestError: there is none.
        DamagedCheckpoint: it is none, or was changed.
        UnsafeCheckpoint: it is a link.
    """
    return parsed_manifest(stored_manifest(folder), folder)


def stored_manifest(folder: Path) -> bytes:
    """The bytes of the manifest of an output; none where they are too many. Errors as for `read_manifest`."""
    if not mounts.is_file(folder, MANIFEST):
        raise RequestError(
            f"holds no {MANIFEST}, so nothing is on record about it.",
            hint="Give the folder that bertconv wrote.", file=str(folder),
        )  # fmt: skip
    with closing(open_in(folder, MANIFEST)) as file:
        return file.read(0, file.size) if file.size <= MANIFEST_BYTES else b""  # guard: check-manifest-size


def parsed_manifest(raw: bytes, folder: Path) -> dict[str, Any]:
    """The same of its bytes."""
    damaged = DamagedCheckpoint(
        "was changed since it was written, so it proves nothing.", hint="Convert the checkpoint again.",
        file=str(folder / MANIFEST),
    )  # fmt: skip
    try:
        manifest = parse_json(raw)
    except (ValueError, RecursionError) as error:
        raise damaged from error
    if not _has(manifest, _MANIFEST) or manifest_digest(raw) != manifest["manifest_sha256"] or not _is_sound(manifest):
        raise damaged
    found: dict[str, Any] = manifest
    return found


def parents_of(manifest: Mapping[str, Any]) -> tuple[ParentReport, ...]:
    """The checkpoints that went into an output; of manifests before format 3 the source, without a digest."""
    listed = manifest.get("parents")
    if isinstance(listed, list):
        return tuple(
            ParentReport(
                text_of(one, "role"), text_of(one, "given"), text_of(one, "commit") or None,
                text_of(one, "digest"), text_of(one, "backbone_digest"),
            )
            for one in listed if isinstance(one, dict)
        )  # fmt: skip
    source = manifest.get("source")
    if not isinstance(source, dict) or source.get("container") == _IN_MEMORY or not _has(source, {"given": str}):
        return ()
    given, commit = source["given"], text_of(source, "revision") or None
    # Of a path on somebody's disk the last part, as format 3 has it: a push shows it to everybody.
    return (ParentReport("source", given if commit else given.rstrip("/").rpartition("/")[2], commit),)


def operation_of(manifest: Mapping[str, Any]) -> Operation:
    """What made an output."""
    operation = manifest.get("operation")
    return Operation(operation["verb"], operation["options"]) if operation else Operation("", {})


def text_of(manifest: Mapping[str, Any], key: str) -> str:
    """A text in a manifest that not every version writes; empty where it is not there or no text."""
    value = manifest.get(key)
    return value if isinstance(value, str) else ""


def object_of(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object in a manifest that not every version writes; empty where it is not there or no object."""
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def _has(value: Any, fields: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in fields.items())


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Whether the rest is of the right kind too: its own digest is a checksum, and anybody can make one."""
    files, tensors = manifest["files"].items(), manifest["tensors"].values()
    return (
        isinstance(manifest["parity"].get("verdict", ""), str)
        and not any({"", ".", ".."} & set(name.split("/")) for name, _ in files)
        and all(_has(facts, _FILE) and (_has(facts, _PLAIN) or _has(facts, _WEIGHTS)) for _, facts in files)
        and all(_has(facts, _TENSOR) for facts in tensors)
        and all(len(facts["shape"]) > 1 for facts in tensors if facts["transposed"])
        and all(isinstance(facts.get("stored", []), list) for facts in tensors)
        and _has_sound_origin(manifest)
    )


def _has_sound_origin(manifest: Mapping[str, Any]) -> bool:
    """What format 3 adds."""
    operation, parents = manifest.get("operation"), manifest.get("parents", [])
    return (
        (operation is None or _has(operation, _OPERATION))
        and isinstance(parents, list)
        and len(parents) <= MOST_PARENTS
        and all(_has(one, _PARENT) for one in parents)
    )
