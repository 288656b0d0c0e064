"""Where the processes of one driver keep account of what the Hub allows (`hub_budget`): a file that all inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = "BERTCONV_HUB_BUDGET"
"""The variable that names the file."""


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """One account for this process and for all that it starts meanwhile; nothing is loaded for it."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(path.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before
