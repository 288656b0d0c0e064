"""The heat map: how far every module of B is from the float64 truth, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bertconv.verify.html.markup import Markup, breakable, join, number, tag
from bertconv.verify.parity import Measurement, Parity

STEPS = 12
"""Colours in report.css, from `s0` to `s11`."""

_LOWEST = {"float64": -16, "float32": -8, "float16": -4, "bfloat16": -3}
"""The power of ten at which the colours begin: rounding alone. They end at 1 for every type, so that maps compare."""


def heat_maps(parity: Parity) -> Markup | None:
    """One map per element type with a switch between them; None where no module was measured."""
    modules = [one for one in parity.measurements if one.kind == "module"]
    dtypes = [dtype for dtype in parity.dtypes if any(one.dtype == dtype for one in modules)]
    if not dtypes:
        return None
    first = parity.divergence.place if parity.divergence else None
    panels = (
        _panel(index, dtype, [one for one in modules if one.dtype == dtype], first)
        for index, dtype in enumerate(dtypes)
    )
    return tag("div", _switch(dtypes) if len(dtypes) > 1 else None, *panels, class_="heat")


def _switch(dtypes: Iterable[str]) -> Markup:
    choices = []
    for index, dtype in enumerate(dtypes):
        button = tag("input", type="radio", name="heat", id=f"heat-{index}", checked=index == 0)
        choices.append(tag("label", button, tag("span", dtype)))
    return tag("fieldset", tag("legend", "Computed in"), *choices, class_="switch")


def _panel(index: int, dtype: str, modules: Sequence[Measurement], first: str | None) -> Markup:
    layered = [one for one in modules if one.layer is not None]
    others = [one for one in modules if one.layer is None]
    tables = []
    if layered:
        columns = list(dict.fromkeys(one.module for one in layered))
        rows: dict[int, dict[str, Measurement]] = {}
        for one in layered:
            rows.setdefault(one.layer or 0, {})[one.module] = one
        named = [(str(layer), _cells(rows[layer], first)) for layer in sorted(rows)]
        tables.append(heat_table(f"Error of B in {dtype}, layer by layer", "layer", columns, named))
    if others:
        columns = list(dict.fromkeys(one.place for one in others))
        row = _cells({one.place: one for one in others}, first)
        tables.append(heat_table(f"Error of B in {dtype}, outside the layers", "", columns, [("model", row)]))
    return tag("div", *tables, _legend(dtype, first), class_=f"panel p{index}", data_dtype=dtype)


def heat_table(
    caption: str, corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Mapping[str, Markup]]]
) -> Markup:
    """A table of coloured cells.

    Args:
        caption: what it shows.
        corner: what the rows are.
        columns: their names.
        rows: a label, and for the columns that have one the cell.
    """
    heads = [tag("th", corner, scope="col") if corner else tag("td")]
    heads += [tag("th", breakable(name), scope="col") for name in columns]
    body = (
        tag("tr", tag("th", label, scope="row"), *(cells.get(name, tag("td")) for name in columns))
        for label, cells in rows
    )
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cells(found: Mapping[str, Measurement], first: str | None) -> dict[str, Markup]:
    return {name: _cell(one, first) for name, one in found.items()}


def _cell(one: Measurement, first: str | None) -> Markup:
    side_a = "" if one.dtype == "float64" else f", A {number(one.a)}"
    title = (
        f"{one.place}, {one.dtype}: B {number(one.b)}{side_a}; largest {number(one.max_difference)}, case {one.case}"
    )
    kind = step(one.b, one.dtype) + (" first" if one.place == first else "")
    return tag("td", short(one.b), class_=kind, title=title)


def short(error: float) -> str:
    """`3e-7`: as narrow as can be."""
    if error == 0 or not math.isfinite(error):
        return number(error)
    mantissa, power = f"{error:.0e}".split("e")
    return f"{mantissa}e{int(power)}"


def step(error: float, dtype: str) -> str:
    """The class that gives a cell its colour: `shade`, for errors of an element type."""
    return shade(error, _LOWEST.get(dtype, -16))


def shade(value: float, lowest: int) -> str:
    """The class of a colour: "s0" to "s11" by the logarithm, from a power of ten to 1; "zero", or "nonfinite"."""
    if not math.isfinite(value):
        return "nonfinite"
    if value == 0:
        return "zero"
    part = 1 - math.log10(value) / lowest
    return f"s{min(STEPS - 1, max(0, math.floor(part * STEPS)))}"


def _legend(dtype: str, first: str | None) -> Markup:
    notes = tag("p", tag("span", class_="first"), "where it breaks first", class_="key") if first else None
    return tag("div", ramp(_LOWEST.get(dtype, -16)), notes)


def ramp(lowest: int) -> Markup:
    """The colours, from a power of ten to 1."""
    swatches = join(tag("span", class_=f"s{index}") for index in range(STEPS))
    scale = (f"1e{lowest:+03d} or less", tag("span", swatches, class_="ramp"), "1 or more")
    return tag("p", *scale, class_="key", role="img", aria_label="Colours from small to large")
