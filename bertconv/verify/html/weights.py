"""The tensors in the report: a table folded by layer, and histograms of the worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bertconv.verify.html.markup import Markup, badge, count, join, mono, plain, prose, shape_text, tag
from bertconv.verify.parity import Parity, TensorComparison

_BADGES = {"equal": "good", "cast": "plain"}
_WIDTH, _HEIGHT, _BASE = 320, 120, 102
"""A histogram's size, and where its bars stand."""


def weights(parity: Parity) -> Markup:
    """Every tensor, searchable; what differs stands first, and its group is open."""
    groups: dict[str, list[TensorComparison]] = {}
    for one in parity.tensors:
        groups.setdefault(_group(one.id), []).append(one)
    ordered = sorted(groups.items(), key=lambda item: all(one.ok for one in item[1]))
    field = tag(
        "input",
        type="search",
        id="search",
        placeholder="name, shape, type or state",
        autocomplete="off",
        spellcheck="false",
    )
    shown = tag("output", id="found", for_="search")
    search = tag("p", tag("label", "Search ", field), shown, class_="search", hidden=True)
    groups_and_rest = (*(_folded(name, found) for name, found in ordered), _left_out(parity))
    return join((_summary(parity), search, tag("div", *groups_and_rest, class_="folds")))


def _group(identity: str) -> str:
    first, _, rest = identity.partition(".")
    return f"layer {rest.partition('.')[0]}" if first == "layer" else first


def _summary(parity: Parity) -> Markup:
    states: dict[str, int] = {}
    for one in parity.tensors:
        states[one.state] = states.get(one.state, 0) + 1
    said = ", ".join(f"{amount:,} {state}" for state, amount in states.items())
    return tag("p", f"{count(len(parity.tensors), 'tensor')} of {parity.head}: {said or 'none'}.")


def _folded(name: str, tensors: Sequence[TensorComparison]) -> Markup:
    wrong = sum(not one.ok for one in tensors)
    remarked = sum(bool(one.remarks) for one in tensors)
    badges = [badge(f"{wrong} differ{'s' if wrong == 1 else ''}", "bad") if wrong else badge("same values", "good")]
    if cast := sum(one.state == "cast" for one in tensors):
        badges.append(badge(f"{cast} cast", "plain"))
    if remarked:
        badges.append(badge(f"{remarked} with remarks", "plain"))
    title = tag("summary", tag("b", name), tag("small", count(len(tensors), "tensor")), *badges)
    heads = (tag("th", head, scope="col") for head in ("Tensor, in A and in B", "Shape", "Type", "State", "Digest"))
    caption = tag("caption", f"Tensors of {name}", class_="quiet")
    rows = tag("tbody", *(_row(one) for one in sorted(tensors, key=lambda one: one.ok)))
    table = tag("table", caption, tag("thead", tag("tr", *heads)), rows, class_="tensors")
    return tag("details", title, tag("div", table, class_="scroll"), class_="group", open=wrong > 0)


def _row(one: TensorComparison) -> Markup:
    names = [tag("span", tag("b", side), " ", name) for side, name in (("A", one.a), ("B", one.b)) if name]
    remarks = [tag("em", prose(remark)) for remark in (*_difference(one), *one.remarks)]
    kinds = (kind for kind in dict.fromkeys((one.dtype_a, one.dtype_b)) if kind)
    digest = one.digest.rpartition(":")[2]
    return tag(
        "tr",
        tag("th", mono(one.id), *names, *remarks, scope="row"),
        tag("td", shape_text(one.shape)),
        tag("td", " \N{RIGHTWARDS ARROW} ".join(kinds)),
        tag("td", badge(one.state, _BADGES.get(one.state, "bad"))),
        tag("td", mono(digest[:10], title=digest) if digest else None),
        class_=None if one.ok else "wrong",
    )


def _difference(one: TensorComparison) -> Iterator[str]:
    """How much differs and where first, in words; nothing where nothing does."""
    if not one.differing:
        return
    said = f"{one.differing:,} of {count(math.prod(one.shape), 'element')} differ{'s' if one.differing == 1 else ''}"
    if one.first is None:
        yield said
        return
    yield f"{said}, by {plain(one.max_difference)} at most ({plain(one.relative)} of A's largest value)"
    values = [f"{side} {value:.9g}" for side, value in (("A", one.value_a), ("B", one.value_b)) if value is not None]
    yield f"first at [{', '.join(map(str, one.first))}]" + (f": {', '.join(values)}" if values else "")


def _left_out(parity: Parity) -> Markup | None:
    if not parity.left_out:
        return None
    names = (tag("li", mono(name)) for name in parity.left_out)
    title = tag("summary", tag("b", f"No part of {parity.head}"), tag("small", count(len(parity.left_out), "tensor")))
    return tag("details", title, tag("ul", *names, class_="names"))


def histograms(parity: Parity) -> Markup | None:
    """The values of the worst tensors, both sides over each other; None where no histogram was made."""
    worst = [one for one in parity.tensors if one.histogram]
    if not worst:
        return None
    figures = (tag("figure", _histogram(one), tag("figcaption", mono(one.id), _caption(one))) for one in worst)
    about = tag("p", "Values of A (filled) and B (line); the height is the logarithm of their number.")
    return join((about, tag("div", *figures, class_="figures")))


def _caption(one: TensorComparison) -> Markup:
    return tag("span", prose(next(_difference(one), f"{one.state}, {shape_text(one.shape)}")))


def _histogram(one: TensorComparison) -> Markup:
    found = one.histogram or {}
    edges = found.get("edges", [])
    most = max((*found.get("a", []), *found.get("b", []), 1))
    drawn = (
        tag("path", d=_outline(found.get(side, []), most), class_=side, data_side=side)
        for side in "ab"
        if found.get(side)
    )
    ends = [(0, edges[0], "start"), (_WIDTH, edges[-1], "end")] if edges else []
    labels = (tag("text", f"{value:.3g}", x=x, y=_HEIGHT - 4, class_=place) for x, value, place in ends)
    top = tag("text", f"{most:,.0f} values", x=0, y=10, class_="start")
    base = tag("line", x1=0, x2=_WIDTH, y1=_BASE, y2=_BASE)
    view = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", *drawn, base, *labels, top, viewBox=view, role="img", aria_label=f"Values of {one.id}")


def _outline(counts: Iterable[float], most: float) -> str:
    """The upper edge of the bars, from the left end of the base line to the right one."""
    heights = [math.log1p(amount) / math.log1p(most) * (_BASE - 16) for amount in counts]
    width = _WIDTH / len(heights)
    steps = (f"V{_BASE - height:.1f}H{width * (n + 1):.1f}" for n, height in enumerate(heights))
    return f"M0 {_BASE}{''.join(steps)}V{_BASE}"
