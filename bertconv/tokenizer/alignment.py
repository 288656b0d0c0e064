"""Two vocabularies held to each other, token by token: what an id of one is in the other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from bertconv.records import dataclass


@dataclass(frozen=True)
class Alignment:
    """What becomes of every token on the way from an old vocabulary to a new one.

    Attributes:
        kept: token -> id, of those that have the same id in both.
        moved: token -> its id in the old one and in the new one, where these differ.
        new: token -> id, of those that only the new one has.
        dropped: token -> id, of those that only the old one has.
    """

    kept: Mapping[str, int]
    moved: Mapping[str, tuple[int, int]]
    new: Mapping[str, int]
    dropped: Mapping[str, int]

    @cached_property
    def rows(self) -> dict[int, int]:
        """Id in the new vocabulary -> id in the old one, of the tokens that both have."""
        found = {number: number for number in self.kept.values()}
        found.update((new, old) for old, new in self.moved.values())
        return found

    @property
    def is_identity(self) -> bool:
        """Whether both have the same tokens with the same ids."""
        return not (self.moved or self.new or self.dropped)


def align(old: Mapping[str, int], new: Mapping[str, int]) -> Alignment:
    """Hold two vocabularies to each other.

    Args:
        old: token -> id.
        new: the same, of the other one.

    Example:
        >>> found = align({"[PAD]": 0, "cat": 1, "dog": 2}, {"[PAD]": 0, "dog": 1, "eel": 2})
        >>> found.kept, found.moved, found.new, found.dropped
        ({'[PAD]': 0}, {'dog': (2, 1)}, {'eel': 2}, {'cat': 1})
    """
    kept: dict[str, int] = {}
    moved: dict[str, tuple[int, int]] = {}
    fresh: dict[str, int] = {}
    for token, number in new.items():
        before = old.get(token)
        if before is None:
            fresh[token] = number
        elif before == number:
            kept[token] = number
        else:
            moved[token] = (before, number)
    return Alignment(kept, moved, fresh, {token: number for token, number in old.items() if token not in new})
