"""What is wrong with tokenizer files is said by every command in the same words, and stops none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Outcome
from tokenizer_folders import fast, folder

from bertconv import convert_checkpoint, inspect_checkpoint, verify_checkpoint
from bertconv.source import open_source
from bertconv.tokenizer import read_tokenizer, tokenizer_notes
from bertconv.tokenizer.rules import AROUND, MAX_PIECES

VOCABULARY = "the vocabulary in tokenizer.json is not tokens with whole numbers from 0 to 2,147,483,647 as ids"
CASES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "a list": ({"tokenizer.json": b"[]"}, "tokenizer.json is not a JSON object", ["tokenizer.json"]),
    "ids that are none": ({"tokenizer.json": fast(model={"vocab": {"a": -1}})}, VOCABULARY, ["tokenizer.json"]),
    "no UTF-8": ({"vocab.txt": b"\xff"}, "vocab.txt is not UTF-8", ["vocab.txt"]),
}


@pytest.mark.parametrize(("files", "note", "names"), CASES.values(), ids=CASES)
def test_every_command_says_it(
    tmp_path: Path, cli: Callable[..., Outcome], files: dict[str, Any], note: str, names: list[str]
) -> None:
    source = folder(tmp_path / "a", words=None, files=files)
    assert inspect_checkpoint(source).notes == (note,)
    assert inspect_checkpoint(source).tokenizer == {"files": tuple(names), "tokens": None}
    said = cli("inspect", source).out.splitlines()
    assert "tokenizer   not readable" in said
    assert f"goes along  {names[0]}" in said
    assert convert_checkpoint(source, tmp_path / "c", dry_run=True).notes == (note,)
    outcome = cli("pt2tf", source, tmp_path / "b", "--verify", "none")
    assert outcome.code == 0
    assert f"Note: {note}." in outcome.out.splitlines()
    assert json.loads((tmp_path / "b" / "bertconv.json").read_bytes())["notes"] == [note]
    assert note in " ".join(verify_checkpoint(source, tmp_path / "b", level="weights").notes)


def test_no_tokenizer(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    source = folder(tmp_path / "a", words=None)
    assert inspect_checkpoint(source).tokenizer == {}
    assert "tokenizer   none" in cli("inspect", source).out.splitlines()


def test_a_vocabulary_that_is_not_read(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    """It is compared byte by byte, and that it is there is said."""
    source = folder(tmp_path / "a", words=None, files={"sentencepiece.bpe.model": b"\n\x0e"})
    assert inspect_checkpoint(source).notes == ()
    assert "tokenizer   not readable" in cli("inspect", source).out.splitlines()


@pytest.mark.parametrize(
    ("ids", "pieces", "spelled"),
    [
        ([7], 2, "7:0 7:0"),
        (list(range(MAX_PIECES // 2)), 2, None),
        (list(range(MAX_PIECES // 2)), 3, ...),
        ([7, "x" * 9], 1, ...),
        ([True], 1, ...),
    ],
    ids=["one", "the most", "more than the most", "no number", "true"],
)
def test_what_is_put_around_a_text(tmp_path: Path, ids: list[Any], pieces: int, spelled: Any) -> None:
    step = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}] * pieces, "pair": [],
        "special_tokens": {"x": {"id": "x", "ids": ids, "tokens": ["x"]}},
    }  # fmt: skip
    tokenizer = read_tokenizer(open_source(folder(tmp_path / "a", files={"tokenizer.json": fast(post_processor=step)})))
    assert tokenizer.rules is not None
    said = tokenizer.rules[AROUND]
    if spelled is ...:
        assert said == step  # as it is
    else:
        assert said == {"one": spelled or " ".join(f"{one}:0" for one in ids * pieces), "two": ""}
    assert list(tokenizer_notes(tokenizer, 14)) == []


@pytest.mark.parametrize("kind", [-1, True, "x" * 9, None])
def test_types_of_tokens_are_whole_numbers(tmp_path: Path, kind: object) -> None:
    step = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": kind}}], "pair": []}
    tokenizer = read_tokenizer(open_source(folder(tmp_path / "a", files={"tokenizer.json": fast(post_processor=step)})))
    assert tokenizer.rules is not None
    assert tokenizer.rules[AROUND] == step
