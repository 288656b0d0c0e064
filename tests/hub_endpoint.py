"""Makes huggingface_hub ask a server on the loopback address in place of the real Hub."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from patience import PATIENCE

Server = TypeVar("Server")


def pointed_at(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Server, None, None]:
    """A server that it asks, with an empty cache, no token and no waiting; for a fixture."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # 0.x reads it from the second
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, PATIENCE)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield server
    # 0.x has no such function: its sessions belong to the threads.
    getattr(huggingface_hub, "close_session", lambda: None)()


def writable(
    made: AbstractContextManager[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Server, None, None]:
    """The same of a server of the tests that can be written to, with the token of its one user; for a fixture."""
    with made as server:
        for _ in (found := pointed_at(server, server.url, tmp_path, monkeypatch)):
            monkeypatch.setenv("HF_TOKEN", server.token)
            yield server
        found.close()


def unwaited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
