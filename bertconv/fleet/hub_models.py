"""The repositories of the Hub that a filter names, as checkpoints: one question a page, and one for each repository."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit

from bertconv.errors import BertconvError, HubError, RequestError
from bertconv.fleet.finding import Found, find_checkpoints
from bertconv.fleet.trees import ListedTree
from bertconv.records import dataclass
from bertconv.source.sidecars import CONFIGS
from bertconv.text import printable, some

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hf://models?"
"""How a filter begins."""
_KEYS = ("author", "search", "filter", "limit")


@dataclass(frozen=True)
class Query:
    """Which repositories are meant.

    Attributes:
        author: whose they are.
        search: a part of their names.
        tags: all of which they have, such as `bert` or `license:mit`.
        limit: at most so many, those that the Hub lists first.
    """

    author: str | None = None
    search: str | None = None
    tags: tuple[str, ...] = ()
    limit: int | None = None

    @classmethod
    def of(cls, text: str) -> Query:
        """What `hf://models?author=NAME&search=WORD&filter=TAG&limit=N` asks for.

        Raises:
            RequestError: it has other keys, one twice, or asks for every model that there is.
        """
        asked = parse_qs(urlsplit(text).query, keep_blank_values=True)
        if unknown := sorted(set(asked) - set(_KEYS)):
            raise _refused(f"asks for {some(map(repr, unknown))}", f"A filter has {', '.join(_KEYS)}.", text)
        if twice := [key for key, values in asked.items() if len(values) > 1 and key != "filter"]:
            raise _refused(f"gives {some(twice)} twice", "Only `filter` may be given several times.", text)
        if empty := [key for key, values in asked.items() if not all(values)]:
            raise _refused(f"gives nothing for {some(empty)}", "Give it a value, or leave it out.", text)
        if not asked.keys() - {"limit"}:
            raise _refused("names every model on the Hub", "Give author, search or filter.", text)
        limit = asked.get("limit", [None])[0]
        if limit is not None and not (limit.isdecimal() and limit.isascii() and 0 < int(limit) < 10**9):
            raise _refused(f"has the limit {limit!r}", "Give a number of repositories.", text)
        return cls(
            asked.get("author", [None])[0], asked.get("search", [None])[0], tuple(asked.get("filter", ())),
            int(limit) if limit else None,
        )  # fmt: skip


class Repository(NamedTuple):
    """What the Hub's listing states of a repository."""

    name: str
    commit: str
    files: tuple[str, ...]
    config: object
    problem: str


def _refused(problem: str, hint: str, text: str) -> RequestError:
    return RequestError(f"{problem}.", hint=f"{hint} For instance {PREFIX}author=NAME&filter=TAG&limit=10.", file=text)


def repositories(query: Query, token: str | bool | None) -> list[Repository]:
    """The repositories that the Hub lists for a query, sorted by their names.

    Raises:
        HubError: it does not answer.
    """
    from huggingface_hub import HfApi

    from bertconv.source import hub_budget
    from bertconv.source.hub_errors import FAILURES, explain
    from bertconv.source.hub_patience import patiently

    hub_budget.attach()
    api = HfApi(token=token, library_name="bertconv")
    try:
        # Page by page; the pages are many, so that only what is used of them is kept.
        return patiently(lambda: sorted(_listed(api, query)))
    except BertconvError:
        raise
    except FAILURES as error:
        raise explain(error, "models", None, offline=False) from error


def _listed(api: HfApi, query: Query) -> Iterator[Repository]:
    found = api.list_models(
        author=query.author, search=query.search, filter=list(query.tags) or None, limit=query.limit,
        expand=["config", "disabled", "gated", "sha", "siblings"],
    )  # fmt: skip
    for one in found:
        problem = "is gated: access has to be asked for" if one.gated else ""
        problem = "was disabled on the Hub" if one.disabled else problem
        files = tuple(sorted(file.rfilename for file in one.siblings or ()))
        yield Repository(one.id, one.sha or "", files, one.config, problem)


def found_in(repository: Repository, token: str | bool | None) -> tuple[Found, ...]:
    """The checkpoints at the root of a repository; one with a problem where there is none."""
    tree = _RepositoryTree(repository, token)
    about = (repository.problem,) if repository.problem else ()
    found = tuple(filter(_at_root, find_checkpoints(tree)))
    if not found:
        inner = some(sorted({name.partition("/")[0] for name in repository.files if "/" in name}), 3)
        there = f"; it has the folders {printable(inner)}" if inner else ""
        return (Found("", problems=(*about, f"no file at its root looks like weights{there}")),)
    return tuple(replace(one, problems=(*about, *one.problems)) for one in found)


def _at_root(found: Found) -> bool:
    """Whether it is the repository's folder, or a file or a prefix in it."""
    return not found.place or (bool(found.files) and not any("/" in name for name in found.files))


class _RepositoryTree(ListedTree):
    """A repository by the names of its files; the Hub is asked for their sizes once, where one is needed."""

    def __init__(self, repository: Repository, token: str | bool | None) -> None:
        super().__init__((name, None) for name in repository.files)
        self._repository, self._token = repository, token

    def read(self, name: str, most: int) -> bytes:
        """Of a config what the Hub states of it in its listing."""
        if name not in CONFIGS:
            return super().read(name, most)
        return json.dumps(self._repository.config or {}).encode()

    def size(self, name: str) -> int:
        """As the Hub states it."""
        if isinstance(self._sizes, HubError):
            raise self._sizes
        return self._sizes[name] if name in self._sizes else super().size(name)

    @cached_property
    def _sizes(self) -> Mapping[str, int] | HubError:
        from bertconv.source.hub_upload import UploadTarget

        try:
            return UploadTarget(self._repository.name, token=self._token).at(self._repository.commit or None).sizes
        except HubError as error:
            return error
