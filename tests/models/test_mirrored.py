"""Training on several devices at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DISTRIBUTED = """
import numpy as np, keras, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
import sys
sys.path[:0] = PATHS
from tiny_models import config, inputs, labels, tf_class
keras.config.set_floatx("float64")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
batch = 4

def arrays(head):
    given, answers = inputs(head), labels(head)
    rows = [0, 1, 2, 1]
    given = {name: value[rows] for name, value in given.items()}
    return given, {name: value[rows] for name, value in answers.items()}

def make(head):
    keras.utils.set_random_seed(3)
    return tf_class(head)(config(head, initializer_range=0.5, num_hidden_layers=1), dtype="float64")

def half(arrays, number):
    return {name: value[2 * number : 2 * number + 2] for name, value in arrays.items()}

CASES = [("BertForSequenceClassification", "own"), ("BertForSequenceClassification", "keras"),
         ("BertForTokenClassification", "own"), ("BertForQuestionAnswering", "in x")]
for head, name in CASES:
    given, answers = arrays(head)
    y = next(iter(answers.values())) if len(answers) == 1 else answers
    with strategy.scope():
        model = make(head)
        model.compile(keras.optimizers.SGD(0.5), **{
            "own": {"weighted_metrics": []},
            "in x": {"metrics": {"start_logits": ["accuracy"], "end_logits": ["accuracy"]}},
            "keras": {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "metrics": ["accuracy"]},
        }[name])
    single = make(head)
    reference = make(head)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), single.get_weights(), strict=True))
    means, losses = None, []
    for number in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(single(**half(given, number), **half(answers, number)).loss)
        gradients = [tf.convert_to_tensor(each) for each in
                     tape.gradient(loss, [variable.value for variable in single.trainable_variables])]
        means = gradients if means is None else [a + b for a, b in zip(means, gradients, strict=True)]
        losses.append(float(loss))
    for variable, gradient in zip(single.trainable_variables, means, strict=True):
        variable.assign_sub(0.5 * gradient / 2)
    # Labels that do not count are spread unevenly, so that the halves' means are not the mean of the whole.
    if name == "in x":
        given, y = {**given, **answers}, None
    history = model.fit(given, y, batch_size=batch, shuffle=False, verbose=0).history
    assert abs(history["loss"][0] - np.mean(losses)) < 1e-12, (head, history, losses)
    for one, two in zip(model.get_weights(), single.get_weights(), strict=True):
        assert np.abs(one - two).max() <= 1e-11 * max(np.abs(two).max(), 0.1), (head, name, np.abs(one - two).max())
    assert not all(np.array_equal(a, b) for a, b in zip(model.get_weights(), reference.get_weights(), strict=True))
    found = model.evaluate(given, y, batch_size=batch, verbose=0, return_dict=True)
    wanted = np.mean([np.mean(single(**{**half(given, n), **half(answers, n)}).loss) for n in range(2)])
    assert abs(found["loss"] - wanted) < 1e-11, (head, found, wanted)
    predicted = model.predict(given, batch_size=batch, verbose=0)
    output = single(**given)
    assert type(predicted) is type(output)
    first = next(iter(predicted))
    assert first != "loss"
    assert np.abs(predicted[first] - output[first]).max() < 1e-11 * np.abs(output[first]).max()
print("all the same")
"""


def test_mirrored_strategy() -> None:
    """Two replicas, half the batch each: the weights move by the mean of the gradients of the halves' own losses."""
    here = Path(__file__).parent
    code = DISTRIBUTED.replace("PATHS", repr([str(here), str(here.parent)]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("all the same\n"), done.stderr[-3000:]
