"""push_checkpoint(): an output of bertconv to the Hub, verified before it leaves and after it arrived.

folder -> held to its manifest -> head of the branch -> is it an ancestor? -> one commit on top of it -> read back
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertconv.errors import HubError, ParityError, RequestError, check_path
from bertconv.formats.destination import MANIFEST
from bertconv.manage.push_ancestors import Ancestors
from bertconv.manage.push_text import TITLE, Text, text_of
from bertconv.manifest import read_manifest
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.hashed_file import HashedFile
from bertconv.source.local import repository_id
from bertconv.source.weights import is_weights
from bertconv.text import human_bytes, printable, some
from bertconv.verification import check_checkpoint
from bertconv.verify.certificate import FolderCheck

if TYPE_CHECKING:  # huggingface_hub takes longer to import than a small folder to verify
    from bertconv.source.hub_listing import Listing
    from bertconv.source.hub_upload import UploadTarget

STATES = ("committed", "proposed", "unchanged", "proposed before", "left alone", "dry run")
"""What became of a push: `proposed` is a pull request; `left alone` is one of ours, with other files, that is open."""
_DEFAULT_BRANCH = "main"
_SHORTEST = 7
"""Fewest digits by which a commit is named."""


@dataclass(frozen=True)
class Push:
    """What became of a push.

    Attributes:
        repository: its id.
        revision: the branch; None is the default one.
        state: one of `STATES`.
        commit: where the files are; None for a dry run.
        url: of the commit or of the pull request; empty where there is none.
        pull_request: number of the pull request; None for a commit to the branch.
        parent: the commit on top of which it was made, or would be; None where the repository does not exist yet.
        files: file -> its `size` and `sha256`.
        not_sent: files of the folder that its manifest does not list.
        remaining: other weights that the branch holds beside these.
        message: first line of the commit, or title of the pull request.
        description: what follows it.
        digest: of the model.
        verified: the level at which it was verified when it was written.
        private: whether the repository is private.
    """

    repository: str
    revision: str | None
    state: str
    commit: str | None
    url: str
    pull_request: int | None
    parent: str | None
    files: Mapping[str, Mapping[str, Any]]
    not_sent: tuple[str, ...]
    remaining: tuple[str, ...]
    message: str
    description: str
    digest: str
    verified: str
    private: bool = False

    def verdict(self) -> str:
        """What became of it, in a sentence."""
        amount = f"{len(self.files)} files, {human_bytes(sum(facts['size'] for facts in self.files.values()))}"
        place = f"{self.repository}@{self.revision}" if self.revision else self.repository
        if self.state == "dry run":
            on_top = f"on top of {self.parent}" if self.parent else "in a new repository"
            return f"{amount} would go to {place}, {on_top}."
        if self.state == "unchanged":
            return f"{place} has all of it already, at commit {self.commit}: {amount}. Nothing was sent."
        if self.state == "proposed before":
            return f"Pull request {self.pull_request} of yours has all of it already: {self.url}. Nothing was sent."
        if self.state == "left alone":
            return f"Pull request {self.pull_request} of yours is open: {self.url}. Nothing was sent."
        how = (
            f"proposed to {place} in pull request {self.pull_request}" if self.pull_request else f"committed to {place}"
        )
        return f"{amount} {how} and read back: the Hub states the digest of every file. {self.url}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self) | {"verdict": self.verdict()}


def push_checkpoint(  # noqa: PLR0913  (one argument per option of the command)
    folder: str | os.PathLike[str],
    repository: str,
    *,
    create_pr: bool = False,
    private: bool = False,
    revision: str | None = None,
    parent_commit: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
    leave_open: bool = False,
    progress: bool = False,
) -> Push:
    """Send an output of bertconv to the Hub in one commit, and hold what arrived to what was verified.

    Exactly the files that `bertconv.json` lists are sent, and it. Nothing newer is overwritten: weights that are there
    must be those that the output was made from, unless the commit that may be replaced is named, or a pull request is
    opened.

    Args:
        folder: the output.
        repository: `org/name`; made where it does not exist.
        create_pr: open a pull request, whose text is the output's certificate.
        private: make a new repository private; refused where there is a public one.
        revision: the branch; by default the repository's own.
        parent_commit: the head of the branch, whose weights may be replaced whatever they are.
        message: first line of the commit or title of the pull request, in place of bertconv's own; further lines stand
            before the description.
        token: access token for the Hub; by default HF_TOKEN or the stored one.
        dry_run: verify, look at the branch, send nothing.
        leave_open: with `create_pr`, send nothing where a pull request of this user and of bertconv is open already.
        progress: show huggingface_hub's progress bars.

    Returns:
        What became of it.

    Raises:
        RequestError: the folder has no manifest, or arguments that do not go together.
        ParityError: the folder was changed since it was written, or the Hub has other bytes than were sent.
        HubError: the branch holds weights that are no ancestor, or has another head by now, or the Hub takes no files.

    Example:
        >>> from bertconv import push_checkpoint
        >>> push_checkpoint("out/", "org/name", create_pr=True).url  # doctest: +SKIP
        'https://huggingface.co/org/name/discussions/1'
    """
    check_path(folder, "the folder")
    named, branch = repository_id(repository, revision)
    if "/" not in named:
        raise RequestError(
            "names no owner of the repository.",
            hint="Give `organisation/name`, or your own name before it.",
            file=named,
        )
    if message is not None and not message.strip():
        raise RequestError("the message is empty.", hint="Write one, or leave --message out.")
    with ExitStack() as stack:
        output = _opened_output(Path(folder), stack)
        from bertconv.source.hub_upload import UploadTarget, bars

        stack.enter_context(bars(shown=progress))
        return _Pushing(
            output, UploadTarget(named, branch, token), create_pr=create_pr, private=private,
            parent_commit=parent_commit, message=message, dry_run=dry_run, leave_open=leave_open,
        ).done()  # fmt: skip


@dataclass(frozen=True)
class _Output:
    """An output that is as its manifest has it; its files stay open, to be watched."""

    folder: Path
    manifest: Mapping[str, Any]
    check: FolderCheck
    files: Sequence[HashedFile]

    @cached_property
    def by_name(self) -> dict[str, HashedFile]:
        return {one.name: one for one in self.files}


def _opened_output(folder: Path, stack: ExitStack) -> _Output:
    """Hash the files of an output, and hold them to its manifest.

    Raises:
        RequestError: it has no manifest, or none with digests.
        ParityError: it was changed.
        DamagedCheckpoint: the manifest was changed, or a file is being written to.
    """
    if not (folder / MANIFEST).is_file():
        raise RequestError(
            f"holds no {MANIFEST}: only what bertconv wrote and verified is pushed.",
            hint=f"Make an output of it, and push that: bertconv convert {shlex.quote(str(folder))} out/ --to FORMAT.",
            file=str(folder),
        )  # fmt: skip
    manifest = read_manifest(folder)
    names = sorted({*manifest["files"], MANIFEST})
    # Opened before they are checked and hashed after it: one that is written to meanwhile shows.
    files = {name: stack.enter_context(closing(open_in(folder, name))) for name in names if (folder / name).exists()}
    found = check_checkpoint(folder)
    if not found.ok:
        raise ParityError(
            f"is not what was verified, and was not pushed. {found.verdict()}",
            hint="Write it again, or undo what was changed.", file=str(folder),
        )  # fmt: skip
    return _Output(folder, manifest, found, [HashedFile.of(name, files[name]) for name in names])


@dataclass(frozen=True)
class _Pushing:
    """One push."""

    output: _Output
    target: UploadTarget
    create_pr: bool
    private: bool
    parent_commit: str | None
    message: str | None
    dry_run: bool
    leave_open: bool

    def done(self) -> Push:
        files = self.output.files
        head = self.target.look()
        self.check_place(head)
        if head is not None and all(head.has(one) for one in files):
            return self.outcome(head, "unchanged", commit=head.commit, url=self.target.address(head.commit))
        if head is not None and not self.create_pr and self.parent_commit is None:
            self.check_replaceable(head)
        if self.create_pr and (found := self.proposed(head)) is not None:
            return found
        if self.dry_run:
            return self.outcome(head, "dry run")
        if head is None:
            self.target.make(private=self.private or None)
            head = self.target.at(None)
        text = self.text
        made = self.target.send(
            files, head, message=text.message, description=text.description, create_pr=self.create_pr
        )
        self.target.read_back(made, files)
        return self.outcome(head, "proposed" if made.pull_request else "committed", **asdict(made))

    def proposed(self, head: Listing | None) -> Push | None:
        """What becomes of it where a pull request of this user is open; None where none is in the way."""
        opened = self.target.open_pull_requests()
        before = self.target.pull_request_with(self.output.files, opened)
        if before is not None:
            return self.outcome(head, "proposed before", **asdict(before))
        ours = next((one for one in opened if one.title.endswith(TITLE)), None) if self.leave_open else None
        return None if ours is None else self.outcome(head, "left alone", url=ours.url, pull_request=ours.num)

    @cached_property
    def text(self) -> Text:
        """What the commit or the pull request says."""
        output = self.output
        sizes = {one.name: (one.size, one.sha256) for one in output.files}
        repository = self.target.repository if self.create_pr else None
        text = text_of(output.manifest, output.check, sizes, repository)
        if self.message is None:
            return text
        first, _, rest = self.message.strip().partition("\n")
        return Text(first.strip(), f"{rest.strip()}\n\n{text.description}".lstrip())

    def check_place(self, head: Listing | None) -> None:
        """Refuse what does not fit the repository as it is."""
        repository, branch = self.target.repository, self.target.revision
        if head is None and self.create_pr:
            raise HubError(
                "there is no such repository to open a pull request in, or this token may not see it.",
                hint="Check the name and the token; without --create-pr it is made.", file=repository,
            )  # fmt: skip
        if head is None and (branch not in (None, _DEFAULT_BRANCH) or self.parent_commit is not None):
            raise HubError(
                "there is no such repository yet, so it has no branch and no commit, or this token may not see it.",
                hint="Leave --revision and --parent-commit out to make it, or check the token.", file=repository,
            )  # fmt: skip
        if head is not None and self.private and not head.private:
            raise RequestError(
                "is public, and --private was asked for; nothing was sent.",
                hint="Make it private on the Hub first, or leave --private out.", file=repository,
            )  # fmt: skip
        if head is not None and self.parent_commit is not None and not _names(self.parent_commit, head.commit):
            raise HubError(
                f"is at {head.commit}, and not at {printable(self.parent_commit)} any more: nothing was sent.",
                hint="Look at what is new there, then name its head in --parent-commit.", file=repository,
            )  # fmt: skip

    def check_replaceable(self, head: Listing) -> None:
        """Refuse to put the output over, or beside, weights that it was not made from.

        Raises:
            HubError: there are such weights.
        """
        ours = self.output.by_name
        theirs = _weights(head, ours)
        if all(name in ours and head.has(ours[name]) for name in theirs):
            return
        if Ancestors.of(self.output.manifest).include(self.target, head, theirs):
            return
        raise HubError(
            f"at {head.commit} it holds weights that this output was not made from ({some(theirs, 3)}); they may be "
            "newer, and nothing was sent.",
            hint=f"If they may be replaced, say which: --parent-commit {head.commit}. Or open a pull request with "
            "--create-pr.",
            file=self.target.repository,
        )

    def outcome(self, head: Listing | None, state: str, **facts: Any) -> Push:
        output, target = self.output, self.target
        listed = {one.name: {"size": one.size, "sha256": one.sha256} for one in output.files}
        push = Push(
            repository=target.repository, revision=target.revision, state=state, commit=None, url="",
            pull_request=None, parent=head.commit if head else None, files=listed, not_sent=output.check.added,
            remaining=tuple(name for name in _weights(head, listed) if name not in listed) if head else (),
            message=self.text.message, description=self.text.description, digest=output.manifest["digest"],
            verified=output.manifest["verified"], private=head.private if head else self.private,
        )  # fmt: skip
        return replace(push, **facts)


def _weights(listing: Listing, ours: Mapping[str, Any]) -> list[str]:
    """Files of weights that a reader of the repository may take, and those that ours would replace."""
    return [
        printable(name) for name in sorted(listing.digests) if is_weights(name) and ("/" not in name or name in ours)
    ]


def _names(given: str, commit: str) -> bool:
    """Whether it is a commit's hash, or the beginning of it."""
    return len(given) >= _SHORTEST and commit.startswith(given.lower())
