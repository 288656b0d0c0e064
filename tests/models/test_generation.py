"""generate: the words are those of full logits and of PyTorch, whatever the padding, the cache and the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SIZES, config, tf_model, torch_model
from transformers import BatchEncoding

import bertconv
from bertconv.errors import RequestError
from bertconv.models.generation import Sampling

HEAD = "BertLMHeadModel"
WORDS, LONGEST, HIDDEN = SIZES["vocab_size"], SIZES["max_position_embeddings"], SIZES["hidden_size"]
NEW = 7


def torch_decoder(**changes: Any) -> Any:
    """Plain layer normalisation and no output bias: with random ones it would say one word over and over."""
    made = torch_model(HEAD, seed=1, **changes)
    for name, parameter in made.named_parameters():
        if name.endswith(("LayerNorm.weight", "LayerNorm.bias", "predictions.bias")):
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    return made


@pytest.fixture(scope="module")
def theirs() -> Any:
    return torch_decoder()


@pytest.fixture(scope="module")
def model(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tf_model(theirs, tmp_path_factory.mktemp("decoder"))


def prompts(count: int = 3, length: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, WORDS, (count, length))


def padded(rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Prompts of different lengths as one batch, padded on the left."""
    length = max(map(len, rows))
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        ids[number, length - len(row) :], mask[number, length - len(row) :] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def by_full_logits(model: Any, ids: np.ndarray, count: int = NEW, **others: Any) -> np.ndarray:
    """Without a cache: the likeliest word behind everything so far, again and again."""
    for _ in range(count):
        word = model(ids, use_cache=False, **others).logits.numpy()[:, -1].argmax(-1)
        ids = np.concatenate([ids, word[:, None]], 1)
    return ids


def torchs(theirs: Any, ids: np.ndarray, **how: Any) -> np.ndarray:
    arrays = {name: torch.tensor(value) for name, value in how.items() if isinstance(value, np.ndarray)}
    others = {"max_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None, **how, **arrays}
    mask = others.pop("attention_mask", torch.ones(ids.shape, dtype=torch.int64))
    if "encoder_hidden_states" in how:
        others["use_cache"] = False  # transformers 5 has no cache for a decoder without its encoder
    return theirs.generate(torch.tensor(ids), attention_mask=mask, do_sample=False, **others).numpy()


# Greedy


@settings(max_examples=12, deadline=None)
@given(length=st.integers(1, 9), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_greedy_is_the_likeliest_word_of_full_logits(model: Any, length: int, count: int, seed: int) -> None:
    ids = prompts(count, length, seed)
    found = model.generate(ids, max_new_tokens=3)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, by_full_logits(model, ids, 3))


def test_greedy_is_pytorchs(model: Any, theirs: Any) -> None:
    ids = prompts()
    found = model.generate(ids, max_new_tokens=NEW)
    np.testing.assert_array_equal(found, torchs(theirs, ids))
    assert len(np.unique(found[:, 5:])) > 5


def test_as_far_as_the_model_goes(model: Any, theirs: Any) -> None:
    ids = prompts(2, 1)
    found = model.generate(ids, max_length=LONGEST)
    assert found.shape == (2, LONGEST)
    np.testing.assert_array_equal(found, torchs(theirs, ids, max_new_tokens=LONGEST - 1))


@pytest.mark.parametrize("kind", ["list", "int32 tensor", "BatchEncoding", "unpacked", "dict of lists"])
def test_prompts_of_every_kind(kind: str, model: Any) -> None:
    batch = padded([prompts(1, 5)[0], prompts(1, 3, 1)[0]])
    wanted = model.generate(**batch, max_new_tokens=3)
    lists = {name: value.tolist() for name, value in batch.items()}
    found = {
        "list": lambda: model.generate(lists["input_ids"], lists["attention_mask"], max_new_tokens=3),
        "int32 tensor": lambda: model.generate(
            tf.constant(batch["input_ids"], tf.int32), tf.constant(batch["attention_mask"], tf.int32), max_new_tokens=3
        ),
        "BatchEncoding": lambda: model.generate(BatchEncoding(batch), max_new_tokens=3),
        "unpacked": lambda: model.generate(**BatchEncoding(batch), max_new_tokens=3),
        "dict of lists": lambda: model.generate(lists, max_new_tokens=3),
    }[kind]()
    np.testing.assert_array_equal(found, wanted)


def test_token_types(model: Any, theirs: Any) -> None:
    """New words are of the type of the prompt's last one, as in PyTorch."""
    ids, types = prompts(), np.random.default_rng(4).integers(0, 3, (3, 5))
    types[:, -1] = [2, 1, 0]
    found = model.generate(BatchEncoding({"input_ids": ids, "token_type_ids": types}), max_new_tokens=NEW)
    np.testing.assert_array_equal(found, torchs(theirs, ids, token_type_ids=types))
    assert (found.numpy() != model.generate(ids, max_new_tokens=NEW).numpy()).any(1).all()


# Padding and ends


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_padding_changes_nothing(model: Any, lengths: list[int], seed: int) -> None:
    rows = [prompts(1, length, seed + number)[0] for number, length in enumerate(lengths)]
    found = model.generate(**padded(rows), max_new_tokens=4).numpy()
    for row, each in zip(rows, found, strict=True):
        alone = model.generate(row[np.newaxis], max_new_tokens=4).numpy()[0]
        np.testing.assert_array_equal(each[-len(alone) :], alone)


def test_padded_is_pytorchs(model: Any, theirs: Any) -> None:
    batch = padded([prompts(1, length, length)[0] for length in (6, 2, 4)])
    found = model.generate(**batch, max_new_tokens=NEW)
    np.testing.assert_array_equal(found, torchs(theirs, batch["input_ids"], attention_mask=batch["attention_mask"]))


def ends(model: Any, ids: np.ndarray, place: int) -> int:
    """A word that greedy decoding comes to in one row and not in every other."""
    free = model.generate(ids, max_new_tokens=NEW).numpy()[:, ids.shape[1] :]
    return int(free[0, place])


@pytest.mark.parametrize("place", [0, 2])
def test_end_and_what_follows_it(place: int, model: Any, theirs: Any) -> None:
    ids = prompts()
    end = ends(model, ids, place)
    found = model.generate(ids, max_new_tokens=NEW, eos_token_id=end, pad_token_id=9).numpy()
    np.testing.assert_array_equal(found, torchs(theirs, ids, eos_token_id=end, pad_token_id=9))
    first = found[0, 5:].tolist()
    where = first.index(end)
    assert first[where + 1 :] == [9] * (len(first) - where - 1)


def test_everything_stops_when_all_have_ended(model: Any) -> None:
    ids = prompts(1)
    found = model.generate(ids, max_new_tokens=NEW, eos_token_id=ends(model, ids, 0))
    assert found.shape == (1, 6)


def test_several_ends(model: Any, theirs: Any) -> None:
    ids = prompts(2)
    marks = [ends(model, ids, 1), ends(model, ids[::-1], 2)]
    found = model.generate(ids, max_new_tokens=NEW, eos_token_id=marks)
    np.testing.assert_array_equal(found, torchs(theirs, ids, eos_token_id=marks))


def test_ends_of_the_config(model: Any) -> None:
    ids = prompts()
    end = ends(model, ids, 1)
    other = bertconv.TFBertLMHeadModel(config(HEAD, eos_token_id=end, pad_token_id=3), dtype="float64")
    other.set_weights(model.get_weights())
    wanted = model.generate(ids, max_new_tokens=NEW, eos_token_id=end, pad_token_id=3)
    np.testing.assert_array_equal(other.generate(ids, max_new_tokens=NEW), wanted)


# Drawing


def drawn(model: Any, ids: np.ndarray, **how: Any) -> np.ndarray:
    return model.generate(ids, **{"max_new_tokens": NEW, "do_sample": True, "top_k": 0, **how}).numpy()


def test_seeds(model: Any) -> None:
    ids = prompts()
    first = drawn(model, ids, seed=(1, 2), temperature=5.0)
    np.testing.assert_array_equal(drawn(model, ids, seed=(1, 2), temperature=5.0), first)
    np.testing.assert_array_equal(drawn(model, ids, seed=[1, 2], temperature=5.0), first)
    assert (drawn(model, ids, seed=(1, 3), temperature=5.0) != first).any()
    assert (drawn(model, ids, temperature=5.0) != drawn(model, ids, temperature=5.0)).any()
    same = np.repeat(ids[:1], 3, 0)
    assert len(np.unique(drawn(model, same, seed=(1, 2), temperature=5.0), axis=0)) > 1


def test_every_step_draws_anew() -> None:
    """Where every word is as likely as any other, a row is no word over and over, and no two rows are the same."""
    model = bertconv.TFBertLMHeadModel(config(HEAD, num_hidden_layers=1))
    model.mlm.predictions.transform.LayerNorm.gamma.assign(np.zeros(HIDDEN))
    found = drawn(model, prompts(), seed=(1, 2), max_new_tokens=20)[:, 5:]
    assert all(len(set(row)) > 10 for row in found.tolist())
    assert len(set(map(tuple, found.T.tolist()))) == 20
    assert len(set(map(tuple, found.tolist()))) == 3


@pytest.mark.parametrize("how", [{"top_k": 1}, {"temperature": 1e-8}, {"top_p": 1e-9}, {"top_k": 1, "top_p": 0.5}])
def test_drawing_of_one_word_is_greedy(how: dict[str, Any], model: Any) -> None:
    ids = prompts()
    np.testing.assert_array_equal(drawn(model, ids, **how), model.generate(ids, max_new_tokens=NEW))


SCORES = st.lists(st.integers(-90, 90), min_size=2, max_size=9, unique=True).map(
    lambda row: np.array([row], np.float32) / 16
)


@settings(max_examples=60, deadline=None)
@given(scores=SCORES, count=st.integers(0, 12))
def test_top_k_keeps_the_likeliest(scores: np.ndarray, count: int) -> None:
    kept = Sampling(True, 1.0, count, 1.0).kept(tf.constant(scores)).numpy()[0]
    order = np.argsort(-scores[0])
    wanted = order[: count or None]
    assert set(np.flatnonzero(kept > tf.float32.min)) == set(wanted)
    np.testing.assert_array_equal(kept[wanted], scores[0, wanted])


@settings(max_examples=60, deadline=None)
@given(scores=SCORES, mass=st.floats(0.01, 0.99))
def test_top_p_keeps_the_least_that_reach_it(scores: np.ndarray, mass: float) -> None:
    kept = Sampling(True, 1.0, 0, mass).kept(tf.constant(scores)).numpy()[0] > tf.float32.min
    chances = np.exp(scores[0].astype(np.float64))
    chances /= chances.sum()
    assert kept[chances.argmax()]
    assert chances[kept].sum() >= mass - 1e-5
    assert chances[kept].sum() - chances[kept].min() < mass + 1e-5
    assert not (~kept).any() or chances[kept].min() >= chances[~kept].max()


def test_frequencies_are_the_probabilities() -> None:
    """Ten thousand draws at a temperature, each word within five standard deviations."""
    scores, temperature = np.array([0.0, 1.0, 2.5, -1.0]), 2.0
    chances = np.exp(scores / temperature)
    chances /= chances.sum()
    sampling, size = Sampling(True, temperature, 0, 1.0), 10_000
    logits = tf.repeat(tf.constant([scores]), size, 0)
    found = sampling.choose(logits, tf.constant([3, 4])).numpy()
    shares = np.bincount(found, minlength=4) / size
    assert (np.abs(shares - chances) < 5 * np.sqrt(chances * (1 - chances) / size)).all()


# Cross-attention, other decoders


def test_cross_attention_is_pytorchs(tmp_path: Path) -> None:
    theirs = torch_decoder(add_cross_attention=True)
    model = tf_model(theirs, tmp_path)
    rng = np.random.default_rng(1)
    ids, states = prompts(), rng.normal(size=(3, 4, HIDDEN))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    found = model.generate(ids, max_new_tokens=NEW, encoder_hidden_states=states, encoder_attention_mask=mask)
    others = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    np.testing.assert_array_equal(found, by_full_logits(model, ids, **others))
    np.testing.assert_array_equal(found, torchs(theirs, ids, **others))
    for changed in ({"encoder_hidden_states": states}, {"encoder_hidden_states": -states}):
        assert (model.generate(ids, max_new_tokens=NEW, **changed).numpy()[1:] != found.numpy()[1:]).any()


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions(kind: str) -> None:
    settings_ = config(HEAD, position_embedding_type=kind, initializer_range=0.5)
    model = bertconv.TFBertLMHeadModel(settings_, dtype="float64")
    ids = prompts()
    found = model.generate(ids, max_new_tokens=NEW)
    np.testing.assert_array_equal(found, by_full_logits(model, ids))
    batch = padded([ids[0], ids[1][:2]])
    np.testing.assert_array_equal(model.generate(**batch, max_new_tokens=NEW)[0], found[0])


def test_untied_and_half_precision() -> None:
    settings_ = config(HEAD, tie_word_embeddings=False, initializer_range=0.5)
    for policy in ("float32", "mixed_bfloat16"):
        model = bertconv.TFBertLMHeadModel(settings_, dtype=policy)
        assert model.generate(prompts(), max_new_tokens=2).shape == (3, 7)


# Graphs


def test_in_a_graph(model: Any) -> None:
    batch = padded([prompts(1, length, length)[0] for length in (6, 2, 4)])
    wanted = model.generate(**batch, max_new_tokens=NEW)
    known = tf.function(lambda ids, mask: model.generate(ids, mask, max_new_tokens=NEW))
    found = known(tf.constant(batch["input_ids"]), tf.constant(batch["attention_mask"]))
    np.testing.assert_array_equal(found, wanted)
    open_ended = tf.function(
        lambda ids, mask: model.generate(ids, mask, max_new_tokens=NEW),
        input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
    )
    for each in (batch, padded([prompts(1, 3)[0]])):
        found = open_ended(*(tf.constant(value, tf.int32) for value in each.values()))
        np.testing.assert_array_equal(found, model.generate(**each, max_new_tokens=NEW))
    right = {name: tf.constant(value[:, ::-1], tf.int32) for name, value in batch.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="some prompts are padded on the right"):
        open_ended(*right.values())
    with pytest.raises(tf.errors.InvalidArgumentError, match="position_ids must lie between 0 and 36"):
        open_ended(*[tf.ones((1, LONGEST - 2), tf.int32)] * 2)


def test_is_traced_once_for_the_same_settings(model: Any) -> None:
    """Other seeds, lengths of continuation and prompts take the graph that is there."""
    model.generate(prompts(2, 4), max_new_tokens=2)
    model.generate(prompts(2, 5), max_new_tokens=2)
    for length in (4, 5):
        drawn(model, prompts(2, length), seed=(1, 1), temperature=3.0)
    before = model._decode_in_graph.experimental_get_tracing_count()
    for number in range(3):
        model.generate(prompts(2, 4 + number, number), max_new_tokens=2 + number)
        drawn(model, prompts(2, 4 + number), seed=(number, 5), temperature=3.0, max_new_tokens=3 + number)
    assert model._decode_in_graph.experimental_get_tracing_count() == before


def test_after_the_words_have_changed() -> None:
    """A graph that was traced before holds neither old weights nor the old table."""
    model = bertconv.TFBertLMHeadModel(config(HEAD, initializer_range=0.5))
    ids = prompts()
    model.generate(ids, max_new_tokens=3)
    model.predict(ids, verbose=0)
    model.set_weights([weight[::-1] if weight.ndim == 1 else -weight for weight in model.get_weights()])
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=3), by_full_logits(model, ids, 3))
    model.resize_token_embeddings(WORDS + 20)
    model.mlm.predictions.bias.assign(np.where(np.arange(WORDS + 20) == WORDS + 15, 1e3, 0))
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=2)[:, 5:], np.full((3, 2), WORDS + 15))
    assert model.predict(ids, verbose=0).logits.shape == (3, 5, WORDS + 20)


# What is refused


@pytest.mark.parametrize(
    ("how", "problem", "hint"),
    [({"max_new_tokens": 0}, "the prompts have 5 tokens and the whole may have 5", "max_new_tokens"),
     ({"max_length": 5}, "the prompts have 5 tokens and the whole may have 5", "max_new_tokens"),
     ({"max_length": LONGEST + 1}, "the whole may have 38, of at most 37", "shorten the prompts"),
     ({"max_new_tokens": 33}, "the whole may have 38, of at most 37", "shorten the prompts"),
     ({"temperature": 0.0}, "temperature is 0.0", "above 0"),
     ({"top_k": -1}, "top_k -1", "at least 0"),
     ({"top_p": 0.0}, "top_p 0.0", "at most 1"),
     ({"top_p": 1.5}, "top_p 1.5", "at most 1"),
     ({"num_beams": 3}, "has no argument 'num_beams'", "Its arguments"),
     ({"attention_mask": np.array([[1, 1, 1, 1, 0]] * 3)}, "padded on the right", "left"),
     ({"encoder_hidden_states": np.ones((3, 2, HIDDEN))}, "has no cross-attention", "add_cross_attention"),
     ({"input_ids": None}, "no prompts", "input_ids"),
     ({"input_ids": np.ones(3, int)}, "input_ids has 1 axes", "batch, sequence"),
     ({"input_ids": np.ones((2, 3))}, "float64, not integers", "int32"),
     ({"input_ids": [["some", "text"]]}, "is text", "Tokenise"),
     ({"input_ids": torch.ones(2, 3, dtype=torch.int64)}, "PyTorch tensor", 'return_tensors="np"')],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_refused(how: dict[str, Any], problem: str, hint: str, model: Any) -> None:
    with pytest.raises(RequestError, match=problem) as caught:
        model.generate(**{"input_ids": prompts(), **how})
    assert hint in caught.value.hint


def test_the_length_that_is_left_out(model: Any) -> None:
    assert model.generate(prompts()).shape == (3, 20)
    with pytest.raises(RequestError, match="have 20 tokens and the whole may have 20"):
        model.generate(prompts(1, 20))


def test_only_decoders_generate() -> None:
    with pytest.warns(UserWarning, match="without is_decoder"):
        model = bertconv.TFBertLMHeadModel(config(HEAD, is_decoder=False))
    with pytest.raises(RequestError, match="no decoder") as caught:
        model.generate(prompts())
    assert "is_decoder" in caught.value.hint
    assert model.can_generate()
    other = bertconv.TFBertForMaskedLM(config())
    assert not other.can_generate()
    assert not hasattr(other, "generate")
