"""The gradient of the loss in every variable of every head, against PyTorch's autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from relative_bert import KINDS, relative_folder, relative_outputs, relative_state
from tiny_models import (
    BATCH,
    HEADS,
    LENGTH,
    NO_LABEL,
    SIZES,
    inputs,
    labels,
    tf_model,
    tf_state_of,
    torch_inputs,
    torch_model,
)

import bertconv
from bertconv.config.classes import ACTIVATIONS
from bertconv.models.variables import named_variables

TOLERANCE = 1e-9
NOISE = 1e-14
"""Of the largest gradient of all; what is below it is zero but for rounding."""
ALIKE = {
    "": ("self/key/bias",),
    "BertForMultipleChoice": ("classifier/bias",),
    "BertForQuestionAnswering": ("qa_outputs/bias", "layer_._1/output/LayerNorm/beta"),
}
"""By head: what shifts everything that a softmax compares alike, so that its gradient is zero."""
CROSS = {"is_decoder": True, "add_cross_attention": True}
WORDS = "bert/embeddings/word_embeddings/weight"

Arrays = Mapping[str, Any]
Gradients = dict[str, Any]
Pairs = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Makes a model of PyTorch, and ours with its weights: `pair(head, **changes of the config)`."""

    @cache
    def make(head: str, **changes: Any) -> tuple[Any, Any]:
        theirs = torch_model(head, **changes)
        return theirs, tf_model(theirs, tmp_path_factory.mktemp(head))

    return make


def weights_of(*shape: int) -> np.ndarray:
    """What the outputs of a model without a loss are multiplied by."""
    return np.random.default_rng(3).standard_normal(shape)


def torch_loss(model: Any, head: str, arrays: Arrays) -> torch.Tensor:
    given = torch_inputs(head, arrays)
    words = given.pop("labels") if head == "BertLMHeadModel" else None
    out = model(**given)
    if head == "BertModel":
        pooled = 0 if out.pooler_output is None else (out.pooler_output * torch.tensor(weights_of(BATCH, 35))).sum()
        return (out.last_hidden_state * torch.tensor(weights_of(BATCH, LENGTH, 35))).sum() + pooled
    if words is None:
        return out.loss
    # transformers takes this loss in float32, whatever the model is in
    shifted = out.logits[:, :-1].flatten(0, 1), words[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(*shifted, ignore_index=NO_LABEL)


def torch_gradients(model: Any, head: str, arrays: Arrays) -> Gradients:
    """By our names, in our layout; None where a parameter takes no part in the loss."""
    model.zero_grad()
    torch_loss(model, head, arrays).backward()
    parameters = dict(model.named_parameters())
    unused = tf_state_of({name: value for name, value in parameters.items() if value.grad is None})
    found = tf_state_of({name: value.grad for name, value in parameters.items() if value.grad is not None})
    return {name: value.numpy() for name, value in found.items()} | dict.fromkeys(unused)


def tf_loss(model: Any, arrays: Arrays) -> tf.Tensor:
    out = model(**arrays)
    if out.get("loss") is not None:
        return tf.reduce_mean(out.loss)
    pooled = 0 if out.pooler_output is None else tf.reduce_sum(out.pooler_output * weights_of(BATCH, 35))
    return tf.reduce_sum(out.last_hidden_state * weights_of(BATCH, LENGTH, 35)) + pooled


def tf_gradients(model: Any, arrays: Arrays) -> Gradients:
    named = named_variables(model)
    with tf.GradientTape() as tape:
        loss = tf_loss(model, arrays)
    found = tape.gradient(loss, [variable.value for variable in named.values()])
    return {name: None if each is None else dense(each) for name, each in zip(named, found, strict=True)}


def dense(gradient: tf.Tensor | tf.IndexedSlices) -> np.ndarray:
    return np.asarray(tf.convert_to_tensor(gradient))


def assert_same(found: Gradients, expected: Gradients, head: str = "") -> None:
    assert set(found) == set(expected)
    assert {name for name in found if found[name] is None} == {name for name in expected if expected[name] is None}
    largest = {name: np.abs(value).max() for name, value in expected.items() if value is not None}
    floor = NOISE * max(largest.values())
    wrong = {}
    for name, largest_here in largest.items():
        assert found[name].shape == expected[name].shape
        error = np.abs(found[name] - expected[name]).max()
        if not error <= TOLERANCE * largest_here + floor:
            wrong[name] = error / largest_here
    assert not wrong
    alike = (*ALIKE[""], *ALIKE.get(head, ()))
    assert all(name.endswith(alike) for name in largest if largest[name] <= floor)  # no other, else nothing is tested


def check(models: tuple[Any, Any], head: str, arrays: Arrays) -> Gradients:
    found = tf_gradients(models[1], arrays)
    assert_same(found, torch_gradients(models[0], head, arrays), head)
    return found


def all_inputs(head: str, seed: int = 0, padded: bool = True) -> dict[str, Any]:
    return {**inputs(head, seed, padded), **labels(head, seed)}


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("head", HEADS)
def test_every_variable_of_every_head(pair: Pairs, head: str, padded: bool) -> None:
    found = check(pair(head), head, all_inputs(head, 1, padded))
    assert len(found) == len(pair(head)[1].weights)


@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel"])
def test_untied_decoder(pair: Pairs, head: str) -> None:
    found = check(pair(head, tie_word_embeddings=False), head, all_inputs(head, 2))
    assert found["mlm___cls/predictions/bias"] is None  # the decoder has a bias of its own
    assert not found[WORDS][0].any()


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}], ids=["tied", "untied"])
@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
def test_cross_attention(pair: Pairs, head: str, changes: dict[str, Any]) -> None:
    arrays = all_inputs(head, 3)
    arrays["encoder_hidden_states"] = np.random.default_rng(3).standard_normal((BATCH, 6, SIZES["hidden_size"]))
    arrays["encoder_attention_mask"] = np.array([[1] * 6, [0] * 6, [0, 1, 0, 1, 1, 0]])
    found = check(pair(head, **CROSS, **changes), head, arrays)
    assert any("crossattention" in name for name in found)


def test_wholly_masked_sequences(pair: Pairs) -> None:
    for head, changes in (("BertForPreTraining", {}), ("BertLMHeadModel", {})):
        arrays = all_inputs(head, 4)
        arrays["attention_mask"][1] = 0
        check(pair(head, **changes), head, arrays)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(pair: Pairs, name: str) -> None:
    head = "BertForMaskedLM"
    check(pair(head, hidden_act=name), head, all_inputs(head, 5))


def test_without_pooler(tmp_path_factory: pytest.TempPathFactory) -> None:
    theirs = torch_model(add_pooling_layer=False)
    ours = tf_model(theirs, tmp_path_factory.mktemp("bare"), add_pooling_layer=False)
    check((theirs, ours), "BertModel", inputs())


@pytest.mark.parametrize("pad", [0, 7, None])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_padding_row(tmp_path_factory: pytest.TempPathFactory, pad: int | None, tied: bool) -> None:
    """Its vector gets no gradient where it is looked up, only where it is an output."""
    head = "BertForMaskedLM"
    theirs = torch_model(head, tie_word_embeddings=tied)
    theirs.config.pad_token_id = theirs.bert.embeddings.word_embeddings.padding_idx = pad
    ours = tf_model(theirs, tmp_path_factory.mktemp("pad"))
    assert ours.config.pad_token_id == pad
    arrays = all_inputs(head, 6)
    arrays["input_ids"][:, :2] = 7
    found = check((theirs, ours), head, arrays)
    rows = {row for row in (0, 7) if not found[WORDS][row].any()}
    assert rows == (set() if tied or pad is None else {pad})


def test_embeddings_and_encoder_states_get_gradients(pair: Pairs) -> None:
    """What is given in place of ids, and what an encoder gave, may be trained as well."""
    head = "BertLMHeadModel"
    theirs, ours = pair(head, **CROSS)
    arrays = all_inputs(head, 7)
    shapes = {"inputs_embeds": (*arrays.pop("input_ids").shape, 35), "encoder_hidden_states": (BATCH, 6, 35)}
    given = {name: np.random.default_rng(7).standard_normal(shape) for name, shape in shapes.items()}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in given.items()}
    theirs.zero_grad()
    torch_loss(theirs, head, {**arrays, **tensors}).backward()
    constants = {name: tf.constant(value) for name, value in given.items()}
    with tf.GradientTape() as tape:
        tape.watch(constants)
        loss = tf_loss(ours, {**arrays, **constants})
    found = tape.gradient(loss, constants)
    assert_same(
        {name: dense(value) for name, value in found.items()},
        {name: value.grad.numpy() for name, value in tensors.items()},
    )


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_relative_positions(tmp_path_factory: pytest.TempPathFactory, kind: str, causal: bool) -> None:
    folder = relative_folder(tmp_path_factory.mktemp(kind), kind, is_decoder=causal, num_labels=None)
    ours = bertconv.TFBertModel.from_pretrained(folder, dtype="float64")
    state = {name: value.clone().requires_grad_() for name, value in relative_state().items()}
    hidden = relative_outputs(state, kind, inputs(), causal=causal)[SIZES["num_hidden_layers"]]
    pooled = torch.tanh(hidden[:, 0] @ state["pooler.dense.weight"].T + state["pooler.dense.bias"])
    loss = (hidden * torch.tensor(weights_of(BATCH, LENGTH, 35))).sum()
    (loss + (pooled * torch.tensor(weights_of(BATCH, 35))).sum()).backward()
    expected = tf_state_of({name: value.grad for name, value in state.items() if value.grad is not None})
    unused = tf_state_of({name: value for name, value in state.items() if value.grad is None})
    assert set(unused) == {"bert/embeddings/position_embeddings/embeddings"}
    assert_same(
        tf_gradients(ours, inputs()),
        {name: np.asarray(value) for name, value in expected.items()} | dict.fromkeys(unused),
    )


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize(("head", "changes"), [("BertForPreTraining", {}), ("BertLMHeadModel", CROSS)])
def test_in_a_graph(pair: Pairs, head: str, changes: dict[str, Any], jit: bool) -> None:
    theirs, ours = pair(head, **changes)
    arrays = all_inputs(head, 8)
    if changes:
        arrays["encoder_hidden_states"] = np.random.default_rng(8).standard_normal((BATCH, 6, 35))
    named = named_variables(ours)

    @tf.function(jit_compile=jit)
    def graph(given: Arrays) -> list[Any]:
        with tf.GradientTape() as tape:
            loss = tf_loss(ours, given)
        return [tf.convert_to_tensor(each) for each in tape.gradient(loss, [each.value for each in named.values()])]

    found = graph({name: tf.constant(value) for name, value in arrays.items()})
    assert_same(
        {name: np.asarray(value) for name, value in zip(named, found, strict=True)},
        torch_gradients(theirs, head, arrays),
    )
