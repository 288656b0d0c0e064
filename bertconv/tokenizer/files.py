"""The tokenizer files of a checkpoint as text and JSON, each read whole and within a limit."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from typing import Any

from bertconv.errors import UnsafeCheckpoint
from bertconv.records import dataclass
from bertconv.source import Source
from bertconv.text import is_deep, parse_json
from bertconv.tokenizer.room import Room, TooLarge

MAX_BYTES = 20_000_000
"""Largest file that is read as text; those of BERTs have up to 17 MB."""
MAX_DIGESTED = 40_000_000
"""Largest file of which the digest is taken."""
MAX_DEPTH = 40
"""Most levels of JSON; real files have up to ten."""
MAX_ID = 2**31
"""Ids of tokens lie below it."""

FAST, WORDS = "tokenizer.json", "vocab.txt"
"""The file with everything that the tokenizers library needs, and the older list of words, one a line."""
SETTINGS, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
SENTENCE = "sentence_bert_config.json"
_JSON = (FAST, SETTINGS, SPECIAL, ADDED, SENTENCE)
_BYTES = ("*.model", "merges.txt", "vocab.json")
"""Vocabularies of other kinds, which are compared byte by byte."""


@dataclass(frozen=True)
class Files:
    """What could be read.

    Attributes:
        names: of the files, sorted.
        json: name -> content, of those that are JSON objects.
        words: token -> id as vocab.txt has it; None without one.
        digests: name -> sha256, of vocabularies of other kinds.
        problems: why a file could not be read, one sentence each.
    """

    names: tuple[str, ...]
    json: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, int] | None
    digests: Mapping[str, str]
    problems: tuple[str, ...]

    def settings(self, name: str) -> Mapping[str, Any]:
        """The content of a JSON file; empty without one."""
        return self.json.get(name, {})


def read_files(source: Source) -> Files:
    """Read the tokenizer files that go along with a checkpoint; problems of their content are reported, not raised.

    Raises:
        DamagedCheckpoint: a file cannot be opened or read, or changes meanwhile.
    """
    there = [name for name in source.sidecars if "/" not in name]
    plain: dict[str, Mapping[str, Any]] = {}
    digests: dict[str, str] = {}
    words: Mapping[str, int] | None = None
    problems: list[str] = []
    found = [name for name in there if name in (*_JSON, WORDS) or _is_other(name)]
    room = Room()
    for name in found:
        try:
            if name == WORDS:
                words = _words(_read(source, name), room)
            elif name in _JSON:
                plain[name] = _object(_read(source, name), room)
            else:
                digests[name] = _digest(source, name)
        except (_Unusable, TooLarge) as error:
            problems.append(f"{name} {error}")
        except UnsafeCheckpoint as error:  # what carries the files along refuses it
            problems.append(f"{name} {error.message.rstrip('.')}")
    return Files(tuple(name for name in found if name != SENTENCE), plain, words, digests, tuple(problems))


def _is_other(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _BYTES)


class _Unusable(Exception):
    """What is wrong with the content of a file."""


def _read(source: Source, name: str) -> bytes:
    with closing(source.open(name)) as file:
        if file.size > MAX_BYTES:
            raise _Unusable(f"is larger than {MAX_BYTES:,} bytes")
        content = file.read(0, file.size)
        file.check_unchanged()
        return content


def _digest(source: Source, name: str) -> str:
    with closing(source.open(name)) as file:
        if file.size > MAX_DIGESTED:
            raise _Unusable(f"is larger than {MAX_DIGESTED:,} bytes")
        digest = hashlib.sha256()
        for piece in file.pieces(0, file.size):
            digest.update(piece)
        file.check_unchanged()
        return digest.hexdigest()


def _object(content: bytes, room: Room) -> Mapping[str, Any]:
    try:
        text = content.decode()
        room.take_json(content, text)
        del content  # one of the two is enough
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"is not sound JSON: {error}") from error
    if not isinstance(value, dict):
        raise _Unusable("is not a JSON object")
    if is_deep(value, MAX_DEPTH):
        raise _Unusable(f"is nested more than {MAX_DEPTH} levels deep")
    return value


def _words(content: bytes, room: Room) -> dict[str, int]:
    room.take_lines(content)
    try:
        return words_in(content)
    except UnicodeDecodeError as error:
        raise _Unusable("is not UTF-8") from error


def words_in(content: bytes) -> dict[str, int]:
    """Token -> number of its line; of duplicate tokens the last line counts, as everywhere it is read.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    # \n, \r\n and \r end a line, and nothing else does
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=None)
    return {line.removesuffix("\n"): number for number, line in enumerate(lines)}
