"""What the reports of comparisons have in common: verdict, tiles, sides, sections; one file that asks for nothing."""

from __future__ import annotations

from collections.abc import Iterable

from bertconv.mapping.dialects import title_of
from bertconv.text import human_bytes
from bertconv.verify.html.markup import Markup, count, facts, mono, prose, tag
from bertconv.verify.html.shell import asset, head, mark
from bertconv.verify.parity import SideFacts

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
    style, script = asset("report.css"), asset("report.js")
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
    return f"<!DOCTYPE html>\n{tag('html', head(title, style, script, state), body, lang='en')}\n"


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
