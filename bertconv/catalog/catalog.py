"""The catalogue: tables of manifests, brought up to date by reading those alone that are new or changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from bertconv.catalog.databases import open_store
from bertconv.catalog.query import Entry, Query, find, inside
from bertconv.catalog.rows import Look, drop_steps, look, put_steps
from bertconv.catalog.schema import POSTGRESQL_TEXT, SQLITE_TEXT, script
from bertconv.catalog.store import Value
from bertconv.catalog.trees import UNSETTLED, LocalTree, Scan, Tree, check_place
from bertconv.progress import Progress, silent
from bertconv.records import dataclass
from bertconv.text import is_url, public

BATCH = 500
BATCH_ROWS = 50_000
"""Manifests, and rows of theirs, that are put on record in one transaction: what was read before a stop stays read."""


@dataclass(frozen=True)
class Problem:
    """A manifest that is not believed, or something that is not known of an output.

    Attributes:
        place: folder or URL.
        problem: what is wrong.
    """

    place: str
    problem: str


@dataclass(frozen=True)
class Refreshed:
    """What became of the tables.

    Attributes:
        root: the folder or the URL.
        seen: manifests that are there.
        read: those of them that were new or changed, and were read.
        removed: what was on record and is gone.
        notes: what could not be looked at, one sentence each; what is on record of that stays.
    """

    root: str
    seen: int
    read: int
    removed: int
    notes: tuple[str, ...] = field(default=())


class Catalog:
    """Which outputs of bertconv lie where, as tables that can be asked.

    >>> from bertconv import Catalog
    >>> with Catalog() as catalog:                                                              # doctest: +SKIP
    ...     runs = catalog.refresh("runs/")
    ...     [entry.place for entry in catalog.find(family="bert", labels=["spam"], within=[runs.root])]
    ['/data/runs/mail-classifier']

    Args:
        database: a file of SQLite, made where it is not there, or a URL `postgresql://...`. Both are kept, and
            `refresh` reads only what is new or changed. Without one the tables are in memory until it is closed.

    Raises:
        RequestError: the database is something else's, or of another version.
        OutputError: it cannot be used.
    """

    def __init__(self, database: str | os.PathLike[str] | None = None) -> None:
        self._store = open_store(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the database go."""
        self._store.close()

    @staticmethod
    def schema(*, postgresql: bool = False) -> str:
        """The statements that make the tables, for SQLite or for PostgreSQL."""
        return script(POSTGRESQL_TEXT if postgresql else SQLITE_TEXT)

    def refresh(self, root: str | os.PathLike[str], *, progress: Progress | None = None) -> Refreshed:
        """Put on record what lies in a folder or below a URL, and take off what no longer does.

        A manifest is read again when its size, times or inode (of a URL its size, ETag or version) are others.

        Args:
            root: a folder, or a URL such as `s3://bucket/models`.
            progress: called with a step, how much is done and how much there is.

        Returns:
            What became of the tables.

        Raises:
            RequestError: there is no such folder.
            HubError: the URL cannot be read.
            OutputError: the database cannot be used.
        """
        tree = open_tree(root)
        scan = tree.scan()
        known = self._stamps(tree.root)
        changed = [seen for seen in scan.found if seen.stamp == UNSETTLED or known.get(seen.place) != seen.stamp]
        notes = list(scan.notes)
        tell = progress or silent
        done = 0
        tell("manifests", done, len(changed))
        for batch in _batches(tree.together(partial(look, tree), changed)):
            self._store.write(put_steps(batch))
            done += len(batch)
            tell("manifests", done, len(changed))
        gone = _gone(known, scan, tree.root)
        self._drop(gone)
        return Refreshed(tree.root, len(scan.found), len(changed), len(gone), tuple(notes))

    def forget(self, root: str) -> int:
        """Take everything off record that lies in a folder or below a URL, which need not be there; how much it was."""
        places = sorted(self._stamps(place_of(root)))
        self._drop(places)
        return len(places)

    def find(  # noqa: PLR0913  (one argument for each thing that can be asked)
        self,
        *,
        digest: str = "",
        backbone: str = "",
        family: str = "",
        head: str = "",
        labels: Iterable[str] = (),
        only_labels: bool = False,
        parent: str = "",
        ancestors: str = "",
        descendants: str = "",
        duplicates: bool = False,
        within: Iterable[str] = (),
    ) -> tuple[Entry, ...]:
        """The outputs that fit all that is given, by place; duplicates by digest.

        Args:
            digest: of the model: at least eight digits from its beginning, with or without `sha256:`.
            backbone: of its backbone, likewise.
            family: model type.
            head: model class, with or without TensorFlow's `TF`.
            labels: names of labels that it knows.
            only_labels: and no other labels than these.
            parent: a digest, likewise, or a Hub id (`org/name` or `org/name@commit`) or the last part of a path.
            ancestors: a digest: all that the model was made from, and that was made from, and so on.
            descendants: a digest: all that was made of the model, and of that, and so on.
            duplicates: only models that several of the outputs have.
            within: places as in `Refreshed.root`; without, everything on record.

        Raises:
            RequestError: what is given as a digest is none, or too short.
            OutputError: the database cannot be used.
        """
        query = Query(
            digest, backbone, family, head, tuple(labels), only_labels, parent, ancestors, descendants, duplicates,
            tuple(within),
        )  # fmt: skip
        return find(self._store, query)

    def problems(self, within: Iterable[str] = ()) -> tuple[Problem, ...]:
        """Manifests that are not believed, and outputs of which something is not known, by place."""
        values: dict[str, Value] = {}
        where = inside(within, values)
        statement = f"SELECT place, problem FROM bertconv_manifests WHERE problem <> '' AND {where} ORDER BY place"  # noqa: S608
        return tuple(Problem(*row) for row in self._store.query(statement, values))

    def count(self, within: Iterable[str] = ()) -> int:
        """How many outputs are on record, those not believed aside."""
        values: dict[str, Value] = {}
        where = inside(within, values)
        statement = f"SELECT COUNT(*) FROM bertconv_manifests WHERE believed = 1 AND {where}"  # noqa: S608
        return int(self._store.query(statement, values)[0][0])

    def _stamps(self, root: str) -> dict[str, str]:
        values: dict[str, Value] = {}
        where = inside([root], values)
        return dict(self._store.query(f"SELECT place, stamp FROM bertconv_manifests WHERE {where}", values))  # noqa: S608

    def _drop(self, places: list[str]) -> None:
        for start in range(0, len(places), BATCH):
            self._store.write(drop_steps(places[start : start + BATCH]))


def open_tree(root: str | os.PathLike[str]) -> Tree:
    """A folder or a URL as a tree of outputs; errors as for `Catalog.refresh`."""
    if is_url(root):
        from bertconv.catalog.remote import RemoteTree

        return RemoteTree(os.fspath(root))
    return LocalTree(Path(root))


def place_of(root: str | os.PathLike[str]) -> str:
    """What the places of a folder or a URL begin with on record; it need not be there."""
    place = public(root) if is_url(root) else str(Path(root).resolve())
    check_place(place)
    return place


def _batches(looks: Iterator[Look]) -> Iterator[list[Look]]:
    """Some at a time."""
    batch: list[Look] = []
    rows = 0
    for one in looks:
        batch.append(one)
        rows += 1 + len(one.parents) + len(one.labels)
        if len(batch) == BATCH or rows >= BATCH_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _gone(known: Mapping[str, str], scan: Scan, root: str) -> list[str]:
    """What is on record and was looked for in vain."""
    there = {seen.place for seen in scan.found}
    if root in scan.unread:
        return []
    kept = tuple(f"{place}/" for place in scan.unread)
    return sorted(place for place in known.keys() - there if not f"{place}/".startswith(kept))
