"""push_fleet(): outputs to the repositories that they were made from, as pull requests, where somebody asked for them.

list of outputs -> on the opt-in list? -> the first for its repository? -> open pull request of ours? -> pull request
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from bertconv.errors import BertconvError, RequestError
from bertconv.manifest import parents_of, read_manifest
from bertconv.records import dataclass
from bertconv.source.local import repository_id
from bertconv.text import parse_json, shown

NOT_ASKED, SECOND, FAILED = "not on the list", "second for its repository", "failed"
"""What became of an output, beside `bertconv.manage.push.STATES`: nobody opted in, another goes there, an error."""
_MOST_LINE = 1_000_000


@dataclass(frozen=True)
class Sent:
    """What became of one output.

    Attributes:
        folder: the output.
        repository: where it would go; empty where nothing says it.
        state: one of the states here, or of a push.
        verdict: what became of it, in a sentence.
        error: of one that failed, as every command prints it.
        push: of one that the Hub was asked about, all that is known.
    """

    folder: str
    repository: str
    state: str
    verdict: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)
    push: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self)


def read_opt_in(path: Path) -> frozenset[str]:
    """The repositories whose owners want pull requests: a line each, `#` begins a comment.

    Raises:
        RequestError: there is no such file, it names no repository, or a line is none, with its number.
    """
    found = set()
    for number, text in enumerate(_lines(path), 1):
        name = text.partition("#")[0].strip()
        if name:
            try:
                repository, revision = repository_id(name)
            except RequestError as error:
                raise RequestError(f"line {number}: {error.message}", hint=error.hint, file=str(path)) from error
            if revision is not None or "/" not in repository:
                raise RequestError(
                    f"line {number}: {shown(name)} is not of the form organisation/name.",
                    hint="Write one repository a line, without a revision.", file=str(path),
                )  # fmt: skip
            found.add(repository)
    if not found:
        raise RequestError("names no repository.", hint="Write one a line: organisation/name.", file=str(path))
    return frozenset(found)


def read_outputs(path: Path) -> list[tuple[str, str]]:
    """The outputs of a list, and the repository that each line names, empty where it leaves that to the manifest.

    Raises:
        RequestError: there is no such file, or a line names no output, with its number.
    """
    found = []
    for number, text in enumerate(_lines(path), 1):
        if not text.strip():
            continue
        try:
            line = parse_json(text) if len(text) <= _MOST_LINE else None
        except (ValueError, RecursionError):
            line = None
        src, repository = (line.get("src"), line.get("repository", "")) if isinstance(line, dict) else (None, "")
        if not (isinstance(src, str) and src and isinstance(repository, str)):
            raise RequestError(
                f'line {number} is no JSON object with a text "src", and "repository" where it is given.',
                hint="Make a list of the outputs: bertconv fleet plan OUT -o LIST.", file=str(path),
            )  # fmt: skip
        found.append((src, repository))
    return found


def push_fleet(
    outputs: Sequence[tuple[str, str]],
    opted_in: frozenset[str],
    *,
    dry_run: bool = False,
    token: str | bool | None = None,
) -> Iterator[Sent]:
    """Open a pull request for each output whose repository opted in; one that fails does not end the others.

    A repository gets one: of several outputs the first in the list, and none where one of this user's and bertconv's is
    open. Of others the Hub is not even asked. All requests count against one account of what the Hub allows
    (`bertconv.source.hub_budget`), where the caller keeps one.

    Args:
        outputs: folder and repository; where the second is empty, the manifest's one source on the Hub.
        opted_in: repositories that may get one.
        dry_run: verify and look, and send nothing.
        token: access token for the Hub.
    """
    taken: set[str] = set()
    for folder, named in outputs:
        try:
            repository = named or source_repository(Path(folder))
            state = SECOND if repository in taken else NOT_ASKED
            if repository in opted_in and repository not in taken:
                taken.add(repository)
                yield _pushed(folder, repository, dry_run=dry_run, token=token)
                continue
        except BertconvError as error:
            said = str(error).partition("\n")[0].removeprefix(f"{folder}: ")
            yield Sent(folder, named, FAILED, said, error.to_json())
            continue
        why = "gets another output of the list" if state == SECOND else "is not on the opt-in list"
        yield Sent(folder, repository, state, f"{repository} {why}. Nothing was sent.")


def source_repository(folder: Path) -> str:
    """The repository on the Hub that an output was made from.

    Raises:
        RequestError: it was made from something else, or from several checkpoints, or has no manifest.
        DamagedCheckpoint: its manifest was changed.
    """
    parents = parents_of(read_manifest(folder))
    if len(parents) == 1 and parents[0].commit:
        given = parents[0].given.removeprefix("hf://")
        repository = "/".join(given.partition("@")[0].split("/")[:2])
        if "/" in repository:
            return repository_id(repository)[0]
    raise RequestError(
        "was not made from one repository of the Hub, so nothing says where it should go.",
        hint='Name it in the list: {"src": FOLDER, "repository": "organisation/name"}.', file=str(folder),
    )  # fmt: skip


def totals(sent: Sequence[Sent]) -> dict[str, int]:
    """State -> how many, those of which there are most first."""
    return dict(Counter(one.state for one in sent).most_common())


def _pushed(folder: str, repository: str, *, dry_run: bool, token: str | bool | None) -> Sent:
    from bertconv.manage.push import push_checkpoint

    try:
        push = push_checkpoint(folder, repository, create_pr=True, leave_open=True, dry_run=dry_run, token=token)
    except BertconvError as error:
        return Sent(folder, repository, FAILED, str(error).partition("\n")[0], error.to_json())
    return Sent(folder, repository, push.state, push.verdict(), push=push.to_json())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode().split("\n")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}.", hint="Check the path.", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise RequestError("is no text in UTF-8.", hint="Check the path.", file=str(path)) from error
