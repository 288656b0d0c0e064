"""Calls to the Hub that failed for a while, made again: what it asks to wait, or a little, a bounded number of times.

huggingface_hub repeats uploads and, from version 1.2, waits as the Hub's `RateLimit` header says; before that, and for
the calls that look something up or commit, nobody does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import errors

from bertconv.errors import BertconvError
from bertconv.source.hub_errors import CONFLICTS, FAILURES, status_of
from bertconv.source.retry import PASSING, retry_after

Answer = TypeVar("Answer")

TRIES = 3
"""How often a call is made."""
LONGEST = 330.0
"""Most seconds to wait for the next one: the Hub counts requests over five minutes."""
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")
"""Seconds until requests are counted anew: draft-ietf-httpapi-ratelimit-headers."""


def patiently(call: Callable[[], Answer]) -> Answer:
    """What a call gives that may be made again without harm; its last error where it does not get through."""
    number = 0
    while True:
        number += 1
        try:
            return call()
        except BertconvError:  # which is an error of values or of the system too
            raise
        except FAILURES as error:
            wait(error, number)


def wait(error: Exception, number: int) -> None:
    """Wait as long as an error asks for before the next try; raise it again where there is none, or it cannot help.

    Args:
        error: of the call.
        number: how many times it was made.
    """
    cause = error.__cause__ if isinstance(error, RuntimeError) else None
    seconds = _seconds(cause if isinstance(cause, FAILURES) else error, number)
    if seconds is None or seconds > LONGEST or number >= TRIES:
        raise error
    time.sleep(seconds)


def is_open(error: Exception) -> bool:
    """Whether what was asked for may have been done all the same: nobody answered, or the branch is another by now."""
    status = status_of(error)
    return status in CONFLICTS or status >= 500 or _is_network(error)


def is_down(error: BaseException | None) -> bool:
    """Whether nobody answered, or the answer may be another a moment later."""
    return isinstance(error, Exception) and (status_of(error) in PASSING or _is_network(error))


def _seconds(error: Exception, number: int) -> float | None:
    little = 2.0 ** (number - 1)
    if not isinstance(error, errors.HfHubHTTPError) or error.response is None:
        return little if _is_network(error) else None
    if status_of(error) not in PASSING:
        return None
    headers = error.response.headers
    asked = retry_after(headers.get("Retry-After", ""))
    reset = _RESET.search(headers.get("RateLimit", ""))
    return float(reset[1]) if asked is None and reset else little if asked is None else asked


def _is_network(error: Exception) -> bool:
    """Whether the connection failed, in any of huggingface_hub's three HTTP libraries; not a disk, and not offline."""
    known = (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.LocalTokenNotFoundError, FileNotFoundError,
             PermissionError)  # fmt: skip
    network = (OSError, getattr(errors, "HTTPError", OSError))
    return isinstance(error, network) and not isinstance(error, known)
