"""The Hub on the loopback address, as the one that huggingface_hub knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_endpoint import pointed_at
from hub_server import HubServer


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Hub that huggingface_hub asks in place of the real one, with an empty cache."""
    with HubServer() as server:
        yield from pointed_at(server, server.url, tmp_path, monkeypatch)
