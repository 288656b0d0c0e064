"""What `bertconv diff` costs: against `cmp` of two equal files of that size.

    python scripts/bench_diff.py                     BERT-base, 9 rounds
    python scripts/bench_diff.py --rounds 3

Every figure is a whole process from start to exit, on a warm page cache, followed by `cmp`; the table gives the median
of these ratios and their range. Measured are two equal checkpoints, two of which every number differs (in PyTorch's
format, and B in TensorFlow's), a copy that was rounded to bfloat16, two vocabularies of which every token is at another
place, and the changes from a third checkpoint. A benchmark, not a test. Prints Markdown, for docs/diff.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_parts import BERTCONV, HEADINGS, Cost, Row, checkpoint, heading, measure, pairs

CHANGE = """
import sys
import numpy as np
random = np.random.default_rng(1)
with open(sys.argv[1], "rb") as file:
    start = 8 + int.from_bytes(file.read(8), "little")
numbers = np.memmap(sys.argv[1], np.float32, "r+", offset=start)
for begin in range(0, numbers.size, 1 << 22):
    part = numbers[begin : begin + (1 << 22)]
    part += np.float32(0.01) * random.standard_normal(part.size, dtype=np.float32)
numbers.flush()
"""
"""Every number of a file of weights changed a little; in a process of its own, so that this one stays small."""

DIFFERENT = (0, 1)
"""Exit statuses of a diff that worked."""


def copied(folder: Path, to: Path, *, change: bool = False) -> Path:
    """A copy of a checkpoint, with every number changed where that is asked for."""
    shutil.copytree(folder, to)
    if change:
        subprocess.run([sys.executable, "-c", CHANGE, str(to / "model.safetensors")], check=True)
    return to


def with_words(folder: Path, words: list[str]) -> Path:
    """The checkpoint with a vocabulary."""
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return folder


def rows(temp: Path, rounds: int) -> list[Row]:
    """Every measurement."""
    a = checkpoint("base", temp)
    copy, other = copied(a, temp / "copy"), copied(a, temp / "other", change=True)
    tf, short = temp / "tf", temp / "short"
    measure([*BERTCONV, "pt2tf", str(other), str(tf), "--verify", "none"])
    measure([*BERTCONV, "convert", str(a), str(short), "--to", "pt", "--dtype", "bfloat16", "--verify", "none"])
    words = [f"word{number}" for number in range(30522)]
    one = with_words(copied(a, temp / "one"), words)
    two = with_words(copied(other, temp / "two"), words[::-1])

    def base() -> Cost:
        return measure(["cmp", str(a / "model.safetensors"), str(copy / "model.safetensors")])

    found = []
    for what, arguments, target in (
        ("equal", (a, copy), "2.0"),
        ("every number differs", (a, other), "2.0"),
        ("every number differs, PyTorch against TensorFlow", (a, tf), ""),
        ("B is A rounded to bfloat16", (a, short), ""),
        ("every token at another place", (one, two), ""),
        ("with `--against-base`", (a, other, "--against-base", copy), ""),
    ):
        command = [*BERTCONV, "diff", *map(str, arguments)]
        row = Row(f"diff, {what} / `cmp`", target)
        found.append(pairs(row, rounds, lambda: measure(command, DIFFERENT), base))  # noqa: B023
    return found


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9, help="of every measurement [default: %(default)s]")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bertconv-bench-", dir=options.temp) as temp:
        found = rows(Path(temp), options.rounds)
    print("\n".join([*heading(), HEADINGS, *map(str, found)]))


if __name__ == "__main__":
    main()
