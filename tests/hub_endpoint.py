"""Makes huggingface_hub ask a server on the loopback address in place of the real Hub."""

from __future__ import annotations

from collections.abc import Generator
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
