"""run_alone(): an item that killed its workers, in a process of its own, with limits of memory and of time."""

from __future__ import annotations

import time
from dataclasses import replace

from bertconv.fleet.engines.child import Child, receive_before
from bertconv.fleet.items import Item
from bertconv.fleet.kept import look_at
from bertconv.fleet.outcome import LOST, Outcome, lost
from bertconv.manage.gc import collect_beside

MEMORY = 4 << 30
"""Bytes of address space: ten times what a conversion takes, whose memory does not grow with its checkpoint."""
FIRST_SECONDS, BYTES_PER_SECOND = 60.0, 20_000_000
"""Time that any item has, and what is read, converted and read back in a second by the slowest machine in use."""


def run_alone(item: Item, *, memory: int = MEMORY, seconds: float | None = None) -> Outcome:
    """Do what an item asks for in a process of its own; whatever becomes of that, this one lives.

    Args:
        item: placed.
        memory: most bytes of address space.
        seconds: most time; by default 60 and one for each 20 MB.

    Returns:
        What became of it; where its process was killed, `outcome.lost`.
    """
    limit = FIRST_SECONDS + (item.size or look_at(item).size) / BYTES_PER_SECOND if seconds is None else seconds
    child = Child(memory)
    try:
        child.send(item)
        outcome = receive_before(child, time.monotonic() + limit)
        if outcome is None:
            child.kill()
            outcome = lost(f"took longer than {limit:.0f} s in a process of its own, and was killed")
    except (EOFError, OSError):
        outcome = lost(f"kills its worker, alone too, within {memory >> 20:,} MB of memory: {child.why()}")
    except BaseException:
        child.ask_to_stop()
        raise
    finally:
        child.close()
    if outcome.kind == MemoryError.__name__:
        said = f"needs more than {memory >> 20:,} MB of memory, alone too"
        outcome = replace(outcome, message=said, hint="Look into what it is before you run it by itself.")
    if outcome.code == LOST:
        collect_beside([item.dst])
    return outcome
