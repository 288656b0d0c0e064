"""Small models that are called, what they are called with, and how their outputs are compared."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tiny_models import SIZES, Arrays, config, relative_error, tf_class

HIDDEN, HEAD_COUNT, LAYERS = SIZES["hidden_size"], SIZES["num_attention_heads"], SIZES["num_hidden_layers"]
NAMES = ("input_ids", "attention_mask", "token_type_ids")
CLASSIFIER = "BertForSequenceClassification"


def make(head: str = CLASSIFIER, dtype: Any = None, **changes: Any) -> Any:
    keras.utils.set_random_seed(7)
    return tf_class(head)(config(head, **{"initializer_range": 0.5, **changes}), dtype=dtype)


def tensors(arrays: Arrays, dtype: Any = tf.int32) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value, dtype) for name, value in arrays.items()}


def assert_close(found: Any, wanted: Any, tolerance: float = 2e-6) -> None:
    assert relative_error(found, wanted) < tolerance
