"""Ways in which a Hub, or what stands between, answers with something else than the file that was asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from hub_server import digest

SEED = 20261123
Answer = Callable[[BaseHTTPRequestHandler, str, bytes, dict[str, str]], bool]


def send(handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str], status: int = 200, length: int = -1):
    """Answer, with a length that need not be that of the body."""
    handler.send_response(status)
    for key, value in {**headers, "Content-Length": str(len(body) if length < 0 else length)}.items():
        handler.send_header(key, value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)
    return True


def flip(data: bytes, seed: int = SEED) -> bytes:
    """One bit, anywhere."""
    at = random.Random(seed).randrange(8 * len(data))
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def html(length: int) -> bytes:
    return b"<!DOCTYPE html><html>Log in to the network</html>".ljust(length)[:length]


def body_is(change: Callable[[bytes], bytes], *, head_too: bool) -> Answer:
    """Other bytes; with `head_too` their length is what the server says everywhere but in the listing."""

    def answer(handler: BaseHTTPRequestHandler, _: str, data: bytes, headers: dict[str, str]) -> bool:
        if handler.command == "HEAD" and not head_too:
            return False
        return send(handler, change(data), headers)

    return answer


def wrong_etag(handler: BaseHTTPRequestHandler, name: str, data: bytes, headers: dict[str, str]) -> bool:
    """Other bytes under their own digest: consistent in itself, but not what the listing has."""
    return send(handler, flip(data), {**headers, "ETag": f'"{digest(name, flip(data))}"'})


def status(code: int, times: int = 1_000_000, method: str = "GET") -> Callable[[], Answer]:
    """An HTTP error, so many times."""

    def build() -> Answer:
        left = [times]

        def answer(handler: BaseHTTPRequestHandler, _: str, __: bytes, headers: dict[str, str]) -> bool:
            if handler.command != method or not left[0]:
                return False
            left[0] -= 1
            return send(handler, b"", headers, code)

        return answer

    return build


def cut(resume: str) -> Callable[[], Answer]:
    """The connection breaks in the middle; the rest is asked for with `Range`."""

    def build() -> Answer:
        broken = []

        def answer(handler: BaseHTTPRequestHandler, _: str, data: bytes, headers: dict[str, str]) -> bool:
            if handler.command != "GET":
                return False
            asked = re.fullmatch(r"bytes=(\d+)-.*", handler.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            if not broken or resume == "never":
                broken.append(start)
                handler.close_connection = True
                return send(handler, data[start : (start + len(data)) // 2], headers, 206 if asked else 200, len(data))
            if not asked or resume == "whole":
                return False
            rest = data[start:] if resume == "right" else random.Random(SEED).randbytes(len(data) - start)
            return send(handler, rest, {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, 206)

        return answer

    return build


def to_other_host(then: Callable[[BaseHTTPRequestHandler, bytes], bool]) -> Callable[[], Answer]:
    """As the Hub does with large files: `Location` names another host, which `then` plays (`localhost` here)."""

    def build() -> Answer:
        def answer(handler: BaseHTTPRequestHandler, name: str, data: bytes, headers: dict[str, str]) -> bool:
            host, _, port = handler.headers["Host"].partition(":")
            if host == "localhost":
                return then(handler, data)
            linked = {"X-Linked-ETag": f'"{digest(name, data)}"', "X-Linked-Size": str(len(data))}
            place = {"Location": f"http://localhost:{port}{handler.path}"}
            return send(handler, b"", {"X-Repo-Commit": headers["X-Repo-Commit"], **linked, **place}, 302)

        return answer

    return build


def in_circles(handler: BaseHTTPRequestHandler, _: str, __: bytes, headers: dict[str, str]) -> bool:
    return send(handler, b"", {"X-Repo-Commit": headers["X-Repo-Commit"], "Location": handler.path}, 302)


def html_of(length: Callable[[int], int], *, head_too: bool = False) -> Answer:
    return body_is(lambda data: html(length(len(data))), head_too=head_too)


TROUBLES: dict[str, Callable[[], Answer]] = {
    "one bit flipped": lambda: body_is(flip, head_too=False),
    "last byte flipped": lambda: body_is(lambda data: data[:-1] + bytes([data[-1] ^ 255]), head_too=False),
    "cut short": lambda: body_is(lambda data: data[:-1], head_too=False),
    "cut short, length too": lambda: body_is(lambda data: data[: len(data) // 2], head_too=True),
    "empty": lambda: body_is(lambda _: b"", head_too=True),
    "longer": lambda: body_is(lambda data: data + b"\0", head_too=False),
    "longer, length too": lambda: body_is(lambda data: data + b"\0" * 100, head_too=True),
    "wrong etag": lambda: wrong_etag,
    "HTML": lambda: html_of(lambda _: 49),
    "HTML, length too": lambda: html_of(lambda _: 49, head_too=True),
    "HTML of the same length": lambda: html_of(lambda length: length),
    "redirect in circles": lambda: in_circles,
    "redirect in circles elsewhere": to_other_host(
        lambda handler, _: send(handler, b"", {"Location": handler.path}, 302)
    ),
    "other host flips": to_other_host(lambda handler, data: send(handler, flip(data), {})),
    "other host has HTML": to_other_host(lambda handler, data: send(handler, html(len(data)), {})),
    "403": status(403),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "503 to HEAD": status(503, method="HEAD"),
    "cut, resumed over garbage": cut("garbage"),
    "cut again and again": cut("never"),
}
"""What must end in an error that names the file."""

HICCUPS: dict[str, Callable[[], Answer]] = {
    "none": lambda: lambda *_: False,
    "other host": to_other_host(lambda handler, data: send(handler, data, {})),
    "429, then right": status(429, 1),
    "429 to HEAD, then right": status(429, 1, "HEAD"),
    "cut, resumed": cut("right"),
    "cut, sent whole": cut("whole"),
}
"""What must not matter."""


def only_for(target: str, answer: Answer) -> Answer:
    return lambda handler, name, data, headers: name == target and answer(handler, name, data, headers)
