"""Turns any BERT checkpoint into any other, and proves that nothing changed.

Everything public is here and is imported when it is first used: `import bertconv` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bertconv.config import BertConfig
    from bertconv.convert import convert_checkpoint
    from bertconv.errors import BertconvError
    from bertconv.inspection import Inspection, inspect_checkpoint
    from bertconv.report import Report

_HOMES = {
    "BertConfig": "bertconv.config",
    "BertconvError": "bertconv.errors",
    "Inspection": "bertconv.inspection",
    "Report": "bertconv.report",
    "convert_checkpoint": "bertconv.convert",
    "inspect_checkpoint": "bertconv.inspection",
}

__all__ = [
    "BertConfig",
    "BertconvError",
    "Inspection",
    "Report",
    "__version__",
    "convert_checkpoint",
    "inspect_checkpoint",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bertconv' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
