"""Do the configs of two sides name classes that do something else with the same tensors?"""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.checkpoint import Checkpoint
from bertconv.mapping.table import Table
from bertconv.verify.parity import ConfigDifference

CLASS = "architectures"
"""The key of the config that names the class."""


def other_classes(a: Checkpoint, b: Checkpoint) -> Iterator[ConfigDifference]:
    """The two classes, where neither is a part of the other: no tensor shows what is made of the tensors.

    A body is a part of every class, and what pre-trains for one task is of the class that does so for two: comparing
    these with the whole is comparing a part.
    """
    one, other = a.named_head, b.named_head
    if one is None or other is None or a.table.tasks[one] == b.table.tasks[other]:
        return
    groups = [_above_base(side.table, head) for side, head in ((a, one), (b, other))]
    if not (groups[0] < groups[1] or groups[1] < groups[0]):
        yield ConfigDifference(CLASS, one, other)


def _above_base(table: Table, head: str) -> frozenset[str]:
    """Groups of a class that the base model has not; a pooler more or less is no other task."""
    return frozenset(table.heads[head]) - frozenset(table.heads[table.base_head])
