"""Addresses of checkpoints: which schemes are known, what a path in a store is, and what may be shown of them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from bertconv.errors import RequestError
from bertconv.text import public

_QUERY = re.compile(r"(?<=[\w/])\?[^\s'\"<>]+|(?<=://)[^\s/'\"<>@]+@")
"""Queries and users in addresses that stand in a text: both may hold rights."""

HTTP = ("http", "https")
SCHEMES = {
    "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "", "https": "", "hf": "", "memory": "",
}  # fmt: skip
"""Scheme -> the package that fsspec needs for it beside what our extra `remote` installs with it."""


def scheme_of(url: str) -> str:
    """The scheme of an address.

    Raises:
        RequestError: one that is not read, or several addresses in one.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        hint = f"Give a path, or an address of {', '.join(f'{one}://' for one in SCHEMES)}."
        if scheme == "file":
            hint = "Give the path without file://."
        raise RequestError(f"{scheme}:// is no scheme that is read.", hint=hint, file=public(url))
    _check_host(scheme, url)
    return scheme


def _check_host(scheme: str, url: str) -> None:
    """Refuse an address without a place in it: what the libraries make of that is not always an error of a request."""
    try:
        parts = urlsplit(url)
        is_none = parts.hostname is None or (scheme in HTTP and parts.port == 0)
    except ValueError:  # brackets without an end, a port that is none
        is_none = scheme in HTTP or not url.partition("://")[2].strip("/")
    if is_none and scheme != "memory":
        raise RequestError(
            "is no address: the host, bucket or repository in it is missing or none.",
            hint="Give one like https://host/folder, s3://bucket/folder, hf://org/name.", file=scheme + "://...",
        )  # fmt: skip


def without_secrets(text: str) -> str:
    """A text of somebody else's, its addresses without users and queries."""
    return _QUERY.sub(lambda found: "..." if found[0].startswith("?") else "", text)


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The file system that fsspec has for an address, and the path in it.

    Args:
        url: the address. Nothing but its first scheme is looked at: `a::b` chains nothing.
        options: for the file system.

    Raises:
        RequestError: a scheme that is not read, an address of no place, or a package is missing.
    """
    scheme = scheme_of(url)
    if scheme == "hf":
        _check_repository(url)
    package = SCHEMES[scheme]
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
        if scheme == "hf":
            from bertconv.source import hub_budget  # its libraries are loaded by now

            hub_budget.attach()
        return kind(**_settings(scheme), **options), str(kind._strip_protocol(url))  # noqa: SLF001  (fsspec's own way)
    except ImportError as error:
        raise RequestError(
            f"{scheme}:// needs {'fsspec' if package in ('', 's3fs') else package}.",
            hint="pip install 'bertconv[remote]'" + (f" {package}" if package not in ("", "s3fs") else ""),
            file=public(url),
        ) from error


def _check_repository(url: str) -> None:
    """Refuse an address of the Hub that is of no repository: its library gives it up with errors of its own."""
    if len([part for part in url.partition("://")[2].split("/") if part]) < 2:
        raise RequestError(
            "names no repository of the Hub.",
            hint="Write hf://organisation/name; a filter, for `bertconv fleet plan`, is hf://models?author=NAME.",
            file=public(url),
        )


def _settings(scheme: str) -> dict[str, Any]:
    """What a file system is made with: lists of files are never taken from what was listed before."""
    if scheme == "memory":
        return {}
    if scheme in HTTP:
        from aiohttp import ClientTimeout

        waits = ClientTimeout(total=None, sock_connect=30, sock_read=60)
        # Proxies are those of the environment, as for every other program.
        return {"client_kwargs": {"timeout": waits, "trust_env": True}, "skip_instance_cache": True}
    return {"use_listings_cache": False}
