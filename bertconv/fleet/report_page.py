"""The report of a fleet as one page: it asks the network for nothing, and all that comes from elsewhere is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bertconv import __version__
from bertconv.fleet.chart import chart
from bertconv.fleet.outcome import DONE, FAILED, KEPT, QUARANTINED, WAITING
from bertconv.fleet.report import UNFINISHED, Failure, FleetReport, Group, Kind, Twins
from bertconv.text import human_bytes
from bertconv.verify.html.markup import Markup, badge, column, count, join, mono, prose, table, tag
from bertconv.verify.html.sheet import tile, verdict_box
from bertconv.verify.html.shell import asset, head

MOST_ROWS = 200
"""Failures of one kind, groups of duplicates, and rows of a table that are shown; the JSON has all of them."""
MOST_SOURCES = 12
"""Names of duplicates of one model that are shown."""
MOST_TRACE = 20_000
"""Characters of a traceback, whose end says most."""
_BADGES = {DONE: "good", KEPT: "plain", FAILED: "bad", QUARANTINED: "bad", WAITING: "plain", UNFINISHED: "plain"}
_MEANING = {
    DONE: "done now", KEPT: "nothing to do", FAILED: "cannot be done", QUARANTINED: "a bug, or lethal to its worker",
    WAITING: "to be tried again", UNFINISHED: "not ended yet",
}  # fmt: skip


def fleet_page(report: FleetReport) -> str:
    """One self-contained page: no network, no fonts, no script, light and dark."""
    style = Markup(asset("report.css") + asset("fleet.css", "bertconv.fleet"))
    shown = [section for section in _sections(report) if section[2]]
    body = tag(
        "body",
        _header(report),
        tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in shown), aria_label="Sections"),
        tag("main", *(tag("section", tag("h2", title), content, id=name, aria_label=title)
                      for name, title, content in shown)),
        tag("footer", f"bertconv {__version__}"),
    )  # fmt: skip
    page = tag("html", head(f"Fleet {report.name}", style, "", _state(report)), body, lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _state(report: FleetReport) -> str:
    if report.failed:
        return "bad"
    return "part" if report.unfinished or not report.items else "good"


def _header(report: FleetReport) -> Markup:
    words = {"good": "All done", "part": "Unfinished", "bad": f"{report.failed:,} failed"}[_state(report)]
    verbs = join((tag("b", f"{number:,} {verb}") for verb, number in report.verbs.items()), ", ")
    said = tag("p", verbs, " in ", tag("code", report.name)) if report.verbs else None
    tiles = tag("ul", *_tiles(report), class_="tiles")
    return tag("header", verdict_box(_state(report), words, report.summary()), said, tiles)


def _tiles(report: FleetReport) -> Iterator[Markup]:
    well = report.states.get(DONE, 0) + report.states.get(KEPT, 0)
    said = ", ".join(f"{report.states[state]:,} {_MEANING[state]}" for state in (DONE, KEPT) if state in report.states)
    yield tile("Ended well", f"{well:,} of {report.items:,}", said or "none yet", ok=well == report.items)
    said = ", ".join(f"{report.states[one]:,} {_MEANING[one]}" for one in (FAILED, QUARANTINED) if one in report.states)
    yield tile("Failed", f"{report.failed:,}", said or "none", ok=not report.failed)
    yield tile("Weights", human_bytes(report.size), f"{human_bytes(report.done_size)} of them worked on", ok=True)
    if report.elapsed:
        done = report.states.get(DONE, 0)
        rate = f"{human_bytes(report.done_size / report.elapsed)}/s"
        said = f"{done:,} done in {duration(report.elapsed)}, workers busy {duration(report.work)}"
        yield tile("Throughput", rate, said, ok=True)
    if report.twins:
        said = f"{count(len(report.twins), 'model')} under several names"
        yield tile("Duplicates", human_bytes(report.twice), said, ok=True)


def _sections(report: FleetReport) -> Iterator[tuple[str, str, Markup | None]]:
    yield "time", "Over time", chart(report.bars)
    yield "failures", "Failures", _failures(report.kinds)
    yield "families", "Families", _groups("Family", report.families, report.states)
    yield "formats", "Formats", _groups("Format of the source", report.formats, report.states)
    yield "duplicates", "Duplicates", _duplicates(report.twins)


def _groups(what: str, groups: Sequence[Group], states: Mapping[str, int]) -> Markup | None:
    if not groups:
        return None
    heads = (what, column("Items"), *(column(state) for state in states), column("Weights"))
    rows = [
        tag(
            "tr",
            tag("th", mono(one.name) if one.name else tag("em", "not known"), scope="row"),
            _number(one.items),
            *(_number(one.states.get(state, 0), bad=state in (FAILED, QUARANTINED)) for state in states),
            tag("td", human_bytes(one.size), class_="n"),
        )
        for one in groups[:MOST_ROWS]
    ]
    return join([table(what, heads, rows, quiet=True), _rest(len(groups))])


def _number(amount: int, *, bad: bool = False) -> Markup:
    return tag("td", badge(f"{amount:,}", "bad") if bad and amount else f"{amount:,}" if amount else "", class_="n")


def _failures(kinds: Sequence[Kind]) -> Markup | None:
    """A fold for each kind of error, open where there are few of it."""
    return tag("div", *map(_kind, kinds), class_="folds") if kinds else None


def _kind(kind: Kind) -> Markup:
    number = len(kind.failures)
    title = tag(
        "summary",
        tag("b", kind.name or "failed"),
        badge(f"exit code {kind.code}", "plain"),
        badge(f"{number:,}", "bad"),
    )
    rows = [tag("li", *_failure(one)) for one in kind.failures[:MOST_ROWS]]
    return tag("details", title, tag("ul", *rows, class_="failures"), _rest(number), open=number <= 20)


def _failure(one: Failure) -> Iterator[Markup]:
    tried = badge(f"tried {one.attempts} times", "plain") if one.attempts > 1 else None
    yield tag("p", mono(one.src), badge(one.state, _BADGES.get(one.state, "plain")), tried)
    yield tag("p", prose(one.message), class_="message")
    if one.hint:
        yield tag("p", tag("small", prose(one.hint)))
    yield tag("div", tag("pre", tag("code", one.command)), class_="command")
    if one.trace:
        # Line by line, since what is escaped becomes one line.
        lines = one.trace[-MOST_TRACE:].split("\n")
        yield tag("details", tag("summary", "Traceback"), tag("pre", join(lines, "\n"), class_="trace"))


def _duplicates(twins: Sequence[Twins]) -> Markup | None:
    if not twins:
        return None
    rows = [
        tag(
            "tr",
            tag("th", mono(one.digest.rpartition(":")[2][:16], title=one.digest), scope="row"),
            tag("td", human_bytes(one.size), class_="n"),
            _number(len(one.sources)),
            tag("td", *(tag("div", mono(source)) for source in one.sources[:MOST_SOURCES]), _more(one), class_="names"),
        )
        for one in twins[:MOST_ROWS]
    ]
    heads = ("Digest of the model", column("Weights"), column("Times"), "Sources")
    return join([table("Models under several names", heads, rows, quiet=True), _rest(len(twins))])


def _more(one: Twins) -> Markup | None:
    left = len(one.sources) - MOST_SOURCES
    return tag("small", f"and {left:,} more") if left > 0 else None


def _rest(number: int) -> Markup:
    left = number - MOST_ROWS
    return tag("p", tag("small", f"and {left:,} more, which the JSON has")) if left > 0 else Markup()


def duration(seconds: float) -> str:
    """`0.4 s`, `35 s`, `12 min`, `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"
