"""LoRA adapters merged into their base: the formula in float64 and rounded once, and everything that must be refused.

That the result is what peft makes of the same adapter is shown by scripts/witness_adapter.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import check_checkpoint, merge_adapter
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    MappingError,
    MissingTensors,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
    UnknownTensors,
    UnsupportedCheckpoint,
)
from bertconv.manage.adapter.patterns import Pattern

HEAD = "BertForSequenceClassification"
QUERY = "bert.encoder.layer.{}.attention.self.query"
WORDS = "bert.embeddings.word_embeddings"
PREFIX = "base_model.model."
RANK, ALPHA = 4, 6


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def factors(module: str, state: Mapping[str, np.ndarray], rank: int = RANK) -> cp.Tensors:
    """A and B of one module, as peft names them."""
    rows, columns = state[f"{module}.weight"].shape
    if module.endswith("_embeddings"):
        return {
            f"{PREFIX}{module}.lora_embedding_A": numbers(rank, rows, seed=1),
            f"{PREFIX}{module}.lora_embedding_B": numbers(columns, rank, seed=2),
        }
    seed = sum(map(ord, module))
    return {
        f"{PREFIX}{module}.lora_A.weight": numbers(rank, columns, seed=seed),
        f"{PREFIX}{module}.lora_B.weight": numbers(rows, rank, seed=seed + 1),
    }


def settings(**changes: Any) -> dict[str, Any]:
    keys = {
        "peft_type": "LORA", "task_type": "SEQ_CLS", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["query"],
        "modules_to_save": None, "bias": "none", "init_lora_weights": True, "use_dora": False, "rank_pattern": {},
        "alpha_pattern": {}, "lora_dropout": 0.1, "loftq_config": {}, "base_model_name_or_path": "org/base",
    }  # fmt: skip
    return {**keys, **changes}


def save_adapter(folder: Path, tensors: cp.Tensors, container: str = "safetensors", **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings(**changes)))
    if container == "safetensors":
        (folder / "adapter_model.safetensors").write_bytes(cp.safetensors_bytes(tensors))
    else:
        (folder / "adapter_model.bin").write_bytes(cp.torch_bytes(cp.torch_tensors(tensors)))
    return folder


def queries(state: cp.Tensors, rank: int = RANK) -> cp.Tensors:
    return {key: value for layer in (0, 1) for key, value in factors(QUERY.format(layer), state, rank).items()}


def small(state: cp.Tensors) -> cp.Tensors:
    """Numbers of about one, so that a product of ten orders of magnitude less would show."""
    return {name: (value / np.abs(value).max()).astype(value.dtype) for name, value in state.items()}


def merged(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """W + scale * B A, rank by rank in float64, rounded once."""
    product = np.zeros((b.shape[0], a.shape[1]))
    for rank in range(a.shape[0]):
        product += b[:, rank, None].astype(np.float64) * a[rank].astype(np.float64)
    return (weight.astype(np.float64) + product * scale).astype(weight.dtype)


class Made:
    """A base and an adapter for its queries."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        self.folder = folder
        self.state = small(cp.state_dict(HEAD, dtype))
        self.base = cp.save(folder / "base", HEAD, self.state).parent / "base"
        self.tensors = queries(self.state)

    def adapter(self, tensors: cp.Tensors | None = None, **changes: Any) -> Path:
        return save_adapter(self.folder / "adapter", self.tensors if tensors is None else tensors, **changes)

    def merge(self, **options: Any) -> cp.Tensors:
        merge_adapter(self.base, self.folder / "adapter", self.folder / "out", **options)
        assert check_checkpoint(self.folder / "out").ok
        return cp.written(self.folder / "out")

    def expected(self, scale: float = ALPHA / RANK) -> cp.Tensors:
        found = dict(self.state)
        for layer in (0, 1):
            module = QUERY.format(layer)
            a, b = (self.tensors[f"{PREFIX}{module}.lora_{side}.weight"] for side in "AB")
            found[f"{module}.weight"] = merged(self.state[f"{module}.weight"], a, b, scale)
        return found


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


# What is computed


@pytest.mark.parametrize("container", ["safetensors", "bin"])
@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
def test_queries(made: Made, to: str, container: str) -> None:
    made.adapter(container=container)
    found = made.merge(to=to)
    expected = made.expected()
    cp.assert_same(found, expected if to == "pt" else cp.tf_state(expected))


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 10), ("float64", 52), ("bfloat16", 7)])
def test_other_element_types(tmp_path: Path, dtype: str, bits: int) -> None:
    """Each number is the nearest of its type to the exact one: numpy rounds to bfloat16 by way of float32."""
    made = Made(tmp_path, dtype)
    made.adapter()
    found = made.merge()
    wide = {name: value.astype(np.float64) for name, value in made.state.items()}
    made.state, narrow = wide, made.state
    for name, exact in made.expected().items():
        half = 2.0 ** (np.frexp(np.abs(exact) + 1e-30)[1] - 2 - bits)
        assert found[name].dtype == narrow[name].dtype
        assert (np.abs(found[name].astype(np.float64) - exact) <= np.maximum(half, 2.0**-25)).all()


def test_a_tensorflow_base(made: Made) -> None:
    (made.folder / "tf").mkdir()
    cp.write_config(made.folder / "tf", cp.config(HEAD))
    base = cp.save_tf(made.folder / "tf", cp.tf_state(made.state), cp.keras_name(HEAD), "h5")
    made.adapter()
    merge_adapter(base, made.folder / "adapter", made.folder / "out", to="pt")
    cp.assert_same(cp.written(made.folder / "out"), made.expected())


def test_the_scale(made: Made) -> None:
    made.adapter(use_rslora=True)
    cp.assert_same(made.merge(), made.expected(ALPHA / math.sqrt(RANK)))


def test_ranks_and_alphas_of_their_own(made: Made) -> None:
    second = QUERY.format(1)
    made.tensors |= factors(second, made.state, 2)
    made.adapter(rank_pattern={"layer.1.attention.self.query": 2}, alpha_pattern={"^bert.encoder.layer.0.*query": 3})
    found, expected = made.merge(), made.expected()
    a, b = (made.tensors[f"{PREFIX}{second}.lora_{side}.weight"] for side in "AB")
    expected[f"{second}.weight"] = merged(made.state[f"{second}.weight"], a, b, ALPHA / 2)
    first = QUERY.format(0)
    a, b = (made.tensors[f"{PREFIX}{first}.lora_{side}.weight"] for side in "AB")
    expected[f"{first}.weight"] = merged(made.state[f"{first}.weight"], a, b, 3 / RANK)
    cp.assert_same(found, expected)


def test_embeddings(made: Made) -> None:
    made.tensors |= factors(WORDS, made.state)
    made.adapter(target_modules=["query", "word_embeddings"])
    expected = made.expected()
    a, b = (made.tensors[f"{PREFIX}{WORDS}.lora_embedding_{side}"] for side in "AB")
    expected[f"{WORDS}.weight"] = merged(made.state[f"{WORDS}.weight"], b.T, a.T, ALPHA / RANK)
    cp.assert_same(made.merge(), expected)


def test_modules_that_were_trained_as_a_whole_and_biases(made: Made) -> None:
    classifier = {leaf: numbers(*made.state[f"classifier.{leaf}"].shape, seed=9) for leaf in ("weight", "bias")}
    key = "bert.encoder.layer.0.attention.self.key.bias"
    own = QUERY.format(0) + ".bias"
    biases = {key: numbers(35, seed=7), own: numbers(35, seed=8)}
    made.tensors |= {f"{PREFIX}classifier.{leaf}": value for leaf, value in classifier.items()}
    made.tensors |= {f"{PREFIX}classifier.original_module.bias": numbers(11), f"{PREFIX}{key}": biases[key]}
    made.tensors |= {f"{PREFIX}classifier.modules_to_save.bias": classifier["bias"]}
    made.tensors |= {f"{PREFIX}{QUERY.format(0)}.base_layer.bias": biases[own]}
    made.adapter(modules_to_save=["classifier"], bias="all")
    replaced = {f"classifier.{leaf}": value for leaf, value in classifier.items()} | biases
    cp.assert_same(made.merge(), made.expected() | replaced)


def test_a_bias_of_the_product(made: Made) -> None:
    name = QUERY.format(1)
    made.tensors[f"{PREFIX}{name}.lora_B.bias"] = numbers(35, seed=5)
    made.adapter(lora_bias=True)
    expected = made.expected()
    added = made.tensors[f"{PREFIX}{name}.lora_B.bias"].astype(np.float64) * (ALPHA / RANK)
    bias = made.state[f"{name}.bias"]
    expected[f"{name}.bias"] = (bias.astype(np.float64) + added).astype(bias.dtype)
    cp.assert_same(made.merge(), expected)


@pytest.mark.parametrize("to", ["pt", "tf"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_weight_of_the_adapter_with_a_product(made: Made, to: str, dtype: str) -> None:
    """peft saves an embedding or a bias that was trained below LoRA beside its matrices: both count."""
    query = QUERY.format(0)
    whole = {WORDS + ".weight": numbers(101, 35, seed=7), query + ".bias": numbers(35, seed=8)}
    pair, bias = factors(WORDS, made.state), numbers(35, seed=9)
    below = {PREFIX + name.replace(f".{leaf}", f".base_layer.{leaf}"): value.astype(dtype)
             for name, value in whole.items() for leaf in [name.rpartition(".")[2]]}  # fmt: skip
    own = {**made.tensors, **pair, **below, f"{PREFIX}{query}.lora_B.bias": bias}
    made.adapter(own, target_modules=["word_embeddings", "query"], bias="all", lora_bias=True)
    found, expected = made.merge(to=to), made.expected()
    a, b = pair.values()
    table, there = (whole[name].astype(dtype).astype(np.float32) for name in (WORDS + ".weight", query + ".bias"))
    expected[WORDS + ".weight"] = merged(table, b.T, a.T, ALPHA / RANK)
    expected[query + ".bias"] = (there.astype(np.float64) + bias.astype(np.float64) * (ALPHA / RANK)).astype(np.float32)
    cp.assert_same(found, expected if to == "pt" else cp.tf_state(expected))


def test_copies_in_the_base_that_differ(tmp_path: Path) -> None:
    """As everywhere else: nothing says which of the two the model computes with."""
    state = small(cp.state_dict("BertForMaskedLM"))
    base = cp.save(tmp_path / "base", "BertForMaskedLM", {**state, cp.DECODER: state[cp.WORD] * 3})
    with pytest.raises(TiedTensorsDiffer):
        merge_adapter(base, save_adapter(tmp_path / "adapter", queries(state)), tmp_path / "out")


@pytest.mark.parametrize("factor", [1, 2])
def test_both_of_two_tied_tensors(tmp_path: Path, factor: int) -> None:
    """Both may be replaced by the same numbers; other ones, or a product for each, would be lost."""
    state = small(cp.state_dict("BertForMaskedLM"))
    base = cp.save(tmp_path / "base", "BertForMaskedLM", state)
    words = state[cp.WORD] * 2
    own = {**queries(state), PREFIX + cp.WORD: words, PREFIX + cp.DECODER: words * factor}
    adapter = save_adapter(tmp_path / "adapter", own, modules_to_save=["word_embeddings", "decoder"])
    if factor == 1:
        merge_adapter(base, adapter, tmp_path / "out")
        cp.assert_same({"": cp.written(tmp_path / "out")[cp.WORD]}, {"": words})
        return
    with pytest.raises(UnsupportedCheckpoint, match="no tensor of its own"):
        merge_adapter(base, adapter, tmp_path / "out")


@pytest.mark.parametrize(
    "base", ["/home/me/secret/model", "C:\\me\\secret\\model", "~/secret/model/", "../secret/model"]
)
def test_a_base_on_somebodys_disk(made: Made, base: str) -> None:
    made.adapter(base_model_name_or_path=base)
    made.merge()
    said = (made.folder / "out" / "bertconv.json").read_text()
    assert "trained on model" in said
    assert "secret" not in said


@pytest.mark.parametrize("labels", [11, 3])
def test_a_head_that_the_base_lacks(tmp_path: Path, labels: int) -> None:
    """Training began with a base model: the classifier is in the adapter alone."""
    made = Made(tmp_path)
    body = {name: value for name, value in made.state.items() if not name.startswith("classifier")}
    cp.save(tmp_path / "base", "BertModel", cp.bare(body))
    classifier = {"classifier.weight": numbers(labels, 35, seed=3), "classifier.bias": numbers(labels, seed=4)}
    made.tensors |= {PREFIX + name: value for name, value in classifier.items()}
    made.adapter(modules_to_save=["classifier", "score"])
    cp.assert_same(made.merge(), made.expected() | classifier)
    assert cp.config_of(tmp_path / "out")["architectures"] == [HEAD]
    assert len(cp.config_of(tmp_path / "out").get("id2label", range(labels))) == labels


def test_the_names_of_a_base_model(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.adapter(
        {name.replace(f"{PREFIX}bert.", PREFIX): value for name, value in made.tensors.items()}, task_type=None
    )
    cp.assert_same(made.merge(), made.expected())


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(query|nothing)", ["self.query"]])
def test_targets_said_in_other_ways(made: Made, targets: object) -> None:
    made.adapter(target_modules=targets)
    cp.assert_same(made.merge(), made.expected())


def test_what_is_put_on_record(made: Made) -> None:
    made.adapter()
    report = merge_adapter(made.base, made.folder / "adapter", made.folder / "out")
    manifest = json.loads((made.folder / "out" / "bertconv.json").read_text())
    assert manifest["operation"] == {"verb": "merge-adapter", "options": {}}
    assert [(one["role"], one["given"]) for one in manifest["parents"]] == [("base", "base"), ("adapter", "adapter")]
    assert all(one["digest"].startswith("sha256:") for one in manifest["parents"])
    assert not [path.name for path in (made.folder / "out").iterdir() if path.name.startswith("adapter")]
    states = {tensor.id: tensor.details for tensor in report.tensors}
    assert states["layer.0.query.weight"] == "merged"
    first = (made.folder / "out" / "model.safetensors").read_bytes()
    merge_adapter(made.base, made.folder / "adapter", made.folder / "again")
    assert (made.folder / "again" / "model.safetensors").read_bytes() == first


# What is refused, with nothing written


def without(part: str) -> Callable[[cp.Tensors], cp.Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def with_tensor(name: str, *shape: int) -> Callable[[cp.Tensors], cp.Tensors]:
    return lambda tensors: {**tensors, name: numbers(*shape)}


def same(tensors: cp.Tensors) -> cp.Tensors:
    return tensors


def untrained(tensors: cp.Tensors) -> cp.Tensors:
    return {name: value * ("lora_B" not in name) for name, value in tensors.items()}


REFUSED: list[tuple[Callable[[cp.Tensors], cp.Tensors], dict[str, Any], type[BertconvError], str]] = [
    (without("layer.1.attention.self.query.lora_B"), {}, MissingTensors, "no other half"),
    (without("layer.1."), {}, MissingTensors, "no matrices for modules"),
    (same, {"target_modules": ["query", "key"]}, MissingTensors, "no matrices for modules"),
    (
        with_tensor(f"{PREFIX}bert.encoder.layer.2.attention.self.query.lora_A.weight", 4, 35),
        {},
        UnknownTensors,
        "no m",
    ),
    (with_tensor(f"{PREFIX}bert.nothing.weight", 4, 35), {}, UnknownTensors, "no module for"),
    (with_tensor("plain", 4), {}, UnknownTensors, "no module for"),
    (same, {"r": 5}, ShapeMismatch, "config and base make it"),
    (same, {"rank_pattern": {"query": 3}}, ShapeMismatch, "config and base make it"),
    (with_tensor(f"{PREFIX}classifier.bias", 3), {}, ShapeMismatch, "the base has"),
    (untrained, {}, MappingError, "not changed by the adapter in a single element"),
    (same, {"use_dora": True}, UnsupportedCheckpoint, "use_dora"),
    (with_tensor(f"{PREFIX}bert.pooler.dense.lora_magnitude_vector", 35), {}, UnsupportedCheckpoint, "another formula"),
    (same, {"peft_type": "LOHA"}, UnsupportedCheckpoint, "kind 'LOHA'"),
    (same, {"peft_type": "ADALORA"}, UnsupportedCheckpoint, "ADALORA"),
    (same, {"init_lora_weights": "pissa"}, UnsupportedCheckpoint, "also changes the base"),
    (same, {"init_lora_weights": "olora"}, UnsupportedCheckpoint, "also changes the base"),
    (same, {"loftq_config": {"loftq_bits": 4}}, UnsupportedCheckpoint, "plain LoRA alone"),
    (same, {"trainable_token_indices": [1]}, UnsupportedCheckpoint, "plain LoRA alone"),
    (same, {"a_key_of_next_year": "yes"}, UnsupportedCheckpoint, "a_key_of_next_year"),
    (same, {"target_modules": "((a|b)+)+$"}, UnsupportedCheckpoint, "more than names"),
    (same, {"rank_pattern": {"(a*)*": 4}}, UnsupportedCheckpoint, "more than names"),
    (same, {"target_modules": "(" * 900 + "a" + ")" * 900}, UnsupportedCheckpoint, "more than names"),
    (same, {"rank_pattern": {f"layer.{number}": 4 for number in range(2001)}}, DamagedCheckpoint, "rank_pattern"),
    (
        lambda own: {**own, f"{PREFIX}{QUERY.format(0)}.lora_B.bias": numbers(3)},
        {"lora_bias": True},
        ShapeMismatch,
        "config and base make it",
    ),
    (same, {"target_modules": None}, DamagedCheckpoint, "target_modules is None"),
    (same, {"r": 0}, DamagedCheckpoint, "r is 0"),
    (same, {"lora_alpha": "much"}, DamagedCheckpoint, "lora_alpha is 'much'"),
    (same, {"bias": "some"}, DamagedCheckpoint, "bias is 'some'"),
    (same, {"layers_to_transform": ["a"]}, DamagedCheckpoint, "layers_to_transform"),
    (same, {"rank_pattern": [4]}, DamagedCheckpoint, "rank_pattern"),
    (same, {"modules_to_save": "all"}, DamagedCheckpoint, "modules_to_save"),
]


@pytest.mark.parametrize(("change", "keys", "error", "words"), REFUSED)
def test_what_is_refused(
    made: Made, change: Callable[[cp.Tensors], cp.Tensors], keys: dict[str, Any], error: type[BertconvError], words: str
) -> None:
    made.adapter(change(made.tensors), **keys)
    before = cp.snapshot(made.folder)
    with pytest.raises(error, match=words) as caught:
        made.merge()
    assert caught.value.hint
    assert cp.snapshot(made.folder) == before


@pytest.mark.parametrize("text", [".+" * 9 + "x", "(.|.)" * 50 + "x", "(a|a)" * 200])
def test_a_pattern_that_would_take_for_ever(text: str) -> None:
    """Each of them takes a matcher that goes back and tries again longer than anybody waits."""
    assert not Pattern.of(text).is_end("a" * 150)


def test_patterns_fit_what_regexes_fit() -> None:
    rng = np.random.default_rng(5)
    tried = 0
    for _ in range(3000):
        text = "".join(
            rng.choice(["a", "1", ".*", ".+", r"\.", ".", r"\d+", "(", ")", "|", "^", "$"], rng.integers(1, 9))
        )
        try:
            regex = re.compile(text)
        except re.error:
            with pytest.raises(ValueError, match=r"signs|groups"):
                Pattern.of(text)
            continue
        tried += 1
        name = "".join(rng.choice([*"a1."], rng.integers(0, 7)))
        assert Pattern.of(text).is_name(name) == bool(regex.fullmatch(name)), (text, name)
        assert Pattern.of(text).is_end(name) == bool(re.match(rf"(.*\.)?({text})$", name)), (text, name)
    assert tried > 1000


def test_an_adapter_that_lies_across(made: Made) -> None:
    """A matrix that torch saved as a view of its transpose: the same numbers, the same digest on record."""
    parents = []
    for container in ("safetensors", "bin"):
        adapter = made.adapter(container=container)
        if container == "bin":
            (adapter / "adapter_model.safetensors").unlink()
            across = {name: one.t().contiguous().t() for name, one in cp.torch_tensors(made.tensors).items()}
            (adapter / "adapter_model.bin").write_bytes(cp.torch_bytes(across))
        report = merge_adapter(made.base, adapter, made.folder / container)
        cp.assert_same(cp.written(made.folder / container), made.expected())
        parents.append(report.parents[1])
    assert parents[0] == parents[1]


def test_two_halves_of_one_bias_that_differ(made: Made) -> None:
    made.tensors |= {
        f"{PREFIX}classifier.bias": numbers(11),
        f"{PREFIX}classifier.modules_to_save.bias": numbers(11, seed=1),
    }
    made.adapter(modules_to_save=["classifier"])
    with pytest.raises(DamagedCheckpoint, match="two different tensors for classifier"):
        made.merge()


@pytest.mark.parametrize("tied", [True, False])
def test_one_of_two_tied_tensors(tmp_path: Path, tied: bool) -> None:
    """peft's merge would change the embeddings with the decoder."""
    head, name = "BertForMaskedLM", "cls.predictions.decoder"
    state = small(cp.state_dict(head))
    state[f"{name}.weight"] = state[f"{WORDS}.weight"]
    cp.save(tmp_path / "base", head, state, tie_word_embeddings=tied)
    save_adapter(tmp_path / "adapter", factors(name, state), target_modules=["decoder"], task_type=None)
    if tied:
        with pytest.raises(UnsupportedCheckpoint, match="computes with as one with embeddings"):
            merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")
    else:
        report = merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")
        assert [one.id for one in report.tensors if one.details == "merged"] == ["mlm.decoder.weight"]


@pytest.mark.parametrize("lacking", ["adapter_config.json", "adapter_model.safetensors"])
def test_no_adapter(made: Made, lacking: str) -> None:
    (made.adapter() / lacking).unlink()
    with pytest.raises(RequestError, match=f"holds no {lacking}"):
        made.merge()


def test_a_link_out_of_the_folder(made: Made) -> None:
    path = made.adapter() / "adapter_model.safetensors"
    path.rename(made.folder / "elsewhere")
    path.symlink_to(made.folder / "elsewhere")
    with pytest.raises(BertconvError, match="link"):
        made.merge()


def test_the_command(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.adapter()
    words = ("merge-adapter", made.base, made.folder / "adapter", "-o", made.folder / "out")
    assert cp.call(*words, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dry_run"]
    assert not (made.folder / "out").exists()
    assert cp.call(*words, "--quiet") == 0
    assert "nothing lost" in capsys.readouterr().out
    assert cp.call(*words) == 7
    made.adapter(use_dora=True)
    assert cp.call(*words, "--overwrite") == 6
    made.adapter(without("layer.1.")(made.tensors))
    assert cp.call(*words, "--overwrite") == 3
    cp.assert_same(cp.written(made.folder / "out"), made.expected())
