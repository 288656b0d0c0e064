"""What bertconv costs, as ratios within one run: against `cp` and `sync` of the same file, and against the peer.

    python scripts/bench.py                            BERT-base and BERT-large, 9 rounds, and every other part
    python scripts/bench.py --parts convert --sizes base --rounds 21
    python scripts/bench.py --sizes xlm-roberta        other families, in the size of their base checkpoints
    python scripts/bench.py --huge                     also a checkpoint of 12 GB (needs 40 GB of disk)
    python scripts/bench.py --peers DIR --json FILE    also transformers 4.57.6 (DIR: see scripts/witness.py)

A benchmark, not a test: nothing fails when it is slow. Every figure is of a whole process, start and exit included, on
a warm page cache and with compiled byte code. Every run follows a run of what it is divided by; the table gives the
median of these ratios and their range. Prints Markdown, for docs/performance.md. The parts:

    convert   pt2tf and tf2pt against `cp` and `sync`
    rename    PyTorch to PyTorch against the same, also on a file system with reflinks (needs root and mkfs.xfs)
    rewrite   shard, unshard, extract and cast against the same
    formats   PyTorch to the formats of other programs and back, against the same
    combine   average of two and of four against the same, and hash against `sha256sum`
    start     commands that write nothing, and a tiny checkpoint in a process that is warm

The 12 GB and their copy do not fit into most page caches: that row is about memory, its one ratio is about the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench_parts import (
    BERTCONV,
    ENVIRONMENT,
    FAMILIES,
    HEADINGS,
    NAMES,
    Cost,
    Row,
    checkpoint,
    copied,
    heading,
    human,
    machine,
    measure,
    pairs,
    progress,
)

PEER = """
import sys
from transformers import TFAutoModelForPreTraining
TFAutoModelForPreTraining.from_pretrained(sys.argv[1], from_pt=True).save_pretrained(sys.argv[2])
"""
WARM = """
import json, shutil, sys, time
from bertconv import convert_checkpoint
def seconds():
    started = time.perf_counter()
    convert_checkpoint(sys.argv[1], sys.argv[2], verify=sys.argv[3])
    took = time.perf_counter() - started
    shutil.rmtree(sys.argv[2])
    return took
seconds()
print(json.dumps([seconds() for _ in range(int(sys.argv[4]))]))
"""
PARTS = ("convert", "rename", "rewrite", "formats", "combine", "start")
FORMATS = {"tf1": "3.0", "garden": "3.0", "flax": "2.0", "keras-hub": ""}
"""Format -> the ratio that a conversion to it and from it, with digests, may have."""
TARGETS: Mapping[tuple[str, str], str] = {
    ("base", "pt2tf none"): "1.5", ("large", "pt2tf none"): "1.25", ("base", "pt2tf weights"): "2.2",
    ("large", "pt2tf weights"): "1.9", ("base", "tf2pt none"): "1.7", ("base", "reflinks"): "0.1",
    ("base", "shard"): "1.2", ("base", "unshard"): "1.2", ("base", "extract"): "1.2", ("base", "cast bfloat16"): "1.5",
    ("base", "cast float16"): "2.5", ("base", "average of 2"): "1.8", ("base", "average of 4"): "3.0",
    ("base", "hash"): "1.5",
}  # fmt: skip
IMAGE_BYTES = 4_000_000_000


def main() -> None:
    """Run the chosen parts, print the tables, write the JSON."""
    options = arguments()
    rows: list[Row] = []
    start: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bertconv-bench-", dir=options.temp) as name:
        temp = Path(name)
        for size in options.sizes:
            source = checkpoint(size, temp)
            rounds = 1 if size == "huge" else options.rounds
            if "convert" in options.parts:
                rows += conversions(size, source, rounds, options.peers)
            if "rename" in options.parts and size != "huge":
                rows += renames(size, source, rounds)
            if "rewrite" in options.parts and size != "huge":
                rows += rewrites(size, source, rounds)
            if "formats" in options.parts:
                rows += there_and_back(size, source, rounds)
            if "combine" in options.parts and size != "huge":
                rows += combinations(size, source, rounds)
            if "start" in options.parts and size != "huge":
                start = [*start_up(size, source, rounds), *warm(temp, max(rounds, 9))]
            shutil.rmtree(source)
    print("\n".join(heading()))
    if rows:
        print("\n".join([HEADINGS, *map(str, rows)]))
    print("\n".join(start))
    if options.json:
        content = {"machine": machine(), "start": start, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def conversions(size: str, source: Path, rounds: int, peers: Path | None) -> Iterator[Row]:
    """Every command after a copy of what it reads."""
    weights = source / "model.safetensors"
    title = f"{NAMES[size]}, {human(weights.stat().st_size)}"
    for level, says in (("none", ""), ("weights", " (with digests)")):
        row = Row(f"{title}: `pt2tf --verify {level}`{says}", TARGETS.get((size, f"pt2tf {level}"), ""))
        yield against_copy(row, rounds, weights, ["pt2tf", "--verify", level, str(source)])
    if size != "huge":
        back = source.parent / f"{size}-tf"
        measure([*BERTCONV, "pt2tf", "--quiet", "--verify", "none", str(source), str(back)])
        for level in ("none", "weights"):
            row = Row(f"{title}: `tf2pt --verify {level}`", TARGETS.get((size, f"tf2pt {level}"), ""))
            yield against_copy(row, rounds, back / "tf_model.h5", ["tf2pt", "--verify", level, str(back)])
        shutil.rmtree(back)
    if peers is not None and size != "huge":
        target = source.parent / "target"
        row = Row(f"{title}: transformers 4.57.6 `from_pt=True`, `save_pretrained`")
        divisor = copied(weights, source.parent / "copy")
        row.runs.append((measure([str(peers / "bin/python"), "-c", PEER, str(source), str(target)]), divisor))
        shutil.rmtree(target)
        yield row


def against_copy(row: Row, rounds: int, file: Path, command: Sequence[str], *options: str) -> Row:
    """A command whose last argument, the output, is added here; `options` are those of `cp`."""
    folder = file.parents[1]
    target = folder / "target"

    def own() -> Cost:
        return measure([*BERTCONV, command[0], "--quiet", *command[1:], str(target)])

    def clear() -> None:
        shutil.rmtree(target)
        os.sync()

    return pairs(row, rounds, own, lambda: copied(file, folder / "copy", *options), clear)


def renames(size: str, source: Path, rounds: int) -> Iterator[Row]:
    """PyTorch to PyTorch, where nothing changes but names and metadata; on a file system with reflinks as well."""
    command = ["convert", "--to", "pt", "--verify", "none"]
    row = Row(f"{NAMES[size]}: `convert --to pt --verify none`")
    yield against_copy(row, rounds, source / "model.safetensors", [*command, str(source)])
    with reflinks(source.parent) as folder:
        if folder is None:
            progress("no file system with reflinks can be mounted here: needs root and mkfs.xfs")
            return
        there = folder / size
        shutil.copytree(source, there)
        os.sync()
        row = Row(f"{NAMES[size]}: the same on XFS / `cp --reflink=never` there", TARGETS.get((size, "reflinks"), ""))
        yield against_copy(row, rounds, there / "model.safetensors", [*command, str(there)], "--reflink=never")


def rewrites(size: str, source: Path, rounds: int) -> Iterator[Row]:
    """Verbs that change nothing but files, classes or types, each after a copy of what it reads."""
    weights, shards = source / "model.safetensors", source.parent / f"{size}-shards"
    base = str(json.loads((source / "config.json").read_bytes())["architectures"][0]).partition("For")[0] + "Model"
    commands = {
        "shard": ["shard", "--max-size", "100MB", str(source)],
        "unshard": ["unshard", str(shards)],
        "extract": ["extract", "--class", base, str(source)],
        "cast bfloat16": ["cast", "--dtype", "bfloat16", str(source)],
        "cast float16": ["cast", "--dtype", "float16", str(source)],
    }
    measure([*BERTCONV, "shard", "--quiet", "--max-size", "100MB", "--verify", "none", str(source), str(shards)])
    for name, command in commands.items():
        row = Row(f"{NAMES[size]}: `{' '.join(command[:-1])} --verify none`", TARGETS.get((size, name), ""))
        yield against_copy(row, rounds, weights, [command[0], "--verify", "none", *command[1:]])
    for name in ("shard", "cast float16"):
        row = Row(f"{NAMES[size]}: `{' '.join(commands[name][:-1])}` (with digests)")
        yield against_copy(row, rounds, weights, commands[name])
    shutil.rmtree(shards)


def there_and_back(size: str, source: Path, rounds: int) -> Iterator[Row]:
    """To every format and from it, as the base model: all programs have that class."""
    config = json.loads((source / "config.json").read_bytes())
    base = str(config["architectures"][0]).partition("For")[0] + "Model"
    body, other = source.parent / f"{size}-body", source.parent / f"{size}-other"
    measure([*BERTCONV, "extract", "--quiet", "--verify", "none", "--class", base, str(source), str(body)])
    changed = json.loads((body / "config.json").read_bytes()) | {"hidden_act": "gelu_new"}
    (body / "config.json").write_text(json.dumps(changed))
    weights = body / "model.safetensors"
    title = f"{NAMES[size]}, {human(weights.stat().st_size)}"
    for name, target in FORMATS.items():
        for level, says in (("none", ""), ("weights", " (with digests)")):
            row = Row(f"{title}: `convert --to {name} --verify {level}`{says}", target if says else "")
            yield against_copy(row, rounds, weights, ["convert", "--to", name, "--verify", level, str(body)])
        measure([*BERTCONV, "convert", "--quiet", "--verify", "none", "--to", name, str(body), str(other)])
        for level, says in (("none", ""), ("weights", " (with digests)")):
            row = Row(f"{title}: `convert --to pt --verify {level}` from {name}{says}", target if says else "")
            yield against_copy(row, rounds, weights, ["convert", "--to", "pt", "--verify", level, str(other)])
        shutil.rmtree(other)
    shutil.rmtree(body)


SCALED = """
import sys
import numpy as np
weights, factor = np.memmap(sys.argv[1], np.uint8, "r+"), np.float32(sys.argv[2])
numbers = weights[8 + int(weights[:8].view("<u8")[0]) :].view("<f4")
for start in range(0, numbers.size, 1 << 20):
    numbers[start : start + (1 << 20)] *= factor
"""


def combinations(size: str, source: Path, rounds: int) -> Iterator[Row]:
    """The mean of two and of four checkpoints after a copy of one of them, and digests against sha256sum."""
    weights = source / "model.safetensors"
    siblings = [source.parent / f"{size}-{number}" for number in range(1, 4)]
    for number, sibling in enumerate(siblings, start=1):
        shutil.copytree(source, sibling)
        subprocess.run([sys.executable, "-c", SCALED, sibling / weights.name, str(1 + number / 8)], check=True)
    for count in (2, 4):
        inputs = [str(source), *map(str, siblings[: count - 1])]
        for level in ("none", "weights"):
            target = TARGETS.get((size, f"average of {count}"), "") if level == "none" else ""
            row = Row(f"{NAMES[size]}: `average --verify {level}` of {count}", target)
            yield against_copy(row, rounds, weights, ["average", "--verify", level, *inputs, "-o"])
    for sibling in siblings:
        shutil.rmtree(sibling)
    hashes = [("`hash` / `sha256sum`", "hash", []), ("`hash --values` / `sha256sum`", "", ["--values"])]
    for what, name, options in hashes:
        row = Row(f"{NAMES[size]}: {what}", TARGETS.get((size, name), ""))
        own = [*BERTCONV, "hash", *options, str(source)]
        yield pairs(row, rounds, partial(measure, own), partial(measure, ["sha256sum", str(weights)]))


@contextmanager
def reflinks(temp: Path) -> Iterator[Path | None]:
    """A folder on an XFS image that is mounted for the time being; None where this machine does not allow it."""
    image, folder = temp / "image", temp / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    try:
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
    else:
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        image.unlink()
        folder.rmdir()


def start_up(size: str, source: Path, rounds: int) -> Iterator[str]:
    """Seconds of commands that write nothing, in turns."""
    back = source.parent / "back"
    measure([*BERTCONV, "pt2tf", "--quiet", "--verify", "none", str(source), str(back)])
    commands = {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "`bertconv --help`": [*BERTCONV, "--help"],
        f"`bertconv inspect`, {NAMES[size]}, safetensors": [*BERTCONV, "inspect", str(source)],
        f"`bertconv inspect`, {NAMES[size]}, HDF5": [*BERTCONV, "inspect", str(back)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            cost = measure(command)
            seconds[name] += [cost.seconds] if turn else []
    shutil.rmtree(back)
    yield f"\n| command, whole process | seconds, median of {rounds} | range |"
    yield "|---|---|---|"
    for name, all_of_it in seconds.items():
        yield f"| {name} | {statistics.median(all_of_it):.3f} | {min(all_of_it):.3f} to {max(all_of_it):.3f} |"


def warm(temp: Path, rounds: int) -> Iterator[str]:
    """`convert_checkpoint` of a tiny checkpoint, again and again in one process."""
    source = checkpoint("tiny", temp)
    for level in ("none", "weights"):
        program = [sys.executable, "-c", WARM, str(source), str(temp / "target"), level, str(rounds)]
        said = subprocess.run(program, check=True, capture_output=True, env=ENVIRONMENT).stdout
        seconds = json.loads(said)
        name = f"`convert_checkpoint(verify={level!r})` of a tiny checkpoint, warm process"
        yield f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} |"
    shutil.rmtree(source)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--sizes",
        default="base,large",
        help="of base, large (BERT), roberta, xlm-roberta, distilbert (base) [default: %(default)s]",
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=9, help="runs of every command [default: %(default)s]")
    parser.add_argument("--huge", action="store_true", help="also a checkpoint of 12 GB, once")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="environment that holds transformers 4.57.6")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run of every figure")
    options = parser.parse_args()
    options.sizes, options.parts = options.sizes.split(","), options.parts.split(",")
    for given, known in ((options.sizes, ("base", "large", *FAMILIES)), (options.parts, PARTS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.peers and not (options.peers / "bin/python").exists():
        parser.error(f"{options.peers} is no environment; scripts/witness.py --env makes one")
    options.sizes += ["huge"] if options.huge else []
    return options


if __name__ == "__main__":
    main()
