"""One side of scripts/bench_models.py: runs in bertconv's environment or in the peer's, and times what it is asked to.

    python bench_models_side.py bertconv|peer CHECKPOINT

Reads names of measurements from standard input, one a line, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SIDE, CHECKPOINT = sys.argv[1:3]
BATCH, LENGTH, BATCHES = 8, 128, 4
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if SIDE == "peer":
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

if SIDE == "peer":
    import tf_keras as keras
    import transformers as classes

    LOAD = {"from_pt": True}
else:
    import keras

    import bertconv as classes

    LOAD = {}

with open(os.path.join(CHECKPOINT, "config.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
    [HEAD] = json.load(file)["architectures"]
PREFIX = HEAD.partition("For")[0]
CONFIG = getattr(classes, f"{PREFIX}Config")


def memory(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123  (the peer's environment is not ours)
        line = next(line for line in status if line.startswith(name))
    return int(line.split()[1]) * 1024


def load() -> dict[str, float]:
    """The language model from PyTorch's safetensors: seconds, and peak memory beyond what there was before."""
    tf.zeros(())
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:  # noqa: PTH123
        refs.write("5")  # forget the peak
    before, started = memory("VmRSS"), time.perf_counter()
    model = getattr(classes, f"TF{HEAD}").from_pretrained(CHECKPOINT, **LOAD)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "extra": memory("VmHWM") - before, "weights": 4 * model.count_params()}


def measurements() -> dict[str, Callable[[], Any]]:
    """Every other measurement, on one model of the checkpoint's size with fresh weights."""
    random = np.random.default_rng(0)
    shape = (BATCH, LENGTH)
    arrays = {
        "input_ids": random.integers(0, 30522, shape).astype(np.int32),
        "attention_mask": np.ones(shape, np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
    }
    config = CONFIG.from_pretrained(CHECKPOINT)
    if not getattr(config, "type_vocab_size", 0):
        del arrays["token_type_ids"]
    tensors = {name: tf.constant(value) for name, value in arrays.items()}
    many = {name: np.tile(value, (BATCHES, 1)) for name, value in arrays.items()}
    model = getattr(classes, f"TF{PREFIX}Model")(config)
    model(tensors)
    graph = tf.function(lambda inputs: model(inputs, training=False))
    compiled = tf.function(lambda inputs: model(inputs, training=False), jit_compile=True)
    trained: list[Any] = []

    def train() -> None:
        if not trained:
            classifier = getattr(classes, f"TF{PREFIX}ForSequenceClassification")(config)
            classifier(tensors)
            classifier.compile(keras.optimizers.Adam(1e-5))
            trained.append(classifier)
        trained[0].train_on_batch(arrays, np.zeros(BATCH, np.int32))

    return {
        "eager": lambda: model(tensors),
        "tf.function": lambda: graph(tensors),
        "jit_compile": lambda: compiled(tensors),
        "predict": lambda: model.predict(many, batch_size=BATCH, verbose=0),
        "tf.function x 4": lambda: [graph(tensors) for _ in range(BATCHES)],
        "train_on_batch": train,
    }


def main() -> None:
    """Answer every line."""
    known: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name == "load":
            answer: Any = load()
        else:
            known = known or measurements()
            started = time.perf_counter()
            known[name]()
            answer = time.perf_counter() - started
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
