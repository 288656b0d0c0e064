"""Work over time as an SVG: how many items ended in each span and how many bytes a second that was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from bertconv.fleet.timeline import Bar
from bertconv.text import human_bytes
from bertconv.verify.html.markup import Markup, tag

_WIDTH, _HEIGHT, _GAP = 1040, 120, 46
"""Of a panel, and what is between the two."""
_LEFT, _TOP = 70, 24
_PAUSE = 26
"""Width of a pause."""
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)
_EVERY = 110
"""Least width between two times that are written."""


class _Column(NamedTuple):
    """A span and where it is drawn."""

    bar: Bar
    x: float
    width: float


def chart(bars: Sequence[Bar]) -> Markup | None:
    """Two panels over one axis of time; None where nothing has ended."""
    if not bars:
        return None
    columns = list(_placed(bars))
    most = _ceiling(max(bar.good + bar.bad for bar in bars))
    rate = _ceiling(max(bar.size / bar.seconds for bar in bars))
    lower = _TOP + _HEIGHT + _GAP
    svg = tag(
        "svg",
        *_panel("items that ended", most, _TOP, lambda number: f"{number:,.0f}"),
        *(part for column in columns for part in _counts(column, most)),
        *_panel("bytes of weights a second", rate, lower, human_bytes),
        *(_rate(column, rate, lower) for column in columns),
        *_axis(columns, lower + _HEIGHT),
        *(_hover(column, lower + _HEIGHT) for column in columns),
        viewBox=f"0 0 {_LEFT + _WIDTH + 10} {lower + _HEIGHT + 44}", role="img",
        aria_label="Items that ended, and bytes of weights a second, over time",
    )  # fmt: skip
    return tag("div", tag("div", svg, class_="plot scroll", tabindex="0"), _legend(bars))


def _placed(bars: Sequence[Bar]) -> Iterator[_Column]:
    """Spans side by side, as wide as they are long, with room for the pauses between sessions."""
    pauses = sum(bar.begins for bar in bars[1:])
    whole = sum(bar.seconds for bar in bars)
    scale = (_WIDTH - _PAUSE * pauses) / whole
    x = float(_LEFT)
    for number, bar in enumerate(bars):
        x += _PAUSE if bar.begins and number else 0
        yield _Column(bar, x, bar.seconds * scale)
        x += bar.seconds * scale


def _panel(title: str, most: float, top: float, said: Callable[[float], str]) -> Iterator[Markup]:
    yield tag("text", title, x=_LEFT, y=top - 9, class_="start title")
    for part in (0, 0.5, 1):
        y = top + _HEIGHT * (1 - part)
        yield tag("line", x1=_LEFT, x2=_LEFT + _WIDTH, y1=f"{y:g}", y2=f"{y:g}")
        if float(most * part).is_integer():
            yield tag("text", said(most * part), x=_LEFT - 8, y=f"{y + 4:g}", class_="end")


def _counts(column: _Column, most: float) -> Iterator[Markup]:
    base = 0.0
    for number, kind in ((column.bar.good, "good"), (column.bar.bad, "bad")):
        if number:
            height = _HEIGHT * number / most
            yield _box(column, _TOP + _HEIGHT - base - height, height, f"column {kind}")
            base += height


def _rate(column: _Column, most: float, top: float) -> Markup:
    height = _HEIGHT * column.bar.size / column.bar.seconds / most
    return _box(column, top + _HEIGHT - height, height, "column size")


def _box(column: _Column, y: float, height: float, kind: str) -> Markup:
    gap = min(1.0, column.width / 6)
    return tag(
        "rect", x=f"{column.x + gap / 2:.2f}", y=f"{y:.2f}", width=f"{column.width - gap:.2f}", height=f"{height:.2f}",
        class_=kind,
    )  # fmt: skip


def _hover(column: _Column, bottom: float) -> Markup:
    bar = column.bar
    rate = human_bytes(bar.size / bar.seconds)
    said = f"{_moment(bar.start)} UTC: {bar.good:,} ended well, {bar.bad:,} failed, {rate}/s"
    return tag(
        "rect", tag("title", said), x=f"{column.x:.2f}", y=_TOP, width=f"{column.width:.2f}", height=bottom - _TOP,
        class_="hover",
    )  # fmt: skip


def _axis(columns: Sequence[_Column], bottom: float) -> Iterator[Markup]:
    """Times at the beginning of every session, and as many between as there is room for; a line for each pause."""
    last, day = -math.inf, ""
    for number, (bar, x, _) in enumerate(columns):
        if bar.begins and number:
            middle = f"{x - _PAUSE / 2:.1f}"
            yield tag("line", x1=middle, x2=middle, y1=_TOP, y2=bottom, class_="pause")
        room = x - last
        if room < (_EVERY / 2 if bar.begins else _EVERY) or x > _LEFT + _WIDTH - _EVERY / 2:
            continue
        last = x
        date, time = _moment(bar.start).split(" ")
        yield tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=bottom, y2=bottom + 5)
        yield tag("text", time, x=f"{x:.1f}", y=bottom + 19, class_="start")
        if date != day:
            yield tag("text", date, x=f"{x:.1f}", y=bottom + 34, class_="start")
            day = date


def _legend(bars: Sequence[Bar]) -> Markup:
    said = [("good", "ended well")] + ([("bad", "failed")] if any(bar.bad for bar in bars) else [])
    signs = {kind: tag("rect", width=30, height=14, rx=2, class_=f"column {kind}") for kind, _ in said}
    rows = [tag("li", tag("svg", signs[kind], aria_hidden="true"), words) for kind, words in said]
    pause = "; a dashed line is a pause" if any(bar.begins for bar in bars[1:]) else ""
    seconds = max(bar.seconds for bar in bars)
    span = f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    return tag("ul", *rows, tag("li", f"each column {span}, times in UTC{pause}"), class_="legend")


def _ceiling(number: float) -> float:
    """A round number that is not smaller."""
    if number <= 1:
        return 1.0
    power = 10 ** math.floor(math.log10(number))
    return float(next(step * power for step in _STEPS if step * power >= number * (1 - 1e-9)))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
