"""Whether two sides agree about something beside the weights: plain data, as `parity.py`."""

from __future__ import annotations

from bertconv.records import dataclass
from bertconv.text import shown

ASPECTS = ("labels", "tokenizer", "modules")
"""What stands beside the weights and decides what a user sees."""


@dataclass(frozen=True)
class Mismatch:
    """One thing that differs.

    Attributes:
        what: "id2label", "vocabulary", "do_lower_case", ...
        count: number of entries that differ.
        sentence: the first of them, for people, without a full stop.
    """

    what: str
    count: int
    sentence: str


@dataclass(frozen=True)
class Agreement:
    """The outcome for one aspect.

    Attributes:
        state: "same", "different" or "not compared".
        about: what was compared, such as "30,522 tokens"; why nothing was, where it is "not compared".
        ignored: the caller asked not to count differences.
        differences: what differs.
    """

    state: str = "not compared"
    about: str = ""
    ignored: bool = False
    differences: tuple[Mismatch, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing differs that counts."""
        return self.ignored or not self.differences

    def sentence(self) -> str:
        """For people, without a full stop: `3 labels, the same`, `not compared: B has no tokenizer files`."""
        if self.state == "not compared":
            return f"{self.state}: {self.about}" if self.about else self.state
        if not self.differences:
            return f"{self.about}, the same"
        return "different, and ignored as asked for" if self.ignored else "different"

    def lines(self) -> list[str]:
        """Every difference, with the number of those that are like it."""
        return [
            f"{one.sentence} ({one.count - 1:,} more in {one.what})" if one.count > 1 else one.sentence
            for one in self.differences
        ]


NOT_COMPARED = Agreement()
NO_MODULES = "A and B have no files of sentence-transformers"
"""Of most models: nothing was left uncompared."""


def compared(differences: tuple[Mismatch, ...], about: str, *, ignored: bool) -> Agreement:
    """The outcome of a comparison that took place."""
    return Agreement("different" if differences else "same", about, ignored, differences)


def pair(one: object, other: object) -> str:
    """`'a' in A and 'b' in B`."""
    return " and ".join(
        f"missing in {letter}" if value is None else f"{shown(value)} in {letter}"
        for letter, value in (("A", one), ("B", other))
    )
