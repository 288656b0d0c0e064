"""The last step of a conversion: what was written is run beside its source, and kept only if it is the same model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import pytest
from compared import SMALL, Models, tiny, untied

from bertconv import check_checkpoint, convert_checkpoint, verify_checkpoint
from bertconv.report import Report
from bertconv.verify import outputs


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded, and models this small need none."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bertconv.json").read_bytes())
    return found


def proven(report: Report, folder: Path, head: str | None = None) -> None:
    """Its outputs were compared, and both the report and the record in the folder say so."""
    assert report.verified == manifest(folder)["verified"] == "outputs"
    assert report.parity == manifest(folder)["parity"]
    assert report.parity["ok"]
    assert report.parity["verdict"].startswith("The same model: ")
    assert report.parity["head"] == (head or report.head)
    assert report.parity["dtypes"] == ["float64", "float32"]
    assert report.parity["worst"].keys() == {"float64", "float32"}
    assert report.parity["worst"]["float64"]["b"] < 1e-13
    assert not [note for note in report.notes if "outputs were not compared" in note]
    assert report.outputs_seconds == report.to_json()["outputs_seconds"] > 0
    assert report.summary().endswith(f"; outputs compared in {report.outputs_seconds:.1f} s")
    assert "seconds" not in (folder / "bertconv.json").read_text()  # the same input gives the same bytes


WAYS = [("safetensors", "tf"), ("safetensors", "tf-safetensors"), ("sharded-bin", "tf"), ("h5", "pt"),
        ("h5", "tf-safetensors"), ("tf-safetensors", "tf"), ("tf-safetensors", "pt"), ("bin", "pt")]  # fmt: skip


@pytest.mark.parametrize(("container", "to"), WAYS)
def test_outputs_are_proven(models: Models, container: str, to: str, tmp_path: Path) -> None:
    source = models("BertForPreTraining", container)
    report = convert_checkpoint(source, tmp_path / "b", to=to, verify="outputs")
    proven(report, tmp_path / "b")
    assert report.parity["a"]["digest"] == report.parity["b"]["digest"] == report.digest
    check = check_checkpoint(tmp_path / "b")
    assert check.ok
    assert check.verified == "outputs"
    assert verify_checkpoint(source, tmp_path / "b", level="weights").ok


@pytest.mark.parametrize("head", cp.HEADS)
def test_every_head(models: Models, head: str, tmp_path: Path) -> None:
    proven(convert_checkpoint(models(head), tmp_path / "b", verify="outputs"), tmp_path / "b", head)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_another_type(models: Models, dtype: str, tmp_path: Path) -> None:
    report = convert_checkpoint(models("BertModel"), tmp_path / "b", dtype=dtype, verify="outputs")
    proven(report, tmp_path / "b")
    assert f"equal once A is rounded to {dtype}" in report.parity["verdict"]


def test_the_same_conversion_leaves_the_same_record(models: Models, tmp_path: Path) -> None:
    records = []
    for name in ("one", "other"):
        convert_checkpoint(models("BertModel"), tmp_path / name, verify="outputs")
        records.append((tmp_path / name / "bertconv.json").read_bytes())
    assert records[0] == records[1]


def test_auto_proves_where_it_can(models: Models, tmp_path: Path) -> None:
    proven(convert_checkpoint(models("BertModel"), tmp_path / "b", verify="auto"), tmp_path / "b")


@pytest.mark.parametrize("verify", ["weights", "none"])
def test_no_outputs_unless_asked(models: Models, verify: str, tmp_path: Path) -> None:
    report = convert_checkpoint(models("BertModel"), tmp_path / "b", verify=verify)
    assert (report.verified, report.parity) == (verify, {})
    assert "parity" not in manifest(tmp_path / "b") or manifest(tmp_path / "b")["parity"] == {}


def test_a_plan_proves_nothing(models: Models, tmp_path: Path) -> None:
    report = convert_checkpoint(models("BertModel"), tmp_path / "b", verify="outputs", dry_run=True)
    assert (report.verified, report.parity) == ("none", {})
    assert not (tmp_path / "b").exists()


def test_steps_are_told(models: Models, tmp_path: Path) -> None:
    steps: list[str] = []
    convert_checkpoint(
        models("BertModel"), tmp_path / "b", verify="outputs", progress=lambda *reported: steps.append(reported[0])
    )
    assert list(dict.fromkeys(steps)) == ["writing", "verifying", "weights", "outputs"]


# Sources of many kinds


def convert_state(folder: Path, state: cp.Tensors, head: str, **options: Any) -> Report:
    """A safetensors file of just these names, converted with proof."""
    sizes = {**SMALL, **options.pop("sizes", {})}
    cp.write_config(folder / "a", cp.config(head, **sizes))
    (folder / "a" / "model.safetensors").write_bytes(cp.safetensors_bytes(state, {"format": "pt"}))
    return convert_checkpoint(folder / "a", folder / "b", verify="outputs", **options)


def test_another_class(models: Models, tmp_path: Path) -> None:
    source = models("BertForPreTraining")
    report = convert_checkpoint(source, tmp_path / "b", head="BertForMaskedLM", verify="outputs")
    proven(report, tmp_path / "b", "BertForMaskedLM")


def test_one_of_two_encoders(tmp_path: Path) -> None:
    one, other = (tiny("BertModel", seed=seed, std=0.3, num_hidden_layers=2) for seed in (1, 2))
    state = {**cp.prefixed(cp.bare(one), "question."), **cp.prefixed(cp.bare(other), "context.")}
    report = convert_state(tmp_path, state, "BertModel", strip_prefix="context.")
    proven(report, tmp_path / "b", "BertModel")
    cp.save(tmp_path / "alone", "BertModel", other, **SMALL)
    assert verify_checkpoint(tmp_path / "alone", tmp_path / "b", level="weights").ok


@pytest.mark.parametrize("prefix", ["model.", "module.", "net.bert_model."])
@pytest.mark.parametrize("head", ["BertModel", "BertForMaskedLM"])
def test_names_with_a_prefix(prefix: str, head: str, tmp_path: Path) -> None:
    """As Lightning and DataParallel write them."""
    state = cp.prefixed(tiny(head, std=0.3, num_hidden_layers=2), prefix)
    given = {"strip_prefix": prefix} if "net" in prefix else {}
    proven(convert_state(tmp_path, state, head, **given), tmp_path / "b", head)


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    state = cp.torch_tensors(cp.prefixed(tiny("BertForMaskedLM", std=0.3, num_hidden_layers=2), "model."))
    cp.write_config(tmp_path / "a", cp.config("BertForMaskedLM", **SMALL))
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(cp.torch_bytes({"epoch": 3, "state_dict": state}))
    report = convert_checkpoint(tmp_path / "a", tmp_path / "b", verify="outputs")
    proven(report, tmp_path / "b", "BertForMaskedLM")


def test_old_names_and_copies(tmp_path: Path) -> None:
    """gamma and beta, position_ids, and the tied decoder a second time."""
    head = "BertForPreTraining"
    state = tiny(head, std=0.3, num_hidden_layers=2)
    state |= {cp.DECODER: state[cp.WORD], cp.DECODER_BIAS: state[cp.MLM_BIAS]}
    state = cp.renamed(cp.renamed(state, r"LayerNorm\.weight", "LayerNorm.gamma"), r"LayerNorm\.bias", "LayerNorm.beta")
    state["bert.embeddings.position_ids"] = cp.np.arange(SMALL["max_position_embeddings"])[None]
    proven(convert_state(tmp_path, state, head), tmp_path / "b", head)


def test_untied_by_request(tmp_path: Path) -> None:
    head = "BertForMaskedLM"
    state = tiny(head, std=0.3, num_hidden_layers=2)
    proven(convert_state(tmp_path, {**state, **untied(state)}, head, untie=True), tmp_path / "b", head)


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_in_a_folder_below(models: Models, container: str, tmp_path: Path) -> None:
    shutil.copytree(models("BertModel", container), tmp_path / "a" / "sub")
    to = "tf" if container == "safetensors" else "pt"
    report = convert_checkpoint(tmp_path / "a", tmp_path / "b", to=to, subfolder="sub", verify="outputs")
    proven(report, tmp_path / "b")


@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_names_that_may_be_left_out(container: str, tmp_path: Path) -> None:
    state = tiny("BertModel", std=0.3, num_hidden_layers=2)
    if container == "h5":
        cp.save(tmp_path / "a", "BertModel", state, "h5", **SMALL)
        with h5py.File(tmp_path / "a" / "tf_model.h5", "a") as file:
            group = file.create_group("extra")
            group.attrs["weight_names"] = [b"extra/scale:0"]
            group.create_dataset("extra/scale:0", data=cp.np.ones(3, "float32"))
            file.attrs["layer_names"] = [*file.attrs["layer_names"], b"extra"]
        report = convert_checkpoint(tmp_path / "a", tmp_path / "b", to="pt", allow_unknown=["extra"], verify="outputs")
    else:
        state = {**cp.bare(state), "extra.scale": cp.np.ones(3, "float32")}
        report = convert_state(tmp_path, state, "BertModel", allow_unknown=["extra"])
    proven(report, tmp_path / "b")


@pytest.mark.parametrize("container", ["safetensors", "h5"])
@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForSequenceClassification", "BertForQuestionAnswering"])
def test_a_head_that_is_newly_initialised(models: Models, head: str, container: str, tmp_path: Path) -> None:
    """Its values are new, so the body is what is compared, without a pooler where the class has none."""
    to, source = {"safetensors": "tf", "h5": "pt"}[container], models("BertModel", container)
    report = convert_checkpoint(source, tmp_path / "b", to=to, head=head, init_missing=True, verify="outputs")
    proven(report, tmp_path / "b", "BertModel")
    assert report.head == head
