"""A whole BERT as a distributed checkpoint, two files and an index, and the ways to change one thing of it."""

from __future__ import annotations

import copyreg
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import checkpoints as cp
import distributed_folders as dcp
import torch
from hostile_case import CONFIG, STATE, VICTIM
from hostile_folders import Change, Folder, fifo, put, secrets
from torch.distributed.checkpoint import metadata as m

INDEX, FILES = ".metadata", ("__0_0.distcp", "__1_0.distcp")
NAME = f"model.{VICTIM}"
MATRIX = NAME.replace("bias", "weight")
COUNT = STATE[VICTIM].size
HALF = -(-COUNT // 2)
FIRST, SECOND = m.MetadataIndex(NAME, [0]), m.MetadataIndex(NAME, [HALF])

Edit = Callable[[Any], object]


@cache
def sound_files() -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        dcp.write(Path(folder), {"model": cp.torch_tensors(STATE), "step": 3}, dcp.along(0, 2))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def sound(folder: Path) -> Path:
    cp.write_config(folder, CONFIG)
    for name, content in sound_files().items():
        (folder / name).write_bytes(content)
    return folder


@dataclass(frozen=True)
class Spread(Folder):
    """A folder as of `Folder`, of another container."""

    file: str | None = INDEX

    def write(self, root: Path) -> Path:
        """The folder `model` below `root`, and `secret` beside it, to which nothing in it may lead."""
        folder = sound(root / "model")
        secrets(root / "secret")
        for name, content in sound_files().items():
            (root / "secret" / name).write_bytes(content)
        self.change(folder)
        return folder


# Changes of the index


def index(edit: Edit) -> Change:
    """The index with something else in it."""

    def change(folder: Path) -> None:
        made = pickle.loads(sound_files()[INDEX])
        found = edit(made)
        (folder / INDEX).write_bytes(found if isinstance(found, bytes) else pickle.dumps(found or made))

    return change


def raw(data: bytes) -> Change:
    return put(INDEX, data)


def field(name: str, value: object) -> Change:
    return index(lambda made: setattr(made, name, value))


def place(key: Any = FIRST, **changes: object) -> Change:
    """Where a chunk lies, and nothing or something else."""
    return index(lambda made: vars(made.storage_data[key]).update(changes))


def chunk(number: int, offsets: Any = None, sizes: Any = None, name: str = NAME) -> Change:
    """A chunk of the victim with another corner, which its place has too, or with other sizes."""

    def edit(made: Any) -> None:
        one = made.state_dict_metadata[name].chunks[number]
        if offsets is not None:
            made.storage_data[m.MetadataIndex(name, offsets)] = made.storage_data.pop(
                m.MetadataIndex(name, one.offsets)
            )
            one.offsets = torch.Size(offsets)
        one.sizes = one.sizes if sizes is None else torch.Size(sizes)

    return index(edit)


def tensor(**changes: object) -> Change:
    return index(lambda made: vars(made.state_dict_metadata[NAME]).update(changes))


def dtype(value: object) -> Change:
    class Properties:
        def __reduce__(self) -> tuple[object, ...]:
            kind = m._MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT
            made = (m.TensorProperties, object, None)
            return copyreg._reconstructor, made, (value, torch.strided, False, kind, False)  # type: ignore[attr-defined]

    return tensor(properties=Properties())


def doubled(made: Any) -> bytes:
    """Two places under one key, which a dictionary of Python's cannot have."""
    other = "Z" * len(NAME)
    made.storage_data[m.MetadataIndex(other, [0])] = made.storage_data[FIRST]
    return pickle.dumps(made).replace(other.encode(), NAME.encode())


def listed_twice(made: Any) -> bytes:
    other = "Z" * len(NAME)
    made.state_dict_metadata[other] = made.state_dict_metadata[NAME]
    return pickle.dumps(made).replace(other.encode(), NAME.encode())


class Calls:
    """A pickle of it calls."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def firing(put_in: Callable[[Any, object], object]) -> Change:
    """The index with a call in it that makes the canary."""

    def change(folder: Path) -> None:
        made = pickle.loads(sound_files()[INDEX])
        put_in(made, Calls(os.mkdir, str(folder.parent / "canary")))
        (folder / INDEX).write_bytes(pickle.dumps(made))

    return change


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def with_places(names: dict[str, Any]) -> Edit:
    return lambda made: made.planner_data.update(names)


# Changes of the files


def file(change: Callable[[bytes], bytes], name: str = FILES[0]) -> Change:
    return put_changed(name, change)


def put_changed(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def inner(make: Callable[[Any], bytes]) -> Change:
    """The first chunk of the victim as something else, in its place; what follows it in the file moves."""

    def change(folder: Path) -> None:
        made = pickle.loads(sound_files()[INDEX])
        info = made.storage_data[FIRST]
        data = make(torch.from_numpy(STATE[VICTIM][:HALF].copy()))
        old = (folder / info.relative_path).read_bytes()
        end = info.offset + info.length
        (folder / info.relative_path).write_bytes(old[: info.offset] + data + old[end:])
        for other in made.storage_data.values():
            if other.relative_path == info.relative_path and other.offset > info.offset:
                other.offset += len(data) - info.length
        info.length = len(data)
        (folder / INDEX).write_bytes(pickle.dumps(made))

    return change


def rezipped(value: object, method: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """What torch.save writes, packed again."""
    found = BytesIO()
    with zipfile.ZipFile(BytesIO(dcp.saved(value))) as old, zipfile.ZipFile(found, "w", method) as new:
        for one in old.infolist():
            last = one.filename.rpartition("/")[2].partition(".")[0]
            new.writestr(one.filename, replaced.get(last, old.read(one)))
    return found.getvalue()


def flipped(part: Any) -> bytes:
    data = bytearray(dcp.saved(part))
    data[data.index(part.numpy().tobytes())] ^= 1
    return bytes(data)


def linked(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder.parent / "secret" / name)

    return change


def gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def a_pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        fifo(name)(folder)

    return change


def restreamed(text: str) -> Callable[[bytes], bytes]:
    """A stream that says this of where its chunks begin."""

    def change(data: bytes) -> bytes:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        header["__metadata__"]["DCP_SHARDING_INFO"] = text
        return cp.with_header(json.dumps(header).encode(), data[end:])

    return change


def streams(change: Callable[[bytes], bytes]) -> Change:
    def made(folder: Path) -> None:
        for name in (INDEX, *FILES):
            (folder / name).unlink()
        dcp.write(folder, {"model": cp.torch_tensors(STATE)}, dcp.along(0, 2), safetensors=True)
        put_changed(FILES[0], change)(folder)

    return made


def overlapping(made: Any) -> None:
    """Chunks of as many elements as the tensor has, of which two meet."""
    one = made.state_dict_metadata[MATRIX]
    first, second = one.chunks
    rows, columns = one.size
    left = rows - first.sizes[0]
    first.sizes, second.sizes = torch.Size([first.sizes[0], columns]), torch.Size([left, columns])
    made.storage_data[m.MetadataIndex(MATRIX, [first.sizes[0] - 1, 0])] = made.storage_data.pop(
        m.MetadataIndex(MATRIX, second.offsets)
    )
    second.offsets = torch.Size([first.sizes[0] - 1, 0])
