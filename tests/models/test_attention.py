"""Attention: masks of every shape and type, head masks, relative positions, and the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from relative_bert import (
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    KINDS,
    LAYERS,
    POSITIONS,
    relative_folder,
    relative_outputs,
    relative_state,
)
from tiny_models import (
    BATCH,
    CACHE,
    LENGTH,
    SIZES,
    config,
    inputs,
    relative_error,
    tf_class,
    tf_model,
    torch_model,
)
from tiny_models import HEADS as MODELS

import bertconv
from bertconv.errors import RequestError

TOLERANCE = 1e-11
ENCODER_LENGTH = 6
LOWEST = np.finfo(np.float64).min
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
DECODER = {"is_decoder": True}
CROSS = {**DECODER, "add_cross_attention": True}
PROPERTY = settings(deadline=None, max_examples=25)

Pair = tuple[Any, Any]
Pairs = Callable[..., Pair]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Makes a model of PyTorch, and ours with its weights, in float64: `pair(head, **changes of the config)`."""

    @cache
    def make(head: str = "BertModel", **changes: Any) -> Pair:
        theirs = torch_model(head, **changes)
        return theirs, tf_model(theirs, tmp_path_factory.mktemp(head))

    return make


def ids_and_types(seed: int = 0) -> dict[str, np.ndarray]:
    return inputs(seed=seed, padded=False)


def states(seed: int = 0, batch: int = BATCH) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, ENCODER_LENGTH, HIDDEN))


def torch_outputs(model: Any, arrays: Mapping[str, Any]) -> list[np.ndarray]:
    """Last hidden states, attention probabilities and, where there are any, those of cross-attention."""
    given_ = {name: torch.tensor(value) for name, value in arrays.items()}
    with torch.no_grad():
        out = model(**given_, **EVERYTHING, use_cache=False)
    return [part.numpy() for part in (*out.hidden_states, *out.attentions, *(out.cross_attentions or ()))]


def our_outputs(model: Any, arrays: Mapping[str, Any]) -> list[np.ndarray]:
    out = model(**arrays, **EVERYTHING, use_cache=False)
    return [np.asarray(part) for part in (*out.hidden_states, *out.attentions, *(out.cross_attentions or ()))]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float = TOLERANCE) -> None:
    errors = [relative_error(*both) for both in zip(found, expected, strict=True)]
    assert max(errors) <= tolerance, errors


def added(seen: np.ndarray) -> np.ndarray:
    """The mask of four axes that PyTorch adds to the scores."""
    return np.where(seen, 0.0, LOWEST)


# Masks

NUMBERS = ("bool", "int32", "int64", "uint8", "float16", "float32", "float64")


def two_axes(rng: np.random.Generator) -> np.ndarray:
    """`[batch keys]` with holes; the second sequence is wholly masked."""
    seen = rng.random((BATCH, LENGTH)) < 0.6
    seen[1] = False
    return seen


def three_axes(rng: np.random.Generator) -> np.ndarray:
    """`[batch queries keys]`; some queries may look at nothing."""
    seen = rng.random((BATCH, LENGTH, LENGTH)) < 0.6
    seen[1, 2:5] = False
    return seen


def four_axes(rng: np.random.Generator, heads: int = HEADS) -> np.ndarray:
    seen = rng.random((BATCH, heads, LENGTH, LENGTH)) < 0.6
    seen[2, 0, 3] = False
    return seen


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
def test_masks_of_two_axes(pair: Pairs, changes: dict[str, Any], dtype: str) -> None:
    theirs, ours = pair(**changes)
    seen = two_axes(np.random.default_rng(1))
    arrays = ids_and_types()
    expected = torch_outputs(theirs, {**arrays, "attention_mask": seen.astype(np.int64)})
    assert_same(our_outputs(ours, {**arrays, "attention_mask": seen.astype(dtype)}), expected)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
def test_masks_of_three_axes(pair: Pairs, changes: dict[str, Any], dtype: str) -> None:
    """As PyTorch's mask of four axes: it takes the place of a decoder's rule that nobody looks ahead."""
    theirs, ours = pair(**changes)
    seen = three_axes(np.random.default_rng(2))
    arrays = ids_and_types()
    expected = torch_outputs(theirs, {**arrays, "attention_mask": added(seen[:, None])})
    assert_same(our_outputs(ours, {**arrays, "attention_mask": seen.astype(dtype)}), expected)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64"])
@pytest.mark.parametrize("heads", [1, HEADS])
@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
def test_masks_of_four_axes(pair: Pairs, changes: dict[str, Any], heads: int, dtype: str) -> None:
    theirs, ours = pair(**changes)
    seen = four_axes(np.random.default_rng(3), heads)
    arrays = ids_and_types()
    expected = torch_outputs(theirs, {**arrays, "attention_mask": added(seen)})
    assert_same(our_outputs(ours, {**arrays, "attention_mask": seen.astype(dtype)}), expected)


@pytest.mark.parametrize("heads", [1, HEADS])
@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
def test_masks_of_four_axes_that_are_added(pair: Pairs, changes: dict[str, Any], heads: int) -> None:
    """Floating-point numbers of any size, as PyTorch takes them."""
    theirs, ours = pair(**changes)
    rng = np.random.default_rng(4)
    mask = np.where(four_axes(rng, heads), rng.standard_normal((BATCH, heads, LENGTH, LENGTH)), LOWEST)
    arrays = {**ids_and_types(), "attention_mask": mask}
    assert_same(our_outputs(ours, arrays), torch_outputs(theirs, arrays))


def test_one_query_row_stands_for_all(pair: Pairs) -> None:
    _, ours = pair()
    seen = two_axes(np.random.default_rng(5))
    arrays = ids_and_types()
    expected = our_outputs(ours, {**arrays, "attention_mask": seen})
    for mask in (seen[:, None], seen[:, None, None]):
        assert_same(our_outputs(ours, {**arrays, "attention_mask": mask}), expected, 0)


def test_a_wholly_masked_sequence_looks_everywhere_alike(pair: Pairs) -> None:
    """PyTorch's convention: every score is the most negative number, so no probability is larger than another."""
    mask = np.ones((BATCH, LENGTH), np.int64)
    mask[1] = 0
    attentions = pair()[1](**ids_and_types(), attention_mask=mask, output_attentions=True).attentions
    assert np.allclose(attentions[1][1], 1 / LENGTH, rtol=1e-12)
    assert not np.allclose(attentions[1][0], 1 / LENGTH, rtol=0.1)


@PROPERTY
@given(st.data())
def test_masked_positions_cannot_be_seen(pair: Pairs, data: st.DataObject) -> None:
    """Whatever stands there, the others do not change."""
    ours = pair()[1]
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    mask = rng.random((BATCH, LENGTH)) < 0.5
    mask[:, rng.integers(0, LENGTH)] = True
    arrays = ids_and_types(seed)
    others = {**arrays, "input_ids": np.where(mask, arrays["input_ids"], rng.integers(0, 101, mask.shape))}
    found, expected = (np.asarray(ours(**each, attention_mask=mask)[0]) for each in (others, arrays))
    assert np.array_equal(found[mask], expected[mask])


def test_a_decoder_does_not_look_ahead(pair: Pairs) -> None:
    ours = pair(**DECODER)[1]
    arrays = ids_and_types()
    expected = ours(**arrays)[0]
    for place in range(1, LENGTH):
        ids = arrays["input_ids"].copy()
        ids[:, place] = (ids[:, place] + 1) % 101
        found = ours(**{**arrays, "input_ids": ids})[0]
        assert np.array_equal(found[:, :place], expected[:, :place])
        assert not np.allclose(found[:, place], expected[:, place])


@PROPERTY
@given(lengths=st.lists(st.integers(1, LENGTH), min_size=BATCH, max_size=BATCH), decoder=st.booleans())
def test_left_padding(pair: Pairs, lengths: list[int], decoder: bool) -> None:
    """No NaN anywhere, PyTorch's own numbers, and at the words themselves those of the unpadded sequence."""
    theirs, ours = pair(**DECODER) if decoder else pair()
    ids = ids_and_types()["input_ids"]
    mask = (np.arange(LENGTH) >= LENGTH - np.array(lengths)[:, None]).astype(np.int64)
    arrays = {
        "input_ids": ids * mask, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(-1) - 1, 0),
    }  # fmt: skip
    found = our_outputs(ours, arrays)
    assert all(np.isfinite(part).all() for part in found)
    assert_same(found, torch_outputs(theirs, arrays))
    for row, length in enumerate(lengths):
        alone = our_outputs(ours, {"input_ids": ids[row : row + 1, LENGTH - length :]})
        assert relative_error(found[LAYERS][row, LENGTH - length :], alone[LAYERS][0]) <= TOLERANCE


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
@pytest.mark.parametrize("axes", [2, 3, 4])
def test_masks_over_the_encoder(pair: Pairs, axes: int, dtype: str) -> None:
    theirs, ours = pair(**CROSS)
    rng = np.random.default_rng(axes)
    seen = rng.random((BATCH, *[LENGTH] * (axes > 2), ENCODER_LENGTH)) < 0.6
    seen[1] = False
    four = seen[:, None] if axes > 2 else seen[:, None, None]
    arrays = {**ids_and_types(), "encoder_hidden_states": states()}
    expected = torch_outputs(theirs, {**arrays, "encoder_attention_mask": added(four)})
    mask = four if axes == 4 else seen
    given_ = added(mask) if axes == 4 and dtype == "float32" else mask.astype(dtype)
    assert_same(our_outputs(ours, {**arrays, "encoder_attention_mask": given_}), expected)


def test_one_encoder_sequence_for_the_whole_batch(pair: Pairs) -> None:
    theirs, ours = pair(**CROSS)
    arrays = {**ids_and_types(), "encoder_hidden_states": states(batch=1)}
    expected = torch_outputs(theirs, {**arrays, "encoder_hidden_states": np.repeat(states(batch=1), BATCH, 0)})
    assert_same(our_outputs(ours, arrays), expected)


@pytest.mark.parametrize(("head", "changes"), [("BertForPreTraining", {}), ("BertLMHeadModel", CROSS)])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float32"])
def test_half_precision_of_wholly_masked_rows_is_finite(head: str, changes: dict[str, Any], policy: str) -> None:
    """Outputs and gradients, with an additive mask as well."""
    model = tf_class(head)(config(head, **changes), dtype=policy)
    mask = np.ones((BATCH, LENGTH), np.int32)
    mask[0], mask[1, :4] = 0, 0
    arrays: dict[str, Any] = {**ids_and_types(), "attention_mask": mask}
    if changes:
        arrays["encoder_hidden_states"] = states().astype(np.float32)
        arrays["encoder_attention_mask"] = np.zeros((BATCH, ENCODER_LENGTH), np.int32)
    lowest = np.finfo(np.float32).min
    for each in (mask, np.where(mask[:, None, None] > 0, 0, lowest).astype(np.float32)):
        with tf.GradientTape() as tape:
            out = model(**{**arrays, "attention_mask": each}, **EVERYTHING)
            total = tf.add_n([tf.reduce_sum(tf.cast(part, tf.float32) ** 2) for part in tf.nest.flatten(dict(out))])
        gradients = tape.gradient(total, model.trainable_variables)
        parts = [*tf.nest.flatten(dict(out)), *(tf.convert_to_tensor(each) for each in gradients if each is not None)]
        assert len(parts) > 40
        assert all(np.isfinite(tf.cast(part, tf.float32)).all() for part in parts)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_near_full_precision(policy: str) -> None:
    full = bertconv.TFBertModel(config(initializer_range=0.2))
    half = bertconv.TFBertModel(config(initializer_range=0.2), dtype=policy)
    half.set_weights(full.get_weights())
    arrays = {**ids_and_types(), "attention_mask": two_axes(np.random.default_rng(6))}
    found, expected = (np.asarray(model(**arrays)[0], np.float32) for model in (half, full))
    assert 0 < relative_error(found, expected) < (0.01 if policy == "mixed_float16" else 0.08)


WRONG = {
    "one axis": {"attention_mask": np.ones(LENGTH)},
    "five axes": {"attention_mask": np.ones((1, 1, 1, 1, LENGTH))},
    "too few keys": {"attention_mask": np.ones((BATCH, LENGTH - 1))},
    "one key": {"attention_mask": np.ones((BATCH, 1))},
    "too many keys": {"attention_mask": np.ones((BATCH, LENGTH, LENGTH + 1))},
    "too few encoder keys": {
        "encoder_hidden_states": states(), "encoder_attention_mask": np.ones((BATCH, ENCODER_LENGTH - 1)),
    },
    "wrong encoder size": {"encoder_hidden_states": np.ones((BATCH, 2, 2 * HIDDEN))},
    "encoder of two axes": {"encoder_hidden_states": np.ones((BATCH, HIDDEN))},
    "cache of one layer": {"past_key_values": ((np.ones((BATCH, HEADS, 2, HEAD_SIZE)),) * 2,)},
    "heads": {"head_mask": np.ones(HEADS + 1)},
    "one head": {"head_mask": np.ones(1)},
    "layers": {"head_mask": np.ones((LAYERS + 1, HEADS))},
    "head_mask of three axes": {"head_mask": np.ones((LAYERS, 1, HEADS))},
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(pair: Pairs, case: str) -> None:
    with pytest.raises(RequestError, match=list(WRONG[case])[-1]):
        pair(**CROSS)[1](**ids_and_types(), **WRONG[case])


def test_encoders_of_another_batch_are_refused(pair: Pairs) -> None:
    """The numbers of 2 encoder sequences are as many as those of 3 shorter ones."""
    with pytest.raises(tf.errors.InvalidArgumentError):
        pair(**CROSS)[1](**ids_and_types(), encoder_hidden_states=states(batch=2))


@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
def test_encoder_states_need_cross_attention(head: str) -> None:
    encoder = states().astype(np.float32)
    decoder = tf_class(head)(config(head, is_decoder=True))
    with pytest.raises(RequestError, match="encoder_hidden_states were given, and the model has no cross-attention"):
        decoder(**ids_and_types(), encoder_hidden_states=encoder)
    with pytest.raises(RequestError, match="adds cross-attention to a model that is no decoder"):
        bertconv.TFBertModel(config(add_cross_attention=True))


def test_encoder_states_need_a_decoder() -> None:
    for model in (bertconv.TFBertModel(config()), bertconv.TFBertMainLayer(config())):
        with pytest.raises(RequestError, match="and the config says that this is no decoder"):
            model(**ids_and_types(), encoder_hidden_states=states().astype(np.float32))


# Head masks


def without_heads(model: Any, mask: np.ndarray) -> Any:
    """The same model of PyTorch with the values of each head scaled, and so what the head contributes."""
    scaled = torch_model(**{key: getattr(model.config, key) for key in CROSS})
    scaled.load_state_dict(model.state_dict())
    for layer, row in zip(scaled.encoder.layer, mask, strict=True):
        factors = torch.tensor(np.repeat(row, HEAD_SIZE))
        for block in (layer.attention, *([layer.crossattention] if model.config.add_cross_attention else [])):
            block.self.value.weight.data *= factors[:, None]
            block.self.value.bias.data *= factors
    return scaled


@PROPERTY
@given(data=st.data(), crossed=st.booleans())
def test_head_mask_scales_what_a_head_contributes(pair: Pairs, data: st.DataObject, crossed: bool) -> None:
    theirs, ours = pair(**CROSS) if crossed else pair()
    numbers = st.sampled_from([0.0, 1.0, 0.25, -2.0])
    mask = np.array(data.draw(st.lists(st.lists(numbers, min_size=5, max_size=5), min_size=2, max_size=2)))
    arrays = {**ids_and_types(), **({"encoder_hidden_states": states()} if crossed else {})}
    expected = torch_outputs(without_heads(theirs, mask), arrays)
    # Probabilities come out as they are used, masked, as in PyTorch 4.
    for number in range(LAYERS):
        for start in (1 + LAYERS, 1 + 2 * LAYERS)[: 1 + crossed]:
            expected[start + number] *= mask[number][:, None, None]
    assert_same(our_outputs(ours, {**arrays, "head_mask": mask}), expected)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_one_head_mask_for_every_layer(pair: Pairs, dtype: str) -> None:
    theirs, ours = pair()
    mask = np.array([1, 0, 1, 1, 0])
    expected = our_outputs(ours, {**ids_and_types(), "head_mask": np.stack([mask, mask]).astype(np.float64)})
    assert_same(our_outputs(ours, {**ids_and_types(), "head_mask": mask.astype(dtype)}), expected, 0)
    assert_same(expected[: 1 + LAYERS], torch_outputs(without_heads(theirs, [mask] * 2), ids_and_types())[:3])


@pytest.mark.parametrize("head", MODELS)
def test_every_model_passes_the_head_mask_on(pair: Pairs, head: str) -> None:
    model, arrays = pair(head)[1], inputs(head)
    mask = np.array([0.0, 1, 1, 1, 0.5])
    plain, masked = (model(**arrays, **each, **EVERYTHING) for each in ({}, {"head_mask": mask}))
    assert np.allclose(masked.attentions[0], plain.attentions[0] * mask[:, None, None], rtol=1e-12)
    assert relative_error(masked.hidden_states[LAYERS], plain.hidden_states[LAYERS]) > 0.01


# Relative positions


def expected_of(kind: str, arrays: Mapping[str, np.ndarray], *, causal: bool = False) -> list[np.ndarray]:
    return [part.numpy() for part in relative_outputs(relative_state(), kind, arrays, causal=causal)]


@pytest.fixture(scope="module")
def relative(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Our model with the weights of `relative_state`, loaded from PyTorch's format."""

    @cache
    def make(kind: str, **changes: Any) -> Any:
        folder = relative_folder(tmp_path_factory.mktemp(kind), kind, **changes)
        return bertconv.TFBertModel.from_pretrained(folder, dtype="float64")

    return make


@PROPERTY
@given(data=st.data(), kind=st.sampled_from(KINDS), causal=st.booleans(), length=st.integers(1, POSITIONS))
def test_relative_positions(
    relative: Callable[..., Any], data: st.DataObject, kind: str, causal: bool, length: int
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = (2, length)
    mask = (rng.random(shape) < 0.7).astype(np.int64)
    mask[:, 0] = 1
    arrays = {
        "input_ids": rng.integers(0, 101, shape), "token_type_ids": rng.integers(0, 3, shape), "attention_mask": mask,
    }  # fmt: skip
    model = relative(kind, is_decoder=causal)
    assert_same(our_outputs(model, arrays), expected_of(kind, arrays, causal=causal))


@pytest.mark.parametrize("kind", KINDS)
def test_relative_positions_need_no_absolute_ones(relative: Callable[..., Any], kind: str) -> None:
    model, arrays = relative(kind), ids_and_types()
    expected = our_outputs(model, arrays)
    backwards = np.arange(LENGTH)[::-1][None].copy()
    assert_same(our_outputs(model, {**arrays, "position_ids": backwards}), expected, 0)
    shuffled = {name: value[:, ::-1] for name, value in arrays.items()}
    assert relative_error(our_outputs(model, shuffled)[LAYERS][:, ::-1], expected[LAYERS]) > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_relative_positions_in_a_graph(relative: Callable[..., Any], kind: str, jit: bool) -> None:
    model, arrays = relative(kind), inputs()
    signature = [{name: tf.TensorSpec((None, None), tf.int64) for name in arrays}]
    graph = tf.function(lambda given_: model(**given_)[0], input_signature=None if jit else signature, jit_compile=jit)
    found = graph({name: tf.constant(value) for name, value in arrays.items()})
    expected = expected_of(kind, arrays)[LAYERS]
    assert relative_error(found, expected) <= TOLERANCE


# The cache

CACHED = {
    "decoder": {},
    "cross-attention": {"add_cross_attention": True},
    "relative_key": {"position_embedding_type": "relative_key"},
    "relative_key_query": {"position_embedding_type": "relative_key_query"},
    "relative and cross-attention": {"position_embedding_type": "relative_key_query", "add_cross_attention": True},
}


@cache
def decoder(case: str, head: str = "BertLMHeadModel") -> Any:
    model = tf_class(head)(config(head, is_decoder=True, initializer_range=0.7, **CACHED[case]), dtype="float64")
    rng = np.random.default_rng(7)
    model.set_weights([value + rng.standard_normal(value.shape) / 4 for value in model.get_weights()])
    return model


def encoder_inputs(case: str) -> dict[str, np.ndarray]:
    if "cross" not in case:
        return {}
    return {"encoder_hidden_states": states(8), "encoder_attention_mask": np.array([[1] * 6, [0] * 6, [1, 0, 1] * 2])}


def in_pieces(model: Any, cuts: list[int], arrays: Mapping[str, np.ndarray], more: Mapping[str, Any]) -> list[Any]:
    """First output and cache of every piece, each behind the cache of those before."""
    past, outputs = None, []
    for begin, end in pairwise(cuts):
        part = {name: value[:, : end if name == "attention_mask" else None] for name, value in arrays.items()}
        part = {name: value if name == "attention_mask" else value[:, begin:end] for name, value in part.items()}
        out = model(**part, **more, past_key_values=past, use_cache=True)
        past = out[1] if isinstance(out, tuple) else out.past_key_values
        outputs.append(out[0])
    return [tf.concat(outputs, 1), past]


@cache
def at_once(case: str, padding: str | None) -> tuple[dict[str, np.ndarray], Any]:
    """Inputs of a whole sequence, and what a decoder makes of them."""
    arrays = {**ids_and_types(), "attention_mask": np.ones((BATCH, LENGTH), np.int64)}
    if padding:
        short = np.array([LENGTH, 3, 6])[:, None]
        places = np.arange(LENGTH)
        seen = {"left": places >= LENGTH - short, "right": places < short, "holes": places % 4 != 1}[padding]
        arrays["attention_mask"] = np.broadcast_to(seen, (BATCH, LENGTH)).astype(np.int64)
        arrays["position_ids"] = np.maximum(arrays["attention_mask"].cumsum(-1) - 1, 0)
    return arrays, decoder(case)(**arrays, **encoder_inputs(case), return_dict=True, use_cache=True)


def all_pieces() -> Iterator[tuple[str, str | None, list[int], bool]]:
    """Every kind of cache with every padding: in 2, 3 or 5 pieces, cut anywhere, and each kind once word by word."""
    rng = np.random.default_rng(5)
    for one, case in enumerate(sorted(CACHED)):
        for two, padding in enumerate([None, "left", "right", "holes"]):
            count = LENGTH - 1 if one % 4 == two else (1, 2, 4)[(one + two) % 3]
            cuts = rng.choice(np.arange(1, LENGTH), count, replace=False)
            yield case, padding, [0, *sorted(cuts.tolist()), LENGTH], (one + two) % 2 == 1


@pytest.mark.parametrize(("case", "padding", "cuts", "as_tuple"), list(all_pieces()))
def test_a_sequence_in_pieces_is_the_whole(case: str, padding: str | None, cuts: list[int], as_tuple: bool) -> None:
    """Also at the keys and values of every word; what stands at padding is seen by nobody."""
    arrays, whole = at_once(case, padding)
    found, past = in_pieces(decoder(case), cuts, arrays, {**encoder_inputs(case), "return_dict": not as_tuple})
    words = arrays["attention_mask"] > 0
    assert relative_error(found[words], whole.logits[words]) <= TOLERANCE
    for after, before in zip(past, whole.past_key_values, strict=True):
        own = [np.moveaxis(part, 1, 2)[words] for part in (*after[:2], *before[:2])]
        assert_same([*own[:2], *after[2:]], [*own[2:], *before[2:]])
    assert len(past) == LAYERS
    assert {len(layer) for layer in past} == {4 if "cross" in case else 2}


def test_where_a_cache_stands_in_a_tuple() -> None:
    """PyTorch's order, which transformers' TensorFlow classes lost: the cache follows what was computed."""
    body, head = decoder("cross-attention", "BertModel"), decoder("cross-attention")
    given_ = {**ids_and_types(), **encoder_inputs("cross-attention"), **EVERYTHING, "return_dict": False}
    names = {
        body: [(BATCH, LENGTH, HIDDEN), (BATCH, HIDDEN)],
        head: [(BATCH, LENGTH, SIZES["vocab_size"])],
    }
    for model, shapes in names.items():
        out = model(**given_)
        assert [tuple(part.shape) for part in out[: len(shapes)]] == shapes
        cached, hidden, own, cross = out[len(shapes) :]
        assert [len(each) for each in cached] == [4] * LAYERS
        assert cached[0][0].shape == (BATCH, HEADS, LENGTH, HEAD_SIZE)
        assert cached[0][2].shape == (BATCH, HEADS, ENCODER_LENGTH, HEAD_SIZE)
        assert len(hidden) == 1 + LAYERS
        assert own[0].shape == (BATCH, HEADS, LENGTH, LENGTH)
        assert cross[0].shape == (BATCH, HEADS, LENGTH, ENCODER_LENGTH)


@pytest.mark.parametrize("use_cache", [False, None])
def test_no_cache_unless_it_is_wanted(use_cache: bool | None) -> None:
    assert bertconv.TFBertModel(config())(**ids_and_types(), use_cache=True).past_key_values is None
    settings_ = config("BertLMHeadModel", use_cache=use_cache is None)
    model = bertconv.TFBertLMHeadModel(settings_)
    assert (model(**ids_and_types()).past_key_values is not None) == (use_cache is None)
    assert model(**ids_and_types(), use_cache=False).past_key_values is None
    assert model(**ids_and_types(), use_cache=True).past_key_values is not None


def test_cross_attention_is_computed_once() -> None:
    """Behind a cache the encoder's states are those of the first call, whatever is given then."""
    model, arrays = decoder("cross-attention"), ids_and_types()
    first = {name: value[:, :4] for name, value in arrays.items()}
    rest = {name: value[:, 4:] for name, value in arrays.items()}
    past = model(**first, encoder_hidden_states=states(1)).past_key_values
    found = model(**rest, encoder_hidden_states=states(2), past_key_values=past)
    assert relative_error(found.logits, model(**arrays, encoder_hidden_states=states(1)).logits[:, 4:]) <= TOLERANCE
    assert all(after[2] is before[2] or np.array_equal(after[2], before[2]) for after, before in zip(
        found.past_key_values, past, strict=True))  # fmt: skip


def test_a_cache_of_self_attention_alone_meets_an_encoder() -> None:
    """Prompts may be read without the encoder; then its states are taken in where they come."""
    model, arrays = decoder("cross-attention"), ids_and_types()
    past = model(**{name: value[:, :4] for name, value in arrays.items()}).past_key_values
    assert {len(layer) for layer in past} == {2}
    rest = {name: value[:, 4:] for name, value in arrays.items()}
    out = model(**rest, encoder_hidden_states=states(), past_key_values=past, output_attentions=True)
    assert {len(layer) for layer in out.past_key_values} == {4}
    assert out.cross_attentions[0].shape == (BATCH, HEADS, LENGTH - 4, ENCODER_LENGTH)


@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
def test_keys_and_values_of_ones_own(pair: Pairs, changes: dict[str, Any]) -> None:
    """Prefix tuning: what stands before the sequence was learned and comes from no words."""
    theirs, ours = pair(**changes)
    rng = np.random.default_rng(9)
    prefix = [tuple(rng.standard_normal((BATCH, HEADS, 4, HEAD_SIZE)) for _ in range(2)) for _ in range(LAYERS)]
    cached = transformers.DynamicCache()
    for number, layer in enumerate(prefix):
        cached.update(*map(torch.tensor, layer), number)
    arrays = inputs()
    arrays["attention_mask"] = np.concatenate([np.ones((BATCH, 4), np.int64), arrays["attention_mask"]], 1)
    with torch.no_grad():
        given_ = {name: torch.tensor(value) for name, value in arrays.items()}
        expected = theirs(**given_, **{CACHE: cached}).last_hidden_state
    assert relative_error(ours(**arrays, past_key_values=prefix)[0], expected) <= TOLERANCE


def test_behind_a_cache_a_sequence_may_still_be_too_long() -> None:
    model = decoder("decoder")
    ids = np.ones((1, POSITIONS - 1), np.int32)
    past = model(ids).past_key_values
    assert model(ids[:, :1], past_key_values=past).logits.shape == (1, 1, SIZES["vocab_size"])
    with pytest.raises(RequestError, match=f"{POSITIONS + 1} positions"):
        model(ids[:, :2], past_key_values=past)


@pytest.mark.parametrize("case", sorted(CACHED))
def test_the_cache_in_a_graph_of_unknown_sizes(case: str) -> None:
    model, arrays = decoder(case), ids_and_types()
    more = encoder_inputs(case)
    count = 4 if "cross" in case else 2
    cached = tuple((tf.TensorSpec((None, HEADS, None, HEAD_SIZE), tf.float64),) * count for _ in range(LAYERS))

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int64), cached])
    def step(ids: tf.Tensor, past: Any) -> Any:
        return model(ids, past_key_values=past, **more).logits

    ids = arrays["input_ids"]
    expected = model(ids, **more).logits
    for cut in (1, 7):
        found = step(tf.constant(ids[:, cut:]), model(ids[:, :cut], **more).past_key_values)
        assert relative_error(found, expected[:, cut:]) <= TOLERANCE
