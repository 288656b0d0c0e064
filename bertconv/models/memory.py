"""Tensors that share their memory with a numpy array, so that a weight is read from disk into the variable itself.

`tf.convert_to_tensor` copies an array; through DLPack (dmlc.github.io/dlpack) TensorFlow takes the array's own memory,
and a variable keeps the tensor that it is assigned. Fresh memory from the system costs nothing until it is written to.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf

ALIGNMENT = 64
"""Bytes; TensorFlow copies memory that begins anywhere else."""
MAPPED = 64 << 10
"""Bytes from which an array gets pages of its own: malloc would recycle some, clear them and not give them back."""

_SHARED = ("float16", "float32", "float64")
_BLANK: ContextVar[bool] = ContextVar("blank", default=False)


def empty_array(shape: Sequence[int], dtype: str) -> np.ndarray[Any, Any]:
    """An array of zeros whose memory TensorFlow can take over."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= MAPPED:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return np.frombuffer(pages, dtype).reshape(shape)
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def as_tensor(array: np.ndarray[Any, Any]) -> tf.Tensor:
    """A tensor on the array's own memory: the array must not be written to after this."""
    if array.size and array.dtype.name in _SHARED and array.ctypes.data % ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.convert_to_tensor(array)


@contextmanager
def blank_weights() -> Iterator[None]:
    """Within it, weights are created without values and without memory, since values will be assigned to them."""
    token = _BLANK.set(True)
    try:
        yield
    finally:
        _BLANK.reset(token)


@keras.saving.register_keras_serializable(package="bertconv")
class Fresh(keras.initializers.Initializer):
    """An initializer that does nothing within `blank_weights`.

    Args:
        inner: makes the values everywhere else.
    """

    def __init__(self, inner: keras.initializers.Initializer) -> None:
        self.inner = inner

    def __call__(self, shape: Sequence[int], dtype: str | None = None, **kwargs: Any) -> tf.Tensor:
        """Values of a new weight."""
        name = keras.backend.standardize_dtype(dtype)
        if _BLANK.get():
            return as_tensor(empty_array(shape, name)) if name in _SHARED else tf.zeros(shape, name)
        return self.inner(shape, dtype=dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {"inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Fresh:
        """For Keras."""
        return cls(keras.saving.deserialize_keras_object(config["inner"]))
