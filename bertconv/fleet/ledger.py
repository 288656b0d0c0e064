"""Ledger: what a fleet's driver knows of its items, in SQLite beside the outputs. A cache: the manifests are the truth.

One driver writes one ledger, under a lock. Parts of a list (`--shard i/n`) have drivers of their own, and so ledgers of
their own: no file is written from two machines.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from bertconv.errors import BertconvError, OutputError, RequestError
from bertconv.fleet.items import Item
from bertconv.fleet.outcome import Outcome
from bertconv.formats import leftovers
from bertconv.records import dataclass

VERSION = 1
_OTHER_TABLES = ("no such table", "no such column", "table items has no", "table runs has no")
"""How SQLite begins to speak of tables that are not ours."""
_FLUSH_SECONDS = 0.5
PENDING, RUNNING = "pending", "running"
"""States of an item that has not ended, beside those of `outcome`."""

_TEXT, _WHOLE, _REAL = "TEXT NOT NULL DEFAULT ''", "INTEGER NOT NULL DEFAULT 0", "REAL NOT NULL DEFAULT 0"
_KINDS = {"str": _TEXT, "int": _WHOLE, "float": _REAL}


@dataclass(frozen=True)
class Row:
    """An item, and what became of it.

    Attributes:
        id: of the item; `src`, `dst`, `verb`, `size` and `identity` are the item's.
        options: of the item, as JSON.
        state: PENDING, RUNNING, or a state of `outcome`.
        attempts: tries in all runs since its key changed; `lost` how many of them lost their worker.
        started: seconds since 1970 when its last try began; `finished` when it ended; 0 where it did not.
        result: of the outcome, as JSON; the other fields are the outcome's, too.
    """

    id: str
    src: str
    dst: str
    verb: str
    options: str = "{}"
    size: int = 0
    identity: str = ""
    state: str = PENDING
    attempts: int = 0
    lost: int = 0
    started: float = 0.0
    finished: float = 0.0
    code: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    file: str = ""
    tensor: str = ""
    trace: str = ""
    digest: str = ""
    nbytes: int = 0
    family: str = ""
    head: str = ""
    source_format: str = ""
    target_format: str = ""
    key: str = ""
    stamp: str = ""
    result: str = "{}"
    seconds: float = 0.0
    worker: str = ""

    @property
    def item(self) -> Item:
        """The item, to be run again."""
        return Item(self.src, self.dst, self.verb, json.loads(self.options), self.size, self.identity)


COLUMNS = tuple(one.name for one in fields(Row))
_RUN = ("started", "finished", "command", "engine", "workers", "version", "host", "pid")
_KIND_OF = {"str": (str,), "int": (int,), "float": (float, int)}
_ROW_KINDS = tuple(_KIND_OF[str(one.type)] for one in fields(Row))
_RUN_KINDS = tuple(_KIND_OF[kind] for kind in ("float", "float", "str", "str", "int", "str", "str", "int"))
_OF_OUTCOME = tuple(one.name for one in fields(Outcome) if one.name not in ("state", "result"))


class Ledger:
    """The ledger of one driver, open and locked.

    Args:
        path: of the file; it is made where it is not there.

    Raises:
        OutputError: another driver has it, or it cannot be written.
        RequestError: the file is no ledger, or one of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f"{path.name}.lock")
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            found = leftovers.take_lock(self._lock)
        if found is None:
            raise OutputError(
                "is in use: another run works on these outputs.", hint="Wait for it, or look with `fleet status`.",
                file=str(path),
            )  # fmt: skip
        self._fd = found
        try:
            self._base = _opened(path)
        except BaseException:
            leftovers.drop_lock(self._lock, self._fd)
            raise
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # what it lacks stands in the manifests
            self._base.commit()
        self._base.close()
        leftovers.drop_lock(self._lock, self._fd)

    def row(self, item: Item) -> Row | None:
        """What it knows of one item. Of a long list not all rows are to be in memory at once."""
        return next(_rows(self._base, self.path, "WHERE id = ?", (item.id,)), None)

    def add(self, items: Iterable[tuple[Item, str]]) -> None:
        """Items that are to be done, with their keys; what was known of them is forgotten, but not their lost workers.

        An item whose key changed is another piece of work: it begins anew.
        """
        rows = ((of_item(item), key) for item, key in items)
        lines = ((*(getattr(row, name) for name in _ITEM), PENDING, key) for row, key in rows)
        with _writing(self.path):
            self._base.executemany(_ADD, lines)
            self.flush()

    def begin(self, item: Item) -> None:
        """A try begins."""
        self._run(
            "UPDATE items SET state = ?, started = ?, finished = 0, attempts = attempts + 1 WHERE id = ?",
            (RUNNING, time.time(), item.id),
        )

    def record(self, item: Item, state: str, outcome: Outcome, *, is_lost: bool = False) -> None:
        """A try ended.

        Args:
            item: of which item.
            state: what that leads to.
            outcome: what was reported.
            is_lost: the worker died.
        """
        named = ", ".join(f"{name} = ?" for name in _OF_OUTCOME if name != "key")
        values = [getattr(outcome, name) for name in _OF_OUTCOME if name != "key"]
        result = json.dumps(dict(outcome.result), ensure_ascii=False)
        self._run(
            f"UPDATE items SET state = ?, finished = ?, lost = lost + ?, result = ?, {named}, "  # noqa: S608  (names of ours)
            "key = CASE ? WHEN '' THEN key ELSE ? END WHERE id = ?",
            (state, time.time(), int(is_lost), result, *values, outcome.key, outcome.key, item.id),
        )

    def begin_run(self, facts: Mapping[str, Any]) -> int:
        """A run begins; its number."""
        names = [name for name in _RUN if name in facts]
        marks = ", ".join("?" * len(names))
        with _writing(self.path):
            done = self._base.execute(
                f"INSERT INTO runs ({', '.join(names)}) VALUES ({marks})", [facts[name] for name in names]  # noqa: S608
            )  # fmt: skip
            self.flush()
        return done.lastrowid or 0

    def end_run(self, number: int) -> None:
        """A run ends, in time or not: nothing of it is running any more."""
        self._run("UPDATE items SET state = ? WHERE state = ?", (PENDING, RUNNING))
        self._run("UPDATE runs SET finished = ? WHERE number = ?", (time.time(), number))

    def flush(self, *, due: bool = False) -> None:
        """Write down what is known; with `due` only where the last time is half a second ago."""
        if due and time.monotonic() - self._flushed < _FLUSH_SECONDS:
            return
        with _writing(self.path):
            self._base.commit()
        self._flushed = time.monotonic()

    def _run(self, statement: str, values: Iterable[Any]) -> None:
        with _writing(self.path):
            self._base.execute(statement, tuple(values))


def ledger_path(folder: Path, part: str = "") -> Path:
    """The ledger in a fleet's folder; of `--shard i/n` one of its own."""
    return folder / (f"ledger-{part.replace('/', '-of-')}.db" if part else "ledger.db")


def read_ledgers(folder: Path) -> list[Row]:
    """The items of all ledgers in a fleet's folder, while others may write them; the last word on each.

    Raises:
        RequestError: a file there is no ledger.
    """
    found: dict[str, Row] = {}
    for path in sorted(folder.glob("ledger*.db")):
        with contextlib.closing(_opened(path)) as base:
            for row in _rows(base, path):
                other = found.get(row.id)
                if other is None or row.finished >= other.finished:
                    found[row.id] = row
    return list(found.values())


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs of all ledgers in a fleet's folder, the first first; errors as for `read_ledgers`."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("ledger*.db")):
        with contextlib.closing(_opened(path)) as base:
            with _writing(path):
                lines = base.execute(_RUNS).fetchall()
            found += [dict(zip(_RUN, _checked(line, _RUN_KINDS, path), strict=True)) for line in lines]
    return sorted(found, key=lambda run: float(run["started"]))


_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS items ({", ".join(f"{one.name} {_KINDS[str(one.type)]}" for one in fields(Row))},
    PRIMARY KEY (id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, started {_REAL}, finished {_REAL}, command {_TEXT},
    engine {_TEXT}, workers {_WHOLE}, version {_TEXT}, host {_TEXT}, pid {_WHOLE});
PRAGMA user_version = {VERSION};
"""
_RUNS = f"SELECT {', '.join(_RUN)} FROM runs"  # noqa: S608  (names of ours)
_ITEM = ("id", "src", "dst", "verb", "options", "size", "identity")
_ADD = f"""
INSERT INTO items ({", ".join(_ITEM)}, state, key) VALUES ({", ".join("?" * len(_ITEM))}, ?, ?)
ON CONFLICT (id) DO UPDATE SET options = excluded.options, size = excluded.size, identity = excluded.identity,
    state = excluded.state, key = excluded.key,
    attempts = CASE key WHEN excluded.key THEN attempts ELSE 0 END,
    lost = CASE key WHEN excluded.key THEN lost ELSE 0 END
"""  # noqa: S608  (names of ours)


def of_item(item: Item) -> Row:
    """The row of an item of which nothing is known."""
    options = json.dumps(dict(item.options), ensure_ascii=False, sort_keys=True)
    return Row(item.id, item.src, item.dst, item.verb, options, item.size, item.identity)


def _rows(
    base: sqlite3.Connection, path: Path, where: str = "", values: tuple[str, ...] = ()
) -> Iterator[Row]:  # fmt: skip
    with _writing(path):
        for line in base.execute(f"SELECT {', '.join(COLUMNS)} FROM items {where}", values):  # noqa: S608  (names of ours)
            row = Row(*_checked(line, _ROW_KINDS, path))
            if not _is_object(row.options):
                raise _no_ledger(path, "is damaged")
            yield row


def _checked(line: tuple[Any, ...], kinds: Iterable[tuple[type, ...]], path: Path) -> tuple[Any, ...]:
    """A line of a table: SQLite keeps a column to no kind of values, and a file is anybody's."""
    for value, kind in zip(line, kinds, strict=True):
        if type(value) not in kind or (kind[0] is float and not abs(value) < _MOST_SECONDS):
            raise _no_ledger(path, "is damaged")
    return line


_MOST_SECONDS = 1e15


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _opened(path: Path) -> sqlite3.Connection:
    with _writing(path):
        base = sqlite3.connect(path, timeout=30)
    try:
        version = _version_of(base, path)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            base.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        base.close()
        raise _refused(path, error) from error
    except BaseException:
        base.close()
        raise
    return base


def _version_of(base: sqlite3.Connection, path: Path) -> int:
    (version,) = base.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise _no_ledger(path, "was written by a later version of bertconv")
    return int(version)


def _no_ledger(path: Path, problem: str) -> RequestError:
    return RequestError(
        f"{problem}.", hint="Move it away: it is a cache, and the manifests say what is done.", file=str(path)
    )


def _refused(path: Path, error: Exception) -> BertconvError:
    """The error for one of the file system, or of SQLite: a file that is none of ours is no fault of the disk."""
    if isinstance(error, sqlite3.DatabaseError) and (
        not isinstance(error, sqlite3.OperationalError) or str(error).startswith(_OTHER_TABLES)
    ):
        return _no_ledger(path, "is no ledger of a fleet, or damaged")
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot be written: {reason}.", hint="Check the disk, or choose another --state.",
                       file=str(path))  # fmt: skip


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.DatabaseError) as error:
        if isinstance(error, BertconvError | sqlite3.ProgrammingError):
            raise
        raise _refused(path, error) from error
