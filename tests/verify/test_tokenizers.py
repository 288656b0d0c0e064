"""Tokenizer files of two checkpoints: what differs is named by its first entry, what means the same is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import WORDS, fast, folder

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.verify import compare as comparison
from bertconv.verify.agreement import Agreement
from bertconv.verify.parity import Parity

OLD = {"do_lower_case": True, "do_basic_tokenize": True, "never_split": None, "strip_accents": None,
       "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer", "model_max_length": 1e30,
       "cls_token": "[CLS]", "mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": True}}  # fmt: skip
"""A tokenizer_config.json of transformers 4."""
ENDS = {"sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
LACKING = ("[UNK]", "[CLS]", "the", "same")

Made = dict[str, Any]


def compare(tmp_path: Path, a: Made, b: Made, **options: Any) -> Parity:
    for name, made in (("a", a), ("b", b)):
        folder(tmp_path / name, **made)
    return verify_checkpoint(tmp_path / "a", tmp_path / "b", level="weights", digest=False, **options)


def swapped(one: str, other: str) -> tuple[str, ...]:
    return tuple({one: other, other: one}.get(word, word) for word in WORDS)


def rewritten(**changes: Any) -> Made:
    return {"words": None, "files": {"tokenizer.json": fast(), "tokenizer_config.json": {**OLD, **changes}}}


SAME = {
    "CRLF": ({"words": None, "files": {"vocab.txt": "\r\n".join(WORDS).encode()}}, {}),
    "an empty last line": ({"words": (*WORDS, "")}, {}),
    "white space behind a word": ({"words": [f"{word} " for word in WORDS]}, {}),
    "a config that says the defaults": ({}, {"files": {"tokenizer_config.json": OLD}}),
    "tokenizer.json": ({}, {"words": None, "files": {"tokenizer.json": fast()}}),
    "tokenizer.json beside vocab.txt": ({}, {"files": {"tokenizer.json": fast()}}),
    "tokenizer.json without the type of its model": (
        {}, {"words": None, "files": {"tokenizer.json": fast(
            model={"unk_token": "[UNK]", "vocab": dict(map(reversed, enumerate(WORDS)))})}}),
    "an older processor": ({}, {"words": None, "files": {
        "tokenizer.json": fast(post_processor={"type": "BertProcessing", **ENDS})}}),
    "strip_accents as lower-casing implies": ({}, {"files": {"tokenizer_config.json": {"strip_accents": True}}}),
    "BertTokenizerFast": ({}, rewritten(tokenizer_class="BertTokenizerFast")),
    "a generic class": ({}, rewritten(tokenizer_class="PreTrainedTokenizerFast")),
    "no limit, and one that the model has": ({}, {"files": {"tokenizer_config.json": {"model_max_length": 37}}}),
    "special tokens as text and as objects": (
        {"files": {"special_tokens_map.json": {"cls_token": "[CLS]"}}},
        {"files": {"special_tokens_map.json": {"cls_token": {"content": "[CLS]", "lstrip": False}}}}),
    "added tokens, in each of three files": (
        {"files": {"added_tokens.json": {"xx": 14, "yy": 15}}},
        {"files": {"tokenizer_config.json": {"added_tokens_decoder": {
            "14": {"content": "xx"}, "15": {"content": "yy"}}}}}),
    "added tokens, in tokenizer.json": (
        {"files": {"added_tokens.json": {"xx": 14}}},
        {"words": None, "files": {"tokenizer.json": fast(added={"xx": 14})}}),
    "additional special tokens by either name": (
        {"files": {"special_tokens_map.json": {"additional_special_tokens": ["a", "the"]}}},
        {"files": {"tokenizer_config.json": {"extra_special_tokens": ["the", "a"]}}}),
    "special tokens that transformers adds": (
        {"words": LACKING}, {"words": LACKING, "files": {"added_tokens.json": {"[SEP]": 4, "[PAD]": 5, "[MASK]": 6}}}),
    "other kinds of vocabulary": ({"words": None, "files": {"spiece.model": b"one"}},) * 2,
}  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME.values(), ids=SAME)
def test_the_same(tmp_path: Path, a: Made, b: Made) -> None:
    parity = compare(tmp_path, a, b)
    assert (parity.tokenizer.state, parity.tokenizer.differences) == ("same", ())
    assert parity.ok
    assert parity.verdict() == "The same weights: 39/39 tensors equal, bit for bit."


DIFFERENT = {
    "two words swapped": ({}, {"words": swapped("same", "model")},
                          "vocabulary", 2, "token 6 is 'same' in A and 'model' in B"),
    "swapped in tokenizer.json": ({}, {"words": None, "files": {"tokenizer.json": fast(swapped("the", "."))}},
                                  "vocabulary", 2, "token 5 is 'the' in A and '.' in B"),
    "a word more": ({}, {"words": (*WORDS, "more")}, "vocabulary", 1, "token 14 is missing in A and 'more' in B"),
    "an added token less": ({"files": {"added_tokens.json": {"xx": 14}}}, {},
                            "vocabulary", 1, "token 14 is 'xx' in A and missing in B"),
    "cased": ({}, {"files": {"tokenizer_config.json": {"do_lower_case": False, "strip_accents": True}}},
              "do_lower_case", 1, "do_lower_case is True in A and False in B"),
    "accents": ({}, {"files": {"tokenizer_config.json": {"strip_accents": False}}},
                "strip_accents", 1, "strip_accents is True in A and False in B"),
    "Chinese characters": ({"files": {"tokenizer_config.json": {"tokenize_chinese_chars": False}}}, {},
                           "tokenize_chinese_chars", 1, "tokenize_chinese_chars is False in A and True in B"),
    "a shorter maximum": ({}, {"files": {"tokenizer_config.json": {"model_max_length": 23}}},
                          "model_max_length", 1, "model_max_length is unlimited in A and 23 in B"),
    "another maximum": ({"files": {"tokenizer_config.json": {"model_max_length": 17}}},
                        {"files": {"tokenizer_config.json": {"model_max_length": 23}}},
                        "model_max_length", 1, "model_max_length is 17 in A and 23 in B"),
    "a maximum of sentence-transformers": ({"files": {"sentence_bert_config.json": {"max_seq_length": 11}}}, {},
                                           "max_seq_length", 1, "max_seq_length is 11 in A and unlimited in B"),
    "padding on the left": ({}, {"files": {"tokenizer_config.json": {"padding_side": "left"}}},
                            "padding_side", 1, "padding_side is 'right' in A and 'left' in B"),
    "another first token": ({}, {"files": {"special_tokens_map.json": {"cls_token": {"content": "a"}}}},
                            "cls_token", 1, "cls_token is '[CLS]' in A and 'a' in B"),
    "a special token more": ({}, {"files": {"special_tokens_map.json": {"additional_special_tokens": ["a"]}}},
                             "additional special tokens", 1, "additional special tokens is [] in A and ['a'] in B"),
    "another pre-tokenizer": ({}, {"words": None, "files": {"tokenizer.json": fast(
        pre_tokenizer={"type": "Whitespace"})}}, "pre-tokenizer", 1,
                              "pre-tokenizer is {'type': 'BertPreTokenizer'} in A and {'type': 'Whitespace'} in B"),
    "nothing around a text": ({}, {"words": None, "files": {"tokenizer.json": fast(post_processor=None)}},
                              "special tokens around a text", 1, None),
    "lower-casing in tokenizer.json alone": (
        {}, {"words": None, "files": {"tokenizer.json": fast(
            normalizer={"type": "BertNormalizer", "lowercase": False})}}, "normaliser", 1, None),
    "shorter words": ({}, {"words": None, "files": {"tokenizer.json": fast(
        model={**fast()["model"], "max_input_chars_per_word": 7})}}, "model", 1, None),
    "an added token found elsewhere": (
        {"files": {"tokenizer_config.json": {"added_tokens_decoder": {
            "14": {"content": "xx", "normalized": True, "single_word": False}}}}},
        {"files": {"tokenizer_config.json": {"added_tokens_decoder": {
            "14": {"content": "xx", "normalized": False, "single_word": False}}}}},
        "how 'xx' is found in a text", 1, None),
    "another sentencepiece model": ({"words": None, "files": {"spiece.model": b"one"}},
                                    {"words": None, "files": {"spiece.model": b"other"}},
                                    "spiece.model", 1, "spiece.model has other bytes in B than in A"),
    "a file that is broken on one side": (
        {}, {"files": {"tokenizer.json": b"{"}}, "files", 1,
        ("in B tokenizer.json is not sound JSON: Expecting property name enclosed in double quotes: "
         "line 1 column 2 (char 1)")),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "what", "count", "sentence"), DIFFERENT.values(), ids=DIFFERENT)
def test_different(tmp_path: Path, a: Made, b: Made, what: str, count: int, sentence: str | None) -> None:
    parity = compare(tmp_path, a, b)
    (found,) = parity.tokenizer.differences
    assert (found.what, found.count) == (what, count)
    assert sentence in (None, found.sentence)
    assert not parity.ok
    assert parity.verdict() == f"Not the same model: {found.sentence}."
    assert (parity.divergence.place, parity.divergence.evidence) == ("tokenizer", "tokenizer")
    assert found.sentence in parity.failure_text()


def test_ignored(tmp_path: Path) -> None:
    parity = compare(tmp_path, {}, {"words": swapped("same", "model")}, ignore=("tokenizer",))
    assert parity.ok
    assert (parity.tokenizer.state, parity.tokenizer.ignored) == ("different", True)
    assert parity.verdict().endswith("bit for bit; differences in the tokenizer were ignored.")
    assert parity.command.endswith(" --ignore tokenizer")
    other = compare(tmp_path / "other", {}, {"words": swapped("same", "model")}, ignore=("labels",))
    assert not other.ok


NONE: Made = {"words": None}


@pytest.mark.parametrize(("a", "b", "about"), [
    (NONE, NONE, "A and B have no tokenizer files"),
    ({}, NONE, "B has no tokenizer files"),
    (NONE, {}, "A has no tokenizer files"),
    ({"words": None, "files": {"tokenizer.json": b"[]"}}, {"words": None, "files": {"vocab.txt": b"\xff"}},
     "A's tokenizer.json is not a JSON object, and B's vocab.txt is not UTF-8"),
])  # fmt: skip
def test_what_is_missing_is_no_difference(tmp_path: Path, a: Made, b: Made, about: str) -> None:
    parity = compare(tmp_path, a, b)
    assert parity.tokenizer == Agreement("not compared", about)
    assert parity.ok


def test_the_length_of_tokenizer_json_is_a_note(tmp_path: Path) -> None:
    truncation = {"max_length": 21, "strategy": "longest_first", "stride": 0, "direction": "Right"}
    a, b = ({"words": None, "files": {"tokenizer.json": fast(truncation=one)}} for one in (truncation, None))
    parity = compare(tmp_path, a, b)
    assert parity.ok
    assert parity.notes == (
        "A and B: rows 14 to 18 of the embedding table are no token's: padding rows",
        (
            "tokenizer.json cuts texts at 21 tokens in A and nothing in B: transformers sets that anew for every call, "
            "others may not"
        ),
    )


@pytest.mark.parametrize(("files", "note"), [
    ({"tokenizer.json": fast(swapped("a", "the"))},
     "vocab.txt has 'the' as id 5, and in tokenizer.json, which counts, it is id 8"),
    ({"tokenizer.json": fast(), "tokenizer_config.json": {"do_lower_case": False}},
     ("tokenizer.json has lowercase True, and transformers uses do_lower_case False of tokenizer_config.json or by "
      "default")),
])  # fmt: skip
def test_a_side_that_contradicts_itself(tmp_path: Path, files: Made, note: str) -> None:
    assert f"A and B: {note}" in compare(tmp_path, {"files": files}, {"files": files}).notes


# transformers as the oracle


ORIGINALS: Mapping[str, Made] = {
    "vocab.txt alone": {},
    "cased": {"files": {"tokenizer_config.json": {"do_lower_case": False, "model_max_length": 29}}},
    "accents": {"files": {"tokenizer_config.json": {"strip_accents": False, "tokenize_chinese_chars": False}}},
    "of transformers 4": {"files": {"tokenizer_config.json": OLD}},
    "added tokens": {"files": {"added_tokens.json": {"xx": 14, "YY": 15},
                               "special_tokens_map.json": {"additional_special_tokens": ["xx"]}}},
    "an object among the special tokens": {"files": {"special_tokens_map.json": {
        "mask_token": {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": False,
                       "single_word": False}}}},
    "lacking special tokens": {"words": LACKING},
    "another first token": {"files": {"tokenizer_config.json": {"cls_token": "a", "bos_token": "<s>"}}},
    "CRLF": {"words": None, "files": {"vocab.txt": "\r\n".join(WORDS).encode()}},
    "tokenizer.json of transformers 4": {"files": {"tokenizer.json": fast(), "tokenizer_config.json": OLD}},
    "padding and truncation": {"words": None, "files": {"tokenizer_config.json": OLD, "tokenizer.json": fast(
        truncation={"max_length": 21, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        padding={"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                 "pad_type_id": 0, "pad_token": "[PAD]"})}},
    "odd lines": {"words": (*WORDS, "a", "b\u00a0", "")},
}  # fmt: skip
TEXTS = ("The same  models, a ZÜRICH 日日 xx [MASK] YY.", "unknown.")


def tokenizer(path: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(path)


def ids(path: Path) -> list[list[int]]:
    found = tokenizer(path)
    return [found(text).input_ids for text in (*TEXTS, *map(str.lower, TEXTS))]


@pytest.mark.parametrize("made", ORIGINALS.values(), ids=ORIGINALS)
def test_transformers_writes_the_same_tokenizer(tmp_path: Path, made: Made) -> None:
    folder(tmp_path / "a", **made, vocab_size=40)
    folder(tmp_path / "b", words=None, vocab_size=40)
    tokenizer(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "vocab.txt").exists()
    assert ids(tmp_path / "a") == ids(tmp_path / "b")
    for one, other in (("a", "b"), ("b", "a"), ("b", "b")):
        parity = verify_checkpoint(tmp_path / one, tmp_path / other, level="weights", digest=False)
        assert parity.tokenizer.differences == ()
        assert parity.tokenizer.state == "same"


SEEN = ("two words swapped", "an added token less", "accents", "Chinese characters", "another first token")


@pytest.mark.parametrize("case", SEEN)
def test_what_differs_gives_other_ids(tmp_path: Path, case: str) -> None:
    a, b, *_ = DIFFERENT[case]
    assert not compare(tmp_path, a, b).ok
    assert ids(tmp_path / "a") != ids(tmp_path / "b")


# Conversions


def test_a_conversion_carries_both(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", files={"tokenizer.json": fast(), "tokenizer_config.json": OLD})
    report = convert_checkpoint(source, tmp_path / "b", verify="weights")
    assert "rows 14 to 18 of the embedding table are no token's: padding rows" in report.notes
    parity = verify_checkpoint(source, tmp_path / "b", level="weights")
    assert (parity.labels.sentence(), parity.tokenizer.sentence()) == ("3 labels, the same", "14 tokens, the same")


def test_a_file_alone_has_no_tokenizer(tmp_path: Path) -> None:
    source = folder(tmp_path / "a")
    file = tmp_path / "elsewhere" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes((source / file.name).read_bytes())
    parity = verify_checkpoint(file, source, level="weights", config_a=source / "config.json")
    assert parity.ok
    assert parity.tokenizer.sentence() == "not compared: A has no tokenizer files"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    source = folder(tmp_path / "a")
    (folder(tmp_path / "b", words=None) / "vocab.txt").symlink_to(source / "vocab.txt")
    (found,) = verify_checkpoint(source, tmp_path / "b", level="weights").tokenizer.differences
    assert found.sentence == "in B vocab.txt is a symbolic link out of the checkpoint"


def test_the_class_does_not_matter(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, words, head="BertModel") for name, words in (("a", WORDS), ("b", WORDS[::-1])))
    assert not verify_checkpoint(a, b, level="weights").ok


def test_json_carries_it(tmp_path: Path) -> None:
    facts = json.loads(json.dumps(compare(tmp_path, {}, {"words": swapped("same", "model")}).to_json()))
    assert facts["tokenizer"] == {
        "state": "different", "about": "14 tokens", "ignored": False, "ok": False,
        "differences": [{"what": "vocabulary", "count": 2, "sentence": "token 6 is 'same' in A and 'model' in B"}],
    }  # fmt: skip
    assert facts["labels"] == {"state": "same", "about": "3 labels", "ignored": False, "ok": True, "differences": []}
    assert not facts["ok"]


def test_sentences_are_read_as_the_settings_of_a_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class MadeError(Exception):
        pass

    def make(*arguments: Any) -> None:
        raise MadeError(*arguments)

    monkeypatch.setattr(comparison, "make_batches", make)
    a = folder(tmp_path / "a", files={"tokenizer_config.json": {"do_lower_case": False}})
    with pytest.raises(MadeError) as seen:
        verify_checkpoint(a, folder(tmp_path / "b"), level="outputs")
    settings = seen.value.args[-1]
    assert (settings["do_lower_case"], settings["strip_accents"]) == (False, False)
