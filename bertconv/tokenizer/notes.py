"""All that is to be said about a tokenizer, wherever a checkpoint is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.tokenizer.facts import Tokenizer
from bertconv.tokenizer.rows import row_notes


def tokenizer_notes(tokenizer: Tokenizer, rows: int | None) -> Iterator[str]:
    """What is wrong or unusual about it, one sentence each, without a full stop.

    Args:
        tokenizer: what its files say.
        rows: of the embedding table; None where they are not known.
    """
    yield from tokenizer.problems
    yield from tokenizer.notes
    yield from row_notes(tokenizer, rows)
