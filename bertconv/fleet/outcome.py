"""Outcome: what became of one item, as a worker reports it and the ledger keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Protocol

from bertconv.records import dataclass

DONE, KEPT, FAILED, QUARANTINED = "done", "kept", "failed", "quarantined"
"""Ends of an item: done now, nothing to do, cannot be done, a bug or a danger to look into."""
WAITING = "waiting"
"""It failed for now, and will be tried again."""

BUG = 9
"""The exit code of a bug: no second try tells more."""
LOST = 137
"""The code of an item whose worker died: 128 + SIGKILL, which is what a system short of memory sends."""


class Failure(Protocol):
    """What failed with which file, as an outcome and a row of the ledger state it."""

    @property
    def file(self) -> str: ...
    @property
    def tensor(self) -> str: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes:
        state: DONE, KEPT or FAILED; the scheduler decides what a failure leads to.
        code: exit code that the single command would have: 0, those of `bertconv.errors`, 9, 128 + n.
        kind: class of the error.
        message: what is wrong; `hint` what can be done, `file` and `tensor` the ones concerned.
        trace: traceback, of a bug.
        digest: of the model.
        nbytes: bytes of its weights.
        family: `model_type` of its table.
        head: its class.
        source_format: container and dialect of the source.
        target_format: format of the output.
        key: what the output was made of (`items.key_of`); empty where the worker does not know it.
        stamp: of the output's manifest (`kept.stamp_of`).
        result: what a verb says besides, as JSON.
        seconds: that it took.
        worker: host and process.
    """

    state: str
    code: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    file: str = ""
    tensor: str = ""
    trace: str = ""
    digest: str = ""
    nbytes: int = 0
    family: str = ""
    head: str = ""
    source_format: str = ""
    target_format: str = ""
    key: str = ""
    stamp: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything, for a pipe."""
        return asdict(self)


def lost(why: str) -> Outcome:
    """The outcome of an item whose worker died."""
    return Outcome(FAILED, LOST, "LostWorker", why, "Look for memory that ran out (dmesg), or a machine that went.")


def what_is_wrong(src: str, failure: Failure) -> str:
    """What a failure is, with the tensor and the file; the file's folder is the source's where nothing else is said."""
    file = "" if failure.file == src else failure.file.removeprefix(f"{src.rstrip('/')}/")
    return ": ".join(filter(None, (file, failure.tensor, failure.message)))
