"""From an address to the remote folder and, where it is a file's or a prefix's, the name in it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from bertconv.containers.registry import CONTAINERS
from bertconv.errors import BertconvError, HubError, RequestError
from bertconv.source import prefixes, preset, sidecars
from bertconv.source.checkpoint_folder import SourceOptions, open_in
from bertconv.source.modules import WEIGHTS
from bertconv.source.refusals import SAVED_MODEL
from bertconv.source.remote.folder import RemoteFolder, RemoteMount, is_usable
from bertconv.source.remote.http import HttpStore, known_names
from bertconv.source.remote.patience import explained, patiently
from bertconv.source.remote.store import Facts, FsspecStore, Listed, Store
from bertconv.source.remote.urls import HTTP, filesystem, scheme_of
from bertconv.source.weights import is_index, is_weights, read_index
from bertconv.text import public

_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")


class Address(NamedTuple):
    """What an address leads to.

    Attributes:
        folder: the remote folder, or the one around it.
        shown: the address without secrets.
        file: the name of the file that is meant; None where the folder is.
        prefix: the prefix of a checkpoint of TensorFlow that is meant, likewise.
        commit: of a repository of the Hub.
    """

    folder: RemoteFolder
    shown: str
    file: str | None = None
    prefix: str | None = None
    commit: str | None = None


def open_address(given: str, options: SourceOptions) -> Address:
    """Look at what an address leads to.

    Args:
        given: the address.
        options: how to find the checkpoint; `revision` and `token` are for the Hub alone, and mean nothing elsewhere.

    Raises:
        RequestError: a scheme that is not read, or options that do not go with it.
        HubError: there is nothing, or the store does not give it.
    """
    scheme = scheme_of(given)
    if options.local_files_only:
        raise RequestError(
            "lies elsewhere, and only local files are wanted.", hint="Leave the option out.", file=public(given)
        )
    if scheme in HTTP:
        return _of_web(given, options)
    commit, own = None, {}
    if scheme == "hf":
        own = {"token": options.token}
    found, path = filesystem(given, **own)
    if scheme == "hf":
        with explained(public(given)):
            path, commit = patiently(lambda: _pinned(found, path, options.revision))
    return _of_store(FsspecStore(found), path, public(given))._replace(commit=commit)


def _pinned(hub: Any, path: str, revision: str | None) -> tuple[str, str]:
    """A path of the Hub at the commit that its revision means now, so that all files are of one."""
    there = hub.resolve_path(path, revision=revision)
    commit = hub._api.repo_info(there.repo_id, revision=there.revision, repo_type=there.repo_type).sha  # noqa: SLF001
    kind = {"model": "", "dataset": "datasets/", "space": "spaces/"}[there.repo_type]
    inner = f"/{there.path_in_repo}" if there.path_in_repo else ""
    return f"{kind}{there.repo_id}@{commit}{inner}", commit


def _of_store(store: Store, path: str, address: str) -> Address:
    """An address in a store that lists its folders."""
    path = path.rstrip("/")
    above, _, name = path.rpartition("/")
    facts = None
    if above and is_usable(Listed(name, is_folder=False)):
        facts = _facts(store, path, address)
    if facts is not None:
        mount = RemoteMount(store, above, _above(address))
        mount.list("")
        mount.files[name] = facts
        return Address(RemoteFolder.of(mount), address, file=name)
    mount = RemoteMount(store, path, address)
    try:
        mount.list("")
    except HubError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    if mount.files or not above:
        return Address(RemoteFolder.of(mount), address)
    return _of_prefix(store, above, name, address)


def _of_prefix(store: Store, above: str, prefix: str, address: str) -> Address:
    mount = RemoteMount(store, above, _above(address))
    nothing = HubError("there is no such file or folder.", hint="Check the address.", file=address)
    try:
        mount.list("")
    except HubError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise nothing from error
        raise
    if not any(prefixes.prefix_of(name) == prefix for name in mount.files):
        raise nothing
    return Address(RemoteFolder.of(mount), address, prefix=prefix)


def _facts(store: Store, path: str, address: str) -> Facts | None:
    with explained(address):
        try:
            return patiently(lambda: store.facts(path))
        except (FileNotFoundError, IsADirectoryError):
            return None


def _of_web(given: str, options: SourceOptions) -> Address:
    """An address of a web server, which may list a folder by the links of a page, or not at all."""
    parts = urlsplit(given)
    if parts.hostname in _HUB_HOSTS and "/resolve/" not in parts.path:
        raise RequestError(
            "is a page about a checkpoint.", file=public(given),
            hint="Of a Hub address give only `organisation/name`, with `@revision` where needed.",
        )  # fmt: skip
    store = HttpStore(filesystem(given)[0])
    name = unquote(parts.path.rpartition("/")[2])
    address = public(given)
    if parts.query:
        return _with_query(store, given, name)
    url = given.partition("#")[0].rstrip("/")
    if _is_file(name):
        with explained(address):
            facts = patiently(lambda: store.facts(url))
        folder = _web_folder(store, url.rpartition("/")[0], _above(address), ())
        folder.mount.files[name] = facts
        return Address(RemoteFolder.of(folder.mount), address, file=name)
    folder = _web_folder(store, url, address, _weights_names(options))
    if folder.names or not urlsplit(url).path.strip("/"):
        return Address(folder, address)
    parts_of_prefix = [f"{name}{last}" for last in (prefixes.INDEX, ".data-00000-of-00001")]
    around = _web_folder(store, url.rpartition("/")[0], _above(address), parts_of_prefix)
    if parts_of_prefix[0] not in around.names:
        raise HubError(
            "holds no checkpoint that could be found: the server lists no files, and none has a name that is known.",
            hint="Give the address of the file of weights.", file=address,
        )  # fmt: skip
    return Address(around, address, prefix=name)


def _with_query(store: HttpStore, given: str, name: str) -> Address:
    """A file whose address has a query, such as a signature: no other file can be had by it."""
    if not is_usable(Listed(name, is_folder=False)) or not _is_file(name):
        raise RequestError(
            "has a query, which only the address of a file of weights can have.",
            hint="Give the address of the file.", file=public(given),
        )  # fmt: skip
    only = _OneFile(store, given.partition("#")[0])
    with explained(public(given)):
        facts = patiently(lambda: store.facts(only.url))
    mount = RemoteMount(only, "", _above(public(given)), {name: facts})
    return Address(RemoteFolder.of(mount), public(given), file=name)


class _OneFile:
    """A store with one file, whatever it is asked for."""

    def __init__(self, store: HttpStore, url: str) -> None:
        self._store = store
        self.url = url

    def facts(self, path: str) -> Facts:  # noqa: ARG002
        return self._store.facts(self.url)

    def read(self, path: str, start: int, end: int, facts: Facts) -> bytes | bytearray:  # noqa: ARG002
        return self._store.read(self.url, start, end, facts)

    def list(self, path: str) -> list[Listed]:
        raise FileNotFoundError(path)

    def inside(self, path: str, name: str) -> str:
        return f"{path}/{name}"


class _Unlisted(HttpStore):
    """A web server that lists nothing: what is in a folder is found by the names that files have."""

    def __init__(self, filesystem: Any, names: tuple[str, ...]) -> None:
        super().__init__(filesystem)
        self._names = names

    def list(self, path: str) -> list[Listed]:
        return [
            Listed(name, is_folder=False, facts=facts) for name, facts in known_names(self, path, self._names).items()
        ]


def _web_folder(store: HttpStore, url: str, address: str, more: Iterable[str]) -> RemoteFolder:
    """The names of a folder: of its page of links, or those of the well-known ones that are there."""
    mount = RemoteMount(store, url, address)
    try:
        mount.list("")
    except BertconvError:  # a page that is not there, or not for everybody, says nothing of the files
        mount.files.clear()
    if any(is_weights(name) or prefixes.is_index(name) or name in sidecars.CONFIGS for name in mount.files):
        return RemoteFolder.of(mount)
    names = (*sidecars.CONFIGS, *sidecars.WELL_KNOWN, preset.TASK, preset.METADATA, *more)
    mount = RemoteMount(_Unlisted(store.filesystem, (*names, *WEIGHTS)), url, address)
    mount.is_listed = False
    with explained(address):
        mount.files |= known_names(store, url, dict.fromkeys(names))
    for index in [name for name in mount.files if is_index(name)]:
        with closing(open_in(mount.folder, index)) as file:
            for shard in read_index(file).values():
                mount.files.setdefault(shard, None)
    return RemoteFolder.of(mount)


def _weights_names(options: SourceOptions) -> tuple[str, ...]:
    names = [name for container in CONTAINERS for name in container.names_of(options.variant)]
    return tuple(dict.fromkeys((*names, SAVED_MODEL)))


def _is_file(name: str) -> bool:
    """Whether an address that ends so is one of a file of weights."""
    known = is_weights(name) or is_index(name) or prefixes.prefix_of(name) is not None or name == SAVED_MODEL
    return known and is_usable(Listed(name, is_folder=False))


def _above(address: str) -> str:
    return address.rpartition("/")[0]
