"""The part of the Hub that writes: repositories, files, commits and pull requests; and its troubles."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from hub_server import LFS, Handler, HubServer, Repository, digest, listed

ATTRIBUTES = b"*.safetensors filter=lfs\n"
"""What a new repository holds."""

Fault = Callable[["WritingHandler", str, bytes], bool]
"""Called with a request, as `POST /api/repos/create`, and its body; True when it has answered, or hung up."""


@dataclass
class WritableHub(HubServer):
    """As HubServer; anybody with the token may write.

    Attributes:
        token: the one that may write.
        user: whose it is.
        fault: asked before each request.
        store: objects of LFS by their sha256.
        keeps: what the store makes of the bytes that it is sent.
        changes: repository -> commit -> file -> the commit that changed it last, and the second in which it did.
        proposals: repository -> the open pull requests, as the Hub lists them.
        authorizations: the header of that name of each request.
        texts: commit -> its message and description.
    """

    handler: type[Handler] = field(default_factory=lambda: WritingHandler)
    token: str = "hf_secretsecret"
    user: str = "me"
    fault: Fault = lambda *_: False
    store: dict[str, bytes] = field(default_factory=dict)
    keeps: Callable[[bytes], bytes] = lambda data: data
    changes: dict[str, dict[str, dict[str, tuple[str, int]]]] = field(default_factory=dict)
    proposals: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    authorizations: list[str] = field(default_factory=list)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    def head(self, repo_id: str, ref: str = "main") -> str:
        return self.repositories[repo_id].refs[ref]

    def files(self, repo_id: str, ref: str = "main") -> dict[str, bytes]:
        return self.repositories[repo_id].commits[self.head(repo_id, ref)]

    def make(self, repo_id: str, *, private: bool = False) -> None:
        """A repository with the commit that the Hub begins it with."""
        self.repositories[repo_id] = Repository({}, {}, private=private)
        self.commit(repo_id, {".gitattributes": ATTRIBUTES})

    def commit(self, repo_id: str, files: dict[str, bytes], ref: str = "main", on: str | None = None) -> str:
        """One more commit, with these files anew, a second after the one before."""
        repository = self.repositories[repo_id]
        parent = on or repository.refs.get(ref, "")
        number = len(repository.commits)
        commit = hashlib.sha1(f"{repo_id} {number}".encode()).hexdigest()
        before = repository.commits.get(parent, {})
        repository.commits[commit] = before | files
        repository.refs[ref] = commit
        changed = {name: (commit, number) for name, data in files.items() if before.get(name) != data}
        known = self.changes.setdefault(repo_id, {})
        known[commit] = known.get(parent, {}) | changed
        return commit

    def propose(self, repo_id: str, title: str) -> int:
        """List an open pull request; its number."""
        known = self.proposals.setdefault(repo_id, [])
        known.append({
            "title": title, "num": len(known) + 1, "author": {"name": self.user}, "status": "open",
            "createdAt": "2026-11-28T00:00:00.000Z", "isPullRequest": True, "repo": {"name": repo_id, "type": "model"},
        })  # fmt: skip
        return len(known)

    def posted(self, what: str) -> int:
        """How many requests that write had this in their path."""
        return sum(what in request for request in self.requests if request.startswith(("POST", "PUT")))


class WritingHandler(Handler):
    hub: WritableHub

    do_POST = do_PUT = Handler._answer  # noqa: N815  (what http.server looks for)

    def answer_to(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.authorizations.append(self.headers.get("Authorization", ""))
        if self.hub.fault(self, f"{self.command} {path}", body):
            return
        query = parse_qs(urlsplit(self.path).query)
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                if "Authorization" not in self.headers and self.command != "PUT":
                    self.send(401)
                else:
                    answer(self, body, query, *found.groups())
                return
        super().answer_to(path)

    def json(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def hang_up(self) -> None:
        self.close_connection = True

    def who(self, *_: object) -> None:
        self.json({"name": self.hub.user, "type": "user"})

    def validate(self, *_: object) -> None:
        self.json({"errors": [], "warnings": []})

    def create(self, body: bytes, _: object) -> None:
        asked = json.loads(body)
        repo_id = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        if repo_id in self.hub.repositories:
            answer = json.dumps({"url": f"{self.hub.url}/{repo_id}"}).encode()
            self.send(409, answer, {"Content-Type": "application/json"})
            return
        self.hub.make(repo_id, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        self.json({"url": f"{self.hub.url}/{repo_id}"})

    def preupload(self, body: bytes, _: object, repo_id: str, revision: str) -> None:
        if (found := self.find(repo_id, revision)) is None:
            return
        there = found[1]
        modes = [
            {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(LFS) else "regular",
             "shouldIgnore": one["path"] in there.get(".gitignore", b"").decode().split(),
             "oid": digest(one["path"], there[one["path"]]) if one["path"] in there else None}
            for one in json.loads(body)["files"]
        ]  # fmt: skip
        self.json({"files": modes})

    def batch(self, body: bytes, _: object, __: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}?X-Signature=secretsecret"}}
            objects.append({**one, **({} if one["oid"] in self.hub.store else {"actions": action})})
        self.json({"objects": objects, "transfer": "basic"})

    def put(self, body: bytes, _: object, oid: str) -> None:
        self.hub.store[oid] = self.hub.keeps(body)
        self.send(200)

    def commit(self, body: bytes, query: dict[str, list[str]], repo_id: str, revision: str) -> None:
        if (found := self.find(repo_id, revision)) is None:
            return
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        proposed = "create_pr" in query
        if not proposed and header.get("parentCommit") not in (None, found[0]):
            self.send(412)
            return
        files = {}
        for line in lines[1:]:
            one = line["value"]
            data = base64.b64decode(one["content"]) if line["key"] == "file" else self.hub.store[one["oid"]]
            files[one["path"]] = self.hub.keeps(data) if line["key"] == "file" else data
        answer: dict[str, object] = {"success": True}
        ref = revision
        if proposed:
            number = self.hub.propose(repo_id, header["summary"])
            ref, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{self.hub.url}/{repo_id}/discussions/{number}"
        made = self.hub.commit(repo_id, files, ref, header.get("parentCommit") or found[0])
        self.hub.texts[made] = header["summary"], header["description"]
        self.json({**answer, "commitOid": made, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{made}"})

    def discussions(self, _: bytes, query: dict[str, list[str]], repo_id: str) -> None:
        found = self.hub.proposals.get(repo_id, [])
        if "author" in query:
            found = [one for one in found if one["author"] == {"name": query["author"][0]}]
        self.json({"count": len(found), "start": 0, "discussions": found})

    def paths(self, body: bytes, _: object, repo_id: str, revision: str) -> None:
        if (found := self.find(repo_id, revision)) is None:
            return
        commit, files = found
        rows = []
        for name in parse_qs(body.decode())["paths"]:
            if name in files:
                row = {"type": "file", "path": name, "size": len(files[name])}
                row |= listed("oid", "oid", name, files[name])
                if (last := self.hub.changes.get(repo_id, {}).get(commit, {}).get(name)) is not None:
                    date = f"2026-11-28T00:00:{last[1]:02}.000Z"
                    row["lastCommit"] = {"id": last[0], "title": "a commit", "date": date}
                rows.append(row)
        self.json(rows)


_REPO = "([^/]+/[^/]+|[^/]+)"
_ROUTES = {
    "GET /api/whoami-v2": WritingHandler.who,
    "POST /api/validate-yaml": WritingHandler.validate,
    "POST /api/repos/create": WritingHandler.create,
    f"POST /api/models/{_REPO}/preupload/(.+)": WritingHandler.preupload,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": WritingHandler.batch,
    "PUT /lfs/([0-9a-f]{64})": WritingHandler.put,
    f"POST /api/models/{_REPO}/commit/(.+)": WritingHandler.commit,
    f"GET /api/models/{_REPO}/discussions": WritingHandler.discussions,
    f"POST /api/models/{_REPO}/paths-info/(.+)": WritingHandler.paths,
}


# Troubles


def answers(what: str, code: int, times: int = 1_000_000, headers: dict[str, str] | None = None) -> Fault:
    """An HTTP status to requests of which this is a part, so many times."""
    left = [times]

    def fault(handler: WritingHandler, request: str, _: bytes) -> bool:
        if what not in request or not left[0]:
            return False
        left[0] -= 1
        handler.send(code, headers=headers)
        return True

    return fault


def hangs_up(what: str, times: int = 1_000_000) -> Fault:
    """The connection ends without an answer."""
    left = [times]

    def fault(handler: WritingHandler, request: str, _: bytes) -> bool:
        if what not in request or not left[0]:
            return False
        left[0] -= 1
        handler.hang_up()
        return True

    return fault


def loses_the_answer(what: str) -> Fault:
    """It is done, once, and nobody hears of it."""
    done = []

    def fault(handler: WritingHandler, request: str, _: bytes) -> bool:
        if what not in request or done:
            return False
        done.append(request)
        handler.send = lambda *_, **__: handler.hang_up()  # type: ignore[method-assign]
        return False

    return fault


def somebody_commits(what: str, repo_id: str, files: dict[str, bytes]) -> Fault:
    """Somebody else commits just before a request is answered, once."""
    done = []

    def fault(handler: WritingHandler, request: str, _: bytes) -> bool:
        if what in request and not done:
            done.append(handler.hub.commit(repo_id, files))
        return False

    return fault
