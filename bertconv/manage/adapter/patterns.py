r"""The patterns of module names in adapter_config.json: of Python's regexes what peft needs, without search.

`\.`, `.`, `.*`, `.+`, `\d+`, `^`, `$`, groups with `|`, and characters of names. All places that a part can end at are
followed at once, so that no pattern takes longer than its length times that of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Union

from bertconv.records import dataclass

_ATOM = re.compile(r"[\w-]|\.\*|\.\+|\\d\+|\\\.|\.|\^|\$|\(|\)|\|")
_LONGEST = 2000
_DEEPEST = 20
"""Most characters of a pattern, and most groups inside each other."""
_NAME = 300
"""Longest name of a module that a pattern is tried on."""

Part = Union[str, "Alternatives"]


@dataclass(frozen=True)
class Alternatives:
    """Sequences of parts, one of which is to fit."""

    options: tuple[tuple[Part, ...], ...]

    def ends(self, starts: frozenset[int], name: str) -> frozenset[int]:
        """Where it may end in a name if it begins at one of some places."""
        found: frozenset[int] = frozenset()
        for option in self.options:
            places = starts
            for part in option:
                if not places:
                    break
                places = part.ends(places, name) if isinstance(part, Alternatives) else _ends(part, places, name)
            found |= places
        return found


@dataclass(frozen=True)
class Pattern:
    """A pattern, parsed."""

    parts: Alternatives

    @classmethod
    def of(cls, text: str) -> Pattern:
        """A pattern from its text; ValueError where it has other signs."""
        atoms = _ATOM.findall(text[: _LONGEST + 1])
        if len(text) > _LONGEST or "".join(atoms) != text:
            raise ValueError("signs of other regexes")
        atoms.reverse()
        return cls(_parsed(atoms, 0))

    def is_name(self, name: str) -> bool:
        """Whether it fits a whole name."""
        return self._fits(name[:_NAME], (0,))

    def is_end(self, name: str) -> bool:
        """Whether it fits a name, or what is behind one of its points."""
        name = name[:_NAME]
        return self._fits(name, (0, *(place + 1 for place, sign in enumerate(name) if sign == ".")))

    def _fits(self, name: str, starts: Iterable[int]) -> bool:
        return len(name) in self.parts.ends(frozenset(starts), name)


def _parsed(atoms: list[str], depth: int) -> Alternatives:
    """The alternatives up to the end of their group; atoms are taken from the end of the list."""
    if depth > _DEEPEST:
        raise ValueError("groups that are too deep")
    options: list[list[Part]] = [[]]
    while atoms:
        atom = atoms.pop()
        if atom == ")" and depth:
            return Alternatives(tuple(map(tuple, options)))
        if atom == ")":
            raise ValueError("groups that do not begin")
        if atom == "|":
            options.append([])
        else:
            options[-1].append(_parsed(atoms, depth + 1) if atom == "(" else atom)
    if depth:
        raise ValueError("groups that do not end")
    return Alternatives(tuple(map(tuple, options)))


def _ends(atom: str, starts: frozenset[int], name: str) -> frozenset[int]:
    """The same of a part that is no group."""
    if atom == "^":
        return starts & {0}
    if atom == "$":
        return starts & {len(name)}
    fits = str.isdecimal if atom == r"\d+" else _is_any if atom.startswith(".") else atom[-1].__eq__
    found = {place + 1 for place in starts if place < len(name) and fits(name[place])}
    if atom in (".*", ".+", r"\d+"):
        for place in sorted(found):
            while place < len(name) and place + 1 not in found and fits(name[place]):
                place += 1  # noqa: PLW2901  (on to the end of the run)
                found.add(place)
    return frozenset(found | starts if atom == ".*" else found)


def _is_any(sign: str) -> bool:
    return sign != "\n"
