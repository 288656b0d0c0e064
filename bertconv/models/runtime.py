"""TensorFlow and Keras 3 as the classes need them; one sentence for a process in which they are something else."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings

from bertconv.errors import UnsupportedRuntime

OLDEST_KERAS = 3
_YES = ("1", "true", "yes", "on")


def check_runtime() -> None:
    """Refuse a process without TensorFlow or with another Keras backend; warn where `tf.keras` is Keras 2.

    Raises:
        UnsupportedRuntime: TensorFlow is not installed, Keras is none or of version 2, or runs on another backend.
    """
    for module, name in (("tensorflow", "TensorFlow"), ("keras", "Keras")):
        if importlib.util.find_spec(module) is None:
            raise UnsupportedRuntime(
                f"{name} is not installed, and the TF classes are built on it.",
                hint="Install it: `pip install 'bertconv[tf]'`.",
            )
    if "keras" not in sys.modules:  # which may be unable to import that backend
        _check_backend(os.environ.get("KERAS_BACKEND") or "tensorflow")
    import keras

    if int(keras.__version__.partition(".")[0]) < OLDEST_KERAS:
        raise UnsupportedRuntime(
            f"Keras {keras.__version__} is installed, and the TF classes need Keras 3.",
            hint="Upgrade: `pip install --upgrade 'bertconv[tf]'`.",
        )
    _check_backend(keras.backend.backend())
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in _YES:
        warnings.warn(
            "TF_USE_LEGACY_KERAS makes tf.keras Keras 2 in this process, whose optimizers, losses and callbacks do not "
            "work with bertconv's Keras 3 models: take them from `keras`, or unset the variable before "
            "TensorFlow is imported.",
            stacklevel=3,
        )


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise UnsupportedRuntime(
            f"Keras runs on {name} in this process, and the TF classes need TensorFlow.",
            hint="Set KERAS_BACKEND=tensorflow before keras is imported.",
        )


check_runtime()
