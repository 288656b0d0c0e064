"""A Hub on the loopback address that can be written to, and no waiting for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hub_endpoint import unwaited, writable

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_writes import WritableHub
from postgresql_server import programs, running


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Hub with an empty cache, and the token of its one user in the environment."""
    yield from writable(WritableHub(), tmp_path, monkeypatch)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for; nobody waits."""
    return unwaited(monkeypatch)


@pytest.fixture(scope="session")
def postgresql():
    """A server of PostgreSQL; one for all tests that ask for it."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    with running(binaries) as server:
        yield server


DATABASES = ("memory", "sqlite", "postgresql")


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path):
    """What a catalogue is opened with: nothing, a file of SQLite, or a URL with an empty schema of its own."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql").new()
    return None if request.param == "memory" else tmp_path / "catalogue.db"
