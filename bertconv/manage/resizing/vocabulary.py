"""Which row of a table becomes which: tokens keep theirs wherever their id goes, and padding stays where it was."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any

from bertconv.errors import MappingError, RequestError
from bertconv.records import dataclass
from bertconv.text import shown
from bertconv.tokenizer.alignment import Alignment, align

NEW, FILLER = -1, -2
"""Instead of an old row: the row is that of a new token, or of none and there was no padding to keep."""
MOST_ROWS = 4_000_000
"""A tokenizer may give one token an id of two thousand million, and then no disk holds the table."""


@dataclass(frozen=True)
class Size:
    """How many rows the tables get.

    Attributes:
        rows: exactly so many; None takes what is needed.
        pad_to: a multiple of this.
        shrink: may be fewer than there are.
    """

    rows: int | None = None
    pad_to: int = 1
    shrink: bool = False

    def __post_init__(self) -> None:
        for name, number in (("size", self.rows), ("pad_to", self.pad_to)):
            if number is not None and number < 1:
                raise RequestError(f"{name} is {number}.", hint="Give a whole number above 0.")

    def of(self, needed: int, before: int) -> int:
        """The number of rows.

        Args:
            needed: by the tokens.
            before: what the tables have.

        Raises:
            MappingError: what was asked for is too little.
        """
        rows = (needed if self.shrink else max(needed, before)) if self.rows is None else self.rows
        rows = -(-max(rows, 1) // self.pad_to) * self.pad_to
        if rows > MOST_ROWS:
            raise MappingError(
                f"the tables would get {rows:,} rows, and no vocabulary has more than {MOST_ROWS:,}.",
                hint="Look at the highest id of the tokenizer, and at the size that was asked for.",
            )
        if rows < needed:
            raise MappingError(
                f"the highest id of a token is {needed - 1:,}, and {rows:,} rows were asked for.",
                hint="Ask for more rows, or take the tokens out of the tokenizer.",
            )
        if rows < before and not self.shrink:
            raise MappingError(
                f"the tables have {before:,} rows, and {rows:,} were asked for.",
                hint="Rows are taken away only with --shrink.",
            )
        return rows


@dataclass(frozen=True)
class RowPlan:
    """The rows of the new tables.

    Attributes:
        before: rows of the old tables.
        rows: of the new ones.
        alignment: what became of every token.
        sources: for every new row the old one, or `NEW` or `FILLER`.
        known: old rows that are a token's, ascending.
        padding: rows that are no token's: `before` in the old tables, `kept` and `added` in the new ones.
    """

    before: int
    rows: int
    alignment: Alignment
    sources: array[int]
    known: array[int]
    padding: Mapping[str, int]

    @cached_property
    def new(self) -> dict[int, str]:
        """Row -> token, of those that are new."""
        return {number: token for token, number in self.alignment.new.items()}

    @property
    def has_tokens(self) -> bool:
        """Whether it is known which row is which token's."""
        one = self.alignment
        return bool(one.kept or one.moved or one.new)

    @property
    def is_identity(self) -> bool:
        """Whether every row stays."""
        return self.rows == self.before and all(map(int.__eq__, self.sources, range(self.rows)))

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        one = self.alignment
        return {
            "rows_before": self.before, "rows": self.rows, "kept": len(one.kept),
            "moved": {token: list(ids) for token, ids in one.moved.items()}, "new": dict(one.new),
            "dropped": dict(one.dropped), "padding": dict(self.padding),
        }  # fmt: skip


@dataclass(frozen=True)
class NewRows:
    """How the rows of one table are made that no old row becomes.

    Attributes:
        how: one of `request.WAYS`, or `COPY`.
        copied: the old row that is copied.
        pieces: row -> the old rows of the pieces of its token; the mean is taken where there are none.
        seed: text that normal numbers are drawn from, together with the token: the same token gets the same row.
        spread: their standard deviation; 0 for a bias.
    """

    how: str
    copied: int | None = None
    pieces: Mapping[int, Sequence[int]] = field(default_factory=dict)
    seed: str = ""
    spread: float = 0.0


def plan_rows(old: Mapping[str, int], new: Mapping[str, int], before: int, size: Size) -> RowPlan:
    """Decide on every row.

    Args:
        old: token -> id, of the tokenizer that the tables' rows belong to. A token whose id has no row counts as new.
        new: token -> id, of the tokenizer that they are to belong to. Both may be empty: every row may be a token's.
        before: rows of the tables.
        size: how many they get.

    Raises:
        MappingError: the size that was asked for is too little, or two tokens with different rows share an id.
    """
    needed = max(new.values()) + 1 if new else (before if size.rows is None else 0)
    rows = size.of(needed, before)
    found = align({token: number for token, number in old.items() if number < before}, new)
    from_old = found.rows
    _check_shared(found, from_old)
    known = sorted({number for number in old.values() if number < before}) if old or new else range(before)
    sources = array("q", range(min(rows, before))) + array("q", [FILLER]) * max(rows - before, 0)
    if old or new:
        for row in known[: bisect_left(known, rows)]:
            sources[row] = FILLER
    for row in found.new.values():
        sources[row] = NEW
    for row, source in from_old.items():
        sources[row] = source
    added = sources.count(FILLER)
    kept = rows - added - sources.count(NEW) - len(from_old) if old or new else 0
    padding = {"before": before - len(known), "kept": kept, "added": added}
    return RowPlan(before, rows, found, sources, array("q", known), padding)


def _check_shared(found: Alignment, from_old: Mapping[int, int]) -> None:
    """Refuse two tokens of the new vocabulary that have one id and come from different rows."""
    apart = len(from_old) == len(found.kept) + len(found.moved)
    if apart and not any(number in from_old for number in found.new.values()):
        return
    sources = [(token, number, number) for token, number in found.kept.items()]
    sources += [(token, now, old) for token, (old, now) in found.moved.items()]
    sources += [(token, number, NEW) for token, number in found.new.items()]
    first: dict[int, tuple[str, int]] = {}
    for token, row, source in sources:
        other, known = first.setdefault(row, (token, source))
        if known != source:
            raise MappingError(
                f"the tokens {shown(other)} and {shown(token)} of the tokenizer both have the id {row}, and their rows "
                "are not the same.",
                hint="Give every token an id of its own.",
            )
