"""What Google's config means: to conversions, and to the classes that load TensorFlow 1 checkpoints."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv import BertConfig, TFBertForMaskedLM, convert_checkpoint, verify_checkpoint
from bertconv.errors import UnsupportedCheckpoint

OURS = ("model_type", "architectures", "layer_norm_eps")
"""Keys that Google's configs have not."""


def google(folder: Path, head: str, name: str = "bert_config.json", act: str = "gelu") -> Path:
    """A TensorFlow 1 checkpoint with nothing beside it but a config as Google's code writes it."""
    src = cp.save(folder / "in", head, cp.state_dict(head, seed=3), hidden_act=act)
    convert_checkpoint(src, folder / "tf1", to="tf1", verify="none")
    keys = cp.config_of(folder / "tf1")
    for path in (folder / "tf1").glob("*.json"):
        path.unlink()
    cp.write_config(folder / "tf1", {key: value for key, value in keys.items() if key not in OURS}, name)
    return folder / "tf1"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return google(tmp_path_factory.mktemp("bert"), "BertForMaskedLM")


@pytest.mark.parametrize(
    ("head", "act", "name"),
    [("BertForMaskedLM", "gelu_new", "bert_config.json"), ("AlbertForMaskedLM", "gelu_new", "albert_config.json"),
     ("ElectraForPreTraining", "gelu", "bert_config.json")],
)  # fmt: skip
def test_gelu_is_what_the_family_s_code_computes(head: str, act: str, name: str, tmp_path: Path) -> None:
    src = google(tmp_path, head, name)
    report = convert_checkpoint(src, tmp_path / "pt", to="pt")
    assert cp.config_of(tmp_path / "pt")["hidden_act"] == act
    said = 'TensorFlow 1 computes gelu_new ("gelu" in its config) -> PyTorch computes gelu_new'
    assert report.functions() == (said if act != "gelu" else "")
    assert verify_checkpoint(src, tmp_path / "pt", level="weights").ok


def test_the_config_of_google_s_is_written_in_its_words(tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict("BertModel", seed=3), hidden_act="gelu_new")
    report = convert_checkpoint(src, tmp_path / "tf1", to="tf1")
    assert not any("computes" in note for note in report.notes)
    own = json.loads((tmp_path / "tf1" / "bert_config.json").read_text())
    assert (own["hidden_act"], cp.config_of(tmp_path / "tf1")["hidden_act"]) == ("gelu", "gelu_new")


@pytest.mark.parametrize("changes", [{"hidden_act": "silu"}, {"layer_norm_eps": 1e-5}], ids=str)
def test_google_s_code_cannot_compute_every_model(changes: dict[str, object], tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict("BertModel", seed=3), **changes)
    with pytest.raises(UnsupportedCheckpoint, match=next(iter(changes))):
        convert_checkpoint(src, tmp_path / "tf1", to="tf1")


def loaded(path: Path, **options: object) -> tuple[str, list[str]]:
    """The activation of a model that was loaded, and what was warned of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = TFBertForMaskedLM.from_pretrained(path, **options)
    return model.config.hidden_act, [str(one.message) for one in caught if "gelu" in str(one.message)]


def test_a_class_computes_what_google_s_code_does_and_says_so_once(bert: Path) -> None:
    act, (said,) = loaded(bert)
    assert (act, said.count("the tanh form of gelu")) == ("gelu_new", 1)


def test_the_caller_of_a_class_decides(bert: Path) -> None:
    assert loaded(bert, hidden_act="gelu") == ("gelu", [])
    assert loaded(bert, hidden_act="gelu_new") == ("gelu_new", [])
    config = BertConfig.from_pretrained(bert)
    assert loaded(bert, config=BertConfig(**config.to_dict())) == ("gelu", [])


def test_weights_go_into_a_model_that_computes_what_it_was_built_to(bert: Path) -> None:
    model = TFBertForMaskedLM(BertConfig.from_pretrained(bert))
    model.build_in_name_scope()
    model.load_weights(bert / "bert_model.ckpt.index")
    assert model.config.hidden_act == "gelu"
