"""What became of a fleet, in facts: totals, families, formats, failures by kind, duplicates, and work over time."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from bertconv.fleet.outcome import DONE, FAILED, KEPT, QUARANTINED, WAITING
from bertconv.fleet.timeline import Bar, timeline
from bertconv.records import dataclass

ENDED_WELL = (DONE, KEPT)
ENDED_BADLY = (FAILED, QUARANTINED)
UNFINISHED = "unfinished"
"""What stands for every other state."""
STATES = (DONE, KEPT, FAILED, QUARANTINED, WAITING, UNFINISHED)
_WITH_OUTPUT = ("convert", "verify")
"""Verbs whose command has a second place."""


@dataclass(frozen=True)
class Row:
    """One item of a fleet and what became of it.

    Attributes:
        src: its source.
        dst: where its output goes; of a verification the other side.
        verb: what was done.
        options: with which options, by the names of the verb's Python function.
        state: one of `outcome`'s, or any other for an item that has not ended.
        code: exit code that the command would have.
        kind: class of the error.
        message: what is wrong; `hint` what can be done; `trace` of a bug.
        digest: of the model.
        size: bytes of its weights.
        family: its model type.
        head: its class.
        format: what the source is.
        attempts: how often it was tried.
        seconds: that the last try took.
        finished: when that ended, in seconds since 1970; None where nothing ended yet.
    """

    src: str
    dst: str = ""
    verb: str = "convert"
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = UNFINISHED
    code: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    trace: str = ""
    digest: str = ""
    size: int = 0
    family: str = ""
    head: str = ""
    format: str = ""
    attempts: int = 0
    seconds: float = 0.0
    finished: float | None = None


@dataclass(frozen=True)
class Group:
    """Items that have something in common: its name, state -> how many, bytes of weights of those that ended well."""

    name: str
    states: Mapping[str, int]
    size: int

    @property
    def items(self) -> int:
        """How many they are."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Failure:
    """An item that failed, with the command that fails again."""

    src: str
    message: str
    hint: str
    command: str
    state: str
    attempts: int
    trace: str


@dataclass(frozen=True)
class Kind:
    """Failures of one kind: the class of their error, its exit code, and the items."""

    name: str
    code: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Twins:
    """Sources that hold one model: its digest, its size, and what they are called."""

    digest: str
    size: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class FleetReport:
    """What became of a fleet.

    Attributes:
        name: of its folder.
        verbs: verb -> how many items.
        states: state -> how many items, the states in their usual order.
        size: bytes of weights of the items that ended well; `done_size` of those that this took work.
        work: seconds that workers were busy with the last try of each item.
        elapsed: seconds in which anything ran.
        families: by model type, `formats` by what the sources are; those with most items first.
        kinds: failures, the most frequent kind first.
        twins: models that several sources hold, the largest first.
        bars: how much ended when.
    """

    name: str
    verbs: Mapping[str, int]
    states: Mapping[str, int]
    size: int
    done_size: int
    work: float
    elapsed: float
    families: tuple[Group, ...]
    formats: tuple[Group, ...]
    kinds: tuple[Kind, ...]
    twins: tuple[Twins, ...]
    bars: tuple[Bar, ...]

    @property
    def items(self) -> int:
        """How many there are."""
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        """How many ended badly."""
        return sum(self.states.get(state, 0) for state in ENDED_BADLY)

    @property
    def unfinished(self) -> int:
        """How many have not ended."""
        return self.items - self.failed - sum(self.states.get(state, 0) for state in ENDED_WELL)

    @property
    def twice(self) -> int:
        """Bytes of weights that are there more than once."""
        return sum(one.size * (len(one.sources) - 1) for one in self.twins)

    def summary(self) -> str:
        """The totals in a sentence."""
        said = ", ".join(f"{count:,} {state}" for state, count in self.states.items())
        return f"{self.items:,} items: {said}." if self.items else "No items."

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        totals = {"items": self.items, "failed": self.failed, "unfinished": self.unfinished, "twice": self.twice}
        return {"ok": not self.failed and not self.unfinished, **totals, **asdict(self), "summary": self.summary()}


def fleet_report(name: str, rows: Iterable[Row]) -> FleetReport:
    """The facts of a fleet.

    Args:
        name: of its folder.
        rows: its items, in any order.
    """
    found = sorted(rows, key=lambda row: (row.src, row.dst, row.verb))
    good = [row for row in found if row.state in ENDED_WELL]
    ended = [row for row in found if row.finished is not None and row.state in {DONE, *ENDED_BADLY}]
    bars = timeline((row.finished or 0.0, row.seconds, row.state == DONE, row.size) for row in ended)
    counts = Counter(map(_state, found))
    return FleetReport(
        name=name, verbs=dict(Counter(row.verb for row in found).most_common()),
        states={state: counts[state] for state in STATES if counts[state]},
        size=sum(row.size for row in good), done_size=sum(row.size for row in good if row.state == DONE),
        work=sum(row.seconds for row in ended), elapsed=sum(bar.seconds for bar in bars),
        families=_groups(found, lambda row: row.family), formats=_groups(found, lambda row: row.format),
        kinds=_kinds(found), twins=_twins(good), bars=bars,
    )  # fmt: skip


def command_of(row: Row) -> str:
    """The command line that does to an item what the fleet did, quoted for a shell."""
    words = ["bertconv", row.verb, row.src]
    words += [row.dst] if row.verb in _WITH_OUTPUT and row.dst else []
    for name, value in row.options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list | tuple):
            words += [word for one in value for word in (option, str(one))]
        elif value not in (None, False):
            words += [option, str(value)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word for a shell; one with characters that cannot be shown, as bash writes them."""
    if word.isprintable():
        return shlex.quote(word)
    plain = "".join(
        one if one.isprintable() and one not in "\\'" else "".join(f"\\x{byte:02x}" for byte in _bytes(one))
        for one in word
    )
    return f"$'{plain}'"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _state(row: Row) -> str:
    return row.state if row.state in STATES else UNFINISHED


def _groups(rows: Sequence[Row], name: Any) -> tuple[Group, ...]:
    counts: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    for row in rows:
        counts.setdefault(name(row), Counter())[_state(row)] += 1
        sizes[name(row)] += row.size if row.state in ENDED_WELL else 0
    found = [
        Group(one, {state: states[state] for state in STATES if states[state]}, sizes[one])
        for one, states in counts.items()
    ]
    return tuple(sorted(found, key=lambda group: (not group.name, -group.items, group.name)))


def _kinds(rows: Sequence[Row]) -> tuple[Kind, ...]:
    kinds: dict[tuple[str, int], list[Failure]] = {}
    for row in rows:
        if row.state in ENDED_BADLY:
            one = Failure(row.src, row.message, row.hint, command_of(row), row.state, row.attempts, row.trace)
            kinds.setdefault((row.kind, row.code), []).append(one)
    found = [Kind(name, code, tuple(failures)) for (name, code), failures in kinds.items()]
    return tuple(sorted(found, key=lambda kind: (-len(kind.failures), kind.code, kind.name)))


def _twins(rows: Sequence[Row]) -> tuple[Twins, ...]:
    holders: dict[str, list[Row]] = {}
    for row in rows:
        if row.digest:
            holders.setdefault(row.digest, []).append(row)
    return tuple(sorted(_of_several(holders), key=lambda one: (-one.size * (len(one.sources) - 1), one.digest)))


def _of_several(holders: Mapping[str, Sequence[Row]]) -> Iterator[Twins]:
    for digest, rows in holders.items():
        sources = tuple(dict.fromkeys(row.src for row in rows))
        if len(sources) > 1:
            yield Twins(digest, max(row.size for row in rows), sources)
