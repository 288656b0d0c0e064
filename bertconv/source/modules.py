"""sentence-transformers: the modules that a folder holds beside the transformer, and what goes along of each.

`modules.json` lists a model's modules in their order; each has a folder with its settings and, where it learns, with
weights. The transformer's own path is empty; in models of before 2021 it has a folder too (`0_Transformer`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint, HubError, RequestError, UnsafeCheckpoint
from bertconv.records import dataclass
from bertconv.source import sidecars
from bertconv.source.checkpoint_folder import CheckpointFolder, open_in, subfolder_parts
from bertconv.text import parse_json, printable, some

LISTING = "modules.json"
LISTING_BYTES = 1_000_000
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of a module's weights; sentence-transformers loads the first that is there, and no other."""

_LEARNING = ("Dense", "LayerNorm", "CNN", "LSTM", "WeightedLayerPooling")
"""Modules that cannot be loaded without weights."""
_ROUTERS = ("Router", "Asym")


@dataclass(frozen=True)
class Modules:
    """The modules beside a transformer.

    Attributes:
        folder: where `modules.json` lies.
        weights: their files of weights, relative to it.
        sidecars: files that go along and are not the checkpoint's own, relative to it; only where it is another folder.
        listing: `modules.json` for a folder with the transformer at its root, where the source's is for another.
        left: other files beside them.
        notes: what is unusual, one sentence each.
        entries: what `modules.json` lists, as it was read when the modules were found.
    """

    folder: Path
    weights: tuple[str, ...] = ()
    sidecars: tuple[str, ...] = ()
    listing: bytes | None = None
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    entries: tuple[Mapping[str, object], ...] = ()

    def open(self, name: str) -> SourceFile:
        """Open a file of them; errors as for `open_in`."""
        return open_in(self.folder, name)


@dataclass(frozen=True)
class Listed:
    """What `modules.json` says: its entries as they are, and the folder of each module -> its class."""

    entries: tuple[Mapping[str, object], ...]
    folders: Mapping[str, str]


def listed(checkpoint: CheckpointFolder) -> Listed | None:
    """The modules that `modules.json` lists; None where there is no such list.

    Raises:
        UnsafeCheckpoint: a folder outside of the checkpoint.
        DamagedCheckpoint: `modules.json` is no list of modules.
    """
    if LISTING not in checkpoint.names:
        return None
    checkpoint.need([LISTING])
    found = {}
    entries = _entries_of(checkpoint.folder)
    for entry in entries:
        path = path_of(entry)
        try:
            parts = subfolder_parts(path if path.isprintable() else "..")
        except RequestError as error:
            raise UnsafeCheckpoint(
                f"names the module {path[:200]!r}, which is no folder of it.", hint="Do not use this checkpoint.",
                file=str(checkpoint.folder / LISTING),
            ) from error  # fmt: skip
        found["/".join(parts)] = str(entry["type"]).rpartition(".")[2]
    return Listed(tuple(entries), found)


def names_with(checkpoint: CheckpointFolder, folders: Collection[str]) -> frozenset[str]:
    """The files of a checkpoint, those of its modules' folders too, whatever these are called."""
    names = set(checkpoint.names)
    for folder in filter(None, folders):
        if not any(name.startswith(f"{folder}/") for name in names):
            try:
                names |= {f"{folder}/{name}" for name in checkpoint.within(folder).names}
            except (RequestError, HubError):  # a module without files, as Normalize, has no folder everywhere
                continue
    return frozenset(names)


def beside(checkpoint: CheckpointFolder, modules: Listed, names: Collection[str]) -> Modules:
    """The modules of a folder that holds the transformer at its root."""
    weights, notes = _weights(modules.folders, names)
    checkpoint.need(weights)
    return Modules(checkpoint.folder, weights, notes=notes, entries=modules.entries)


def around(checkpoint: CheckpointFolder, inner: str, own: Collection[str]) -> Modules | None:
    """The modules of a folder that holds the transformer in another, `inner`; None where it does not list them.

    Args:
        checkpoint: the outer folder.
        inner: name of the transformer's folder.
        own: files that go along with the transformer; none of these is taken from the outer folder.
    """
    modules = listed(checkpoint)
    if modules is None or inner not in modules.folders:
        return None
    names = names_with(checkpoint, modules.folders)
    names = frozenset(name for name in names if not name.startswith(f"{inner}/"))
    weights, notes = _weights({folder: kind for folder, kind in modules.folders.items() if folder != inner}, names)
    carried, left = sidecars.sort_out(names, (*weights, LISTING, *own), modules.folders)
    checkpoint.need([*weights, *carried])
    moved = _moved(modules.entries, inner)
    return Modules(checkpoint.folder, weights, carried, moved, left, notes, modules.entries)


def _entries_of(folder: Path) -> list[dict[str, object]]:
    """What `modules.json` lists; DamagedCheckpoint when it is no list of modules, whose weights would be lost."""
    with closing(open_in(folder, LISTING)) as file:
        raw = file.read(0, file.size) if file.size <= LISTING_BYTES else b""  # guard: modules-list-size
    try:
        found = parse_json(raw)
    except (ValueError, RecursionError) as error:
        reason = f"it is no sound JSON: {error}" if raw else f"it is empty or larger than {LISTING_BYTES:,} bytes"
        raise _unsound(folder, reason) from error
    if not isinstance(found, list):
        raise _unsound(folder, "it is not a list")
    for number, entry in enumerate(found):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("path", "type")):
            raise _unsound(folder, f"entry {number} is not an object with a path and a type")
    return found


def _unsound(folder: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"does not list the modules of a sentence-transformers model: {reason}.",
        hint="Download or correct it; if the model is none of sentence-transformers, remove the file.",
        file=str(folder / LISTING),
    )


def path_of(entry: Mapping[str, object]) -> str:
    path = str(entry["path"])
    return "" if path in (".", "./") else path.removeprefix("./")


def _weights(modules: Mapping[str, str], names: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The file of weights of each module that has one, and what is unusual."""
    weights, notes = [], []
    for folder, kind in modules.items():
        if not folder:
            continue
        if kind in _ROUTERS:
            notes.append(f"{printable(folder)} is a {kind}, whose parts are not carried along")
            continue
        there = [f"{folder}/{name}" for name in WEIGHTS if f"{folder}/{name}" in names]
        weights += there[:1]
        if not there and kind in _LEARNING:
            notes.append(f"{printable(folder)} is a {kind} without weights, which sentence-transformers cannot load")
    return tuple(weights), tuple(notes)


def _moved(entries: Sequence[Mapping[str, object]], inner: str) -> bytes:
    """The list with the transformer at the root."""
    moved = [{**entry, "path": "" if path_of(entry).rstrip("/") == inner else entry["path"]} for entry in entries]
    return (json.dumps(moved, indent=2) + "\n").encode()


def note_of(inner: str, modules: Modules | None, left: Collection[str]) -> str:
    """What is said of a transformer in a folder of its own."""
    note = f"the weights are in {inner}, as in old sentence-transformers models"
    if modules is not None:
        return f"{note}; the output has them at its root, and modules.json says so"
    return f"{note}; files beside it are not carried: {some(left)}" if left else note
