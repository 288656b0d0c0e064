"""Inline SVG: the error of both sides at every place, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from bertconv.records import dataclass
from bertconv.verify.html.markup import Markup, join, number, tag
from bertconv.verify.parity import Measurement, Parity

WIDTH = 1040
"""Of the whole drawing, with the layers as wide or narrow as it takes, within reason."""
LEFT, RIGHT, TOP, HEIGHT = 84, 112, 16, 280
LANE, GAP = 26, 8
"""Height of the strips for what a logarithm cannot show: 0 below the scale, NaN and infinity above."""
FAR = 40
"""Powers of ten beyond this are drawn at the edge: one absurd value must not flatten all others."""
WIDE = 88
"""Width of a column whose label is a name; layers are narrower."""
LINE = 14

_SHAPES = (
    "m0-5l5 5l-5 5l-5-5z",  # diamond
    "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",  # disc
    "m-3.5-3.5h7v7h-7z",  # square
    "m0-4.5l4.5 8h-9z",  # triangle
)
_CROSS = "m-4-4l8 8m0-8l-8 8"


@dataclass(frozen=True)
class _Column:
    """A place on the x axis: its label in lines, its middle, its width."""

    place: str
    lines: tuple[str, ...]
    kind: str
    middle: float
    width: float


@dataclass(frozen=True)
class Scale:
    """The y axis: powers of ten from `low` to `high`, with a strip for `zero` and one for `nonfinite`."""

    low: int
    high: int
    zero: bool
    nonfinite: bool

    @property
    def top(self) -> float:
        """Where the scale begins."""
        return TOP + (LANE + GAP if self.nonfinite else 0)

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + HEIGHT

    @property
    def floor(self) -> float:
        """Where the plot ends, the strip for 0 included."""
        return self.bottom + (LANE + GAP if self.zero else 0)

    def y(self, error: float) -> float:
        """How far down a value stands."""
        if not math.isfinite(error):
            return TOP + LANE / 2
        if error == 0:
            return self.floor - LANE / 2
        power = min(max(math.log10(error), self.low), self.high)
        return self.top + HEIGHT * (self.high - power) / (self.high - self.low)


_Series = tuple[str, str]
"""A side, "a" or "b", and an element type."""
_Found = Mapping[tuple[str, str, str], Measurement]
"""Place, kind and element type -> what was measured there."""


def error_plot(parity: Parity) -> Markup | None:
    """Errors of hidden states and outputs against float64: a legend and a plot; None where nothing was measured."""
    drawable = (one for one in parity.measurements if one.dtype in parity.dtypes)
    shown = [one for one in drawable if one.kind == "output" or _is_hidden_state(one)]
    if not shown:
        return None
    dtypes = [dtype for dtype in parity.dtypes if any(one.dtype == dtype for one in shown)]
    series = [(side, dtype) for dtype in dtypes for side in "ab" if (side, dtype) != ("a", "float64")]
    columns, scale = _columns(shown), _scale(shown)
    found = {(one.place, one.kind, one.dtype): one for one in shown}
    width = columns[-1].middle + columns[-1].width / 2 + RIGHT
    height = scale.floor + 10 + LINE * max(3, *(len(column.lines) for column in columns))
    drawing = tag(
        "svg",
        _axes(scale, columns),
        *(_limits(dtype, columns, scale, found) for dtype in dtypes),
        _limit_labels(dtypes, columns, scale, found),
        *(_series(one, _shape(dtypes, one[1]), columns, scale, found) for one in series),
        *(
            _hover(column, scale, [found.get((column.place, column.kind, dtype)) for dtype in dtypes])
            for column in columns
        ),
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label="Error of A and B against float64 at every hidden state and output, on a logarithmic scale",
    )
    box = tag("div", drawing, class_="scroll plot", tabindex="0", role="region", aria_label="Plot of the errors")
    return join((_legend(series, dtypes), box))


def _is_hidden_state(one: Measurement) -> bool:
    """One of the model itself, not of its SavedModel."""
    return one.kind == "hidden state" and one.place in ("embeddings", f"layer.{one.layer}")


def _shape(dtypes: Sequence[str], dtype: str) -> str:
    return _SHAPES[dtypes.index(dtype) % len(_SHAPES)]


def _columns(shown: Iterable[Measurement]) -> list[_Column]:
    places: dict[tuple[str, str], Measurement] = {}
    for one in sorted(shown, key=lambda one: one.kind == "output"):
        places.setdefault((one.kind, one.place), one)
    layers = sum(kind == "hidden state" and one.layer is not None for (kind, _), one in places.items())
    free = WIDTH - LEFT - RIGHT - WIDE * (len(places) - layers)
    step = max(30.0, min(110.0, free / max(layers, 1)))
    columns, left = [], float(LEFT)
    for (kind, place), one in places.items():
        is_layer = kind == "hidden state" and one.layer is not None
        width = step if is_layer else WIDE
        lines = (str(one.layer),) if is_layer else tuple(shortened(part) for part in place.replace("_", " ").split(" "))
        columns.append(_Column(place, lines, kind, left + width / 2, width))
        left += width
    return columns


def shortened(text: str) -> str:
    """A name that fits below a column."""
    return text if len(text) <= 14 else text[:13] + "\N{HORIZONTAL ELLIPSIS}"


def _scale(shown: Sequence[Measurement]) -> Scale:
    errors = [error for one in shown for error in ((one.b,) if one.dtype == "float64" else (one.a, one.b))]
    return scale_of(errors, [one.limit or 0 for one in shown], 1e-16)


def scale_of(values: Sequence[float], others: Sequence[float] = (), least: float = 1e-4) -> Scale:
    """The scale on which values stand.

    Args:
        values: what is drawn; 0 and what is not finite get strips.
        others: what the scale has to hold too.
        least: where it begins if there is nothing to draw.
    """
    drawn = [value for value in (*values, *others) if value > 0 and math.isfinite(value)]
    low = max(-FAR, math.floor(math.log10(min(drawn, default=least))))
    high = min(FAR, math.ceil(math.log10(max(drawn, default=1.0))))
    return Scale(min(low, FAR - 1), max(high, low + 1), 0 in values, not all(map(math.isfinite, values)))


def _axes(scale: Scale, columns: Sequence[_Column]) -> Markup:
    right = columns[-1].middle + columns[-1].width / 2
    parts = [grid(scale, right, "error"), *(_x_label(column, scale.floor + 18) for column in columns)]
    for kind, of_kind in groupby(columns, key=lambda column: column.kind):
        parts += _group(kind, list(of_kind), scale)
    return tag("g", *parts, class_="axes")


def grid(scale: Scale, right: float, title: str) -> Markup:
    """The lines of a scale with their labels, its strips and its title; `right` is where the lines end."""
    every = 1 + (scale.high - scale.low) // 10
    parts = [
        tick(scale.y(10.0**power), f"1e{power:+03d}" if power else "1", right)
        for power in range(scale.low, scale.high + 1)
        if (power - scale.low) % every == 0
    ]
    if scale.zero:
        parts.append(strip_at(scale.y(0), "exactly 0", right))
    if scale.nonfinite:
        parts.append(strip_at(scale.y(math.nan), "NaN, inf", right))
    middle = (scale.top + scale.bottom) / 2
    return join((*parts, text_at(14, middle, title, class_="title", transform=f"rotate(-90 14 {middle:g})")))


def text_at(x: float, y: float, text: object, **attributes: object) -> Markup:
    """A label."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def line_at(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """A straight line."""
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", **attributes)


def tick(y: float, label: str, right: float) -> Markup:
    """A line of the grid with its label; `right` is where the grid ends."""
    return join((line_at(LEFT, y, right, y), text_at(LEFT - 8, y + 4, label, class_="end")))


def strip_at(y: float, label: str, right: float) -> Markup:
    """A strip for what the logarithm cannot show, with its label."""
    strip = tag("rect", x=LEFT, y=f"{y - LANE / 2:.1f}", width=f"{right - LEFT:.1f}", height=LANE, class_="strip")
    return join((strip, text_at(LEFT - 8, y + 4, label, class_="end")))


def _x_label(column: _Column, y: float) -> Markup:
    lines = (
        tag("tspan", line, x=f"{column.middle:.1f}", dy=LINE if n else None) for n, line in enumerate(column.lines)
    )
    return text_at(column.middle, y, join(lines))


def _group(kind: str, columns: Sequence[_Column], scale: Scale) -> Iterator[Markup]:
    """What the columns of one kind have in common: a line before the outputs, a title below the layers."""
    layers = [column for column in columns if column.width != WIDE]
    if kind == "output" and columns[0].middle > LEFT + WIDE / 2:
        x = columns[0].middle - WIDE / 2
        yield line_at(x, TOP, x, scale.floor, class_="divider")
    if kind == "hidden state" and layers:
        yield text_at(
            (layers[0].middle + layers[-1].middle) / 2, scale.floor + 18 + 1.6 * LINE, "layer", class_="title"
        )


def _limits(dtype: str, columns: Sequence[_Column], scale: Scale, found: _Found) -> Markup:
    corners, last = [], math.nan
    for column in columns:
        limit = _limit(found.get((column.place, column.kind, dtype)))
        if limit is not None:
            left, y = column.middle - column.width / 2, scale.y(limit)
            corners.append(f"{'V' if math.isclose(left, last) else f'M{left:.1f} '}{y:.1f}H{left + column.width:.1f}")
            last = left + column.width
    return tag("path", d="".join(corners), class_="limit")


def _limit_labels(dtypes: Sequence[str], columns: Sequence[_Column], scale: Scale, found: _Found) -> Markup:
    """Names at the right ends of the limits, moved apart where they would touch."""
    column = columns[-1]
    ends = []
    for dtype in dtypes:
        limit = _limit(found.get((column.place, column.kind, dtype)))
        if limit is not None:
            ends.append((scale.y(limit), dtype))
    labels, above = [], -math.inf
    for y, dtype in sorted(ends):
        above = max(y + 4, above + LINE)
        labels.append(text_at(column.middle + column.width / 2 + 8, above, f"limit {dtype}", class_="start"))
    return tag("g", *labels)


def _limit(one: Measurement | None) -> float | None:
    return one.limit if one is not None and one.limit and math.isfinite(one.limit) else None


def _series(series: _Series, shape: str, columns: Sequence[_Column], scale: Scale, found: _Found) -> Markup:
    side, dtype = series
    points = []
    for column in columns:
        one = found.get((column.place, column.kind, dtype))
        if one is not None:
            points.append((column, one.a if side == "a" else one.b))
    marks = [
        tag(
            "path",
            d=f"M{column.middle:.1f} {scale.y(error):.1f}{shape if math.isfinite(error) else _CROSS}",
            class_=None if math.isfinite(error) else "nonfinite",
        )
        for column, error in points
    ]
    return tag("g", *_polylines(points, scale), *marks, class_=f"series {side}", data_series=f"{side} {dtype}")


def _polylines(points: Iterable[tuple[_Column, float]], scale: Scale) -> Iterator[Markup]:
    """Through the hidden states; broken where an error is not finite."""
    hidden = ((column, error) for column, error in points if column.kind == "hidden state")
    for finite, run in groupby(hidden, key=lambda point: math.isfinite(point[1])):
        corners = [f"{column.middle:.1f},{scale.y(error):.1f}" for column, error in run]
        if finite and len(corners) > 1:
            yield tag("polyline", points=" ".join(corners))


def _hover(column: _Column, scale: Scale, found: Iterable[Measurement | None]) -> Markup:
    """Everything known about a place, shown where the pointer is."""
    lines: list[object] = [column.place]
    for one in found:
        if one is not None:
            side_a = "" if one.dtype == "float64" else f"A {number(one.a)}, "
            limit = "" if one.limit is None else f", limit {number(one.limit)}"
            lines.append(f"{one.dtype}: {side_a}B {number(one.b)}{limit}")
    x, height = column.middle - column.width / 2, scale.floor - TOP
    title = tag("title", join(lines, "\n"))
    return tag("rect", title, x=f"{x:.1f}", y=TOP, width=f"{column.width:.1f}", height=f"{height:.1f}", class_="hover")


def _legend(series: Iterable[_Series], dtypes: Sequence[str]) -> Markup:
    items = []
    for side, dtype in series:
        drawn = join((tag("polyline", points="1,7 29,7"), tag("path", d=f"M15 7{_shape(dtypes, dtype)}")))
        swatch = tag("svg", tag("g", drawn, class_=f"series {side}"), viewBox="0 0 30 14", aria_hidden="true")
        items.append(tag("li", swatch, f"{side.upper()}, {dtype}"))
    dashes = tag("svg", tag("path", d="M1 7H29", class_="limit"), viewBox="0 0 30 14", aria_hidden="true")
    return tag("ul", *items, tag("li", dashes, "limit for B"), class_="legend")
