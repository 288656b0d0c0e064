"""The methods of `merge` and the numbers that they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bertconv.errors import RequestError, check_one_of
from bertconv.records import dataclass

USED = {
    "slerp": ("t",),
    "task-arithmetic": ("weights", "scale"),
    "ties": ("weights", "scale", "density"),
    "dare": ("weights", "scale", "density", "seed"),
}
"""Name of a method -> the numbers that it takes."""
SPELLED = {"scale": "lambda"}
"""Options whose name is no name in Python."""


@dataclass(frozen=True)
class Settings:
    """The numbers of a method.

    Attributes:
        weights: one for each input.
        density: part of each task vector that is kept, by TIES and DARE.
        scale: what the sum of the task vectors is multiplied by (lambda).
        t: the place between two inputs, of slerp.
        seed: of DARE.
    """

    weights: tuple[float, ...]
    density: float = 0.5
    scale: float = 1.0
    t: float = 0.5
    seed: int = 0

    def recorded(self, method: str) -> dict[str, Any]:
        """Those that a method takes and that are no defaults, as a manifest has them."""
        plain = Settings((1.0,) * len(self.weights))
        names = [name for name in USED[method] if getattr(self, name) != getattr(plain, name)]
        return {SPELLED.get(name, name): _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def checked_settings(method: str, count: int, numbers: Mapping[str, Any], *, has_base: bool) -> Settings:
    """The numbers of a method for so many inputs; RequestError for one that it does not take, or no such value of."""
    if count == 0:
        raise RequestError("no input was given.", hint="Name the checkpoints to merge.")
    check_one_of(method, USED, "method")
    if unused := [name for name in numbers if name not in USED[method]]:
        taken = ", ".join(SPELLED.get(name, name) for name in USED[method])
        raise RequestError(
            f"{method} takes no {SPELLED.get(unused[0], unused[0])}.", hint=f"Leave it out; {method} takes {taken}."
        )
    if method == "slerp":
        if count != 2 or has_base:
            raise RequestError(
                f"slerp was given {count} inputs{' and a base' if has_base else ''}.",
                hint="Give two inputs and no base, or choose another method.",
            )
    elif not has_base:
        raise RequestError(f"{method} was given no base.", hint="Name the model that the inputs were trained from.")
    weights = tuple(map(float, numbers.get("weights") or [1.0] * count))
    settings = Settings(**{**numbers, "weights": weights})
    _check(settings, count)
    return settings


def _check(settings: Settings, count: int) -> None:
    if len(settings.weights) != count:
        raise RequestError(
            f"{len(settings.weights)} weights were given for {count} inputs.", hint="Give one for each input."
        )
    if not all(math.isfinite(number) for number in (*settings.weights, settings.scale)):
        raise RequestError("a weight, or lambda, is not finite.", hint="Give plain numbers.")
    if not 0 < settings.density <= 1:
        raise RequestError(f"density is {settings.density}.", hint="Give a number of more than 0 and at most 1.")
    if not 0 <= settings.t <= 1:
        raise RequestError(f"t is {settings.t}.", hint="Give a number from 0 to 1.")
