"""The weights level: what is equal is called equal in every pair of formats, and no changed element goes unseen."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import checkpoints as cp
import compared
import numpy as np
import pytest
from compared import QUERY, TINY, compare_folders, compare_states, replaced, states, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.convert import convert_checkpoint
from bertconv.digests import digest_of_tensors, digests
from bertconv.text import printable
from bertconv.verify.weights import compare_weights

PT = ("safetensors", "bin", "legacy", "sharded", "sharded-bin")
TF = ("h5", "tf-safetensors")
STATE = tiny()
BOUNDED = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights, of all element types, in every container."""
    folder = tmp_path_factory.mktemp("everywhere")
    state = {
        name: value.astype(cp.numpy_type(cp.FLOATS[number % 4])) for number, (name, value) in enumerate(STATE.items())
    }
    plain = {name: value for name, value in state.items() if value.dtype != cp.numpy_type("bfloat16")}
    state |= {name: state[name].astype(np.float16) for name in state.keys() - plain.keys()}  # h5py knows no bfloat16
    return {name: cp.save(folder / name, "BertForPreTraining", state, name, **TINY) for name in (*PT, *TF)}


@pytest.mark.parametrize("a", [*PT, *TF])
@pytest.mark.parametrize("b", [*PT, *TF])
def test_equal_in_every_pair_of_formats(everywhere: dict[str, Path], a: str, b: str) -> None:
    rows = compare_folders(everywhere[a], everywhere[b])
    assert states(rows) == {}
    assert len(rows) == len(STATE)
    assert not any(row.differing or row.remarks or row.histogram or row.first for row in rows.values())
    assert all(row.digest.startswith("sha256:") for row in rows.values())


def test_names_are_the_files_own(everywhere: dict[str, Path]) -> None:
    row = compare_folders(everywhere["bin"], everywhere["h5"])["layer.1.query.weight"]
    assert row.a == QUERY
    assert row.b.endswith("bert/encoder/layer_._1/attention/self/query/kernel:0")
    assert row.shape == (6, 6)
    assert row.module == "layer.1.query"


@pytest.mark.parametrize("head", cp.HEADS)
@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
def test_digests_are_those_of_the_conversion(head: str, to: str, tmp_path: Path) -> None:
    cp.save(tmp_path / "a", head, cp.state_dict(head, "mixed", **TINY), **TINY)
    report = convert_checkpoint(tmp_path / "a", tmp_path / "b", to=to, head=head)
    with compared.opened(tmp_path / "a", tmp_path / "b", head) as (a, b):
        rows = compare_weights(a, b)
        assert digests(a.tensors) == digests(b.tensors) == {row.id: row.digest for row in rows}
    assert {row.id: row.digest for row in rows} == {tensor.id: tensor.digest for tensor in report.tensors}
    assert digest_of_tensors({row.id: row.digest for row in rows}) == report.digest
    assert {row.state for row in rows} == {"equal"}
    assert [row.id for row in rows] == [tensor.id for tensor in report.tensors]


def test_digests_may_be_left_out(everywhere: dict[str, Path]) -> None:
    with compared.opened(everywhere["bin"], everywhere["h5"]) as (a, b):
        rows = compare_weights(a, b, digest=False)
    assert {row.state for row in rows} == {"equal"}
    assert {row.digest for row in rows} == {""}
    assert digest_of_tensors({row.id: row.digest for row in rows}) == ""


# No changed element goes unseen


@st.composite
def flips(draw: st.DrawFn) -> tuple[str, str, int, int]:
    """Element type, name of a tensor, number of an element, number of a bit."""
    dtype = draw(st.sampled_from(cp.FLOATS))
    name = draw(st.sampled_from(sorted(STATE)))
    bits = 8 * cp.numpy_type(dtype).itemsize
    return dtype, name, draw(st.integers(0, STATE[name].size - 1)), draw(st.integers(0, bits - 1))


@BOUNDED
@given(flips(), st.sampled_from(["safetensors", "sharded", *TF]))
def test_one_bit_is_found(flip: tuple[str, str, int, int], container: str) -> None:
    dtype, name, element, bit = flip
    container = "tf-safetensors" if container == "h5" and dtype == "bfloat16" else container
    state = {each: value.astype(cp.numpy_type(dtype)) for each, value in STATE.items()}
    changed = state[name].copy()
    changed.reshape(-1).view(f"u{changed.itemsize}")[element] ^= 1 << bit
    rows = compare_states(state, replaced(state, {name: changed}), container=container, **TINY)
    (place,) = states(rows)
    row = rows[place]
    assert row.a == printable(name)
    assert (row.state, row.differing) == ("different", 1)
    assert row.first == np.unravel_index(element, changed.shape)
    with np.errstate(invalid="ignore"):  # a NaN may be of the signalling kind
        one, other = (np.float64(array.reshape(-1)[element]) for array in (state[name], changed))
    np.testing.assert_array_equal([row.value_a, row.value_b], [one, other])
    gap = abs(other - one) if np.isfinite(other) else 0.0
    assert row.max_difference == gap
    size = np.abs(state[name].astype(np.float64)).max()
    assert row.relative == row.max_difference / size
    assert row.histogram is not None
    assert ("1 numbers in B are NaN or infinite" in row.remarks) == (not np.isfinite(other))


@BOUNDED
@given(st.sets(st.sampled_from(sorted(STATE)), min_size=1), st.integers(0, 2**32))
def test_several_tensors_are_found(names: set[str], seed: int) -> None:
    """As many elements as were changed, the first of them, and the largest difference; nothing else is called wrong."""
    rng = np.random.default_rng(seed)
    changes, wanted = {}, {}
    for name in sorted(names):
        where = rng.random(STATE[name].shape) < rng.uniform(0.02, 1)
        where.reshape(-1)[rng.integers(where.size)] = True
        changes[name] = np.where(where, STATE[name] + np.float32(rng.normal()) + 1, STATE[name])
        apart = np.argwhere(changes[name] != STATE[name])
        gap = np.abs(changes[name].astype(np.float64) - STATE[name]).max()
        wanted[name] = (len(apart), tuple(apart[0]), gap)
    rows = compare_states(STATE, replaced(STATE, changes), **TINY)
    found = {row.a: (row.differing, row.first, row.max_difference) for row in rows.values() if row.state != "equal"}
    assert found == wanted


def test_rows_stand_in_the_order_of_the_table() -> None:
    backwards = dict(reversed(STATE.items()))
    assert list(compare_states(backwards, backwards, **TINY)) == list(compare_states(STATE, STATE, **TINY))


# Element types


@pytest.mark.parametrize(("one", "other"), [pair for pair in product(cp.FLOATS, repeat=2) if pair[0] != pair[1]])
def test_another_type_is_a_cast(one: str, other: str) -> None:
    a = {name: value.astype(cp.numpy_type(one)) for name, value in STATE.items()}
    b = {name: value.astype(cp.numpy_type(other)) for name, value in a.items()}
    rows = compare_states(a, b, **TINY)
    assert {row.state for row in rows.values()} == {"cast"}
    assert all(row.ok and (row.dtype_a, row.dtype_b) == (one, other) for row in rows.values())


@pytest.mark.parametrize(("one", "other"), [("float32", "bfloat16"), ("float64", "float32"), ("float16", "float64")])
def test_a_cast_with_another_element_is_different(one: str, other: str) -> None:
    a = {name: value.astype(cp.numpy_type(one)) for name, value in STATE.items()}
    b = {name: value.astype(cp.numpy_type(other)) for name, value in a.items()}
    b[QUERY].reshape(-1).view(f"u{b[QUERY].itemsize}")[7] += 1
    rows = compare_states(a, b, **TINY)
    assert {place for place, row in rows.items() if not row.ok} == {"layer.1.query.weight"}
    row = rows["layer.1.query.weight"]
    assert (row.state, row.differing, row.first) == ("different", 1, (1, 1))
    assert row.value_a == float(a[QUERY][1, 1].astype(cp.numpy_type(other)))


def test_a_cast_that_overflows_is_a_cast() -> None:
    a = {name: value * np.float32(1e6) for name, value in STATE.items()}
    with np.errstate(over="ignore"):
        b = {name: value.astype(np.float16) for name, value in a.items()}
    rows = compare_states(a, b, **TINY)
    assert {row.state for row in rows.values()} == {"cast"}
    assert any("NaN or infinite on both sides" in odd for row in rows.values() for odd in row.remarks)


@pytest.mark.parametrize("through", ["bfloat16", "float16"])
def test_rounding_called_float32_is_different(through: str) -> None:
    rounded = {name: value.astype(cp.numpy_type(through)).astype(np.float32) for name, value in STATE.items()}
    rows = compare_states(STATE, rounded, **TINY)
    assert {row.state for row in rows.values()} == {"different"}
    back = compare_states(
        {name: value.astype(cp.numpy_type(through)) for name, value in STATE.items()}, rounded, **TINY
    )
    assert {row.state for row in back.values()} == {"cast"}
