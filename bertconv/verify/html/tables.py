"""The plain tables of the report: outputs, config, gradients, inputs, and where everything came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

from bertconv.text import human_bytes
from bertconv.verify.agreement import Agreement
from bertconv.verify.html.markup import (
    Markup,
    badge,
    cell,
    column,
    count,
    facts,
    join,
    mono,
    passed,
    plain,
    prose,
    shape_text,
    table,
    tag,
)
from bertconv.verify.parity import ConfigDifference, Measurement, Parity, SideFacts

_KINDS = (("output", "Outputs"), ("hidden state", "Hidden states"), ("attentions", "Attentions"))
_LIMITS = {
    "float64": "{} in float64",
    "factor": "{} times A's own error in shorter types",
    "floor float32": "at least {} in float32",
    "floor bfloat16": "at least {} in bfloat16",
    "floor float16": "at least {} in float16",
    "max_error": "forced to {} for outputs, absolute",
    "max_hidden_error": "forced to {} for hidden states and attentions, absolute",
}
"""What the keys of `Parity.limits` mean."""


def outputs(parity: Parity) -> Markup | None:
    """Everything that has a limit: outputs, and folded the hidden states and attentions. None without any."""
    found = {kind: [one for one in parity.measurements if one.kind == kind] for kind, _ in _KINDS}
    if not any(found.values()):
        return None
    folds = [_folded(title, found[kind]) for kind, title in _KINDS[1:] if found[kind]]
    shown = _measurements(found["output"]) if found["output"] else ""
    return join((_limits(parity), shown, tag("div", *folds, class_="folds") if folds else ""))


def _limits(parity: Parity) -> Markup:
    forced = any(key.startswith("max_") for key in parity.limits)
    said = [_LIMITS[key].format(plain(value)) for key, value in parity.limits.items() if key in _LIMITS]
    about = "The truth is A in float64. Errors are relative to its size" + (
        ", absolute where forced." if forced else "."
    )
    return tag("p", about, prose(f" B may be off by {'; '.join(said)}.") if said else "")


def _folded(title: str, found: Sequence[Measurement]) -> Markup:
    wrong = sum(not one.ok for one in found)
    return _fold(title, len(found), wrong, _measurements(found))


def _fold(title: str, amount: int, wrong: int, body: Markup) -> Markup:
    verdict = badge(f"{wrong:,} too large", "bad") if wrong else badge("all within their limits", "good")
    return tag("details", tag("summary", tag("b", title), tag("small", count(amount, "comparison")), verdict), body)


def _measurements(found: Iterable[Measurement]) -> Markup:
    names = ("Error of A", "Error of B", "Limit for B", "Largest difference")
    heads = ["Place", "Computed in", *map(column, names), "Verdict", "Worst case"]
    rows = (
        tag(
            "tr",
            tag("th", mono(one.place), scope="row"),
            tag("td", one.dtype),
            tag("td", "truth", class_="n") if one.dtype == "float64" else cell(one.a),
            cell(one.b),
            cell(one.limit),
            cell(one.max_difference),
            passed(ok=one.ok),
            tag("td", one.case),
        )
        for one in found
    )
    return table("Error against float64 and limit at every place", heads, rows, quiet=True)


def config(differences: Iterable[ConfigDifference]) -> Markup | None:
    """Keys of the config that differ; None where none does."""
    rows = [
        tag("tr", tag("th", mono(one.key), scope="row"), *(tag("td", mono(_value(value))) for value in (one.a, one.b)))
        for one in differences
    ]
    return table("Keys that decide what the model computes", ("Key", "A", "B"), rows) if rows else None


def beside(aspects: Mapping[str, Agreement]) -> Markup:
    """Labels, tokenizer and modules: compared or not, and every difference."""
    rows = [
        tag(
            "tr",
            tag("th", name.capitalize(), scope="row"),
            tag("td", _agreed(one)),
            tag("td", *(tag("p", f"{line}.") for line in one.lines()), None if one.differences else one.about),
        )
        for name, one in aspects.items()
    ]
    return table("What stands beside the weights", ("Of A and B", "", "What"), rows, quiet=True)


def _agreed(one: Agreement) -> Markup:
    if one.ignored and one.differences:
        return badge("different, ignored", "plain")
    return badge(one.state, {"same": "good", "different": "bad"}.get(one.state, "plain"))


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def gradients(parity: Parity) -> Markup | None:
    """Every variable's gradient, the worst first; None where none was computed."""
    if not parity.gradients:
        return None
    ordered = sorted(parity.gradients, key=lambda one: math.inf if math.isnan(one.error) else one.error, reverse=True)
    wrong = sum(not one.ok for one in ordered)
    rows = (
        tag("tr", tag("th", mono(one.id), scope="row"), cell(one.error), cell(one.limit), passed(ok=one.ok))
        for one in ordered
    )
    heads = ("Variable", column("Error of B"), column("Limit"), "Verdict")
    body = table("Gradient of the loss in every variable, the worst first", heads, rows, quiet=True)
    return _fold("Gradients in float64", len(ordered), wrong, body)


def cases(parity: Parity) -> Markup | None:
    """The inputs, with what is needed to draw them again; None where nothing was run."""
    rows = [
        tag(
            "tr",
            tag("th", one.name, scope="row"),
            tag("td", one.about),
            tag("td", shape_text(one.shape)),
            tag("td", "none" if one.seed is None else one.seed, class_="n"),
        )
        for one in parity.cases
    ]
    if not rows:
        return None
    return table(
        "The batches that both sides were run on", ("Case", "Content", "Shape", column("Seed")), rows, quiet=True
    )


def origin(parity: Parity) -> Markup:
    """Command, digests, files and versions."""
    command = command_line(parity.command)
    digests = facts((f"Digest of {name}", _digest(side)) for name, side in (("A", parity.a), ("B", parity.b)))
    tables = [_files("A", parity.a), _files("B", parity.b), _versions(parity)]
    return join((command or "", digests, tag("div", *tables, class_="beside")))


def command_line(command: str) -> Markup | None:
    """A command, with a button that copies it; None without one."""
    if not command:
        return None
    copy = tag("button", "Copy", type="button", id="copy", hidden=True)
    return tag("div", tag("pre", tag("code", command, id="command")), copy, class_="command")


def _digest(side: SideFacts) -> Markup | None:
    return mono(side.digest) if side.digest else None


def _files(name: str, side: SideFacts) -> Markup | None:
    rows = [
        tag("tr", tag("th", mono(file), scope="row"), tag("td", human_bytes(size), class_="n", title=f"{size:,} bytes"))
        for file, size in side.files.items()
    ]
    return table(f"Files of {name}", ("File", column("Size")), rows) if rows else None


def _versions(parity: Parity) -> Markup | None:
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", mono(said))) for name, said in parity.versions.items()]
    return table("Versions", ("Program", "Version"), rows) if rows else None
