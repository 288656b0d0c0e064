"""Two checkpoints as changes of a third one: norms and angle as numpy says, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
from checkpoints import Tensors
from diffed import HEAD, as_type, moved, normal

from bertconv import diff_checkpoints
from bertconv.manage.difference.records import Against


def against(folder: Path, a: Tensors, b: Tensors, c: Tensors) -> Against:
    for name, state, container in (("a", a, "safetensors"), ("b", b, "h5"), ("c", c, "tf-safetensors")):
        cp.save(folder / name, HEAD, state, container)
    found = diff_checkpoints(folder / "a", folder / "b", against_base=folder / "c").against
    assert found is not None
    return found


def whole(state: Tensors, word: str = "") -> np.ndarray:
    return np.concatenate([value.ravel() for name, value in state.items() if word in name]).astype(np.float64)


def test_changes_from_the_base_are_those_of_whole_arrays(tmp_path: Path) -> None:
    c = normal()
    a, b = moved(c, 0.01), moved(c, 0.02, seed=2)
    found = against(tmp_path, a, b, c)
    rows = {one.layer: one for one in (*found.layers, found.whole)}
    for layer, word in (("all", ""), ("layer.1", ".layer.1."), ("mlm", "cls.predictions")):
        base, *changes = (whole(state, word) for state in (c, a, b))
        da, db = (change - base for change in changes)
        row = rows[layer]
        expected = [np.linalg.norm(base), np.linalg.norm(da), np.linalg.norm(db)]
        np.testing.assert_allclose([row.norm, row.norm_a, row.norm_b], expected, rtol=1e-12)
        np.testing.assert_allclose(row.cosine, da @ db / (expected[1] * expected[2]), rtol=1e-9)
    assert (found.compared, found.left_out) == (46, ())
    assert "A and B both come from C" in found.verdict
    assert "A is nearer" in found.verdict


def test_further_in_one_direction(tmp_path: Path) -> None:
    c = normal()
    step = {name: value - c[name] for name, value in moved(c, 0.01).items()}
    a, b = ({name: value + times * step[name] for name, value in c.items()} for times in (1, 2))
    found = against(tmp_path, a, b, c)
    assert found.whole.cosine == pytest.approx(1, abs=1e-6)
    assert found.whole.norm_b == pytest.approx(2 * found.whole.norm_a, rel=1e-5)
    assert "the cosine between their changes is 1.00" in found.verdict


def test_the_base_itself_and_a_model_that_does_not_come_from_it(tmp_path: Path) -> None:
    c = normal()
    found = against(tmp_path, c, normal(seed=9), as_type(c, "float64"))
    assert found.whole.norm_a == 0
    assert found.whole.cosine is None
    assert found.whole.relative_b == pytest.approx(2**0.5, rel=0.05)
    assert found.verdict == "A is C, unchanged; B does not come from C, 1.4 of its size away; A is nearer"


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    c = normal()
    a, b = moved(c, 0.01), moved(c, 0.01, seed=2)
    name = "bert.pooler.dense.weight"
    a[name][0, 0], b[name][1, 1], c[name][2, 2] = np.nan, np.inf, -np.inf
    found = against(tmp_path, a, b, c)
    finite = np.isfinite(a[name]) & np.isfinite(b[name]) & np.isfinite(c[name])
    pooler = next(one for one in found.layers if one.layer == "pooler")
    change = a[name][finite].astype(np.float64) - c[name][finite]
    bias = "bert.pooler.dense.bias"
    total = np.hypot(np.linalg.norm(change), np.linalg.norm(a[bias].astype(np.float64) - c[bias]))
    np.testing.assert_allclose(pooler.norm_a, total, rtol=1e-12)


def test_what_the_base_lacks_is_listed(tmp_path: Path) -> None:
    state = normal()
    for name, change in (("a", 0.01), ("b", 0.02)):
        cp.save(tmp_path / name, HEAD, moved(state, change))
    cp.save(tmp_path / "c", "BertModel", {name: value for name, value in state.items() if "cls" not in name})
    found = diff_checkpoints(tmp_path / "a", tmp_path / "b", against_base=tmp_path / "c").against
    assert found is not None
    assert found.compared == 39
    assert {name.partition(".")[0] for name in found.left_out} == {"nsp", "mlm"}


def test_a_base_with_another_vocabulary_is_held_to_without_its_words(tmp_path: Path) -> None:
    state = normal()
    for name, change in (("a", 0.01), ("b", 0.02)):
        cp.save(tmp_path / name, HEAD, moved(state, change))
    cp.save(tmp_path / "c", HEAD, normal(vocab_size=97), vocab_size=97)
    found = diff_checkpoints(tmp_path / "a", tmp_path / "b", against_base=tmp_path / "c").against
    assert found is not None
    assert found.left_out == ("embeddings.word.weight", "mlm.bias.value")
