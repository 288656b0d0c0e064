"""Indices of groups that repeat: in neutral ids, and in the paths that dialects give a group.

An id is group, indices, module and role: `layer.3.query.weight`, or `layer.0.1.query.weight` where a group repeats over
two variables. A path spells an index as `{layer}`, with an offset or a step as `{layer+4}` and `{6*layer+1}`, and with
`:keras` as Keras numbers layers of one name: nothing, `_1`, `_2` (`dense{layer:keras}`); `{group:only}` is nothing, in
a path that is there for index 0 alone. `{group:flat}` is nothing by itself: the index of the variable behind it counts
on through all groups, so that it takes sizes to tell the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_VARIABLE = re.compile(
    r"{(?:(?P<step>[1-9]\d*)\*)?(?P<variable>[a-z_]\w*)(?:\+(?P<offset>\d+))?"
    r"(?P<keras>:keras)?(?P<only>:only)?(?P<flat>:flat)?}"
)
_BRACES = re.compile(r"{[^{}]*}?|}")

Indices = tuple[int, ...]
"""One number for each variable that a group repeats over, outermost first."""


class TensorId(NamedTuple):
    """A neutral id, or the id of a module, taken apart; `role` is empty for a module."""

    group: str
    indices: Indices
    module: str
    role: str

    @classmethod
    def parse(cls, text: str) -> TensorId:
        """Take an id apart; what is not one comes back as a group alone, or with an empty module and role."""
        group, *rest = text.split(".")
        indices = []
        while rest and rest[0].isdecimal():
            indices.append(int(rest.pop(0)))
        module, role = (*rest, "", "")[:2]
        return cls(group, tuple(indices), module, role)

    @property
    def at(self) -> str:
        """The group with its indices: `layer.3`."""
        return ".".join((self.group, *map(str, self.indices)))


def variables(path: str) -> list[str]:
    """The variables that a path names, in order; a spelling that is none comes back as it stands, braces included."""
    found = []
    for braces in _BRACES.findall(path):
        spelled = _VARIABLE.fullmatch(braces)
        found.append(spelled["variable"] if spelled else braces)
    return found


def fill(
    path: str, repeat: Sequence[tuple[str, str]], indices: Indices, sizes: Mapping[str, int] | None = None
) -> str | None:
    """The path with an index for each of the variables that its group repeats over; None where it has none.

    Args:
        path: with variables.
        repeat: variable and size, outermost first.
        indices: one for each.
        sizes: name of a size -> its value, where they are known.
    """
    values = {variable: index for (variable, _), index in zip(repeat, indices, strict=True)}
    if any(found["only"] and values[found["variable"]] for found in _VARIABLE.finditer(path)):
        return None
    if is_flat(path):
        (outer, _), (inner, size) = repeat
        if values[outer] and sizes is None:
            return None
        values[inner] += values[outer] * (sizes or {size: 0})[size]
    return _VARIABLE.sub(lambda found: _spelled(found, values[found["variable"]]), path)


def is_flat(path: str) -> bool:
    """Whether one number of a path counts through two variables."""
    return any(found["flat"] for found in _VARIABLE.finditer(path))


def path_pattern(path: str) -> str:
    """A regex of the path, with any number for every index."""
    found, end = "", 0
    for variable in _VARIABLE.finditer(path):
        silent = variable["only"] or variable["flat"]
        index = "" if silent else r"(_\d+)?" if variable["keras"] else r"\d+"
        found += re.escape(path[end : variable.start()]) + index
        end = variable.end()
    return found + re.escape(path[end:])


def _spelled(found: re.Match[str], index: int) -> str:
    if found["only"] or found["flat"]:
        return ""
    number = int(found["step"] or 1) * index + int(found["offset"] or 0)
    if not found["keras"]:
        return str(number)
    return f"_{number}" if number else ""
