"""What a verification says of two checkpoints: as which class they are the same, and what it is that differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
from compared import QUERY, SMALL, Models, tiny

from bertconv import verify_checkpoint
from bertconv.errors import RequestError
from bertconv.verify import outputs
from bertconv.verify.parity import Parity
from bertconv.verify.tensorflow_runner import TensorFlowRunner
from bertconv.verify.torch_runner import TorchRunner

EXACT = {"level": "outputs", "dtypes": ("float64",)}
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded, and models this small need none."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


def seen(parity: Parity) -> tuple[bool, str | None, str | None, list[str]]:
    """Same or not, the first place that differs, how that is known, the causes."""
    broken = parity.divergence
    return parity.ok, broken and broken.place, broken and broken.evidence, [cause.name for cause in parity.causes]


# As which class


@pytest.mark.parametrize(("a", "b"), [("safetensors", "h5"), ("h5", "safetensors")])
def test_one_class_of_two(a: str, b: str, tmp_path: Path) -> None:
    """Pre-training holds all of MaskedLM: compared as that they are the same, the rest is said to be left out."""
    every = tiny("BertForPreTraining", std=0.3, num_hidden_layers=2)
    part = {name: value for name, value in every.items() if "pooler" not in name and "seq_relationship" not in name}
    large = cp.save(tmp_path / "large", "BertForPreTraining", every, a, **SMALL)
    small = cp.save(tmp_path / "small", "BertForMaskedLM", part, b, **SMALL)
    for one, other, label in ((large, small, "A"), (small, large, "B")):
        parity = verify_checkpoint(one, other, head="BertForMaskedLM", **EXACT)
        assert parity.ok, parity.failure_text()
        assert parity.head == "BertForMaskedLM"
        assert len(parity.left_out) == 4
        assert all(name.startswith(f"{label}: ") for name in parity.left_out)
    assert verify_checkpoint(large, small, **EXACT).head == "BertForMaskedLM"


def test_a_class_that_a_does_not_fill(models: Models) -> None:
    parity = verify_checkpoint(models("BertForMaskedLM"), models("BertForPreTraining"), **EXACT)
    assert parity.head == "BertForPreTraining"
    only = {tensor.id for tensor in parity.tensors if tensor.state == "only in B"}
    assert only == {*POOLER, "nsp.dense.weight", "nsp.dense.bias"}
    assert not parity.ok


def test_an_unknown_class(models: Models) -> None:
    with pytest.raises(RequestError, match="BertForNothing"):
        verify_checkpoint(models(), models(), head="BertForNothing")


# Tensors that are missing, or of another shape


@pytest.mark.parametrize("without", ["layer.1.attention.self.query.weight", "LayerNorm.bias", "pooler"])
@pytest.mark.parametrize("lacking", ["a", "b"])
def test_a_tensor_missing_on_one_side(models: Models, without: str, lacking: str) -> None:
    whole, less = models("BertModel"), models("BertModel", "h5", without=without)
    parity = verify_checkpoint(*((less, whole) if lacking == "a" else (whole, less)), **EXACT)
    missing = [tensor for tensor in parity.tensors if not tensor.ok]
    assert {tensor.state for tensor in missing} == {"only in B" if lacking == "a" else "only in A"}
    assert parity.notes[-1].startswith("outputs were not compared: a tensor is missing on one side")
    assert (parity.measurements, parity.cases, parity.dtypes) == ((), (), ())
    assert parity.divergence is not None
    assert (parity.divergence.place, parity.divergence.evidence) == (missing[0].module, "weights")
    assert missing[0].id in parity.verdict()


@pytest.mark.parametrize("order", [1, -1])
def test_a_tensor_of_another_shape(models: Models, order: int) -> None:
    """More words on one side: ids of one are none of the other, so outputs cannot be compared."""
    a, b = (models("BertForMaskedLM"), models("BertForMaskedLM", "h5", vocab_size=23))[::order]
    parity = verify_checkpoint(a, b, **EXACT)
    assert seen(parity)[:3] == (False, "embeddings.word", "weights")
    assert {tensor.id for tensor in parity.tensors if tensor.first is None and not tensor.ok} == {
        "embeddings.word.weight", "mlm.bias.value",
    }  # fmt: skip
    assert "has another shape" in parity.notes[-1]
    assert "the shape in A is" in parity.verdict()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_broken_on_both_sides_alike(tmp_path: Path, value: float) -> None:
    """The weights are equal, and there is nothing to compute: TensorFlow and PyTorch make different NaN of it."""
    state = cp.state_dict("BertModel", **SMALL)
    state[QUERY][0, 3] = value
    for name, container in (("a", "safetensors"), ("b", "h5")):
        cp.save(tmp_path / name, "BertModel", state, container, **SMALL)
    parity = verify_checkpoint(tmp_path / "a", tmp_path / "b", **EXACT)
    assert parity.ok
    assert (parity.level, parity.measurements, parity.causes) == ("weights", (), ())
    assert "layer.1.query.weight is not finite" in parity.notes[-1]
    assert parity.verdict().startswith("The same weights")


def test_more_layers_in_b(models: Models) -> None:
    parity = verify_checkpoint(models("BertModel"), models("BertModel", num_hidden_layers=3), **EXACT)
    assert {tensor.id.split(".")[1] for tensor in parity.tensors if tensor.state == "only in B"} == {"2"}
    assert not parity.ok


def test_other_weights(models: Models) -> None:
    parity = verify_checkpoint(models("BertModel"), models("BertModel", "h5", seed=1), **EXACT)
    assert seen(parity) == (False, "embeddings.word", "weights", [])
    assert not parity.outputs_ok
    assert parity.verdict().startswith(
        "Not the same model: first at embeddings.word: embeddings.word.weight differs in"
    )
    assert f"{len(parity.tensors)} of {len(parity.tensors)} tensors differ" in parity.failure_text()


# Configs that differ

KEYS = {
    "hidden_act": ("relu", "layer.0.activation", "activation"),
    "layer_norm_eps": (1e-3, "embeddings.norm", "layer-norm epsilon"),
    "is_decoder": (True, "layer.0.attention", "causal mask"),
    "num_attention_heads": (2, "layer.0.attention", "number of heads"),
}


@pytest.fixture
def changed(models: Models, tmp_path: Path) -> Callable[..., Path]:
    """A folder of the fixture with other config keys."""

    def change(head: str, container: str, keys: dict[str, Any], **changes: Any) -> Path:
        folder = shutil.copytree(models(head, container, **changes), tmp_path / "changed")
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **keys}))
        return folder

    return change


@pytest.mark.parametrize("container", ["safetensors", "h5"])
@pytest.mark.parametrize("key", KEYS)
def test_a_config_that_differs(models: Models, changed: Callable[..., Path], key: str, container: str) -> None:
    value, place, cause = KEYS[key]
    parity = verify_checkpoint(models("BertForMaskedLM"), changed("BertForMaskedLM", container, {key: value}), **EXACT)
    assert seen(parity) == (False, place, "outputs", [cause])
    assert parity.weights_ok
    assert [(one.key, one.b) for one in parity.config] == [(key, value)]
    assert repr(value) in parity.causes[0].sentence


@pytest.mark.parametrize("key", KEYS)
def test_a_config_that_differs_is_seen_in_the_weights_level(
    models: Models, changed: Callable[..., Path], key: str
) -> None:
    value, _, cause = KEYS[key]
    parity = verify_checkpoint(models(), changed("BertModel", "h5", {key: value}), level="weights")
    assert seen(parity) == (False, "config", "config", [cause])
    assert key in parity.verdict()


def test_an_untied_decoder_is_tied(models: Models, changed: Callable[..., Path]) -> None:
    """B's file has both, and its config ties them, which is refused; without the decoder it is another model."""
    head, untied = "BertForMaskedLM", {"tie_word_embeddings": False}
    a = models(head, **untied)
    b = changed(head, "h5", {"tie_word_embeddings": True}, **untied, without="decoder")
    parity = verify_checkpoint(a, b, **EXACT)
    assert not parity.ok
    assert "tied decoder" in seen(parity)[3]


def test_other_keys_are_no_difference(models: Models, changed: Callable[..., Path]) -> None:
    keys = {"hidden_dropout_prob": 0.3, "initializer_range": 0.5, "architectures": None, "my_key": [1, 2]}
    assert verify_checkpoint(models(), changed("BertModel", "h5", keys), **EXACT).ok


def test_configs_may_be_given(models: Models, changed: Callable[..., Path], tmp_path: Path) -> None:
    """Each for its own side."""
    wrong = changed("BertModel", "h5", {"hidden_act": "relu"})
    right = models() / "config.json"
    assert verify_checkpoint(models(), wrong, config_b=right, **EXACT).ok
    assert verify_checkpoint(wrong, models(), config_a=right, **EXACT).ok
    assert not verify_checkpoint(models(), wrong, config_a=right, **EXACT).ok
    other = shutil.copy(wrong / "config.json", tmp_path / "other.json")
    assert not verify_checkpoint(models(), models(), config_b=other, level="weights").ok


# Gradients


@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForQuestionAnswering", "BertForMultipleChoice"])
def test_gradients(models: Models, head: str) -> None:
    parity = verify_checkpoint(models(head), models(head, "h5"), level="gradients", dtypes=("float64",))
    assert parity.ok, parity.failure_text()
    assert {one.id for one in parity.gradients} == {tensor.id for tensor in parity.tensors}
    assert max(one.error for one in parity.gradients) < 1e-12
    assert "gradients equal to" in parity.verdict()


@pytest.mark.parametrize("runner", [TorchRunner, TensorFlowRunner])
def test_a_wrong_gradient(models: Models, runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runner.gradients

    def wrong(self: Any, *arguments: Any) -> Any:
        found = real(self, *arguments)
        return {**found, "layer.1.ffn_in.bias": 1.001 * found["layer.1.ffn_in.bias"]}

    monkeypatch.setattr(runner, "gradients", wrong)
    parity = verify_checkpoint(models(), models("BertModel", "h5"), level="gradients", dtypes=("float64",))
    assert seen(parity)[:3] == (False, "layer.1.ffn_in.bias", "gradients")
    assert "the gradient of layer.1.ffn_in.bias differs by 1.0e-03" in parity.verdict()
    assert not parity.outputs_ok
    assert all(one.ok for one in parity.measurements)
