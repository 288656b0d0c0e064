"""Scripts written for transformers 4.57's TensorFlow classes run with their import line changed and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import SIZES, call
from transformers import AutoTokenizer, BertForMaskedLM, BertForSequenceClassification
from warm_python import WarmPython

WORDS = "the a film food was and is not very it good fine great bad poor awful dull tasty long short".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]

CLASSIFIER = """
import json
import sys

import numpy as np
import tensorflow as tf
from transformers import AutoTokenizer, TFBertForSequenceClassification

source, target = sys.argv[1:]
texts = ["the film was good", "a great film", "food was fine and tasty", "it is very good food",
         "the film was bad", "a dull film and not very short", "food was awful", "it is poor and long"]
labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])

tf.keras.utils.set_random_seed(1)
tokenizer = AutoTokenizer.from_pretrained(source)
model = TFBertForSequenceClassification.from_pretrained(source, num_labels=2)
inputs = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="np")

model.compile(optimizer=tf.keras.optimizers.Adam(learning_rate=3e-3), metrics=["accuracy"])
history = model.fit(dict(inputs), labels, validation_data=(dict(inputs), labels), batch_size=3, epochs=16,
                    shuffle=False, verbose=0)
loss, accuracy = model.evaluate(dict(inputs), labels, verbose=0)
before = model.predict(dict(inputs), verbose=0).logits

model.save_pretrained(target)
tokenizer.save_pretrained(target)
model = TFBertForSequenceClassification.from_pretrained(target)
tokenizer = AutoTokenizer.from_pretrained(target)
outputs = model.predict(dict(tokenizer(texts, padding=True, return_tensors="np")), verbose=0)
print(json.dumps({
    "history": {key: [float(value) for value in values] for key, values in history.history.items()},
    "loss": float(loss), "accuracy": float(accuracy),
    "before": before.tolist(), "after": outputs.logits.tolist(), "first": outputs[0].tolist(),
    "labels": model.config.num_labels, "classes": np.argmax(outputs["logits"], axis=-1).tolist(),
}))
"""

MASKED_LM = """
import json
import sys

import numpy as np
import tensorflow as tf
from transformers import AutoTokenizer, TFBertForMaskedLM

source, target = sys.argv[1:]
tf.keras.utils.set_random_seed(1)
tokenizer = AutoTokenizer.from_pretrained(source)
model = TFBertForMaskedLM.from_pretrained(source)
inputs = tokenizer(["the film was [MASK] .", "the food was [MASK] and tasty ."], padding=True, return_tensors="np")
words = tokenizer(["the film was dull .", "the food was good and tasty ."], padding=True, return_tensors="np").input_ids
labels = np.where(inputs["input_ids"] == tokenizer.mask_token_id, words, -100)
start = model(**inputs, labels=labels)

optimizer = tf.keras.optimizers.Adam(learning_rate=1e-2)
dataset = tf.data.Dataset.from_tensor_slices((dict(inputs), labels)).repeat(20).batch(2)

@tf.function
def train_step(batch, labels):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(batch, labels=labels, training=True).loss)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss

losses = [float(train_step(batch, labels)) for batch, labels in dataset]
logits = model(inputs, training=False)[0]
found = tf.argmax(logits, axis=-1).numpy()[inputs["input_ids"] == tokenizer.mask_token_id]
hidden = model(inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True).hidden_states

model.compile(optimizer="adam", loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100))
model.fit(dataset, epochs=1, verbose=0, callbacks=[tf.keras.callbacks.EarlyStopping("loss", patience=1)])
model.resize_token_embeddings(len(tokenizer) + 3)
model.save_pretrained(target, safe_serialization=True)
again, info = TFBertForMaskedLM.from_pretrained(target, output_loading_info=True)
print(json.dumps({
    "start": {"loss": np.asarray(start.loss).tolist(), "logits": start.logits.numpy().tolist()}, "losses": losses,
    "found": tokenizer.convert_ids_to_tokens(found), "states": len(hidden), "info": info["missing_keys"],
    "size": again.config.vocab_size, "same": bool(np.array_equal(model(inputs).logits, again(inputs).logits)),
    "embeddings": model.get_input_embeddings().weight.shape[0], "bias": model.get_bias()["bias"].shape[0],
}))
"""

# What transformers 4.57.6 printed on 2026-11-22, with tf_keras 2.21 and TensorFlow 2.21, for the scripts as they stand
# and the same weights in tf_model.h5: "val_loss" of the first, "losses" of the second.
CLASSIFIER_LOSSES = [
    0.75686, 0.69462, 0.69115, 0.70477, 0.71381, 0.71405, 0.70762, 0.69743, 0.6849, 0.6689,
    0.64353, 0.59009, 0.46283, 0.2825, 0.15948, 0.09579,
]  # fmt: skip
MASKED_LM_LOSSES = [
    3.233783, 2.105939, 1.453558, 1.097095, 0.737995, 0.401394, 0.289425, 0.198175, 0.130224, 0.111818,
    0.068326, 0.060112, 0.04826, 0.035272, 0.025774, 0.02007, 0.01684, 0.014918, 0.013575, 0.012407,
]  # fmt: skip


def migrated(script: str) -> str:
    """The script with its one import line from transformers split in two, and nothing else changed."""
    (line,) = [line for line in script.splitlines() if line.startswith("from transformers import")]
    name = line.split(", ")[1]
    return script.replace(line, f"from transformers import AutoTokenizer\nfrom bertconv import {name}")


def fill(model: Any) -> Any:
    """The model with weights that depend on nothing but their names' order and shapes."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = rng.normal(scale=0.1, size=parameter.shape) + name.endswith("LayerNorm.weight")
            parameter.copy_(torch.from_numpy(values))
    return model


def write_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a classifier in TensorFlow's and of a masked language model in PyTorch's format, with tokenizers."""
    place = tmp_path_factory.mktemp("sources")
    for kind in (BertForSequenceClassification, BertForMaskedLM):
        config = {**SIZES, "vocab_size": len(SPECIAL + WORDS), "hidden_dropout_prob": 0.0}
        model = kind(kind.config_class(**config, attention_probs_dropout_prob=0.0))
        fill(model).save_pretrained(place / kind.__name__)
        write_tokenizer(place / kind.__name__)
    classifier = place / "tensorflow"
    assert call("pt2tf", "--quiet", place / "BertForSequenceClassification", classifier) == 0
    return {"classifier": classifier, "masked": place / "BertForMaskedLM"}


def run(warm: WarmPython, script: str, source: Path, target: Path) -> Any:
    """What the script prints last, as JSON; a warning of bertconv fails it."""
    done = warm.run("-c", migrated(script), source, target, folder=target.parent)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_scripts_are_of_transformers_and_change_in_one_line() -> None:
    for script in (CLASSIFIER, MASKED_LM):
        assert "bertconv" not in script
        old, new = script.splitlines(), migrated(script).splitlines()
        assert len(set(old) - set(new)) == 1
        assert len(new) == len(old) + 1


def test_load_tokenise_compile_fit_evaluate_save_reload_predict(
    warm: WarmPython, sources: dict[str, Path], tmp_path: Path
) -> None:
    found = run(warm, CLASSIFIER, sources["classifier"], tmp_path / "out")
    assert found["history"].keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert found["history"]["val_loss"] == pytest.approx(CLASSIFIER_LOSSES, rel=1e-3)
    assert found["accuracy"] == 1
    assert found["loss"] == pytest.approx(found["history"]["val_loss"][-1], rel=1e-5)
    assert found["after"] == found["before"] == found["first"]
    assert found["classes"] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert found["labels"] == 2
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tf_model.h5", "config.json", "tokenizer_config.json"} <= files


def test_custom_loop_own_loss_resize_and_loading_info(
    warm: WarmPython, sources: dict[str, Path], tmp_path: Path
) -> None:
    found = run(warm, MASKED_LM, sources["masked"], tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(sources["masked"])
    texts = ["the film was [MASK] .", "the food was [MASK] and tasty ."]
    words = ["the film was dull .", "the food was good and tasty ."]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    goal = tokenizer(words, padding=True, return_tensors="pt").input_ids
    labels = torch.where(inputs["input_ids"] == tokenizer.mask_token_id, goal, -100)
    with torch.no_grad():
        expected = BertForMaskedLM.from_pretrained(sources["masked"])(**inputs, labels=labels)
    np.testing.assert_allclose(found["start"]["logits"], expected.logits, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found["start"]["loss"], [float(expected.loss)], rtol=1e-5)
    assert found["losses"][0] == pytest.approx(float(expected.loss), rel=1e-5)
    assert found["losses"] == pytest.approx(MASKED_LM_LOSSES, rel=3e-3)
    assert found["found"] == ["dull", "good"]
    assert found["states"] == SIZES["num_hidden_layers"] + 1
    assert found["info"] == []
    assert found["same"] is True
    assert found["size"] == found["embeddings"] == found["bias"] == len(SPECIAL + WORDS) + 3
