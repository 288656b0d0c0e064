"""Texts are cut as the tokenizers library cuts them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertconv.tokenizer.wordpiece import WordPieces

WORDS = ("[UNK]", "a", "b", "ab", "c", "##a", "##b", "##abc", "##é", "é", "e", "-", "日", "A", "B")
TOKENS = {word: number for number, word in enumerate(WORDS)}


@pytest.mark.parametrize(
    ("token", "pieces"),
    [
        ("ab", ["ab"]), ("ABa", ["ab", "##a"]), ("##abc", ["##abc"]), ("##ab", ["##a", "##b"]), ("a-b", ["a", "-", "b"]),
        ("é", ["e"]), ("ab日c", ["ab", "日", "c"]), ("ax", []), ("ax-b", ["-", "b"]), ("##", []), ("##a-b", ["##a", "-", "b"]),
        ("a" * 101, []), ("", []), ("##x", []),
    ],
)  # fmt: skip
def test_a_token_is_cut(token: str, pieces: list[str]) -> None:
    assert [WORDS[one] for one in WordPieces(TOKENS).of_token(token)] == pieces


@pytest.mark.parametrize(("lower", "accents"), [(True, True), (False, False), (True, False)])
@settings(max_examples=60, deadline=None)
@given(text=st.text("abcABéE\u0301-_~ \t日。\u200d\u00a0\u0085x", max_size=8))
@example(text="a\u2014b")
def test_as_the_library_does(lower: bool, accents: bool, text: str) -> None:
    library = pytest.importorskip("tokenizers")
    oracle = library.Tokenizer(library.models.WordPiece(TOKENS, unk_token="[UNK]"))
    oracle.normalizer = library.normalizers.BertNormalizer(lowercase=lower, strip_accents=accents)
    oracle.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    expected = [number for number in oracle.encode(text).ids if number != TOKENS["[UNK]"]]
    if not text.startswith("##"):
        assert list(WordPieces(TOKENS, lower=lower, strip_accents=accents).of_token(text)) == expected
