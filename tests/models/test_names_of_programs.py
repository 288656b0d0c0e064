"""Names that programs import beside the models: outputs, the optimiser and its schedule, two small functions."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import keras
import numpy as np
import pytest
import tensorflow as tf

import bertconv
from bertconv.errors import RequestError, UnsupportedCheckpoint

CACHE, SEEN, CROSS = ("past_key_values",), ("hidden_states", "attentions"), ("cross_attentions",)
BODY, HEAD = ("last_hidden_state",), ("loss", "logits")
OUTPUTS = {
    "TFAlbertForPreTrainingOutput": ("loss", "prediction_logits", "sop_logits", *SEEN),
    "TFBaseModelOutput": (*BODY, *SEEN),
    "TFBaseModelOutputWithCrossAttentions": (*BODY, *SEEN, *CROSS),
    "TFBaseModelOutputWithPast": (*BODY, *CACHE, *SEEN),
    "TFBaseModelOutputWithPastAndCrossAttentions": (*BODY, *CACHE, *SEEN, *CROSS),
    "TFBaseModelOutputWithPooling": (*BODY, "pooler_output", *SEEN),
    "TFBaseModelOutputWithPoolingAndCrossAttentions": (*BODY, "pooler_output", *CACHE, *SEEN, *CROSS),
    "TFBertForPreTrainingOutput": ("loss", "prediction_logits", "seq_relationship_logits", *SEEN),
    "TFCausalLMOutput": (*HEAD, *SEEN),
    "TFCausalLMOutputWithCrossAttentions": (*HEAD, *CACHE, *SEEN, *CROSS),
    "TFCausalLMOutputWithPast": (*HEAD, *CACHE, *SEEN),
    "TFElectraForPreTrainingOutput": (*HEAD, *SEEN),
    "TFMaskedLMOutput": (*HEAD, *SEEN),
    "TFMultipleChoiceModelOutput": (*HEAD, *SEEN),
    "TFNextSentencePredictorOutput": (*HEAD, *SEEN),
    "TFQuestionAnsweringModelOutput": ("loss", "start_logits", "end_logits", *SEEN),
    "TFSequenceClassifierOutput": (*HEAD, *SEEN),
    "TFSequenceClassifierOutputWithPast": (*HEAD, *CACHE, *SEEN),
    "TFTokenClassifierOutput": (*HEAD, *SEEN),
}
"""Class -> its fields in transformers 4.57.6, in their order."""


def test_every_output_is_listed() -> None:
    assert {name for name in bertconv.__all__ if name.startswith("TF") and name.endswith("Output")} == {
        name for name in OUTPUTS if name.endswith("Output")
    }
    assert {*OUTPUTS, "ModelOutput", "AdamWeightDecay", "WarmUp"} <= set(bertconv.__all__)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_has_the_fields_that_it_had(name: str) -> None:
    """A program makes one of its own, reads it by place, name and key, and passes it through a graph."""
    kind = getattr(bertconv, name)
    names = tuple(field.name for field in fields(kind))
    assert names == OUTPUTS[name]
    made = kind(**{names[0]: tf.constant([1.0]), names[-1]: (tf.constant([2.0]),)})
    assert isinstance(made, bertconv.ModelOutput)
    doubled = tf.function(lambda out: tf.nest.map_structure(lambda each: each * 2, out))(made)
    assert type(doubled) is kind
    assert (doubled[0].numpy(), doubled[names[-1]][0].numpy()) == (2.0, 4.0)
    assert doubled.to_tuple()[0] is getattr(doubled, names[0])


def test_an_output_of_the_users_own() -> None:
    @dataclass
    class Pair(bertconv.ModelOutput):
        loss: tf.Tensor | None = None
        left: tf.Tensor | None = None
        right: tf.Tensor | None = None

    out = tf.function(lambda x: Pair(left=x + 1, right=x + 2))(tf.constant(1.0))
    assert type(out) is Pair
    assert (out.loss, float(out[0]), float(out["right"]), list(out)) == (None, 2.0, 3.0, ["left", "right"])


# Small functions


def test_shape_list() -> None:
    seen = []

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def reshaped(x: tf.Tensor) -> tf.Tensor:
        seen.append(bertconv.shape_list(x))
        return tf.reshape(x, [seen[-1][0] * seen[-1][1]])

    assert reshaped(tf.ones([2, 3])).shape == [6]
    assert tf.is_tensor(seen[0][0])
    assert seen[0][1] == 3
    assert bertconv.shape_list(np.ones([4, 2])) == bertconv.shape_list(tf.Variable(tf.ones([4, 2]))) == [4, 2]
    assert bertconv.shape_list(tf.constant(1.0)) == []
    unknown = tf.function(lambda x: tf.stack(bertconv.shape_list(x)), input_signature=[tf.TensorSpec(None)])
    assert unknown(tf.ones([5, 1])).numpy().tolist() == [5, 1]


def test_get_tf_activation() -> None:
    layer = keras.layers.Dense(2, activation=bertconv.get_tf_activation("gelu"), kernel_initializer="ones")
    np.testing.assert_allclose(layer(tf.constant([[1.0]])), [[0.841345, 0.841345]], rtol=1e-5)
    with pytest.raises(UnsupportedCheckpoint, match="'glue' is unknown"):
        bertconv.get_tf_activation("glue")


def test_get_initializer() -> None:
    drawn = bertconv.get_initializer(0.5)([10000]).numpy()
    assert np.abs(drawn).max() <= 1.0  # two deviations
    assert drawn.std() == pytest.approx(0.5 * 0.88, rel=0.03)  # what the cut leaves of it
    assert bertconv.get_initializer().stddev == 0.02


# The optimiser


def moved(optimizer: keras.optimizers.Optimizer) -> float:
    """How far one step moves a variable: Adam's first step is the learning rate, whatever the gradient."""
    variable = keras.Variable(1.0, name="kernel")
    optimizer.build([variable])
    optimizer.apply([tf.constant(3.0)], [variable])
    return 1.0 - float(variable.numpy())


@pytest.mark.parametrize("arguments", [{"lr": 0.25}, {"learning_rate": 0.5, "lr": 0.25}, {"lr": 0.25, "decay": 0.0}])
def test_lr_is_the_learning_rate(arguments: dict[str, float]) -> None:
    optimizer = bertconv.AdamWeightDecay(**arguments)
    assert (optimizer.lr.numpy(), float(optimizer.lr), optimizer.get_config()["learning_rate"]) == (0.25, 0.25, 0.25)
    assert moved(optimizer) == pytest.approx(0.25, rel=1e-5)


def assign_by_name(optimizer: bertconv.AdamWeightDecay) -> None:
    optimizer.lr = 0.125


def assign_by_backend(optimizer: bertconv.AdamWeightDecay) -> None:
    backend = tf.keras.backend
    backend.set_value(optimizer.lr, backend.get_value(optimizer.lr) / 2)


def assign_to_variable(optimizer: bertconv.AdamWeightDecay) -> None:
    optimizer.lr.assign(0.125)


@pytest.mark.parametrize("assign", [assign_by_name, assign_by_backend, assign_to_variable])
def test_lr_is_assigned_as_in_keras_2(assign) -> None:
    optimizer = bertconv.AdamWeightDecay(0.25)
    assign(optimizer)
    assert float(optimizer.learning_rate) == 0.125
    assert moved(optimizer) == pytest.approx(0.125, rel=1e-5)


@pytest.mark.parametrize("is_fixed", [True, False])
def test_the_rate_in_a_metric(is_fixed: bool) -> None:
    """How programs for Keras 2 logged the rate of a schedule."""
    optimizer = bertconv.AdamWeightDecay(0.25) if is_fixed else bertconv.create_optimizer(0.25, 10, 0)[0]

    @tf.function
    def rate() -> tf.Tensor:
        return optimizer._decayed_lr(tf.float32)

    assert rate().dtype == tf.float32
    assert float(rate()) == 0.25


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_lr_follows_a_schedule(decay: float) -> None:
    """As in 4.57 it is called where weights decay, and only then."""
    optimizer, schedule = bertconv.create_optimizer(0.5, 10, 4, weight_decay_rate=decay)
    assert isinstance(schedule, bertconv.WarmUp)
    assert isinstance(optimizer, bertconv.AdamWeightDecay)
    optimizer.iterations.assign(2)
    assert optimizer.lr.numpy() == np.asarray(optimizer.lr) == float(optimizer.learning_rate) == 0.25
    assert float(optimizer.lr) == float(tf.cast(optimizer.lr, tf.float64)) == 0.25
    assert callable(optimizer.lr) == bool(decay)
    if decay:
        assert float(optimizer.lr(1)) == float(schedule(1)) == 0.125
        assert isinstance(optimizer.lr, keras.optimizers.schedules.LearningRateSchedule)
        assert optimizer.lr.get_config() == schedule.get_config()
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        optimizer.lr = 0.1


def test_a_decay_over_time_is_refused_and_the_hint_does_the_same() -> None:
    with pytest.raises(RequestError, match="InverseTimeDecay") as caught:
        bertconv.AdamWeightDecay(0.5, decay=0.25)
    hint = caught.value.hint.removeprefix("Give learning_rate=").removesuffix(".")
    schedule = eval(hint, {"keras": keras, "learning_rate": 0.5})
    assert [float(schedule(step)) for step in (0, 4)] == [0.5, 0.25]  # 0.5 / (1 + 0.25 * step)


OLD = {
    "name": "AdamWeightDecay",
    "learning_rate": {
        "module": "transformers.optimization_tf",
        "class_name": "WarmUp",
        "config": {
            "initial_learning_rate": 0.5,
            "decay_schedule_fn": {
                "module": "keras.optimizers.schedules",
                "class_name": "PolynomialDecay",
                "config": {"initial_learning_rate": 0.5, "decay_steps": 8, "end_learning_rate": 0.0, "power": 1.0,
                           "cycle": False, "name": None},
                "registered_name": None,
            },
            "warmup_steps": 4, "power": 1.0, "name": None,
        },
        "registered_name": "WarmUp",
    },
    "decay": 0.0, "beta_1": np.float32(0.75), "beta_2": np.float32(0.5), "epsilon": 1e-6, "amsgrad": False,
    "weight_decay_rate": 0.125,
}  # fmt: skip
"""What `get_config` of transformers 4.57.6 gives."""


def test_a_config_of_4_57_makes_an_optimizer() -> None:
    before = repr(OLD)
    optimizer = bertconv.AdamWeightDecay.from_config(OLD)
    assert repr(OLD) == before
    again = bertconv.AdamWeightDecay.from_config(json.loads(json.dumps(optimizer.get_config())))
    for each in (optimizer, again):
        assert (each.beta_1, each.beta_2, each.epsilon, each.weight_decay_rate) == (0.75, 0.5, 1e-6, 0.125)
        rates = []
        for step in (2, 4, 8, 12):
            each.iterations.assign(step)
            rates.append(float(each.lr))
        assert rates == [0.25, 0.5, 0.25, 0.0]


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule, which nothing has registered."""

    def __call__(self, step):
        return 0.5 ** tf.cast(step, tf.float32)

    def get_config(self):
        return {}


@pytest.mark.parametrize("warm", [False, True])
def test_schedules_of_the_users_own_come_back(warm: bool) -> None:
    rate = bertconv.WarmUp(1.0, Halving(), 2) if warm else Halving()
    config = bertconv.AdamWeightDecay(rate).get_config()
    optimizer = bertconv.AdamWeightDecay.from_config(config, custom_objects={"Halving": Halving})
    optimizer.iterations.assign(3)
    assert float(optimizer.lr) == (0.5 if warm else 0.125)
