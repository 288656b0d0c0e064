"""Two checkpoints written from arrays, and what numpy says of their difference, on whole arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
from checkpoints import Tensors

from bertconv import Diff, diff_checkpoints
from bertconv.manage.difference.records import Change, TensorDiff

HEAD = "BertForPreTraining"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
QUERY_ID = "layer.1.query.weight"
WORD_ID = "embeddings.word.weight"


def normal(head: str = HEAD, seed: int = 0, **changes: Any) -> Tensors:
    """A state dict of normal numbers, small as those of a model."""
    rng = np.random.default_rng(seed)
    shapes = cp.shapes(head, cp.config(head, **changes))
    return {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def moved(tensors: Tensors, by: float, seed: int = 1, but: tuple[str, ...] = ()) -> Tensors:
    """The same, every number moved a little; tensors with one of these words in their names stay."""
    rng = np.random.default_rng(seed)
    return {
        name: value if any(word in name for word in but)
        else (value + by * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in tensors.items()
    }  # fmt: skip


def as_type(tensors: Tensors, dtype: str) -> Tensors:
    return {name: value.astype(cp.numpy_type(dtype)) for name, value in tensors.items()}


def diff_states(
    folder: Path, a: Tensors, b: Tensors, head: str = HEAD, containers: tuple[str, str] = ("safetensors",) * 2,
    changes_b: dict[str, Any] | None = None, **options: Any,
) -> Diff:  # fmt: skip
    """What differs between two state dicts with PyTorch's names."""
    cp.save(folder / "a", head, a, containers[0])
    cp.save(folder / "b", head, b, containers[1], **(changes_b or {}))
    return diff_checkpoints(folder / "a", folder / "b", **options)


def rows(diff: Diff) -> dict[str, TensorDiff]:
    return {one.id: one for one in diff.tensors}


def states(diff: Diff) -> dict[str, str]:
    """Id -> state, of what is not equal."""
    return {one.id: one.state for one in diff.tensors if one.state != "equal"}


def assert_numbers(found: Change | None, a: np.ndarray, b: np.ndarray) -> None:
    """A change is what numpy computes of two whole arrays of finite numbers."""
    assert found is not None
    one, other = (array.astype(np.float64).ravel() for array in (a, b))
    gap = other - one
    assert found.elements == one.size
    assert found.differing == np.count_nonzero(one.view("u8") != other.view("u8"))
    assert found.max_difference == np.abs(gap).max()
    np.testing.assert_allclose(found.norm_a, np.linalg.norm(one), rtol=1e-12)
    np.testing.assert_allclose(found.norm_b, np.linalg.norm(other), rtol=1e-12)
    np.testing.assert_allclose(found.norm, np.linalg.norm(gap), rtol=1e-12)
    np.testing.assert_allclose(found.relative, np.linalg.norm(gap) / np.linalg.norm(one), rtol=1e-12)
    assert found.cosine is not None
    # 1 - cosine is small and exact here: numpy's own has the rounding of a cosine near 1
    np.testing.assert_allclose(found.cosine, one @ other / (np.linalg.norm(one) * np.linalg.norm(other)), rtol=1e-12)
