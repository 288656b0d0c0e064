"""The diff as a page to look at: how much every layer changed, which modules, which rows of which tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bertconv import __version__
from bertconv.manage.difference.layers import together
from bertconv.manage.difference.plot import Bars, change_plot
from bertconv.manage.difference.records import CHANGED, EQUAL, Change, Diff, LayerDiff, Rows, TensorDiff
from bertconv.mapping.indices import TensorId
from bertconv.text import printable
from bertconv.verify.html.heat import heat_table, ramp, shade, short
from bertconv.verify.html.markup import (
    Markup,
    badge,
    column,
    count,
    join,
    mono,
    number,
    plain,
    prose,
    shape_text,
    table,
    tag,
)
from bertconv.verify.html.sheet import Section, sheet, side_box, verdict_box
from bertconv.verify.html.tables import beside, command_line, config

_LOWEST = -4
"""The power of ten at which the colours of modules begin; they end at 1."""

_BADGES = {EQUAL: "good", CHANGED: "plain"}


def diff_page(diff: Diff) -> str:
    """One self-contained page: no network, no fonts, light and dark, all of it readable without its small script."""
    title = f"{_words(diff)}: {diff.a.given} \N{RIGHTWARDS ARROW} {diff.b.given}"
    return sheet(title, _state(diff), _header(diff), _sections(diff), _footer(diff))


def _words(diff: Diff) -> str:
    return "Equal" if diff.equal else "Different"


def _state(diff: Diff) -> str:
    return "good" if diff.equal else "part"


def _header(diff: Diff) -> Markup:
    sides = [side_box("A", "", diff.a), side_box("B", "", diff.b)]
    if diff.against:
        sides.append(side_box("C", "base of both", diff.against.base))
    said = verdict_box(_state(diff), _words(diff), diff.verdict().removeprefix("Equal: "))
    notes = [tag("p", tag("b", "Note: "), prose(note)) for note in diff.notes]
    found = tag("div", *notes, class_="findings") if notes else None
    return tag("header", said, found, tag("ul", *_tiles(diff), class_="tiles"), tag("div", *sides, class_="sides"))


def _tiles(diff: Diff) -> Iterator[Markup]:
    both = [one for one in diff.tensors if one.a and one.b]
    changed = sum(one.state == CHANGED for one in both)
    yield _tile("Tensors changed", f"{changed:,} of {len(both):,}", f"in {_layers_changed(diff)}" if changed else "")
    if alone := len(diff.tensors) - len(both):
        yield _tile("On one side only", f"{alone:,}", "tensors")
    if found := [one for one in diff.layers if one.change]:
        most = max(found, key=_relative)
        yield _tile("Largest change", plain(_relative(most)), f"of its size, in {most.layer}")
    for one in diff.tensors:
        if one.rows is not None and len(one.shape_b or ()) > 1:
            moved = one.rows.moved + one.rows.new + one.rows.dropped
            said = f"{one.rows.changed:,} of {count(one.rows.kept + one.rows.moved, 'row')} changed"
            yield _tile(
                "Rows of tokens", f"{one.rows.changed + moved:,}", said + (f", {moved:,} other" if moved else "")
            )
    if diff.config:
        yield _tile("Config", f"{len(diff.config)}", "keys differ")
    for name, aspect in diff.aspects.items():
        if aspect.differences:
            amount = sum(one.count for one in aspect.differences)
            yield _tile(name.capitalize(), f"{amount:,}", "entries differ" + (", ignored" if aspect.ignored else ""))


def _tile(name: str, value: str, said: str) -> Markup:
    return tag("li", tag("span", name), tag("strong", value), tag("small", prose(said)))


def _layers_changed(diff: Diff) -> str:
    amount = sum(bool(one.changed) for one in diff.layers)
    return f"{amount} of {count(len(diff.layers), 'part')} of the model"


def _relative(layer: LayerDiff) -> float:
    return layer.change.relative if layer.change else 0.0


def _sections(diff: Diff) -> Iterator[Section]:
    changed = any(one.change for one in diff.layers)
    yield "change", "Change per layer", _plot(diff) if changed else None
    yield "modules", "Change per module", _heat(diff) if changed else None
    yield "base", "From the base", _against(diff)
    yield "layers", "Layers", _layers(diff.layers)
    yield "tokens", "Rows of tokens", _rows(diff)
    yield "weights", "Tensors", _weights(diff)
    yield "config", "Config", config(diff.config)
    yield "beside", "Labels, tokenizer, modules", beside(diff.aspects)
    yield "origin", "Reproduce", command_line(diff.command)


def _plot(diff: Diff) -> Markup:
    heights = {one.layer: _relative(one) for one in diff.layers if one.change or one.equal}
    about = tag("p", "Root of the sum of squares of B minus A, in units of that of A; equal layers are dots at 0.")
    bars = Bars("B minus A", "b", heights)
    return join((about, change_plot([one.layer for one in diff.layers], [bars], "relative change")))


def _heat(diff: Diff) -> Markup | None:
    """A map for the groups that repeat, layer by layer, and one for what stands outside of them."""
    modules: dict[str, list[TensorDiff]] = {}
    for one in diff.tensors:
        if "/" not in one.id:
            modules.setdefault(one.id.rpartition(".")[0], []).append(one)
    inside: dict[str, dict[str, Markup]] = {}
    outside: dict[str, Markup] = {}
    for name, tensors in modules.items():
        place, cell = TensorId.parse(name), _cell(name, tensors)
        if cell is not None and place.indices:
            inside.setdefault(tensors[0].layer.partition(".")[2], {})[place.module] = cell
        elif cell is not None:
            outside[name] = cell
    maps = []
    if inside:
        columns = list(dict.fromkeys(name for cells in inside.values() for name in cells))
        maps.append(heat_table("Relative change, layer by layer", "layer", columns, inside.items()))
    if outside:
        maps.append(heat_table("Relative change outside the layers", "", list(outside), [("model", outside)]))
    return tag("div", *maps, ramp(_LOWEST), class_="heat") if maps else None


def _cell(name: str, tensors: Sequence[TensorDiff]) -> Markup | None:
    """A module, by its tensors that changed; None where they cannot be compared."""
    if all(one.state == EQUAL for one in tensors):
        return tag("td", "0", class_="zero", title=f"{name}: equal")
    changes = [one.change for one in tensors if one.change is not None]
    if not changes:
        return None
    change = together(changes)
    title = f"{name}: {number(change.relative)} of its size, by {number(change.max_difference)} at most"
    return tag("td", short(change.relative), class_=shade(change.relative, _LOWEST), title=title)


def _against(diff: Diff) -> Markup | None:
    found = diff.against
    if found is None:
        return None
    series = [
        Bars("A minus C", "a", {one.layer: one.relative_a for one in found.layers}),
        Bars("B minus C", "b", {one.layer: one.relative_b for one in found.layers}),
    ]
    rows = [
        tag("tr", tag("th", mono(one.layer), scope="row"), _number(one.relative_a), _number(one.relative_b),
            tag("td", "" if one.cosine is None else f"{one.cosine:.3f}", class_="n"))
        for one in (*found.layers, found.whole)
    ]  # fmt: skip
    heads = ("Layer", column("A's change"), column("B's change"), column("Cosine between them"))
    text = f"{found.verdict[:1].upper()}{found.verdict[1:]}."
    left_out = f" Not held to C: {count(len(found.left_out), 'tensor')}." if found.left_out else ""
    return join((
        tag("p", prose(text + left_out)),
        change_plot([one.layer for one in found.layers], series, "change from C"),
        table("A and B as changes of C, in units of C", heads, rows, quiet=True),
    ))  # fmt: skip


_NUMBERS = ("Differing", "Max abs", "Relative L2", "Cosine")


def _cells(change: Change | None) -> tuple[Markup, ...]:
    if change is None:
        return tuple(tag("td") for _ in _NUMBERS)
    angle = tag("td", "" if change.cosine is None else f"{change.cosine:.6f}", class_="n")
    return (
        tag("td", f"{change.differing:,}", class_="n"),
        _number(change.max_difference),
        _number(change.relative),
        angle,
    )


def _number(value: float) -> Markup:
    return tag("td", plain(value) if value else "0", class_="n")


def _layers(layers: Sequence[LayerDiff]) -> Markup:
    rows = [
        tag("tr", tag("th", mono(one.layer), scope="row"), tag("td", one.tensors, class_="n"),
            tag("td", *_badges(one)), *_cells(one.change))
        for one in layers
    ]  # fmt: skip
    heads = ("Layer", column("Tensors"), "State", *map(column, _NUMBERS))
    return table("Every layer", heads, rows, quiet=True)


def _badges(one: LayerDiff) -> Iterator[Markup]:
    if one.equal == one.tensors:
        yield badge("equal", "good")
    for amount, state, kind in ((one.changed, "changed", "plain"), (one.only_a, "only in A", "bad"),
                                (one.only_b, "only in B", "bad")):  # fmt: skip
        if amount:
            yield badge(f"{amount} {state}", kind)


def _rows(diff: Diff) -> Markup | None:
    found = [(one, one.rows) for one in diff.tensors if one.rows is not None]
    if not found:
        return None
    heads = ("Tensor", "Aligned by", *map(column, ("Kept", "Moved", "New", "Dropped", "Changed")), "Some of them")
    rows = [
        tag("tr", tag("th", mono(one.id), scope="row"), tag("td", rows.by),
            *(tag("td", f"{amount:,}", class_="n")
              for amount in (rows.kept, rows.moved, rows.new, rows.dropped, rows.changed)),
            tag("td", *_names(rows)))
        for one, rows in found
    ]  # fmt: skip
    return table("Rows of tables with one for each token", heads, rows, quiet=True)


def _names(rows: Rows) -> Iterator[Markup]:
    for kind, names in rows.names.items():
        if names:
            yield tag("p", tag("small", f"{kind}: "), join((mono(name) for name in names), ", "))


def _weights(diff: Diff) -> Markup:
    """Every tensor, searchable; layers with a difference stand first, and the first of them is open."""
    groups: dict[str, list[TensorDiff]] = {}
    for one in diff.tensors:
        groups.setdefault(one.layer, []).append(one)
    ordered = sorted(groups.items(), key=lambda item: all(one.state == EQUAL for one in item[1]))
    field = tag("input", type="search", id="search", placeholder="name, shape, type or state", autocomplete="off",
                spellcheck="false")  # fmt: skip
    shown = tag("output", id="found", for_="search")
    search = tag("p", tag("label", "Search ", field), shown, class_="search", hidden=True)
    folds = [_folded(name, found, opened=not place and any(one.state != EQUAL for one in found))
             for place, (name, found) in enumerate(ordered)]  # fmt: skip
    return join((search, tag("div", *folds, _left_out(diff), class_="folds")))


def _folded(name: str, tensors: Sequence[TensorDiff], *, opened: bool) -> Markup:
    different = sum(one.state != EQUAL for one in tensors)
    said = badge(f"{different} differ{'s' if different == 1 else ''}", "plain") if different else badge("equal", "good")
    title = tag("summary", tag("b", name), tag("small", count(len(tensors), "tensor")), said)
    heads = [tag("th", head, scope="col") for head in ("Tensor, in A and in B", "Shape", "Type", "State")]
    heads += [column(name) for name in _NUMBERS]
    caption = tag("caption", f"Tensors of {name}", class_="quiet")
    body = tag("tbody", *map(_row, tensors))
    found = tag("table", caption, tag("thead", tag("tr", *heads)), body, class_="tensors")
    return tag("details", title, tag("div", found, class_="scroll"), class_="group", open=opened)


def _row(one: TensorDiff) -> Markup:
    names = [tag("span", tag("b", side), " ", name) for side, name in (("A", one.a), ("B", one.b)) if name]
    shapes = dict.fromkeys(shape_text(shape) for shape in (one.shape_a, one.shape_b) if shape is not None)
    types = dict.fromkeys(kind for kind in (one.dtype_a, one.dtype_b) if kind)
    arrow = " \N{RIGHTWARDS ARROW} "
    return tag(
        "tr",
        tag("th", mono(one.id), *names, *(tag("em", prose(remark)) for remark in one.remarks()), scope="row"),
        tag("td", arrow.join(shapes)),
        tag("td", arrow.join(types)),
        tag("td", badge(one.state, _BADGES.get(one.state, "bad"))),
        *_cells(one.change),
    )


def _left_out(diff: Diff) -> Markup | None:
    if not diff.left_out:
        return None
    names = (tag("li", mono(name)) for name in diff.left_out)
    title = tag("summary", tag("b", "No part of either class"), tag("small", count(len(diff.left_out), "tensor")))
    return tag("details", title, tag("ul", *names, class_="names"))


def _footer(diff: Diff) -> str:
    return printable(f"bertconv {__version__}, diff of {diff.a.head} and {diff.b.head}, {diff.seconds:.1f} s")
