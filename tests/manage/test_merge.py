"""Merges, held to the formulas of the papers on whole arrays in float64, spelled out here without bertconv."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv import merge_checkpoints
from bertconv.errors import MappingError, RequestError
from bertconv.formats import arithmetic, streaming, workers
from bertconv.manage import merge_methods

HEAD = "BertForSequenceClassification"
HEADS = (
    "BertForMaskedLM", "ElectraForSequenceClassification", "AlbertForMaskedLM", "MPNetForSequenceClassification",
    "DistilBertForSequenceClassification", "RobertaForMaskedLM",
)  # fmt: skip
METHODS = ("slerp", "task-arithmetic", "ties", "dare")
Array = np.ndarray
Whole = Callable[[Array, list[Array], dict[str, Any]], Array]


def slerp(_: Array, inputs: list[Array], facts: dict[str, Any]) -> Array:
    one, other = inputs
    t, norms = facts.get("t", 0.5), np.linalg.norm(one) * np.linalg.norm(other)
    cosine = float(np.vdot(one, other) / norms) if norms else 1.0
    if abs(cosine) > 0.9995:
        return (1 - t) * one + t * other
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * one + math.sin(t * angle) * other) / math.sin(angle)


def task_arithmetic(base: Array, inputs: list[Array], facts: dict[str, Any]) -> Array:
    weights = facts.get("weights", [1.0] * len(inputs))
    return base + facts.get("scale", 1.0) * sum(w * (one - base) for w, one in zip(weights, inputs, strict=True))


def ties(base: Array, inputs: list[Array], facts: dict[str, Any]) -> Array:
    weights = np.array(facts.get("weights", [1.0] * len(inputs)))
    trimmed = []
    for one in inputs:
        delta = (one - base).ravel()
        kept = max(1, int(facts.get("density", 0.5) * delta.size))
        order = np.argsort(-np.abs(delta).astype(np.float32), kind="stable")
        delta[order[kept:]] = 0
        trimmed.append(delta)
    vectors = np.array(trimmed) * weights[:, None]
    elected = np.where(vectors.sum(0) >= 0, 1, -1)
    agrees = np.sign(vectors) == elected
    share = (weights[:, None] * agrees).sum(0)
    mean = (vectors * agrees).sum(0) / np.where(share == 0, 1, share)
    return base + facts.get("scale", 1.0) * mean.reshape(base.shape)


WHOLE: dict[str, Whole] = {"slerp": slerp, "task-arithmetic": task_arithmetic, "ties": ties}


def made(
    folder: Path, head: str = HEAD, container: str = "safetensors", **facts: Any
) -> tuple[Path, list[Path], list[cp.Tensors]]:
    """A base, two models that were trained from it, and the tensors of all."""
    states = [cp.state_dict(head, **facts)]
    for seed in (1, 2):
        changed = {name: (value + 0.1 * cp.random_array(value.shape, "float32", seed)).astype(value.dtype)
                   for name, value in states[0].items()}  # fmt: skip
        states.append(changed)
    folders = [cp.save(folder / f"in{number}", head, state, container) for number, state in enumerate(states)]
    return folders[0], folders[1:], states


def merged(inputs: list[Path], dst: Path, method: str, base: Path, **facts: Any) -> Any:
    return merge_checkpoints(inputs, dst, method=method, base=None if method == "slerp" else base, **facts)


@pytest.mark.parametrize(
    ("method", "facts"),
    [("slerp", {}), ("slerp", {"t": 0.2}), ("task-arithmetic", {"weights": [0.5, -0.25], "scale": 0.7}), ("ties", {}),
     ("ties", {"density": 0.21, "weights": [1, 0.5], "scale": 1.3}), ("ties", {"density": 1e-6})],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_methods_are_those_of_the_papers(tmp_path: Path, method: str, facts: dict[str, Any], dtype: str) -> None:
    base, inputs, states = made(tmp_path, dtype=dtype)
    merged(inputs, tmp_path / "out", method, base, **facts)
    found = cp.written(tmp_path / "out")
    for name, value in found.items():
        wide = [np.asarray(state[name], np.float64) for state in states]
        expected = WHOLE[method](wide[0], wide[1:], facts)
        assert value.dtype == dtype
        if dtype == "float64":  # sums in another order
            np.testing.assert_allclose(value, expected, rtol=1e-9)
        else:
            np.testing.assert_array_max_ulp(value, expected.astype(dtype), 1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_every_family_and_format_gives_the_same_numbers(tmp_path: Path, head: str, method: str) -> None:
    base, inputs, states = made(tmp_path, head, "h5" if head.startswith("Electra") else "safetensors")
    plain = merged(inputs, tmp_path / "pt", method, base, to="pt")
    other = merged(inputs, tmp_path / "tf", method, base, to="tf")
    assert plain.digest == other.digest != ""
    found = cp.written(tmp_path / "pt")
    assert sorted(found) == sorted(states[0])
    for name, value in found.items() if method in WHOLE else ():
        wide = [np.asarray(state[name], np.float64) for state in states]
        np.testing.assert_array_max_ulp(value, WHOLE[method](wide[0], wide[1:], {}).astype(np.float32), 1)


@pytest.mark.parametrize("method", METHODS)
def test_neither_threads_nor_pieces_show(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, inputs, _ = made(tmp_path)
    merged(inputs, tmp_path / "out", method, base, to="tf")
    monkeypatch.setattr(workers, "THREADS", 1)
    for module in (arithmetic, *([merge_methods] if method != "slerp" else [])):  # its sums are of blocks of STEP
        monkeypatch.setattr(module, "STEP", 113)
    monkeypatch.setattr(arithmetic, "ROOM", 2000)
    monkeypatch.setattr(streaming, "PIECE", 700)
    merged(inputs, tmp_path / "again", method, base, to="tf")
    assert cp.snapshot(tmp_path / "out") == cp.snapshot(tmp_path / "again")


def test_blocks_of_a_long_tensor_are_summed_alike_in_every_format(tmp_path: Path) -> None:
    """The cosine over more than one block, from rows and from columns."""
    head, sizes = (
        "BertModel",
        {"hidden_size": 320, "num_attention_heads": 5, "intermediate_size": 700, "num_hidden_layers": 1},
    )
    states = [cp.state_dict(head, seed=seed, **sizes) for seed in (0, 1)]
    a, b = (
        cp.save(tmp_path / f"in{seed}", head, states[seed], kind, **sizes)
        for seed, kind in enumerate(("safetensors", "h5"))
    )
    digests = {merge_checkpoints([a, b], tmp_path / to, method="slerp", to=to, t=0.3).digest for to in ("pt", "tf")}
    assert len(digests) == 1
    for name, value in cp.written(tmp_path / "pt").items():
        full = name if name in states[0] else f"bert.{name}"
        wide = [np.asarray(state[full], np.float64) for state in states]
        np.testing.assert_array_max_ulp(value, slerp(wide[0], wide, {"t": 0.3}).astype(np.float32), 1)


# TIES


@settings(max_examples=10, deadline=None)
@given(density=st.floats(0.01, 1), levels=st.integers(1, 6), seed=st.integers(0, 99))
def test_exactly_the_asked_part_is_kept_and_of_equal_ones_the_first(
    tmp_path_factory: pytest.TempPathFactory, density: float, levels: int, seed: int
) -> None:
    """Few different magnitudes, so that many are equal, in a matrix that is transposed on the way."""
    folder, rng = tmp_path_factory.mktemp("ties"), np.random.default_rng(seed)
    head, changes = "BertModel", {"num_hidden_layers": 1}
    plain = {name: np.zeros_like(value) for name, value in cp.state_dict(head, **changes).items()}
    trained = {name: rng.integers(-levels, levels + 1, value.shape).astype(np.float32) for name, value in plain.items()}
    base, one = (cp.save(folder / name, head, state, **changes) for name, state in (("base", plain), ("one", trained)))
    merge_checkpoints([one], folder / "out", method="ties", base=base, density=density, to="tf", verify="none")
    found = cp.written(folder / "out")
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    kept = max(1, int(density * trained[name].size))
    expected = trained[name].copy().ravel()
    expected[np.argsort(-np.abs(expected), kind="stable")[kept:]] = 0
    written = (
        found[cp.tf_name(name).removeprefix("bert/")] if cp.tf_name(name) not in found else found[cp.tf_name(name)]
    )
    np.testing.assert_array_equal(written.T.ravel(), expected)


# DARE


def test_dare_drops_by_seed_and_place_alone(tmp_path: Path) -> None:
    base, inputs, states = made(tmp_path)
    merged(inputs[:1], tmp_path / "out", "dare", base, density=0.3, seed=5)
    found = cp.written(tmp_path / "out")
    for name, place in (("classifier.weight", "classifier.dense.weight"), ("classifier.bias", "classifier.dense.bias")):
        base64, one = (np.asarray(state[name], np.float64) for state in states[:2])
        kept = np.array([split_mix(5, place, index) < 0.3 * 2**64 for index in range(base64.size)]).reshape(
            base64.shape
        )
        expected = np.where(kept, base64 + (one - base64) / 0.3, base64).astype(np.float32)
        np.testing.assert_array_equal(found[name], expected)
    other = merged(inputs[:1], tmp_path / "other", "dare", base, density=0.3, seed=6)
    assert other.digest != json.loads((tmp_path / "out/bertconv.json").read_bytes())["digest"]


def split_mix(seed: int, place: str, index: int) -> int:
    """SplitMix64 in whole numbers."""
    mask = 2**64 - 1
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{place}\0{0}".encode()).digest()[:8], "little")
    bits = (key + (index + 1) * 0x9E3779B97F4A7C15) & mask
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & mask
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & mask
    return bits ^ bits >> 31


def test_as_many_are_kept_as_the_density_says() -> None:
    bits = merge_methods.random_bits(12345, np.arange(200_000))
    for density in (0.1, 0.5, 0.9):
        share = float((bits < np.uint64(int(density * 2**64))).mean())
        assert abs(share - density) < 5 * math.sqrt(density * (1 - density) / 200_000)


def test_everything_kept_is_task_arithmetic(tmp_path: Path) -> None:
    base, inputs, _ = made(tmp_path)
    one = merged(inputs, tmp_path / "one", "dare", base, density=1.0, weights=[0.4, 0.6])
    other = merged(inputs, tmp_path / "other", "task-arithmetic", base, weights=[0.4, 0.6])
    assert one.digest == other.digest


# What stays as it is


@pytest.mark.parametrize("dtype", cp.FLOATS)
@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_are_the_base_come_out_bit_for_bit(tmp_path: Path, method: str, dtype: str) -> None:
    state = cp.state_dict(HEAD, dtype=dtype)
    query = state["bert.encoder.layer.0.attention.self.query.weight"].reshape(-1)
    query[:5] = [np.nan, -np.nan, np.inf, -np.inf, -0.0]
    view = query.view(f"u{query.itemsize}")
    view[5] = view[2] | 1  # a signalling NaN
    folders = [cp.save(tmp_path / name, HEAD, state) for name in ("base", "a", "b")]
    merged(
        folders[1:], tmp_path / "out", method, folders[0], **({"density": 0.3} if method in {"ties", "dare"} else {})
    )
    cp.assert_same(cp.written(tmp_path / "out"), state)


@pytest.mark.parametrize(("t", "number"), [(0.0, 1), (1.0, 2)])
def test_the_ends_of_the_arc_are_the_inputs(tmp_path: Path, t: float, number: int) -> None:
    base, inputs, states = made(tmp_path)
    merged(inputs, tmp_path / "out", "slerp", base, t=t)
    cp.assert_same(cp.written(tmp_path / "out"), states[number])


def test_a_vector_of_zeros_has_no_direction(tmp_path: Path) -> None:
    base, inputs, states = made(tmp_path)
    zero = states[1] | {"classifier.bias": np.zeros(11, np.float32)}
    a = cp.save(tmp_path / "zero", HEAD, zero)
    merged([a, inputs[1]], tmp_path / "out", "slerp", base)
    np.testing.assert_array_equal(cp.written(tmp_path / "out")["classifier.bias"], states[2]["classifier.bias"] / 2)


# Records and refusals


def test_an_output_says_what_made_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, inputs, _ = made(tmp_path)
    words = ["--method", "ties", "--base", base, "--density", "0.2", "--lambda", "0.5", "--weights", "1,2", "--json"]
    assert cp.call("merge", *inputs, "-o", tmp_path / "out", *words) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    manifest = json.loads((tmp_path / "out/bertconv.json").read_bytes())
    options = {"method": "ties", "weights": [1.0, 2.0], "lambda": 0.5, "density": 0.2}
    assert manifest["operation"] == {"verb": "merge", "options": options}
    parents = [(one["role"], one["given"]) for one in manifest["parents"]]
    assert parents == [("input", "in1"), ("input", "in2"), ("base", "in0")]


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("slerp", {"base": "in0"}, "slerp was given 2 inputs and a base"), ("ties", {}, "ties was given no base"),
        ("slerp", {"density": 0.5}, "slerp takes no density"), ("slerp", {"scale": 0.5}, "slerp takes no lambda"),
        ("ties", {"base": "in0", "seed": 1}, "ties takes no seed"), ("mean", {}, "method is 'mean'"),
        ("dare", {"base": "in0", "density": 0}, "density is 0"),
        ("dare", {"base": "in0", "density": 2}, "density is 2"),
        ("slerp", {"t": 1.5}, "t is 1.5"), ("ties", {"base": "in0", "weights": [1]}, "1 weights were given for 2"),
        ("dare", {"base": "in0", "weights": [1, math.inf]}, "not finite"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense(tmp_path: Path, method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        merge_checkpoints(["a", "b"], tmp_path / "out", method=method, **options)


def test_a_base_of_another_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    _, inputs, _ = made(tmp_path)
    other = cp.save(tmp_path / "other", HEAD, cp.state_dict(HEAD, vocab_size=103), vocab_size=103)
    said = r"other: cannot be combined .*in1: embeddings.word.weight has the shape"
    with pytest.raises(MappingError, match=said):
        merge_checkpoints(inputs, tmp_path / "out", method="ties", base=other)
    assert cp.call("merge", *inputs, "-o", tmp_path / "out", "--method", "dare", "--base", other) == 3


def test_a_base_without_the_head_gives_the_body(tmp_path: Path) -> None:
    _, inputs, states = made(tmp_path)
    body = cp.state_dict("BertModel", seed=9)
    base = cp.save(tmp_path / "base", "BertModel", body)
    with pytest.raises(MappingError, match="it is a BertModel, and"):
        merge_checkpoints(inputs, tmp_path / "out", method="task-arithmetic", base=base)
    merge_checkpoints(inputs, tmp_path / "out", method="task-arithmetic", base=base, heads="first", weights=[0.5, 0.5])
    found = cp.written(tmp_path / "out")
    assert found["classifier.weight"].tobytes() == states[1]["classifier.weight"].tobytes()
    name = "bert.pooler.dense.weight"
    wide = [np.asarray(state[name], np.float64) for state in (body, *states[1:])]
    expected = task_arithmetic(wide[0], wide[1:], {"weights": [0.5, 0.5]})
    np.testing.assert_array_equal(found[name], expected.astype(np.float32))
