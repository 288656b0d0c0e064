"""A Hub on the loopback address that lists its models, and can be written to."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hub_endpoint import pointed_at

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_models import ListingHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[ListingHub, None, None]:
    """A Hub with an empty cache, and the token of its one user in the environment."""
    with ListingHub() as server:
        for _ in (found := pointed_at(server, server.url, tmp_path, monkeypatch)):
            monkeypatch.setenv("HF_TOKEN", server.token)
            yield server
        found.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
