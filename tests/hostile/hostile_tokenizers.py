"""Tokenizer files that nothing can be made of, or too much: they are noted, go along as they are, and stop nothing."""

from __future__ import annotations

from typing import Any

from hostile_configs import text
from hostile_folders import Content, put
from hostile_unusual import Oddity

FAST, WORDS, ADDED, SETTINGS = "tokenizer.json", "vocab.txt", "added_tokens.json", "tokenizer_config.json"
MILLION = 1_000_000
_NO_JSON = f"{FAST} is not sound JSON"
_LINES = f"{WORDS} has more than 690,000 lines"
_TOO_MUCH = "holds more than any tokenizer"
_OPEN = '{"\U0001f600": "'.encode()
_IDS = f"the vocabulary in {FAST} is not tokens with whole numbers from 0 to 2,147,483,647 as ids"


def said(name: str, content: Content, note: str = "") -> Oddity:
    return Oddity(put(name, content), note, carried=(name,), inspected=True)


def model(vocabulary: bytes, **more: Any) -> bytes:
    """A tokenizer.json with this for its vocabulary."""
    whole = text({**more, "model": {"type": "WordPiece", "vocab": "?"}})
    return whole.replace(b'"?"', vocabulary)


def beyond(words: str) -> str:
    return f"the tokenizer's id 777 ({words}) has no row"


def template(pieces: int, ids: int) -> bytes:
    """Every piece of what is put around a text stands for many ids."""
    step = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}] * pieces, "pair": [],
        "special_tokens": {"x": {"id": "x", "ids": list(range(ids)), "tokens": ["x"]}},
    }  # fmt: skip
    return model(b'{"x":3}', post_processor=step)


NEARLY: dict[str, Oddity] = {
    "nearly too many lists": said(FAST, lambda: b'{"a":[' + b'[],[],[],[],[],"",' * 220_000 + b"[]]}"),
    "nearly too many objects": said(FAST, lambda: b'{"a":[' + b'{"a":333},' * 320_000 + b"1]}"),
    "nearly too many keys": said(
        FAST, lambda: b'{"a":{' + b",".join(b'"%x":%d' % (n, n + 999) for n in range(690_000)) + b"}}"
    ),
    "nearly too many added tokens": said(
        FAST,
        lambda: b'{"added_tokens":['
        + b",".join(b'{"id":%d,"content":"%x","normalized":true,"single_word":true}' % (n, n) for n in range(130_000))
        + b"]}",
    ),
    "nearly too many lines with a space": said(
        WORDS, lambda: b"".join(b"%x \n" % n for n in range(689_000)), "have no row"),
    "a little of each": Oddity(
        lambda folder: [
            put(name, b'{"a":{' + b",".join(b'"%x":[]' % n for n in range(230_000)) + b"}}")(folder)
            for name in (FAST, ADDED, SETTINGS, "special_tokens_map.json")
        ],
        _TOO_MUCH, carried=(FAST, ADDED, SETTINGS, "special_tokens_map.json"), inspected=True,
    ),
}  # fmt: skip
"""Those that are read, or in part."""

HEAVY: dict[str, Oddity] = {
    "3,300,000 lists": said(FAST, lambda: b'{"a":[' + b"[]," * 3_300_000 + b"[]]}", _TOO_MUCH),
    "700,000 objects": said(FAST, lambda: b'{"a":[' + b'{"a":1},' * 700_000 + b"1]}", _TOO_MUCH),
    "4,000,000 numbers": said(FAST, lambda: b'{"a":[' + b"333," * 4 * MILLION + b"1]}", _TOO_MUCH),
    "1,000,000 tokens": said(
        FAST, lambda: model(b"{" + b",".join(b'"%x":%d' % (n, n) for n in range(MILLION)) + b"}"), _TOO_MUCH
    ),
    "1,000,000 lines": said(WORDS, lambda: b"".join(b"%x\n" % n for n in range(MILLION)), _LINES),
    "10^7 lines without a word": said(WORDS, lambda: b"\r" * 10 * MILLION, _LINES),
    "one text": said(FAST, lambda: _OPEN + b"a" * 19 * MILLION + b'"}', "bytes without a quotation mark"),
    "one text of escapes": said(FAST, lambda: _OPEN + b'\\"' * 9 * MILLION + b'"}', _TOO_MUCH),
    "one word": said(WORDS, lambda: "\U0001f600".encode() * 4 * MILLION, "has a line of more than"),
    "19 MB of white space": said(
        FAST, lambda: "{\U0001f600".encode() + b" " * 19 * MILLION, "bytes without a quotation mark"
    ),
    "10^9 ids around a text": said(FAST, lambda: template(30_000, 30_000)),
    "100,000 special tokens": Oddity(
        lambda folder: [
            put(FAST, model(b'{"x":3}', added_tokens=[{"id": n, "content": f"a{n}"} for n in range(30_000)]))(folder),
            put(SETTINGS, text({"additional_special_tokens": [f"b{n}" for n in range(100_000)]}))(folder),
        ],
        "have no row", carried=(FAST, SETTINGS), inspected=True,
    ),
}  # fmt: skip
"""Those that would take memory, or time."""

CASES: dict[str, Oddity] = {
    **HEAVY,
    "100,000 brackets": said(FAST, b'{"a":' + b"[" * 100_000, _NO_JSON),
    "900 brackets": said(FAST, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", "is nested more than 40 levels deep"),
    "a NUL": said(FAST, model(b'{"x":3}') + b"\0", _NO_JSON),
    "a token twice": said(FAST, model(b'{"x":3,"x":4}'), f"{_NO_JSON}: duplicate key 'x'"),
    "an id twice": said(FAST, model(b'{"x":777,"y":777,"z":3}'), beyond("'y'")),
    **{
        f"id {number}": said(FAST, model(b'{"x":%s}' % number.encode()), _IDS)
        for number in ("9223372036854775808", "2147483648", "-1", "1.5", "1e3", "true", '"3"', "null", "[3]")
    },
    "the highest id": said(FAST, model(b'{"x":2147483647}'), "the tokenizer's id 2147483647 ('x') has no row"),
    "an id of 5,000 digits": said(FAST, model(b'{"x":' + b"9" * 5000 + b"}"), _NO_JSON),
    "half a letter": said(ADDED, b'{"\\ud800":777}'),
    "half a letter in the vocabulary": said(FAST, model(b'{"\\ud800":777}'), beyond("'\\ud800'")),
    "a token that clears the screen": said(FAST, model(b'{"\\u001b[2J":777}'), beyond("'\\x1b[2J'")),
    "a token that turns the text around": said(FAST, model('{"\u202ea":777}'.encode()), beyond("'\\u202ea'")),
    "a token of 400,000 letters": said(FAST, model(b'{"%s":777}' % (b"a" * 400_000)), "id 777 ('aaaaaaaaaa"),
    "NUL in a list of words": said(WORDS, b"a\0\n" * 102, "the tokenizer's id 101 ('a\\x00') has no row"),
    "a list of words that is UTF-16": said(WORDS, "ab\nc".encode("utf-16"), f"{WORDS} is not UTF-8"),
}
