"""Mapping tables of the user's own: what `tables check` says of them, and that no command takes an unsound one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from checkpoints import Outcome

from bertconv import convert_checkpoint, inspect_checkpoint, verify_checkpoint
from bertconv.errors import BadTable
from bertconv.table_files import tables_folder

Cli = Callable[..., Outcome]
MLM = "BertForMaskedLM"
BUILTIN = (tables_folder() / "bert.toml").read_text()
ROWS = (("intermediate.dense", "layer.ffn_in"), ("transform.dense", "mlm.dense"))


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", MLM, cp.state_dict(MLM))


def own(folder: Path, *, rows: bool = False, pt: str | None = "") -> Path:
    """bert.toml with the `name` of two rows edited, with another [names.pt], or (None) with the one it has."""
    pattern = r"\[names\.pt\].*?(?=\[names\.tf\])"
    text = BUILTIN if pt is None else re.sub(pattern, f"[names.pt]\n{pt}\n", BUILTIN, flags=re.DOTALL)
    for name, _ in ROWS if rows else ():
        assert text.count(f'name = "{name}"') == 1
        text = text.replace(f'name = "{name}"', f'name = "{name}_act"')
    table = folder / "own.toml"
    table.write_text(text)
    return table


def unsound(folder: Path) -> Path:
    """A table that loads and that only `tables check` can refuse: two modules of one name."""
    table = folder / "unsound.toml"
    table.write_text(BUILTIN.replace('name = "attention.self.key"', 'name = "attention.self.query"'))
    return table


@pytest.mark.parametrize("pt", ["", None], ids=["without [names.pt]", "copied whole"])
def test_a_name_that_was_edited_in_a_row_is_told_to_be_tensorflow_s_as_well(
    cli: Cli, tmp_path: Path, pt: str | None
) -> None:
    """A copy of bert.toml has [names.pt] for the same rows, which hides the edit from PyTorch's names."""
    done = cli("tables", "check", "--map", own(tmp_path, rows=True, pt=pt))
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line for line in lines if "names differ" in line][:2] == [
        f"  pt: {4 if pt == '' else 0} of 49 names differ",
        "  tf: 4 of 49 names differ",
    ]
    here, there = (f"mlm___cls/predictions/transform/{name}/kernel:0" for name in ("dense_act", "dense"))
    assert f"    mlm.dense.weight: {here}, not {there}" in lines
    assert lines[-1].startswith("4 of TensorFlow's and other dialects' names differ because `name` in a row")
    assert "[names.pt]" in lines[-1]


def test_names_of_tensorflow_that_were_edited_where_they_belong_need_no_advice(cli: Cli, tmp_path: Path) -> None:
    table = own(tmp_path, pt=None)
    table.write_text(table.read_text().replace('= "nsp___cls"', '= "nsp"'))
    done = cli("tables", "check", "--map", table)
    assert "  tf: 2 of 49 names differ" in done.out
    assert "[names.pt]" not in done.out


def test_a_spelling_of_pytorch_alone_leaves_tensorflow_s_names(cli: Cli, tmp_path: Path, src: Path) -> None:
    """What the sentence says works: PyTorch's files have the other name, TensorFlow's have theirs."""
    table = own(tmp_path, pt="\n".join(f'"{key}" = "{name}_act"' for name, key in ROWS))
    found = json.loads(cli("tables", "check", "--map", table, "--json").out)
    assert {dialect: len(ones) for dialect, ones in found["renamed"].items() if ones} == {"pt": 4}
    assert found["renamed"]["pt"][2] == {
        "id": "mlm.dense.weight",
        "builtin": "cls.predictions.transform.dense.weight",
        "own": "cls.predictions.transform.dense_act.weight",
    }
    assert "[names.pt]" not in cli("tables", "check", "--map", table).out
    assert cli("convert", src, tmp_path / "nv", "--to", "pt", "--quiet").code == 0
    theirs = cp.renamed(cp.state_dict(MLM), r"(intermediate|transform)\.dense\.", r"\1.dense_act.")
    (tmp_path / "nv" / "model.safetensors").write_bytes(cp.safetensors_bytes(theirs))
    assert cli("pt2tf", tmp_path / "nv", tmp_path / "tf", "--map", table, "--quiet").code == 0
    cp.assert_same(cp.written(tmp_path / "tf"), cp.tf_state(cp.state_dict(MLM)))
    assert cli("tf2pt", tmp_path / "tf", tmp_path / "pt", "--map", table, "--quiet").code == 0
    cp.assert_same(cp.written(tmp_path / "pt"), theirs)


def test_tensors_that_only_one_table_has_are_listed(cli: Cli, tmp_path: Path) -> None:
    table = own(tmp_path)
    renamed = table.read_text().replace("\nsegment  =", "\nkind     =").replace("embeddings.segment", "embeddings.kind")
    table.write_text(renamed)
    done = cli("tables", "check", "--map", table)
    assert "  not in bert: embeddings.kind.weight" in done.out
    assert "  only in bert: embeddings.segment.weight" in done.out
    assert "  pt: 0 of 48 names differ" in done.out


@pytest.mark.parametrize(
    "command",
    ["pt2tf {src} {out}", "tf2pt {src} {out}", "convert {src} {out} --to pt", "pt2tf {src} {out} --dry-run",
     "inspect {src}", "verify {src} {src}", "tables show", "tables explain bert.pooler.dense.weight",
     f"tables ignore {MLM}"],
)  # fmt: skip
def test_no_command_takes_a_table_that_the_check_refuses(cli: Cli, tmp_path: Path, src: Path, command: str) -> None:
    table, out = unsound(tmp_path), tmp_path / "out"
    words = [word.format(src=src, out=out) for word in command.split()]
    refused = cli("tables", "check", "--map", table)
    done = cli(*words, "--map", table)
    assert (refused.code, done.code) == (3, 3)
    assert done.err == refused.err
    assert "two tensors 'bert.encoder.layer.0.attention.self.query.weight' in pt" in done.err
    assert not out.exists()


def test_no_function_takes_a_table_that_the_check_refuses(tmp_path: Path, src: Path) -> None:
    table = unsound(tmp_path)
    for refused in (
        lambda: convert_checkpoint(src, tmp_path / "out", table=table),
        lambda: inspect_checkpoint(src, table=table),
        lambda: verify_checkpoint(src, src, table=table),
    ):
        with pytest.raises(BadTable, match="has two tensors"):
            refused()


def test_verify_takes_a_table(cli: Cli, tmp_path: Path, src: Path) -> None:
    """A checkpoint in names of its own is compared by weights; what runs models knows the built-in names only."""
    table = own(tmp_path, pt="\n".join(f'"{key}" = "{name}_act"' for name, key in ROWS))
    assert cli("convert", src, tmp_path / "pt", "--to", "pt", "--map", table, "--quiet").code == 3
    theirs = cp.renamed(cp.state_dict(MLM), r"(intermediate|transform)\.dense\.", r"\1.dense_act.")
    there = cp.save(tmp_path / "there", MLM, theirs)
    assert cli("pt2tf", there, tmp_path / "tf", "--map", table, "--quiet").code == 0
    done = cli("verify", there, tmp_path / "tf", "--map", table)
    assert (done.code, done.out.splitlines()[-1]) == (0, "The same weights: 42/42 tensors equal, bit for bit.")
    assert "Note: outputs were not compared: the mapping table is not bertconv's own." in done.out
    done = cli("verify", there, tmp_path / "tf", "--map", table, "--level", "outputs")
    assert done.code == 2
    assert "--level weights" in done.err
    assert "--map" in verify_checkpoint(there, tmp_path / "tf", table=table).command
