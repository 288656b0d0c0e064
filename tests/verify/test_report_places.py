"""Where a report may go: nowhere over a file of a checkpoint, and not into the output of a conversion."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv.convert import convert_checkpoint
from bertconv.errors import OutputError
from bertconv.verify.report_files import write_text

REPORTS = {
    "HTML": '<!DOCTYPE html>\n<html lang="en">', "JUnit": "<?xml version='1.0' encoding='utf-8'?>\n<testsuite/>",
    "comparison": '{\n "level": "weights"', "check": '{\n "folder": "out"',
}  # fmt: skip
OTHERS = {
    "vocabulary with a tag": "[PAD]\n<html\n<testsuite\n",
    "tokenizer with a word": '{"version": "1.0", "vocab": {"level": "x"}, "changes": []}',
    "manifest with a certificate": '{\n "format": 2,\n "parity": {"level": "outputs"}\n}',
    "config": '{"architectures": ["BertModel"], "level": "x"}',
}


@pytest.mark.parametrize("text", REPORTS.values(), ids=REPORTS)
def test_an_earlier_report_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "report").write_text(text)
    write_text(tmp_path / "report", "new")
    assert (tmp_path / "report").read_text() == "new"


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_a_file_of_a_checkpoint_is_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(OutputError, match="is no report"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == text


@pytest.mark.parametrize("option", ["--report", "--json", "--junit"])
def test_verify_refuses_what_is_no_regular_file_before_it_reads_anything(
    cli: Callable[..., cp.Outcome], tmp_path: Path, option: str
) -> None:
    """Looking into a FIFO for an earlier report would wait for a writer for ever."""
    place = tmp_path / "there.json"
    os.mkfifo(place)
    done = cli("verify", tmp_path / "no model", tmp_path / "none", option, place)
    assert (done.code, done.out) == (7, "")
    assert done.err.startswith(f"Error: {place}: is no regular file.")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("place", "words"),
    [("out/report.html", "in the output"), ("out", "in the output"), ("link/report.html", "in the output"),
     ("in/config.json", "is no report"), ("in/model.safetensors", "is no report")],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused_first(tmp_path: Path, place: str, words: str, dry_run: bool) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    convert_checkpoint(src, tmp_path / "out", to="pt", verify="weights")
    (tmp_path / "link").symlink_to("out")
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError, match=words):
        convert_checkpoint(
            src, tmp_path / "out", to="pt", overwrite=True, dry_run=dry_run, report_file=tmp_path / place
        )
    assert cp.snapshot(tmp_path) == before
