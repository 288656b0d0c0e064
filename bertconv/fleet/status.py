"""What became of a fleet's items: from its ledgers, or where these are lost from the manifests of the outputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertconv.errors import BertconvError, RequestError
from bertconv.fleet.items import Item
from bertconv.fleet.ledger import PENDING, RUNNING, Row, of_item, read_ledgers, read_runs
from bertconv.fleet.outcome import DONE, FAILED, KEPT, QUARANTINED, WAITING
from bertconv.formats.destination import MANIFEST
from bertconv.records import dataclass
from bertconv.text import is_url, public

STATES = (DONE, KEPT, FAILED, QUARANTINED, WAITING, RUNNING, PENDING)
"""Every state of an item, in the order in which they are shown."""
ENDED = (DONE, KEPT, FAILED, QUARANTINED)


@dataclass(frozen=True)
class Status:
    """Where a fleet stands.

    Attributes:
        folder: of the outputs.
        rows: its items.
        runs: what the ledgers keep of the runs, the first first.
        from_manifests: there is no ledger; this is what the manifests of the outputs say.
    """

    folder: str
    rows: tuple[Row, ...]
    runs: tuple[Mapping[str, Any], ...] = ()
    from_manifests: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """State -> items, of the states that there are."""
        found = Counter(row.state for row in self.rows)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def failures(self) -> tuple[Row, ...]:
        """Items that failed or are quarantined."""
        return tuple(row for row in self.rows if row.state in (FAILED, QUARANTINED))

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that were written."""
        return sum(row.nbytes for row in self.rows if row.state in (DONE, KEPT))

    @property
    def rate(self) -> float:
        """Items that ended in a second of the last run; 0 where there was none."""
        last = self.runs[-1] if self.runs else None
        if last is None:
            return 0.0
        ended = [row for row in self.rows if row.state in ENDED and row.finished >= last["started"]]
        until = last["finished"] or max((row.finished for row in ended), default=last["started"])
        return len(ended) / max(float(until - last["started"]), 1e-3)

    def to_json(self) -> dict[str, Any]:
        """Everything but the items that are done, for scripts."""
        failures = [
            {"src": public(row.src), "dst": public(row.dst), "verb": row.verb, "state": row.state,
             "code": row.code, "kind": row.kind, "message": row.message, "hint": row.hint,
             "attempts": row.attempts, "trace": row.trace}
            for row in self.failures
        ]  # fmt: skip
        return {
            "folder": self.folder, "counts": self.counts, "bytes": self.nbytes, "items_per_second": self.rate,
            "from_manifests": self.from_manifests, "runs": [dict(run) for run in self.runs], "failures": failures,
        }  # fmt: skip


def status_of(out: str, state: Path, items: Iterable[Item] | None = None) -> Status:
    """Where a fleet stands.

    Args:
        out: the folder of the outputs.
        state: the folder of its ledgers.
        items: of its list, placed; those that no ledger knows are looked for among the outputs.

    Raises:
        RequestError: there is neither a ledger nor an output.
    """
    rows = read_ledgers(state) if state.is_dir() else []
    if rows and items is None:
        return Status(out, tuple(rows), tuple(read_runs(state)))
    known = {row.id: row for row in rows}
    found = [known.get(item.id) or rebuilt(item) for item in items] if items is not None else list(_outputs(Path(out)))
    if not found:
        raise RequestError("holds no outputs of a fleet, and no ledger of one.", hint="Check the folder.", file=out)
    return Status(out, tuple(found), tuple(read_runs(state)) if rows else (), not rows)


def rebuilt(item: Item) -> Row:
    """The row of an item that no ledger knows: done where its output has a manifest, whose time is taken."""
    row = of_item(item)
    return _of_manifest(row, Path(item.dst)) if item.dst and not is_url(item.dst) else row


def _outputs(out: Path) -> Iterator[Row]:
    """A row for each output in a folder, whatever its list was."""
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if (path / MANIFEST).is_file():
            yield _of_manifest(Row("", "", str(path), "convert"), path)


def _of_manifest(row: Row, folder: Path) -> Row:
    from bertconv.fleet.work import facts_of
    from bertconv.manifest import parents_of, read_manifest

    try:
        manifest = read_manifest(folder)
        finished = (folder / MANIFEST).lstat().st_mtime
    except (BertconvError, OSError):
        return row
    facts = facts_of(manifest)
    del facts["result"]
    parents = parents_of(manifest)
    src = row.src or (parents[0].given if parents else folder.name)
    return replace(row, src=src, state=DONE, finished=min(finished, time.time()), **facts)


def failed_items(state: Path, codes: Iterable[int] = ()) -> list[Item]:
    """The items that failed for good or are quarantined.

    Args:
        state: the folder of the ledgers.
        codes: only those with one of these exit codes; none takes all.

    Raises:
        RequestError: there is no ledger.
    """
    rows = read_ledgers(state) if state.is_dir() else []
    if not rows:
        raise RequestError("holds no ledger of a fleet.", hint="Run the list again: that does what is missing.",
                           file=str(state))  # fmt: skip
    wanted = frozenset(codes)
    return [row.item for row in rows if row.state in (FAILED, QUARANTINED) and (not wanted or row.code in wanted)]
