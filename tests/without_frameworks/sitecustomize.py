"""Python as if no framework were installed: with this folder on PYTHONPATH, for a process and those that it starts.

`scripts/check --fast` runs the tests so; what needs a framework is skipped (tests/conftest.py).
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

FRAMEWORKS = ("tensorflow", "keras", "torch", "transformers")


class Finder(PathFinder):
    """Finds what is installed, but for the frameworks."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in FRAMEWORKS else super().find_spec(fullname, path, target)


sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
