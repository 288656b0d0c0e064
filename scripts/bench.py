"""What a conversion costs, as ratios within one run: against `cp` and `sync` of the same file, and against the peer.

    python scripts/bench.py                            BERT-base and BERT-large, 9 rounds, and start-up
    python scripts/bench.py --parts convert --sizes base --rounds 21
    python scripts/bench.py --sizes xlm-roberta        other families, in the size of their base checkpoints
    python scripts/bench.py --huge                     also a checkpoint of 12 GB (needs 40 GB of disk)
    python scripts/bench.py --peers DIR --json FILE    also transformers 4.57.6 (DIR: see scripts/witness.py)

A benchmark, not a test: nothing fails when it is slow. Every figure is of a whole process, start and exit included, on
a warm page cache. Every run of a converter follows a run of `cp` and `sync` of the same file and is divided by it; the
table gives the median of these ratios and their range. Prints Markdown, for docs/performance.md. `--parts` takes
convert and start.

The 12 GB and their copy do not fit into most page caches: that row is about memory, its one ratio is about the disk.
Where `cp` shares blocks instead of copying them (btrfs, XFS with reflinks), the ratios say little.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BERTCONV = (sys.executable, "-c", "from bertconv.cli import main; main()")
PEER = """
import sys
from transformers import TFAutoModelForPreTraining
TFAutoModelForPreTraining.from_pretrained(sys.argv[1], from_pt=True).save_pretrained(sys.argv[2])
"""
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}

SIZES: Mapping[str, Mapping[str, int]] = {
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "huge": {"hidden_size": 4096, "num_hidden_layers": 14, "num_attention_heads": 32, "intermediate_size": 16384},
}
"""What differs from BERT-base's config; huge is 12 GB."""
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "roberta": ROBERTA,
    "xlm-roberta": {**ROBERTA, "vocab_size": 250_002},
    "distilbert": {},
}
"""Other families in the size of their base checkpoints: what differs from the defaults of their classes."""
NAMES = {"base": "BERT-base", "large": "BERT-large", "huge": "synthetic"} | {name: f"{name}-base" for name in FAMILIES}
HUGE_BYTES = 12_000_000_000
DEFAULT = "`bertconv pt2tf --verify weights` (with digests)"
UNVERIFIED = "`bertconv pt2tf --verify none`"
PEER_NAME = "transformers 4.57.6 `from_pt=True`, `save_pretrained`"
START_RUNS = 9


@dataclass(frozen=True)
class Cost:
    """One process: wall time, peak memory (resident set), and the wall time of the `cp` and `sync` before it."""

    seconds: float
    peak_bytes: int
    copy_seconds: float = 0.0

    @property
    def ratio(self) -> float:
        """How many copies it cost."""
        return self.seconds / self.copy_seconds


@dataclass(frozen=True)
class Result:
    """All runs of one command on one checkpoint."""

    size: str
    bytes: int
    command: str
    runs: Sequence[Cost]

    @property
    def copies(self) -> float:
        """How many copies it cost, in the median."""
        return statistics.median(run.ratio for run in self.runs)

    @property
    def peak(self) -> int:
        """Most memory of any run, in bytes."""
        return max(run.peak_bytes for run in self.runs)


def main() -> None:
    """Run the chosen parts, print the tables, write the JSON."""
    options = arguments()
    if options.make:
        make_checkpoint(*options.make)
        return
    results: list[Result] = []
    start: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bertconv-bench-", dir=options.temp) as temp:
        for size in options.sizes:
            source = checkpoint(size, Path(temp))
            if "convert" in options.parts:
                rounds, peer_rounds = (1, 0) if size == "huge" else (options.rounds, options.peer_rounds)
                results += conversions(size, source, rounds, options.peers, peer_rounds)
            if "start" in options.parts and size != "huge":
                start = start_up(NAMES[size], source)
            shutil.rmtree(source)
    facts = machine()
    print(f"{facts['date']}, {facts['cores']} cores of {facts['cpu']}, Python {facts['python']}\n")
    print("\n".join([*table(results), *peer_lines(results), *start_table(start)]))
    if options.json:
        content = {"machine": facts, "start": start, "conversions": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def conversions(size: str, source: Path, rounds: int, peers: Path | None, peer_rounds: int) -> Iterator[Result]:
    """Every command alternates with a copy; the commands take turns too."""
    commands = {UNVERIFIED: [*BERTCONV, "pt2tf", "--quiet", "--verify", "none"],
                DEFAULT: [*BERTCONV, "pt2tf", "--quiet", "--verify", "weights"]}  # fmt: skip
    turns = dict.fromkeys(commands, rounds)
    if peers is not None and peer_rounds:
        commands[PEER_NAME] = [str(peers / "bin/python"), "-c", PEER]
        turns[PEER_NAME] = peer_rounds
    runs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(max(turns.values())):
        for name, command in commands.items():
            if turn < turns[name]:
                runs[name].append(pair(command, source))
                progress(f"{size} {turn + 1} {name}: {runs[name][-1].ratio:.2f}")
    total = (source / "model.safetensors").stat().st_size
    for name, costs in runs.items():
        yield Result(size, total, name, costs)


def pair(command: Sequence[str], source: Path) -> Cost:
    """A copy, then the command; each starts with nothing waiting to be written, and leaves nothing behind."""
    copy, target = source.parent / "copy", source.parent / "target"
    os.sync()
    script = 'cp "$0" "$1" && sync "$1"'
    copied = measure(["sh", "-c", script, str(source / "model.safetensors"), str(copy)])
    copy.unlink()
    os.sync()
    cost = measure([*command, str(source), str(target)])
    shutil.rmtree(target)
    return Cost(cost.seconds, cost.peak_bytes, copied.seconds)


def measure(command: Sequence[str]) -> Cost:
    """Wall time and peak memory of one process.

    Linux counts the memory of the parent at the moment of the fork as the child's: this process imports nothing large.
    """
    with open(os.devnull, "wb") as null:  # noqa: PTH123  (os.devnull is no path of ours)
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=null, stderr=subprocess.PIPE, env={**os.environ, **QUIET})
        if process.stderr is None:
            raise RuntimeError
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode(errors='replace')[-3000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_maxrss * unit)


def start_up(model: str, source: Path) -> dict[str, list[float]]:
    """Seconds of commands that convert nothing, in turns; the last checkpoint's are shown."""
    commands = {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "`bertconv --help`": [*BERTCONV, "--help"],
        f"`bertconv inspect`, {model}": [*BERTCONV, "inspect", str(source)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(START_RUNS):
        for name, command in commands.items():
            seconds[name].append(measure(command).seconds)
    return seconds


def checkpoint(size: str, temp: Path) -> Path:
    """A folder with a random checkpoint, made by a process of its own so that this one stays small."""
    folder = temp / size
    folder.mkdir()
    needed = 3 * {"huge": HUGE_BYTES}.get(size, 1_400_000_000) + 1_000_000_000
    if (free := shutil.disk_usage(temp).free) < needed:
        sys.exit(f"{size} needs {needed / 1e9:.0f} GB at {temp}, {free / 1e9:.0f} GB are free; see --temp.")
    progress(f"{size}: making a random checkpoint")
    subprocess.run([sys.executable, __file__, "--make", size, str(folder)], check=True)
    return folder


def make_checkpoint(size: str, folder: str) -> None:
    """Write config.json and model.safetensors: names and shapes of a language model, and random float32 values."""
    import numpy as np

    from bertconv.config_auto import AutoConfig
    from bertconv.mapping.expand import expand
    from bertconv.mapping.table import load_dialects, table_for
    from bertconv.tasks import MASKED_LM

    own = FAMILIES.get(size)
    model_type = "bert" if own is None else size
    made = AutoConfig.for_model(model_type, **(SIZES[size] if own is None else own))
    config: dict[str, Any] = {**made.values, "num_labels": 2}
    table, dialect = table_for(model_type), load_dialects().by_name["pt"]
    head = "BertForPreTraining" if own is None else str(table.head_for(MASKED_LM))
    specs = expand(table, dialect, config, table.heads[head])
    shapes = {spec.name: (spec.shape, 4 * spec.count) for id_, spec in specs.items() if id_ not in table.tied}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, nbytes) in sorted(shapes.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with (Path(folder) / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, 1 << 24):
            count = min(1 << 24, end - begin) // 4
            file.write(random.standard_normal(count, dtype=np.float32).data)
    written = {"architectures": [head], **({**config, "model_type": "bert"} if own is None else made.to_dict())}
    (Path(folder) / "config.json").write_text(json.dumps(written), encoding="utf-8")


def table(results: Sequence[Result]) -> Iterator[str]:
    """The conversions in Markdown."""
    if not results:
        return
    yield "| checkpoint | command, whole process | time / time of `cp` and `sync` | seconds | peak memory |"
    yield "|---|---|---|---|---|"
    for result in results:
        ratios = [run.ratio for run in result.runs]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} runs)" if len(ratios) > 1 else " (1 run)"
        seconds = statistics.median(run.seconds for run in result.runs)
        yield (
            f"| {NAMES[result.size]}, {human(result.bytes)} | {result.command} "
            f"| **{result.copies:.2f}**{spread} | {seconds:.2f} | {human(result.peak)} |"
        )


def peer_lines(results: Sequence[Result]) -> Iterator[str]:
    """The peer against bertconv's default, both in copies."""
    found = {(result.size, result.command): result for result in results}
    for size, name in NAMES.items():
        ours, theirs = found.get((size, DEFAULT)), found.get((size, PEER_NAME))
        if ours and theirs:
            slower, larger = theirs.copies / ours.copies, theirs.peak / ours.peak
            yield f"\n{name}: transformers takes {slower:.1f} times as long and {larger:.0f} times the memory."


def start_table(start: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """The start-up times in Markdown."""
    if not start:
        return
    yield f"\n| command, whole process | seconds, median of {START_RUNS} | range |"
    yield "|---|---|---|"
    for name, seconds in start.items():
        yield f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} |"


def human(count: int) -> str:
    """Bytes, in units of a thousand as the sizes of checkpoints are given."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return {"date": today, "cores": os.cpu_count(), "cpu": cpu, "python": platform.python_version()}


def progress(text: str) -> None:
    """Say what is going on; standard output is for the tables."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--sizes",
        default="base,large",
        help="of base, large (BERT), roberta, xlm-roberta, distilbert (base) [default: %(default)s]",
    )
    parser.add_argument("--parts", default="convert,start", help="of convert, start [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=9, help="runs of every conversion [default: %(default)s]")
    parser.add_argument("--huge", action="store_true", help="also a checkpoint of 12 GB, once")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="environment that holds transformers 4.57.6")
    parser.add_argument("--peer-rounds", type=int, default=1, help="runs of the peer [default: %(default)s]")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run of every figure")
    parser.add_argument("--make", nargs=2, metavar=("SIZE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes, options.parts = options.sizes.split(","), options.parts.split(",")
    for given, known in ((options.sizes, ("base", "large", *FAMILIES)), (options.parts, ("convert", "start"))):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.peers and not (options.peers / "bin/python").exists():
        parser.error(f"{options.peers} is no environment; scripts/witness.py --env makes one")
    options.sizes += ["huge"] if options.huge else []
    return options


if __name__ == "__main__":
    main()
