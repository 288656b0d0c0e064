"""What the weights level says beside equal or not: what is unusual, missing tensors, shapes, histograms, costs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import checkpoints as cp
import compared
import numpy as np
import pytest
from compared import QUERY, TINY, WIDE, compare_folders, compare_states, replaced, states, tiny, with_value

from bertconv.checkpoint import Checkpoint
from bertconv.verify.weights import HISTOGRAMS, compare_weights

STATE = tiny()


# What is unusual about values


def odd(a: dict[str, np.ndarray], b: dict[str, np.ndarray], **changes: Any) -> dict[str, tuple[str, ...]]:
    rows = compare_states(replaced(STATE, a), replaced(STATE, b), **{**TINY, **changes})
    return {place: row.remarks for place, row in rows.items() if row.remarks}


def test_nan_on_both_sides_is_equal_and_named() -> None:
    bad = with_value(with_value(STATE[WIDE], 3, np.nan), 8, -np.inf)
    rows = compare_states(replaced(STATE, {WIDE: bad}), replaced(STATE, {WIDE: bad}), container="h5", **TINY)
    assert states(rows) == {}
    assert rows["layer.0.ffn_in.weight"].remarks == ("2 numbers are NaN or infinite on both sides",)


def test_another_nan_is_different() -> None:
    """Bit for bit: a NaN has a payload."""
    one, other = (np.full(6, value, np.uint32).view(np.float32) for value in (0x7FC00000, 0x7FC00001))
    name = "bert.pooler.dense.bias"
    rows = compare_states(replaced(STATE, {name: one}), replaced(STATE, {name: other}), **TINY)
    assert states(rows) == {"pooler.dense.bias": "different"}
    assert rows["pooler.dense.bias"].differing == 6
    assert np.isnan(rows["pooler.dense.bias"].max_difference)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_on_one_side_is_counted(value: float) -> None:
    bad = with_value(with_value(STATE[WIDE], 3, value), 9, value)
    assert odd({}, {WIDE: bad}) == {"layer.0.ffn_in.weight": ("2 numbers in B are NaN or infinite",)}
    assert odd({WIDE: bad}, {}) == {"layer.0.ffn_in.weight": ("2 numbers in A are NaN or infinite",)}


def test_the_difference_is_that_of_finite_elements() -> None:
    bad = with_value(with_value(STATE[WIDE], 3, np.nan), 4, STATE[WIDE].reshape(-1)[4] + 2)
    row = compare_states(STATE, replaced(STATE, {WIDE: bad}), **TINY)["layer.0.ffn_in.weight"]
    assert row.differing == 2
    assert row.max_difference == pytest.approx(2)
    assert np.isnan(row.value_b)


def test_zeros_are_named() -> None:
    """Biases are zero in many a sound model; a matrix, or one that the other side has, is not."""
    bias = QUERY.replace("weight", "bias")
    zero = {QUERY: np.zeros_like(STATE[QUERY]), bias: np.zeros_like(STATE[bias])}
    assert odd(zero, zero) == {"layer.1.query.weight": ("all zero on both sides",)}
    assert odd({}, zero) == {f"layer.1.query.{role}": ("all zero in B",) for role in ("weight", "bias")}
    assert odd(zero, {}) == {"layer.1.query.weight": ("all zero in A",)}


def test_duplicates_are_named() -> None:
    """The same matrix twice; equal vectors are nothing."""
    same = dict.fromkeys((QUERY.replace("query", "key"), QUERY.replace("layer.1", "layer.2")), STATE[QUERY])
    vectors = {name.replace("weight", "bias"): STATE[QUERY.replace("weight", "bias")] for name in same}
    assert odd({**same, **vectors}, {**same, **vectors}) == {
        "layer.1.key.weight": ("the same values as layer.1.query.weight",),
        "layer.2.query.weight": ("the same values as layer.1.query.weight",),
    }
    assert odd({}, same).keys() == {"layer.1.key.weight", "layer.2.query.weight"}


# What is on one side only, and other shapes


def test_a_tensor_on_one_side_only() -> None:
    less = {name: value for name, value in STATE.items() if name != QUERY}
    for a, b, state in ((STATE, less, "only in A"), (less, STATE, "only in B")):
        rows = compare_states(a, b, **TINY)
        assert states(rows) == {"layer.1.query.weight": state}
        row = rows["layer.1.query.weight"]
        assert not row.ok
        assert (row.a, row.b) == ((QUERY, "") if state == "only in A" else ("", QUERY))
        assert (row.dtype_a, row.dtype_b) == (("float32", "") if state == "only in A" else ("", "float32"))
        assert row.shape == (6, 6)


def test_a_pooler_on_one_side_only() -> None:
    state = tiny("BertModel")
    less = {name: value for name, value in state.items() if "pooler" not in name}
    rows = compare_states(state, less, "BertModel", "h5", **TINY)
    assert states(rows) == {"pooler.dense.weight": "only in A", "pooler.dense.bias": "only in A"}


def test_other_shapes_are_different(tmp_path: Path) -> None:
    cp.save(tmp_path / "a", "BertForMaskedLM", tiny("BertForMaskedLM"), **TINY)
    larger = {**TINY, "vocab_size": 19}
    cp.save(tmp_path / "b", "BertForMaskedLM", cp.state_dict("BertForMaskedLM", **larger), **larger)
    row = compare_folders(tmp_path / "a", tmp_path / "b")["embeddings.word.weight"]
    assert (row.state, row.shape, row.first, row.histogram) == ("different", (19, 6), None, None)
    assert row.differing == 19 * 6
    assert row.remarks == ("the shape in A is [17, 6]",)
    assert row.digest


# Histograms, progress, memory


def test_only_the_worst_have_histograms() -> None:
    names = [name for name in STATE if name.endswith("weight")][: HISTOGRAMS + 3]
    changes = {
        name: with_value(STATE[name], 1, (number + 2) * np.abs(STATE[name]).max()) for number, name in enumerate(names)
    }
    rows = compare_states(STATE, replaced(STATE, changes), **TINY)
    by_name = {row.a: row for row in rows.values()}
    assert {name for name, row in by_name.items() if row.histogram} == set(names[-HISTOGRAMS:])
    for name in names[-HISTOGRAMS:]:
        histogram = by_name[name].histogram
        assert histogram is not None
        assert sum(histogram["a"]) == sum(histogram["b"]) == STATE[name].size
        assert len(histogram["edges"]) == len(histogram["a"]) + 1 == len(histogram["b"]) + 1
        assert histogram["edges"][-1] == pytest.approx(changes[name].max())
        assert histogram["a"] != histogram["b"]


def test_a_histogram_leaves_out_what_is_not_finite() -> None:
    every = np.full_like(STATE[WIDE], np.nan)
    some = with_value(STATE[QUERY], 5, np.inf)
    rows = compare_states(STATE, replaced(STATE, {WIDE: every, QUERY: some}), **TINY)
    for place, count in (("layer.0.ffn_in.weight", 0), ("layer.1.query.weight", STATE[QUERY].size - 1)):
        histogram = rows[place].histogram
        assert histogram is not None
        assert sum(histogram["b"]) == count


def test_two_tensors_of_nothing_but_nan_have_no_histogram() -> None:
    one, other = (np.full(STATE[WIDE].shape, value, np.uint32).view(np.float32) for value in (0x7FC00000, 0x7FC00001))
    rows = compare_states(replaced(STATE, {WIDE: one}), replaced(STATE, {WIDE: other}), **TINY)
    assert rows["layer.0.ffn_in.weight"].state == "different"
    assert rows["layer.0.ffn_in.weight"].histogram is None


def ticks(a: Checkpoint, b: Checkpoint) -> tuple[int, int]:
    reported: list[int] = []
    compare_weights(a, b, reported.append)
    return sum(reported), sum(tensor.stored.nbytes for tensor in b.tensors.values())


@pytest.mark.parametrize("wrong", [False, True], ids=["equal", "different"])
def test_progress_adds_up(wrong: bool, tmp_path: Path) -> None:
    changes = {QUERY: -STATE[QUERY], WIDE: with_value(STATE[WIDE], 40, 0)} if wrong else {}
    cp.save(tmp_path / "a", "BertForPreTraining", STATE, **TINY)
    cp.save(tmp_path / "b", "BertForPreTraining", replaced(STATE, changes), "h5", **TINY)
    with compared.opened(tmp_path / "a", tmp_path / "b") as (a, b):
        done, total = ticks(a, b)
    assert done == total


def test_equal_tensors_are_not_held_whole(tmp_path: Path) -> None:
    """Twice the embeddings would be 56 MB; two threads with two pieces of 1 MB and some scratch are enough."""
    sizes = {**TINY, "vocab_size": 1_200_000}
    state = {**tiny("BertModel"), cp.WORD: np.random.default_rng(0).standard_normal((1_200_000, 6), np.float32)}
    for name in ("a", "b"):
        cp.save(tmp_path / name, "BertModel", state, **sizes)
    with compared.opened(tmp_path / "a", tmp_path / "b") as (a, b):
        tracemalloc.start()
        rows = compare_weights(a, b)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert {row.state for row in rows} == {"equal"}
    assert peak < state[cp.WORD].nbytes / 2
