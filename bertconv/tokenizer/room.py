"""How much memory tokenizer files may take: it is reckoned from their bytes before anything is made of them.

Ten million bytes of `[],` are a tokenizer.json of 300 MB in memory, and of 180 MB more while it is read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

MEMORY = 170_000_000
"""Bytes that all files of a tokenizer may take together. The most tokens of a BERT, LaBSE's 501,153, take up to 160 MB,
and the 250,002 of XLM-R, in a file of 17 MB, 120 MB."""
LINES = 690_000
"""Most lines of a list of words: Python's dictionaries take three times the room from 699,050 entries on."""
LONGEST = 500_000
"""Bytes of a file's longest text, or twice as many; real ones, tables of a normaliser, have up to 320,000."""

_KEPT: Mapping[bytes, int] = {b"[": 96, b"{": 240, b",": 40, b":": 90}
"""Sign of JSON -> bytes that what it stands for may take: a list, an object, a value, a key."""
_PASSING: Mapping[bytes, int] = {b":": 100, b"\\": 24}
"""The same, of what is needed only while it is read."""
_LINE = 200
"""Bytes that a line of a list of words may take, with what is made of it."""


class TooLarge(Exception):
    """What is too large about a file."""


class Room:
    """Memory for the files of one tokenizer."""

    def __init__(self) -> None:
        self._kept = 0

    def take_json(self, content: bytes, text: str) -> None:
        """Make room for a JSON text.

        Args:
            content: the file.
            text: the same, decoded.

        Raises:
            TooLarge: there is none.
        """
        passing = sys.getsizeof(text) + sum(content.count(sign) * size for sign, size in _PASSING.items())
        self._take(sum(content.count(sign) * size for sign, size in _KEPT.items()), passing)
        if _is_long(content, b'"'):
            raise TooLarge(f"holds more than {LONGEST:,} bytes without a quotation mark")

    def take_lines(self, content: bytes) -> None:
        """Make room for a list of words, one a line; errors as for `take_json`."""
        lines = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n") + 1
        if lines > LINES:
            raise TooLarge(f"has more than {LINES:,} lines")
        if _is_long(content, b"\n", b"\r"):
            raise TooLarge(f"has a line of more than {LONGEST:,} bytes")
        self._take(lines * _LINE, 0)

    def _take(self, kept: int, passing: int) -> None:
        if self._kept + kept + passing > MEMORY:
            raise TooLarge(f"holds more than any tokenizer: reading it would take over {MEMORY:,} bytes of memory")
        self._kept += kept


def _is_long(content: bytes, *ends: bytes) -> bool:
    """Whether there are `LONGEST` bytes in a row, from one multiple of it to the next, without any of these."""
    starts = range(0, len(content) - LONGEST + 1, LONGEST)
    return any(all(content.find(end, start, start + LONGEST) < 0 for end in ends) for start in starts)
