"""What the TensorFlow classes cost against those of transformers 4.57.6, side by side in one run: ratios, not seconds.

    python scripts/bench_models.py --peers DIR                   DIR: environment with transformers 4.57.6 and tf-keras
    python scripts/bench_models.py --peers DIR --parts calls --rounds 21
    python scripts/bench_models.py --peers DIR --model distilbert    another family, in the size of its base checkpoint

Both sides are processes of their own that stay alive and take turns, call by call (loading: process by process), so
that a busy machine slows both. Every ratio is of two neighbouring measurements; the table gives their median and range.
A benchmark, not a test: nothing fails when it is slow. Use the same TensorFlow on both sides. Prints Markdown, for
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench_parts import FAMILIES, NAMES, checkpoint, heading, progress, spread

SIDE = Path(__file__).with_name("bench_models_side.py")
CALLS = ("tf.function", "jit_compile", "eager", "predict", "tf.function x 4", "train_on_batch")
PEER_CALLS = ("tf.function", "jit_compile", "eager", "train_on_batch")
IMPORTS = {
    "bertconv": "from bertconv import TFBertModel",
    "TensorFlow alone": "import tensorflow",
}


@dataclass(frozen=True)
class Ratios:
    """One line of the table: ratios of neighbouring measurements, and the target that they have."""

    what: str
    ratios: Sequence[float]
    target: str
    note: str = ""

    def __str__(self) -> str:
        """The line in Markdown."""
        return f"| {self.what} | {spread(self.ratios)} | {self.target} | {self.note} |"


class Side:
    """A process that measures what it is asked to."""

    def __init__(self, python: str, name: str, source: Path) -> None:
        self.process = subprocess.Popen(
            [python, str(SIDE), name, str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def measure(self, what: str) -> Any:
        """Seconds, or what else is measured."""
        if self.process.stdin is None or self.process.stdout is None:
            sys.exit("no pipes")
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{' '.join(map(str, self.process.args))} ended at {what!r}: run it by hand to see why.")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def both(peer: str, source: Path) -> Iterator[tuple[Side, Side]]:
    """Ours and the peer's."""
    with Side(sys.executable, "bertconv", source) as ours, Side(peer, "peer", source) as theirs:
        yield ours, theirs


def loads(peer: str, source: Path, rounds: int, model: str) -> Iterator[Ratios]:
    """from_pretrained in fresh processes, imports not counted."""
    time_ratios, memory_ours, memory_theirs = [], [], []
    for turn in range(rounds):
        with both(peer, source) as (ours, theirs):
            mine, other = ours.measure("load"), theirs.measure("load")
        time_ratios.append(mine["seconds"] / other["seconds"])
        memory_ours.append(mine["extra"] / mine["weights"])
        memory_theirs.append(other["extra"] / other["weights"])
        progress(f"load {turn + 1}: {mine['seconds']:.2f} s, {other['seconds']:.2f} s")
    yield Ratios(f"`from_pretrained`, {model}, time / 4.57's with `from_pt=True`", time_ratios, "0.30")
    note = f"4.57: {statistics.median(memory_theirs):.2f}"
    yield Ratios("its extra peak memory / size of the weights", memory_ours, "1.35", note)


def imports(rounds: int) -> Iterator[Ratios]:
    """Whole processes that import and end."""
    ratios = []
    for _ in range(rounds):
        seconds = {}
        for name, code in IMPORTS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            seconds[name] = time.perf_counter() - started
        ratios.append(seconds["bertconv"] / seconds["TensorFlow alone"])
    yield Ratios("importing bertconv's classes / importing TensorFlow alone", ratios, "1.15")


def calls(peer: str, source: Path, rounds: int) -> Iterator[Ratios]:
    """Calls of a model of base size, batch 8 x 128 tokens, each after its like on the other side."""
    ours: dict[str, list[float]] = {name: [] for name in CALLS}
    theirs: dict[str, list[float]] = {name: [] for name in PEER_CALLS}
    with both(peer, source) as (one, other):
        for name in CALLS:  # the first calls trace and compile
            one.measure(name), one.measure(name)
        for name in PEER_CALLS:
            other.measure(name), other.measure(name)
        for turn in range(rounds):
            for name in CALLS:
                ours[name].append(one.measure(name))
                if name in theirs:
                    theirs[name].append(other.measure(name))
            progress(f"calls {turn + 1}: {ours['tf.function'][-1]:.3f} s, {theirs['tf.function'][-1]:.3f} s")

    def ratios(upper: list[float], lower: list[float]) -> list[float]:
        return [a / b for a, b in zip(upper, lower, strict=True)]

    base = theirs["tf.function"]
    yield Ratios("`tf.function` / 4.57's `tf.function`", ratios(ours["tf.function"], base), "0.97")
    own = statistics.median(ratios(theirs["jit_compile"], base))
    yield Ratios(
        "`jit_compile` / 4.57's `tf.function`", ratios(ours["jit_compile"], base), "0.92", f"4.57's own: {own:.2f}"
    )
    yield Ratios(
        "`predict` / `tf.function` of the same batches", ratios(ours["predict"], ours["tf.function x 4"]), "1.10"
    )
    training = ratios(ours["train_on_batch"], theirs["train_on_batch"])
    yield Ratios("a training step, SequenceClassification / 4.57's", training, "1.00")
    yield Ratios("eager call / 4.57's", ratios(ours["eager"], theirs["eager"]), "")


def main() -> None:
    """Run the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--peers", type=Path, required=True, metavar="DIR", help="environment with transformers 4.57.6")
    parser.add_argument(
        "--parts", default="imports,loads,calls", help="of imports, loads, calls [default: %(default)s]"
    )
    parser.add_argument("--rounds", type=int, default=9, help="of every measurement [default: %(default)s]")
    parser.add_argument("--model", choices=("base", *FAMILIES), default="base", help="base is BERT's")
    parser.add_argument("--temp", type=Path, help="where the checkpoint goes")
    options = parser.parse_args()
    peer = str(options.peers / "bin/python")
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="bertconv-bench-", dir=options.temp) as temp:
        source = checkpoint(options.model, Path(temp))
        rows = [
            *(imports(options.rounds) if "imports" in parts else ()),
            *(loads(peer, source, options.rounds, NAMES[options.model]) if "loads" in parts else ()),
            *(calls(peer, source, options.rounds) if "calls" in parts else ()),
        ]
    print("\n".join([*heading(), "| measure | ratio | target | |\n|---|---|---|---|", *map(str, rows)]))


if __name__ == "__main__":
    main()
