"""Files that Keras 3 itself writes of our classes are checkpoints: read by the names of their layers, bits equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints as cp
import keras
import numpy as np
import pytest
import tensorflow as tf
from family_models import MODEL_TYPES, inputs, keys, tf_class

from bertconv.convert import convert_checkpoint
from bertconv.families import family_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SAME = {"xlm-roberta", "camembert"}
"""Families whose classes are RoBERTa's by another name."""
HEADS = [
    *((model_type, next(head for head in family_of(model_type).tasks if head.endswith("ForMaskedLM")))
      for model_type in MODEL_TYPES if model_type not in SAME),
    ("bert", "BertForPreTraining"), ("electra", "ElectraForPreTraining"),
    ("roberta", "RobertaForSequenceClassification"),
]  # fmt: skip


def built(model_type: str, head: str) -> Any:
    """Our model with other weights in every variable."""
    made = tf_class(model_type, head)
    model = made(made.config_class(**keys(model_type, head)))
    model(inputs(model.config, head))
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape))
    return model


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_weights_and_whole_models_of_every_family(model_type: str, head: str, tmp_path: Path) -> None:
    model = built(model_type, head)
    model.save_pretrained(tmp_path / "pt", format="pt")
    expected = cp.read_safetensors(tmp_path / "pt" / "model.safetensors")[0]
    weights = tmp_path / "weights"
    weights.mkdir()
    model.save_weights(weights / "model.weights.h5")
    (weights / "config.json").write_text(json.dumps(model.config.to_dict()))
    model.save(tmp_path / "whole.keras")
    for source in (weights, tmp_path / "whole.keras"):
        out = tmp_path / f"out-{source.name}"
        report = convert_checkpoint(source, out, to="pt")
        assert report.head == head
        cp.assert_same(cp.read_safetensors(out / "model.safetensors")[0], expected)


def test_a_model_around_ours(tmp_path: Path) -> None:
    """A functional model: its layers' names stand before those of the model in it."""
    model = built("bert", "BertForMaskedLM")
    ids = keras.Input((5,), dtype="int32")
    keras.Model(ids, model(ids).logits).save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    model.save_pretrained(tmp_path / "pt", format="pt")
    convert_checkpoint(tmp_path, tmp_path / "out", to="pt")
    expected = cp.read_safetensors(tmp_path / "pt" / "model.safetensors")[0]
    cp.assert_same(cp.read_safetensors(tmp_path / "out" / "model.safetensors")[0], expected)


def test_bfloat16(tmp_path: Path) -> None:
    made = tf_class("bert", "BertModel")
    model = made(made.config_class(**keys("bert", "BertModel")), dtype="bfloat16")
    model(inputs(model.config, "BertModel"))
    model.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    convert_checkpoint(tmp_path, tmp_path / "out", to="pt")
    model.save_pretrained(tmp_path / "pt", format="pt")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "pt" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_checkpoints_of_tensorflow(model_type: str, head: str, tmp_path: Path) -> None:
    """Those of the user's own loop, with every weight: Keras 3 leaves out what lies in lists."""
    model, other = built(model_type, head), built(model_type, head)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "ck"))
    stored = [name for name, _ in tf.train.list_variables(path) if name.endswith("VARIABLE_VALUE")]
    assert len(stored) == len(model.weights) + 1  # and the number of the save
    other.set_weights([np.zeros_like(each) for each in other.get_weights()])
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    assert all(map(np.array_equal, other.get_weights(), model.get_weights()))


def test_checkpoints_of_tensorflow_follow_layers_that_are_replaced(tmp_path: Path) -> None:
    model = built("bert", "BertForMaskedLM")
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.save(str(tmp_path / "ck"))
    model.bert.encoder.layer = model.bert.encoder.layer[1:]
    path = checkpoint.save(str(tmp_path / "ck"))
    kernel = model.bert.encoder.layer[0].attention.self_attention.query.kernel
    name = "model/bert/encoder/layer/0/attention/self_attention/query/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.array_equal(tf.train.load_variable(path, name), kernel)
    assert not any("/layer/1/" in each for each, _ in tf.train.list_variables(path))
