"""How work in progress is told of."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a step ("writing", "verifying"), how much of it is done, and how much there is."""


def silent(_step: str, _done: int, _total: int) -> None:
    """Show no progress."""


stopping: list[int] = []
"""Signals that have come and are held back: what waits for somebody else gives up when there are any."""
