"""Every head against transformers 5, loaded through a folder that the PyTorch model saved: all outputs and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    BATCH,
    CACHE,
    CHOICES,
    HEADS,
    LABELS,
    LENGTH,
    NO_LABEL,
    SIZES,
    inputs,
    labels,
    relative_error,
    tf_model,
    torch_inputs,
    torch_model,
)

from bertconv.config.classes import ACTIVATIONS

TOLERANCE = {"float64": 1e-11, "float32": 2e-5}
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
CROSS = {"is_decoder": True, "add_cross_attention": True}
ENCODER_LENGTH = 6

Pair = tuple[Any, Any]
Arrays = Mapping[str, Any]
Outputs = dict[str, np.ndarray]

LABELLED = [head for head in HEADS if head != "BertModel"]
UNTIED = ["BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Makes a model of PyTorch, and ours with its weights: `pair(head, dtype, **changes of the config)`."""

    @cache
    def make(head: str, dtype: str = "float64", std: float = 0.5, **changes: Any) -> Pair:
        theirs = torch_model(head, std=std, **changes).to(getattr(torch, dtype))
        keywords = {key: changes[key] for key in ("add_pooling_layer",) if key in changes}
        return theirs, tf_model(theirs, tmp_path_factory.mktemp(head), dtype, **keywords)

    return make


def flat(output: Arrays) -> Outputs:
    """Name -> array, tuples taken apart: `hidden_states.0`, for a cache `past_key_values.0.1`."""
    found = {}
    for name, value in output.items():
        found |= dict(
            _parts("past_key_values", _cache(value)) if name in (CACHE, "past_key_values") else _parts(name, value)
        )
    return found


def _parts(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(value, tuple):
        return [part for number, each in enumerate(value) for part in _parts(f"{name}.{number}", each)]
    return [(name, value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value))]


def _cache(value: Any) -> tuple[tuple[Any, ...], ...]:
    """A cache of transformers 5 as tuples per layer: key and value, and those of cross-attention."""
    if isinstance(value, tuple):
        return value
    if hasattr(value, "cross_attention_cache"):
        both = zip(_cache(value.self_attention_cache), _cache(value.cross_attention_cache), strict=True)
        return tuple(own + cross for own, cross in both)
    return tuple((layer.keys, layer.values) for layer in value.layers)


def expected(model: Any, head: str, arrays: Arrays) -> Outputs:
    """What PyTorch gives. The loss of BertLMHeadModel is taken apart, since transformers takes it in float32 always."""
    words = arrays.get("labels") if head == "BertLMHeadModel" else None
    kept = {name: value for name, value in arrays.items() if words is None or name != "labels"}
    with torch.no_grad():
        output = model(**torch_inputs(head, kept))
        found = flat(output)
        if words is not None:
            shifted = output.logits[:, :-1].flatten(0, 1), torch.tensor(words[:, 1:]).flatten()
            found["loss"] = torch.nn.functional.cross_entropy(*shifted, ignore_index=NO_LABEL).numpy()
    return found


def assert_same(ours: Arrays, theirs: Outputs, dtype: str = "float64") -> None:
    found = flat(ours)
    if "loss" in found:
        assert found["loss"].shape in {(1,), (BATCH,)}
        found["loss"] = found["loss"].mean()
    assert {value.dtype for value in found.values()} == {np.dtype(dtype)}
    assert sorted(found) == sorted(theirs)
    errors = {name: relative_error(found[name], value) for name, value in theirs.items()}
    assert max(errors.values()) <= TOLERANCE[dtype], errors


def check(models: Pair, head: str, arrays: Arrays, dtype: str = "float64") -> Outputs:
    theirs = expected(models[0], head, arrays)
    assert_same(models[1](**arrays), theirs, dtype)
    return theirs


def of_type(dtype: str, seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def encoder_inputs(dtype: str = "float64", masked: bool = True) -> dict[str, Any]:
    """States of an encoder with a mask."""
    found = {"encoder_hidden_states": of_type(dtype, 5, BATCH, ENCODER_LENGTH, SIZES["hidden_size"])}
    if masked:
        found["encoder_attention_mask"] = np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]])
    return found


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("head", HEADS)
def test_every_output_of_every_head(pair: Callable[..., Pair], head: str, padded: bool, dtype: str) -> None:
    arrays = {**inputs(head, 1, padded), **labels(head, 1), **EVERYTHING}
    theirs = check(pair(head, dtype), head, arrays, dtype)
    assert {"hidden_states.2", "attentions.1"} < set(theirs)
    assert (head == "BertModel") == ("loss" not in theirs)


@pytest.mark.parametrize("head", HEADS)
def test_ids_alone(pair: Callable[..., Pair], head: str) -> None:
    """No mask, no token types; and nothing is given back but what was asked for."""
    ids = {"input_ids": inputs(head, 2, padded=False)["input_ids"]}
    theirs = check(pair(head), head, ids)
    assert {name.split(".")[0] for name in theirs} <= {
        "last_hidden_state", "pooler_output", "past_key_values", "logits", "prediction_logits",
        "seq_relationship_logits", "start_logits", "end_logits",
    }  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_embeddings_instead_of_ids(pair: Callable[..., Pair], head: str) -> None:
    arrays = inputs(head, 3)
    arrays["inputs_embeds"] = of_type("float64", 3, *arrays.pop("input_ids").shape, SIZES["hidden_size"])
    check(pair(head), head, {**arrays, **labels(head, 3), **EVERYTHING})


@pytest.mark.parametrize("head", HEADS)
def test_positions(pair: Callable[..., Pair], head: str) -> None:
    arrays = inputs(head, 4)
    shape = arrays["input_ids"].shape
    positions = np.random.default_rng(4).integers(0, SIZES["max_position_embeddings"], shape)
    check(pair(head), head, {**arrays, "position_ids": positions})
    if head != "BertForMultipleChoice":
        check(pair(head), head, {**arrays, "position_ids": positions[:1]})  # one row for all


def test_one_position_row_reaches_every_choice(pair: Callable[..., Pair]) -> None:
    head = "BertForMultipleChoice"
    arrays = inputs(head, 5)
    row = np.arange(LENGTH)[::-1].copy()
    every = np.broadcast_to(row, (BATCH, CHOICES, LENGTH)).copy()
    check(pair(head), head, {**arrays, "position_ids": every})


@settings(deadline=None, max_examples=30)
@given(data=st.data(), batch=st.integers(1, 4), length=st.integers(1, SIZES["max_position_embeddings"]))
def test_every_size_and_mask(pair: Callable[..., Pair], data: st.DataObject, batch: int, length: int) -> None:
    """Masks have holes anywhere, as long as a position is left to look at."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    mask = (rng.random((batch, length)) < data.draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(np.int64)
    mask[np.arange(batch), rng.integers(0, length, batch)] = 1
    arrays = {
        "input_ids": rng.integers(0, SIZES["vocab_size"], (batch, length)),
        "token_type_ids": rng.integers(0, SIZES["type_vocab_size"], (batch, length)),
        "attention_mask": mask, **EVERYTHING,
    }  # fmt: skip
    check(pair("BertForPreTraining"), "BertForPreTraining", arrays)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("head", UNTIED)
def test_untied_decoder(pair: Callable[..., Pair], head: str, dtype: str) -> None:
    models = pair(head, dtype, tie_word_embeddings=False)
    assert models[1].get_output_embeddings() is not models[1].get_input_embeddings()
    check(models, head, {**inputs(head, 6), **labels(head, 6), **EVERYTHING}, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
def test_cross_attention(pair: Callable[..., Pair], head: str, masked: bool, dtype: str) -> None:
    arrays = {**inputs(head, 7), **labels(head, 7), **encoder_inputs(dtype, masked), **EVERYTHING}
    theirs = check(pair(head, dtype, **CROSS), head, arrays, dtype)
    assert {"cross_attentions.1", "attentions.1", "past_key_values.1.3"} < set(theirs)


@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_decoder_with_cross_attention_but_no_encoder(pair: Callable[..., Pair], head: str, use_cache: bool) -> None:
    theirs = check(pair(head, **CROSS), head, {**inputs(head, 8), "use_cache": use_cache})
    assert ("past_key_values.1.1" in theirs) == use_cache


@pytest.mark.parametrize("use_cache", [True, False, None])
def test_caches_are_equal_too(pair: Callable[..., Pair], use_cache: bool | None) -> None:
    arrays = {**inputs(padded=True), **encoder_inputs(), "use_cache": use_cache}
    theirs = check(pair("BertLMHeadModel", **CROSS), "BertLMHeadModel", arrays)
    assert ("past_key_values.1.3" in theirs) == (use_cache is not False)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(pair: Callable[..., Pair], name: str) -> None:
    head = "BertForMaskedLM"
    check(pair(head, hidden_act=name), head, {**inputs(head, 9), **labels(head, 9), **EVERYTHING})


@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
def test_layer_norm_epsilon(pair: Callable[..., Pair], epsilon: float) -> None:
    head = "BertForPreTraining"
    models = pair(head, layer_norm_eps=epsilon)
    theirs = check(models, head, {**inputs(head), **EVERYTHING})
    usual = expected(pair(head)[0], head, {**inputs(head), **EVERYTHING})
    assert relative_error(usual["hidden_states.0"], theirs["hidden_states.0"]) > 100 * TOLERANCE["float64"]


@pytest.mark.parametrize("changes", [{}, CROSS], ids=["encoder", "decoder"])
def test_without_pooler(pair: Callable[..., Pair], changes: dict[str, Any]) -> None:
    models = pair("BertModel", add_pooling_layer=False, **changes)
    theirs = expected(models[0], "BertModel", inputs())
    theirs.pop("pooler_output", None)
    assert_same(models[1](inputs()), theirs)
    assert models[1](inputs()).pooler_output is None


def test_24_layers(pair: Callable[..., Pair]) -> None:
    head = "BertForPreTraining"
    models = pair(head, "float32", std=0.05, num_hidden_layers=24)
    theirs = check(models, head, {**inputs(head), **labels(head), **EVERYTHING}, "float32")
    assert "hidden_states.24" in theirs


def test_no_layers(pair: Callable[..., Pair]) -> None:
    models = pair("BertModel", num_hidden_layers=0)
    check(models, "BertModel", inputs())


@pytest.mark.parametrize("changes", [{"type_vocab_size": 1}, {"pad_token_id": 7}, {"num_attention_heads": 1}], ids=str)
def test_other_configs(pair: Callable[..., Pair], changes: dict[str, Any]) -> None:
    arrays = inputs()
    arrays["token_type_ids"] %= changes.get("type_vocab_size", 3)
    check(pair("BertModel", **changes), "BertModel", {**arrays, **EVERYTHING})


REAL = np.random.default_rng(10).standard_normal((BATCH, LABELS))
PROBLEMS = {
    "one number": (1, None, REAL[:, 0]),
    "one number, in columns": (1, None, REAL[:, :1]),
    "numbers": (LABELS, "regression", REAL),
    "several labels": (LABELS, None, (REAL > 0).astype(np.float64)),
    "several labels, as stated": (LABELS, "multi_label_classification", (REAL > 0).astype(np.float64)),
    "one label, as stated": (LABELS, "single_label_classification", np.array([6, NO_LABEL, 0])),
    "one label": (LABELS, None, np.array([3, 1, NO_LABEL])),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problem_types(pair: Callable[..., Pair], problem: str) -> None:
    head, (count, kind, values) = "BertForSequenceClassification", PROBLEMS[problem]
    models = pair(head, num_labels=count, problem_type=kind)
    models[0].config.problem_type = kind  # transformers keeps the kind that it found in the first labels
    check(models, head, {**inputs(head), "labels": values})


@pytest.mark.parametrize("head", LABELLED)
def test_labels_add_a_loss_and_nothing_else(pair: Callable[..., Pair], head: str) -> None:
    model = pair(head)[1]
    plain, labelled = (flat(model(**inputs(head), **given_)) for given_ in ({}, labels(head)))
    assert set(labelled) - set(plain) == {"loss"}
    assert all(np.array_equal(plain[name], labelled[name]) for name in plain)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("head", HEADS)
def test_in_a_graph(pair: Callable[..., Pair], head: str, jit: bool) -> None:
    models = pair(head)
    arrays = {name: tf.constant(value) for name, value in {**inputs(head), **labels(head)}.items()}
    graph = tf.function(lambda arrays: models[1](**arrays, **EVERYTHING), jit_compile=jit)
    theirs = expected(models[0], head, {**inputs(head), **labels(head), **EVERYTHING})
    assert_same(graph(arrays), theirs)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_decoder_with_cross_attention_in_a_graph(pair: Callable[..., Pair], jit: bool) -> None:
    head = "BertLMHeadModel"
    arrays = {**inputs(head), **encoder_inputs()}
    models = pair(head, **CROSS)
    graph = tf.function(lambda arrays: models[1](**arrays, **EVERYTHING), jit_compile=jit)
    given_ = {name: tf.constant(value) for name, value in arrays.items()}
    assert_same(graph(given_), expected(models[0], head, {**arrays, **EVERYTHING}))
