"""`model.weights.json`: in which files the variables of each layer are, where there are several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from bertconv.containers.container import PlannedFile, Spread
from bertconv.containers.hdf5.constants import SIGNATURE
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.keras3.parts import part_in
from bertconv.containers.keras3.reader import NAME, as_keras3
from bertconv.containers.stored import MAX_NAME, Header, SourceFile
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.text import listing, parse_json, printable

MAX_BYTES = 8_000_000
"""An index has about 100 bytes per layer."""
MAX_LAYERS, MAX_FILES = 20_000, 1000

_AGAIN = "Download or save the checkpoint again."


class Shards(Spread):
    """Weights of Keras 3 in several files.

    Args:
        index: what it is called, for messages.
        places: path of a group of variables -> the files that hold some of it.
    """

    def __init__(self, index: str, places: dict[str, tuple[str, ...]]) -> None:
        self._index = index
        self._places = places
        self.files = tuple(sorted({file for files in places.values() for file in files}))
        self.named = frozenset(self.files)

    def read(self, files: Sequence[SourceFile], *, check_data: bool) -> Header:  # noqa: ARG002  (there are no checksums)
        """The header of all files as one; errors as for `Container.read`."""
        headers = [self._header(file) for file in files]
        found = [
            (tensor.name, file.name)
            for file, header in zip(files, headers, strict=True)
            for tensor in header.tensors
            if not part_in(file.name)
        ]
        counts = Counter(name for name, _ in found)
        if doubled := [printable(name) for name, count in counts.items() if count > 1]:
            raise self._wrong(f"these tensors are in two shards:\n{listing(doubled)}")
        groups = {(f"/{name.rpartition('/')[0]}", file) for name, file in found}
        others = {(f"/{other.rpartition('/')[0]}", file.name) for file, header in zip(files, headers, strict=True)
                  for other in header.others}  # fmt: skip
        listed = {(group, file) for group, names in self._places.items() for file in names}
        for problem, pairs in (("names groups that its shards lack", listed - groups - others),
                               ("does not name groups that its shards hold", groups - listed)):  # fmt: skip
            if pairs:
                raise self._wrong(f"{problem}:\n{listing(sorted(printable(group) for group, _ in pairs))}")
        return Header(
            NAME,
            tuple(tensor for header in headers for tensor in header.tensors),
            headers[0].metadata,
            others=tuple(other for header in headers for other in header.others),
        )

    def _header(self, file: SourceFile) -> Header:
        if file.read(0, min(len(SIGNATURE), file.size)) != SIGNATURE:
            raise DamagedCheckpoint("is no HDF5, as its index says.", hint=_AGAIN, file=str(file.path))
        header = read_hdf5(file)
        return as_keras3(header, file.name)

    def _wrong(self, problem: str) -> DamagedCheckpoint:
        hint = "Shards of two saves are mixed: download or save the checkpoint again."
        return DamagedCheckpoint(problem, hint=hint, file=self._index)


def read_index(file: SourceFile) -> Shards:
    """What an index says.

    Raises:
        DamagedCheckpoint: no sound JSON, or no `weight_map` of names.
        UnsafeCheckpoint: too many layers or files.
    """
    path = str(file.path)
    if file.size > MAX_BYTES:
        raise UnsafeCheckpoint(f"has {file.size:,} bytes.", hint="No index is so long: do not use it.", file=path)
    try:
        said = parse_json(file.read_up_to(MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"is no sound JSON: {printable(str(error))[:200]}.", hint=_AGAIN, file=path) from error
    weight_map = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedCheckpoint("has no weight_map that names files.", hint=_AGAIN, file=path)
    if len(weight_map) > MAX_LAYERS:
        raise UnsafeCheckpoint(f"names {len(weight_map):,} layers.", hint="No model has so many.", file=path)
    places = {group: _files(group, files, path) for group, files in weight_map.items()}
    found = Shards(path, places)
    if len(found.files) > MAX_FILES:
        raise UnsafeCheckpoint(f"names {len(found.files):,} files.", hint="No model has so many.", file=path)
    return found


def _files(group: str, files: object, path: str) -> tuple[str, ...]:
    given = [files] if isinstance(files, str) else files
    given = given if isinstance(given, list) and len(given) <= MAX_FILES else []
    names = [name for name in given if isinstance(name, str)]
    named = bool(names) and len(names) == len(given) == len(set(names))
    if not named or not group.startswith("/") or len(group) > MAX_NAME:
        raise DamagedCheckpoint(
            "names no file, or one twice, for a group of variables.",
            hint=_AGAIN,
            file=path,
            tensor=printable(group)[:200],
        )
    if other := next((name for name in names if not name.endswith(".h5")), None):
        raise UnsupportedCheckpoint(
            f"names {printable(other)[:200]!r}, which is no HDF5 file.",
            hint="Save the weights again as .weights.h5.", file=path, tensor=printable(group)[:200],
        )  # fmt: skip
    return tuple(names)


def index_of(files: Sequence[PlannedFile]) -> bytes:
    """The index of files that were written: every group of variables, and the files that hold some of it."""
    places: dict[str, list[str]] = {}
    for file in files:
        for entry in file.entries:
            held = places.setdefault(f"/{entry.name.rpartition('/')[0]}", [])
            held += [] if file.name in held else [file.name]
    weight_map = {group: names[0] if len(names) == 1 else names for group, names in places.items()}
    total = sum(entry.nbytes for file in files for entry in file.entries)
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=4).encode()
