"""What a verification was asked for: its level, its limits, its seed and its inputs; and what it puts on record."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compared import Models

from bertconv import verify_checkpoint
from bertconv.errors import RequestError, UnsupportedCheckpoint
from bertconv.verify import outputs
from bertconv.verify.outputs import FACTOR, FLOOR, Limits

EXACT = {"level": "outputs", "dtypes": ("float64",)}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded, and models this small need none."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes modules look as if they were not installed."""

    def remove(*names: str) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return remove


@pytest.mark.parametrize(
    ("a", "b", "gone", "level"),
    [
        ("safetensors", "h5", (), "outputs"),
        ("safetensors", "h5", ("torch",), "weights"),
        ("safetensors", "h5", ("tensorflow",), "weights"),
        ("safetensors", "safetensors", ("tensorflow",), "outputs"),
        ("safetensors", "bin", ("torch",), "weights"),
        ("h5", "tf-safetensors", ("torch", "tokenizers"), "outputs"),
        ("h5", "h5", ("tensorflow",), "weights"),
    ],
)
def test_the_level_that_can_be_done(
    models: Models, absent: Callable[..., None], a: str, b: str, gone: tuple[str, ...], level: str
) -> None:
    absent(*gone)
    parity = verify_checkpoint(models("BertModel", a), models("BertModel", b), dtypes=("float64",))
    assert (parity.ok, parity.level) == (True, level)
    assert bool(parity.measurements) == (level == "outputs")
    assert parity.verdict().startswith("The same model" if level == "outputs" else "The same weights")


@pytest.mark.parametrize(("gone", "options", "name"), [
    ("torch", {}, "torch"), ("tensorflow", {}, "TensorFlow"),
    ("transformers", {"oracle": "transformers"}, "transformers"),
])  # fmt: skip
def test_what_is_asked_for_and_is_not_installed(
    models: Models, absent: Callable[..., None], gone: str, options: dict[str, str], name: str
) -> None:
    absent(gone)
    with pytest.raises(RequestError, match=f"{name} is not installed") as caught:
        verify_checkpoint(models(), models("BertModel", "h5"), **EXACT, **options)
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("options", [{"level": "all"}, {"oracle": "keras"}, {"dtypes": ("float32", "int8")}])
def test_what_is_none_of_the_choices(models: Models, options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"is '(all|keras|int8)'") as caught:
        verify_checkpoint(models(), models(), **options)
    assert caught.value.hint.startswith("Choose from ")


def test_max_error(models: Models) -> None:
    """A number of the caller's own lets pass what is not the same, and no more than that."""
    a, b = models(), models("BertModel", "h5", layer_norm_eps=1e-3)
    strict = verify_checkpoint(a, b, **EXACT)
    assert not strict.outputs_ok
    loose = verify_checkpoint(a, b, max_error=0.5, **EXACT)
    assert loose.outputs_ok
    assert loose.limits["max_error"] == 0.5
    assert {one.limit for one in loose.measurements} == {None, 0.5}
    hidden = verify_checkpoint(a, b, max_error=0.5, max_hidden_error=1e-9, **EXACT)
    assert {one.kind for one in hidden.measurements if not one.ok} >= {"hidden state"}
    assert all(one.ok for one in hidden.measurements if one.kind == "output")


def test_progress(models: Models) -> None:
    reported: list[tuple[str, int, int]] = []
    parity = verify_checkpoint(
        models(), models("BertModel", "h5"), level="outputs", progress=lambda *step: reported.append(step)
    )
    weights, runs = ([step[1:] for step in reported if step[0] == name] for name in ("weights", "outputs"))
    assert [one[0] for one in weights] == sorted(one[0] for one in weights)
    assert weights[-1] == (weights[0][1],) * 2
    assert runs == [(number, 4) for number in range(5)]
    assert len(weights) + len(runs) == len(reported)
    assert parity.dtypes == ("float64", "float32")


def test_what_is_put_on_record(models: Models) -> None:
    a, b = models(), models("BertModel", "h5")
    parity = verify_checkpoint(a, b, seed=7, level="outputs")
    assert parity.command == f"bertconv verify {a} {b} --level outputs --seed 7"
    assert (parity.a.given, parity.b.given) == (str(a), str(b))
    assert (parity.a.container, parity.b.container) == ("safetensors", "hdf5")
    assert parity.a.files == {"model.safetensors": (a / "model.safetensors").stat().st_size}
    assert [case.seed for case in parity.cases] == [7, 8, 9]
    assert parity.limits == {"float64": Limits().same_function, "factor": FACTOR, "floor float32": FLOOR["float32"]}
    assert parity.versions.keys() == {"bertconv", "Python", "numpy", "torch", "TensorFlow", "Keras"}
    assert parity.seconds > 0
    assert json.dumps(parity.to_json())


def test_the_seed_decides_the_inputs(models: Models) -> None:
    def errors(seed: int) -> list[float]:
        parity = verify_checkpoint(models(), models("BertModel", "h5"), level="outputs", seed=seed)
        return [one.a for one in parity.measurements]

    assert errors(3) == errors(3) != errors(4)


# Tokenizers


def test_sentences_are_among_the_inputs(models: Models, tmp_path: Path) -> None:
    a = shutil.copytree(models(max_position_embeddings=29), tmp_path / "a")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "same"]
    (a / "vocab.txt").write_text("\n".join(words))
    parity = verify_checkpoint(a, models("BertModel", "h5", max_position_embeddings=29), **EXACT)
    assert parity.ok, parity.failure_text()
    assert "sentences" in [case.name for case in parity.cases]
    assert parity.notes == ("A: rows 7 to 16 of the embedding table are no token's: padding rows",)


def test_a_broken_tokenizer_is_noted(models: Models, tmp_path: Path) -> None:
    a = shutil.copytree(models(max_position_embeddings=29), tmp_path / "a")
    (a / "tokenizer.json").write_text("{")
    parity = verify_checkpoint(a, models("BertModel", "h5", max_position_embeddings=29), **EXACT)
    assert parity.ok
    broken, unused = parity.notes
    assert broken.startswith("A: tokenizer.json is not sound JSON: ")
    assert unused == "tokenizer.json cannot be used, so the inputs hold no sentences"


def test_oracles_are_for_pytorch_weights(models: Models) -> None:
    """TensorFlow on both sides needs none."""
    head = "BertModel"
    relative = {"position_embedding_type": "relative_key"}
    assert verify_checkpoint(models(head, "h5", **relative), models(head, "h5", **relative), oracle="transformers",
                             **EXACT).ok  # fmt: skip
    with pytest.raises(UnsupportedCheckpoint):
        verify_checkpoint(models(head, **relative), models(head, "h5", **relative), oracle="transformers", **EXACT)
