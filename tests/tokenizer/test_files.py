"""Tokenizer files are untrusted text: whatever stands in them, the reader gives facts or a problem, and no error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_folders import WORDS, fast, folder

from bertconv import inspect_checkpoint
from bertconv.containers import stored
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint
from bertconv.source import open_source
from bertconv.tokenizer import Tokenizer, files, read_tokenizer, room

NAMES = (files.FAST, files.SETTINGS, files.SPECIAL, files.ADDED, files.SENTENCE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "vocab", "content", "id", "ids", "0", "-1", "²"]) | st.text(max_size=3),
                      inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = {
    files.FAST: ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "truncation"),
    files.SETTINGS: ("added_tokens_decoder", "do_lower_case", "model_max_length", "cls_token", "extra_special_tokens",
                     "tokenizer_class", "strip_accents", "padding_side"),
    files.SPECIAL: ("sep_token", "additional_special_tokens"),
    files.ADDED: ("xx",),
    files.SENTENCE: ("max_seq_length",),
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("files") / "a", words=None)


def read(path: Path) -> Tokenizer:
    return read_tokenizer(open_source(path))


def put(path: Path, content: dict[str, bytes]) -> Tokenizer:
    """The tokenizer of a folder that holds these files and no other ones."""
    for name in (*NAMES, files.WORDS):
        (path / name).unlink(missing_ok=True)
    for name, raw in content.items():
        (path / name).write_bytes(raw)
    return read(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_json_is_read(checkpoint: Path, data: st.DataObject) -> None:
    made = {}
    for name in NAMES:
        value = data.draw(st.none() | JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS[name], JSON)))
        if name == files.FAST and isinstance(value, dict) and data.draw(st.booleans()):
            value = fast(**value)
        if value is not None:
            made[name] = json.dumps(value).encode()
    found = put(checkpoint, made)
    assert set(found.files) == set(made) - {files.SENTENCE}
    for number in (found.tokens or {}).values():
        assert 0 <= number < files.MAX_ID
    inspect_checkpoint(checkpoint)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=40), st.sampled_from((*NAMES, files.WORDS)))
def test_any_bytes_are_read(checkpoint: Path, raw: bytes, name: str) -> None:
    put(checkpoint, {name: raw})


DEEP = b'{"a":' * 100_000
PROBLEMS = {
    "cut": (files.FAST, b'{"model"', "tokenizer.json is not sound JSON: "),
    "deep": (files.FAST, DEEP, "tokenizer.json is not sound JSON: "),
    "not as deep": (
        files.ADDED,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        "added_tokens.json is nested more than 40 levels deep",
    ),
    "a list": (files.ADDED, b"[]", "added_tokens.json is not a JSON object"),
    "twice": (files.ADDED, b'{"xx": 3, "xx": 4}', "added_tokens.json is not sound JSON: duplicate key 'xx'"),
    "not a number": (files.SETTINGS, b'{"model_max_length": NaN}', "tokenizer_config.json is not sound JSON: "),
    "Latin-1": (files.WORDS, "zürich".encode("latin-1"), "vocab.txt is not UTF-8"),
}


@pytest.mark.parametrize(("name", "raw", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_problems(checkpoint: Path, name: str, raw: bytes, problem: str) -> None:
    (found,) = put(checkpoint, {name: raw}).problems
    assert found.startswith(problem)
    assert found in inspect_checkpoint(checkpoint).notes


@pytest.mark.parametrize("name", [files.FAST, files.WORDS])
def test_a_file_that_is_too_large_is_not_read(checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 30)
    assert put(checkpoint, {name: b"{}".ljust(30)}).problems == ()
    assert put(checkpoint, {name: b"{}".ljust(31)}).problems == (f"{name} is larger than 30 bytes",)


@pytest.mark.parametrize("name", [files.FAST, files.WORDS])
def test_a_file_that_holds_too_much_is_not_read(checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MEMORY", 300)
    found = put(checkpoint, {name: b"{}"})
    assert (found.files, found.problems) == ((name,), ())
    (problem,) = put(checkpoint, {name: b"{}\n{}\n{}"}).problems
    assert problem == f"{name} holds more than any tokenizer: reading it would take over 300 bytes of memory"


def test_a_vocabulary_of_another_kind_is_digested(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, whose borders may be anywhere."""
    monkeypatch.setattr(files, "MAX_DIGESTED", 30)
    monkeypatch.setattr(stored, "PIECE", 7)
    path = checkpoint / "sentencepiece.bpe.model"
    try:
        for size in (0, 14, 30):
            path.write_bytes(bytes(range(size)))
            assert put(checkpoint, {}).digests == {path.name: hashlib.sha256(bytes(range(size))).hexdigest()}
        path.write_bytes(bytes(31))
        assert put(checkpoint, {}).problems == (f"{path.name} is larger than 30 bytes",)
    finally:
        path.unlink()


@pytest.mark.parametrize("name", [files.FAST, files.WORDS])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("{}")
    (folder(tmp_path / "a", words=None) / name).symlink_to(tmp_path / "secret")
    found = read(tmp_path / "a")
    assert found.problems == (f"{name} is a symbolic link out of the checkpoint",)
    assert found.tokens is None


ID = {"true": True, "text": "3", "below zero": -1, "too large": 2**31, "part": 1.5, "null": None}


@pytest.mark.parametrize("number", ID.values(), ids=ID)
def test_ids_are_whole_numbers(checkpoint: Path, number: object) -> None:
    words = json.dumps({"xx": number, "yy": 7}).encode()
    found = put(checkpoint, {files.WORDS: b"\n".join(word.encode() for word in WORDS), files.ADDED: words})
    assert found.tokens == {**{word: at for at, word in enumerate(WORDS)}, "yy": 7}
    model = {"type": "WordPiece", "vocab": {"xx": number}}
    assert put(checkpoint, {files.FAST: json.dumps(fast(model=model)).encode()}).tokens is None


def test_other_vocabularies(checkpoint: Path) -> None:
    pieces = {"type": "Unigram", "vocab": [["<s>", 0.0], ["the", -1.5]]}
    found = put(checkpoint, {files.FAST: json.dumps(fast(model=pieces, added_tokens=[])).encode()})
    assert found.tokens == {"<s>": 0, "the": 1}
    assert found.rules is not None
    assert found.rules["model"] == pieces


@pytest.mark.parametrize("number", ["0" * 5000 + "3", "²", "-1", "", str(2**31)])
def test_ids_as_text(checkpoint: Path, number: str) -> None:
    decoder = {number: {"content": "xx"}, "17": {"content": "yy"}}
    found = put(
        checkpoint, {files.WORDS: b"the", files.SETTINGS: json.dumps({"added_tokens_decoder": decoder}).encode()}
    )
    assert found.tokens is not None
    assert found.tokens["yy"] == 17
    assert found.tokens.keys() & {"the", "xx"} == {"the"}


PIECE = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
STEPS: dict[str, Any] = {
    "no list": {"type": "TemplateProcessing", "single": 3, "pair": None},
    "an unhashable name": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": ["A"]}}], "pair": []},
    "two in one": {"type": "TemplateProcessing", "single": [{**PIECE, "Sequence": {"id": "A"}}], "pair": []},
    "an end that is no pair": {"type": "BertProcessing", "cls": ["[CLS]"], "sep": ["[SEP]", 3]},
    "another kind": {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]},
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_steps_that_are_not_understood_stay_as_they_are(checkpoint: Path, step: dict[str, Any]) -> None:
    found = put(checkpoint, {files.FAST: json.dumps(fast(post_processor=step)).encode()})
    assert found.rules is not None
    assert found.rules["special tokens around a text"] == step


def test_half_a_character_does_no_harm(checkpoint: Path, cli: Callable[..., Outcome]) -> None:
    put(checkpoint, {files.WORDS: b"the", files.ADDED: b'{"\\ud800": 99}'})
    assert json.loads(cli("inspect", checkpoint, "--json").out)["tokenizer"]["beyond"]["99"] == "\\ud800"
    assert cli("verify", checkpoint, checkpoint, "--level", "weights", "--json").code == 0


@pytest.mark.parametrize("name", [files.WORDS, "merges.txt"])
def test_a_file_that_changes_while_it_is_read(checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(checkpoint, {name: b"the"})
    real = SourceFile.read_into

    def read_and_write(file: SourceFile, *where: Any) -> None:
        real(file, *where)
        (checkpoint / name).write_bytes(b"another")

    monkeypatch.setattr(SourceFile, "read_into", read_and_write)
    try:
        with pytest.raises(DamagedCheckpoint, match="was modified while it was being read"):
            read(checkpoint)
    finally:
        (checkpoint / name).unlink()
