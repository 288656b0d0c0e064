"""Puts the folder of the models' tests on sys.path, for their tiny models, and takes over what those share."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from bertconv.verify import outputs

MODELS = Path(__file__).parents[1] / "models"
if str(MODELS) not in sys.path:
    sys.path.append(str(MODELS))

_one_torch_thread = runpy.run_path(str(MODELS / "conftest.py"))["_one_torch_thread"]


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process with thousands of tests behind it, a full collection takes seconds, and each comparison makes two.

    test_measuring holds that memory is released.
    """
    monkeypatch.setattr(outputs, "release_memory", lambda: None)
