"""What a header of HDF5 says where Keras 3 wrote it: what in it is a weight, and what state of the training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bertconv.containers.keras3.parts import VARIABLE, part_in
from bertconv.containers.stored import Header, StoredTensor

NAME = "keras3"

_OPTIMIZER = "optimizer/"
_SEEDS = re.compile(r"(^|/)(seed_generator(_\d+)?/vars/\d+|(vars/)?seed_generator_state)$")


def is_keras3(tensors: Sequence[StoredTensor]) -> bool:
    """Whether Keras 3 wrote them: no layer lists its weights, and some are numbered in a group of variables."""
    return any(VARIABLE.search(tensor.name) for tensor in tensors) and not any(tensor.group for tensor in tensors)


def as_keras3(header: Header, file: str) -> Header:
    """The header of a file of Keras 3; what is no weight is among `others`.

    Args:
        header: of the HDF5.
        file: what the file is called, which tells a part of a preset.
    """
    part = part_in(file)
    others = [tensor.name for tensor in header.tensors if _is_state(tensor)]
    tensors = [tensor for tensor in header.tensors if not _is_state(tensor)]
    if part:
        tensors = [replace(tensor, name=f"{part}/{tensor.name}", recorded="") for tensor in tensors]
    return Header(NAME, tuple(tensors), header.metadata, header.notes, (*header.others, *others))


def _is_state(tensor: StoredTensor) -> bool:
    """Whether it is the optimizer's, or a random generator's."""
    return tensor.name.startswith(_OPTIMIZER) or bool(tensor.dtype == "uint32" and _SEEDS.search(tensor.name))
