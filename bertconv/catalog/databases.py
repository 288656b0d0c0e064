"""Which database a name means."""

from __future__ import annotations

import os
from pathlib import Path

from bertconv.catalog.sqlite import SQLiteStore
from bertconv.catalog.store import Store
from bertconv.errors import RequestError


def open_store(database: str | os.PathLike[str] | None) -> Store:
    """The tables in a database; they are made where they are not there.

    Args:
        database: a file of SQLite, or a URL of PostgreSQL; None for tables that are gone when they are closed.

    Raises:
        RequestError: it is a database of something else, or of another version; or no URL that is known.
        OutputError: it cannot be opened.
    """
    if database is None:
        return SQLiteStore(None)
    name = os.fspath(database)
    if not name:
        raise RequestError("the name of the database is empty.", hint="Give a file, or a URL of PostgreSQL.")
    if "://" not in name:
        return SQLiteStore(Path(name))
    from bertconv.catalog.postgresql import PostgreSQLStore

    return PostgreSQLStore(name)
