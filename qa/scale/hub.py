"""The Hub's limits on one plan: so many calls in each window of five minutes, to the API and to the resolvers."""

from __future__ import annotations

import math

from qa.scale.rates import WINDOW, HubUse, Plan


class Budget:
    """Calls of one kind, first come, first served; those that a window has no room for go into the next one.

    Args:
        limit: calls in a window.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._window = 0
        self._used = 0.0
        self.calls = 0.0

    def take(self, now: float, calls: float) -> float:
        """When the last of some calls is answered.

        Args:
            now: the time at which they are made.
            calls: how many.
        """
        self.calls += calls
        if (current := int(now // WINDOW)) > self._window:
            self._window, self._used = current, 0.0
        self._used += calls
        full = max(0, math.ceil(self._used / self._limit) - 1)
        self._window += full
        self._used -= full * self._limit
        return max(now, self._window * WINDOW)


class Hub:
    """What the calls of a fleet wait for.

    Args:
        plan: the limits.
        use: calls of an item.
        block: bytes of one range read.
    """

    def __init__(self, plan: Plan, use: HubUse, block: int) -> None:
        self.api, self.resolvers = Budget(plan.api), Budget(plan.resolvers)
        self._use, self._block = use, block

    def answered(self, now: float, size: float) -> tuple[float, str]:
        """When all calls of one item are answered, and which kind was the last. They are counted when it begins.

        Args:
            now: the time.
            size: bytes that it reads.
        """
        blocks = size / self._block if self._use.resolver_per_block else 0.0
        api = self.api.take(now, self._use.api)
        resolvers = self.resolvers.take(now, self._use.resolvers + blocks)
        return (api, "Hub: API") if api >= resolvers else (resolvers, "Hub: resolvers")
