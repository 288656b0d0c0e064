"""A checkpoint's tokenizer as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bertconv.records import dataclass
from bertconv.source import Source
from bertconv.text import shown
from bertconv.tokenizer.files import FAST, MAX_ID, WORDS, Files, read_files
from bertconv.tokenizer.rules import flags_of, rules_of, settings_of, truncation_of
from bertconv.tokenizer.vocabulary import (
    added_tokens,
    base_vocabulary,
    is_wordpiece,
    model_of,
    reachable,
    special_tokens,
    whole_vocabulary,
)


@dataclass(frozen=True)
class Tokenizer:
    """What the files say.

    Attributes:
        files: those that were found; none of them means that there is no tokenizer.
        tokens: token -> id, added and special tokens too; None where no file lists them.
        special: role, as `cls_token`, -> token.
        additional: special tokens without a role, sorted.
        settings: key of tokenizer_config.json -> value, BERT's defaults filled in; a length of None is no limit.
        rules: the steps of tokenizer.json, in one spelling.
        flags: added token -> where it is found in a text, of those of which a file says it.
        truncation: tokens to which tokenizer.json cuts a text by itself; None where it does not.
        digests: file -> sha256, of vocabularies that are not read.
        problems: why a file cannot be used, one sentence each.
        notes: what is unusual, one sentence each.
    """

    files: tuple[str, ...] = ()
    tokens: Mapping[str, int] | None = None
    special: Mapping[str, str] | None = None
    additional: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None
    rules: Mapping[str, Any] | None = None
    flags: Mapping[str, Mapping[str, bool]] | None = None
    truncation: int | None = None
    digests: Mapping[str, str] | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_tokenizer(source: Source) -> Tokenizer:
    """Read the tokenizer files of a checkpoint. What is wrong with their content is in `problems`, and no error.

    Raises:
        DamagedCheckpoint: a file cannot be opened or read, or changes meanwhile.
    """
    files = read_files(source)
    special, more = special_tokens(files)
    base, added = base_vocabulary(files), added_tokens(files)
    tokens = None
    if base is not None:
        wordpiece = is_wordpiece(files)
        named = [*special.values(), *more] if wordpiece else more
        numbers = {token: number for token, (number, _) in added.items()}
        tokens = whole_vocabulary(base[1], numbers, named, wordpiece=wordpiece)
    return Tokenizer(
        files=files.names, tokens=tokens, special=special, additional=more, settings=settings_of(files),
        rules=rules_of(files, special, tokens or {}),
        flags={token: flags for token, (_, facts) in added.items() if (flags := flags_of(facts)) is not None},
        truncation=truncation_of(files), digests=files.digests, problems=files.problems,
        notes=tuple(_notes(files, base)),
    )  # fmt: skip


def _notes(files: Files, base: tuple[str, Mapping[str, int]] | None) -> Iterator[str]:
    """What is not clear from its file alone, and where two files of one folder say different things."""
    if "vocab" in model_of(files) and (base is None or base[0] != FAST):
        yield f"the vocabulary in {FAST} is not tokens with whole numbers from 0 to {MAX_ID - 1:,} as ids"
    if base is not None and base[0] == FAST and files.words is not None and is_wordpiece(files):
        one, other = reachable(base[1]), reachable(files.words)
        if token := next((token for token in other if one.get(token) != other[token]), None):
            there = f"id {one[token]}" if token in one else "not there"
            yield f"{WORDS} has {shown(token)} as id {other[token]}, and in {FAST}, which counts, it is {there}"
    settings = settings_of(files)
    stated = rules_of(files, {}, {}).get("normaliser") if FAST in files.json else None
    if isinstance(stated, dict) and "lowercase" in stated and stated["lowercase"] != settings["do_lower_case"]:
        yield (
            f"{FAST} has lowercase {stated['lowercase']}, and transformers uses do_lower_case "
            f"{settings['do_lower_case']} of tokenizer_config.json or by default"
        )
