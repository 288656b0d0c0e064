"""What happens on one cluster of Ray, in a process of its own: its threads and handlers are no other test's business.

It is given a folder with a list, items.jsonl, and writes facts.json there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bertconv.fleet.engines.ray import RayEngine
from bertconv.fleet.items import Item, read_items
from qa.fleet.killing import descendants


class Silent(BaseHTTPRequestHandler):
    """A Hub that never answers: whoever asks it works, until it is killed."""

    asked = threading.Event()
    over = threading.Event()

    def do_HEAD(self) -> None:
        self.asked.set()
        self.over.wait()

    do_GET = do_HEAD  # noqa: N815  (http.server's own name)

    def log_message(self, *_: object) -> None:
        pass


def drained(engine: RayEngine, count: int) -> dict[str, dict[str, Any]]:
    """The ends of so many tries, by id."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        for end in engine.wait(5.0):
            found[end.name] = {"outcome": end.outcome and end.outcome.to_json(), "why": end.why}
    return found


def scenes(engine: RayEngine, items: list[Item], hung: Item) -> dict[str, Any]:
    facts: dict[str, Any] = {"slots": engine.slots, "before": len(descendants(os.getpid()))}
    for item in items:
        engine.submit(item, alone=False)
    facts["first"] = drained(engine, len(items))
    engine.submit(items[0], alone=True)
    facts["alone"] = drained(engine, 1)
    engine.submit(hung, alone=False)
    Silent.asked.wait()
    for one in descendants(os.getpid()):
        if one.is_busy_worker:
            os.kill(one.number, signal.SIGKILL)
    facts["lost"] = drained(engine, 1)
    for item in items:
        engine.submit(item, alone=False)
    facts["again"] = drained(engine, len(items))
    return facts


def main() -> None:
    root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(root / "hub")}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tempfile.tempdir = str(root / ("long" * 30))  # too long for sockets
    engine = RayEngine(workers=2)
    try:
        facts = scenes(engine, read_items(root / "items.jsonl"), Item("org/hung", str(root / "out" / "hung")))
        facts["folder"] = str(engine._folder and engine._folder.path)
        facts["processes"] = [one.number for one in descendants(os.getpid())]
    finally:
        engine.close()
        Silent.over.set()
    facts["handler"] = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    facts["left"] = [one.words for one in descendants(os.getpid())]
    (root / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
