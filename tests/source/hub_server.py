"""A Hub on the loopback address: the part of its HTTP interface that huggingface_hub needs to look up and download."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
LFS = (".safetensors", ".bin", ".h5")
"""Files that the Hub keeps in LFS, whose digest is a sha256; that of the others is git's sha1."""

Trouble = Callable[[BaseHTTPRequestHandler, str, bytes, dict[str, str]], bool]
"""Called with the request for a file, its name, bytes and headers; True when it has answered."""


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False
    private: bool = False


@dataclass
class HubServer:
    """Use as a context manager; `url` is what HF_ENDPOINT has to be.

    Attributes:
        requests: every request, as `GET /bert/resolve/<commit>/config.json`.
        fail: answer everything with this HTTP status.
        silent: answer nothing until it stops.
        body: answer everything with this instead.
        trouble: asked first when a file is asked for.
        states: whether the listing has digests.
        handler: what answers.
    """

    requests: list[str] = field(default_factory=list)
    fail: int = 0
    silent: bool = False
    body: bytes = b""
    trouble: Trouble = lambda *_: False
    states: bool = True
    stopped: bool = True
    handler: type[BaseHTTPRequestHandler] = field(default_factory=lambda: Handler)
    repositories: dict[str, Repository] = field(default_factory=dict)

    def add_repo(
        self,
        repo_id: str,
        files: dict[str, bytes],
        commit: str = COMMIT,
        refs: tuple[str, ...] = ("main",),
        *,
        gated: bool = False,
    ) -> None:
        """Add a repository, or one more commit to it; `refs` are its branches and tags."""
        known = self.repositories.setdefault(repo_id, Repository({}, {}, gated))
        known.commits[commit] = files
        known.refs.update(dict.fromkeys(refs, commit))

    def downloaded(self) -> list[str]:
        """Files whose content was asked for, sorted."""
        asked = [request.partition("/resolve/")[2] for request in self.requests if request.startswith("GET")]
        return sorted(rest.partition("/")[2] for rest in asked if rest)

    def start(self) -> None:
        """Answer from now on."""
        self.stopped = False
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (self.handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Refuse new connections, and drop the open ones when they ask for something."""
        self.stopped = True
        self.ended.set()
        self._server.shutdown()  # returns at once when it is stopped already
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the acknowledgement of its headers

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.hub.stopped:
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.answer_to(path)

    def answer_to(self, path: str) -> None:
        if self.hub.silent:
            self.hub.ended.wait()
            self.close_connection = True
        elif self.hub.fail:
            self.send(self.hub.fail)
        elif self.hub.body:
            self.send(200, self.hub.body, {"Content-Type": "text/html"})
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        else:
            repo_id, _, rest = path[1:].partition("/resolve/")
            self.serve_file(repo_id, rest)

    def find(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            # The Hub does not tell a stranger which repositories are private.
            self.send(401, code="RepoNotFound")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self.send(404, code="RevisionNotFound")
            return None
        return commit, repository.commits[commit]

    def _api(self, path: str) -> None:
        repo_id, kind, revision = path, "revision", "main"
        for word in ("revision", "tree"):
            if f"/{word}/" in path:
                repo_id, _, revision = path.partition(f"/{word}/")
                kind = word
        if (found := self.find(repo_id, revision)) is None:
            return
        commit, files = found
        content: object = [
            {"type": "file", "path": name, "size": len(data), **listed("oid", "oid", name, data)}
            for name, data in files.items()
        ]
        if kind == "revision":
            states = self.hub.states and "blobs=" in self.path
            siblings = [
                {"rfilename": name, **(_sized("blobId", "sha256", name, data) if states else {})}
                for name, data in files.items()
            ]
            private = self.hub.repositories[repo_id].private
            content = {"id": repo_id, "sha": commit, "siblings": siblings, "private": private}
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def serve_file(self, repo_id: str, rest: str) -> None:
        revision, _, name = rest.partition("/")
        if rest.startswith("refs/pr/"):
            revision, name = rest[: rest.index("/", 8)], rest[rest.index("/", 8) + 1 :]
        if (found := self.find(repo_id, revision)) is None:
            return
        commit, files = found
        if self.hub.repositories[repo_id].gated:
            self.send(401, code="GatedRepo", headers={"X-Repo-Commit": commit})
        elif name not in files:
            self.send(404, code="EntryNotFound", headers={"X-Repo-Commit": commit})
        else:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{digest(name, files[name])}"'}
            if not self.hub.trouble(self, name, files[name], headers):
                self.send(200, files[name], headers)

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, code: str = "") -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def digest(name: str, data: bytes) -> str:
    """What the Hub states for a file, in its listing and as ETag."""
    return hashlib.sha256(data).hexdigest() if name.endswith(LFS) else git_hash(data)


def _sized(oid: str, sha256: str, name: str, data: bytes) -> dict[str, object]:
    return {"size": len(data), **listed(oid, sha256, name, data)}


def listed(oid: str, sha256: str, name: str, data: bytes) -> dict[str, object]:
    """Digests in a listing; the Hub's two listings have other words for them."""
    if not name.endswith(LFS):
        return {oid: git_hash(data)}
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        digest(name, data).encode(), len(data),
    )  # fmt: skip
    lfs = {sha256: digest(name, data), "size": len(data), "pointerSize": len(pointer)}
    return {oid: git_hash(pointer), "lfs": lfs}


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
