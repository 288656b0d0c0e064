"""Verbs on tensors that lie in pieces: a distributed checkpoint gives the bytes that one file gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import distributed_folders as dcp
import pytest

from bertconv import (
    attach_head,
    average_checkpoints,
    cast_checkpoint,
    collect_leftovers,
    diff_checkpoints,
    extract_checkpoint,
    lineage,
    merge_checkpoints,
    resize_vocabulary,
    shard_checkpoint,
)
from bertconv.manage.difference import rows as row_module

MLM = "BertForMaskedLM"
OLD = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(90)))
NEW = (*OLD[:5], *reversed(OLD[15:]), "new", "word")
CUTS = {"rows": dcp.along(0, 3), "columns": dcp.along(1, 3), "grid": dcp.grid(2)}
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of a process that is alone

VERBS: dict[str, Callable[[Path, Path, Path], object]] = {
    "resize": lambda src, words, out: resize_vocabulary(src, out, tokenizer=words, shrink=True),
    "resize to tf": lambda src, words, out: resize_vocabulary(src, out, tokenizer=words, new="pieces", to="tf"),
    "average": lambda src, _, out: average_checkpoints([src, src], out),
    "merge": lambda src, _, out: merge_checkpoints([src, src], out, method="ties", base=src, density=0.3),
    "cast": lambda src, _, out: cast_checkpoint(src, out, dtype="bfloat16"),
    "head": lambda src, _, out: extract_checkpoint(src, out, part="head"),
    "attach": lambda src, _, out: attach_head(src, src, out),
}


def words(folder: Path, tokens: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    return folder


def saved(folder: Path, cut: str | None, seed: int = 0, tokens: tuple[str, ...] = OLD) -> Path:
    state = cp.state_dict(MLM, seed=seed)
    if cut is None:
        cp.save(folder, MLM, state)
    else:
        dcp.write(folder, {"model": cp.torch_tensors(state)}, CUTS[cut], ranks=3)
        cp.write_config(folder, cp.config(MLM))
    return words(folder, tokens)


@pytest.mark.parametrize(
    ("verb", "cut"),
    [
        *((verb, "grid") for verb in VERBS),
        *((verb, cut) for verb in ("resize", "resize to tf") for cut in ("rows", "columns")),
    ],
)
def test_the_same_bytes(tmp_path: Path, verb: str, cut: str) -> None:
    tokenizer = words(tmp_path / "words", NEW)
    outputs = []
    for name in (None, cut):
        out = tmp_path / f"out of {name}"
        VERBS[verb](saved(tmp_path / str(name), name), tokenizer, out)
        outputs.append(cp.written(out))
    cp.assert_same(*outputs)


@pytest.mark.parametrize("cut", ["rows", "columns"])
def test_rows_in_other_places(tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a table that is too large to be read whole."""
    monkeypatch.setattr(row_module, "PANEL", 0)
    tokens = (*OLD[:5], *reversed(OLD[5:]))
    found: list[Any] = []
    for name in (None, cut):
        a, b = saved(tmp_path / f"{name} a", name), saved(tmp_path / f"{name} b", name, 1, tokens)
        diff = diff_checkpoints(a, b)
        found.append({one.id: (one.state, one.change, one.rows) for one in diff.tensors})
    assert found[0] == found[1]


def test_they_are_found(tmp_path: Path) -> None:
    """Among models that are there twice, and among the parents of another."""
    src = saved(tmp_path / "in", "rows")
    shard_checkpoint(src, tmp_path / "same")
    cast_checkpoint(src, tmp_path / "cast", dtype="bfloat16")
    found = collect_leftovers(tmp_path, duplicates=True)
    ((_, twins),) = found.twins.groups
    assert {Path(twin.path).name for twin in twins} == {"in", "same"}
    shutil.rmtree(tmp_path / "same")
    graph = lineage(tmp_path / "cast", search=[tmp_path], verify=True)
    assert graph.summary() == "2 models: 2 proven"
