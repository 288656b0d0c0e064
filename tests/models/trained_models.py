"""Small models that are trained the same way every time, and how their weights are compared."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from tiny_models import config, tf_class

CLASSIFIER = "BertForSequenceClassification"


def make(head: str = CLASSIFIER, dtype: Any = None, **changes: Any) -> Any:
    """The same weights every time."""
    keras.utils.set_random_seed(7)
    settings = config(head, **{"initializer_range": 0.3, "num_hidden_layers": 1, **changes})
    return tf_class(head)(settings, dtype=dtype)


def compiled(
    head: str = CLASSIFIER, *, optimizer: Any = None, dtype: Any = None, changes: Any = None, **how: Any
) -> Any:
    """Eager unless a test says otherwise: nothing is traced, and Keras takes the same steps."""
    model = make(head, dtype, **(changes or {}))
    model.compile(optimizer or keras.optimizers.SGD(0.125), **{"run_eagerly": True, **how})
    return model


class Batches(keras.utils.Sequence):  # type: ignore[misc]
    """What a program's Sequence is: given batches, and a note of the ends of epochs."""

    def __init__(self, *batches: Any, workers: int = 1) -> None:
        super().__init__(workers=workers)
        self.batches, self.ends = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]

    def on_epoch_end(self) -> None:
        self.ends += 1


def weights(model: Any) -> list[np.ndarray]:
    return [np.array(each) for each in model.get_weights()]


def same(one: list[np.ndarray], two: list[np.ndarray], tolerance: float = 0.0) -> bool:
    return all(np.abs(a - b).max() <= tolerance * max(1, np.abs(b).max()) for a, b in zip(one, two, strict=True))
