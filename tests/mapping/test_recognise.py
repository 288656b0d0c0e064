"""Which family a checkpoint is of: what its config and its names say together, apart, and against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest

from bertconv import convert_checkpoint, inspect_checkpoint, verify_checkpoint
from bertconv import families as module
from bertconv.errors import AmbiguousFamily, BertconvError, RequestError, UnknownTensors, UnsupportedCheckpoint
from bertconv.families import families, find_family
from bertconv.report import Report

BASES = {family.model_type: next(iter(family.tasks)) for family in families().values()}


def converted(src: Path, **options: Any) -> Report:
    return convert_checkpoint(src, src.parent / "out", verify="none", dry_run=True, **options)


def saved(folder: Path, head: str, **changes: Any) -> Path:
    return cp.save(folder / "in", head, cp.state_dict(head), **changes)


def full(folder: Path, head: str, **changes: Any) -> Path:
    """A file whose names have the base's prefix, as every head's but the base model's."""
    src = saved(folder, head, **changes)
    (src / "model.safetensors").write_bytes(cp.safetensors_bytes(cp.state_dict(head), {"format": "pt"}))
    return src


@pytest.mark.parametrize("model_type", BASES)
def test_the_config_decides(model_type: str, tmp_path: Path) -> None:
    """Also where the names are bare and several families have them."""
    src = saved(tmp_path, BASES[model_type], architectures=None)
    assert converted(src).head == BASES[model_type]
    assert inspect_checkpoint(src).family == model_type


@pytest.mark.parametrize("model_type", BASES)
def test_architectures_decide_without_a_model_type(model_type: str, tmp_path: Path) -> None:
    src = saved(tmp_path, BASES[model_type], model_type=None)
    assert converted(src).head == BASES[model_type]


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra", "mpnet", "albert"])
def test_the_base_s_prefix_decides_without_either(model_type: str, tmp_path: Path) -> None:
    src = full(tmp_path, BASES[model_type], model_type=None, architectures=None)
    assert converted(src).head == BASES[model_type]


@pytest.mark.parametrize("head", ["DistilBertForMaskedLM", "XLMRobertaForMaskedLM", "MPNetForMaskedLM"])
def test_the_scope_of_keras_decides_between_duplicates(head: str, tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", head, cp.state_dict(head), "h5", model_type=None, architectures=None)
    assert inspect_checkpoint(src).family == cp.table_of(head).model_type
    assert converted(src, to="pt").head == head


def test_bare_names_of_several_families_are_refused_with_their_list(tmp_path: Path) -> None:
    src = saved(tmp_path, "BertModel", model_type=None, architectures=None)
    with pytest.raises(AmbiguousFamily, match="named as those of BERT, RoBERTa, XLM-RoBERTa and CamemBERT") as refusal:
        converted(src)
    assert "--family bert|roberta|xlm-roberta|camembert" in refusal.value.hint
    for family in ("bert", "roberta", "camembert"):
        assert converted(src, family=family).head == BASES[family]
        assert inspect_checkpoint(src, family=family).family == family
    assert any("--family" in sentence for sentence in inspect_checkpoint(src).notes)


def test_twins_that_only_a_config_tells_apart_are_refused(tmp_path: Path) -> None:
    src = full(tmp_path, "RobertaForMaskedLM", model_type=None, architectures=None)
    with pytest.raises(AmbiguousFamily, match="RoBERTa, XLM-RoBERTa and CamemBERT"):
        converted(src)
    assert converted(src, family="camembert").head.startswith("Camembert")


def test_google_s_name_of_the_config_says_bert(tmp_path: Path) -> None:
    src = saved(tmp_path, "BertModel", model_type=None, architectures=None)
    (src / "config.json").rename(src / "bert_config.json")
    assert converted(src).head == "BertModel"


@pytest.mark.parametrize(("said", "head"), [("roberta", "BertForMaskedLM"), ("bert", "RobertaForMaskedLM"),
                                           ("bert", "DistilBertModel"), ("mpnet", "ElectraForMaskedLM")])  # fmt: skip
def test_a_config_of_another_family_is_refused_with_both_facts(said: str, head: str, tmp_path: Path) -> None:
    src = saved(tmp_path, head, model_type=said)
    title = cp.table_of(head).family.title
    with pytest.raises(UnsupportedCheckpoint, match=f"model_type is '{said}', and the tensors are .* {title}"):
        converted(src)
    assert any(f"model_type is '{said}'" in sentence for sentence in inspect_checkpoint(src).notes)


@pytest.mark.parametrize("model_type", ["gpt2", None, 3, ["bert"]])
def test_a_model_type_without_a_table_is_refused(model_type: Any, tmp_path: Path) -> None:
    src = saved(tmp_path, "BertForMaskedLM")
    cp.write_config(src, {**cp.config("BertForMaskedLM"), "model_type": model_type})
    with pytest.raises(UnsupportedCheckpoint, match=r"model_type is .*, not 'albert', 'bert', .* or 'xlm-roberta'"):
        converted(src)


def test_names_of_no_family(tmp_path: Path) -> None:
    src = saved(tmp_path, "BertModel", model_type=None, architectures=None)
    (src / "model.safetensors").write_bytes(cp.safetensors_bytes({"wte.weight": cp.random_array((3, 2), "float32", 0)}))
    with pytest.raises(UnsupportedCheckpoint, match=r"holds no ALBERT, BERT, .*: none of its 1 tensors") as refusal:
        converted(src)
    assert "found wte.weight" in refusal.value.message
    cp.write_config(src, cp.config("ElectraModel"))
    with pytest.raises(UnsupportedCheckpoint, match="holds no ELECTRA: none of its 1 tensors is named as ELECTRA's"):
        converted(src)


def test_a_prefix_is_told_in_the_family_s_own_words(tmp_path: Path) -> None:
    src = saved(tmp_path, "ElectraForMaskedLM", model_type=None, architectures=None)
    theirs = cp.prefixed(cp.state_dict("ElectraForMaskedLM"), "student.")
    (src / "model.safetensors").write_bytes(cp.safetensors_bytes(theirs))
    with pytest.raises(UnknownTensors) as refusal:
        converted(src)
    assert "--strip-prefix student." in refusal.value.hint
    assert converted(src, strip_prefix="student.").head == "ElectraForMaskedLM"


def test_a_family_that_is_not_known(tmp_path: Path) -> None:
    src = saved(tmp_path, "BertModel")
    for refused in (
        lambda: converted(src, family="gpt2"),
        lambda: inspect_checkpoint(src, family="gpt2"),
        lambda: verify_checkpoint(src, src, family="gpt2"),
    ):
        with pytest.raises(RequestError, match="no mapping table for the model type 'gpt2'"):
            refused()


def test_a_family_against_the_config(tmp_path: Path) -> None:
    with pytest.raises(BertconvError, match="'bert'"):
        converted(saved(tmp_path, "BertModel"), family="electra")


def test_a_config_that_is_no_json_is_told_where_names_do_not_decide(tmp_path: Path) -> None:
    src = saved(tmp_path, "BertModel")
    (src / "config.json").write_text("{")
    with pytest.raises(BertconvError, match="is not sound JSON"):
        converted(src)


def test_classes_of_twins_and_of_users_count_by_their_task(tmp_path: Path) -> None:
    """XLM-R's first files name RoBERTa's classes, and users derive classes of their own."""
    for named in ("RobertaForTokenClassification", "MyOwnForTokenClassification"):
        src = saved(tmp_path / named, "XLMRobertaForTokenClassification", architectures=[named])
        assert converted(src).head == "XLMRobertaForTokenClassification"
        assert converted(src, head="RobertaForTokenClassification").head == "XLMRobertaForTokenClassification"


def test_the_output_says_its_family(tmp_path: Path) -> None:
    src = full(tmp_path, "DistilBertForMaskedLM", model_type=None, architectures=None)
    convert_checkpoint(src, tmp_path / "out", to="tf", verify="weights")
    written = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert (written["model_type"], written["architectures"], written["dim"]) == (
        "distilbert", ["DistilBertForMaskedLM"], 35,
    )  # fmt: skip


@pytest.mark.parametrize("model_type", sorted(families()))
def test_only_the_table_that_a_model_type_is_of_is_read(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    every = {path.path: module.read_families(path.path) for path in families().values()}
    monkeypatch.setattr(module, "read_families", lambda path: (read.append(path.stem), every[path])[1])
    assert find_family.__wrapped__(model_type) == families()[model_type]
    assert read == [families()[model_type].path.stem]


def test_every_table_is_asked_for_a_model_type_that_nobody_has() -> None:
    assert find_family("bart") is None
    assert find_family("") is None
