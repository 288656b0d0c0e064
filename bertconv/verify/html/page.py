"""The report that a person looks at: one HTML page with everything in it, which asks the network for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bertconv.text import printable
from bertconv.verify.html.heat import heat_maps
from bertconv.verify.html.markup import Markup, count, join, mono, plain, prose, tag
from bertconv.verify.html.plots import error_plot
from bertconv.verify.html.sheet import Section, sheet, side_box, tile, verdict_box
from bertconv.verify.html.tables import beside, cases, config, gradients, origin, outputs
from bertconv.verify.html.weights import histograms, weights
from bertconv.verify.parity import Parity


def html_report(parity: Parity) -> str:
    """One self-contained page: no network, no fonts, light and dark, all of it readable without its small script."""
    title = f"{_words(parity)[0]}: {parity.a.given} \N{RIGHTWARDS ARROW} {parity.b.given}"
    return sheet(title, _state(parity), _verdict(parity), _sections(parity), _footer(parity))


def _state(parity: Parity) -> str:
    """Which mark: "part" where a part of the model was left out and the rest is the same."""
    return ("part" if parity.omitted else "good") if parity.ok else "bad"


def _words(parity: Parity) -> tuple[str, str]:
    """The verdict's first words, and why."""
    words, _, why = parity.verdict().partition(": ")
    return words, why


def _verdict(parity: Parity) -> Markup:
    said = verdict_box(_state(parity), *_words(parity))
    sides = tag("div", side_box("A", "original", parity.a), side_box("B", "compared with it", parity.b), class_="sides")
    return tag("header", said, _findings(parity), _tiles(parity), sides)


def _findings(parity: Parity) -> Markup | None:
    """Where it breaks first, likely causes, what was left out of the model, and notes."""
    parts = []
    if parity.divergence:
        where = (
            tag("b", "Breaks first at "),
            mono(parity.divergence.place),
            f", seen in the {parity.divergence.evidence}",
        )
        parts.append(tag("p", *where))
    for cause in parity.causes:
        places = join((mono(place) for place in cause.places), ", ")
        parts.append(
            tag("p", tag("b", f"Likely cause: {cause.name}."), " ", prose(cause.sentence), " ", tag("small", places))
        )
    if parity.omitted:
        names = join((mono(name) for name in parity.omitted), ", ")
        parts.append(tag("p", tag("b", "Left out, and a part of the model: "), names))
    parts += [tag("p", tag("b", "Note: "), prose(note)) for note in parity.notes]
    return tag("div", *parts, class_="findings") if parts else None


def _tiles(parity: Parity) -> Markup:
    """The result of each comparison at a glance."""
    equal, cast = sum(one.ok for one in parity.tensors), sum(one.state == "cast" for one in parity.tensors)
    said = "tensors with the same values" + (f", {cast} of them cast to another type" if cast else "")
    tiles = [tile("Weights", f"{equal}/{len(parity.tensors)}", said, ok=parity.weights_ok)]
    if parity.config:
        tiles.append(tile("Config", str(len(parity.config)), "keys differ", ok=False))
    for name, aspect in parity.aspects.items():
        if not aspect.ok:
            amount = sum(one.count for one in aspect.differences)
            tiles.append(tile(name.capitalize(), f"{amount:,}", "entries differ", ok=False))
    for dtype in parity.dtypes:
        if worst := parity.worst(dtype):
            own = "" if dtype == "float64" else f"A {plain(worst.a)}, "
            said = f"{own}limit {plain(worst.limit or 0)}, at {worst.place}"
            ok = all(one.ok for one in parity.measurements if one.dtype == dtype)
            tiles.append(tile(f"Error of B, {dtype}", plain(worst.b), said, ok=ok))
    if parity.gradients:
        error = max((one.error for one in parity.gradients), key=lambda one: math.inf if math.isnan(one) else one)
        ok = all(one.ok for one in parity.gradients)
        tiles.append(
            tile("Gradients", plain(error), f"largest error, {count(len(parity.gradients), 'variable')}", ok=ok)
        )
    return tag("ul", *tiles, class_="tiles")


def _sections(parity: Parity) -> Iterable[Section]:
    if not parity.measurements:
        yield "outputs", "Outputs", tag("p", _not_compared(parity))
    yield "errors", "Error per layer", error_plot(parity)
    yield "modules", "Error per module", heat_maps(parity)
    yield "outputs", "Outputs", outputs(parity)
    yield "weights", "Weights", weights(parity)
    yield "worst", "Worst tensors", histograms(parity)
    yield "config", "Config", config(parity.config)
    yield "beside", "Labels, tokenizer, modules", beside(parity.aspects)
    yield "gradients", "Gradients", gradients(parity)
    yield "inputs", "Inputs", cases(parity)
    yield "origin", "Reproduce", origin(parity)


def _not_compared(parity: Parity) -> str:
    if parity.level == "weights":
        return "Outputs were not compared: at level weights no model is run. Ask for --level outputs to run both."
    return "Outputs were not compared: the comparison ended before a model was run."


def _footer(parity: Parity) -> str:
    version = parity.versions.get("bertconv", "")
    return printable(
        f"bertconv {version}".rstrip() + f", level {parity.level}, as {parity.head}, {parity.seconds:.1f} s"
    )
