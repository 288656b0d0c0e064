"""What a diff found: plain data, from which the verdict, the tables, the JSON and the page are made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bertconv.records import dataclass
from bertconv.verify.agreement import ASPECTS, NOT_COMPARED, Agreement
from bertconv.verify.parity import ConfigDifference, SideFacts, plain_json

SCHEMA = 1
"""Version of the JSON."""

EQUAL, CHANGED, ONLY_A, ONLY_B = "equal", "changed", "only in A", "only in B"
"""States of a tensor."""


@dataclass(frozen=True)
class Change:
    """How far B's numbers are from A's; sums are those of float64, over the numbers that are finite on both sides.

    Attributes:
        elements: how many were compared, those that are not finite too.
        differing: how many of them differ: bits of one type, values of two types.
        max_difference: largest absolute difference.
        norm_a: root of the sum of squares of A's numbers.
        norm_b: the same of B's.
        norm: the same of B minus A.
        not_finite_a: numbers of A that are NaN or infinite.
        not_finite_b: numbers of B.
    """

    elements: int
    differing: int
    max_difference: float
    norm_a: float
    norm_b: float
    norm: float
    not_finite_a: int = 0
    not_finite_b: int = 0

    @property
    def relative(self) -> float:
        """Relative L2: the change's norm over A's; infinite where A is zero and B is not."""
        if self.norm == 0:
            return 0.0
        return self.norm / self.norm_a if self.norm_a else math.inf

    @property
    def cosine(self) -> float | None:
        """Of the angle between A and B; None where one of them is zero."""
        return cosine(self.norm_a, self.norm_b, self.norm)

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        return {**asdict(self), "relative": self.relative, "cosine": self.cosine}


def cosine(one: float, other: float, apart: float) -> float | None:
    """Of the angle between two vectors, from their norms and that of their difference; None where one is zero."""
    if not one or not other:
        return None
    # sums of squares cancel where the angle is small: (one - other)^2 is exact enough there, one^2 - other^2 is not
    value = 1 - (apart + one - other) * (apart - one + other) / (2 * one * other)
    return max(-1.0, min(1.0, value)) if math.isfinite(value) else None


@dataclass(frozen=True)
class Rows:
    """Rows of a table that has one for each token.

    Attributes:
        by: "token" where rows were aligned by the token that they are of, else "row": by their numbers.
        rows_a: number of rows in A.
        rows_b: number of rows in B.
        kept: rows of one token (or number) at the same place on both sides.
        moved: rows of one token at another place.
        new: rows of tokens (or numbers) that only B has.
        dropped: rows that only A has.
        changed: how many of the kept and moved ones hold other values.
        names: "moved", "new", "dropped" and "changed" -> some of their tokens, or `row 17` where no token is known.
    """

    by: str
    rows_a: int
    rows_b: int
    kept: int
    moved: int
    new: int
    dropped: int
    changed: int
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class TensorDiff:
    """One tensor.

    Attributes:
        id: neutral name, such as `layer.3.query.weight`.
        layer: what it is counted to: "embeddings", "layer.3", "pooler", a head's group, a module's folder.
        a: name in A's file; empty where there is none.
        b: name in B's file.
        shape_a: sizes in PyTorch's order; None where there is none.
        shape_b: the same in B.
        dtype_a: element type as stored.
        dtype_b: the same in B.
        state: "equal" bit for bit, "changed", "only in A" or "only in B".
        change: how far B is from A, where `state` is "changed"; None where shapes or types cannot be compared.
        rounded: the side, "A" or "B", whose values are those of the other one rounded; empty where neither is.
        rounded_to: the type that they were rounded to.
        rows: of a table of tokens that differs, or whose tokens do.
    """

    id: str
    layer: str
    a: str
    b: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    dtype_a: str
    dtype_b: str
    state: str
    change: Change | None = None
    rounded: str = ""
    rounded_to: str = ""
    rows: Rows | None = None

    @property
    def same_values(self) -> bool:
        """Changed in its type alone, which lost nothing."""
        same = self.change is not None and not self.change.differing
        return same and self.dtype_a != self.dtype_b and self.shape_a == self.shape_b

    def remarks(self) -> Iterator[str]:
        """What its numbers do not say, one phrase each."""
        if self.same_values:
            yield "the same values in another type"
        elif self.rounded:
            yield f"{self.rounded} is the other one rounded to {self.rounded_to}"
        if self.change is not None:
            for side, amount in (("A", self.change.not_finite_a), ("B", self.change.not_finite_b)):
                if amount:
                    yield f"{amount:,} NaN or infinite in {side}"
        elif self.state == CHANGED:
            yield "not compared number by number"

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        change = self.change.to_json() if self.change else None
        return {**asdict(self), "change": change, "same_values": self.same_values}


@dataclass(frozen=True)
class LayerDiff:
    """The tensors of one layer together.

    Attributes:
        layer: as in `TensorDiff`.
        tensors: how many it has.
        equal: how many of them are equal, `changed`, `only_a` and `only_b` likewise.
        change: over all that could be compared, the equal ones too; None where nothing changed.
    """

    layer: str
    tensors: int
    equal: int
    changed: int
    only_a: int
    only_b: int
    change: Change | None = None

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        return {**asdict(self), "change": self.change.to_json() if self.change else None}


@dataclass(frozen=True)
class Departure:
    """How far A and B went from a third checkpoint in one layer, or as a whole.

    Attributes:
        layer: as in `TensorDiff`; "all" for the whole.
        norm: root of the sum of squares of the base's numbers.
        norm_a: of A minus the base.
        norm_b: of B minus the base.
        cosine: of the angle between the two changes; None where one is zero.
    """

    layer: str
    norm: float
    norm_a: float
    norm_b: float
    cosine: float | None

    @property
    def relative_a(self) -> float:
        """A's change in units of the base."""
        return self.norm_a / self.norm if self.norm else math.inf if self.norm_a else 0.0

    @property
    def relative_b(self) -> float:
        """B's change in units of the base."""
        return self.norm_b / self.norm if self.norm else math.inf if self.norm_b else 0.0

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        return {**asdict(self), "relative_a": self.relative_a, "relative_b": self.relative_b}


@dataclass(frozen=True)
class Against:
    """A and B as changes of a third checkpoint, C.

    Attributes:
        base: C.
        whole: of all tensors that A, B and C have in one shape.
        layers: the same layer by layer.
        compared: number of these tensors.
        left_out: ids of the others, which A or B shares with C in other shapes, or for other tokens, or not at all.
        verdict: which of A and B come from C, and which is nearer.
    """

    base: SideFacts
    whole: Departure
    layers: tuple[Departure, ...]
    compared: int
    left_out: tuple[str, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        layers = [one.to_json() for one in self.layers]
        return {**asdict(self), "whole": self.whole.to_json(), "layers": layers}


@dataclass(frozen=True)
class Diff:
    """What differs between two checkpoints.

    Attributes:
        a: the one side; `head` is the class as which it was opened.
        b: the other.
        tensors: every tensor of either side, in the order of the table.
        layers: the same layer by layer.
        config: keys of the family's configs with other values, and classes of other tasks.
        labels: whether the outputs have the same names.
        tokenizer: whether a text becomes the same ids.
        modules: whether sentence-transformers does the same with what the transformer computes.
        left_out: tensors that are no part of either model's class, "A: " or "B: " in front.
        omitted: those of them that are a part of the model all the same, and were not compared.
        against: both sides as changes of a third checkpoint, where one was given.
        notes: what is unusual, one sentence each.
        command: to repeat it.
        seconds: wall-clock time.
    """

    a: SideFacts
    b: SideFacts
    tensors: tuple[TensorDiff, ...]
    layers: tuple[LayerDiff, ...]
    config: tuple[ConfigDifference, ...] = ()
    labels: Agreement = NOT_COMPARED
    tokenizer: Agreement = NOT_COMPARED
    modules: Agreement = NOT_COMPARED
    left_out: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    against: Against | None = None
    notes: tuple[str, ...] = ()
    command: str = ""
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Nothing differs that counts."""
        return self.weights_equal and not self.config and all(one.ok for one in self.aspects.values())

    @property
    def weights_equal(self) -> bool:
        """Every tensor is on both sides, and of the same type and bits."""
        return all(one.state == EQUAL for one in self.tensors)

    @property
    def aspects(self) -> dict[str, Agreement]:
        """What stands beside the weights."""
        return {name: getattr(self, name) for name in ASPECTS}

    def verdict(self) -> str:
        """What differs, in a sentence."""
        from bertconv.manage.difference.verdict import verdict

        return verdict(self)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts; a number that is not finite becomes "nan", "inf" or "-inf"."""
        facts = asdict(self) | {"schema": SCHEMA, "equal": self.equal, "verdict": self.verdict()}
        facts["tensors"] = [one.to_json() for one in self.tensors]
        facts["layers"] = [one.to_json() for one in self.layers]
        facts["against"] = self.against.to_json() if self.against else None
        for name, aspect in self.aspects.items():
            facts[name]["ok"] = aspect.ok
        plain: dict[str, Any] = plain_json(facts)
        return plain
