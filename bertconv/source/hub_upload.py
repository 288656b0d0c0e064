"""Files to the Hub: one commit on top of the one that was looked at, read back. huggingface_hub does the transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, Discussion, HfApi, constants, errors
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from bertconv.containers.stored import SourceFile
from bertconv.errors import BertconvError, HubError, ParityError, check_text
from bertconv.records import dataclass
from bertconv.source import hub_budget
from bertconv.source.hashed_file import HashedFile
from bertconv.source.hub_errors import FAILURES, explain_write
from bertconv.source.hub_listing import Listing, list_repository
from bertconv.source.hub_patience import is_open, patiently, wait

Answer = TypeVar("Answer")

MOST_PULL_REQUESTS = 30
"""Most open pull requests of one user that are looked at."""
_NOT_SENT = {".git", ".cache"}
"""Folders that the Hub takes nothing of."""


@dataclass(frozen=True)
class Made:
    """What was made of an upload.

    Attributes:
        commit: its hash.
        url: its address, or that of the pull request.
        pull_request: its number; None for a commit to a branch.
    """

    commit: str
    url: str
    pull_request: int | None = None


@dataclass(frozen=True)
class UploadTarget:
    """A branch of a repository, and who writes to it.

    Attributes:
        repository: its id.
        revision: the branch; None is the default one.
        token: as for `SourceOptions`.
    """

    repository: str
    revision: str | None = None
    token: str | bool | None = None

    @cached_property
    def api(self) -> HfApi:
        """huggingface_hub's; HubError where the network is not to be used, which its old versions see too late."""
        if constants.HF_HUB_OFFLINE:
            raise HubError(
                "cannot be reached: the network is not to be used.", hint="Unset HF_HUB_OFFLINE.", file=self.repository
            )
        hub_budget.attach()
        return HfApi(token=self.token, library_name="bertconv")

    def look(self) -> Listing | None:
        """The head of the branch; None where there is no such repository, or none for this user.

        Raises:
            HubError: there is no such branch, or the Hub does not answer.
        """
        return self._unless(errors.RepositoryNotFoundError, lambda: self._list(self.revision))

    def at(self, revision: str | None) -> Listing:
        """The repository at a revision, None for the branch's head; HubError where there is none."""
        return self._call(lambda: self._list(revision or self.revision))

    def find(self, commit: str) -> Listing | None:
        """The repository at a commit; None where it has no such commit any more."""
        return self._unless(errors.RevisionNotFoundError, lambda: self._list(commit))

    def newest_change(self, names: Sequence[str], commit: str) -> dict[str, tuple[str, float]]:
        """When files were last changed up to a commit: name -> the commit that did it, and its time; where it is known.

        Raises:
            HubError: the Hub does not answer.
        """
        found = self._call(lambda: self.api.get_paths_info(self.repository, list(names), expand=True, revision=commit))
        changes = {one.path: one.last_commit for one in found}
        return {name: (one.oid, one.date.timestamp()) for name, one in changes.items() if one is not None}

    def make(self, *, private: bool | None) -> str:
        """Make the repository where it does not exist yet; its id with its owner.

        Raises:
            HubError: the Hub does not make it, or not with this token.
        """
        made = self._call(lambda: self.api.create_repo(self.repository, exist_ok=True, private=private))
        return str(made.repo_id)

    def address(self, commit: str) -> str:
        """Where a commit can be looked at."""
        return f"{self.api.endpoint}/{self.repository}/commit/{commit}"

    def send(
        self, files: Sequence[HashedFile], head: Listing, *, message: str, description: str, create_pr: bool
    ) -> Made:
        """Send files, and commit them on top of a head that must still be the branch's.

        A commit whose answer is lost is looked for before it is made again.

        Args:
            files: what to send.
            head: the commit that was looked at.
            message: first line of the commit, or title of the pull request.
            description: what follows it.
            create_pr: open a pull request against the branch.

        Raises:
            HubError: the branch has another head by now, this token may not write, the Hub does not take them.
        """
        operations = [CommitOperationAdd(path_in_repo=one.name, path_or_fileobj=str(one.path)) for one in files]
        self._call(
            lambda: self.api.preupload_lfs_files(
                self.repository, operations, revision=self.revision, create_pr=create_pr, free_memory=False
            )
        )
        number = 0
        while True:
            number += 1
            try:
                made: CommitInfo = self.api.create_commit(
                    self.repository, operations, commit_message=message, commit_description=description,
                    revision=self.revision, create_pr=create_pr, parent_commit=head.commit,
                )  # fmt: skip
            except FAILURES as error:
                found = self._made_all_the_same(files, head, create_pr=create_pr) if is_open(error) else None
                if found is not None:
                    return found
                self._wait(error, number)
            else:
                return Made(str(made.oid), str(made.pr_url or made.commit_url), made.pr_num)

    def read_back(self, made: Made, files: Sequence[HashedFile]) -> None:
        """Hold what the Hub states of a commit to what was sent.

        Raises:
            ParityError: a file is another one there, or is not there.
            HubError: the Hub does not answer.
        """
        try:
            there = self.at(made.commit)
        except HubError as error:
            raise HubError(
                f"the commit {made.commit} was made, but it could not be read back: {error.message}",
                hint="Push again later: what is there is compared then, and not sent again.", file=error.file,
            ) from error  # fmt: skip
        for one in files:
            if there.has(one):
                continue
            stated = there.digests.get(one.name)
            how = (
                f"is {stated or 'without a digest'} there and {one.sha256} here"
                if stated is not None
                else "is not in it"
            )
            raise ParityError(
                f"was sent, but {how}: the commit {made.commit} on the Hub is not what was verified.",
                hint="Undo that commit, and send it again; a `.gitignore` of the repository can leave files out.",
                file=f"{self.repository}: {one.name}",
            )

    def open_pull_requests(self) -> list[Discussion]:
        """The open pull requests of this user.

        Raises:
            HubError: there is no token, or the Hub does not answer.
        """
        user = self._call(self.api.whoami).get("name")
        return self._call(
            lambda: list(self.api.get_repo_discussions(
                self.repository, author=user, discussion_type="pull_request", discussion_status="open"
            ))
        )  # fmt: skip

    def pull_request_with(self, files: Sequence[HashedFile], opened: Sequence[Discussion]) -> Made | None:
        """The one of some open pull requests that has all these files; None where there is none.

        Raises:
            HubError: the Hub does not answer.
        """
        for one in opened[:MOST_PULL_REQUESTS]:
            there = self.at(str(one.git_reference))
            if all(there.has(file) for file in files):
                return Made(there.commit, one.url, one.num)
        return None

    def _made_all_the_same(self, files: Sequence[HashedFile], head: Listing, *, create_pr: bool) -> Made | None:
        """The commit of a call whose answer did not arrive."""
        if create_pr:
            return self.pull_request_with(files, self.open_pull_requests())
        now = self.look()
        if now is None or now.commit == head.commit or not all(now.has(file) for file in files):
            return None
        return Made(now.commit, self.address(now.commit))

    def _list(self, revision: str | None) -> Listing:
        return list_repository(self.api, self.repository, revision)

    def _unless(self, absent: type[Exception], call: Callable[[], Answer]) -> Answer | None:
        """What a call gives; None for one kind of error, unless it is that of a gated repository, which is one too."""
        try:
            return patiently(call)
        except absent as error:
            if isinstance(error, errors.GatedRepoError):
                raise self._explained(error) from error
            return None
        except FAILURES as error:
            raise self._explained(error) from error

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return patiently(call)
        except BertconvError:
            raise
        except FAILURES as error:
            raise self._explained(error) from error

    def _wait(self, error: Exception, number: int) -> None:
        try:
            wait(error, number)
        except FAILURES as last:
            raise self._explained(last) from last

    def _explained(self, error: Exception) -> BertconvError:
        if isinstance(error, BertconvError):
            return error
        return explain_write(error, self.repository, self.revision)


def upload_folder(
    folder: Path,
    target: UploadTarget,
    *,
    message: str,
    description: str = "",
    private: bool | None = None,
    create_pr: bool = False,
) -> str:
    """Send all files of a folder in one commit, made on top of whatever is there, and read them back.

    Args:
        folder: on the disk.
        target: where to; the repository is made where it does not exist, in the user's own name where it has no other.
        message: of the commit.
        description: of the commit, further.
        private: whether a new repository is private.
        create_pr: open a pull request.

    Returns:
        The address of the commit.

    Raises:
        HubError: the Hub does not take it.
        ParityError: the Hub has other bytes than were sent.
        DamagedCheckpoint: a file cannot be read, or is written to.
    """
    check_text(target.repository, "repo_id")
    target = replace(target, repository=target.make(private=private))
    files = [_hashed(path, path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [one for one in files if not _NOT_SENT & set(one.name.split("/"))]
    made = target.send(files, target.at(None), message=message, description=description, create_pr=create_pr)
    target.read_back(made, files)
    return target.address(made.commit)


def _hashed(path: Path, name: str) -> HashedFile:
    with closing(SourceFile(path, name, follow_link=path.is_symlink())) as file:
        return HashedFile.of(name, file)


@contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """huggingface_hub's own progress bars, or none."""
    hide = not shown and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()
