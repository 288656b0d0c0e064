"""Ids of a tokenizer held to the rows of an embedding table: neither needs to know of the other, and files disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bertconv.records import dataclass
from bertconv.text import shown
from bertconv.tokenizer.facts import Tokenizer

_SHOWN = 3
"""Tokens that a sentence names."""


@dataclass(frozen=True)
class Rows:
    """How a vocabulary and an embedding table fit.

    Attributes:
        rows: of the embedding table.
        tokens: number of tokens.
        beyond: id -> token, of those that have no row.
        padding: first and last row that is no token's, behind the last one that is; None without any.
    """

    rows: int
    tokens: int
    beyond: dict[int, str]
    padding: tuple[int, int] | None


def fit(tokenizer: Tokenizer, rows: int | None) -> Rows | None:
    """Compare the two; None where the tokens or the rows are not known."""
    if not tokenizer.tokens or rows is None:
        return None
    tokens = tokenizer.tokens
    highest = max(tokens.values())
    beyond = sorted((token for token, number in tokens.items() if number >= rows), key=tokens.__getitem__)
    padding = (highest + 1, rows - 1) if highest + 1 < rows else None
    return Rows(rows, len(tokens), {tokens[token]: token for token in beyond}, padding)


def row_notes(tokenizer: Tokenizer, rows: int | None) -> Iterator[str]:
    """What is to be said about it, one sentence each."""
    found = fit(tokenizer, rows)
    if found is None:
        return
    if found.beyond:
        numbers = list(found.beyond)
        names = ", ".join(shown(token) for token in list(found.beyond.values())[:_SHOWN])
        more = ", ..." if len(numbers) > _SHOWN else ""
        has, these = ("has", "this token") if len(numbers) == 1 else ("have", "these tokens")
        yield (
            f"the tokenizer's {_span(numbers, 'id')} ({names}{more}) {has} no row in the embedding table of {rows} "
            f"rows: resize it (model.resize_token_embeddings({numbers[-1] + 1})) or remove {these}"
        )
    if found.padding:
        are = "is no token's: a padding row" if found.padding[0] == found.padding[1] else "are no token's: padding rows"
        yield f"{_span(found.padding, 'row')} of the embedding table {are}"


def _span(numbers: Sequence[int], noun: str) -> str:
    first, last = numbers[0], numbers[-1]
    return f"{noun} {first}" if first == last else f"{noun}s {first} to {last}"
