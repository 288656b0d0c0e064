"""A web server as a store: every answer is looked at, since servers differ in what they make of a range.

The session is fsspec's, and so are its connections and its thread; redirects go to web addresses alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from bertconv.errors import HubError, UnsafeCheckpoint
from bertconv.source.remote.patience import Passing, patiently
from bertconv.source.remote.store import Facts, Listed, changed, facts_of
from bertconv.source.remote.urls import HTTP
from bertconv.text import public

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_EMPTY = re.compile(r"bytes \*/(\d{1,18})")
_PAGE_BYTES = 4_000_000
"""Most bytes of a page of links that are read."""
WHOLE_BYTES = 64 << 20
"""Largest file that is fetched whole, and kept, from a server that does not give parts."""
_HTML = "text/html"
_TOLD = ("ETag", "Content-MD5", "Last-Modified")
"""Headers by which a file is known from another one."""


class HttpStore:
    """A web server.

    Args:
        filesystem: fsspec's of it.
    """

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem
        self._whole: tuple[str, bytearray] = ("", bytearray())

    def facts(self, path: str) -> Facts:
        """As `Store.facts`."""
        facts: Facts = self._call(self._facts, path)[0]
        return facts

    def probe(self, path: str) -> Facts | None:
        """The facts of a file that may be there; a page about its not being there is none."""
        try:
            facts, kind = self._call(self._facts, path)
        except FileNotFoundError:
            return None
        return None if kind == _HTML else facts

    def read(self, path: str, start: int, end: int, facts: Facts) -> bytes | bytearray:
        """As `Store.read`."""
        if start >= end:
            return b""
        url, whole = self._whole
        if url == path:
            return whole[start:end]
        found: bytearray = self._call(self._read, path, start, end, facts)
        return found

    def list(self, path: str) -> list[Listed]:
        """As `Store.list`: what the links of a page lead to that lies right below it; nothing where there is none."""
        address = path.rstrip("/") + "/"
        final, text = self._call(self._page, address)
        links = _Links()
        links.feed(text)
        found: dict[str, Listed] = {}
        for link in links.found:
            whole = urlsplit(urljoin(final, link))
            name = _below(final, urlunsplit((whole.scheme, whole.netloc, whole.path, "", "")))
            if name and not whole.query:
                entry = Listed(unquote(name.rstrip("/")), name.endswith("/"))
                found[entry.name] = entry
        return list(found.values())

    def inside(self, path: str, name: str) -> str:
        """As `Store.inside`."""
        return f"{path.rstrip('/')}/{quote(name)}"

    def _call(self, function: Any, *arguments: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self.filesystem.loop, function, *arguments)

    async def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        session = await self.filesystem.set_session()
        plain = {"Accept-Encoding": "identity", **headers}
        return session.get(self.filesystem.encode_url(url), headers=plain)

    async def _facts(self, url: str) -> tuple[Facts, str]:
        async with await self._get(url, {"Range": "bytes=0-0"}) as answer:
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            if answer.status == 416 and (empty := _EMPTY.fullmatch(answer.headers.get("Content-Range", ""))):
                return _facts_of(answer, int(empty[1])), kind
            _check(answer, url)
            return _facts_of(answer, _size_of(answer)), kind

    async def _read(self, url: str, start: int, end: int, facts: Facts) -> bytearray:
        async with await self._get(url, {"Range": f"bytes={start}-{end - 1}"}) as answer:
            _check(answer, url)
            if answer.status != 206:
                return await self._read_whole(answer, url, facts, start, end)
            size = _size_of(answer)
            if facts.differs(_facts_of(answer, size)):
                raise changed(public(url))
            given = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if given is None or (int(given[1]), int(given[2])) != (start, end - 1):
                raise Passing("gave another part of the file than it was asked for")
            return await _body(answer, end - start)

    async def _read_whole(self, answer: Any, url: str, facts: Facts, start: int, end: int) -> bytearray:
        if facts.differs(_facts_of(answer, _size_of(answer))):
            raise changed(public(url))
        if facts.size > WHOLE_BYTES:
            raise HubError(
                "gives the file as a whole only, not in parts.",
                hint="Download it, and give the path of the copy.", file=public(url),
            )  # fmt: skip
        whole = await _body(answer, facts.size)
        self._whole = (url, whole)
        return whole[start:end]

    async def _page(self, url: str) -> tuple[str, str]:
        """The address of a page after its redirects, and its beginning; no text where it is no page."""
        async with await self._get(url, {}) as answer:
            _check(answer, url)
            if answer.headers.get("Content-Type", _HTML).partition(";")[0].strip() != _HTML:
                return url, ""
            text = bytearray()
            async for piece in answer.content.iter_any():
                text += piece
                if len(text) > _PAGE_BYTES:
                    break
            final = answer.url
            return str(final.with_query(None).with_fragment(None)), text.decode(errors="replace")


def _check(answer: Any, url: str) -> None:
    """Refuse what is no answer to a request for a file, and one that came over a way that was not asked for."""
    if answer.status == 404:
        raise FileNotFoundError(public(url))
    scheme = answer.url.scheme
    if scheme not in HTTP or (scheme == "http" and url.lower().startswith("https:")):
        raise UnsafeCheckpoint(
            f"leads from https:// to {scheme}://, where anybody on the way can change it.",
            hint="Give the address that it leads to, if you trust that.", file=public(url),
        )  # fmt: skip
    answer.raise_for_status()
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise Passing("gives the file compressed, which was not asked for")


def _size_of(answer: Any) -> int:
    """The length of the whole file."""
    if answer.status == 206:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None:
            raise Passing("does not say which part of the file it gives, or how long that is")
        return int(found[3])
    length = answer.headers.get("Content-Length", "")
    if not re.fullmatch(r"\d{1,18}", length):
        raise Passing("does not say how long the file is")
    return int(length)


def _facts_of(answer: Any, size: int) -> Facts:
    said = {name: answer.headers.get(name) for name in _TOLD}  # whose names are found however they are spelled
    return facts_of({**said, "size": size})


async def _body(answer: Any, length: int) -> bytearray:
    """The body of an answer, which must be of this length; never more than that is kept."""
    buffer, done = bytearray(length), 0
    async for piece in answer.content.iter_any():
        if done + len(piece) > length:
            raise Passing(f"gave more than the {length:,} bytes that were asked for")
        buffer[done : done + len(piece)] = piece
        done += len(piece)
    if done != length:
        raise Passing(f"gave {done:,} bytes where {length:,} were asked for")
    return buffer


class _Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += (value for name, value in attrs if name == "href" and value)


def _below(folder: str, link: str) -> str:
    """The name of what lies right below a folder, with a `/` where it is a folder too; empty for anything else."""
    if not link.startswith(folder):
        return ""
    rest = link.removeprefix(folder)
    return rest if "/" not in rest[:-1] else ""


def known_names(store: HttpStore, path: str, names: Iterable[str]) -> dict[str, Facts]:
    """Those of some names that are in a folder which the server does not list."""
    listed = list(names)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: patiently(lambda: store.probe(store.inside(path, name))), listed)
        return {name: facts for name, facts in zip(listed, found, strict=True) if facts is not None}
