"""Activations: values and gradients of transformers 5's modules, every dtype, every half-precision number."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.activations import ACT2FN

from bertconv.config import classes
from bertconv.errors import UnsupportedCheckpoint
from bertconv.models.activations import ACTIVATIONS, activation

NAMES = sorted(ACTIVATIONS)
EACH = pytest.mark.parametrize("name", NAMES)
KINKS = [-10.0, -3.0, 3.0, 6.0, 10.0, 20.0]  # where definitions change, with the numbers next to them
GRID = np.concatenate([np.linspace(-30, 30, 6001), KINKS, np.nextafter(KINKS, -np.inf), np.nextafter(KINKS, np.inf)])
LARGEST = 1e150  # TensorFlow's erf is NaN where the square of a float64 overflows
EXTREME = np.array([s * 10.0**e for s in (-1, 1) for e in (-300, -160, -30, -8, -3, 2, 3, 4, 8, 52, 103, 150)])
ANY = st.floats(-30, 30, allow_subnormal=False) | st.floats(
    -LARGEST, LARGEST, allow_subnormal=False
)  # TensorFlow takes subnormals for 0


def ours(name: str, x: Any, compiled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    def run(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(name)(x)
        assert y.dtype == x.dtype
        return y, tape.gradient(y, x)

    unknown = tf.TensorSpec([None], x.dtype)
    call = tf.function(run, jit_compile=True, input_signature=[unknown]) if compiled else run
    value, gradient = call(tf.constant(x))
    return value.numpy(), gradient.numpy()


def theirs(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    given_ = torch.tensor(x, requires_grad=True)
    value = ACT2FN[name](given_)
    (gradient,) = torch.autograd.grad(value.sum(), given_)
    return value.detach().numpy(), gradient.numpy()


def assert_same(name: str, x: np.ndarray, tolerance: float, compiled: bool = False) -> None:
    """Equal wherever PyTorch has a number at all; ours is never NaN."""
    for mine, torchs in zip(ours(name, x, compiled), theirs(name, x), strict=True):
        assert not np.isnan(mine).any()
        known = np.isfinite(torchs)
        np.testing.assert_allclose(mine[known], torchs[known], rtol=tolerance, atol=tolerance)


def test_the_names_are_those_of_the_config() -> None:
    assert set(ACTIVATIONS) == classes.ACTIVATIONS
    assert len(NAMES) == 22


@EACH
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
def test_float64_is_pytorchs(name: str, compiled: bool) -> None:
    assert_same(name, np.concatenate([GRID, [-0.0], EXTREME]), 1e-12, compiled)


@EACH
@settings(deadline=None, max_examples=15)
@given(x=st.lists(ANY, min_size=40, max_size=80))
def test_any_float64_is_pytorchs(name: str, x: list[float]) -> None:
    """Every number for itself: many in few arrays are as good as few in many, and cost less."""
    assert_same(name, np.array(x), 1e-12)


@EACH
def test_float32_is_pytorchs(name: str) -> None:
    assert_same(name, GRID.astype(np.float32), 3e-6)


@EACH
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_every_half_is_near_float32(name: str, dtype: type) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        x = x[np.isfinite(x)]
    unit = float(ml_dtypes.finfo(dtype).eps)
    for half, single, units in zip(ours(name, x), ours(name, x.astype(np.float32)), (2, 8), strict=True):
        assert half.dtype == dtype
        with np.errstate(over="ignore"):
            wanted = single.astype(dtype).astype(np.float32)  # a square above 65504 is infinite in float16
        np.testing.assert_array_equal(np.isfinite(half), np.isfinite(wanted))
        finite = np.isfinite(wanted)
        error = np.abs(half.astype(np.float32)[finite] - wanted[finite])
        assert (error <= units * unit * np.maximum(1, np.abs(wanted[finite]))).all()


@pytest.mark.parametrize("name", ["prelu", "xielu", "glu", "GELU", "", "gelu_"])
def test_other_names_are_refused_with_the_known(name: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="is unknown or has parameters") as refusal:
        activation(name)
    assert repr(name) in refusal.value.message
    assert all(known in refusal.value.hint for known in NAMES)
