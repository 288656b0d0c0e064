"""Conversions to and from programs that compute something else by the same weights, by a table that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from checkpoints import Outcome

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.errors import RequestError
from bertconv.table_files import tables_folder

Cli = Callable[..., Outcome]
MODEL, MLM = "BertModel", "BertForMaskedLM"
GOOGLE = (
    "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "type_vocab_size", "num_hidden_layers", "hidden_act",
)  # fmt: skip
"""Keys of Google's configs."""
PROGRAM = """
[in.tf]
activations = { gelu_new = "gelu", relu = "relu" }
fixed       = { layer_norm_eps = 1e-12 }
lacks       = ["pooler"]
"""
"""What is said of TensorFlow's files here, as if a program like Google's read them."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "own.toml"
    path.write_text((tables_folder() / "bert.toml").read_text() + PROGRAM)
    return path


@pytest.fixture
def google(tmp_path: Path) -> Path:
    """A folder with Google's config, which says "gelu" and means the tanh form."""
    folder = cp.save(tmp_path / "google", MLM, cp.state_dict(MLM), "h5")
    keys = {**cp.config_of(folder), "hidden_act": "gelu"}
    (folder / "config.json").unlink()
    cp.write_config(folder, {key: keys[key] for key in GOOGLE}, "bert_config.json")
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bertconv.json").read_text())
    return found


def test_googles_gelu_becomes_what_it_computes(cli: Cli, table: Path, google: Path, tmp_path: Path) -> None:
    done = cli("tf2pt", google, tmp_path / "out", "--map", table)
    assert (done.code, cp.config_of(tmp_path / "out")["hidden_act"]) == (0, "gelu_new")
    assert 'Function: TensorFlow computes gelu_new ("gelu" in its config) -> PyTorch computes gelu_new.' in done.out
    assert "3e-04" in done.out
    there = manifest(tmp_path / "out")
    assert (there["computes"]["source"]["said"], there["computes"]["target"]["said"]) == ("gelu", "gelu_new")
    assert there["operation"]["options"] == {"to": "pt"}
    assert verify_checkpoint(google, tmp_path / "out", level="weights", table=table).ok


def test_the_caller_decides_and_it_is_on_record(cli: Cli, table: Path, google: Path, tmp_path: Path) -> None:
    done = cli("tf2pt", google, tmp_path / "out", "--map", table, "--hidden-act", "gelu", "--json")
    report = json.loads(done.out)
    assert (done.code, cp.config_of(tmp_path / "out")["hidden_act"]) == (0, "gelu")
    computed = {side: report["computes"][side]["hidden_act"] for side in ("source", "target")}
    assert computed == {"source": "gelu_new", "target": "gelu"}
    assert manifest(tmp_path / "out")["operation"]["options"] == {"to": "pt", "hidden_act": "gelu"}
    found = verify_checkpoint(google, tmp_path / "out", level="weights", table=table)
    assert [(one.key, one.a, one.b) for one in found.config] == [("hidden_act", "gelu_new", "gelu")]


def test_an_activation_of_no_meaning_is_refused(cli: Cli, google: Path, tmp_path: Path) -> None:
    done = cli("convert", google, tmp_path / "out", "--to", "pt", "--hidden-act", "gelu_tanh")
    assert (done.code, "hidden_act" in done.err, (tmp_path / "out").exists()) == (2, True, False)
    with pytest.raises(RequestError, match="gelu_tanh"):
        convert_checkpoint(google, tmp_path / "out", to="pt", hidden_act="gelu_tanh")


def test_gelu_comes_back_from_a_program_that_has_another(cli: Cli, table: Path, tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), hidden_act="gelu")
    there = cli("convert", src, tmp_path / "there", "--to", "tf", "--map", table)
    assert "TensorFlow computes the tanh form of gelu, and the model the erf form" in there.out
    assert 'Function: PyTorch computes gelu -> TensorFlow computes gelu_new ("gelu" in its config).' in there.out
    back = cli("convert", tmp_path / "there", tmp_path / "back", "--to", "pt", "--map", table)
    assert (there.code, back.code, cp.config_of(tmp_path / "back")["hidden_act"]) == (0, 0, "gelu")
    assert "Function" not in back.out
    assert manifest(tmp_path / "back")["digest"] == manifest(tmp_path / "there")["digest"]


@pytest.mark.parametrize("changes", [{"hidden_act": "silu"}, {"layer_norm_eps": 1e-5}], ids=str)
def test_what_a_program_cannot_compute_is_refused(
    cli: Cli, table: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    src = cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), **{"hidden_act": "gelu_new", **changes})
    words = ("convert", src, tmp_path / "out", "--to", "tf", "--map", table)
    done = cli(*words)
    assert (done.code, "--allow-loss" in done.err, (tmp_path / "out").exists()) == (6, True, False)
    done = cli(*words, "--allow-loss")
    (key,) = changes
    assert (done.code, cp.config_of(tmp_path / "out")[key]) == (0, changes[key])
    assert key in done.out
    assert manifest(tmp_path / "out")["operation"]["options"] == {"allow_loss": True}
    assert manifest(tmp_path / "out")["computes"]["differences"][0]["key"] == key


def test_what_a_format_has_no_place_for_is_refused(cli: Cli, table: Path, tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", MODEL, cp.state_dict(MODEL), hidden_act="gelu_new")
    done = cli("convert", src, tmp_path / "out", "--to", "tf", "--map", table)
    assert (done.code, (tmp_path / "out").exists()) == (6, False)
    assert "TensorFlow has no place for these tensors of BertModel" in done.err
    assert "pooler.dense.bias" in done.err
    assert "--allow-loss" in done.err


def test_what_is_lost_is_named_everywhere(cli: Cli, table: Path, tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", MODEL, cp.state_dict(MODEL), hidden_act="gelu_new")
    words = ("convert", src, tmp_path / "out", "--to", "tf", "--map", table, "--allow-loss")
    names = ["pooler.dense.weight", "pooler.dense.bias"]
    done = cli(*words, "--verbose", "--report", tmp_path / "page.html")
    assert done.code == 0
    assert "2 lost" in done.out
    assert "left out" not in done.out.replace("what was left out", "")
    assert f"Warning: the source computes with what was left out: {' and '.join(names)}" in done.out.replace(
        ", ", " and "
    )
    rows = [line.split(" | ") for line in done.out.splitlines() if "| lost" in line]
    assert [(row[0].strip(), row[2]) for row in rows] == [(name, "TensorFlow has no place for it") for name in names]
    there = manifest(tmp_path / "out")
    lost = [(one["source"], one["inside"]) for one in there["left_out"] if one["state"] == "lost"]
    assert lost == [(name, True) for name in names]
    assert there["parents"][0]["digest"] not in ("", there["digest"])  # the source's own, with what was lost
    page = (tmp_path / "page.html").read_text()
    assert all(name in page for name in names)
    report = convert_checkpoint(src, tmp_path / "dry", to="tf", table=table, allow_loss=True, dry_run=True)
    assert (list(report.lost), report.to_json()["lost"], report.omitted) == (names, names, report.lost)
    assert "2 lost" in report.summary()


def test_outputs_cannot_be_demanded_of_half_a_model(cli: Cli, table: Path, tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", MODEL, cp.state_dict(MODEL), hidden_act="gelu_new")
    words = ("convert", src, tmp_path / "out", "--to", "tf", "--map", table, "--allow-loss", "--verify", "outputs")
    assert (cli(*words).code, (tmp_path / "out").exists()) == (2, False)


@pytest.mark.parametrize(("begun", "found"), [("gelu_n", ["gelu_new"]), ("rel", ["relu", "relu2", "relu6"])])
def test_activations_are_completed(begun: str, found: list[str]) -> None:
    from bertconv.cli.options import _activations

    assert _activations(None, None, begun) == found  # type: ignore[arg-type]
