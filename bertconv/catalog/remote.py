"""A prefix of an object store, or a folder of a web server or the Hub, as a tree of outputs; read through fsspec."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from bertconv.catalog.trees import UNSETTLED, Scan, Seen, unfit
from bertconv.errors import HubError, RequestError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.source.remote.http import HttpStore
from bertconv.source.remote.patience import explained, patiently
from bertconv.source.remote.store import Facts, FsspecStore, Store, facts_of, files_below
from bertconv.source.remote.urls import HTTP, filesystem, scheme_of
from bertconv.text import public

AT_ONCE = 16
"""Manifests that are asked for at a time: each is little, and the way to it is long."""
_AHEAD = 4 * AT_ONCE

MOST_FOLDERS = 100_000
"""How many pages of a web server are asked for: each is an answer to wait for, and some servers have no end."""
MOST_DEPTH = 20

Answer = TypeVar("Answer")


class RemoteTree:
    """What lies below an address.

    Args:
        url: of a folder, or of a prefix that ends where a name does.

    Raises:
        RequestError: a scheme that is not read, a page of a web server, or a package is missing.
    """

    def __init__(self, url: str) -> None:
        self._root = public(url)
        if scheme_of(url) in HTTP and "?" in url:
            # behind it every name would lead to the same page, and so on without end
            raise RequestError(
                "has a query, so it is the address of a page and not of a folder.",
                hint="Give the address of a folder.", file=self._root,
            )  # fmt: skip
        files, path = filesystem(url)
        self._path = path.rstrip("/")
        self._is_http = scheme_of(url) in HTTP
        self._files = files
        self._store: Store = HttpStore(files) if self._is_http else FsspecStore(files)
        self._facts: dict[str, Facts] = {}
        self._paths: dict[str, str] = {}

    @property
    def root(self) -> str:
        """Its address, without user, password and query."""
        return self._root

    def scan(self) -> Scan:
        """Find its manifests; none is opened."""
        found: list[Seen] = []
        notes: list[str] = []
        unread: list[str] = []
        for place, path, facts in self._folders(notes, unread) if self._is_http else self._listed():
            if any(part.startswith(".") for part in place.removeprefix(self._root).split("/")):
                continue
            if problem := unfit(place):
                notes.append(problem)
                continue
            self._facts[place], self._paths[place] = facts, path
            found.append(Seen(place, facts.stamp or UNSETTLED, facts.size))
        return Scan(tuple(sorted(found)), tuple(unread), self._root not in unread, tuple(notes))

    def together(self, work: Callable[[Seen], Answer], wanted: Iterable[Seen]) -> Iterator[Answer]:
        """What work gives for each, in order, several at a time."""
        rest = iter(wanted)
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bertconv-catalog")
        try:
            waiting: deque[Future[Answer]] = deque(pool.submit(work, seen) for seen in islice(rest, _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, seen) for seen in islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def manifest(self, seen: Seen) -> bytes:
        """A manifest, or nothing where it is too large; HubError where it cannot be read."""
        facts = self._facts[seen.place]
        if facts.size > MANIFEST_BYTES:
            return b""
        return self._read(self._paths[seen.place], facts, f"{seen.place}/{MANIFEST}")

    def read(self, place: str, name: str, size: int) -> bytes:
        """A file beside a manifest; nothing where it has another size."""
        path = self._store.inside(self._paths[place].removesuffix(MANIFEST), name)
        address = f"{place}/{name}"
        with explained(address):
            facts = patiently(lambda: self._store.facts(path))
        return self._read(path, facts, address) if facts.size == size else b""

    def _read(self, path: str, facts: Facts, address: str) -> bytes:
        with explained(address):
            return bytes(patiently(lambda: self._store.read(path, 0, facts.size, facts)))

    def _listed(self) -> Iterator[tuple[str, str, Facts]]:
        """Place, path and facts of every manifest, from the store's list of everything below a prefix."""
        with explained(self._root):
            for name, info in patiently(lambda: files_below(self._files, self._path)).items():
                above, slash, last = name.rpartition("/")
                if last == MANIFEST:
                    yield f"{self._root}{slash}{above}", f"{self._path}/{name}", facts_of(info)

    def _folders(self, notes: list[str], unread: list[str]) -> Iterator[tuple[str, str, Facts]]:
        """The same of a web server, whose folders are pages with links."""
        queue = deque([(self._root, self._path, 0)])
        count = 0
        while queue:
            place, path, depth = queue.popleft()
            if count == MOST_FOLDERS:
                notes.append(f"more than {MOST_FOLDERS:,} folders: the rest was not searched")
                unread.append(self._root)
                return
            count += 1
            try:
                with explained(place):
                    entries = patiently(lambda path=path: self._store.list(path))  # type: ignore[misc]
            except HubError as error:
                if place == self._root:
                    raise
                notes.append(f"{place} was not searched: {error.message.rstrip('.')}")
                unread.append(place)
                continue
            for entry in entries:
                below = self._store.inside(path, entry.name)
                if entry.is_folder and depth < MOST_DEPTH:
                    queue.append((f"{place}/{entry.name}", below, depth + 1))
                elif entry.name == MANIFEST:
                    with explained(f"{place}/{MANIFEST}"):
                        yield place, below, patiently(lambda below=below: self._store.facts(below))  # type: ignore[misc]
