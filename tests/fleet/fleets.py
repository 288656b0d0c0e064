"""What the tests of fleets share: lists of tiny checkpoints, and an engine that does as its script says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import checkpoints as cp

from bertconv.fleet.engines.engine import Finished
from bertconv.fleet.items import Item
from bertconv.fleet.outcome import DONE, FAILED, Outcome

HEAD = "BertForMaskedLM"
SMALL = {"hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 7, "vocab_size": 13}
FORMAT = "tf-safetensors"


def make(folder: Path, seed: int = 0) -> Path:
    return cp.save(folder, HEAD, cp.state_dict(HEAD, seed=seed, **SMALL), **SMALL)


def make_many(folder: Path, number: int) -> list[Path]:
    return [make(folder / f"model-{seed}", seed) for seed in range(number)]


def make_list(path: Path, sources: Iterable[Path], **more: Any) -> Path:
    path.write_text("".join(json.dumps({"src": str(source), **more}) + "\n" for source in sources))
    return path


def done(**facts: Any) -> Outcome:
    return Outcome(DONE, **facts)


def failed(code: int) -> Outcome:
    return Outcome(FAILED, code, "AnError", "went wrong", "Do better.")


class Scripted:
    """An engine whose items end as a script says, an end for each try; None is a worker that died."""

    def __init__(self, script: dict[str, list[Outcome | None]], slots: int = 2) -> None:
        self.slots = slots
        self.script = {src: list(ends) for src, ends in script.items()}
        self.running: list[Item] = []
        self.tried: list[tuple[str, bool]] = []
        self.closed: list[bool] = []

    def submit(self, item: Item, *, alone: bool) -> None:
        assert len(self.running) < self.slots
        self.tried.append((item.src, alone))
        self.running.append(item)

    def wait(self, timeout: float) -> list[Finished]:
        assert timeout >= 0
        if not self.running:
            return []
        item = self.running.pop(0)
        outcome = self.script[item.src].pop(0)
        return [Finished(item.id, outcome, "" if outcome else "it was killed")]

    def close(self, *, stop: bool = False) -> None:
        self.closed.append(stop)
