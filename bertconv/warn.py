"""Warnings that point to the line of the program, from however deep in the package."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn of something that a program asked for; for what it asks for without Keras in between.

    Args:
        message: what is not as it may expect, and what to do.
    """
    own, level, frame = __name__.partition(".")[0], 1, sys._getframe()  # noqa: SLF001
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == own:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
