"""HTML that is safe by construction: a string is escaped unless it was made here."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

from bertconv.text import printable

_SPLIT = re.compile(r"\b\d[\d.]*e[-+]\d+")
_VOID = frozenset({"br", "input", "link", "meta", "wbr"})


class Markup(str):
    """HTML that may stand in a page as it is."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Text as HTML, for elements and attributes alike; control and format characters are made visible."""
    return value if isinstance(value, Markup) else Markup(html.escape(printable(str(value))))


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Parts one after the other, each escaped where it is no markup; the separator is markup."""
    return Markup(separator.join(escape(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: escaped where they are no markup; None is left out.
        attributes: `class_` is `class`, an underscore a hyphen; None and False leave one out, True gives it no value.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(child for child in children if child is not None)}</{name}>")


def table(caption: object, heads: Iterable[object], rows: Iterable[Markup], *, quiet: bool = False) -> Markup:
    """A table in a box that scrolls sideways by itself.

    Args:
        caption: what it shows.
        heads: one per column; what is no markup becomes a header cell.
        rows: `<tr>` elements.
        quiet: the caption is for screen readers only, because a title stands above.
    """
    header = (head if isinstance(head, Markup) else tag("th", head, scope="col") for head in heads)
    title = tag("caption", caption, class_="quiet" if quiet else None)
    body = tag("table", title, tag("thead", tag("tr", *header)), tag("tbody", *rows))
    return tag("div", body, class_="scroll")


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A description list; what has no value is left out."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value))


def mono(value: object, title: str | None = None) -> Markup:
    """A name from a file, a command, a digest."""
    return tag("code", value, title=title)


def breakable(name: str) -> Markup:
    """A name that may be broken behind its dots and underscores."""
    return Markup(escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>"))


def column(name: str) -> Markup:
    """The header of a column of numbers."""
    return tag("th", name, scope="col", class_="n")


def cell(value: float | None) -> Markup:
    """A table cell with a number in it."""
    return tag("td", "" if value is None else number(value), class_="n")


def number(value: float) -> str:
    """An error in two digits: `3.2e-07`, `0`, `NaN`, `inf`."""
    if math.isnan(value):
        return "NaN"
    return "0" if value == 0 else f"{value:.1e}"


def plain(value: float) -> str:
    """A number in a sentence: `0.31`, `4`, `3.2e-07`."""
    return f"{value:.3g}" if 0.01 <= abs(value) < 1000 else number(value)


def prose(text: str) -> Markup:
    """A sentence whose numbers are not broken over two lines."""
    return Markup(_SPLIT.sub(r'<span class="whole">\g<0></span>', escape(text)))


def shape_text(shape: Sequence[int]) -> str:
    """Sizes as people write them: `30522 x 768` with the sign for "times"."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape)) if shape else "scalar"


def badge(text: str, kind: str) -> Markup:
    """A short word in colour; `kind` is "good", "bad" or "plain"."""
    return tag("span", text, class_=f"badge {kind}")


def passed(*, ok: bool) -> Markup:
    """A table cell: within its limit or not."""
    return tag("td", badge("ok", "good") if ok else badge("too large", "bad"))


def count(amount: int, noun: str) -> str:
    """`1 tensor`, `1,234 tensors`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
