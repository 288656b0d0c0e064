"""A conversion that cannot be proven, or turns out wrong: what is said, what is kept, and what is written anyway."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import planted
import pytest
from compared import Models

from bertconv import convert_checkpoint
from bertconv.derive import _Work
from bertconv.errors import BertconvError, OutputError, ParityError, RequestError
from bertconv.table_files import tables_folder
from bertconv.verify import outputs


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded, and models this small need none."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


# What is not the same model is not kept


def wrong_class(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant("bertconv.models.layers:LayerNorm", "call", planted.other_epsilon)(monkeypatch)


def after_writing(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]) -> None:
    """Change the folder that was written, after its tensors were read back."""
    real = _Work.write_companions

    def write(self: Any, staged: Any) -> None:
        real(self, staged)
        change(staged.path)

    monkeypatch.setattr(_Work, "write_companions", write)


def wrong_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(folder: Path) -> None:
        arrays = planted.arrays_of(folder / "tf_model.h5")
        planted.transposed(planted.at(1, f"{planted.KEY}kernel"))(arrays)
        planted.write_arrays(folder / "tf_model.h5", arrays)

    after_writing(monkeypatch, change)


def wrong_config(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_bytes())
        (folder / "config.json").write_text(json.dumps({**content, "hidden_act": "relu"}))

    after_writing(monkeypatch, change)


FAULTS = {
    wrong_class: ("first at embeddings.norm", "layer-norm epsilon"),
    wrong_weights: ("first at layer.1.key: layer.1.key.weight differs", "transposed"),
    wrong_config: ("first at layer.0.activation", "hidden_act"),
}


@pytest.mark.parametrize("verify", ["outputs", "auto"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_not_kept(
    models: Models, fault: Callable[[pytest.MonkeyPatch], None], verify: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fault(monkeypatch)
    with pytest.raises(ParityError) as caught:
        convert_checkpoint(models("BertModel"), tmp_path / "b", verify=verify, report_file=tmp_path / "page.html")
    where, cause = FAULTS[fault]
    assert caught.value.exit_code == 1
    assert caught.value.message.startswith(f"Not the same model: {where}")
    assert "Likely cause: " in caught.value.message
    assert cause in caught.value.message or cause.split("-", maxsplit=1)[0] in caught.value.message
    assert caught.value.file == str(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "Not the same model" in (tmp_path / "page.html").read_text()


def test_an_earlier_output_stays(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_checkpoint(models("BertModel"), tmp_path / "b", verify="weights")
    before = cp.snapshot(tmp_path)
    wrong_class(monkeypatch)
    with pytest.raises(ParityError):
        convert_checkpoint(models("BertModel"), tmp_path / "b", verify="outputs", overwrite=True)
    assert cp.snapshot(tmp_path) == before


def test_weights_alone_do_not_see_it(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults above are of the kind that reading back cannot find."""
    wrong_class(monkeypatch)
    wrong_config(monkeypatch)
    assert convert_checkpoint(models("BertModel"), tmp_path / "b", verify="weights").verified == "weights"


# The report


def test_the_report_is_written(models: Models, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>an earlier one</html>")
    convert_checkpoint(models("BertModel"), tmp_path / "b", verify="outputs", report_file=page)
    text = page.read_text()
    assert "an earlier one" not in text
    assert "The same model" in text
    assert str(tmp_path / "b") in text
    assert page.stat().st_mode & 0o777 == (tmp_path / "b" / "config.json").stat().st_mode & 0o777
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "page.html"]


@pytest.mark.parametrize(
    ("place", "words"), [("nowhere/page.html", "the report could not be written"), (".", "is no regular file")]
)
def test_a_report_that_cannot_be_written(models: Models, place: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=words) as caught:
        convert_checkpoint(models("BertModel"), tmp_path / "b", verify="outputs", report_file=tmp_path / place)
    assert isinstance(caught.value, BertconvError)
    assert caught.value.exit_code == 7
    assert caught.value.file == str(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", ["BertModel", "BertForPreTraining"])
def test_a_report_without_outputs_shows_the_weights(models: Models, head: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report = convert_checkpoint(models(head), tmp_path / "b", verify="weights", report_file=page)
    assert (report.verified, report.parity) == ("weights", {})
    text = page.read_text()
    assert "The same weights" in text
    assert str(tmp_path / "b") in text


def test_a_report_of_no_comparison_is_refused(models: Models, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--verify none makes none"):
        convert_checkpoint(models("BertModel"), tmp_path / "b", verify="none", report_file=tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_replaces_nothing_else(models: Models, tmp_path: Path) -> None:
    weights = shutil.copy(models("BertModel") / "model.safetensors", tmp_path / "mine")
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError, match="exists and is no report"):
        convert_checkpoint(models("BertModel"), tmp_path / "b", verify="outputs", report_file=weights)
    assert cp.snapshot(tmp_path) == before


# Outputs that cannot be compared


def obstacles(models: Models, folder: Path) -> dict[str, tuple[Path, dict[str, Any], str]]:
    """Why -> source, options, and what is said."""
    own = folder / "tables"
    if not own.exists():
        shutil.copytree(tables_folder(), own)
    return {
        "own table": (models("BertModel"), {"table": own / "bert.toml"}, "the mapping table is not bertconv's own"),
        "ignored": (
            models("BertModel", without="layer.1.output.dense.bias"), {"ignore_missing": ["output.dense.bias"]},
            "tensors are missing that an ignore list allows to be",
        ),
        "fresh pooler": (
            models("BertModel", without="pooler"), {"init_missing": True, "head": "BertModel"},
            "pooler was newly initialised",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("why", ["own table", "ignored", "fresh pooler"])
def test_what_cannot_be_compared_is_noted(models: Models, why: str, tmp_path: Path) -> None:
    source, options, sentence = obstacles(models, tmp_path)[why]
    report = convert_checkpoint(source, tmp_path / "b", verify="auto", **options)
    assert (report.verified, report.parity) == ("weights", {})
    assert f"outputs were not compared: {sentence}" in report.notes
    assert (
        f"outputs were not compared: {sentence}" in json.loads((tmp_path / "b" / "bertconv.json").read_bytes())["notes"]
    )


@pytest.mark.parametrize("why", ["own table", "ignored", "fresh pooler"])
def test_what_cannot_be_compared_is_refused_where_it_must(models: Models, why: str, tmp_path: Path) -> None:
    source, options, sentence = obstacles(models, tmp_path)[why]
    with pytest.raises(RequestError, match=re.escape(f"outputs cannot be compared: {sentence}.")) as caught:
        convert_checkpoint(source, tmp_path / "b", verify="outputs", **options)
    assert "--verify weights" in caught.value.hint
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("gone", ["torch", "tensorflow"])
@pytest.mark.parametrize("verify", ["auto", "outputs"])
def test_without_frameworks(
    models: Models, gone: str, verify: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == gone else find(name))
    if verify == "outputs":
        with pytest.raises(RequestError, match="is not installed"):
            convert_checkpoint(models("BertModel"), tmp_path / "b", verify=verify)
        assert list(tmp_path.iterdir()) == []
        return
    report = convert_checkpoint(models("BertModel"), tmp_path / "b", verify=verify)
    assert report.verified == "weights"
    name = {"torch": "PyTorch", "tensorflow": "TensorFlow"}[gone]
    assert f"outputs were not compared: {name} is not installed" in report.notes
