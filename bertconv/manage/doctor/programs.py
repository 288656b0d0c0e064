"""What other programs do with a checkpoint, as far as it was measured: the files they take, and what they leave out.

Measured with transformers 5.24 and 4.57.6 (PyTorch, and TensorFlow with tf_keras) and KerasHub 0.32. What
transformers 5 does is shown by tests/manage/test_doctor_transformers.py; docs/doctor.md has the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bertconv.containers.container import Container
from bertconv.containers.hdf5 import KerasHdf5
from bertconv.containers.pytorch import PyTorch
from bertconv.containers.safetensors import Safetensors
from bertconv.errors import RequestError
from bertconv.records import dataclass
from bertconv.text import listed


@dataclass(frozen=True)
class Program:
    """A program that people load checkpoints with.

    Attributes:
        key: in JSON and in options.
        title: in sentences.
        files: names of the files of weights that it looks for, the first that is there is read.
    """

    key: str
    title: str
    files: tuple[str, ...] = ()

    def reads(self, names: Collection[str]) -> str | None:
        """Which of these files it reads; None where it finds none."""
        return next((name for name in self.files if name in names), None)


def _files(*containers: Container) -> tuple[str, ...]:
    return tuple(name for container in containers for name in (container.file_name, container.index_name))


_SAFE, _PICKLE, _KERAS = Safetensors(), PyTorch(), KerasHdf5()

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""Files of an adapter; with peft installed, transformers loads it wherever it finds the first of them."""

TRANSFORMERS_5 = Program("transformers-5", "transformers 5", _files(_SAFE, _PICKLE))
TORCH_4 = Program("transformers-4-torch", "transformers 4.57 with PyTorch", _files(_SAFE, _PICKLE))
TENSORFLOW_4 = Program("transformers-4-tensorflow", "transformers 4.57 with TensorFlow", _files(_SAFE, _KERAS))
KERASHUB = Program("kerashub", "KerasHub", tuple(reversed(_files(_SAFE))))
BERTCONV = Program("bertconv", "bertconv", _files(_SAFE, _PICKLE, _KERAS))
OTHERS = Program("others", "other readers")

PROGRAMS = {one.key: one for one in (TRANSFORMERS_5, TORCH_4, TENSORFLOW_4, KERASHUB, BERTCONV, OTHERS)}
EVERY = tuple(PROGRAMS)
"""Keys of all of them."""
ON_TORCH = (TRANSFORMERS_5.key, TORCH_4.key)


@dataclass(frozen=True)
class Fixed:
    """What KerasHub computes with for every checkpoint of a family, whatever its config says.

    Attributes:
        activation: as `hidden_act`.
        epsilon: as `layer_norm_eps`.
        segments: as `type_vocab_size`; None where the config's is taken, or its rows are not.
        pooler: whether a file without a pooler cannot be loaded.
    """

    activation: str
    epsilon: float
    segments: int | None = None
    pooler: bool = False


KERASHUB_FIXED = {
    "bert": Fixed("gelu_new", 1e-12, 2, pooler=True),
    "roberta": Fixed("gelu", 1e-5),
    "xlm-roberta": Fixed("gelu", 1e-5),
    "distilbert": Fixed("gelu", 1e-12),
    "albert": Fixed("gelu_new", 1e-12, pooler=True),
}
"""The families that KerasHub loads from Hugging Face's files; measured with random models of each."""


def chosen(keys: Iterable[str]) -> frozenset[str]:
    """Keys of programs, checked; all of them where none is given.

    Raises:
        RequestError: there is no such program.
    """
    found = frozenset(keys)
    if unknown := sorted(found - PROGRAMS.keys()):
        raise RequestError(f"there is no program {unknown[0]!r}.", hint=f"Choose one of {listed(PROGRAMS)}.")
    return found or frozenset(PROGRAMS)
