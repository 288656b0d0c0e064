"""One random bit flipped anywhere in an output: `bertconv verify DST` must name the file, and the tensor that it is in.

    python -m qa.bitflips                         2,000 flips
    python -m qa.bitflips --flips 100000 --seed 7

Outputs are of every format, single and sharded, and small, so that headers, indexes and companions are hit as often as
weights. A flip that is not found, or found somewhere else, is printed with its seed and number; the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import checkpoints  # of the tests

from bertconv import check_checkpoint, convert_checkpoint
from bertconv.containers.registry import read_header
from bertconv.containers.stored import SourceFile
from bertconv.errors import BertconvError
from bertconv.formats.destination import MANIFEST

HEAD = "BertForPreTraining"
FORMATS: dict[str, dict[str, Any]] = {
    "pt": {"to": "pt"},
    "pt, sharded": {"to": "pt", "max_shard_size": "40kB"},
    "tf": {"to": "tf"},
    "tf, sharded": {"to": "tf", "max_shard_size": "60kB"},
    "tf-safetensors": {"to": "tf-safetensors"},
}


def outputs(folder: Path) -> dict[str, Path]:
    """An output of every format, with a companion."""
    source = checkpoints.save(folder / "source", HEAD, checkpoints.state_dict(HEAD))
    (source / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    for name, options in FORMATS.items():
        convert_checkpoint(source, folder / name, verify="weights", **options)
    return {name: folder / name for name in FORMATS}


def tensors(path: Path) -> list[tuple[int, int, str]]:
    """Begin, end and name of every tensor in a file of weights; nothing for any other file."""
    if path.suffix not in {".h5", ".safetensors"}:
        return []
    file = SourceFile(path)
    header = read_header(file)
    file.close()
    return [(tensor.offset, tensor.offset + tensor.nbytes, tensor.name) for tensor in header.tensors]


def complaint(output: Path, file: Path, inside: str) -> str:
    """What is wrong with what `check_checkpoint` says of an output in which one bit of a file was flipped."""
    try:
        found = check_checkpoint(output)
    except BertconvError as error:
        return "" if error.file == str(file) else f"is blamed on {error.file}: {error.message}"
    named = [(change.file, change.tensor) for change in found.changes]
    if not named:
        return "is not found"
    if {name for name, _ in named} - {file.name, ""} or not any(name == file.name for name, _ in named):
        return f"is blamed on {named}"  # "" goes with a tensor that is no longer anywhere: its name was hit
    if inside and not any(tensor and inside.endswith(tensor) for _, tensor in named):
        return f"is found without the tensor {inside}: {named}"
    return ""


def campaign(flips: int, seed: int, folder: Path) -> tuple[Counter[str], dict[int, str]]:
    """Every flip; returns how many there were of each kind of byte, and those that went wrong."""
    formats = outputs(folder)
    files = {name: sorted(path for path in output.rglob("*") if path.is_file()) for name, output in formats.items()}
    spans = {path: tensors(path) for paths in files.values() for path in paths}
    kinds: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    for number in range(flips):
        draw = Random(seed * 1_000_003 + number)
        name = draw.choice(list(formats))
        file = draw.choices(files[name], [path.stat().st_size for path in files[name]])[0]
        raw = file.read_bytes()
        place, bit = draw.randrange(len(raw)), draw.randrange(8)
        inside = next((tensor for begin, end, tensor in spans[file] if begin <= place < end), "")
        kinds[f"{name}: {'a tensor' if inside else file.name if file.name == MANIFEST else 'outside of tensors'}"] += 1
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])
        try:
            if problem := complaint(formats[name], file, inside):
                wrong[number] = f"{name}, {file.name}, byte {place}, bit {bit}: {problem}"
                print(f"seed {seed}, flip {number}: {wrong[number]}", file=sys.stderr, flush=True)
        finally:
            file.write_bytes(raw)
    return kinds, wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bertconv-bitflips-") as folder:
        kinds, wrong = campaign(arguments.flips, arguments.seed, Path(folder))
    facts = {"seed": arguments.seed, "flips": arguments.flips, "missed": len(wrong), "kinds": kinds}
    if arguments.json:
        print(json.dumps(facts))
    else:
        print(f"seed {arguments.seed}: {arguments.flips:,} flips, {len(wrong)} missed")
        print("\n".join(f"  {kind:40} {count:,}" for kind, count in sorted(kinds.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
