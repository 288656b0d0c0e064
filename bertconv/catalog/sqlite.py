"""The tables in SQLite, in memory or in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertconv.catalog import schema
from bertconv.catalog.store import Row, Step, check_version
from bertconv.errors import OutputError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_SECONDS = 30
"""How long it is waited for another process that writes the same file."""
_MEMORY = ":memory:"


class SQLiteStore:
    """The tables in a file of SQLite, or in memory.

    Args:
        path: of the file, which is made where it is not there; None for memory.

    Raises:
        RequestError: it is another program's, or of another version.
        OutputError: it cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = str(path or "the catalogue in memory")
        with self._errors():
            self._connection = sqlite3.connect(path or _MEMORY, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def query(self, statement: str, values: Row) -> list[tuple[Any, ...]]:
        """The rows that a statement finds."""
        with self._errors():
            return self._connection.execute(statement, dict(values)).fetchall()

    def write(self, steps: Iterable[Step]) -> None:
        """Run statements in one transaction: all of them, or none."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in steps:
                    self._connection.executemany(statement, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def _prepare(self) -> None:
        # a file that somebody else made may have functions in its views and indices
        self.query("PRAGMA trusted_schema = OFF", {})
        self.query("PRAGMA foreign_keys = ON", {})
        kinds = self.query(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view', 'trigger') AND name NOT GLOB 'sqlite_*'", {}
        )
        names = {name for (name,) in kinds}
        if not names:
            steps: list[Step] = [(statement, [{}]) for statement in schema.statements()]
            self.write([*steps, (schema.WRITE_VERSION, [{"version": schema.VERSION}])])
        elif names != set(schema.OWN_TABLES):
            raise self._foreign()
        else:
            check_version((version for (version,) in self.query(schema.READ_VERSION, {})), self._name)

    def _foreign(self) -> RequestError:
        return RequestError(
            "is a database of something else, and is left alone.", hint="Give the name of a new file.", file=self._name
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise RequestError(
                    "is no database of SQLite.", hint="Give the name of a new file.", file=self._name
                ) from error
            raise OutputError(
                f"the database could not be used: {error}.",
                hint="Check the path, its permissions and its disk; a damaged one can be removed and is made anew.",
                file=self._name,
            ) from error
