"""What killed runs left in an object store, removed; an output that was whole and not yet in its place is put there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bertconv.errors import OutputError
from bertconv.formats import leftovers
from bertconv.formats.destination import MANIFEST
from bertconv.formats.remote import replacing
from bertconv.formats.remote.lock import Lock, Record
from bertconv.formats.remote.site import Site
from bertconv.manage.gc import KEPT, PUT_BACK, REMOVED, Leftover, Leftovers
from bertconv.manage.twins import Twins
from bertconv.text import printable


def collect_remote(url: str, *, dry_run: bool) -> Leftovers:
    """As `collect_leftovers`, of an address.

    Raises:
        RequestError: nothing can be written to such an address.
        OutputError: the store cannot be looked at.
    """
    top = Site.of(url, within_bucket=False)
    found: list[Leftover] = []
    problems: list[str] = []
    with top.writing():
        there = top.found()
    for place, paths in sorted(_by_destination(there).items()):
        destination = Site(top.filesystem, top.at(place), f"{top.url}/{place}")
        try:
            with destination.writing():
                found += _of_one(destination, top, paths, there, dry_run=dry_run)
        except OutputError as error:
            problems.append(f"{printable(destination.url)} {error.message.rstrip('.')}")
    return Leftovers(top.url, tuple(sorted(found, key=lambda one: one.path)), Twins(), tuple(problems), dry_run)


def _by_destination(names: dict[str, int]) -> dict[str, set[str]]:
    """Destination -> what lies beside it: its lock, and folders in which outputs were made; all relative to the top."""
    found: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        for number, part in enumerate(parts):
            own = leftovers.destination_of(Path(part))
            if own is not None:
                above = "/".join(parts[:number])
                found.setdefault(f"{above}/{own}".lstrip("/"), set()).add("/".join(parts[: number + 1]))
                break
    return found


def _of_one(site: Site, top: Site, paths: set[str], sizes: dict[str, int], *, dry_run: bool) -> Iterator[Leftover]:
    """What becomes of the leftovers of one destination, under its lock."""
    lock = Lock(site)
    record = lock.there() or Record("")
    left = _left(site, top, record, paths, sizes)
    if not lock.is_free(record):
        yield from (Leftover(*one, KEPT, "another bertconv is writing it") for one in left)
        return
    whole = _is_whole(site, record)
    if not dry_run:
        lock.take()
        try:
            whole = replacing.put_away(site, record) == PUT_BACK
            for path in sorted(paths):
                if leftovers.MARK in path.rpartition("/")[2]:
                    replacing.clear(Site(top.filesystem, top.at(path), f"{top.url}/{path}"))
        finally:
            lock.drop()
    for path, destination, nbytes in left:
        put_back = whole and path.endswith(f"/{record.staged}")
        yield Leftover(path, destination, nbytes, PUT_BACK if put_back else REMOVED)


def _left(site: Site, top: Site, record: Record, paths: set[str], sizes: dict[str, int]) -> list[tuple[str, str, int]]:
    """Address, destination and bytes of each thing."""
    found = []
    for path in sorted(paths):
        inside = (size for name, size in sizes.items() if name == path or name.startswith(f"{path}/"))
        found.append((f"{top.url}/{path}", site.url, sum(inside)))
    if record.names and not record.staged:
        here = site.found()
        if MANIFEST not in here and (begun := [here[name] for name in record.names if name in here]):
            found.append((site.url, site.url, sum(begun)))
    return found


def _is_whole(site: Site, record: Record) -> bool:
    """Whether a new output lies whole beside its place, which has none any more."""
    if not (record.replacing and record.staged):
        return False
    return site.get(MANIFEST) is None and site.sibling(record.staged).get(MANIFEST) is not None
