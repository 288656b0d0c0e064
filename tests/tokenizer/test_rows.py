"""Ids of the tokenizer against rows of the embedding table, as every command tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import Outcome
from tokenizer_folders import WORDS, folder

from bertconv import convert_checkpoint, inspect_checkpoint, verify_checkpoint
from bertconv.tokenizer import Tokenizer
from bertconv.tokenizer.rows import fit, row_notes

ADDED = {"added_tokens.json": {"xx": 14, "yy": 15, "\u202ezz": 16}}
BEYOND = (
    "the tokenizer's ids 14 to 16 ('xx', 'yy', '\\u202ezz') have no row in the embedding table of 14 rows: "
    "resize it (model.resize_token_embeddings(17)) or remove these tokens"
)
PADDING = "rows 14 to 18 of the embedding table are no token's: padding rows"
ROWS = pytest.mark.parametrize(("files", "rows", "note"), [(ADDED, 14, BEYOND), ({}, 19, PADDING), ({}, 14, None)])


@ROWS
def test_inspect(tmp_path: Path, cli: Callable[..., Outcome], files: dict, rows: int, note: str | None) -> None:
    source = folder(tmp_path / "a", files=files, vocab_size=rows)
    found = inspect_checkpoint(source)
    assert found.notes == ((note,) if note else ())
    tokens = len(WORDS) + (3 if files else 0)
    facts = json.loads(cli("inspect", source, "--json").out)["tokenizer"]
    assert facts == {
        "files": [*files, "vocab.txt"], "tokens": tokens, "do_lower_case": True, "model_max_length": None,
        "beyond": {"14": "xx", "15": "yy", "16": "\\u202ezz"} if files else {},
        "padding_rows": [14, 18] if rows == 19 else None,
    }  # fmt: skip
    said = cli("inspect", source).out.splitlines()
    assert f"tokenizer   {tokens} tokens, lower-cased" in said
    assert [line for line in said if line.startswith("note")] == ([f"note        {note}."] if note else [])


@ROWS
def test_convert(tmp_path: Path, cli: Callable[..., Outcome], files: dict, rows: int, note: str | None) -> None:
    source = folder(tmp_path / "a", files=files, vocab_size=rows)
    report = convert_checkpoint(source, tmp_path / "b", dry_run=True)
    assert report.notes == ((note,) if note else ())
    outcome = cli("pt2tf", source, tmp_path / "b")
    assert outcome.code == 0
    assert (f"Note: {note}." in outcome.out.splitlines()) == bool(note)
    assert json.loads((tmp_path / "b" / "bertconv.json").read_bytes())["notes"] == ([note] if note else [])


@ROWS
def test_verify(tmp_path: Path, cli: Callable[..., Outcome], files: dict, rows: int, note: str | None) -> None:
    a = folder(tmp_path / "a", files=files, vocab_size=rows)
    b = folder(tmp_path / "b", words=None, vocab_size=rows)
    assert verify_checkpoint(a, b, level="weights").notes == ((f"A: {note}",) if note else ())
    assert verify_checkpoint(a, a, level="weights").notes == ((f"A and B: {note}",) if note else ())
    outcome = cli("verify", b, a, "--level", "weights")
    assert outcome.code == 0
    assert (f"Note: B: {note}." in outcome.out.splitlines()) == bool(note)


def test_many() -> None:
    tokenizer = Tokenizer(tokens={f"w{number}": number for number in range(30)})
    (note,) = row_notes(tokenizer, 20)
    assert note.startswith("the tokenizer's ids 20 to 29 ('w20', 'w21', 'w22', ...) have no row")
    assert next(row_notes(tokenizer, 29)).startswith("the tokenizer's id 29 ('w29') has no row")
    assert list(row_notes(tokenizer, 31)) == ["row 30 of the embedding table is no token's: a padding row"]
    assert list(row_notes(tokenizer, None)) == list(row_notes(Tokenizer(), 3)) == []
    assert fit(Tokenizer(tokens={}), 3) is None


def test_special_tokens_that_transformers_adds(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", [word for word in WORDS if word != "[MASK]"], vocab_size=13)
    (note,) = inspect_checkpoint(source).notes
    assert note.startswith("the tokenizer's id 13 ('[MASK]') has no row in the embedding table of 13 rows")
