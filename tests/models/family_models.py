"""Tiny models of every family: transformers 5's in float64 with large random weights, and ours with the same ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bertconv import tasks
from bertconv.config import Config
from bertconv.families import Family, families, family_of

MODEL_TYPES = [
    model_type
    for model_type, family in families().items()
    if importlib.util.find_spec(f"bertconv.models.families.{family.path.stem}") is not None
]
"""Families with TensorFlow classes: those with a file of them."""
FAMILIES = list({family_of(model_type).path: model_type for model_type in reversed(MODEL_TYPES)}.values())
"""One of each table: others share all but their names."""

BATCH, CHOICES, LENGTH, LABELS, NO_LABEL = 3, 4, 11, 7, -100
SIZES = {
    "vocab_size": 101, "hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "num_hidden_layers": 2, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
EXTRA: Mapping[str, Mapping[str, Any]] = {
    "albert": {"embedding_size": 30, "num_hidden_groups": 2},
    "electra": {"embedding_size": 30},
}
"""Keys of the config that a family has beside those."""

Arrays = dict[str, Any]


def heads() -> list[tuple[str, str]]:
    """Model type and class for every head that both sides have."""
    return [
        (model_type, head)
        for model_type in MODEL_TYPES
        for head in family_of(model_type).tasks
        if hasattr(transformers, head) and hasattr(_module(family_of(model_type)), f"TF{head}")
    ]


def _module(family: Family) -> Any:
    return importlib.import_module(f"bertconv.models.families.{family.path.stem}")


def tf_class(model_type: str, head: str) -> Any:
    """Our class for a head."""
    return getattr(_module(family_of(model_type)), f"TF{head}")


def keys(model_type: str, head: str, **changes: Any) -> dict[str, Any]:
    """Keys of a tiny config, in the family's own spelling, dropout off."""
    family = family_of(model_type)
    task = family.tasks[head]
    found = {
        **SIZES, "num_labels": 2 if task in (tasks.QUESTION_ANSWERING, tasks.PRETRAINING) else LABELS,
        "is_decoder": task == tasks.CAUSAL_LM, **EXTRA.get(model_type, {}), **changes,
    }  # fmt: skip
    if "type_vocab_size" in family.schema.defaults:
        found.setdefault("type_vocab_size", 3)
    return family.schema.respelled(found)


def torch_model(model_type: str, head: str, *, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers 5 in float64 with normal weights in every parameter, eager attention."""
    settings = transformers.AutoConfig.for_model(
        model_type, **keys(model_type, head, **changes), attn_implementation="eager"
    )
    model = getattr(transformers, head)(settings).eval().double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def tf_model(model_type: str, theirs: Any, folder: Path, **keywords: Any) -> Any:
    """Ours with the weights of one of transformers, which go through a folder."""
    theirs.save_pretrained(folder)
    return tf_class(model_type, type(theirs).__name__).from_pretrained(folder, dtype="float64", **keywords)


def inputs(config: Config, head: str, seed: int = 0, side: str | None = "right") -> Arrays:
    """What the family takes: ids, token types, and a mask if padded; `[batch sequence]`, with choices in between."""
    rng = np.random.default_rng(seed)
    task = config.family.tasks[head]
    shape = (BATCH, CHOICES, LENGTH) if task == tasks.MULTIPLE_CHOICE else (BATCH, LENGTH)
    pad = config.values["pad_token_id"]
    found = {"input_ids": rng.integers(3, config.values["vocab_size"], shape)}
    if config.values.get("type_vocab_size"):
        found["token_type_ids"] = rng.integers(0, config.values["type_vocab_size"], shape)
    if side is not None:
        lengths = rng.integers(1, LENGTH, shape[:-1])
        lengths.flat[0] = LENGTH
        mask = (np.arange(LENGTH) < lengths[..., None]).astype(np.int64)
        found["attention_mask"] = mask if side == "right" else mask[..., ::-1].copy()
        found["input_ids"] = np.where(found["attention_mask"], found["input_ids"], pad)
    return found


def labels(config: Config, head: str, seed: int = 0) -> Arrays:
    """Labels as our class calls them, some of them -100."""
    rng = np.random.default_rng(1000 + seed)
    words = rng.integers(0, config.values["vocab_size"], (BATCH, LENGTH))
    words[rng.random(words.shape) < 0.4] = NO_LABEL
    sentences = np.array([1, NO_LABEL, 0])
    second = {"bert": "next_sentence_label", "albert": "sentence_order_label"}.get(config.model_type, "")
    return {
        tasks.MASKED_LM: {"labels": words},
        tasks.CAUSAL_LM: {"labels": words},
        tasks.PRETRAINING: {"labels": words, second: sentences},
        tasks.DISCRIMINATOR: {"labels": np.where(words < 0, 0, words % 2)},
        tasks.NEXT_SENTENCE: {"next_sentence_label": sentences},
        tasks.SEQUENCE_CLASSIFICATION: {"labels": rng.integers(0, LABELS, BATCH)},
        tasks.MULTIPLE_CHOICE: {"labels": rng.integers(0, CHOICES, BATCH)},
        tasks.TOKEN_CLASSIFICATION: {"labels": np.where(words < 0, words, words % LABELS)},
        tasks.QUESTION_ANSWERING: {
            "start_positions": np.array([2, LENGTH + 5, 0]), "end_positions": np.array([5, 1, LENGTH + 3]),
        },
    }.get(config.family.tasks[head], {})  # fmt: skip


@cache
def _pair(model_type: str, head: str, **changes: Any) -> tuple[Any, Any]:
    theirs = torch_model(model_type, head, **changes)
    with TemporaryDirectory() as folder:
        return theirs, tf_model(model_type, theirs, Path(folder))


@pytest.fixture(scope="module")
def pair() -> Callable[..., tuple[Any, Any]]:
    """A model of PyTorch, and ours with its weights: `pair(model_type, head, **changes of the config)`.

    They are made once in a process, for all test files: a test that changes one has to make its own.
    """
    return _pair
