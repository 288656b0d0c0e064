"""scripts/golden.py as a module."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_SPEC = spec_from_file_location("golden", Path(__file__).parents[2] / "scripts" / "golden.py")
golden = module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)
