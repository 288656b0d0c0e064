"""The half of `scripts/witness_garden.py` that runs where tf-models-official is.

Not run by hand: `witness_garden.py` starts it as `python witness_garden_side.py JOBS.json RESULTS.json`. JOBS.json is a
list of `Job`s; RESULTS.json has {check: problem, or the largest relative difference of the outputs} for each.

For every job and each of the encoders (`BertEncoderV2`, the functional `BertEncoder`, or `AlbertEncoder`):
    restore  what bertconv wrote goes into Model Garden's model, with `assert_consumed()`, and computes PyTorch's outputs
    write    a model of random values is saved, with its variables by name and what it computes
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1", CUDA_VISIBLE_DEVICES="")

import numpy as np
import tensorflow as tf
import tf_keras
from official.modeling import tf_utils
from official.nlp.modeling import layers, models, networks

Array = np.ndarray[Any, np.dtype[Any]]


class Job(TypedDict):
    """One class of one family; `head` is the class's name without the family's."""

    family: str
    head: str
    config: dict[str, int]
    labels: int
    folder: str


class Model(TypedDict):
    """A model of Model Garden: what it is saved as, how it computes, and where its own items are saved."""

    whole: Any
    encoder: Any
    items: dict[str, Any]
    compute: Callable[[dict[str, Array]], dict[str, Array]]


def encoders(job: Job) -> Iterator[tuple[str, Any]]:
    """Every encoder of a family, by its name."""
    config = job["config"]
    sizes = {
        "vocab_size": config["vocab_size"], "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"], "num_attention_heads": config["num_attention_heads"],
        "max_sequence_length": config["max_position_embeddings"], "type_vocab_size": config["type_vocab_size"],
    }  # fmt: skip
    if job["family"] == "albert":
        yield (
            "AlbertEncoder",
            networks.AlbertEncoder(
                intermediate_size=config["intermediate_size"], embedding_width=config["embedding_size"], **sizes
            ),
        )
    else:
        yield "BertEncoderV2", networks.BertEncoderV2(inner_dim=config["intermediate_size"], **sizes)
        yield "BertEncoder", networks.BertEncoder(intermediate_size=config["intermediate_size"], **sizes)


def model_around(job: Job, encoder: Any) -> Model:
    """The model of a class around an encoder."""
    head, labels = job["head"], job["labels"]
    if head == "Model":
        return Model(
            whole=None, encoder=encoder, items={"encoder": encoder}, compute=lambda inputs: _body(encoder, inputs)
        )
    if head in ("ForPreTraining", "ForMaskedLM"):
        return _pretrainer(encoder, head, job["config"]["hidden_size"], labels)
    if head == "ForSequenceClassification":
        model = models.BertClassifier(encoder, num_classes=labels)
        return Model(whole=model, encoder=encoder, items={}, compute=lambda inputs: {"logits": _array(model(inputs))})
    if head == "ForTokenClassification":
        model = models.BertTokenClassifier(encoder, num_classes=labels)
        return Model(
            whole=model, encoder=encoder, items={}, compute=lambda inputs: {"logits": _array(model(inputs)["logits"])}
        )
    model = models.BertSpanLabeler(encoder)

    def spans(inputs: dict[str, Array]) -> dict[str, Array]:
        found = model(inputs)
        first, last = (found["start_positions"], found["end_positions"]) if isinstance(found, dict) else found
        return {"start_logits": _array(first), "end_logits": _array(last)}

    return Model(whole=model, encoder=encoder, items={}, compute=spans)


def _pretrainer(encoder: Any, head: str, hidden: int, labels: int) -> Model:
    heads = [layers.ClassificationHead(inner_dim=hidden, num_classes=labels, name="next_sentence")]
    model = models.BertPretrainerV2(
        encoder,
        classification_heads=heads if head == "ForPreTraining" else [],
        mlm_activation=tf_utils.get_activation("gelu"),
    )

    def compute(inputs: dict[str, Array]) -> dict[str, Array]:
        rows, length = inputs["input_word_ids"].shape
        places = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
        found = model({**inputs, "masked_lm_positions": places})
        outputs = {"logits": _array(found["mlm_logits"]).reshape(rows, length, -1)}
        if head == "ForPreTraining":
            outputs["sentence"] = _array(found["next_sentence"])
        return outputs

    return Model(whole=model, encoder=encoder, items=dict(model.checkpoint_items), compute=compute)


def _body(encoder: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    found = encoder(inputs)
    hidden, pooled = (found["sequence_output"], found["pooled_output"]) if isinstance(found, dict) else found
    return {"hidden": _array(hidden), "pooled": _array(pooled)}


def _array(tensor: Any) -> Array:
    return np.asarray(tensor)


def difference(found: dict[str, Array], expected: dict[str, Array]) -> float:
    """The largest one, relative to the largest value of its output."""
    return max(float(np.abs(found[key] - expected[key]).max() / np.abs(expected[key]).max()) for key in expected)


def restored(job: Job) -> dict[str, Any]:
    """Restore what bertconv wrote in every way that there is, and compute."""
    folder = Path(job["folder"])
    inputs, expected = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    prefix = str(folder / "garden" / "bert_model.ckpt")
    results: dict[str, Any] = {}
    for name, encoder in encoders(job):
        model = model_around(job, encoder)
        model["compute"](inputs)  # which makes every variable
        try:
            if model["whole"] is None:
                tf.train.Checkpoint(encoder=encoder).restore(prefix).assert_consumed()
            else:
                tf.train.Checkpoint(model=model["whole"]).restore(prefix).assert_consumed()
            results[f"{name} restored"] = difference(model["compute"](inputs), expected)
        except Exception as error:  # noqa: BLE001  (whatever it raises is the finding)
            results[f"{name} restored"] = f"{type(error).__name__}: {str(error)[:600]}"
    for name, encoder in encoders(job):
        items = model_around(job, encoder)
        items["compute"](inputs)
        parts = items["items"] or {"encoder": encoder}
        try:
            tf.train.Checkpoint(**parts).read(prefix).assert_existing_objects_matched().expect_partial()
            results[f"{name} items"] = 0.0
        except Exception as error:  # noqa: BLE001
            results[f"{name} items"] = f"{type(error).__name__}: {str(error)[:600]}"
    return results


def written(job: Job) -> None:
    """Save models of random values as Model Garden's tasks do: whole, and by their items."""
    folder = Path(job["folder"])
    inputs = dict(np.load(folder / "inputs.npz"))
    for name, encoder in encoders(job):
        model = model_around(job, encoder)
        model["compute"](inputs)
        owner = model["whole"] if model["whole"] is not None else encoder
        random = np.random.default_rng(7)
        for weight in owner.weights:
            weight.assign(random.normal(size=weight.shape) * 0.3)
        there = folder / f"theirs-{name}"
        tf.train.Checkpoint(model=owner).save(str(there / "whole" / "ckpt"))
        np.savez(there / "weights.npz", **{weight.name.removesuffix(":0"): weight.numpy() for weight in owner.weights})
        np.savez(there / "outputs.npz", **model["compute"](inputs))
        if model["items"]:
            tf.train.Checkpoint(**model["items"]).save(str(there / "items" / "ckpt"))


def main() -> None:
    """Every job."""
    jobs: list[Job] = json.loads(Path(sys.argv[1]).read_text())
    results = []
    for job in jobs:
        tf_keras.backend.clear_session()
        try:
            found = restored(job)
            written(job)
        except Exception as error:  # noqa: BLE001  (the other jobs are to go on)
            found = {"failed": f"{type(error).__name__}: {str(error)[:600]}"}
        results.append(found)
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
