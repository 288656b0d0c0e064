"""Weights of layers that nobody named, which Keras counts through a process, go to where they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tiny_models as tiny

from bertconv import TFBertMainLayer, TFBertModel, TFBertPreTrainedModel
from bertconv.models.counted_names import same_but_for_numbers

pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning",  # of weights that were not found
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
)


class Unnamed(TFBertPreTrainedModel):
    """Layers of all sorts without names, two of them alike."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, add_pooling_layer=False, name="bert")
        self.lstm = keras.layers.Bidirectional(keras.layers.LSTM(2))
        self.mixed = keras.layers.Dense(4)
        self.scores = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(4)])

    def call(self, inputs: Any, training: Any = False) -> Any:
        return self.scores(self.mixed(self.lstm(self.bert(inputs, training=training).last_hidden_state)))


class Alone(TFBertPreTrainedModel):
    """One layer without a name."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, add_pooling_layer=False, name="bert")
        self.scores = keras.layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.scores(self.bert(inputs).last_hidden_state)


class Pair(TFBertPreTrainedModel):
    """Two whole models."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.one, self.other = TFBertModel(config), TFBertModel(config)

    def call(self, inputs: Any) -> Any:
        return self.one(inputs).pooler_output - self.other(inputs).pooler_output


@pytest.mark.parametrize("cls", [Unnamed, Alone, Pair])
@pytest.mark.parametrize("way", ["tf", "tf-safetensors", "h5"])
def test_back_in_the_same_process(tmp_path: Path, cls: Any, way: str) -> None:
    model, inputs = cls(tiny.config(num_hidden_layers=1)), tiny.inputs()
    model(inputs)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.3)
    if way == "h5":
        model.save_weights(tmp_path / "weights.h5")
        other = cls(model.config)
        other.load_weights(tmp_path / "weights.h5")
    else:
        model.save_pretrained(tmp_path, format=way)
        other = cls.from_pretrained(tmp_path)
    assert [each.path for each in other.weights] != [each.path for each in model.weights]
    np.testing.assert_array_equal(other(inputs), model(inputs))


class Block(keras.layers.Dense):
    """A layer that programs name themselves, as Keras would."""


class Blocks(TFBertPreTrainedModel):
    def __init__(self, config: Any, *, numbers: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = TFBertMainLayer(config, add_pooling_layer=False, name="bert")
        self.blocks = [Block(4, name=f"block_{number}") for number in numbers]

    def call(self, inputs: Any) -> Any:
        hidden = self.bert(inputs).last_hidden_state
        return sum(block(hidden) for block in self.blocks)


def test_names_that_look_counted_go_by_name(tmp_path: Path) -> None:
    model = Blocks(tiny.config(num_hidden_layers=1), numbers=(0, 1))
    model(tiny.inputs())
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="block_2/kernel"):
        other = Blocks.from_pretrained(tmp_path, numbers=(1, 2))
    np.testing.assert_array_equal(other.blocks[0].kernel, model.blocks[1].kernel)


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        # The second process began to count at 2, where the first one had ended.
        (["dense/kernel", "dense_1/kernel", "dense_2/kernel"], ["dense/kernel", "dense_1/kernel", "dense_2/kernel"]),
        (["dense_9/kernel", "dense_10/kernel", "dense_11/kernel"],) * 2,
        (["dense/kernel", "dense_1/kernel"], []),
        (["dense/kernel", "dense_1/kernel", "dense_2/kernel", "dense_3/kernel"], []),
        (["denser/kernel", "dense_x/kernel", "head/dense/kernel"], []),
    ],
)
def test_order_of_numbers(stored: list[str], found: list[str]) -> None:
    own = [f"dense_{number}/kernel" for number in (2, 3, 10)]
    shapes = dict.fromkeys(own, (2, 3))
    stems = dict.fromkeys(own, "dense*/kernel") | {"tower_1/kernel": "tower_1/kernel"}
    there = dict.fromkeys(sorted(stored), (2, 3)) | {"tower_2/kernel": (2, 3)}
    assert same_but_for_numbers(stems, shapes, there) == dict(zip(own, found, strict=False))


def test_other_shapes_go_by_name() -> None:
    stems, own = {"dense_1/bias": "dense*/bias"}, {"dense_1/bias": (3,)}
    assert same_but_for_numbers(stems, own, {"dense/bias": (4,)}) == {}
