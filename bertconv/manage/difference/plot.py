"""Inline SVG: how much every layer changed, on a logarithmic scale, in bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from bertconv.records import dataclass
from bertconv.verify.html.markup import Markup, join, number, tag
from bertconv.verify.html.plots import (
    LANE,
    LEFT,
    LINE,
    TOP,
    WIDE,
    WIDTH,
    Scale,
    grid,
    scale_of,
    shortened,
    text_at,
)

_MARGIN = 16
"""On the right."""


@dataclass(frozen=True)
class Bars:
    """One row of bars: what it shows, "a" or "b" for its colour, and layer -> how high."""

    name: str
    side: str
    heights: Mapping[str, float]


@dataclass(frozen=True)
class _Column:
    layer: str
    label: str
    group: str
    middle: float
    width: float


def change_plot(layers: Sequence[str], series: Sequence[Bars], title: str) -> Markup:
    """Bars for each layer: a legend where there are several rows of them, and a plot.

    Args:
        layers: names, in order; those of one group with a number stand together.
        series: the bars.
        title: of the scale.
    """
    columns = _columns(layers)
    scale = scale_of([height for one in series for height in one.heights.values()])
    right = columns[-1].middle + columns[-1].width / 2
    height = scale.floor + 10 + LINE * max(3, *(len(_lines(column)) for column in columns))
    drawing = tag(
        "svg",
        tag("g", grid(scale, right, title), *_labels(columns, scale), class_="axes"),
        *(_bars(one, place, len(series), columns, scale) for place, one in enumerate(series)),
        *(_hover(column, series, scale) for column in columns),
        viewBox=f"0 0 {right + _MARGIN:g} {height:g}",
        width=f"{right + _MARGIN:g}",
        height=f"{height:g}",
        role="img",
        aria_label=f"{title} of every layer, on a logarithmic scale",
    )
    box = tag("div", drawing, class_="scroll plot", tabindex="0", role="region", aria_label="Plot of the changes")
    return join((_legend(series) if len(series) > 1 else "", box))


def _columns(layers: Sequence[str]) -> list[_Column]:
    split = [layer.partition(".") for layer in layers]
    numbered = sum(bool(rest) for _, _, rest in split)
    free = WIDTH - LEFT - _MARGIN - WIDE * (len(layers) - numbered)
    step = max(30.0, min(70.0, free / max(numbered, 1)))
    columns, left = [], float(LEFT)
    for layer, (group, _, rest) in zip(layers, split, strict=True):
        width = step if rest else WIDE
        columns.append(_Column(layer, rest or layer, group if rest else "", left + width / 2, width))
        left += width
    return columns


def _lines(column: _Column) -> list[str]:
    return [column.label] if column.group else [shortened(part) for part in column.label.replace("_", " ").split(" ")]


def _labels(columns: Sequence[_Column], scale: Scale) -> list[Markup]:
    """A label below every column, and the group's below those with numbers."""
    labels = []
    for column in columns:
        lines = (
            tag("tspan", line, x=f"{column.middle:.1f}", dy=LINE if row else None)
            for row, line in enumerate(_lines(column))
        )
        labels.append(text_at(column.middle, scale.floor + 18, join(lines)))
    for group, found in groupby(columns, key=lambda column: column.group):
        inside = list(found)
        if group:
            middle = (inside[0].middle + inside[-1].middle) / 2
            labels.append(text_at(middle, scale.floor + 18 + 1.6 * LINE, group, class_="title"))
    return labels


def _bars(one: Bars, place: int, many: int, columns: Sequence[_Column], scale: Scale) -> Markup:
    bars = []
    for column in columns:
        height = one.heights.get(column.layer)
        if height is None:
            continue
        room = min(column.width * 0.7, 44.0)
        width = room / many
        left = column.middle - room / 2 + place * width
        if not math.isfinite(height):
            bars.append(
                tag("path", d=f"M{left + width / 2:.1f} {TOP + LANE / 2:.1f}m-4-4l8 8m0-8l-8 8", class_="nonfinite")
            )
        elif height == 0:
            bars.append(tag("circle", cx=f"{left + width / 2:.1f}", cy=f"{scale.y(0):.1f}", r=3))
        else:
            top = min(scale.y(height), scale.bottom - 1.5)
            size = {"width": f"{width - 2:.1f}", "height": f"{scale.bottom - top:.1f}"}
            bars.append(tag("rect", x=f"{left + 1:.1f}", y=f"{top:.1f}", rx=2, **size))
    return tag("g", *bars, class_=f"bars {one.side}", data_series=one.name)


def _hover(column: _Column, series: Sequence[Bars], scale: Scale) -> Markup:
    """The numbers of a layer, shown where the pointer is."""
    lines = [column.layer, *(f"{one.name}: {number(one.heights[column.layer])}" for one in series
                             if column.layer in one.heights)]  # fmt: skip
    x = f"{column.middle - column.width / 2:.1f}"
    size = {"width": f"{column.width:.1f}", "height": f"{scale.floor - TOP:.1f}"}
    return tag("rect", tag("title", join(lines, "\n")), x=x, y=TOP, **size, class_="hover")


def _legend(series: Sequence[Bars]) -> Markup:
    items = []
    for one in series:
        drawn = tag("g", tag("rect", x=2, y=2, width=26, height=10, rx=2), class_=f"bars {one.side}")
        items.append(tag("li", tag("svg", drawn, viewBox="0 0 30 14", aria_hidden="true"), one.name))
    return tag("ul", *items, class_="legend")
