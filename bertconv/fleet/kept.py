"""Whether an item is done already: which bytes its source has, and what the manifest of its output says of it.

The manifest is the truth. It holds no times, so that one input gives one output; with which source a run worked is
remembered by the ledger, a cache. Where that is lost, an output is kept when its manifest says that it was made of this
source with these options, no file of the source is younger, and the source's weights have the digest on record.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bertconv import __version__
from bertconv.errors import AmbiguousHead, BertconvError
from bertconv.fleet.items import Item, key_of
from bertconv.formats.destination import MANIFEST
from bertconv.records import dataclass
from bertconv.text import is_url

_UNPINNED = "unpinned"
"""The identity of a source elsewhere that a list states none of: its list has to be made anew to see changes."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEVELS = {"none": 0, "auto": 1, "weights": 1, "outputs": 2, "gradients": 3}
"""What was proven, or is to be; where frameworks are missing, auto is no more than weights."""
_NOT_ON_RECORD = ("source_dialect", "config", "family")
"""Options that shape an output and that no manifest has."""
VERIFY = "weights"
"""What a fleet proves of every output unless it is told otherwise: frameworks in every worker cost more than that."""


@dataclass(frozen=True)
class Seen:
    """A source as it is now.

    Attributes:
        identity: which bytes it has; empty where it is not there.
        newest: when the youngest of its files was changed, in nanoseconds; None where nothing tells it.
        size: bytes of its files; 0 where nothing tells it.
    """

    identity: str
    newest: int | None = None
    size: int = 0

    def key(self, item: Item) -> str:
        """What the output of an item is made of."""
        return key_of(item, self.identity, _tables(item.options.get("table")), __version__)


def look_at(item: Item) -> Seen:
    """The source of an item as it is now; only names, sizes and times of its files are looked at, and no network."""
    seen = _of_source(item)
    if item.verb == "verify" and seen.identity:
        return replace(seen, identity=f"{seen.identity} {stamp_of(item.dst)}")
    return seen


def _of_source(item: Item) -> Seen:
    if item.identity:
        return Seen(item.identity)
    if is_url(item.src):
        return Seen(_UNPINNED)
    try:
        files = sorted(_files(Path(item.src), item.options))
        facts = [(str(path), path.stat()) for path in files]
    except (BertconvError, OSError, ValueError):
        return Seen("")  # the worker says what is wrong with it
    if not facts:
        return Seen("" if os.path.lexists(item.src) or not _may_be_id(item.src) else _UNPINNED)
    lines = [f"{path} {status.st_size} {status.st_mtime_ns}\n" for path, status in facts]
    digest = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    # A file that was copied with its times is younger by its ctime.
    newest = max(max(status.st_mtime_ns, status.st_ctime_ns) for _, status in facts)
    return Seen(digest, newest, sum(status.st_size for _, status in facts))


def _may_be_id(src: str) -> bool:
    return not src.startswith(("/", ".", "~")) and src.count("/") <= 1


def _files(path: Path, options: Mapping[str, Any]) -> Iterator[Path]:
    """The files that a conversion may read: all of a folder, or those that belong to a file or a prefix."""
    from bertconv.source import SourceOptions, open_source
    from bertconv.source.folder import LocalFolder
    from bertconv.source.prefixes import is_prefix

    inner = path / options["subfolder"] if options.get("subfolder") else path
    if inner.is_dir():
        yield from (inner / name for name in LocalFolder(inner).names if not name.startswith("."))
    elif path.is_file() or is_prefix(path):
        try:
            yield from open_source(path, SourceOptions()).inputs
        except BertconvError:
            yield path
    else:
        return
    yield from (Path(options[name]) for name in ("config", "table") if options.get(name))


def stamp_of(dst: str) -> str:
    """Size and time of the manifest of an output of the disk; empty where there is none to look at."""
    if not dst or is_url(dst):
        return ""
    try:
        status = Path(dst, MANIFEST).lstat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def kept_manifest(item: Item, seen: Seen) -> Mapping[str, Any] | None:
    """The manifest of an output that there is no need to make again; None where there is.

    Args:
        item: a conversion, placed.
        seen: its source.
    """
    from bertconv.manifest import read_manifest

    if is_url(item.dst):
        return _kept_in_store(item, seen)
    try:
        manifest = read_manifest(Path(item.dst))
    except (BertconvError, OSError):
        return None
    if not seen.identity or not _fits(item, manifest) or not _is_whole(Path(item.dst), manifest["files"]):
        return None
    if seen.newest is not None and seen.newest >= Path(item.dst, MANIFEST).lstat().st_mtime_ns:
        return None
    return manifest if _is_of_commit(item, manifest) or _has_digest(item, manifest) else None


def _kept_in_store(item: Item, seen: Seen) -> Mapping[str, Any] | None:
    """The same of an output in a store, which has no times that could be held to those of the source."""
    manifest, sizes = stored_output(item.dst)
    if manifest is None or not seen.identity or not _fits(item, manifest):
        return None
    if any(sizes.get(name) != facts["size"] for name, facts in manifest["files"].items()):
        return None
    is_known = item.stamp != "" and item.stamp == manifest["manifest_sha256"]
    return manifest if is_known or _is_of_commit(item, manifest) or _has_digest(item, manifest) else None


def stored_output(dst: str) -> tuple[dict[str, Any] | None, dict[str, int]]:
    """The manifest of an output in a store, None where there is no sound one; and its files with their sizes.

    Raises:
        BertconvError: the store does not answer.
    """
    from bertconv.formats.remote.site import Site
    from bertconv.manifest import parsed_manifest

    site = Site.of(dst)
    raw = site.get(MANIFEST)
    try:
        manifest = None if raw is None else parsed_manifest(raw, Path(site.name))
    except BertconvError:
        manifest = None
    return manifest, site.found() if manifest is not None else {}


def has_output(dst: str) -> bool:
    """Whether an output is there, which may then be replaced."""
    if not is_url(dst):
        return Path(dst, MANIFEST).is_file()
    from bertconv.formats.remote.site import Site

    return Site.of(dst).get(MANIFEST) is not None


def _fits(item: Item, manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest records what an item asks for, as far as manifests tell."""
    from bertconv.manifest import operation_of, parents_of
    from bertconv.record import short_name

    if any(item.options.get(name) for name in _NOT_ON_RECORD):
        return False
    operation, parents = operation_of(manifest), parents_of(manifest)
    wanted = item.options.get("verify", VERIFY)
    return (
        manifest["bertconv"] == __version__
        and (operation.verb, dict(operation.options)) == (item.verb, recorded(item.options))
        and _LEVELS.get(manifest["verified"], -1) >= _LEVELS.get(wanted, len(_LEVELS))
        and manifest.get("table") == _table_of(item, manifest.get("table"))
        and len(parents) == 1
        and parents[0].given == short_name(item.src, parents[0].commit)
    )


def recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of an item that the manifest of its output has."""
    from bertconv.convert import given_options
    from bertconv.saving import DEFAULT_SHARD, recorded_limit

    kept = {name: value for name, value in options.items() if name not in _ASIDE}
    return given_options(**kept) | recorded_limit(options.get("max_shard_size", DEFAULT_SHARD))


_ASIDE = (*_NOT_ON_RECORD, "table", "revision", "cache_dir", "local_files_only", "verify", "max_shard_size")


def _table_of(item: Item, said: Any) -> Any:
    """What a manifest has of its table, as that table is now."""
    from bertconv.table_files import table_names, tables_folder

    name = said.get("name") if isinstance(said, dict) else None
    own = item.options.get("table")
    if own is None and name not in table_names():
        return None
    path = Path(own) if own is not None else tables_folder() / f"{name}.toml"
    return {"name": path.stem, "sha256": _sha256(path)}


def _is_whole(folder: Path, files: Mapping[str, Any]) -> bool:
    try:
        return all((folder / name).lstat().st_size == facts["size"] for name, facts in files.items())
    except OSError:
        return False


def _is_of_commit(item: Item, manifest: Mapping[str, Any]) -> bool:
    """Whether an item names a commit of the Hub, and its output was made of that one."""
    from bertconv.manifest import parents_of

    named = str(item.options.get("revision") or item.src.partition("@")[2] or item.identity)
    return _COMMIT.fullmatch(named) is not None and parents_of(manifest)[0].commit == named


def _has_digest(item: Item, manifest: Mapping[str, Any]) -> bool:
    """Whether the weights of the source, read once, are those on record."""
    from bertconv.manage.hash import model_digest
    from bertconv.manifest import parents_of

    said = parents_of(manifest)[0].digest
    names = ("revision", "cache_dir", "local_files_only", "subfolder", "variant", "strip_prefix", "table")
    options = {name: item.options[name] for name in names if name in item.options}
    try:
        try:
            found = model_digest(item.src, **options)
        except AmbiguousHead:  # then it is on record as the class of its output
            found = model_digest(item.src, head=manifest.get("head"), **options)
    except BertconvError:
        return False
    return said != "" and found.digest == said


@cache
def _tables(own: str | None) -> str:
    """Digest of the tables that may take part: one of the user's own, or all of ours."""
    from bertconv.table_files import table_names, tables_folder

    paths: Iterable[Path] = [tables_folder() / f"{name}.toml" for name in (*table_names(), "dialects")]
    try:
        return hashlib.sha256("".join(map(_sha256, [Path(own)] if own else paths)).encode()).hexdigest()
    except OSError:
        return ""


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
