"""What `bertconv verify` costs: against `cmp` of two files of that size, and against what no comparison can do without.

    python scripts/bench_verify.py                     BERT-base, 9 rounds
    python scripts/bench_verify.py --rounds 3 --parts outputs

Every figure is a whole process from start to exit, on a warm page cache, followed by what it is divided by; the table
gives the median of these ratios and their range. The outputs level is divided by the import of both frameworks and one
forward pass of each in float64, on the inputs that it uses itself. A benchmark, not a test. Prints Markdown, for
docs/performance.md and docs/verify.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_parts import (
    BERTCONV,
    ENVIRONMENT,
    HEADINGS,
    Cost,
    Row,
    checkpoint,
    heading,
    measure,
    pairs,
    progress,
    spread,
)

FLOOR = """
import json, sys, time
started = time.perf_counter()
import torch
import keras, tensorflow
imports = time.perf_counter() - started
from pathlib import Path
from bertconv.source import SourceOptions
from bertconv.verify.cases import make_batches
from bertconv.checkpoint import open_checkpoint
from bertconv.verify.tensorflow_runner import TensorFlowRunner
from bertconv.verify.torch_runner import TorchRunner

def seconds(runner, build):
    made = build()
    setattr(runner, build.__name__, lambda *_: made)
    started = time.perf_counter()
    runner.run("float64", batches, lambda *_: None)
    return time.perf_counter() - started

with (
    open_checkpoint(sys.argv[2], SourceOptions()) as b,
    open_checkpoint(sys.argv[1], SourceOptions(), head=b.head) as a,
):
    batches = make_batches(a.table, a.values, b.task, a.source.folder)
    pt, tf = TorchRunner(a, {}), TensorFlowRunner(b, {})
    def _models(): return TorchRunner._models(pt, "float64")
    def model(): return TensorFlowRunner.model(tf, "float64")
    first = seconds(pt, _models)
    second = seconds(tf, model)
print(json.dumps([imports, first, second]))
"""


def weights(a: Path, b: Path, copy: Path, rounds: int) -> Iterator[Row]:
    """The weights level, after `cmp` of two equal files of A's size."""

    def base() -> Cost:
        return measure(["cmp", str(a / "model.safetensors"), str(copy / "model.safetensors")])

    for what, other, extra in (("PyTorch against TensorFlow", b, ()), ("with digests (`--json`)", b, ("--json", "-")),
                               ("two copies in PyTorch's format", copy, ())):  # fmt: skip
        command = [*BERTCONV, "verify", str(a), str(other), "--level", "weights", *extra]
        yield pairs(Row(f"weights, {what} / `cmp`", "2.0"), rounds, lambda: measure(command), base)  # noqa: B023


def outputs(a: Path, b: Path, rounds: int) -> Iterator[str | Row]:
    """The outputs level in float32 and float64, and its memory."""
    row = Row("outputs, float32 and float64 / imports and one float64 forward pass of each", "2.50")
    size = 2 * (a / "model.safetensors").stat().st_size  # stored as float32
    for turn in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", FLOOR, str(a), str(b)], check=True, capture_output=True, env=ENVIRONMENT
        )
        own = measure([*BERTCONV, "verify", str(a), str(b), "--level", "outputs"])
        row.runs.append((own, Cost(sum(json.loads(done.stdout)), 0)))
        progress(f"outputs {turn + 1}: {own.seconds:.1f} s, imports and forward passes {done.stdout.decode().strip()}")
    yield row
    memory = [own.peak_bytes / size for own, _ in row.runs]
    yield f"| its peak memory / the weights in float64 | {spread(memory)} | 3.00 | | |"


def main() -> None:
    """Run the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--parts", default="weights,outputs", help="of weights, outputs [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=9, help="of every measurement [default: %(default)s]")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go")
    options = parser.parse_args()
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="bertconv-bench-", dir=options.temp) as temp:
        a = checkpoint("base", Path(temp))
        copy, b = Path(temp) / "copy", Path(temp) / "tf"
        shutil.copytree(a, copy)
        measure([*BERTCONV, "pt2tf", str(a), str(b), "--verify", "none"])
        rows: list[str | Row] = [
            *(weights(a, b, copy, options.rounds) if "weights" in parts else ()),
            *(outputs(a, b, options.rounds) if "outputs" in parts else ()),
        ]
    print("\n".join([*heading(), HEADINGS, *map(str, rows)]))


if __name__ == "__main__":
    main()
