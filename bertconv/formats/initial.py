"""Values of tensors that a source lacks and an option has made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertconv.formats.streaming import Elements


def initial_values(shape: tuple[int, ...], role: str, dtype: str, seed: str, spread: float) -> Elements:
    """Fresh values for a tensor that the source lacks, the same in every run.

    Weights are normal with the config's `initializer_range`, LayerNorm scales one, everything else zero, as the models'
    own initialisation (Devlin et al. 2018, google-research/bert, modeling.py).

    Args:
        shape: of the tensor.
        role: "weight", "bias", "scale", "shift" or "value".
        dtype: element type.
        seed: text that the values are drawn from, such as the tensor's neutral id.
        spread: standard deviation of weights.
    """
    import hashlib

    import numpy as np

    from bertconv.formats.streaming import cast

    if role == "weight":
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
        values = np.random.default_rng(number).standard_normal(shape, dtype=np.float32) * np.float32(spread)
    else:
        values = np.full(shape, 1.0 if role == "scale" else 0.0, dtype=np.float32)
    return cast(values.reshape(-1).view("u4"), "float32", dtype)
