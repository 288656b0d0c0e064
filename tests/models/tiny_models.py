"""Tiny models of transformers 5 with large random weights, in float64, and what they are compared by."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import torch
import transformers

import bertconv

HEADS, SIZES = checkpoints.HEADS, checkpoints.SIZES
BATCH, CHOICES, LENGTH, LABELS = 3, 4, 11, 7
NO_LABEL = -100
CACHE = "cache" if "cache" in inspect.signature(transformers.BertModel.forward).parameters else "past_key_values"
"""What transformers calls a decoder's keys and values, as argument and as output: it was renamed in 5.24."""

Arrays = dict[str, np.ndarray]


def config(head: str = "BertModel", **changes: Any) -> dict[str, Any]:
    """The config of a tiny model, dropout off; a key that is changed to None is left out."""
    values: dict[str, Any] = {
        "model_type": "bert", **SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "num_labels": 2 if head == "BertForQuestionAnswering" else LABELS,
        "is_decoder": head == "BertLMHeadModel", **changes,
    }  # fmt: skip
    return {key: value for key, value in values.items() if value is not None}


def torch_model(head: str = "BertModel", *, std: float = 0.5, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers 5 in float64 with normal weights of this spread in every parameter, eager attention."""
    keywords = {"add_pooling_layer": changes.pop("add_pooling_layer")} if "add_pooling_layer" in changes else {}
    settings = transformers.BertConfig(**config(head, **changes), attn_implementation="eager")
    model = getattr(transformers, head)(settings, **keywords).eval().double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


def save(model: Any, folder: Path) -> Path:
    """The folder, as the model's own `save_pretrained` writes it: safetensors in the model's element type."""
    model.save_pretrained(folder)
    return folder


def tf_class(head: str) -> Any:
    """Our class for a head, such as TFBertForMaskedLM."""
    return getattr(bertconv, f"TF{head}")


def tf_model(model: Any, folder: Path, dtype: str = "float64", **keywords: Any) -> Any:
    """Our model with the weights of one of transformers, which go through a folder."""
    return tf_class(type(model).__name__).from_pretrained(save(model, folder), dtype=dtype, **keywords)


def inputs(head: str = "BertModel", seed: int = 0, padded: bool = True) -> Arrays:
    """Ids and token types, with a mask if padded: `[batch sequence]`, for multiple choice `[batch choices sequence]`.

    The first sequence is whole and every other one shorter, its padding on the right.
    """
    rng = np.random.default_rng(seed)
    shape = (BATCH, CHOICES, LENGTH) if head == "BertForMultipleChoice" else (BATCH, LENGTH)
    found = {
        "input_ids": rng.integers(1, SIZES["vocab_size"], shape),
        "token_type_ids": rng.integers(0, SIZES["type_vocab_size"], shape),
    }
    if padded:
        lengths = rng.integers(1, LENGTH, shape[:-1])
        lengths.flat[0] = LENGTH
        found["attention_mask"] = (np.arange(LENGTH) < lengths[..., None]).astype(np.int64)
        found["input_ids"] *= found["attention_mask"]  # 0 is the padding's id
    return found


def labels(head: str, seed: int = 0) -> Arrays:
    """Labels as our class calls them, some of them -100; none for BertModel."""
    rng = np.random.default_rng(1000 + seed)
    words = rng.integers(0, SIZES["vocab_size"], (BATCH, LENGTH))
    words[rng.random(words.shape) < 0.4] = NO_LABEL
    sentences = np.array([1, NO_LABEL, 0])
    return {
        "BertModel": {},
        "BertForPreTraining": {"labels": words, "next_sentence_label": sentences},
        "BertForMaskedLM": {"labels": words},
        "BertLMHeadModel": {"labels": words},
        "BertForNextSentencePrediction": {"next_sentence_label": sentences},
        "BertForSequenceClassification": {"labels": rng.integers(0, LABELS, BATCH)},
        "BertForMultipleChoice": {"labels": rng.integers(0, CHOICES, BATCH)},
        "BertForTokenClassification": {"labels": np.where(words < 0, words, words % LABELS)},
        "BertForQuestionAnswering": {
            "start_positions": np.array([2, LENGTH + 5, 0]), "end_positions": np.array([5, 1, LENGTH + 3]),
        },
    }[head]  # fmt: skip


def torch_inputs(head: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same as tensors of PyTorch, under PyTorch's names."""
    if head == "BertForNextSentencePrediction":
        arrays = {"labels" if name == "next_sentence_label" else name: value for name, value in arrays.items()}
    return {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in arrays.items()}


def tf_state_of(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """PyTorch parameters or their gradients by our variables' names (`bert/pooler/dense/kernel`), in our layout."""
    found = {}
    for name, tensor in tensors.items():
        full = name if name.startswith(("bert.", "cls.", "classifier.", "qa_outputs.")) else f"bert.{name}"
        own = checkpoints.tf_name(full).removesuffix(":0")
        found[own] = tensor.detach().T if own.endswith("/kernel") else tensor.detach()
    return found


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest value; NaN and infinity count as infinitely wrong."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float64).tiny))
