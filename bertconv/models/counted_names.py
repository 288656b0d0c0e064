"""Names that Keras counts: a Dense layer that nobody named is `dense` in one process, and `dense_3` in the next."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bertconv.models.keras_internals import names_given, to_snake_case

COUNTED = "*"
"""Stands in a stem where a name may have a number."""


def stem_of(layer: Any) -> str:
    """The layer's name; `dense*` where Keras named it, as it also names the two directions of a Bidirectional."""
    stem, kind = re.sub(r"_\d+$", "", layer.name), to_snake_case(type(layer).__name__)
    number = int(layer.name[len(stem) + 1 :] or 0)
    is_counted = stem in (kind, f"forward_{kind}", f"backward_{kind}") and number < names_given(kind)
    return f"{stem}{COUNTED}" if is_counted else str(layer.name)


def same_but_for_numbers(
    stems: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Which stored name belongs to a variable whose name has counted parts: those of one stem by the order of numbers.

    Where a file does not have as many of a stem as the model, in the same shapes, nothing is said of these.

    Args:
        stems: of the model's variables, by name.
        shapes: of these variables, by name.
        stored: shapes of what the file has, by name.

    Returns:
        Name -> stored name.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, stem in stems.items():
        if COUNTED in stem:
            groups[stem].append(name)
    found: dict[str, str] = {}
    for stem, names in groups.items():
        pattern = re.compile(re.escape(stem).replace(re.escape(COUNTED), r"(?:_(\d+))?"))
        here, there = _ordered(pattern, names), _ordered(pattern, stored)
        if [shapes[name] for name in here] == [stored[name] for name in there]:
            found |= dict(zip(here, there, strict=True))
    return found


def _ordered(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """The names that the pattern matches, by the numbers in them."""
    matches = [match for match in map(pattern.fullmatch, names) if match]
    return [match[0] for match in sorted(matches, key=lambda match: [int(number or 0) for number in match.groups()])]
