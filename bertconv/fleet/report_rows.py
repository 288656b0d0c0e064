"""The rows of a report, from the ledgers in a fleet's folder, or where these are lost from the outputs' manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bertconv.fleet import ledger
from bertconv.fleet.outcome import what_is_wrong
from bertconv.fleet.report import Row
from bertconv.fleet.status import status_of
from bertconv.text import public


def rows_of(out: str, state: Path) -> Iterator[Row]:
    """What became of each item of a fleet, while it may be running.

    Args:
        out: the folder of its outputs.
        state: the folder with its ledgers.

    Raises:
        RequestError: there is neither a ledger nor an output.
    """
    return map(_row, status_of(out, state).rows)


def _row(one: ledger.Row) -> Row:
    return Row(
        src=public(one.src), dst=public(one.dst), verb=one.verb, options=json.loads(one.options), state=one.state,
        code=one.code, kind=one.kind, message=what_is_wrong(public(one.src), one), hint=one.hint, trace=one.trace,
        digest=one.digest, size=one.nbytes or one.size, family=one.family, head=one.head, format=one.source_format,
        attempts=one.attempts, seconds=one.seconds, finished=one.finished or None,
    )  # fmt: skip
