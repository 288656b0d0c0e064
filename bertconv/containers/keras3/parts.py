"""Names by which files of Keras 3 are told apart, and parts of a model that have a file of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

PARTS: Mapping[str, str] = {"task": "task.weights.h5"}
"""First part of a tensor's name -> the file that holds such tensors, without it: a KerasHub preset's head.

Both files call what lies in them `layers/dense`, which are two layers.
"""

WEIGHTS, CONFIG, METADATA = "model.weights.h5", "config.json", "metadata.json"
"""Records of a `.keras` archive."""
ARCHIVE = ".keras"
"""How its name ends."""

VARIABLE = re.compile(r"(^|/)vars/[0-9]+$")
"""The end of a variable's path; one that its layer named itself has a word instead of the number."""

_START, _NAME = b"PK\3\4", 30


def is_keras_archive(start: bytes) -> bool:
    """Whether a file that begins so is a `.keras` archive: other archives of weights have a folder around all."""
    length = int.from_bytes(start[26:28], "little")
    first = start[_NAME : _NAME + length]
    return start.startswith(_START) and first in {name.encode() for name in (WEIGHTS, CONFIG, METADATA)}


def part_of(name: str) -> str:
    """The part that a tensor's name says it belongs to; nothing for the body."""
    first = name.partition("/")[0]
    return first if first in PARTS else ""


def part_in(file: str) -> str:
    """The part whose file is called so; nothing for any other."""
    return next((part for part, name in PARTS.items() if name == file), "")
