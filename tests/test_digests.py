"""One digest for a whole model: the same in every format, for every family, whatever copies a format stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import APART, save, state_dict, table_of

from bertconv import convert_checkpoint
from bertconv.formats.destination import MANIFEST
from bertconv.tasks import BASE, CAUSAL_LM, MASKED_LM, PRETRAINING

HEADS = [head for head in APART if table_of(head).tasks[head] in {BASE, MASKED_LM, CAUSAL_LM, PRETRAINING}]
COPY = "mlm.decoder.bias"


def folder(tmp_path: Path, head: str, **changes: object) -> Path:
    return save(tmp_path / "model", head, state_dict(head, **changes), **changes)


@pytest.mark.parametrize("head", HEADS)
def test_a_model_has_one_digest_and_one_size_in_every_format(head: str, tmp_path: Path) -> None:
    source, reports = folder(tmp_path, head), {}
    for name in ("pt", "tf", "tf-safetensors"):
        reports[name] = convert_checkpoint(source, tmp_path / name, to=name, head=head)
    reports["back"] = convert_checkpoint(tmp_path / "tf", tmp_path / "back", to="pt", head=head)
    digests = {name: report.digest for name, report in reports.items()}
    assert digests["pt"].startswith("sha256:")
    assert set(digests.values()) == {digests["pt"]}, digests
    assert len({report.parameters for report in reports.values()}) == 1
    for name in reports:
        assert json.loads((tmp_path / name / MANIFEST).read_bytes())["digest"] == digests["pt"]


def test_a_copy_keeps_a_digest_of_its_own(tmp_path: Path) -> None:
    report = convert_checkpoint(folder(tmp_path, "AlbertForMaskedLM"), tmp_path / "tf", to="tf")
    digests = {tensor.id: tensor.digest for tensor in report.tensors}
    assert report.copies == (COPY,)
    assert digests[COPY] == digests["mlm.bias.value"] != ""
    assert json.loads((tmp_path / "tf" / MANIFEST).read_bytes())["tensors"][COPY]["digest"] == digests[COPY]
    assert convert_checkpoint(tmp_path / "tf", tmp_path / "pt", to="pt").copies == ()


def test_what_an_untied_model_has_is_no_copy(tmp_path: Path) -> None:
    head, changes = "AlbertForMaskedLM", {"tie_word_embeddings": False}
    tensors = state_dict(head)
    decoder = {f"predictions.decoder.{leaf}": tensors[name] for leaf, name in
               (("weight", "albert.embeddings.word_embeddings.weight"), ("bias", "predictions.bias"))}  # fmt: skip
    source = save(tmp_path / "model", head, tensors | decoder, **changes)
    pt, tf = (convert_checkpoint(source, tmp_path / name, to=name) for name in ("pt", "tf"))
    assert pt.copies == tf.copies == ()
    assert {COPY, "mlm.decoder.weight"} <= {tensor.id for tensor in tf.tensors}
    assert pt.digest == tf.digest
    assert pt.parameters == tf.parameters


def test_what_a_model_in_memory_saves_has_that_digest_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from bertconv import TFAutoModelForMaskedLM

    source = folder(tmp_path, "AlbertForMaskedLM")
    digest = convert_checkpoint(source, tmp_path / "tf", to="tf").digest
    model = TFAutoModelForMaskedLM.from_pretrained(source)
    for name in ("pt", "tf", "tf-safetensors"):
        model.save_pretrained(tmp_path / f"saved {name}", format=name)
        assert json.loads((tmp_path / f"saved {name}" / MANIFEST).read_bytes())["digest"] == digest
