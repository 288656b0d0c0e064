"""Known mistakes in the file: each is named from the values, and random differences are given no name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checkpoints as cp
import compared
import ml_dtypes
import numpy as np
import pytest
from checkpoints import Tensors
from compared import QUERY, TINY, WIDE, replaced, scratch, tiny, with_value
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.verify.parity import Cause
from bertconv.verify.weight_causes import weight_causes
from bertconv.verify.weights import compare_weights

HEAD = "BertForPreTraining"
STATE = tiny()
BOUNDED = settings(max_examples=40, deadline=None)
LAYER = "bert.encoder.layer.{}."
POSITIONS = "bert.embeddings.position_embeddings.weight"
TYPES = "bert.embeddings.token_type_embeddings.weight"
NORM = "bert.embeddings.LayerNorm."


def causes_of(a: Tensors, b: Tensors, container: str = "safetensors") -> list[Cause]:
    with scratch() as folder:
        cp.save(folder / "a", HEAD, a, **TINY)
        cp.save(folder / "b", HEAD, b, container, **TINY)
        with compared.opened(folder / "a", folder / "b", HEAD) as (here, there):
            rows = compare_weights(here, there)
            return weight_causes(rows, here.tensors, there.tensors, TINY["num_attention_heads"])


def named(a: Tensors, b: Tensors, container: str = "safetensors") -> dict[str, tuple[str, ...]]:
    return {cause.name: cause.places for cause in causes_of(a, b, container)}


def altered(name: str, change: Callable[[np.ndarray], Any], state: Tensors = STATE) -> Tensors:
    return replaced(state, {name: np.ascontiguousarray(change(state[name].copy())).astype(state[name].dtype)})


def swapped(one: str, other: str) -> Tensors:
    """The tensors whose names begin with one change places with those of the other."""
    moved = {name: other + name.removeprefix(one) for name in STATE if name.startswith(one)}
    pairs = [*moved.items(), *((there, here) for here, there in moved.items())]
    return replaced(STATE, {here: STATE[there] for here, there in pairs})


def copied(source: str, target: str) -> Tensors:
    names = [name for name in STATE if name.startswith(source)]
    return replaced(STATE, {target + name.removeprefix(source): STATE[name] for name in names})


def flipped(array: np.ndarray) -> np.ndarray:
    array.reshape(-1).view(np.uint32)[9] ^= np.uint32(1 << 22)
    return array


def interleaved(array: np.ndarray) -> np.ndarray:
    return array.reshape(3, 2, 6).swapaxes(0, 1).reshape(6, 6)


SINGLE = (
    ("not finite", WIDE, lambda one: with_value(one, 5, np.nan)),
    ("not finite", QUERY, lambda one: with_value(one, 5, -np.inf)),
    ("one bit flipped", WIDE, flipped),
    ("one bit flipped", POSITIONS, flipped),
    ("all zero", QUERY, np.zeros_like),
    ("all zero", "cls.predictions.bias", np.zeros_like),
    ("transposed kernel", QUERY, np.transpose),
    ("transposed kernel", "cls.predictions.transform.dense.weight", np.transpose),
    ("rounded to bfloat16", WIDE, lambda one: one.astype(ml_dtypes.bfloat16)),
    ("rounded to float16", WIDE, lambda one: one.astype(np.float16)),
    ("rows shifted", POSITIONS, lambda one: np.roll(one, 1, 0)),
    ("rows shifted", POSITIONS, lambda one: np.roll(one, -2, 0)),
    ("rows in another order", TYPES, lambda one: one[[2, 1, 0]]),
    ("rows in another order", cp.WORD, lambda one: one[np.argsort(one[:, 0])]),
    ("heads interleaved", QUERY, interleaved),
    ("heads interleaved", QUERY.replace("query", "value"), interleaved),
    ("scaled", QUERY, lambda one: one * np.float32(-3.7)),
    ("scaled", WIDE, lambda one: one / np.sqrt(np.float32(2))),
    ("scaled", WIDE, lambda one: one * np.float32(1 + 1e-6)),
)


def place_of(name: str) -> str:
    """The neutral id of a tensor, as the comparison has it."""
    with scratch() as folder:
        cp.save(folder / "a", HEAD, STATE, **TINY)
        with compared.opened(folder / "a", folder / "a", HEAD) as (side, _):
            return next(place for place, tensor in side.tensors.items() if tensor.stored.name == name)


@pytest.mark.parametrize("container", ["safetensors", "h5"])
@pytest.mark.parametrize(("cause", "name", "change"), SINGLE, ids=[f"{one[0]} {one[1]}" for one in SINGLE])
def test_one_tensor(cause: str, name: str, change: Callable[[np.ndarray], Any], container: str) -> None:
    (found,) = causes_of(STATE, altered(name, change), container)
    assert (found.name, found.places) == (cause, (place_of(name),))
    assert found.places[0] in found.sentence or cause.startswith("rows")


@pytest.mark.parametrize(("one", "other"), [("query", "key"), ("key", "value"), ("query", "value")])
def test_modules_swapped(one: str, other: str) -> None:
    start = LAYER.format(1) + "attention.self."
    assert named(STATE, swapped(start + one, start + other)) == {
        f"{one} and {other} swapped": tuple(
            f"layer.1.{module}.{role}" for module in (one, other) for role in ("weight", "bias")
        )
    }


def test_modules_swapped_in_every_layer() -> None:
    start = LAYER + "attention.self.{}"
    state = STATE
    for layer in range(3):
        swap = swapped(start.format(layer, "query"), start.format(layer, "key"))
        state = {name: swap[name] if f".{layer}." in name else value for name, value in state.items()}
    (cause,) = causes_of(STATE, state)
    assert cause.name == "query and key swapped"
    assert len(cause.places) == 12


def test_layers_swapped() -> None:
    (cause,) = causes_of(STATE, swapped(LAYER.format(0), LAYER.format(2)))
    assert cause.name == "layers swapped"
    assert cause.sentence.startswith("layers 0 and 2 have changed places")
    assert len(cause.places) == 32


def test_layer_duplicated() -> None:
    (cause,) = causes_of(STATE, copied(LAYER.format(1), LAYER.format(2)))
    assert (cause.name, cause.sentence) == ("layer duplicated", "layer 2 of B holds the values of layer 1.")
    assert len(cause.places) == 16


def test_values_of_another_module() -> None:
    start = LAYER.format(1) + "attention.self."
    (cause,) = causes_of(STATE, copied(start + "query", start + "key"))
    assert cause.name == "values of another tensor"
    assert cause.sentence.startswith("key of B holds the values of query")


def test_gamma_and_beta_swapped() -> None:
    state = replaced(STATE, {NORM + "weight": STATE[NORM + "bias"], NORM + "bias": STATE[NORM + "weight"]})
    one, two = causes_of(STATE, state)
    assert one.name == two.name == "values of another tensor"
    assert sorted([one.places, two.places]) == sorted([(place_of(NORM + "weight"),), (place_of(NORM + "bias"),)])


def test_a_dropped_bias_is_not_another_bias_that_is_zero() -> None:
    """As in every model that was just made."""
    query, key = (LAYER.format(1) + f"attention.self.{name}.bias" for name in ("query", "key"))
    state = replaced(STATE, {key: np.zeros_like(STATE[key])})
    assert named(state, altered(query, np.zeros_like, state)) == {"all zero": ("layer.1.query.bias",)}


def test_rounding_of_every_tensor_is_one_cause() -> None:
    state = {name: value.astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in STATE.items()}
    (cause,) = causes_of(STATE, state)
    assert cause.name == "rounded to bfloat16"
    assert len(cause.places) == len(STATE)
    assert cause.sentence.endswith("more of B were rounded to bfloat16 and stored as another type.")


def test_the_cause_that_explains_most_comes_first() -> None:
    state = altered("bert.pooler.dense.weight", np.transpose, swapped(LAYER.format(0), LAYER.format(2)))
    assert list(named(STATE, state)) == ["layers swapped", "transposed kernel"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_causes_survive_another_type(dtype: str) -> None:
    """B in another element type than A: the mistake is looked for after A is rounded to it."""
    state = altered(QUERY, np.transpose)
    state = {name: value.astype(cp.numpy_type(dtype)) for name, value in state.items()}
    assert named(STATE, state) == {"transposed kernel": ("layer.1.query.weight",)}


# What has no known cause gets none


def test_equal_models_have_no_cause() -> None:
    assert causes_of(STATE, STATE, "h5") == []


def test_other_shapes_have_no_cause() -> None:
    larger = {**TINY, "vocab_size": 19}
    with scratch() as folder:
        cp.save(folder / "a", HEAD, STATE, **TINY)
        cp.save(folder / "b", HEAD, cp.state_dict(HEAD, **larger), **larger)
        with compared.opened(folder / "a", folder / "b", HEAD) as (here, there):
            rows = compare_weights(here, there)
            assert weight_causes(rows, here.tensors, there.tensors, 3) == []


@BOUNDED
@given(
    st.sets(st.sampled_from(sorted(STATE)), min_size=1), st.sampled_from(cp.FLOATS), st.integers(0, 2**32),
    st.sampled_from([1.0, 1e-1]),
)  # fmt: skip
def test_random_differences_have_no_cause(names: set[str], dtype: str, seed: int, size: float) -> None:
    """New values, or the old ones with noise, in as many tensors as one likes."""
    state = {name: value.astype(cp.numpy_type(dtype)) for name, value in STATE.items()}
    rng = np.random.default_rng([1, seed])  # not the one that made the state
    noise = {name: (size * rng.standard_normal(state[name].shape)).astype(state[name].dtype) for name in sorted(names)}
    changed = {name: one if size == 1 else state[name] + one for name, one in noise.items()}
    assert named(state, replaced(state, changed)) == {}


@BOUNDED
@given(st.sampled_from(sorted(STATE)), st.sampled_from(cp.FLOATS), st.integers(0, 2**32))
def test_one_element_a_little_off_has_no_cause(name: str, dtype: str, seed: int) -> None:
    """Off by some units in the last place, more than one bit: neither a flipped bit nor a factor."""
    state = {each: value.astype(cp.numpy_type(dtype)) for each, value in STATE.items()}
    changed = state[name].copy()
    changed.reshape(-1).view(f"u{changed.itemsize}")[np.random.default_rng(seed).integers(changed.size)] ^= 3
    assert named(state, replaced(state, {name: changed})) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_a_has_no_cause(bad: float) -> None:
    assert named(altered(WIDE, lambda one: with_value(one, 5, bad)), STATE) == {}
    assert named(altered(WIDE, lambda one: with_value(one, 5, bad)), altered(WIDE, lambda one: one * 2)) == {}


@pytest.mark.parametrize("dtype", cp.FLOATS)
def test_a_signalling_nan(dtype: str) -> None:
    """Numpy warns of every touch of one, which must not reach the user."""
    state = {name: value.astype(cp.numpy_type(dtype)) for name, value in STATE.items()}
    changed = state[QUERY].copy()
    bits = {"float64": 0x7FF4 << 48, "float32": 0x7FA0 << 16, "float16": 0x7D00, "bfloat16": 0x7FA0}[dtype]
    changed.reshape(-1).view(f"u{changed.itemsize}")[3] = bits
    assert named(state, replaced(state, {QUERY: changed})) == {"not finite": ("layer.1.query.weight",)}
    assert named(replaced(state, {QUERY: changed}), state) == {}


def test_rounding_noise_is_no_factor() -> None:
    """Every element off by one unit in the last place."""
    state = altered(WIDE, lambda one: np.nextafter(one, np.float32(np.inf)))
    assert named(STATE, state) == {}


def test_shifted_rows_elsewhere_are_no_known_mistake() -> None:
    """Only embeddings have rows that a padding row may shift."""
    assert named(STATE, altered(WIDE, lambda one: np.roll(one, 1, 0))) == {}
    assert named(STATE, altered("cls.seq_relationship.weight", lambda one: one[::-1])) == {}


def test_interleaving_of_other_modules_is_no_known_mistake() -> None:
    assert named(STATE, altered("bert.pooler.dense.weight", interleaved)) == {}


def test_a_matrix_that_is_not_square_is_not_transposed() -> None:
    """The same numbers in the other order: a kernel stored as it should not be, but of the right shape."""
    assert named(STATE, altered(WIDE, lambda one: one.T.reshape(one.shape))) == {}
