"""The side of `witness_kerashub.py` that runs KerasHub and transformers; it imports nothing of bertconv.

PYTHON scripts/witness_kerashub_side.py make FOLDER      presets and files that KerasHub writes, with their variables
PYTHON scripts/witness_kerashub_side.py torch FOLDER     checkpoints that transformers writes, in float64
PYTHON scripts/witness_kerashub_side.py compare PRESET CHECKPOINT DTYPE   outputs of both, as JSON
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np

# Heads are 4 wide: the square root of 8, by which Keras divides, would be rounded to float32 in float64 too.
SIZES = {"num_layers": 2, "num_heads": 10, "hidden_dim": 40, "intermediate_dim": 53, "max_sequence_length": 37}
WORDS, LABELS, SEGMENTS = 101, 11, 3
FAMILIES = {
    "Bert": {"vocabulary_size": WORDS, "num_segments": SEGMENTS},
    "Roberta": {"vocabulary_size": WORDS},
    "XLMRoberta": {"vocabulary_size": WORDS},
    "DistilBert": {"vocabulary_size": WORDS},
    "Albert": {"vocabulary_size": WORDS, "num_segments": SEGMENTS, "embedding_dim": 35, "num_layers": 6,
               "num_groups": 2, "num_inner_repetitions": 3},
    "Electra": {"vocab_size": WORDS, "num_segments": SEGMENTS, "embedding_dim": 35},
}  # fmt: skip
ACTIVATIONS = {"Bert": "gelu_new", "Albert": "gelu_new", "Electra": "gelu_new"}
HEADS = {"": "Model", "MaskedLM": "ForMaskedLM", "TextClassifier": "ForSequenceClassification"}


def classes() -> list[tuple[str, str]]:
    """Family and task of everything that both have."""
    return [(family, task) for family in FAMILIES for task in HEADS if not (family == "Electra" and task)]


def make(folder: Path) -> None:
    """Models of KerasHub with random weights, saved in every way it has; beside each its variables by path."""
    import keras
    import keras_hub

    for number, (family, task) in enumerate(classes()):
        keras.utils.set_random_seed(number)
        body = getattr(keras_hub.models, f"{family}Backbone")(**{**SIZES, **FAMILIES[family]})
        extra = {"num_classes": LABELS} if task == "TextClassifier" else {}
        model = getattr(keras_hub.models, family + task)(backbone=body, preprocessor=None, **extra) if task else body
        rng = np.random.default_rng(number)
        for variable in model.weights:
            if "seed_generator" not in variable.path:
                variable.assign((rng.standard_normal(variable.shape) * 0.3).astype(np.float32))
        place = folder / f"{family}{task or 'Backbone'}"
        model.save_to_preset(str(place / "preset"))
        model.save_weights(str(place / "whole.weights.h5"))
        model.save(str(place / "whole.keras"))
        variables = {variable.path: np.asarray(variable) for variable in model.weights}
        np.savez(place / "variables.npz", **{name.replace("/", "|"): value for name, value in variables.items()})


def torch_models(folder: Path) -> None:
    """Models of transformers with random weights, such as KerasHub can hold without a loss."""
    import torch
    import transformers

    for number, (family, task) in enumerate(classes()):
        torch.manual_seed(number)
        config = getattr(transformers, f"{family}Config")(**settings(family))
        extra = {"add_pooling_layer": False} if task == "" and family.endswith("oberta") else {}
        model = getattr(transformers, family + HEADS[task])(config, **extra).double().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.2 + ("Norm.weight" in name))
            if family.endswith("oberta"):
                for name, parameter in model.named_parameters():
                    if name.endswith("position_embeddings.weight"):
                        parameter[:2] = 0
                    if name.endswith("token_type_embeddings.weight"):
                        parameter[:] = 0
        model.save_pretrained(str(folder / f"{family}{task or 'Backbone'}"))


def settings(family: str) -> dict[str, object]:
    """The keys of a config of transformers."""
    keys: dict[str, object] = {
        "vocab_size": WORDS, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 10,
        "intermediate_size": 53, "max_position_embeddings": 37, "num_labels": LABELS,
        "hidden_act": ACTIVATIONS.get(family, "gelu"),
    }  # fmt: skip
    if family in {"Bert", "Albert", "Electra"}:
        keys["type_vocab_size"] = SEGMENTS
    if family in {"Albert", "Electra"}:
        keys["embedding_size"] = 35
    if family == "Albert":
        keys |= {"num_hidden_groups": 2, "inner_group_num": 3, "num_hidden_layers": 6}
    if family.endswith("oberta"):
        keys |= {"max_position_embeddings": 39, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
    if family == "DistilBert":
        own = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
               "intermediate_size": "hidden_dim", "hidden_act": "activation"}  # fmt: skip
        keys = {own.get(key, key): value for key, value in keys.items()}
    return keys


def inputs(has_segments: bool) -> dict[str, np.ndarray]:
    """Two texts, the second one shorter."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, WORDS, (2, 19))
    mask = np.ones_like(tokens)
    mask[1, 11:] = 0
    tokens = np.where(mask == 1, tokens, 1)
    found = {"tokens": tokens, "mask": mask}
    return found | ({"segments": rng.integers(0, SEGMENTS, tokens.shape)} if has_segments else {})


def compare(preset: Path, checkpoint: Path, dtype: str) -> dict[str, float]:
    """The largest difference of each output, relative to the largest number in it; places of padding left out."""
    import torch
    import transformers

    given = json.loads((checkpoint / "config.json").read_text())
    head = given["architectures"][0]
    family, task = next((f, t) for f, t in classes() if f + HEADS[t] == head)
    values = inputs(family in {"Bert", "Albert", "Electra"})
    model = getattr(transformers, head).from_pretrained(str(checkpoint), dtype=getattr(torch, dtype)).eval()
    types = {"token_type_ids": torch.tensor(values["segments"])} if "segments" in values else {}
    with torch.no_grad():
        one = model(torch.tensor(values["tokens"]), attention_mask=torch.tensor(values["mask"]), **types)
    other = keras_outputs(family, task, preset, dtype, values)
    kept = values["mask"].astype(bool)
    found = {}
    if task == "":
        found["sequence"] = difference(one.last_hidden_state.numpy()[kept], other["sequence_output"][kept])
        if "pooled_output" in other and one.get("pooler_output") is not None:
            found["pooled"] = difference(one.pooler_output.numpy(), other["pooled_output"])
    else:
        logits = one.logits.numpy()
        found["logits"] = (
            difference(logits[kept], other["logits"][kept])
            if task == "MaskedLM"
            else difference(logits, other["logits"])
        )
    return found


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:  # noqa: ARG001
    """`tf.nn.gelu` with its constants in the type of its input: TensorFlow rounds them to float32 in float64 too."""
    import tensorflow as tf

    if approximate:
        return 0.5 * features * (1.0 + tf.math.tanh(0.7978845608028654 * (features + 0.044715 * features**3)))
    return 0.5 * features * tf.math.erfc(-features * 0.7071067811865476)


def keras_outputs(
    family: str, task: str, preset: Path, dtype: str, values: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What KerasHub computes of a preset; in float64 with a gelu of that precision, in float32 as it is."""
    import keras
    import keras_hub
    import tensorflow as tf

    keras.config.set_floatx(dtype)
    kind = getattr(keras_hub.models, family + task) if task else keras_hub.models.Backbone
    extra = {"preprocessor": None} if task else {}
    model = kind.from_preset(str(preset), dtype=dtype, **extra)
    fed = {"token_ids": values["tokens"], "padding_mask": values["mask"]}
    fed |= {"segment_ids": values["segments"]} if "segments" in values else {}
    if task == "MaskedLM":
        count = values["tokens"].shape[1]
        fed["mask_positions"] = np.tile(np.arange(count), (len(values["tokens"]), 1))
    with mock.patch.object(tf.nn, "gelu", gelu if dtype == "float64" else tf.nn.gelu):
        found = model(fed, training=False)
    if isinstance(found, dict):
        return {name: np.asarray(value) for name, value in found.items()}
    return {"sequence_output" if task == "" else "logits": np.asarray(found)}


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max() / np.abs(one).max())


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "make":
        make(Path(arguments[0]))
    elif verb == "torch":
        torch_models(Path(arguments[0]))
    else:
        pairs = [tuple(line.split("\t")) for line in arguments[0].splitlines()]
        for preset, checkpoint, dtype in pairs:
            print("RESULT", json.dumps([preset, dtype, compare(Path(preset), Path(checkpoint), dtype)]), flush=True)
