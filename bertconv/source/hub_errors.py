"""What huggingface_hub raises, as one sentence of what is wrong and one of what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection
from json import JSONDecodeError

from huggingface_hub import constants, errors

from bertconv.errors import HubError
from bertconv.source.refusals import NO_MODEL
from bertconv.text import some

FAILURES: tuple[type[Exception], ...] = (
    OSError,
    # The HTTP library's own base class: requests, httpx or httpx2, as the version of huggingface_hub has it.
    getattr(errors, "HTTPError", OSError),
    getattr(errors, "XetDownloadError", OSError),
    # What a proxy's or a mirror's answer leads to when it is not the Hub's JSON.
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
)
"""Every failure of a call to huggingface_hub."""

_DISK = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
     errno.ENAMETOOLONG, errno.EIO, errno.EFBIG)
)  # fmt: skip
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_NOT_HERE = "is no file or folder here, and "
_SECRET = re.compile(r"(?i)(bearer\s+)\S+|\bhf_\w{8,}|(?<=\w)\?[^\s'\"]+")
"""Tokens, and the queries of addresses, in which the Hub hands out rights of their own."""
CONFLICTS = frozenset((409, 412))
"""What the Hub answers when a branch is no longer at the commit on which another one is to be made."""


def explain(
    error: Exception, repository: str, revision: str | None, *, offline: bool, files: Collection[str] = ()
) -> HubError:
    """The error to raise for one that huggingface_hub raised, with the files that it did not give."""
    if isinstance(error, errors.LocalEntryNotFoundError) and not offline and isinstance(error.__cause__, FAILURES):
        # It looked into the cache after the network had failed; that is what the user needs to know.
        error = error.__cause__
    problem, hint = (
        _about_repository(error, repository, revision)
        or _about_cache(error)
        or _about_length(error)
        or _about_network(error, known=bool(files))
    )
    repository_at = f"{repository}@{revision}" if revision else repository
    return HubError(problem, hint=hint, file=f"{repository_at}: {some(files, 3)}" if files else repository_at)


def explain_write(error: Exception, repository: str, revision: str | None, *, file: str = "") -> HubError:
    """The error to raise for one that huggingface_hub raised when something was to be made or sent."""
    sent = re.match(r"Error while uploading '(.+)' to the Hub", str(error)) if error.__cause__ else None
    if sent is not None:
        error, file = error.__cause__ if isinstance(error.__cause__, FAILURES) else error, sent[1]
    place = f"{repository}@{revision}" if revision else repository
    place = f"{place}: {file}" if file else place
    problem, hint = _about_writing(error, repository) or ("", "")
    if problem:
        return HubError(problem, hint=hint, file=place)
    found = explain(error, repository, revision, offline=False, files=(file,) if file else ())
    return HubError(found.message.removeprefix(_NOT_HERE), hint=found.hint, file=place)


def status_of(error: BaseException | None) -> int:
    """The HTTP status that the Hub answered; 0 where it did not answer."""
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return error.response.status_code
    return 0


def _about_writing(error: Exception, repository: str) -> tuple[str, str] | None:
    status = status_of(error)
    own_rules = isinstance(error, errors.GatedRepoError | errors.DisabledRepoError)
    owner = repository.partition("/")[0]
    answers = (
        (
            isinstance(error, UnicodeEncodeError) or "header value" in str(error),
            "the token holds characters that no token has.",
            "Copy it again: without spaces and ends of lines.",
        ),
        (
            isinstance(error, errors.LocalTokenNotFoundError),
            "needs an account, and there is no token.",
            f"To write, {_LOG_IN}.",
        ),
        (
            status in CONFLICTS,
            f"somebody else changed the branch meanwhile, so nothing was committed (HTTP {status}).",
            "Look at what is new there and run this again, or open a pull request with --create-pr.",
        ),
        (
            isinstance(error, errors.RepositoryNotFoundError) and not own_rules,
            "there is no such repository on the Hub, or this token may not see it.",
            f"Check the name; for a private repository {_LOG_IN}.",
        ),
        (status == 401 and not own_rules, "the Hub wants a valid token for that (HTTP 401).", f"To write, {_LOG_IN}."),
        (
            status == 403 and not own_rules,
            f"this token may not write there (HTTP {status}).",
            f"Take one with write access to {owner}, or open a pull request with --create-pr.",
        ),
        (
            status in {400, 413, 422},
            f"the Hub refused what was sent (HTTP {status}): {_first_line(error)}.",
            "Check names and sizes of the files.",
        ),
        (
            status == 0 and isinstance(error, ValueError) and not isinstance(error, JSONDecodeError),
            f"cannot be sent: {_first_line(error)}.",
            "Check names and contents of the files.",
        ),
    )
    return next(((problem, hint) for applies, problem, hint in answers if applies), None)


def _about_repository(error: Exception, repository: str, revision: str | None) -> tuple[str, str] | None:
    # In this order: a gated repository is also one that is not found, an entry in the cache also an entry.
    answers: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
        (
            errors.GatedRepoError,
            "is gated: its authors decide who may download it.",
            f"Ask for access at {constants.ENDPOINT}/{repository}, then {_LOG_IN}.",
        ),
        (errors.DisabledRepoError, "was disabled on the Hub.", "Choose another repository."),
        (
            errors.RepositoryNotFoundError,
            f"{NO_MODEL}: there is no such repository on the Hub, or it is private, and no such file or folder here.",
            f"Check the name; for a private repository {_LOG_IN}.",
        ),
        (
            errors.RevisionNotFoundError,
            f"there is no revision {revision or 'main'!r}.",
            "Give a branch, a tag or a whole commit hash.",
        ),
        (
            (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled),
            "is no file or folder here and not in the Hub cache, and the network is not to be used.",
            "Unset HF_HUB_OFFLINE, or download it once while the network is there.",
        ),
        (errors.EntryNotFoundError, "a file that it lists is not there.", "Try again; it may be changing."),
    )
    return next(((problem, hint) for kind, problem, hint in answers if isinstance(error, kind)), None)


def _about_cache(error: Exception) -> tuple[str, str] | None:
    if isinstance(error, OSError) and error.errno in _DISK:
        return (
            f"the Hub cache cannot be read or written: {error.strerror}.",
            "Choose a cache folder with room and permission (HF_HOME, HF_HUB_CACHE).",
        )
    return None


def _about_length(error: Exception) -> tuple[str, str] | None:
    # huggingface_hub's only check of content; it has no class of its own.
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return (
            f"the Hub sent more or fewer bytes than it said: {_first_line(error)}.",
            # Before its version 2 it goes on from there, whatever the file holds.
            "Try again; if that does not help, delete `blobs/*.incomplete` in the repository's folder of the cache.",
        )
    return None


def _about_network(error: Exception, *, known: bool) -> tuple[str, str]:
    if isinstance(error, errors.HfHubHTTPError):
        return _about_status(status_of(error))
    # Three HTTP libraries, no common base class, but these names.
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "the Hub did not answer in time.", "Try again; HF_HUB_DOWNLOAD_TIMEOUT sets the seconds to wait."
    nowhere = "" if known else _NOT_HERE
    return (
        f"{nowhere}the Hub did not give it: {type(error).__name__}: {_first_line(error)}.",
        "Check the network, the proxy and HF_ENDPOINT; HF_HUB_OFFLINE=1 takes what is in the cache.",
    )


def _about_status(status: int) -> tuple[str, str]:
    if status in {401, 403}:
        return f"the Hub gives no access (HTTP {status}).", f"Check the token: {_LOG_IN}."
    if status == 429:
        return "the Hub takes no more requests for now (HTTP 429).", f"Wait a while, or {_LOG_IN}."
    if status >= 500:
        return f"the Hub is out of order (HTTP {status}).", "Try again later, or take the cache: HF_HUB_OFFLINE=1."
    return f"the Hub refused the request (HTTP {status}).", "Check the name, the revision and HF_ENDPOINT."


def _first_line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return _SECRET.sub(lambda found: f"{found[1] or ''}...", text)[:200].rstrip(".")
