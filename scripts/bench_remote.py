"""What a conversion from a web server costs: against downloading the checkpoint and converting the copy.

    python scripts/bench_remote.py                   BERT-base, 5 rounds
    python scripts/bench_remote.py --rounds 1 --latency 0.03 --rate 100

The server runs on loopback, in a process of its own, and counts the bytes that it sends. Every figure is a whole
process from start to exit; the download (curl) and the conversion of the copy are several, whose times are added. A
benchmark, not a test. Prints Markdown, for docs/scale.md.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_parts import BERTCONV, checkpoint, human, measure, progress, spread

RANGE = re.compile(r"bytes=(\d+)-(\d*)")
HEADINGS = (
    "| BERT-base from a web server | bytes read / size | requests | time / download and convert | seconds "
    "| peak memory |\n"
    "|---|---|---|---|---|---|"
)


class Server(http.server.BaseHTTPRequestHandler):
    """Files of a folder, by ranges; `/counts` tells what was sent since it was asked last."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    latency = 0.0
    rate = 0.0
    counts: dict[str, int] = {"requests": 0, "bytes": 0}  # noqa: RUF012  (of the only server in this process)

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path == "/counts":
            found = dict(self.counts)
            self.counts.update(requests=0, bytes=0)
            self.send(json.dumps(found).encode())
            return
        time.sleep(self.latency)
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send(b"nothing", 404)
            return
        size = path.stat().st_size
        wanted = RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = 0, size
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{size}"')
        self.end_headers()
        self.counts["requests"] += 1
        with path.open("rb") as file:
            self.stream(file.fileno(), start, end)

    def stream(self, fd: int, start: int, end: int) -> None:
        """Send a range, no faster than the rate of a connection where one is set."""
        step = 1 << 20 if self.rate else 1 << 30
        while start < end:
            began = time.perf_counter()
            sent = os.sendfile(self.connection.fileno(), fd, start, min(step, end - start))
            start += sent
            self.counts["bytes"] += sent
            if self.rate:
                time.sleep(max(sent / self.rate - (time.perf_counter() - began), 0))

    def send(self, body: bytes, status: int = 200) -> None:
        """Answer with a text."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Be silent."""


def serve(folder: Path, latency: float, rate: float) -> None:
    """Run the server until the process ends; the first line of its output is its address."""
    Server.folder, Server.latency, Server.rate = folder, latency, rate
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def counts(url: str) -> dict[str, int]:
    """What the server sent since it was asked last."""
    with urllib.request.urlopen(f"{url}/counts") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def row(
    what: str, url: str, folder: Path, temp: Path, arguments: list[str], rounds: int, clear: Callable[[], None]
) -> str:
    """Measure one conversion."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    ratios, seconds, peak, sent, requests = [], [], 0, 0, 0
    for turn in range(rounds + 1):
        base = downloaded(url, folder, temp / "copy", temp / "out", arguments)
        clear()
        counts(url)
        own = measure([*BERTCONV, "convert", f"{url}/{folder.name}", str(temp / "out"), *arguments])
        found = counts(url)
        clear()
        if turn:
            ratios.append(own.seconds / base)
            seconds.append(own.seconds)
            peak, sent, requests = max(peak, own.peak_bytes), max(sent, found["bytes"]), found["requests"]
        progress(f"{what} {turn}: {own.seconds:.2f} / {base:.2f} s, {found}, {human(own.peak_bytes)}")
    mean = sum(seconds) / len(seconds)
    return f"| {what} | **{sent / size:.3f}** | {requests} | {spread(ratios)} | {mean:.2f} | {human(peak)} |"


def downloaded(url: str, folder: Path, copy: Path, out: Path, arguments: list[str]) -> float:
    """Seconds that a download and the conversion of the copy take."""
    copy.mkdir()
    names = [path.name for path in folder.iterdir()]
    costs = [measure(["curl", "-sf", "-o", str(copy / name), f"{url}/{folder.name}/{name}"]) for name in names]
    costs.append(measure([*BERTCONV, "convert", str(copy), str(out), *arguments]))
    shutil.rmtree(copy)
    return sum(cost.seconds for cost in costs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before every answer.")
    parser.add_argument("--rate", type=float, default=0.0, help="MB/s of a connection; 0 is no limit.")
    parser.add_argument("--temp", type=Path, default=None)
    parser.add_argument("--serve", type=Path, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, given.latency, given.rate * 1e6)
    temp = Path(tempfile.mkdtemp(dir=given.temp))
    out = temp / "out"
    serving = [
        sys.executable,
        __file__,
        "--serve",
        str(temp),
        "--latency",
        str(given.latency),
        "--rate",
        str(given.rate),
    ]
    server = subprocess.Popen(serving, stdout=subprocess.PIPE, text=True)
    try:
        url = (server.stdout.readline() if server.stdout else "").strip()
        base, tf = checkpoint("base", temp), temp / "tf"
        measure([*BERTCONV, "convert", str(base), str(tf), "--to", "tf", "--verify", "none"])
        (tf / "bertconv.json").unlink()

        def clear() -> None:
            shutil.rmtree(out)

        print(HEADINGS)
        for what, folder, arguments in (
            ("safetensors to TensorFlow, `--verify weights`", base, ["--to", "tf", "--verify", "weights"]),
            ("safetensors to TensorFlow, `--verify none`", base, ["--to", "tf", "--verify", "none"]),
            ("HDF5 to PyTorch, `--verify weights`", tf, ["--to", "pt", "--verify", "weights"]),
        ):
            print(row(what, url, folder, temp, arguments, given.rounds, clear), flush=True)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(temp, ignore_errors=True)


if __name__ == "__main__":
    main()
