"""TensorFlow and Keras 3 as the classes need them; one sentence for a process in which they are something else."""

from __future__ import annotations

import importlib.util
import os
import warnings

from bertconv.errors import UnsupportedCheckpoint

_YES = ("1", "true", "yes", "on")


def check_runtime() -> None:
    """Refuse a process without TensorFlow or with another Keras backend; warn where `tf.keras` is Keras 2.

    Raises:
        UnsupportedCheckpoint: TensorFlow is not installed, or Keras runs on another backend.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UnsupportedCheckpoint(
            "TensorFlow is not installed, and the TF classes are built on it.",
            hint="Install it: `pip install 'bertconv[tf]'`.",
        )
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UnsupportedCheckpoint(
            f"Keras runs on {keras.backend.backend()} in this process, and the TF classes need TensorFlow.",
            hint="Set KERAS_BACKEND=tensorflow before keras is imported.",
        )
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in _YES:
        warnings.warn(
            "TF_USE_LEGACY_KERAS makes tf.keras Keras 2 in this process, whose optimizers, losses and callbacks do not "
            " work with bertconv's Keras 3 models: take them from `keras`, or unset the variable before "
            "TensorFlow is imported.",
            stacklevel=3,
        )


check_runtime()
