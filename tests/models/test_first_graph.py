"""The first step of training is traced once: what it needs of variables is there before."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from bertconv import BertConfig, TFBertForSequenceClassification

SIZES = {
    "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
}  # fmt: skip


class Counting(TFBertForSequenceClassification):
    """How often its steps were traced; a variable that is made inside a tf.function makes TensorFlow trace it again."""

    traced = 0

    def train_step(self, data: Any) -> Any:
        self.traced += 1
        return super().train_step(data)

    def test_step(self, data: Any) -> Any:
        self.traced += 1
        return super().test_step(data)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_step_is_traced_once(method: str) -> None:
    model = Counting(BertConfig(**SIZES))
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9, name="sgd"), metrics=["accuracy"])
    getattr(model, method)(np.array([[2, 7, 3], [2, 9, 3]]), np.array([0, 1]), verbose=0)
    assert model.traced == 1
    assert "accuracy/total" in {variable.path for variable in model.metrics_variables}
    if method == "fit":  # the names are those that Keras gives in `apply`
        other = keras.optimizers.SGD(1e-3, momentum=0.9, name="sgd")
        with keras.name_scope("sgd", caller=other):
            other.build(model.trainable_variables)
        assert [each.path for each in model.optimizer.variables] == [each.path for each in other.variables]
        assert len(other.variables) > len(model.trainable_variables)
