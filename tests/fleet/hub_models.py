"""The part of the Hub that lists models: filters, pages, and what is stated of each; with the limits that it states."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from hub_server import Handler
from hub_writes import WritableHub, WritingHandler


@dataclass
class ListingHub(WritableHub):
    """As WritableHub; it lists its models.

    Attributes:
        page: how many models a page of the listing has.
        tags: repository -> its tags.
        configs: repository -> what is stated of its config.
        gated: repositories that are gated.
        limit: what the header RateLimit of every answer says, as `"api";r=3;t=55`; nothing where it is empty.
    """

    handler: type[Handler] = field(default_factory=lambda: ListingHandler)
    page: int = 2
    tags: dict[str, list[str]] = field(default_factory=dict)
    configs: dict[str, dict[str, object]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    limit: str = ""

    def asked(self, part: str) -> int:
        """How many requests had this in their path."""
        return sum(part in request for request in self.requests)


class ListingHandler(WritingHandler):
    hub: ListingHub

    def end_headers(self) -> None:
        if self.hub.limit:
            self.send_header("RateLimit", self.hub.limit)
        super().end_headers()

    def answer_to(self, path: str) -> None:
        if path != "/api/models" or self.hub.fail:
            super().answer_to(path)
            return
        if self.hub.fault(self, f"{self.command} {path}", b""):
            return
        query = parse_qs(urlsplit(self.path).query)
        names = [name for name in self.hub.repositories if self._fits(name, query)]
        start = int(query.get("cursor", ["0"])[0])
        size = min(self.hub.page, int(query.get("limit", ["1000"])[0]))
        headers = {"Content-Type": "application/json"}
        if start + size < len(names):
            words = "&".join(f"{key}={value}" for key in ("author", "search", "filter") for value in query.get(key, ()))
            headers["Link"] = f'<{self.hub.url}/api/models?{words}&cursor={start + size}>; rel="next"'
        self.send(200, json.dumps([self._facts(name) for name in names[start : start + size]]).encode(), headers)

    def _fits(self, name: str, query: dict[str, list[str]]) -> bool:
        author, _, own = name.partition("/")
        tags = self.hub.tags.get(name, [])
        return (
            query.get("author", [author]) == [author]
            and query.get("search", [""])[0] in own
            and all(tag in tags for tag in query.get("filter", ()))
        )

    def _facts(self, name: str) -> dict[str, object]:
        repository = self.hub.repositories[name]
        commit = repository.refs["main"]
        return {
            "id": name, "sha": commit, "private": False, "gated": "manual" if name in self.hub.gated else False,
            "disabled": False, "config": self.hub.configs.get(name),
            "siblings": [{"rfilename": file} for file in repository.commits[commit]],
        }  # fmt: skip
