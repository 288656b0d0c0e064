"""What every page has: a head that lets nothing in from outside, its icon, and the signs of good and bad."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from urllib.parse import quote

from bertconv.verify.html.markup import Markup, tag

_MARKS = {"good": "M7 12.5l3.5 3.5L17 8.5", "bad": "M8 8l8 8M16 8l-8 8", "part": "M12 6.5v7M12 16.6v.9"}
_COLOURS = {"good": "#1a7f45", "bad": "#b3261e", "part": "#8a5a00"}


def asset(name: str, package: str = "bertconv.verify.html") -> Markup:
    """A style sheet or a script that lies beside the code."""
    return Markup(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def head(title: str, style: str, script: str, state: str) -> Markup:
    """The head of a page with one style sheet and one script, which may be empty; `state` as for `mark`."""
    policy = (
        f"default-src 'none'; style-src {_hashed(style)}; script-src {_hashed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href=f"data:image/svg+xml,{quote(mark(state))}"),
        tag("style", style),
    )


def mark(state: str, label: str | None = None) -> Markup:
    """A tick, a cross or an exclamation mark in a disc, coloured here because it also stands alone in the tab.

    Args:
        state: "good", "bad" or "part".
        label: what it says.
    """
    disc = tag("circle", cx=12, cy=12, r=11, fill=_COLOURS[state])
    line = {"stroke": "#fff", "stroke_width": 2.4, "stroke_linecap": "round", "stroke_linejoin": "round"}
    sign = tag("path", d=_MARKS[state], fill="none", **line)
    said = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return tag("svg", disc, sign, viewBox="0 0 24 24", xmlns="http://www.w3.org/2000/svg", class_="mark", **said)


def _hashed(text: str) -> Markup:
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
