"""A text cut into the pieces of words that a vocabulary has, as BERT does it (Devlin et al. 2018, tokenization.py).

It is for the few tokens of another vocabulary, not for texts: the ids of a model's inputs come from its own tokenizer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from bertconv.records import dataclass

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Code points that are a word each."""
_SIGNS = ((33, 47), (58, 64), (91, 96), (123, 126))
"""Signs of ASCII that count as punctuation whatever Unicode calls them."""


@dataclass(frozen=True)
class WordPieces:
    """How a text is cut.

    Attributes:
        tokens: token -> id.
        prefix: what stands before a piece that continues a word.
        lower: letters are lower-cased first.
        strip_accents: accents are taken off first.
        ideographs: each of them is a word.
        longest: characters of a word beyond which it is not looked up.
    """

    tokens: Mapping[str, int]
    prefix: str = "##"
    lower: bool = True
    strip_accents: bool = True
    ideographs: bool = True
    longest: int = 100

    def of_token(self, token: str) -> tuple[int, ...]:
        """Ids of the pieces of a token of another vocabulary; of words that cannot be cut none."""
        if token.startswith(self.prefix) and len(token) > len(self.prefix):
            first, *more = [*self._words(token[len(self.prefix) :]), ""]
            return (*self._pieces(first, continues=True), *(one for word in more for one in self._pieces(word)))
        return tuple(one for word in self._words(token) for one in self._pieces(word))

    def _pieces(self, word: str, *, continues: bool = False) -> tuple[int, ...]:
        """The longest piece that fits, again and again; nothing where one of them is not there."""
        found: list[int] = []
        start = 0
        while start < len(word) <= self.longest:
            mark = self.prefix if start or continues else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self.tokens), None)
            if end is None:
                return ()
            found.append(self.tokens[mark + word[start:end]])
            start = end
        return tuple(found)

    def _words(self, text: str) -> Iterator[str]:
        text = text.lower() if self.lower else text
        if self.strip_accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        word = ""
        for sign in text:
            alone = _is_punctuation(sign) or (self.ideographs and _is_in(ord(sign), _IDEOGRAPHS))
            if alone or sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf"):
                yield from filter(None, (word, sign if alone else ""))
                word = ""
            else:
                word += sign
        if word:
            yield word


def _is_punctuation(sign: str) -> bool:
    return _is_in(ord(sign), _SIGNS) or unicodedata.category(sign).startswith("P")


def _is_in(number: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= number <= last for first, last in ranges)
