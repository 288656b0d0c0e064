"""A history as a picture: one HTML page with an SVG in it, which asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise

from bertconv import __version__
from bertconv.manage.history.graph import CHANGED, CLAIMED, PROVEN, RECORDED, STATES, Edge, Graph, Model
from bertconv.manage.history.layout import BOX_HEIGHT, BOX_WIDTH, Layout, Point, lay_out
from bertconv.text import shown
from bertconv.verify.html.markup import Markup, count, join, mono, prose, table, tag
from bertconv.verify.html.shell import asset, head, mark

MOST_BOXES, MOST_LINES = 300, 1_500
"""A larger graph has a table and no picture."""

SMALLEST = 0.7
"""How far a picture shrinks on a narrow page."""

_MEANING = {
    PROVEN: "its weights are here: they were hashed just now and have the digest",
    RECORDED: "a folder is here whose own bertconv.json has the digest; its weights were not looked at",
    CLAIMED: "nothing of it is here: only the bertconv.json of what was made of it names it",
    CHANGED: "a folder is here whose weights are not those of its bertconv.json",
}
_NAME, _LINE, _ROLE = 25, 29, 12
"""Characters that fit in a box's first line, in the others, and on a line to a child."""
_MARGIN = 10
_TIP = 8
_LETTER = 6.6
"""Width of a letter on a line."""


def history_page(graph: Graph) -> str:
    """One self-contained page: no network, no fonts, no script, light and dark."""
    layout = lay_out(graph) if len(graph.models) <= MOST_BOXES and len(graph.edges) <= MOST_LINES else None
    style = _style(layout)
    state = _verdict_of(graph)
    root = graph.models[graph.root]
    sections = [("picture", "Picture", _picture(graph, layout)), ("models", "Models", _table(graph))]
    body = tag(
        "body",
        _header(graph, root, state),
        tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in sections), aria_label="Sections"),
        tag(
            "main",
            *(
                tag("section", tag("h2", title), content, id=name, aria_label=title)
                for name, title, content in sections
            ),
        ),
        tag("footer", f"bertconv {__version__}"),
    )
    page = tag("html", head(f"History of {root.name}", style, "", state), body, lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def state_of(model: Model) -> str:
    """The state of a model, or "changed" where a folder of it is."""
    return CHANGED if any(place.state == CHANGED for place in model.places) else model.state


def _verdict_of(graph: Graph) -> str:
    if not graph.ok:
        return "bad"
    return "good" if all(model.state == PROVEN for model in graph.models.values()) else "part"


def _header(graph: Graph, root: Model, state: str) -> Markup:
    title = tag("div", mark(state), tag("h1", "History of ", tag("code", root.name)), class_="title")
    said = tag("div", title, tag("p", f"{graph.summary()}.", class_="why"), class_=f"verdict {state}", id="verdict")
    notes = [tag("p", tag("b", "Note: "), prose(f"{note}.")) for note in graph.notes]
    return tag("header", said, tag("div", *notes, class_="findings") if notes else None)


def _style(layout: Layout | None) -> Markup:
    """The style sheets; a wide picture shrinks so far that it can still be read, and then it is scrolled."""
    own = asset("history.css", "bertconv.manage.history")
    width = f".picture svg {{ min-width: {layout.width * SMALLEST:.0f}px; }}\n" if layout else ""
    return Markup(asset("report.css") + own + width)


def _picture(graph: Graph, layout: Layout | None) -> Markup:
    if layout is None:
        return tag("p", f"{count(len(graph.models), 'model')} are too many for a picture.")
    numbers = {key: number for number, key in enumerate(graph.models)}
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    svg = tag(
        "svg",
        *(_line(edge, points) for edge, points in layout.lines),
        *(_box(graph, graph.models[key], corner, numbers[key]) for key, corner in layout.boxes.items()),
        viewBox=f"{-_MARGIN} {-_MARGIN} {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}",
        role="img", aria_label="Models as boxes, with lines from each to what was made of it",
    )  # fmt: skip
    return tag("div", tag("div", svg, class_="scroll picture", tabindex="0"), _legend(graph))


def _legend(graph: Graph) -> Markup:
    there = {state_of(model) for model in graph.models.values()}
    rows = []
    for state in (*STATES, CHANGED):
        if state in there:
            line = tag("g", tag("path", d="M1 7h32"), class_=f"edge {state}")
            sign = tag("svg", line, viewBox="0 0 34 14", aria_hidden="true")
            rows.append(tag("li", sign, tag("span", tag("b", state, class_=f"state {state}"), f": {_MEANING[state]}")))
    return tag("ul", *rows, class_="legend")


def _box(graph: Graph, model: Model, corner: Point, number: int) -> Markup:
    state = state_of(model)
    name, _, commit = (model.name, "", "") if model.places else model.name.partition("@")
    others = (*model.folders[1:], *model.aliases)
    lines = [line for line in (
        f"commit {commit}" if commit else "", model.head, f"by {' and '.join(model.verbs)}" if model.verbs else "",
        f"= {others[0].partition('@')[0]}" if others else "",
    ) if line]  # fmt: skip
    texts = (
        tag("text", _cut(name, _NAME), x=18, y=25, class_="name"),
        *(tag("text", _cut(line, _LINE), x=18, y=44 + 17 * place) for place, line in enumerate(lines)),
        tag("text", model.short or "no digest", x=18, y=BOX_HEIGHT - 10, class_="digest"),
        tag("text", state, x=BOX_WIDTH - 12, y=BOX_HEIGHT - 10, class_="known"),
    )
    frame = tag("rect", x=0, y=0, width=BOX_WIDTH, height=BOX_HEIGHT, rx=9)
    side = tag("rect", x=1, y=9, width=5, height=BOX_HEIGHT - 18, rx=2.5, class_="side")
    told = tag("title", "; ".join(filter(None, (model.name, *lines, model.digest, state))))
    # A nested image cuts off what is wider than the box, as letters of other scripts are.
    inside = tag("svg", *texts, width=BOX_WIDTH - 4, height=BOX_HEIGHT)
    link = tag("a", told, frame, side, inside, href=f"#m{number}")
    kind = f"box {state}" + (" root" if model.id == graph.root else "")
    return tag("g", link, transform=f"translate({corner.x:g} {corner.y:g})", class_=kind)


def _line(edge: Edge, points: tuple[Point, ...]) -> Markup:
    """A curve that leaves a box level, as far as its role is long, and reaches the other one with an arrow."""
    role = _cut(edge.role, _ROLE)
    begin, end = points[0], Point(points[-1].x - _TIP, points[-1].y)
    start = Point(begin.x + 12 + _LETTER * len(role), begin.y)
    parts = [f"M{begin.x:g} {begin.y:g}H{start.x:g}"]
    for one, other in pairwise([start, *points[1:-1], end]):
        bend = max(abs(other.x - one.x) / 2, 24)
        parts.append(f"C{one.x + bend:g} {one.y:g} {other.x - bend:g} {other.y:g} {other.x:g} {other.y:g}")
    tip = f"M{end.x + _TIP:g} {end.y:g}l{-_TIP - 2} -5v10z"
    said = tag("text", role, x=f"{begin.x + 8:g}", y=f"{begin.y - 5:g}") if role else None
    told = tag("title", " ".join(filter(None, (edge.role, edge.verb, edge.state))))
    return tag(
        "g", told, tag("path", d="".join(parts)), tag("path", d=tip, class_="tip"), said, class_=f"edge {edge.state}"
    )


def _table(graph: Graph) -> Markup:
    numbers = {key: number for number, key in enumerate(graph.models)}
    rows = (_row(graph, model, numbers) for model in graph.models.values())
    heads = ("Model", "Known", "Class", "Made by", "Of", "Digest of weights, of backbone")
    found = table("Every model, with where it is and what it was made of", heads, rows, quiet=True)
    return tag("div", found, class_="models")


def _row(graph: Graph, model: Model, numbers: dict[str, int]) -> Markup:
    places = [tag("small", place.folder + (f" ({place.state})" if place.state != model.state else ""))
              for place in model.places]  # fmt: skip
    names = [tag("small", f"= {name}") for name in model.aliases]
    state = state_of(model)
    cells = (
        tag("th", tag("b", model.name), *places, *names, scope="row"),
        tag("td", tag("span", state, class_=f"state {state}"), *_verified(model)),
        tag("td", model.head),
        tag("td", *_operations(model)),
        tag("td", *_parents(graph, model, numbers)),
        tag(
            "td",
            *(tag("div", mono(digest)) for digest in (model.digest, model.backbone_digest) if digest),
            class_="digest",
        ),
    )
    return tag("tr", *cells, id=f"m{numbers[model.id]}")


def _verified(model: Model) -> Iterable[Markup]:
    if model.verified:
        yield tag(
            "small", "not verified when made" if model.verified == "none" else f"{model.verified} verified when made"
        )


def _operations(model: Model) -> Iterator[Markup]:
    told = {}
    for place in model.places:
        if place.operation.verb:
            options = json.dumps(place.operation.options, ensure_ascii=False) if place.operation.options else ""
            told[place.operation.verb, options] = place.written_by
    for (verb, options), version in told.items():
        said = tag("small", shown(options, 300).strip("'")) if options else None
        yield tag("div", verb, tag("small", f"bertconv {version}") if version else None, said)


def _parents(graph: Graph, model: Model, numbers: dict[str, int]) -> Iterator[Markup]:
    for edge in graph.parents.get(model.id, ()):
        link = tag("a", graph.models[edge.parent].name, href=f"#m{numbers[edge.parent]}")
        yield tag("div", join([edge.role, link], " ") if edge.role else link)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
