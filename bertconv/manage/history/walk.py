"""The graph is walked from a model to its parents, theirs, and so on; every model once, whatever manifests say."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bertconv.errors import BertconvError, check_path
from bertconv.manage.history.graph import CHANGED, CLAIMED, PROVEN, RECORDED, SHORT, Edge, Graph, Model, Place
from bertconv.manage.history.search import Found, Record, search_folders
from bertconv.manifest import read_manifest
from bertconv.progress import Progress, silent
from bertconv.report import Operation, ParentReport
from bertconv.text import printable

MOST_MODELS = 2_000
MOST_EDGES = 20_000
"""How large a graph becomes, whatever manifests say."""
MOST_HASHED = 200
"""How many folders without a digest on record are hashed to find parents."""


def lineage(
    folder: str | os.PathLike[str],
    *,
    search: Iterable[str | os.PathLike[str]] = (),
    verify: bool = False,
    progress: Progress | None = None,
) -> Graph:
    """The history of an output of bertconv: what it was made of, what that was made of, and what is known of each.

    Models are identified by the digest of their weights, so it does not matter how folders are called or where they
    are. A parent is "claimed" where only the manifest of its child names it, "recorded" where a folder was found whose
    own manifest has that digest, and "proven" where the weights in that folder were hashed just now and have it.

    >>> from bertconv import lineage
    >>> graph = lineage("averaged", search=["runs"], verify=True)                               # doctest: +SKIP
    >>> graph.summary()                                                                         # doctest: +SKIP
    '4 models: 3 proven, 1 claimed'

    Args:
        folder: an output of bertconv, with its bertconv.json.
        search: folders in which parents are looked for, and in those below them.
        verify: hash the weights of every model that was found; then parents that have no manifest, as the original
            download, are found as well.
        progress: called with a step, how much is done and how much there is.

    Returns:
        The graph; `ok` says that no folder was found whose weights are not those of its manifest.

    Raises:
        RequestError: there is no bertconv.json, or a folder to search is none or lies in the Hub's cache.
        DamagedCheckpoint: bertconv.json was changed.
    """
    check_path(folder, "the folder")
    place = Path(folder)
    own = Record.of(place, read_manifest(place))
    roots = [Path(root) for root in search]
    found = search_folders(roots, own) if roots else Found()
    walk = _Walk(own, found)
    walk.run()
    if verify:
        walk.prove(progress or silent)
    return walk.graph()


class _Walk:
    """The graph as far as it is known.

    Args:
        own: of the model that is asked about.
        found: what the search came upon.
    """

    def __init__(self, own: Record, found: Found) -> None:
        self._found = found
        self._root = own.digest or f"folder {printable(str(own.folder))}"
        self._own = own
        self._models: dict[str, Model] = {}
        self._records: dict[str, tuple[Record, ...]] = {self._root: (own, *found.records.get(own.digest, ()))}
        self._edges: dict[Edge, None] = {}
        self._notes = list(found.notes)
        self._queue: deque[str] = deque()

    def run(self) -> None:
        """Follow the parents of the root, and of every model that has a record."""
        self._add(self._root)
        self._follow()

    def graph(self) -> Graph:
        """What was found."""
        edges = tuple(replace(edge, state=self._models[edge.parent].state) for edge in self._edges)
        graph = Graph(self._root, self._models, edges, tuple(self._notes))
        cycle = [model.name for key, model in self._models.items() if key in graph.in_cycles]
        if not cycle:
            return graph
        note = (
            f"{', '.join(cycle[:3])}{' and others' if len(cycle) > 3 else ''} by their manifests are among their own "
            "ancestors: weights that came back to what they were, by a cast or by attach, or a manifest that does not "
            "tell the truth"
        )
        return replace(graph, notes=(*graph.notes, note))

    def _follow(self) -> None:
        while self._queue:
            key = self._queue.popleft()
            for record in self._records.get(key, ()):
                for parent in record.parents:
                    self._link(key, record, parent)

    def _add(self, key: str) -> None:
        """A model with what its records say; its parents are followed later."""
        records = self._records.setdefault(key, self._found.records.get(key, ()))
        first = records[0] if records else None
        self._models[key] = Model(
            id=key,
            digest=key if first is None or first.digest else "",
            backbone_digest=next((one.backbone_digest for one in records if one.backbone_digest), ""),
            head=first.head if first else "",
            verified=first.verified if first else "",
            state=RECORDED if records else CLAIMED,
            places=tuple(_place(one, RECORDED) for one in records),
        )
        self._queue.append(key)

    def _link(self, child: str, record: Record, parent: ParentReport) -> None:
        """A parent that a manifest names: of the same weights another name, else an edge."""
        name = f"{parent.given}@{parent.commit[:SHORT]}" if parent.commit else parent.given
        if parent.digest and parent.digest == child:
            self._name(child, name)
            return
        key = parent.digest or (f"name {name}" if parent.commit else f"name {name} of {child}")
        edge = Edge(key, child, parent.role, record.operation.verb, CLAIMED)
        if len(self._edges) >= MOST_EDGES or (key not in self._models and len(self._models) >= MOST_MODELS):
            note = "the manifests name more checkpoints than are shown"
            self._notes += [note] if note not in self._notes else []
            return
        if key not in self._models:
            self._add(key)
            if not parent.digest:
                self._models[key] = replace(self._models[key], digest="")
        model = self._models[key]
        self._models[key] = replace(model, backbone_digest=model.backbone_digest or parent.backbone_digest)
        self._name(key, name)
        self._edges[edge] = None

    def _name(self, key: str, name: str) -> None:
        model = self._models[key]
        if name and name not in model.names:
            self._models[key] = replace(model, names=(*model.names, name))

    def prove(self, progress: Progress) -> None:
        """Hash what was found, and look for what was not among the folders without a record."""
        from bertconv.manage.hash import model_digest

        todo = [
            (key, number) for key, model in self._models.items() if model.digest for number in range(len(model.places))
        ]
        for done, (key, number) in enumerate(todo):
            progress("models", done, len(todo))
            record = self._records[key][number]
            try:
                digest = model_digest(record.folder, head=record.head or None).digest
            except BertconvError as error:
                self._notes.append(f"{printable(str(record.folder))} was not hashed: {_first_line(error)}")
                continue
            self._settle(key, number, same=digest == key)
        self._find_by_hashing(progress)
        progress("models", len(todo), len(todo))

    def _settle(self, key: str, number: int, *, same: bool) -> None:
        model = self._models[key]
        places = list(model.places)
        places[number] = replace(places[number], state=PROVEN if same else CHANGED)
        states = {place.state for place in places}
        state = next((state for state in (PROVEN, RECORDED) if state in states), CLAIMED)
        self._models[key] = replace(model, places=tuple(places), state=state)
        if not same:
            where = printable(places[number].folder)
            self._notes.append(f"the weights in {where} are not those that its {key[7:][:SHORT]} stands for")

    def _find_by_hashing(self, progress: Progress) -> None:
        """Parents without a record among the folders that have weights and no digest on record."""
        from bertconv.manage.hash import model_digest

        candidates = self._found.unsigned
        if len(candidates) > MOST_HASHED:
            self._notes.append(f"only {MOST_HASHED} of {len(candidates):,} folders without a manifest were hashed")
        unread = []
        for done, folder in enumerate(candidates[:MOST_HASHED]):
            wanted = {key for key, model in self._models.items() if model.digest and model.state == CLAIMED}
            if not wanted:
                break
            progress("folders", done, len(candidates))
            try:
                found = model_digest(folder)
            except BertconvError as error:
                unread.append(f"{printable(str(folder))}: {_first_line(error)}")
                continue
            if (model := self._models.get(found.digest)) is not None:
                places = (*model.places, Place(str(folder), PROVEN, Operation("")))
                self._models[found.digest] = replace(
                    model, state=PROVEN, places=places, head=model.head or found.head,
                    backbone_digest=found.backbone_digest,
                )  # fmt: skip
        if unread:
            self._notes.append(f"{len(unread)} folders with weights could not be hashed, such as {unread[0]}")


def _place(record: Record, state: str) -> Place:
    return Place(str(record.folder), state, record.operation, record.written_by)


def _first_line(error: BertconvError) -> str:
    return str(error).partition("\n")[0].rstrip(".")
