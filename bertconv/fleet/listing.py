"""plan_fleet(): the checkpoints of a folder, of a bucket or of the Hub, as lines of JSON; no weight is read.

names and sizes -> which of them are checkpoints -> what their configs state -> with `headers`, what their headers say
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from bertconv.errors import BertconvError
from bertconv.fleet.finding import Found, find_checkpoints, sentence
from bertconv.fleet.hub_models import PREFIX, Query, found_in, repositories
from bertconv.fleet.trees import LocalTree, UrlTree
from bertconv.progress import Progress, silent
from bertconv.records import dataclass
from bertconv.text import human_bytes, is_url, some
from bertconv.verify.report_files import write_text

BEGINNING = '{"src": "'
"""How a list begins, by which an earlier one is known."""


@dataclass(frozen=True)
class Listed:
    """A checkpoint in a list.

    Attributes:
        src: what a command is given: a path, an address, or a repository of the Hub at its commit.
        size: bytes of its weights.
        family: its model type, empty where nothing tells cheaply.
        format: name of the container that its files are.
        head: its class, likewise.
        problems: what will be in the way of a run, one sentence each; empty where nothing is known to be.
        identity: which bytes it has, where a listing tells: the commit on the Hub, a digest of the ETags in a bucket.
    """

    src: str
    size: int = 0
    family: str = ""
    format: str = ""
    head: str = ""
    problems: tuple[str, ...] = ()
    identity: str = ""

    def to_line(self) -> str:
        """One line of JSON; what is not known is left out."""
        facts = {key: value for key, value in asdict(self).items() if value or key in {"src", "size"}}
        return json.dumps(facts, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Planned:
    """What a list holds, in numbers.

    Attributes:
        checkpoints: how many there are.
        size: bytes of weights of all of them.
        with_problems: how many have a problem.
        families: model type -> how many; "" for those whose config does not tell.
        formats: container -> how many; "" where there are no weights.
    """

    checkpoints: int
    size: int
    with_problems: int
    families: dict[str, int]
    formats: dict[str, int]

    def summary(self) -> str:
        """The numbers in a sentence."""
        sick = f"; {self.with_problems:,} with problems" if self.with_problems else ""
        kinds = some((f"{count:,} {name or 'unknown'}" for name, count in self.families.items()), 6)
        return f"{self.checkpoints:,} checkpoints, {human_bytes(self.size)}{f' ({kinds})' if kinds else ''}{sick}."


def list_checkpoints(
    src: str | os.PathLike[str],
    *,
    headers: bool = False,
    token: str | bool | None = None,
    progress: Progress | None = None,
) -> Iterator[Listed]:
    """Find checkpoints, in an order that depends on their names alone.

    Args:
        src: a folder, the address of a bucket's prefix or of a web server's folder, or a filter of the Hub,
            `hf://models?author=NAME&search=WORD&filter=TAG&limit=N`.
        headers: open each checkpoint and read its headers, for its family and class and for what is wrong with it.
        token: access token for the Hub; None takes the one that huggingface_hub finds.
        progress: called with a step, how much is done and how much there is.

    Raises:
        RequestError: there is no such folder, the filter asks for what cannot be, or a package is missing.
        HubError, DamagedCheckpoint: what was given cannot be listed.
    """
    given = os.fspath(src)
    found = _on_hub(given, token, progress or silent) if given.startswith(PREFIX) else _in_tree(src, given)
    yield from (_opened(one, token) if headers else one for one in found)


def write_list(path: Path, listed: Iterable[Listed]) -> Planned:
    """Write a list, whole or not at all, over nothing but an earlier one.

    Raises:
        OutputError: something else is there, or it cannot be written.
    """
    count = Count()
    write_text(path, (one.to_line() for one in count.of(listed)))
    return count.result()


class Count:
    """Counts what goes by."""

    def __init__(self) -> None:
        self._checkpoints = self._size = self._sick = 0
        self._families: dict[str, int] = {}
        self._formats: dict[str, int] = {}

    def of(self, listed: Iterable[Listed]) -> Iterator[Listed]:
        """The same checkpoints."""
        for one in listed:
            self._checkpoints += 1
            self._size += one.size
            self._sick += bool(one.problems)
            self._families[one.family] = self._families.get(one.family, 0) + 1
            self._formats[one.format] = self._formats.get(one.format, 0) + 1
            yield one

    def result(self) -> Planned:
        """The numbers, those of which there are most first."""
        first = _most_first(self._families), _most_first(self._formats)
        return Planned(self._checkpoints, self._size, self._sick, *first)


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _in_tree(src: str | os.PathLike[str], given: str) -> Iterator[Listed]:
    if is_url(src):
        root = given.rstrip("/")
        tree = UrlTree.of(given)
        for one in find_checkpoints(tree):
            yield _record(f"{root}/{one.place}" if one.place else root, one, tree.identity(one.files))
    else:
        folder = Path(given)
        yield from (_record(str(folder / one.place), one) for one in find_checkpoints(LocalTree(folder)))


def _record(src: str, one: Found, identity: str = "") -> Listed:
    return Listed(src, one.size, one.family, one.format, one.head, one.problems, identity)


def _on_hub(given: str, token: str | bool | None, progress: Progress) -> Iterator[Listed]:
    todo = repositories(Query.of(given), token)
    for done, repository in enumerate(todo):
        progress("repositories", done, len(todo))
        at = f"hf://{repository.name}" + (f"@{repository.commit}" if repository.commit else "")
        for one in found_in(repository, token):
            yield _record(f"{at}/{one.place}" if one.place else at, one, repository.commit)
    progress("repositories", len(todo), len(todo))


def _opened(one: Listed, token: str | bool | None) -> Listed:
    """The same with what the headers say."""
    from bertconv.inspection import inspect_checkpoint

    if not one.size:
        return one
    try:
        found = inspect_checkpoint(one.src, token=token if isinstance(token, str) else None)
    except BertconvError as error:
        return replace(one, problems=(*one.problems, sentence(error)))
    problem = ""
    if not found.family:
        problem = next(iter(found.notes[-1:]), "it is of no known family")
    elif found.alternatives:
        problem = f"nothing says which of these it is: {', '.join(found.alternatives)}"
    return replace(
        one, family=found.family or one.family, format=found.container, head=found.head or one.head,
        problems=(*one.problems, problem) if problem else one.problems,
    )  # fmt: skip
