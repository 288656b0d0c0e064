"""Scenes of models that were made under a tf.distribute.Strategy, each beside a model of one device.

Run by test_mirrored.py in a process of its own: TensorFlow's devices are set once, before it starts. All is float64.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import bertconv
from bertconv import tasks
from bertconv.errors import RequestError
from bertconv.families import families
from bertconv.models.layers import Linear

BATCH, LENGTH, LABELS, RATE, NEAR = 4, 7, 3, 0.5, 1e-11
SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24,
    "max_position_embeddings": 24, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.5, "num_labels": LABELS,
}  # fmt: skip
IDS = np.random.default_rng(0).integers(3, 50, (BATCH, LENGTH))
CLASSES = np.array([0, 1, 2, 1])
WORDS = np.where(np.random.default_rng(1).random(IDS.shape) < 0.4, -100, IDS)
"""Labels that do not count are spread unevenly, so that the halves' means are not the mean of the whole."""
SECOND = {"TFBertForPreTraining": "next_sentence_label", "TFAlbertForPreTraining": "sentence_order_label"}

Scene = Callable[[tf.distribute.Strategy], None]
Arrays = dict[str, np.ndarray]
SCENES: list[Scene] = []


def scene(function: Scene) -> Scene:
    SCENES.append(function)
    return function


def made(
    strategy: tf.distribute.Strategy | None,
    name: str = "TFBertForSequenceClassification",
    seed: int = 3,
    **changes: Any,
) -> Any:
    """A model of a class, the same for every strategy; its keyword arguments are keys of the config."""
    kind = getattr(bertconv, name)
    keras.utils.set_random_seed(seed)
    if kind.task == tasks.QUESTION_ANSWERING:
        changes["num_labels"] = 2
    values = kind.config_class.coerce({}).family.schema.respelled({**SIZES, **changes})
    with nullcontext() if strategy is None else strategy.scope():
        return kind(kind.config_class(**values))


def given(name: str = "TFBertForSequenceClassification") -> Arrays:
    """What a class is trained with."""
    task = getattr(bertconv, name).task
    if task == tasks.MULTIPLE_CHOICE:
        return {"input_ids": np.stack([IDS, IDS[::-1]], 1), "labels": CLASSES % 2}
    if task == tasks.QUESTION_ANSWERING:
        return {"input_ids": IDS, "start_positions": CLASSES, "end_positions": CLASSES + 30 * (CLASSES == 1)}
    labels = {
        tasks.SEQUENCE_CLASSIFICATION: {"labels": CLASSES},
        tasks.NEXT_SENTENCE: {"next_sentence_label": CLASSES % 2},
        tasks.TOKEN_CLASSIFICATION: {"labels": np.where(WORDS < 0, WORDS, WORDS % LABELS)},
        tasks.DISCRIMINATOR: {"labels": IDS % 2},
        tasks.PRETRAINING: {"labels": WORDS, SECOND.get(name, ""): CLASSES % 2},
    }.get(task, {} if task == tasks.BASE else {"labels": WORDS})
    return {"input_ids": IDS, **labels}


def unlabelled(arrays: Arrays) -> Arrays:
    return {"input_ids": arrays["input_ids"]}


def half(arrays: Arrays, number: int) -> Arrays:
    return {name: value[2 * number : 2 * number + 2] for name, value in arrays.items()}


def same(one: Any, two: Any) -> None:
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    assert one.shape == two.shape, (one.shape, two.shape)
    assert np.abs(one - two).max() <= NEAR * max(np.abs(two).max(), 0.1), np.abs(one - two).max()


def same_weights(model: Any, single: Any) -> None:
    """Both have the same weights, and every replica of a variable does."""
    assert len(model.weights) == len(single.weights)
    for one, two in zip(model.weights, single.weights, strict=True):
        for replica in getattr(one.value, "values", [one.value]):
            same(replica, two)


def step(single: Any, arrays: Arrays) -> float:
    """Move a model of one device by the mean of the gradients of the halves' own losses; the mean of these."""
    variables, losses, sums = single.trainable_variables, [], None
    for number in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(single(**half(arrays, number)).loss)
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(loss, [each.value for each in variables])]
        sums = gradients if sums is None else [a + b for a, b in zip(sums, gradients, strict=True)]
        losses.append(float(loss))
    for variable, gradient in zip(variables, sums or (), strict=True):
        variable.assign_sub(RATE * gradient / 2)
    return float(np.mean(losses))


def fits_as(model: Any, single: Any) -> None:
    """One step of `fit` of a compiled model leads where one device's step does; then both are called."""
    before = [np.array(each) for each in single.trainable_weights]
    expected = step(single, given())
    found = model.fit(IDS, CLASSES, batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0]
    assert abs(found - expected) < NEAR, (found, expected)
    same_weights(model, single)
    assert not all(np.array_equal(a, b) for a, b in zip(before, single.trainable_weights, strict=True))
    same(model(IDS).logits, single(IDS).logits)


def compiled(model: Any, strategy: tf.distribute.Strategy) -> Any:
    with strategy.scope():
        model.compile(keras.optimizers.SGD(RATE), weighted_metrics=[])
    return model


def refused(run: Callable[[], Any], *words: str) -> None:
    with pytest.raises(RequestError) as caught:
        run()
    assert all(word in str(caught.value) for word in words), caught.value


@scene
def every_table_is_called_and_trained(strategy: tf.distribute.Strategy) -> None:
    first = [each for each in families().values() if each.model_type.replace("-", "_") == each.path.stem]
    names = [f"TF{head}" for each in first for head, task in each.tasks.items() if task == tasks.MASKED_LM]
    assert len(names) > 6
    for name in names:
        calls_and_steps(strategy, name)


def calls_and_steps(strategy: tf.distribute.Strategy, name: str) -> None:
    """Called outside the scope and inside it, then a step of a loop of the user's own on both replicas."""
    model, single, arrays = made(strategy, name), made(None, name), given(name)
    expected = single(**unlabelled(arrays))
    for scope in (nullcontext(), strategy.scope()):
        with scope:
            for one, two in zip(model(**unlabelled(arrays)).values(), expected.values(), strict=True):
                same(one, two)
    same(replicas_step(strategy, model, arrays), step(single, arrays))
    same_weights(model, single)


def replicas_step(strategy: tf.distribute.Strategy, model: Any, arrays: Arrays, optimizer: Any = None) -> Any:
    """The loss of a step of a loop of the user's own, half the batch on each replica."""
    with strategy.scope():
        optimizer = optimizer or keras.optimizers.SGD(RATE)
    batch = strategy.experimental_distribute_values_from_function(
        lambda context: {
            key: tf.constant(value) for key, value in half(arrays, context.replica_id_in_sync_group).items()
        }
    )

    def replica(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(batch).loss) / strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return strategy.reduce("SUM", strategy.run(replica, args=(batch,)), axis=None)


@scene
def fit_evaluate_and_predict(strategy: tf.distribute.Strategy) -> None:
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiles = {
        "TFBertForSequenceClassification": {"loss": own, "metrics": ["accuracy"]},
        "TFBertForTokenClassification": {},
        "TFBertForQuestionAnswering": {"metrics": {"start_logits": ["accuracy"], "end_logits": ["accuracy"]}},
    }
    for name, keywords in compiles.items():
        model, single, arrays = made(strategy, name), made(None, name), given(name)
        with strategy.scope():
            model.compile(keras.optimizers.SGD(RATE), **keywords)
        x, y = unlabelled(arrays), {key: value for key, value in arrays.items() if key != "input_ids"}
        if "metrics" in keywords and isinstance(keywords["metrics"], dict):
            x, y = arrays, None
        y = next(iter(y.values())) if y and len(y) == 1 else y
        expected = step(single, arrays)
        history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history
        assert abs(history["loss"][0] - expected) < NEAR, (name, history, expected)
        same_weights(model, single)
        found = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        same(found["loss"], np.mean([np.mean(single(**half(arrays, number)).loss) for number in range(2)]))
        predicted, output = model.predict(x, batch_size=BATCH, verbose=0), single(**unlabelled(arrays))
        assert type(predicted) is type(output)
        assert "loss" not in predicted
        for key, value in output.items():
            same(predicted[key], value)


@scene
def batches_one_by_one(strategy: tf.distribute.Strategy) -> None:
    model, single = made(strategy), made(None)
    compiled(model, strategy)
    same(model.train_on_batch(IDS, CLASSES, return_dict=True)["loss"], step(single, given()))
    same_weights(model, single)
    same(model.test_on_batch(IDS, CLASSES, return_dict=True)["loss"], np.mean(single(**given()).loss))
    same(model.predict_on_batch(IDS[:3]).logits, single(IDS[:3]).logits)


@scene
def a_loop_in_a_graph(strategy: tf.distribute.Strategy) -> None:
    model, single = made(strategy), made(None)
    with strategy.scope():
        optimizer = keras.optimizers.SGD(RATE)

    @tf.function
    def train(batch: Any) -> Any:
        def replica(batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.nn.compute_average_loss(model(batch, training=True).loss, global_batch_size=BATCH)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

        return strategy.reduce("SUM", strategy.run(replica, args=(batch,)), axis=None)

    batches = tf.data.Dataset.from_tensor_slices(given()).batch(BATCH)
    losses = [train(batch) for batch in strategy.experimental_distribute_dataset(batches)]
    same(losses, [step(single, given())])
    same_weights(model, single)


@scene
def a_loop_with_slots(strategy: tf.distribute.Strategy) -> None:
    """docs/migrating.md says to build the optimizer, and what is seen otherwise."""
    plain = made(None)
    for is_built in (True, False):
        model = made(strategy)
        with strategy.scope():
            optimizer = keras.optimizers.Adam(RATE)
            if is_built:
                optimizer.build(model.trainable_variables)
        replicas = tf.function(partial(replicas_step, strategy, model, given(), optimizer))
        with (
            nullcontext() if is_built else pytest.raises(tf.errors.InvalidArgumentError, match="You must feed a value")
        ):
            replicas()
            assert not np.array_equal(model.trainable_variables[0].value, plain.trainable_variables[0].value)


@scene
def a_tape_outside_the_replicas(strategy: tf.distribute.Strategy) -> None:
    model, single = made(strategy), made(None)
    found = []
    for each in (model, single):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(each(**given()).loss)
        found.append(tape.gradient(loss, each.trainable_variables))
    for one, two in zip(*found, strict=True):
        same(tf.convert_to_tensor(one), tf.convert_to_tensor(two))


@scene
def loaded_saved_and_loaded_again(strategy: tf.distribute.Strategy) -> None:
    single, other = made(None), made(strategy, seed=4)
    with tempfile.TemporaryDirectory() as folder:
        single.save_pretrained(folder, max_shard_size="10KB", safe_serialization=True)
        assert len(list(Path(folder).glob("*.safetensors"))) > 2
        with strategy.scope():
            model = type(single).from_pretrained(folder)
            fresh = type(single).from_config(single.config)
        other.load_weights(folder)
        fresh.load_weights(folder)
    for each in (other, fresh, model):
        same_weights(each, single)
        assert all(strategy.extended.variable_created_in_scope(variable.value) for variable in each.variables)
        same(each(IDS).logits, single(IDS).logits)
    same(replicas_step(strategy, model, given()), step(single, given()))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        same_weights(type(single).from_pretrained(folder), single)


def words(model: Any) -> None:
    model.resize_token_embeddings(50 + 3)
    model.bert.embeddings.weight.assign(tf.reshape(tf.range(53.0 * 16, dtype="float64") / 500, [53, 16]))


def vectors(model: Any) -> None:
    model.set_input_embeddings(np.arange(60.0 * 16).reshape(60, 16) / 500)


def dense(model: Any) -> None:
    model.classifier = keras.layers.Dense(LABELS, kernel_initializer=keras.initializers.RandomNormal(seed=1))


def called_dense(model: Any) -> None:
    dense(model)
    model(IDS)


def built_dense(model: Any) -> None:
    dense(model)
    layer = model.classifier
    model.classifier = keras.layers.Dense(LABELS)
    layer.build((None, 16))
    model.classifier = layer


def linear(model: Any) -> None:
    model.classifier = Linear(16, LABELS, name="classifier")
    model.classifier.kernel.assign(np.arange(48.0).reshape(16, 3) / 50)


def frozen(model: Any) -> None:
    model.bert.trainable = False


@scene
def changed_outside_the_scope(strategy: tf.distribute.Strategy) -> None:
    for changes in ((words, called_dense), (vectors, built_dense), (linear, frozen)):
        model, single = made(strategy), made(None)
        for each in (model, single):
            for change in changes:
                change(each)
        same(replicas_step(strategy, model, given()), step(single, given()))
        same_weights(model, single)
        same(model(IDS).logits, single(IDS).logits)
    model, single = made(strategy), made(None)
    for each in (model, single):
        dense(each)
    single(IDS)
    fits_as(compiled(model, strategy), single)  # which gives the new head its weights


@scene
def optimizers_of_outside(strategy: tf.distribute.Strategy) -> None:
    model, single, optimizer = made(strategy), made(None), keras.optimizers.SGD(0.125)
    metric = keras.metrics.SparseCategoricalAccuracy(name="right")
    model.compile(optimizer, metrics=[metric])
    optimizer.learning_rate = RATE  # it is the model's still
    right = np.mean(np.argmax(single(IDS).logits, -1) == CLASSES)
    fits_as(model, single)
    assert model.optimizer is optimizer
    assert optimizer.iterations.numpy() == 1
    assert abs(metric.result() - right) < 1e-6
    model.compile("adam")
    replicas_step(strategy, model, given(), model.optimizer)

    decaying = bertconv.create_optimizer(0.01, num_train_steps=4, num_warmup_steps=1, weight_decay_rate=0.1)[0]
    inside, outside = made(strategy), made(strategy)
    outside.compile(decaying)
    with strategy.scope():
        inside.compile(bertconv.create_optimizer(0.01, num_train_steps=4, num_warmup_steps=1, weight_decay_rate=0.1)[0])
    for each in (inside, outside):
        for _ in range(2):
            replicas_step(strategy, each, given(), each.optimizer)
    same_weights(outside, inside)


@scene
def refusals(strategy: tf.distribute.Strategy) -> None:
    alone = made(None)
    with strategy.scope():
        inside = keras.optimizers.SGD(RATE)
        refused(lambda: alone.compile("sgd"), "sgd", "MirroredStrategy", "strategy.scope()")
    refused(lambda: alone.compile(inside), inside.name, "MirroredStrategy", "strategy.scope()")
    alone.compile("sgd")
    with strategy.scope():
        refused(lambda: alone.fit(IDS, CLASSES, verbose=0), "TFBertForSequenceClassification", "outside the scope")
        same(alone(IDS).logits, made(None)(IDS).logits)  # a call needs no strategy
    alone.optimizer.build(alone.trainable_variables)
    refused(lambda: made(strategy).compile(alone.optimizer), "used outside", "strategy.scope()")


@scene
def generation(strategy: tf.distribute.Strategy) -> None:
    model, single = (made(each, "TFBertLMHeadModel", is_decoder=True) for each in (strategy, None))
    expected = single.generate(IDS, max_new_tokens=3)
    for scope in (nullcontext(), strategy.scope()):
        with scope:
            assert np.array_equal(model.generate(IDS, max_new_tokens=3), expected)


@scene
def half_precision(strategy: tf.distribute.Strategy) -> None:
    single = made(None)
    with tempfile.TemporaryDirectory() as folder:
        single.save_pretrained(folder)
        with strategy.scope():
            model = type(single).from_pretrained(folder, dtype="mixed_float16")
    optimizer = keras.optimizers.SGD(RATE)
    model.compile(optimizer)
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    logits = model(IDS).logits
    assert logits.dtype == "float16"
    assert np.abs(np.asarray(logits, np.float64) - np.asarray(single(IDS).logits)).max() < 0.05
    assert model.optimizer.inner_optimizer is optimizer


@scene
def one_device(strategy: tf.distribute.Strategy) -> None:
    del strategy
    alone = tf.distribute.OneDeviceStrategy("CPU:0")
    model, single = made(alone), made(None)
    same(model(IDS).logits, single(IDS).logits)
    model.compile(keras.optimizers.SGD(RATE), weighted_metrics=[])
    fits_as(model, single)


def main() -> None:
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    keras.config.set_floatx("float64")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    for each in [each for each in SCENES if each.__name__ in sys.argv] or SCENES:
        each(strategy)
        sys.stdout.write(f"{each.__name__} as one device\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
