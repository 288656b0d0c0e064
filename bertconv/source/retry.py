"""What the answers of servers say about asking again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP statuses that may be others a moment later."""


def retry_after(value: str) -> float | None:
    """Seconds of a `Retry-After` header, which has these or a date; None for anything else."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
