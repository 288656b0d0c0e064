"""Engine: what runs items, as the driver sees it."""

from __future__ import annotations

import os
from typing import Protocol

from bertconv.fleet.items import Item
from bertconv.fleet.outcome import Outcome
from bertconv.records import dataclass


@dataclass(frozen=True)
class Finished:
    """The end of one try.

    Attributes:
        name: id of the item.
        outcome: what the worker reported; None where it died before it could.
        why: it died, in a few words.
    """

    name: str
    outcome: Outcome | None
    why: str = ""


class Engine(Protocol):
    """What runs items, several at once."""

    @property
    def slots(self) -> int:
        """How many items it takes at a time now; a cluster may grow."""

    def submit(self, item: Item, *, alone: bool) -> None:
        """Begin an item; the caller has no more than `slots` in it.

        Args:
            item: what is to be done.
            alone: in a process of its own with limits (`alone.run_alone`), because it killed its workers before.
        """

    def wait(self, timeout: float) -> list[Finished]:
        """The tries that ended since the last call, after at most so many seconds; none where none did."""

    def close(self, *, stop: bool = False) -> None:
        """End the workers.

        Args:
            stop: give up what is running, after it has cleaned up, instead of waiting for it.
        """


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
