"""Small things about text: names safe for a terminal, folded layers, sizes in bytes both ways, strict JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

_INNER = {dict, list}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NUMBER = re.compile(r"\d{1,18}")
_INDEX = re.compile(r"(?<![^\W_])\d{1,18}")
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*$", re.IGNORECASE | re.ASCII)


def printable(text: str) -> str:
    """A name from a file, safe for a terminal: control and format characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_plain(name: str) -> bool:
    """Whether it is one component of a path on every system: no separator, drive, NUL, `.` or `..`."""
    return name not in {"", ".", ".."} and not any(c in "/\\:\0" for c in name)


def is_url(given: object) -> bool:
    """Whether it is the address of something elsewhere, `scheme://...`; a path object never is."""
    return isinstance(given, str) and _URL.match(given) is not None


def public(given: object) -> str:
    """What was given, as a text for others: an address without its user, password and query."""
    text = str(given)
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("://")
    host, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def shown(value: object, most: int = 60) -> str:
    """A value from a file for a sentence: as Python writes it, which is one line, and not too long."""
    cut = value[: most + 1] if isinstance(value, str) else value
    text = printable(repr(cut)[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."


def closest(name: str, names: Iterable[str]) -> str | None:
    """The one of several names that was probably meant by `name`; None where none is close."""
    from difflib import get_close_matches  # for messages alone

    return next(iter(get_close_matches(name, list(names), n=1)), None)


def is_deep(value: dict[str, Any], most: int) -> bool:
    """Whether JSON has more than `most` levels: comparing or showing it could end in Python's limit of recursion."""
    level: list[Any] = [value]
    for _ in range(most):
        inner = (child for one in level for child in (one.values() if isinstance(one, dict) else one))
        level = [child for child in inner if type(child) in _INNER]
        if not level:
            return False
    return True


def fold(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that differ in a number only, folded: `layer.{0...11}.query.weight` -> the names it stands for.

    Names that differ in several numbers are folded where every combination is there: `layer.{0...1}.{0...2}.query`.
    Where a part of a name is a number, as the 3 of `layer.3.ffn.lin1`, the digits of its words are none.
    """
    alike: dict[tuple[re.Pattern[str], str], list[str]] = {}
    for name in names:
        number = _INDEX if _INDEX.search(name) else _NUMBER
        alike.setdefault((number, number.sub("#", name)), []).append(name)
    folded: dict[str, list[str]] = {}
    for (number, _), members in alike.items():
        columns = list(zip(*([int(found) for found in number.findall(name)] for name in members), strict=True))
        varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        if len(varying) == 1 or (varying and _is_product([columns[place] for place in varying])):
            name = _folded_name(number, members[0], {place: list(columns[place]) for place in varying})
            folded.setdefault(name, []).extend(members)
        else:
            for name in members:
                folded.setdefault(name, []).append(name)
    return folded


def _is_product(columns: list[tuple[int, ...]]) -> bool:
    """Whether the rows are every combination of the columns' numbers, each once."""
    rows = list(zip(*columns, strict=True))
    return len(set(rows)) == len(rows) == math.prod(len(set(column)) for column in columns)


def _folded_name(number: re.Pattern[str], name: str, varying: dict[int, list[int]]) -> str:
    found = list(number.finditer(name))
    for place, numbers in sorted(varying.items(), reverse=True):
        several = numbers if len(varying) == 1 else sorted(set(numbers))
        name = name[: found[place].start()] + _span(several) + name[found[place].end() :]
    return name


def _span(numbers: list[int]) -> str:
    ordered = sorted(numbers)
    if len(set(ordered)) == len(ordered) == ordered[-1] - ordered[0] + 1:
        return f"{{{ordered[0]}...{ordered[-1]}}}"
    return "{" + ", ".join(map(str, ordered)) + "}"


def listing(names: Iterable[str], limit: int = 20) -> str:
    """Names folded, one a line, indented; what is beyond `limit` lines is counted."""
    lines = [
        f"  {printable(name)}" + (f"   {len(members)} tensors" if len(members) > 1 else "")
        for name, members in fold(names).items()
    ]
    rest = [f"  ... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join(lines[:limit] + rest)


def brief(names: Iterable[str], limit: int = 6) -> str:
    """Names folded, in one line; what is beyond `limit` is counted."""
    return some((printable(name) for name in fold(names)), limit)


def some(names: Iterable[str], limit: int = 12) -> str:
    """Names as they are, in one line; what is beyond `limit` is counted."""
    listed = list(names)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def listed(words: Iterable[str], last: str = "or") -> str:
    """Words in a sentence: `A, B or C`; a single one as it is."""
    *front, end = words
    return f"{', '.join(front)} {last} {end}" if front else end


def human_bytes(count: float) -> str:
    """A size in decimal units, three digits: `438 MB`, `1.1 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{_three_digits(count)} {unit}"
        count /= 1000
    return f"{_three_digits(count)} TB"


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 99.95 else f"{number:.0f}"


def parse_bytes(text: str) -> int:
    """`5GB`, `500 MB`, `2GiB` or a plain number in bytes; ValueError when it is none of these."""
    found = _SIZE.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a size")
    base = 1024 if found[3] else 1000
    whole, _, part = found[1].partition(".")
    scale: int = base ** " KMGT".index(found[2].upper() or " ")
    parts: int = 10 ** len(part)
    return int(whole + part) * scale // parts


def parse_json(
    content: bytes | str, parse_int: Callable[[str], Any] = int, parse_float: Callable[[str], Any] | None = None
) -> Any:
    """JSON without what parsers disagree about.

    Duplicate keys, NaN, infinities, 1e999, an encoding that is not UTF-8 and a byte order mark are a ValueError.

    Args:
        content: the text.
        parse_int: makes something of a whole number.
        parse_float: makes something of any other number.
    """
    return json.loads(
        # guard: json-encoding
        content if isinstance(content, str) else content.decode(),  # of bytes json would guess the encoding
        object_pairs_hook=_unique,  # guard: json-keys
        parse_constant=_refuse_constant,  # guard: json-constants
        parse_int=parse_int,
        parse_float=parse_float or _finite,  # guard: json-infinity
    )


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice[:100]!r}")
    return found


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
