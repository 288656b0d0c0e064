"""What the command line's own process does without, so that a copy costs little more than `cp`."""

from __future__ import annotations

import gc
import os

import click


def copies_only() -> None:
    """Called by a command that runs no framework: it reads, copies and ends.

    Cycles are not collected: what such a process makes lives to its end, in memory that grows with the number of
    tensors and not with their size. numpy's OpenBLAS starts no threads, since nothing is multiplied; who set their
    number keeps it. A caller's process (`main` with arguments) stays as it is.
    """
    if click.get_current_context().find_root().obj is OWN:
        gc.disable()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def ends() -> None:
    """Python is about to end: it searches all objects for cycles several times then, of which these are kept out."""
    gc.freeze()


OWN = object()
"""The object of click's context where the process is the command line's own."""
