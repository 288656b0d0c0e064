"""Do two sides make the same ids of a text? Their tokenizer files say so, whichever of them each side has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bertconv.checkpoint import Checkpoint
from bertconv.text import shown
from bertconv.tokenizer import Tokenizer, tokenizer_notes
from bertconv.tokenizer.rules import AROUND
from bertconv.verify.agreement import Agreement, Mismatch, compared

_LENGTHS = ("model_max_length", "max_seq_length")
_NORMALISING = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")


def compare_tokenizers(a: Checkpoint, b: Checkpoint, *, ignored: bool = False) -> Agreement:
    """Vocabulary, special tokens, and what else decides the ids of a text. Files that a side lacks are no difference.

    A file that cannot be read is one where the other side's can.
    """
    one, other = a.tokenizer, b.tokenizer
    if reason := _obstacle(one, other):
        return Agreement(about=reason, ignored=ignored)
    differences = list(_broken(one, other))
    if not differences:
        # Positions beyond the model's cannot be used, so a limit above is none.
        differences = list(_differences(one, other, int(b.values["max_position_embeddings"])))
    about = "settings"
    if one.tokens is not None and other.tokens is not None:
        about = f"{len(one.tokens):,} tokens"
    return compared(tuple(differences), about, ignored=ignored)


def notes_of_both(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    """What is unusual about either tokenizer, and where they differ without a difference in the ids of a text."""
    found = [list(tokenizer_notes(side.tokenizer, int(side.values["vocab_size"]))) for side in (a, b)]
    for note in dict.fromkeys([*found[0], *found[1]]):
        whose = [letter for letter, notes in zip("AB", found, strict=True) if note in notes]
        yield f"{' and '.join(whose)}: {note}"
    cuts = [side.tokenizer.truncation for side in (a, b)]
    if cuts[0] != cuts[1] and a.tokenizer.rules and b.tokenizer.rules:
        one, other = ("nothing" if cut is None else f"texts at {cut} tokens" for cut in cuts)
        yield (
            f"tokenizer.json cuts {one} in A and {other} in B: transformers sets that anew for every call, "
            "others may not"
        )


def _obstacle(one: Tokenizer, other: Tokenizer) -> str:
    """Why there is nothing to compare; empty where there is."""
    bare = [letter for letter, side in (("A", one), ("B", other)) if not side.files and not side.problems]
    if bare:
        return f"{' and '.join(bare)} {'has' if len(bare) == 1 else 'have'} no tokenizer files"
    if one.problems and other.problems:
        return f"A's {one.problems[0]}, and B's {other.problems[0]}"
    return ""


def _broken(one: Tokenizer, other: Tokenizer) -> Iterator[Mismatch]:
    for letter, side in (("A", one), ("B", other)):
        yield from (Mismatch("files", 1, f"in {letter} {problem}") for problem in side.problems)


def _differences(one: Tokenizer, other: Tokenizer, positions: int) -> Iterator[Mismatch]:
    if one.tokens is not None and other.tokens is not None:
        yield from _vocabulary(one.tokens, other.tokens)
    for name, digest, its in _of_both(one.digests, other.digests):
        if digest != its:
            yield Mismatch(name, 1, f"{name} has other bytes in B than in A")
    for role in sorted({**(one.special or {}), **(other.special or {})}):
        yield from _unequal(role, *((side.special or {}).get(role) for side in (one, other)))
    yield from _unequal("additional special tokens", list(one.additional), list(other.additional))
    settings = _settings(one, other, positions)
    yield from settings
    reported = {"normaliser"} if any(found.what in _NORMALISING for found in settings) else set()
    reported |= {AROUND} if one.special != other.special or _ends(one) != _ends(other) else set()
    for name, rule, its in _of_both(one.rules, other.rules):
        if name not in reported:
            yield from _unequal(name, rule, its)
    for token, flags, its in _of_both(one.flags, other.flags):
        yield from _unequal(f"how {shown(token)} is found in a text", flags, its)


def _of_both(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Iterator[tuple[str, Any, Any]]:
    """What both sides have under one key, in A's order."""
    yield from ((key, value, other[key]) for key, value in (one or {}).items() if other and key in other)


def _ends(side: Tokenizer) -> list[int | None]:
    """The ids of what stands before and behind a text."""
    tokens, special = side.tokens or {}, side.special or {}
    return [tokens.get(special.get(role, "")) for role in ("cls_token", "sep_token")]


def _settings(one: Tokenizer, other: Tokenizer, positions: int) -> list[Mismatch]:
    sides = [dict(side.settings or {}) for side in (one, other)]
    for side in sides:
        side |= {key: _limit(side.get(key), positions) for key in _LENGTHS}
    return [found for key in sides[0] for found in _unequal(key, sides[0][key], sides[1].get(key))]


def _limit(length: int | None, positions: int) -> int | None:
    return length if length is not None and length < positions else None


def _unequal(what: str, one: Any, other: Any) -> Iterator[Mismatch]:
    if one != other:
        said = (_said(what, value) for value in (one, other))
        yield Mismatch(what, 1, f"{what} is {' and '.join(f'{v} in {s}' for v, s in zip(said, 'AB', strict=True))}")


def _said(what: str, value: Any) -> str:
    return "unlimited" if value is None and what in _LENGTHS else shown(value, 100)


def _vocabulary(one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[Mismatch]:
    """The first id at which they differ, with both tokens."""
    tokens = [token for token in {**one, **other} if one.get(token) != other.get(token)]
    if not tokens:
        return
    at = [{side[token]: token for token in tokens if token in side} for side in (one, other)]
    ids = sorted(at[0].keys() | at[1].keys())
    first = [side.get(ids[0]) for side in at]
    said = " and ".join(
        f"missing in {letter}" if token is None else f"{shown(token)} in {letter}"
        for letter, token in zip("AB", first, strict=True)
    )
    yield Mismatch("vocabulary", len(ids), f"token {ids[0]} is {said}")
