"""Cases of docs/migrating.md: compile, fit, metrics and optimizers."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
import transformers
from migrating_page import Row, case
from tiny_models import config, inputs, labels, tf_class
from trained_models import CLASSIFIER, compiled, make, same, weights

from bertconv import AdamWeightDecay, create_optimizer
from bertconv.models.runtime import check_runtime

TOKENS = "BertForTokenClassification"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch(head: str = CLASSIFIER) -> tuple[Any, Any]:
    return inputs(head), labels(head)["labels"]


def own_loss(model: Any, head: str = CLASSIFIER) -> float:
    x, y = batch(head)
    return float(np.mean(model(**x, labels=y).loss))


@case("`model.fit(x, y, workers=4, use_multiprocessing=True, max_queue_size=9)`; the same in `evaluate` and `predict`")
def workers(row: Row) -> None:  # noqa: ARG001
    (x, y), model, other = batch(), compiled(), compiled()
    processes = {"workers": 4, "use_multiprocessing": True, "max_queue_size": 9}
    model.fit(x, y, workers=4, use_multiprocessing=True, max_queue_size=9, verbose=0)
    other.fit(x, y, verbose=0)
    assert same(weights(model), weights(other))
    assert model.evaluate(x, y, verbose=0, **processes) == other.evaluate(x, y, verbose=0)
    assert np.array_equal(model.predict(x, verbose=0, **processes).logits, other.predict(x, verbose=0).logits)


@case('`model.fit(x, {"labels": y})`, `model.fit(x, {"logits": y})`')
def named_labels(row: Row) -> None:  # noqa: ARG001
    x, y = batch()
    for how in ({}, {"loss": LOSS, "metrics": ["accuracy"]}):
        model = compiled(optimizer=keras.optimizers.SGD(0.0), **how)
        found = [model.fit(x, {"labels": y}, verbose=0), model.fit(x, {"logits": y}, verbose=0)]
        assert [each.history["loss"][0] for each in found] == pytest.approx([own_loss(model)] * 2, rel=1e-5)


@case('`loss={"logits": loss}`, `metrics={"logits": "accuracy"}`')
def named_losses(row: Row) -> None:  # noqa: ARG001
    (x, y), loss = batch(), LOSS
    model = compiled(optimizer=keras.optimizers.SGD(0.0), loss={"logits": loss}, metrics={"logits": "accuracy"})
    right = np.mean(np.argmax(model(x).logits, -1) == y)
    found = model.fit(x, y, verbose=0).history
    assert found == {"loss": [pytest.approx(own_loss(model), rel=1e-5)], "accuracy": [pytest.approx(right)]}


@case("`model.fit(x, y, sample_weight=weights)` where the loss is one number (words, tokens)")
def sample_weights(row: Row) -> None:
    (x, y), model, weights = batch(TOKENS), compiled(TOKENS, optimizer=keras.optimizers.SGD(0.0)), np.array([1, 0, 1])
    with row.comes():
        model.fit(x, y, sample_weight=weights, verbose=0)
    y = np.where(weights[:, None] == 0, -100, y)
    found = model.fit(x, y, verbose=0).history["loss"]
    kept = {name: value[[0, 2]] for name, value in x.items()}
    assert found == [pytest.approx(float(np.mean(model(**kept, labels=y[[0, 2]]).loss)), rel=1e-5)]


@case('`model.compile(loss="sparse_categorical_crossentropy")`')
def probabilities(row: Row) -> None:
    (x, y), model = batch(), make()
    with row.comes():
        model.compile(loss="sparse_categorical_crossentropy")
    model.compile()
    model.run_eagerly = True
    assert model.evaluate(x, y, verbose=0) == pytest.approx(own_loss(model), rel=1e-5)


@case("`model.compile(tf_keras.optimizers.Adam())`; losses, metrics and callbacks of `tf_keras`")
def keras_2(row: Row) -> None:
    """What counts is where a class comes from; tf_keras itself is not among what the tests need."""
    model, adam = make(), type("Adam", (), {"__module__": "tf_keras.src.optimizers.adam"})
    tf_keras = types.SimpleNamespace(optimizers=types.SimpleNamespace(Adam=adam))
    with row.comes():
        model.compile(tf_keras.optimizers.Adam())
    model.compile(keras.optimizers.Adam())


@case("`TF_USE_LEGACY_KERAS` is set, which importing transformers 4 does")
def legacy(row: Row) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_USE_LEGACY_KERAS", "1")
        with row.comes():
            check_runtime()
    assert issubclass(tf_class(CLASSIFIER), keras.Model)  # and not tf.keras.Model, if that is another


@case("`model.fit_generator(batches)`")
def generators(row: Row) -> None:
    model, batches = compiled(), (batch() for _ in range(2))
    with row.comes():
        model.fit_generator(batches)
    model.fit(batches, steps_per_epoch=2, verbose=0)
    assert model.optimizer.iterations == 2


@case("`run_eagerly=True`, `jit_compile=True`, `steps_per_execution=2` in `compile`")
def ways_to_run(row: Row) -> None:  # noqa: ARG001
    """Without gradients, which take XLA long."""
    (x, y), found = batch(), []
    for how in ({"run_eagerly": True}, {"jit_compile": True, "steps_per_execution": 2}):
        model = make()
        model.compile("sgd", **how)
        found.append(model.evaluate(x, y, batch_size=1, verbose=0))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    # run_eagerly=True jit_compile=True steps_per_execution=2


@case("`model.compile(...)`, then `model.bert.trainable = False`")
def frozen_after_compile(row: Row) -> None:  # noqa: ARG001
    model = make()
    model.compile("sgd", run_eagerly=True)
    model.bert.trainable = False
    before = model.bert.get_weights()
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER)["labels"], verbose=0)
    assert same(model.bert.get_weights(), before)
    # trainable in `compile`


@case("`model.metrics_names`, `model.history`, `model.train_function`")
def metrics_names(row: Row) -> None:  # noqa: ARG001
    (x, y), model = batch(), compiled(metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    assert dict(zip(model.metrics_names, model.evaluate(x, y, verbose=0), strict=True)) == model.evaluate(
        x, y, verbose=0, return_dict=True
    )
    assert model.history.history.keys() == {"loss", "accuracy"}
    assert callable(model.train_function)


@case('`keras.mixed_precision.set_global_policy("mixed_float16")`')
def mixed_precision(row: Row) -> None:  # noqa: ARG001
    before, found = keras.mixed_precision.global_policy(), []
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        found.append(compiled())
    finally:
        keras.mixed_precision.set_global_policy(before)
    found[0].save_pretrained("folder")
    found.append(tf_class(CLASSIFIER).from_pretrained("folder", dtype="mixed_float16"))
    found[1].compile("sgd")
    for model in found:
        assert model(inputs(CLASSIFIER)).logits.dtype == "float16"
        assert model.weights[0].dtype == "float32"
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@case("`self.compiled_loss(y, y_pred)`, `self.compiled_metrics.update_state(y, y_pred)` in a `train_step`")
def compiled_loss(row: Row) -> None:  # noqa: ARG001
    class Own(tf_class(CLASSIFIER)):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            x, y = data
            y_pred = self(x).logits
            self.compiled_loss(y, y_pred)
            self.compiled_metrics.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    (x, y), model = batch(), Own(make().config)
    model.compile("sgd", loss=LOSS, metrics=["accuracy"], run_eagerly=True)
    found = model.fit(x, y, batch_size=2, shuffle=False, verbose=0).history
    right = np.mean(np.argmax(model(x).logits, -1) == y)
    assert found == {"loss": [pytest.approx(own_loss(model), rel=1e-5)], "accuracy": [pytest.approx(right)]}
    # in a train_step


@case('`model.compile("adam", loss, ["accuracy"])` of ours, with metrics third')
def metrics_third(row: Row) -> None:  # noqa: ARG001
    (x, y), model, other, loss = batch(), make(), make(), LOSS
    model.compile("adam", loss, ["accuracy"])
    other.compile("adam", loss, metrics=["accuracy"])
    assert model.evaluate(x, y, verbose=0, return_dict=True) == other.evaluate(x, y, verbose=0, return_dict=True)
    assert sorted(model.evaluate(x, y, verbose=0, return_dict=True)) == ["accuracy", "loss"]


@case('`whole.compile("adam", loss, ["accuracy"])` of a `keras.Model`')
def metrics_third_of_keras(row: Row) -> None:
    (x, y), loss = batch(), LOSS
    ids = keras.Input((None,), dtype="int32")
    whole = keras.Model(ids, make()(ids).logits)
    whole.compile("adam", loss, ["accuracy"])
    with row.comes():
        whole.fit(x["input_ids"], y, verbose=0)
    whole.compile("adam", loss, metrics=["accuracy"])
    assert sorted(whole.fit(x["input_ids"], y, verbose=0).history) == ["accuracy", "loss"]


def stepped(model: Any, data: Any) -> Any:
    """The loss of one step as many programs have it, which the model also notes in `seen`."""
    x, y = data
    with tf.GradientTape() as tape:
        scores = model(x, training=True)
        loss = LOSS(y, getattr(scores, "logits", scores))
    variables = model.trainable_variables
    model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    model.seen.append(float(loss))
    return loss


@case('`return {"loss": loss}` in a `train_step` of a subclass of ours')
def returned_loss(row: Row) -> None:  # noqa: ARG001
    class Own(tf_class(CLASSIFIER)):  # type: ignore[misc]
        seen: ClassVar[list[float]] = []

        def train_step(self, data: Any) -> Any:
            loss = stepped(self, data)
            return {"loss": loss}

        def test_step(self, data: Any) -> Any:
            x, y = data
            return {"loss": LOSS(y, self(x).logits)}

    (x, y), model = batch(), Own(make().config)
    model.compile("sgd", run_eagerly=True)
    found = model.fit(x, y, batch_size=1, epochs=2, verbose=0).history
    last = [model.seen[len(y) - 1], model.seen[2 * len(y) - 1]]
    assert found == {"loss": [pytest.approx(each) for each in last]}
    assert model.evaluate(x, y, batch_size=len(y), verbose=0) == pytest.approx(own_loss(model), rel=1e-5)


@case('`return {"loss": loss}` in a `train_step` of a `keras.Model`')
def returned_loss_of_keras(row: Row) -> None:  # noqa: ARG001
    class Whole(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.inner = [], make()

        def call(self, ids: Any) -> Any:
            return self.inner(ids).logits

        def train_step(self, data: Any) -> Any:
            loss = stepped(self, data)
            return {"loss": loss}

    class Counted(Whole):
        def __init__(self) -> None:
            super().__init__()
            self.mean = keras.metrics.Mean(name="loss")

        @property
        def metrics(self) -> Any:
            return [self.mean]

        def train_step(self, data: Any) -> Any:
            self.mean.update_state(stepped(self, data))
            return {"loss": self.mean.result()}

    (x, y), models = batch(), (Whole(), Counted())
    found = []
    for model in models:
        model.compile("sgd", run_eagerly=True)
        found += model.fit(x["input_ids"], y, batch_size=1, verbose=0).history["loss"]
    assert found == [0, pytest.approx(np.mean(models[1].seen))]


@case("`model.add_metric(value)`")
def add_metric(row: Row) -> None:
    (x, y), model, value, metric = batch(), make(), tf.ones(()), "accuracy"
    with row.comes():
        model.add_metric(value)
    model.compile("sgd", metrics=[metric], run_eagerly=True)
    assert "accuracy" in model.evaluate(x, y, verbose=0, return_dict=True)


@case('`history.history["lr"]` with `LearningRateScheduler` or `ReduceLROnPlateau`')
def logged_rate(row: Row) -> None:
    (x, y), model = batch(), compiled()
    changes = [keras.callbacks.LearningRateScheduler(lambda _: 0.5), keras.callbacks.ReduceLROnPlateau(monitor="loss")]
    history = model.fit(x, y, callbacks=changes, verbose=0)
    with row.comes():
        history.history["lr"]
    assert history.history["learning_rate"] == [0.5]


@case("`metric.reset_states()`")
def reset_states(row: Row) -> None:
    metric = keras.metrics.Mean()
    metric.update_state(3.0)
    with row.comes():
        metric.reset_states()
    metric.reset_state()
    assert float(metric.result()) == 0


@case("`transformers.set_seed(1)`")
def set_seed(row: Row) -> None:  # noqa: ARG001
    """It seeds Python's own generator, from which Keras takes the seeds of weights and dropout."""
    found = [made_after(lambda: transformers.set_seed(1)) for _ in range(2)]
    assert same(*found)
    assert not same(found[0], made_after(lambda: transformers.set_seed(2)))


@case("`tf.random.set_seed(1)`")
def seeds(row: Row) -> None:  # noqa: ARG001
    assert not same(*(made_after(lambda: tf.random.set_seed(1)) for _ in range(2)))
    assert same(*(made_after(lambda: keras.utils.set_random_seed(1)) for _ in range(2)))


def made_after(seed: Callable[[], Any]) -> list[np.ndarray]:
    """Weights of a model with one layer, drawn after this."""
    seed()
    return weights(tf_class(CLASSIFIER)(config(CLASSIFIER, num_hidden_layers=1)))


# Optimizers


def adam() -> Any:
    """One that has variables."""
    optimizer = keras.optimizers.Adam(0.125)
    optimizer.build([keras.Variable(1.0)])
    return optimizer


@case("`keras.optimizers.Adam(lr=0.5)`")
def lr_argument(row: Row) -> None:
    with row.comes():
        keras.optimizers.Adam(lr=0.5)
    assert float(keras.optimizers.Adam(learning_rate=0.5).learning_rate) == 0.5


@case("`optimizer.lr`, `optimizer._decayed_lr(tf.float32)` of `create_optimizer` and `AdamWeightDecay`")
def lr_of_ours(row: Row) -> None:  # noqa: ARG001
    optimizer = AdamWeightDecay(0.125)
    assert float(optimizer.lr) == 0.125
    optimizer.lr.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5
    optimizer, schedule = create_optimizer(0.5, num_train_steps=4, num_warmup_steps=2, weight_decay_rate=0.5)
    optimizer.build([keras.Variable(1.0)])
    optimizer.iterations.assign(1)
    assert float(optimizer.lr) == float(optimizer.lr(1)) == float(schedule(1)) == 0.25
    assert optimizer._decayed_lr(tf.float32) == 0.25


@case("`optimizer.learning_rate(step)` of a schedule")
def called_rate(row: Row) -> None:
    optimizer, schedule = create_optimizer(0.5, num_train_steps=4, num_warmup_steps=2, weight_decay_rate=0.5)
    step = 1
    with row.comes():
        optimizer.learning_rate(step)
    assert float(optimizer.lr(step)) == float(schedule(step)) == 0.25


@case("`optimizer.lr` of Keras")
def lr(row: Row) -> None:
    """Of Keras 3."""
    optimizer = adam()
    with row.comes():
        optimizer.lr  # noqa: B018
    assert float(optimizer.learning_rate) == 0.125


@case("`optimizer.lr = 0.5`")
def lr_set(row: Row) -> None:  # noqa: ARG001
    optimizer = adam()
    optimizer.lr = 0.5
    assert float(optimizer.learning_rate) == 0.125
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5


@case("`keras.backend.set_value(optimizer.learning_rate, 0.5)`")
def set_value(row: Row) -> None:
    optimizer = adam()
    with row.comes():
        keras.backend.set_value(optimizer.learning_rate, 0.5)
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5


@case("`tf.keras.backend.set_value(optimizer.learning_rate, 0.5)`")
def set_value_of_tensorflow(row: Row) -> None:
    optimizer = adam()
    with row.comes():
        tf.keras.backend.set_value(optimizer.learning_rate, 0.5)
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5


@case("`keras.optimizers.experimental.AdamW(0.5)`")
def experimental(row: Row) -> None:
    with row.comes():
        keras.optimizers.experimental.AdamW(0.5)
    assert float(keras.optimizers.AdamW(0.5).learning_rate) == 0.5


@case("`keras.backend.get_value(optimizer.learning_rate)`")
def get_value(row: Row) -> None:
    optimizer = adam()
    with row.comes():
        keras.backend.get_value(optimizer.learning_rate)
    assert float(optimizer.learning_rate) == 0.125


@case('`optimizer.get_config()["learning_rate"]`, `optimizer.iterations`')
def optimizer_config(row: Row) -> None:  # noqa: ARG001
    optimizer = adam()
    assert optimizer.get_config()["learning_rate"] == 0.125
    assert optimizer.iterations == 0
    optimizer, schedule = create_optimizer(0.5, num_train_steps=4, num_warmup_steps=2)
    assert optimizer.get_config()["learning_rate"]["class_name"] == type(schedule).__name__
    optimizer.build([keras.Variable(1.0)])
    optimizer.iterations.assign(1)
    assert float(optimizer.learning_rate) == float(schedule(1)) == 0.25


@case("`optimizer.get_weights()`")
def optimizer_weights(row: Row) -> None:
    optimizer = adam()
    with row.comes():
        optimizer.get_weights()
    assert [each.numpy() for each in optimizer.variables][0] == 0  # noqa: RUF015


@case("`optimizer.variables()`")
def optimizer_variables(row: Row) -> None:
    optimizer = adam()
    with row.comes():
        optimizer.variables()
    assert optimizer.variables[0] is optimizer.iterations


@case("`optimizer.minimize(loss, variables)`")
def minimize(row: Row) -> None:
    (x, y), model, optimizer = batch(), make(), keras.optimizers.Adam(0.01)
    variables, before = model.trainable_variables, own_loss(model)

    def loss() -> Any:
        return tf.reduce_mean(model(x, labels=y).loss)

    with row.comes():
        optimizer.minimize(loss, variables)
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, variables)
    optimizer.apply_gradients(zip(gradients, variables))  # noqa: B905
    assert own_loss(model) < before


@case("`keras.optimizers.legacy.Adam(0.5)`")
def legacy_optimizers(row: Row) -> None:
    with row.comes():
        keras.optimizers.legacy.Adam(0.5)
    assert float(keras.optimizers.Adam(0.5).learning_rate) == 0.5


@case("`optimizer.get_scaled_loss(loss)`, `optimizer.get_unscaled_gradients(gradients)` of a `LossScaleOptimizer`")
def loss_scale(row: Row) -> None:
    variable, other = keras.Variable(3.0), keras.Variable(3.0)
    optimizer, plain = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)), keras.optimizers.SGD(0.5)
    loss, gradients = variable * 1.0, []
    with row.comes():
        optimizer.get_scaled_loss(loss)
    with pytest.raises(AttributeError):
        optimizer.get_unscaled_gradients(gradients)
    optimizer.build([variable])
    with tf.GradientTape() as tape:
        loss = tf.square(variable.value)
        scaled = optimizer.scale_loss(loss)
    optimizer.apply_gradients([(tape.gradient(scaled, variable.value), variable)])
    plain.apply_gradients([(tf.constant(6.0), other)])
    assert float(variable) == float(other) == 0.0
