"""What the Hub still allows, by the header `RateLimit` of its answers: one account of it for all processes of a driver.

The Hub counts the requests of a user over five minutes. Whoever waits until it refuses loses a try, and many workers
lose them together; so each of them looks here before it asks, and writes here what it was told. A file holds the
account, whose name processes inherit in their environment. huggingface_hub before 1.0 has no place for that; there,
waiting begins with the first refusal (`hub_patience`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

from bertconv.source.hub_account import ENVIRONMENT
from bertconv.source.hub_patience import LONGEST

_MOST_BYTES = 4096
_SLACK = 5.0
"""Seconds by which the end of one window differs from answer to answer."""
_HEADER = re.compile(r'"(?P<kind>\w+)"\s*;\s*r\s*=\s*(?P<left>\d{1,9})\s*;\s*t\s*=\s*(?P<seconds>\d{1,6})', re.ASCII)
"""As draft-ietf-httpapi-ratelimit-headers-09 has it."""


class Budget:
    """How many requests of each kind are left, and until when.

    Args:
        path: the file that processes share; where it cannot be opened, as on another machine, the account is this
            process's own.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, list[float]] = {}
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file: int | None = os.open(path, flags, 0o600)
        except OSError:
            self._file = None

    def take(self, kind: str) -> float:
        """Seconds to wait before one more request of a kind; 0 where it may be made, and is counted."""
        now = time.time()
        with self._account() as account:
            left, until = account.get(kind, (0, 0))
            if until <= now:
                return 0.0
            if left <= 0:
                return until - now
            account[kind] = [left - 1, until]
            return 0.0

    def note(self, kind: str, left: int, seconds: float) -> None:
        """What an answer said: so many are left for so many seconds."""
        now = time.time()
        with self._account() as account:
            before, until = account.get(kind, (0, 0))
            is_same = until > now and now + seconds <= until + _SLACK
            # Requests that are on their way are counted here already and there not yet.
            account[kind] = [min(left, before), until] if is_same else [left, now + seconds]

    def before(self, request: Any) -> None:
        """Called by the HTTP library before it sends a request: wait until the Hub will answer it."""
        if not _is_hubs(request):
            return
        kind = _kind(request.url.path)
        while 0 < (seconds := self.take(kind)) <= LONGEST:
            time.sleep(seconds)

    def after(self, response: Any) -> None:
        """Called by the HTTP library with every answer."""
        found = _HEADER.search(response.headers.get("RateLimit", "")) if _is_hubs(response.request) else None
        if found is not None:
            self.note(found["kind"], int(found["left"]), float(found["seconds"]))

    @contextmanager
    def _account(self) -> Iterator[dict[str, list[float]]]:
        """Kind -> how many are left and until when; changes are kept."""
        with self._lock:
            if self._file is None:
                yield self._own
                return
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                account = _parsed(os.pread(self._file, _MOST_BYTES, 0))
                before = json.dumps(account)
                yield account
                if (after := json.dumps(account)) != before:
                    # Blanks behind it: what is read is never half of an older account.
                    os.pwrite(self._file, after.encode().ljust(_MOST_BYTES), 0)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


def attach() -> None:
    """See to it that huggingface_hub's HTTP client looks into the account; nothing where no driver keeps one."""
    path = os.environ.get(ENVIRONMENT, "")
    client: Any = get_session() if path else None
    hooks = getattr(client, "event_hooks", None)
    if hooks is None:
        return
    budget = _budget(path)
    if budget.before not in hooks["request"]:
        client.event_hooks = {
            "request": [*hooks["request"], budget.before], "response": [*hooks["response"], budget.after],
        }  # fmt: skip


@cache
def _budget(path: str) -> Budget:
    return Budget(Path(path))


def _is_hubs(request: Any) -> bool:
    """Whether a request goes to the Hub itself, and not to where it keeps large files."""
    return str(request.url).startswith(f"{constants.ENDPOINT}/")


def _kind(path: str) -> str:
    """By what the Hub counts a request."""
    return "api" if path.startswith("/api/") else "resolvers" if "/resolve/" in path else "pages"


def _parsed(content: bytes) -> dict[str, list[float]]:
    """An account; an empty one for what is none."""
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    sound = isinstance(found, dict) and all(
        isinstance(one, list) and len(one) == 2 and all(type(number) in (int, float) for number in one)
        for one in found.values()
    )
    return found if sound else {}
