"""A sound checkpoint folder, somebody else's secrets beside it, and the ways in which files are made hostile."""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import checkpoints as cp
from hostile_case import CONFIG, STATE, VICTIM

from bertconv.errors import BertconvError

WEIGHTS, INDEX, CONFIG_NAME = "model.safetensors", "model.safetensors.index.json", "config.json"
SHARDS = tuple(f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3))
SHARD = next(SHARDS[number % 3] for number, name in enumerate(STATE) if name == VICTIM)
FIRST = next(iter(STATE))
"""The tensor that an index names first, in `SHARDS[0]`."""
SECRET = "what nobody but its owner may read "
"""In files that no command may open."""

Change = Callable[[Path], object]
Content = bytes | Callable[[], bytes]
"""A function where it takes a while or much memory to make: what is not tested is not made."""


@dataclass(frozen=True)
class Folder:
    """A folder and what becomes of it.

    Attributes:
        change: makes a sound folder a hostile one.
        error: class of the error that the conversion ends in.
        words: part of its message.
        file: the file that it names, relative to the folder; None where the error is about more than one.
        tensor: the tensor that it names.
        said: None where `inspect` refuses too, as it must what it reads; else what it notes, may be nothing.
        shards: whether the weights are three shards with an index.
    """

    change: Change
    error: type[BertconvError]
    words: str
    file: str | None = WEIGHTS
    tensor: str | None = None
    said: str | None = None
    shards: bool = False

    def write(self, root: Path) -> Path:
        """The folder `model` below `root`, and `secret` beside it, to which nothing in it may lead."""
        folder = sound(root / "model", shards=self.shards)
        secrets(root / "secret")
        self.change(folder)
        return folder


def part(shard: str) -> bytes:
    """The content of a shard of the sound model."""
    names = list(STATE)[SHARDS.index(shard) :: 3]
    return cp.safetensors_bytes({name: STATE[name] for name in names}, {"format": "pt"})


WEIGHT_MAP = {name: SHARDS[number % 3] for number, name in enumerate(STATE)}
_WHOLE = cp.safetensors_bytes(STATE, {"format": "pt"})
_PARTS = {shard: part(shard) for shard in SHARDS}


def sound(folder: Path, *, shards: bool) -> Path:
    cp.write_config(folder, CONFIG)
    if not shards:
        (folder / WEIGHTS).write_bytes(_WHOLE)
        return folder
    for shard, content in _PARTS.items():
        (folder / shard).write_bytes(content)
    cp.write_index(folder, WEIGHT_MAP)
    return folder


class _Fires:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.canary),)


def payload(canary: Path) -> bytes:
    """A pickle that makes a folder when it is loaded."""
    return pickle.dumps(_Fires(canary))


def secrets(folder: Path) -> None:
    """Files of somebody else, each of them good enough to be taken for one of the checkpoint's."""
    folder.mkdir()
    for shard, content in _PARTS.items():
        (folder / shard).write_bytes(content)
    cp.write_config(folder, CONFIG)
    cp.write_index(folder, WEIGHT_MAP)
    (folder / WEIGHTS).write_bytes(_WHOLE)
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).write_text(f'{{"secret": "{SECRET}"}}')
    (folder / "pytorch_model.bin").write_bytes(payload(folder.parent / "canary"))


# Changes


def put(name: str, content: Content = b"", *, sparse: int = 0) -> Change:
    """A file in the folder; with `sparse` of that length, without taking the room."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content() if callable(content) else content)
        if sparse:
            os.truncate(folder / name, sparse)

    return change


def gone(folder: Path, name: str) -> Path:
    """The path of a file, which is made to be no more."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def fifo(name: str) -> Change:
    return lambda folder: os.mkfifo(gone(folder, name))


def directory(name: str) -> Change:
    return lambda folder: gone(folder, name).mkdir()


def bound(name: str) -> Change:
    """A socket, bound by a short name, since the system's limit is 107 bytes."""

    def change(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as end:
            end.bind(f"{short}/s")
            Path(short, "s").rename(gone(folder, name))

    return change


def link(name: str, target: str) -> Change:
    """A link; `{root}` in its target is the folder above."""
    return lambda folder: gone(folder, name).symlink_to(target.format(root=folder.parent))


def chain(name: str) -> Change:
    """A link to a link, both of them inside, to a file outside."""

    def change(folder: Path) -> None:
        (folder / "middle").symlink_to(f"../secret/{name}")
        gone(folder, name).symlink_to("middle")

    return change


def inside(name: str) -> Change:
    """A link that stays in the folder."""

    def change(folder: Path) -> None:
        (folder / name).rename(folder / "real")
        (folder / name).symlink_to("real")

    return change
