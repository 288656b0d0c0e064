"""The history of a model as data: models are their digests, so that a folder may be moved, renamed or copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from functools import cached_property
from typing import Any

from bertconv.records import dataclass
from bertconv.report import Operation
from bertconv.text import printable

CLAIMED, RECORDED, PROVEN = "claimed", "recorded", "proven"
STATES = (PROVEN, RECORDED, CLAIMED)
"""What is known of a model, the best first: its weights are here, its record is here, others name it."""

CHANGED = "changed"
"""A place whose weights are not those that its manifest is about."""

SHORT = 12
"""Digits of a digest or a commit that people read."""


@dataclass(frozen=True)
class Place:
    """A folder that holds a model, or whose manifest says so.

    Attributes:
        folder: where it is.
        state: "recorded" (its manifest is intact and names the digest), "proven" (its weights were hashed just now and
            have it), or "changed" (they have another).
        operation: what made it, as its manifest says.
        written_by: version of bertconv; empty where it has no manifest.
    """

    folder: str
    state: str
    operation: Operation
    written_by: str = ""


@dataclass(frozen=True)
class Model:
    """One node of the graph: all that is called by one digest.

    Attributes:
        id: its digest; where nothing says that, something that no other model has.
        digest: of its weights; empty where nobody made one.
        backbone_digest: of its backbone, likewise.
        head: model class; empty where only others name it.
        verified: the level that a manifest of it has: "none", "weights", "outputs" or "gradients".
        state: "proven", "recorded" or "claimed".
        places: folders with it.
        names: what manifests call it, or a copy of it with the same weights: a Hub id with its commit, or the last part
            of a path.
    """

    id: str
    digest: str = ""
    backbone_digest: str = ""
    head: str = ""
    verified: str = ""
    state: str = CLAIMED
    places: tuple[Place, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """The last parts of its places, safe to print, each once."""
        names = (printable(place.folder.rstrip("/").rpartition("/")[2]) for place in self.places)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def name(self) -> str:
        """What to call it: a folder's last part, else what others call it; safe to print."""
        return next(iter((*self.folders, *map(printable, self.names))), "") or self.short or "unnamed"

    @property
    def aliases(self) -> tuple[str, ...]:
        """What else others call it, its folders aside; each was the same weights; safe to print."""
        others = dict.fromkeys(map(printable, self.names))
        return tuple(name for name in others if name not in {self.name, *self.folders})

    @property
    def short(self) -> str:
        """The first digits of its digest."""
        return printable(self.digest.rpartition(":")[2][:SHORT])

    @property
    def verbs(self) -> tuple[str, ...]:
        """The operations that made it, safe to print."""
        return tuple(dict.fromkeys(printable(one.operation.verb) for one in self.places if one.operation.verb))


@dataclass(frozen=True)
class Edge:
    """A parent and what became of it.

    Attributes:
        parent: id of the parent.
        child: id of what was made.
        role: what the parent was for.
        verb: the operation; empty where the manifest does not say it.
        state: of the parent: "proven", "recorded" or "claimed".
    """

    parent: str
    child: str
    role: str
    verb: str
    state: str


@dataclass(frozen=True)
class Graph:
    """The history of a model.

    Attributes:
        root: id of the model that was asked about.
        models: id -> model, the root first.
        edges: every parent of every model, as manifests name them.
        notes: what is unusual, one sentence each.
    """

    root: str
    models: Mapping[str, Model]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """No folder was found whose weights are not those of its manifest."""
        return not any(place.state == CHANGED for model in self.models.values() for place in model.places)

    @cached_property
    def parents(self) -> dict[str, tuple[Edge, ...]]:
        """Id -> the edges to its parents."""
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.child, []).append(edge)
        return {child: tuple(edges) for child, edges in found.items()}

    @cached_property
    def in_cycles(self) -> frozenset[str]:
        """Ids of models that are among their own ancestors."""
        return frozenset(_in_cycles(self.models, [(edge.child, edge.parent) for edge in self.edges]))

    def summary(self) -> str:
        """One line: how many models, and what is known of them."""
        counts = Counter(model.state for model in self.models.values())
        known = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        return f"{len(self.models)} model{'' if len(self.models) == 1 else 's'}: {known}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        models = [asdict(model) | {"name": model.name} for model in self.models.values()]
        for place in (place for model in models for place in model["places"]):
            place["folder"] = printable(place["folder"])  # a path need not be text
        edges = [asdict(edge) for edge in self.edges]
        return {"ok": self.ok, "root": self.root, "summary": self.summary(), "models": models, "edges": edges,
                "notes": self.notes}  # fmt: skip


def _in_cycles(nodes: Iterable[str], arcs: Iterable[tuple[str, str]]) -> set[str]:
    """Nodes that can be reached from themselves: those of strongly connected parts of several nodes (Kosaraju)."""
    ahead: dict[str, list[str]] = {node: [] for node in nodes}
    behind: dict[str, list[str]] = {node: [] for node in ahead}
    for start, end in arcs:
        ahead[start].append(end)
        behind[end].append(start)
    finished: list[str] = []
    _visit(ahead, ahead, set(), finished)
    seen: set[str] = set()
    found: set[str] = set()
    for node in reversed(finished):
        part: list[str] = []
        _visit(behind, [node], seen, part)
        if len(part) > 1:
            found.update(part)
    return found


def _visit(arcs: Mapping[str, Iterable[str]], starts: Iterable[str], seen: set[str], finished: list[str]) -> None:
    """Depth first from each of the starts; nodes are listed when everything behind them was seen."""
    for start in starts:
        if start in seen:
            continue
        seen.add(start)
        stack = [(start, iter(arcs[start]))]
        while stack:
            node, others = stack[-1]
            other = next((one for one in others if one not in seen), None)
            if other is None:
                finished.append(node)
                stack.pop()
            else:
                seen.add(other)
                stack.append((other, iter(arcs[other])))
