"""The rows of a report, from the ledgers in a fleet's folder; what the ledgers do not say, the list's line did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bertconv.errors import RequestError
from bertconv.fleet import ledger
from bertconv.fleet.report import Row


def rows_of(out: str | Path, state: str | Path | None = None) -> Iterator[Row]:
    """What became of each item of a fleet, while it may be running.

    Args:
        out: the folder of its outputs.
        state: the folder with its ledgers, where that is another one.

    Raises:
        RequestError: no fleet has run there.
    """
    folder = Path(state) if state is not None else Path(out) / ledger.FOLDER
    found = ledger.read_ledgers(folder) if folder.is_dir() else []
    if not found:
        raise RequestError(
            "is the folder of no fleet: there is no ledger.",
            hint="Give the folder of outputs that `bertconv fleet run` was given.", file=str(out),
        )  # fmt: skip
    return map(_row, found)


def _row(one: ledger.Row) -> Row:
    return Row(
        src=one.src, dst=one.dst, verb=one.verb, options=json.loads(one.options), state=one.state, code=one.code,
        kind=one.kind, message=_message(one), hint=one.hint, trace=one.trace, digest=one.digest,
        size=one.nbytes or one.size, family=one.family, head=one.head, format=one.source_format, attempts=one.attempts,
        seconds=one.seconds, finished=one.finished or None,
    )  # fmt: skip


def _message(one: ledger.Row) -> str:
    """What is wrong, and with which tensor of which file."""
    place = [part for part in (one.file if one.file != one.src else "", one.tensor) if part]
    return ": ".join((*place, one.message))
