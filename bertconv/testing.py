"""assert_parity(): a line in a test that holds one checkpoint or model to another."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from bertconv.verify.parity import Parity, SideFacts


class Model(Protocol):
    """A model in memory: one of bertconv's TensorFlow classes, or a PyTorch one of transformers."""

    def save_pretrained(self, save_directory: str, /) -> object:
        """Write weights and config to a folder."""


Checkpoint = str | os.PathLike[str] | Model
"""A Hub id, a folder, a file, or a model in memory."""


def assert_parity(
    a: Checkpoint, b: Checkpoint, *, report: str | os.PathLike[str] | None = None, **options: Any
) -> Parity:
    """Pass if two checkpoints, in any formats, are the same model.

    Where a side has a part that no table knows (`Parity.omitted`), it passes if the rest is the same, and warns.

    Args:
        a: the original: Hub id, folder or file, or a model in memory, which is saved to a temporary folder.
        b: what is held to it, likewise.
        report: HTML page to write, whatever the outcome.
        options: as those of `bertconv.verify_checkpoint`: level, dtypes, max_error, ignore, head, ...

    Returns:
        What was found.

    Raises:
        AssertionError: they are not the same; it says where they part first, and the likely cause.
        BertconvError: a side cannot be read, or the report cannot be written.
    """
    __tracebackhide__ = True  # pytest shows the caller's line and the sentence
    from bertconv.verification import verify_checkpoint

    with _on_disk(a) as one, _on_disk(b) as other:
        parity = verify_checkpoint(one, other, **options)
    parity = _named(parity, a, b)
    if report is not None:
        from bertconv.verify.report_files import write_page

        write_page(Path(report), parity)
    if not parity.ok:
        raise AssertionError(parity.failure_text())
    if parity.omitted:
        warnings.warn(parity.verdict(), stacklevel=2)
    return parity


@contextmanager
def _on_disk(checkpoint: Checkpoint) -> Iterator[str | os.PathLike[str]]:
    """Where it is; a model in memory is saved for as long as it takes."""
    if isinstance(checkpoint, str | os.PathLike):
        yield checkpoint
        return
    with tempfile.TemporaryDirectory(prefix="bertconv-") as folder:
        place = Path(folder, type(checkpoint).__name__)
        checkpoint.save_pretrained(str(place))
        yield place


def _named(parity: Parity, a: Checkpoint, b: Checkpoint) -> Parity:
    """Models in memory called by their class; no command can repeat a comparison with one."""
    one, other = _side(parity.a, a), _side(parity.b, b)
    repeatable = (one, other) == (parity.a, parity.b)
    return replace(parity, a=one, b=other, command=parity.command if repeatable else "")


def _side(facts: SideFacts, given: Checkpoint) -> SideFacts:
    if isinstance(given, str | os.PathLike):
        return facts
    return replace(facts, given=f"{type(given).__name__} in memory")
