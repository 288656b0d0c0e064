"""Two checkpoints written from arrays, opened as one class, and compared tensor by tensor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
from checkpoints import Tensors

from bertconv.checkpoint import Checkpoint, open_checkpoint
from bertconv.source import SourceOptions
from bertconv.verify.parity import TensorComparison
from bertconv.verify.weights import compare_weights

Rows = dict[str, TensorComparison]

TINY = {
    "vocab_size": 17, "num_attention_heads": 3, "hidden_size": 6, "intermediate_size": 11,
    "max_position_embeddings": 13, "type_vocab_size": 3, "num_hidden_layers": 3,
}  # fmt: skip
"""Sizes of models that are only looked at as numbers."""

QUERY = "bert.encoder.layer.1.attention.self.query.weight"
SMALL = {**TINY, "num_hidden_layers": 2}
"""Sizes of models that are run."""

WIDE = "bert.encoder.layer.0.intermediate.dense.weight"


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def opened(a: Path, b: Path, head: str | None = None) -> Iterator[tuple[Checkpoint, Checkpoint]]:
    """Both sides, A as the class of B, as `verify_checkpoint` opens them."""
    with (
        open_checkpoint(b, SourceOptions(), head=head) as there,
        open_checkpoint(a, SourceOptions(), head=head or there.head) as here,
    ):
        yield here, there


def compare_folders(a: Path, b: Path, head: str | None = None) -> Rows:
    with opened(a, b, head) as (here, there):
        return {row.id: row for row in compare_weights(here, there)}


def compare_states(a: Tensors, b: Tensors, head: str = "BertForPreTraining", container: str = "safetensors",
                   **changes: Any) -> Rows:  # fmt: skip
    """The rows of two state dicts with PyTorch's names, the first in safetensors, the second in any container."""
    with scratch() as folder:
        cp.save(folder / "a", head, a, **changes)
        cp.save(folder / "b", head, b, container, **changes)
        return compare_folders(folder / "a", folder / "b", head)


def replaced(tensors: Tensors, changes: Mapping[str, np.ndarray]) -> Tensors:
    """The same with some tensors changed, which must be there."""
    assert changes.keys() <= tensors.keys()
    return {**tensors, **changes}


def states(rows: Rows) -> dict[str, str]:
    """Neutral id -> state, of the rows that are not equal."""
    return {place: row.state for place, row in rows.items() if row.state != "equal"}


def with_value(array: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[index] = value
    return changed


def tiny(
    head: str = "BertForPreTraining", dtype: str = "float32", seed: int = 0, std: float = 1.0, **changes: Any
) -> Tensors:
    """A state dict of the sizes in TINY, normal numbers of this spread."""
    rng = np.random.default_rng(seed)
    return {
        name: (std * rng.standard_normal(shape)).astype(cp.numpy_type(dtype))
        for name, shape in cp.shapes(head, cp.config(head, **{**TINY, **changes})).items()
    }


@dataclass
class Models:
    """Random models in folders, each written once."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def __call__(self, head: str = "BertModel", container: str = "safetensors", **changes: Any) -> Path:
        """A folder with a model of a head, the sizes in SMALL and these changes of its config.

        `dtype` and `without`, a part of names to leave out, are of its tensors; so is `seed`.
        """
        key = json.dumps([head, container, changes])
        if key not in self.made:
            own = {name: changes.pop(name, default) for name, default in
                   (("dtype", "float32"), ("seed", 0), ("without", "no name"))}  # fmt: skip
            labels = {"labels": 2} if head == "BertForQuestionAnswering" else {}
            changes = {**SMALL, **labels, **changes}
            state = tiny(head, own["dtype"], own["seed"], 0.3, **changes)
            if changes.get("tie_word_embeddings") is False:
                state |= untied(state)
            state = {name: value for name, value in state.items() if own["without"] not in name}
            self.made[key] = cp.save(self.folder / str(len(self.made)), head, state, container, **changes)
        return self.made[key]


def untied(state: Tensors) -> Tensors:
    """A decoder of its own for a model whose other tensors these are."""
    rng = np.random.default_rng(99)
    shapes = {cp.DECODER: state[cp.WORD].shape, cp.DECODER_BIAS: state[cp.MLM_BIAS].shape}
    return {name: (0.3 * rng.standard_normal(shape)).astype(state[cp.WORD].dtype) for name, shape in shapes.items()}
