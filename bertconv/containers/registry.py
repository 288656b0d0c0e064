"""Every container, and which one a file is: recognised by its first bytes, never by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bertconv.containers.bundle import Bundle, ObjectBundle
from bertconv.containers.bundle.constants import MAGIC
from bertconv.containers.container import Container, SpreadContainer
from bertconv.containers.distributed import Distributed
from bertconv.containers.hdf5 import KerasHdf5
from bertconv.containers.keras3 import Keras3
from bertconv.containers.msgpack import FlaxMsgpack
from bertconv.containers.onnx import Onnx
from bertconv.containers.pytorch import PyTorch
from bertconv.containers.safetensors import Safetensors
from bertconv.containers.stored import Header, SourceFile
from bertconv.errors import DamagedCheckpoint, UnsupportedCheckpoint

_KERAS3 = Keras3()

CONTAINERS: tuple[Container, ...] = (
    Safetensors(),  # first: the bytes of a length may look like any of the others
    PyTorch(),
    KerasHdf5(),
    _KERAS3,
    FlaxMsgpack(),  # after those with a magic: it has none
    Onnx(),  # last: it has no magic
)
"""In the order in which they are recognised, and looked for in a folder."""

SPREAD: tuple[SpreadContainer, ...] = (Distributed(), Bundle(), ObjectBundle(), _KERAS3)
"""Those whose index alone says what their files hold: known by its name; those that are only so are looked for last."""

BY_NAME: dict[str, Container] = {container.name: container for container in (*CONTAINERS, *SPREAD)}

_IMPOSTORS = (
    (b"version https://git-lfs", "is a Git-LFS pointer, not the file itself", "Run `git lfs pull` in its repository."),
    (b"<!doctype", "is an HTML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"<html", "is an HTML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"<?xml", "is an XML page, not a checkpoint", "The download went wrong: fetch the file itself."),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it first."),
    (b"model_checkpoint_path:", "is TensorFlow's list of checkpoints, not one of them",
     "Give the folder, or the prefix of one of them: FOLDER/PREFIX."),
    (b"{", "is a JSON text, not a checkpoint", "Give the file or folder that holds the weights."),
)  # fmt: skip


_NO_CHANCE = 5
"""Bytes of a beginning that numbers do not have by chance."""

_EXPORTS = (
    (re.compile(rb"GGUF"), "is a GGUF model"),
    # A version, the length of a name, and the name of a specification: ctranslate2, specs/model_spec.py.
    (re.compile(rb".\0\0\0.\0\w{1,60}Spec\0", re.DOTALL), "is a CTranslate2 model"),
)
"""How files of other tools begin that were made from a checkpoint."""


def preferred(*first: str) -> tuple[str, ...]:
    """Names of all containers, with these in front: the order in which they are looked for in a folder."""
    return tuple(dict.fromkeys((*first, *BY_NAME)))


def containers_of(names: Iterable[str]) -> Iterator[str]:
    """Names of the containers of files of weights, by the names of the files alone."""
    given = list(names)
    yield from (one.name for one in CONTAINERS if any(name.endswith(one.suffixes) for name in given))
    yield from (one.name for one in SPREAD if any(one.index_of(name) is not None for name in given))


def read_header(file: SourceFile, *, check_data: bool = True) -> Header:
    """The header of one file.

    Args:
        file: the file.
        check_data: also check the checksums that its container has.

    Raises:
        DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint: as for `Container.read`; or it is none of them.
    """
    return _recognised(file).read(file, check_data=check_data)


def refuse_impostor(file: SourceFile) -> None:
    """DamagedCheckpoint for what stands in place of a file of plain numbers, such as a Git-LFS pointer.

    Numbers may begin with any byte, so only beginnings that are too long to be a chance count.
    """
    start = file.read(0, min(512, file.size)).lower()
    for beginning, what, hint in _IMPOSTORS:
        if len(beginning) >= _NO_CHANCE and start.startswith(beginning):
            raise DamagedCheckpoint(f"{what}.", hint=hint, file=str(file.path))


def _recognised(file: SourceFile) -> Container:
    start = file.read(0, min(512, file.size))
    for container in CONTAINERS:
        if container.recognises(start, file.size):
            return container
    _refuse_known(file, start)
    _refuse_table(file)
    if file.size < 9:
        problem = f"has only {file.size} bytes." if file.size else "is empty: it has 0 bytes."
        raise DamagedCheckpoint(problem, hint="Download or copy it again.", file=str(file.path))
    if start[257:262] == b"ustar":
        raise UnsupportedCheckpoint("is a tar archive.", hint="Unpack it first.", file=str(file.path))
    for container in CONTAINERS:
        if container.resembles(start):
            return container
    raise DamagedCheckpoint(
        f"is neither {' nor '.join(container.kind for container in CONTAINERS)}.",
        hint="Give the file or folder that holds the weights.",
        file=str(file.path),
    )


def _refuse_table(file: SourceFile) -> None:
    """Refuse what ends as an index of TensorFlow does and is not named so: in its first version it was all of them."""
    if file.size >= len(MAGIC) and file.read(file.size - len(MAGIC), len(MAGIC)) == MAGIC:
        raise UnsupportedCheckpoint(
            "is a TensorFlow checkpoint of the first version, in one file, or an index under another name.",
            hint="Name an index PREFIX.index; load the first version with TensorFlow's Saver, and save it again.",
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
