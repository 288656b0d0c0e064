"""A Hub on the loopback address that lists its models, and can be written to."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hub_endpoint import unwaited, writable

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_models import ListingHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[ListingHub, None, None]:
    """A Hub with an empty cache, and the token of its one user in the environment."""
    yield from writable(ListingHub(), tmp_path, monkeypatch)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for; nobody waits."""
    return unwaited(monkeypatch)
