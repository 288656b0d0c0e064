"""assert_parity(): folders, files and models in memory, what it returns, and what a failing test shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from bertconv.errors import BertconvError, OutputError, RequestError
from bertconv.testing import assert_parity

pytest_plugins = ["pytester"]

HEAD = "BertForSequenceClassification"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in three formats, and another one."""
    root, tensors = tmp_path_factory.mktemp("parity"), checkpoints.state_dict(HEAD)
    found = {name: checkpoints.save(root / name, HEAD, tensors, name) for name in ("safetensors", "h5", "bin")}
    changed = {**tensors, "bert.pooler.dense.weight": tensors["bert.pooler.dense.weight"].T}
    return {**found, "other": checkpoints.save(root / "other", HEAD, changed)}


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("b", ["h5", "bin"])
def test_the_same_model_passes(folders: dict[str, Path], b: str, kind: type) -> None:
    parity = assert_parity(kind(folders["safetensors"]), kind(folders[b]), level="weights")
    assert parity.ok
    assert (parity.a.given, parity.b.given) == (str(folders["safetensors"]), str(folders[b]))
    assert parity.command.startswith(f"bertconv verify {folders['safetensors']} {folders[b]} --level weights")


def test_another_model_is_an_assertion_error_that_says_where_and_why(folders: dict[str, Path]) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_parity(folders["safetensors"], folders["other"], level="weights")
    text = str(caught.value)
    assert text.startswith("Not the same model: first at pooler.dense: pooler.dense.weight differs in ")
    assert "Likely cause: " in text
    assert "transposed" in text
    assert text.endswith("1 of 41 tensors differ:\n  pooler.dense.weight")


@pytest.mark.parametrize("b", ["h5", "other"])
def test_the_report_is_written_whatever_the_outcome(folders: dict[str, Path], tmp_path: Path, b: str) -> None:
    page = tmp_path / "parity.html"
    if b == "other":
        with pytest.raises(AssertionError):
            assert_parity(folders["safetensors"], folders[b], report=page, level="weights")
    else:
        assert_parity(folders["safetensors"], folders[b], report=str(page), level="weights")
    assert ("Not the same model" in page.read_text()) == (b == "other")


def test_options_are_those_of_verify_checkpoint(folders: dict[str, Path]) -> None:
    assert assert_parity(folders["bin"], folders["h5"], level="weights", head="BertModel").head == "BertModel"
    with pytest.raises(TypeError, match="tolerance"):
        assert_parity(folders["bin"], folders["h5"], tolerance=1)
    with pytest.raises(RequestError, match="level is 'all'"):
        assert_parity(folders["bin"], folders["h5"], level="all")


def test_what_cannot_be_compared_is_no_assertion_error(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BertconvError):
        assert_parity(folders["bin"], tmp_path, level="weights")
    with pytest.raises(OutputError):
        assert_parity(folders["bin"], folders["h5"], level="weights", report=tmp_path / "nowhere" / "parity.html")


def test_pytest_shows_the_line_of_the_test_and_not_ours(folders: dict[str, Path], pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        from bertconv.testing import assert_parity

        def test_it():
            assert_parity({str(folders["bin"])!r}, {str(folders["other"])!r}, level="weights")
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "Not the same model: first at pooler.dense" in text
    assert "raise AssertionError" not in text
    assert "verification.py" not in text


def test_importing_it_loads_no_framework(folders: dict[str, Path]) -> None:
    code = (
        "import sys, bertconv.testing\n"
        "print(*sorted({'numpy', 'torch', 'tensorflow', 'transformers', 'h5py'} & sys.modules.keys()))\n"
        "bertconv.testing.assert_parity(*sys.argv[1:], level='weights')\n"
        "print(*sorted({'torch', 'tensorflow', 'keras', 'transformers'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folders["safetensors"], folders["h5"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == []


class Saved:
    """A model in memory, as far as assert_parity knows: it can save itself."""

    def __init__(self, container: str, seed: int = 0) -> None:
        self.container = container
        self.seed = seed
        self.places: list[Path] = []

    def save_pretrained(self, folder: str) -> None:
        self.places.append(Path(folder))
        checkpoints.save(Path(folder), HEAD, checkpoints.state_dict(HEAD, seed=self.seed), self.container)


def test_a_model_in_memory_is_saved_for_as_long_as_it_takes(folders: dict[str, Path]) -> None:
    model, other = Saved("h5"), Saved("safetensors")
    parity = assert_parity(model, other, level="weights")
    assert parity.a.given == parity.b.given == "Saved in memory"
    assert parity.command == ""
    assert [len(one.places) for one in (model, other)] == [1, 1]
    assert not any(place.exists() or place.parent.exists() for place in (*model.places, *other.places))
    assert assert_parity(folders["bin"], model, level="weights").a.given == str(folders["bin"])


def test_its_folder_goes_when_the_comparison_fails(tmp_path: Path) -> None:
    model = Saved("h5", seed=5)
    page = tmp_path / "parity.html"
    with pytest.raises(AssertionError):
        assert_parity(Saved("h5"), model, level="weights", report=page)
    assert not model.places[0].parent.exists()
    assert "Saved in memory" in page.read_text()
    assert str(model.places[0].parent) not in page.read_text()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A PyTorch model of transformers, and ours made from it."""
    from tiny_models import save, tf_class, torch_model

    folder = tmp_path_factory.mktemp("models") / "torch"
    model = torch_model(HEAD).float()
    return model, tf_class(HEAD).from_pretrained(save(model, folder))


def test_models_of_both_frameworks(models: tuple[Any, Any], tmp_path: Path) -> None:
    page = tmp_path / "parity.html"
    parity = assert_parity(*models, level="outputs", report=page)
    assert (parity.a.given, parity.b.given) == (f"{HEAD} in memory", f"TF{HEAD} in memory")
    assert (parity.a.dialect, parity.b.dialect) == ("pt", "tf")
    assert parity.dtypes == ("float64", "float32")
    assert "TF" + HEAD in page.read_text()


def test_a_trained_model_is_another_one(models: tuple[Any, Any]) -> None:
    model, ours = models
    kept = model.classifier.bias.detach().clone()
    try:
        model.classifier.bias.data[2] += 0.25
        with pytest.raises(AssertionError, match=r"classifier\.dense\.bias differs in one element, by up to 0\.25"):
            assert_parity(model, ours, level="weights")
    finally:
        model.classifier.bias.data[:] = kept
