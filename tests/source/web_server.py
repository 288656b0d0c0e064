"""A web server on loopback whose answers can be made wrong in every way that a network makes them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Answer:
    """One answer before it is sent; a trouble changes it."""

    path: str
    start: int
    status: int
    headers: dict[str, str]
    body: bytes | memoryview
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    reset: bool = False
    """Close it with a reset."""


Trouble = Callable[[Answer], None]


@dataclass
class Site:
    """What a server has, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes | Path] = field(default_factory=dict)
    lists: bool = True
    ranges: bool = True
    tags: bool = True
    trouble: Trouble = lambda _: None
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    """Path, first byte and number of bytes of every answer."""
    redirects: dict[str, str] = field(default_factory=dict)
    heads: list[dict[str, str]] = field(default_factory=list)
    """Headers of every request."""

    def put(self, folder: Path, at: str = "") -> str:
        """Serve the files of a folder; returns its address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{at}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        return self.url + at

    def bytes_of(self, name: str) -> int:
        """Bytes that were sent of the files whose path ends so."""
        return sum(count for path, _, count in self.asked if path.endswith(name))

    def answer(self, path: str, wanted: str | None) -> Answer:
        if path in self.redirects:
            return Answer(path, 0, 302, {"Location": self.redirects[path]}, b"")
        if path not in self.files:
            return self._listing(path)
        own = self.files[path]
        content = memoryview(own.read_bytes() if isinstance(own, Path) else own)
        headers = {"Content-Type": "application/octet-stream"}
        if self.tags:
            headers["ETag"] = '"' + hashlib.md5(content[:4096]).hexdigest() + f'-{len(content)}"'
        found = RANGE.fullmatch(wanted or "") if self.ranges else None
        if found is None:
            return Answer(path, 0, 200, headers, content)
        start, end = int(found[1]), min(int(found[2]) + 1, len(content))
        if start >= len(content):
            return Answer(path, 0, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return Answer(path, start, 206, headers, content[start:end])

    def _listing(self, path: str) -> Answer:
        inside = path.rstrip("/") + "/"
        names = {name.removeprefix(inside).partition("/") for name in self.files if name.startswith(inside)}
        if not names or not self.lists:
            return Answer(path, 0, 404, {"Content-Type": "text/html"}, b"<html>nothing here</html>")
        if not path.endswith("/"):
            return Answer(path, 0, 301, {"Location": inside}, b"")
        links = "".join(f'<a href="{name}{slash}">{name}</a>\n' for name, slash, _ in sorted(names))
        page = f'<html><a href="../">..</a><a href="?C=N;O=D">Name</a>{links}</html>'
        return Answer(path, 0, 200, {"Content-Type": "text/html"}, page.encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.heads.append(dict(self.headers))
        answer = self.site.answer(unquote(self.path.partition("?")[0]), self.headers.get("Range"))
        self.site.trouble(answer)
        length = answer.headers.pop("Content-Length", str(len(answer.body)))
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        # before anything is sent: a client that has the headers may count already
        self.site.asked.append((answer.path, answer.start, len(body)))
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True
            return
        if answer.reset:
            import socket
            import struct

            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.cut is not None or answer.reset or str(len(body)) != length:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Site]:
    """A server for the length of a block."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that closes a connection is none of the server's errors
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
