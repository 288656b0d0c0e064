"""A checkpoint on the Hub: everything about the network and the cache is huggingface_hub's; here is what to ask for."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.file_download import repo_folder_name

from bertconv.containers.stored import is_so
from bertconv.errors import BertconvError, HubError
from bertconv.records import dataclass
from bertconv.source import hub_budget, integrity
from bertconv.source.checkpoint_folder import SourceOptions, subfolder_parts
from bertconv.source.hub_errors import FAILURES, explain, status_of
from bertconv.source.hub_listing import list_repository
from bertconv.source.hub_patience import is_down
from bertconv.text import some
from bertconv.warn import warn


@dataclass(frozen=True)
class HubFolder:
    """A folder of a repository at one commit.

    Attributes:
        repository: its Hub id.
        commit: hash of the commit.
        options: how the user asked for it.
        folder: where its files lie in the cache.
        names: its files, on the Hub when `online`, else in the cache.
        prefix: the folder inside the repository, empty or with `/` at the end.
        online: whether the network may be used.
        digests: file of the repository -> its digest as the Hub lists it; empty when not `online`.
        sizes: file of the repository -> its length in bytes, likewise.
    """

    repository: str
    commit: str
    options: SourceOptions
    folder: Path
    names: frozenset[str]
    prefix: str
    online: bool
    digests: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def need(self, names: Collection[str]) -> None:
        """Download those files that the cache does not have at this commit, and check all of them."""
        absent = list(names) if self.options.force_download else self._absent(names)
        if absent and self.online:
            wanted = [self.prefix + name for name in absent]
            _download(self.repository, self.commit, self.options, wanted, lambda: self._absent(names) or absent)
        absent = self._absent(names)
        if absent:
            raise self.missing(f"files did not arrive: {some(absent)}.", "Try again: the Hub or the network failed.")
        for name in names:
            integrity.check(self.folder, name, self.digests.get(self.prefix + name, ""))

    def _absent(self, names: Collection[str]) -> list[str]:
        return [name for name in names if not is_so((self.folder / name).exists)]

    def within(self, subfolder: str) -> HubFolder:
        """A folder inside it."""
        prefix = "".join(f"{part}/" for part in subfolder_parts(subfolder))
        names = frozenset(name.removeprefix(prefix) for name in self.names if name.startswith(prefix))
        if not names:
            raise self.missing(f"there is no folder {subfolder!r}; it has {some(sorted(self.names))}.")
        return replace(self, folder=self.folder / prefix, names=names, prefix=self.prefix + prefix)

    def missing(self, problem: str, hint: str = "", file: str | None = None) -> HubError:
        """The error for files that should be here and are not."""
        hint = hint or "Choose another revision or another repository."
        if not self.online:
            problem = f"in the Hub cache, {problem}"
            hint = "Only the cache was looked at: use the network once to download what is missing."
        return HubError(problem, hint=hint, file=file or self.repository)

    def remember(self, path: Path) -> None:
        """Note in the cache which commit the branch or tag means, so that it is found without the network.

        Files are downloaded by their commit, so that all are of one; huggingface_hub notes names of revisions only
        when it is asked for a file by such a name.
        """
        if self.online and self.options.revision != self.commit:
            with _failures(self.repository, self.options.revision):
                hf_hub_download(
                    self.repository,
                    self.prefix + path.relative_to(self.folder).as_posix(),
                    revision=self.options.revision,
                    cache_dir=self.options.hub_cache,
                    token=self.options.token,
                    library_name="bertconv",
                )


def open_repository(repository: str, options: SourceOptions) -> HubFolder:
    """Look up a repository, on the Hub or in the cache.

    Raises:
        HubError: it is not there, or not for this user, or cannot be reached.
    """
    if options.local_files_only or constants.HF_HUB_OFFLINE:
        checkpoint = _cached(repository, options)
    else:
        hub_budget.attach()
        try:
            checkpoint = _online(repository, options)
        except HubError as error:
            checkpoint = _cached_instead(repository, options, error)
    return checkpoint.within(options.subfolder) if options.subfolder else checkpoint


def _online(repository: str, options: SourceOptions) -> HubFolder:
    cache = (options.hub_cache or Path(constants.HF_HUB_CACHE).expanduser()).resolve()
    with _failures(repository, options.revision):
        found = list_repository(HfApi(token=options.token, library_name="bertconv"), repository, options.revision)
    folder = cache / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots" / found.commit
    names = frozenset(found.digests)
    return HubFolder(
        repository, found.commit, options, folder, names, "", online=True, digests=found.digests, sizes=found.sizes
    )


def _cached(repository: str, options: SourceOptions) -> HubFolder:
    folder = _download(repository, options.revision, replace(options, local_files_only=True), [])
    names = frozenset(_walk(folder))
    return HubFolder(repository, folder.name, options, folder, names, "", online=False)


def _cached_instead(repository: str, options: SourceOptions, error: HubError) -> HubFolder:
    """What the cache has, where that was asked for and the Hub is down; raises the error again otherwise."""
    cause = error.__cause__
    if not options.cache_if_down or options.force_download or not is_down(cause):
        raise error
    try:
        found = _cached(repository, options)
    except HubError:  # nothing of it is there: what the user needs to know is that the Hub is down
        raise error from cause
    reason = f"HTTP {status}" if (status := status_of(cause)) else type(cause).__name__
    warn(
        f"{repository}: the Hub is out of reach ({reason}): its copy in the cache is used, commit {found.commit[:12]}. "
        "The Hub may have a newer one."
    )
    return found


def _walk(folder: Path) -> Iterator[str]:
    for path, _, files in os.walk(folder):
        for file in files:
            yield (Path(path) / file).relative_to(folder).as_posix()


def _download(
    repository: str,
    revision: str | None,
    options: SourceOptions,
    names: Collection[str],
    lacking: Callable[[], Collection[str]] = tuple,
) -> Path:
    """Exactly these files; the folder of the commit in the cache. An error names those that are `lacking` then."""
    with _failures(repository, options.revision, offline=options.local_files_only, lacking=lacking):
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=options.hub_cache,
            token=options.token,
            local_files_only=options.local_files_only,
            force_download=options.force_download and bool(names),
            allow_patterns=[glob.escape(name) for name in names],
            library_name="bertconv",
        )
    return Path(folder)


@contextmanager
def _failures(
    repository: str, revision: str | None, *, offline: bool = False, lacking: Callable[[], Collection[str]] = tuple
) -> Iterator[None]:
    try:
        yield
    except BertconvError:  # which are errors of values and of the system too
        raise
    except FAILURES as error:
        raise explain(error, repository, revision, offline=offline, files=lacking()) from error
