"""Puts the folder of the models' tests on sys.path, for their tiny models, and takes over what those share."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
if str(MODELS) not in sys.path:
    sys.path.append(str(MODELS))

_one_torch_thread = runpy.run_path(str(MODELS / "conftest.py"))["_one_torch_thread"]
