"""Calls over a network that failed for a while, made again; and every failure of one as an error of ours."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bertconv import progress
from bertconv.errors import BertconvError, HubError
from bertconv.source.remote.urls import without_secrets
from bertconv.source.retry import PASSING, retry_after

Answer = TypeVar("Answer")

TRIES = 5
"""How often a call is made."""
FIRST_WAIT = 0.4
"""Seconds before the second try, about; twice as many before each other one."""
LONGEST = 120.0
"""Most seconds that a store's own wish to wait is heard for."""
GLANCE = 0.2
"""Seconds after which a wait looks whether a signal has come."""
_LIBRARIES = (
    ("aiohttp", "ClientError"), ("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"), ("azure.core.exceptions", "AzureError"), ("huggingface_hub.errors", "HTTPError"),
    ("google.auth.exceptions", "GoogleAuthError"), ("huggingface_hub.errors", "HfHubHTTPError"),
)  # fmt: skip
"""Where the libraries below fsspec have their errors that are no OSError; one that is not loaded raised none."""


_NO_ADDRESS = ("InvalidU", "ParamValidation")
"""In the names of errors of libraries that make no request for such an address."""


class Passing(OSError):
    """What went wrong in an answer that did arrive, such as its length: another may be right."""


def failures() -> tuple[type[Exception], ...]:
    """Every failure of a call to a store."""
    found = [getattr(sys.modules[module], name, OSError) for module, name in _LIBRARIES if module in sys.modules]
    return (OSError, *found)


def patiently(call: Callable[[], Answer], stopped: Callable[[], bool] = lambda: False) -> Answer:
    """What a call gives that may be made again without harm; its last error where it does not get through.

    Args:
        call: one request.
        stopped: whether nobody wants the answer any more.
    """
    number = 0
    while True:
        number += 1
        try:
            return call()
        except BertconvError:  # which are errors of the system too
            raise
        except failures() as error:
            seconds = _wait_after(error, number)
            if seconds is None or number >= TRIES or not _waited(seconds, stopped):
                raise


@contextmanager
def explained(address: str) -> Iterator[None]:
    """HubError, with the address, for every failure of a store."""
    try:
        yield
    except BertconvError:
        raise
    except failures() as error:
        raise explain(error, address) from error


def explain(error: Exception, address: str) -> HubError:
    """The error to raise for one of a store's, with an address that may be shown."""
    problem, hint = _about(error)
    return HubError(problem, hint=hint, file=address)


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 0 where nobody answered, or the library does not tell."""
    found: Any = getattr(error, "status", None) or getattr(error, "code", None)
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore's
        found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif answer is not None:
        found = getattr(answer, "status_code", found)
    cause = error.__cause__
    if not isinstance(found, int) and isinstance(getattr(cause, "response", None), dict) and cause is not error:
        return status_of(cause) if isinstance(cause, Exception) else 0  # s3fs says it as an error of the system
    return found if isinstance(found, int) else 0


def _about(error: Exception) -> tuple[str, str]:
    status, kind = status_of(error), type(error).__name__
    number = f" (HTTP {status})" if status else ""
    is_missing = isinstance(error, FileNotFoundError) or status in {404, 410} or "NotFound" in kind
    is_refused = isinstance(error, PermissionError) or status in {401, 403} or "Credential" in kind or "Auth" in kind
    again = "Check the network, and try again later."
    answers = (
        (
            is_missing,
            "there is no such file or folder.",
            "Check the address; where it needs an account, check the credentials in the environment too.",
        ),
        (is_refused, f"gives no access{number}.", "Check the credentials in the environment, and what they may read."),
        (
            status == 429,
            "takes no more requests for now (HTTP 429).",
            "Wait a while, or let fewer workers read at a time.",
        ),
        (any(word in kind for word in _NO_ADDRESS), "is no address that can be asked for.", "Check the address."),
        (status >= 500, f"is out of order{number}.", "Try again later."),
        (status >= 400, f"refuses the request{number}.", "Check the address."),
        (isinstance(error, Passing), f"{without_secrets(str(error))}.", "Try again later."),
        (isinstance(error, TimeoutError) or "Timeout" in kind, "did not answer in time.", again),
    )
    known = next(((problem, hint) for holds, problem, hint in answers if holds), None)
    if known is not None:
        return known
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    text = without_secrets(text)[:200].rstrip(".")
    return f"did not give it: {kind}{': ' if text else ''}{text}.", again


def _is_final(error: Exception) -> bool:
    """Whether another try cannot help."""
    if status := status_of(error):
        return status not in PASSING
    kind = type(error).__name__
    known = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)
    return known or any(word in kind for word in ("Credential", "Redirect", *_NO_ADDRESS))


def _wait_after(error: Exception, number: int) -> float | None:
    """Seconds until the next try; None where another one cannot help."""
    if _is_final(error):
        return None
    little: float = FIRST_WAIT * 2 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311  (many workers, no secret)
    headers: Any = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None) or {}
    asked = retry_after(str(headers.get("Retry-After", ""))) if hasattr(headers, "get") else None
    if asked is not None and asked > LONGEST:
        return None
    return little if asked is None else max(asked, little)


def _waited(seconds: float, stopped: Callable[[], bool]) -> bool:
    """Wait, unless a signal comes or nobody wants the answer any more."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if progress.stopping or stopped():
            return False
        time.sleep(min(left, GLANCE))
    return not (progress.stopping or stopped())
