"""An S3 server on loopback, in a thread of the tests, that fails as a network does when it is told to."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Trouble = Callable[[str, str, str], str]
"""Method, path and query of a request -> "503", "429", "cut" (the connection is) or "" where it is answered."""


class Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None: ...


class Server:
    """moto, with the troubles of a network before it."""

    def __init__(self) -> None:
        self.trouble: Trouble = lambda _method, _path, _query: ""
        self.requests: list[tuple[str, str, str]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""))
        self.requests.append(request)
        trouble = self.trouble(*request)
        if trouble:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if trouble == "cut":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if trouble:
            start(f"{trouble} Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        found: Iterable[bytes] = self._moto(environ, start)
        return found


@contextmanager
def serving() -> Iterator[tuple[Server, str]]:
    """The server and its address."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = Server()
    made = make_server("127.0.0.1", 0, server, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
