"""What the benchmarks share: random checkpoints, processes that are measured, rows of ratios, facts about the machine.

Every process runs with byte code that is compiled: the first run of each command is not counted, and a variable of the
environment that keeps Python from storing what it compiled is taken out. The compiler would be measured otherwise.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BERTCONV = (sys.executable, "-c", "from bertconv.cli import main; main()")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | QUIET

SIZES: Mapping[str, Mapping[str, int]] = {
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "huge": {"hidden_size": 4096, "num_hidden_layers": 14, "num_attention_heads": 32, "intermediate_size": 16384},
    "tiny": {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
             "vocab_size": 30, "max_position_embeddings": 16},
}  # fmt: skip
"""What differs from BERT-base's config; huge is 12 GB."""
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "roberta": ROBERTA,
    "xlm-roberta": {**ROBERTA, "vocab_size": 250_002},
    "distilbert": {},
}
"""Other families in the size of their base checkpoints: what differs from the defaults of their classes."""
NAMES = {"base": "BERT-base", "large": "BERT-large", "huge": "synthetic", "tiny": "tiny BERT"}
NAMES |= {name: f"{name}-base" for name in FAMILIES}
HUGE_BYTES = 12_000_000_000
HEADINGS = "| measure, whole process | ratio | target | seconds | peak memory |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Cost:
    """One process: wall time in seconds, and peak memory (resident set) in bytes."""

    seconds: float
    peak_bytes: int


@dataclass
class Row:
    """One line of a table: a command's runs, each with the run of what it is divided by."""

    what: str
    target: str = ""
    runs: list[tuple[Cost, Cost]] = field(default_factory=list)
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Of every pair."""
        return [own.seconds / base.seconds for own, base in self.runs]

    @property
    def peak(self) -> int:
        """Most memory of any run, in bytes."""
        return max(own.peak_bytes for own, _ in self.runs)

    def __str__(self) -> str:
        """The line in Markdown."""
        seconds = statistics.median(own.seconds for own, _ in self.runs)
        what = f"{self.what}, {self.note}" if self.note else self.what
        return f"| {what} | {spread(self.ratios)} | {self.target} | {seconds:.2f} | {human(self.peak)} |"


def spread(ratios: Sequence[float]) -> str:
    """The median of ratios, their range and their number."""
    if len(ratios) == 1:
        return f"**{ratios[0]:.2f}** (1 run)"
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} runs)"


def measure(command: Sequence[str], also: Sequence[int] = (0,)) -> Cost:
    """Wall time and peak memory of one process.

    Linux counts the memory of the parent at the moment of the fork as the child's: this process imports nothing large.

    Args:
        command: what to run; it must end well.
        also: the exit statuses that are well.
    """
    with open(os.devnull, "wb") as null:  # noqa: PTH123  (os.devnull is no path of ours)
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=null, stderr=subprocess.PIPE, env=ENVIRONMENT)
        if process.stderr is None:
            raise RuntimeError
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in also:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode(errors='replace')[-3000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_maxrss * unit)


def pairs(
    row: Row, rounds: int, own: Callable[[], Cost], base: Callable[[], Cost], after: Callable[[], object] = lambda: None
) -> Row:
    """Fill a row with runs that take turns, after one of each that is not counted.

    Args:
        row: the row.
        rounds: pairs that are counted.
        own: runs the command once.
        base: runs once what it is divided by.
        after: clears away what the command left.
    """
    for turn in range(rounds + 1):
        divisor, cost = base(), own()
        after()
        if turn:
            row.runs.append((cost, divisor))
        progress(f"{row.what} {turn}: {cost.seconds / divisor.seconds:.2f}")
    return row


def copied(file: Path, to: Path, *options: str) -> Cost:
    """`cp` of a file and `sync` of the copy, which is removed; nothing waits to be written before and after."""
    os.sync()
    cost = measure(["sh", "-c", 'cp "$@" && sync "$2"', "sh", str(file), str(to), *options])
    to.unlink()
    os.sync()
    return cost


def checkpoint(size: str, temp: Path) -> Path:
    """A folder with a random checkpoint, made by a process of its own so that this one stays small."""
    folder = temp / size
    folder.mkdir()
    needed = 3 * {"huge": HUGE_BYTES}.get(size, 1_400_000_000) + 1_000_000_000
    if (free := shutil.disk_usage(temp).free) < needed:
        sys.exit(f"{size} needs {needed / 1e9:.0f} GB at {temp}, {free / 1e9:.0f} GB are free; see --temp.")
    progress(f"{size}: making a random checkpoint")
    subprocess.run([sys.executable, __file__, size, str(folder)], check=True)
    return folder


def make_checkpoint(size: str, folder: Path) -> None:
    """Write config.json and model.safetensors: names and shapes of a language model, and random float32 values."""
    import numpy as np

    from bertconv.config.auto import AutoConfig
    from bertconv.mapping.dialects import load_dialects
    from bertconv.mapping.expand import expand
    from bertconv.mapping.table import table_for
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
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, 1 << 24):
            count = min(1 << 24, end - begin) // 4
            file.write(random.standard_normal(count, dtype=np.float32).data)
    written = {"architectures": [head], **({**config, "model_type": "bert"} if own is None else made.to_dict())}
    (folder / "config.json").write_text(json.dumps(written), encoding="utf-8")


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


def heading() -> Iterator[str]:
    """The line that a table begins with."""
    facts = machine()
    yield f"{facts['date']}, {facts['cores']} cores of {facts['cpu']}, Python {facts['python']}\n"


def progress(text: str) -> None:
    """Say what is going on; standard output is for the tables."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    make_checkpoint(sys.argv[1], Path(sys.argv[2]))
