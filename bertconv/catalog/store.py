"""A database with the tables: what SQLite and PostgreSQL have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from bertconv.catalog import schema
from bertconv.errors import RequestError

Value = str | int
Row = Mapping[str, Value]
Step = tuple[str, Sequence[Row]]
"""A statement with `:name` for its values, and the values of each time that it is run."""


class Store(Protocol):
    """A database with the tables. Values never become a part of a statement."""

    def query(self, statement: str, values: Row) -> list[tuple[Any, ...]]:
        """The rows that a statement finds."""

    def write(self, steps: Iterable[Step]) -> None:
        """Run statements in one transaction: all of them, or none."""

    def close(self) -> None:
        """Let the database go."""


def check_version(found: Iterable[int], name: str) -> None:
    """RequestError where the tables are of another version."""
    others = sorted(version for version in found if version != schema.VERSION)
    if others:
        raise RequestError(
            f"holds a catalogue of version {others[0]}, and this bertconv writes version {schema.VERSION}.",
            hint="Give another database: it is made anew from the manifests.", file=name,
        )  # fmt: skip
