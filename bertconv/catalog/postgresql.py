"""The same tables in PostgreSQL, through SQLAlchemy and psycopg; no message has a password in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bertconv.catalog import schema
from bertconv.catalog.store import Row, Step, check_version
from bertconv.errors import OutputError, RequestError

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

SCHEMES = ("postgresql://", "postgresql+psycopg://")
_DRIVER = "postgresql+psycopg"
_EXAMPLE = "postgresql://USER@HOST/DATABASE"
_LOCK = 0x62657274636174
"""Held while the tables are made: two processes that begin at once would make them twice, which is an error."""
_SHORTEST_SECRET = 3


class PostgreSQLStore:
    """The tables in a database of PostgreSQL, in the schema that is first on its search path.

    Args:
        address: postgresql:// or postgresql+psycopg://; what it leaves out, libpq's environment says (PGPASSWORD,
            PGSSLMODE, PGSERVICE, ~/.pgpass).

    Raises:
        RequestError: it is no such URL, a package is missing, or the tables are of another version.
        OutputError: the server cannot be used.
    """

    def __init__(self, address: str) -> None:
        url = _url_of(address)
        self._name = name_of(url)
        self._secrets = tuple(_secrets(url))
        self._engine = _engine(url)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def query(self, statement: str, values: Row) -> list[tuple[Any, ...]]:
        """The rows that a statement finds."""
        from sqlalchemy import text

        with self._errors(), self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), dict(values))]

    def write(self, steps: Iterable[Step]) -> None:
        """Run statements in one transaction: all of them, or none."""
        from sqlalchemy import text

        with self._errors(), self._engine.begin() as connection:
            for statement, rows in steps:
                if rows:
                    connection.execute(text(statement), [dict(row) for row in rows])

    def close(self) -> None:
        """Let the server go."""
        self._engine.dispose()

    def _prepare(self) -> None:
        lock: Step = ("SELECT pg_advisory_xact_lock(:lock)", [{"lock": _LOCK}])
        if self.query("SELECT to_regclass(:name)", {"name": schema.OWN_TABLES[0]}) == [(None,)]:
            made: list[Step] = [(statement, [{}]) for statement in schema.statements(schema.POSTGRESQL_TEXT)]
            self.write([lock, *made, (schema.WRITE_VERSION, [{"version": schema.VERSION}])])
        check_version((version for (version,) in self.query(schema.READ_VERSION, {})), self._name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            said = str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__
            for secret in self._secrets:
                said = said.replace(secret, "***")
            raise OutputError(
                f"the database could not be used: {' '.join(said.split())}.",
                hint="Check that the server runs, and what the user may do in the database.", file=self._name,
            ) from None  # what is behind it may show the password  # fmt: skip


def name_of(url: URL) -> str:
    """What messages call a database: without user, password and options, which may be secrets."""
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def _url_of(address: str) -> URL:
    if not address.startswith(SCHEMES):
        scheme = address.partition("://")[0]
        raise RequestError(
            f"a database {scheme}:// is not known.", hint=f"Give the name of a file for SQLite, or {_EXAMPLE}."
        )
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise _missing() from error
    try:
        return make_url(address).set(drivername=_DRIVER)
    except (ArgumentError, ValueError):
        # the parser's words may have a part of the password in them, so they are left out
        raise RequestError(
            "the URL of the database is none that can be read.",
            hint=f"Write it as {_EXAMPLE}; the password goes into PGPASSWORD or ~/.pgpass.",
        ) from None


def _engine(url: URL) -> Engine:
    from sqlalchemy import create_engine

    try:
        return create_engine(url, hide_parameters=True)
    except ImportError as error:
        raise _missing() from error


def _missing() -> RequestError:
    return RequestError(
        "PostgreSQL needs the packages sqlalchemy and psycopg.", hint="Run pip install 'bertconv[postgresql]'."
    )


def _secrets(url: URL) -> Iterator[str]:
    values = [url.password, *(url.query.get(key) for key in ("password", "sslpassword", "passfile"))]
    for value in values:
        for one in [value] if isinstance(value, str) else value or ():
            if len(one) >= _SHORTEST_SECRET:  # the digit of a shorter one would be blotted out everywhere
                yield one
