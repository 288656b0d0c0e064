"""What huggingface_hub raises, as one sentence of what is wrong and one of what to do."""

from __future__ import annotations

import errno
from collections.abc import Collection

from huggingface_hub import constants, errors

from bertconv.errors import HubError
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
            "there is no such repository on the Hub, or it is private, and no such file or folder here.",
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
            f"the Hub cache cannot be written: {error.strerror}.",
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
        return _about_status(error.response.status_code if error.response is not None else 0)
    # Three HTTP libraries, no common base class, but these names.
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "the Hub did not answer in time.", "Try again; HF_HUB_DOWNLOAD_TIMEOUT sets the seconds to wait."
    nowhere = "" if known else "is no file or folder here, and "
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
    return next(iter(str(error).splitlines()), "")[:200].rstrip(".")
