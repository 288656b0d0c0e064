"""What the pages of reports have in common: head, verdict, tiles, sides, sections; one file that asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from urllib.parse import quote

from bertconv.mapping.table import title_of
from bertconv.text import human_bytes
from bertconv.verify.html.markup import Markup, count, facts, mono, prose, tag
from bertconv.verify.parity import SideFacts

_MARKS = {"good": "M7 12.5l3.5 3.5L17 8.5", "bad": "M8 8l8 8M16 8l-8 8", "part": "M12 6.5v7M12 16.6v.9"}
_COLOURS = {"good": "#1a7f45", "bad": "#b3261e", "part": "#8a5a00"}
Section = tuple[str, str, Markup | None]
"""Its id, its title and what is in it."""


def sheet(title: str, state: str, header: Markup, sections: Iterable[Section], footer: str) -> str:
    """One self-contained page: no network, no fonts, light and dark, all of it readable without its small script.

    Args:
        title: of the window.
        state: "good", "bad" or "part": the mark in the window's tab.
        header: what stands above everything.
        sections: what follows, in order; one with nothing in it is left out.
        footer: the last line.
    """
    style, script = _asset("report.css"), _asset("report.js")
    shown = [section for section in sections if section[2]]
    links = (tag("a", name, href=f"#{identity}") for identity, name, _ in shown)
    body = tag(
        "body",
        header,
        tag("nav", *links, aria_label="Sections"),
        tag("main", *(_section(*section) for section in shown)),
        tag("footer", footer),
        tag("script", script),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(title, state, style, script), body, lang='en')}\n"


def _asset(name: str) -> Markup:
    return Markup(resources.files("bertconv.verify.html").joinpath(name).read_text(encoding="utf-8"))


def _head(title: str, state: str, style: str, script: str) -> Markup:
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


def _hashed(text: str) -> Markup:
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")


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


def verdict_box(state: str, words: str, why: str) -> Markup:
    """The verdict's first words as a title, and why as a sentence."""
    title = tag("div", mark(state), tag("h1", words), class_="title")
    first = why.partition(" ")[0]
    sentence = tag("p", prose((why[:1].upper() if first.isalpha() else why[:1]) + why[1:]), class_="why")
    return tag("div", title, sentence, class_=f"verdict {state}", id="verdict")


def tile(name: str, value: str, said: str, *, ok: bool) -> Markup:
    """A result at a glance."""
    label = tag("span", name, mark("good" if ok else "bad", "holds" if ok else "fails"))
    return tag("li", label, tag("strong", value), tag("small", prose(said)), class_="good" if ok else "bad")


def side_box(name: str, role: str, side: SideFacts) -> Markup:
    """Where one side lies and what it is."""
    kinds = ", ".join(f"{dtype} ({number_of})" for dtype, number_of in side.dtypes.items())
    size = sum(side.files.values())
    said = (
        ("Format", f"{title_of(side.dialect) or side.dialect}, {side.container}"),
        ("Class", side.head),
        ("Revision", mono(side.revision) if side.revision else None),
        ("Ran in", side.framework),
        ("Types", kinds),
        ("Weights", f"{human_bytes(size)} in {count(len(side.files), 'file')}" if side.files else None),
        ("Digest", mono(side.digest.rpartition(":")[2][:16], title=side.digest) if side.digest else None),
    )
    title = tag("h2", tag("span", name, class_=f"letter {name.lower()}"), mono(side.given), tag("small", role))
    return tag("section", title, facts(said), class_="side")


def _section(identity: str, title: str, body: Markup | None) -> Markup:
    return tag("section", tag("h2", title), body, id=identity, aria_label=title)
