"""Mutated files for every reader: each is refused with a BertconvError, or read as an independent reader reads it.

    python -m qa.fuzz                                       every target, 10,000 runs
    python -m qa.fuzz --target pickle --runs 200000 --seed 3
    python -m qa.fuzz --target zip --minutes 60 --findings found/
    python -m qa.fuzz --target zip --seed 3 --start 4711 --runs 1        one input again

Any other exception, more than 2 s of processor time, 256 MB more memory, a crash, or another opinion than the other
reader's is a finding: printed with its seed and run number, its input saved with `--findings`. An input depends on the
seed and its number only. The other readers: the Rust `safetensors`, torch with `weights_only=True`, `zipfile`, `json`,
h5py, msgpack. HDF5 is read as the package reads it, by a process with its limits; that h5py hangs or dies is counted
as known.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from qa.fuzz import targets
from qa.fuzz.campaign import HEAD, Campaign, Tally


def campaign_of(name: str, arguments: argparse.Namespace, folder: Path) -> Tally:
    """Run one target as the command line says."""
    tally = Tally(name, arguments.seed)
    deadline = time.monotonic() + 60 * arguments.minutes if arguments.minutes else None
    count = arguments.runs or (None if deadline else 10_000)
    end = None if count is None else arguments.start + count
    Campaign(lambda: targets.build(name), tally, folder / f"{name}.input", end, deadline, arguments.findings).run(
        arguments.start
    )
    return tally


def main() -> int:
    """The command line; 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--target", choices=targets.NAMES, action="append", help="may be given several times; default: all"
    )
    parser.add_argument(
        "--runs", type=int, help="inputs for each target (default 10,000, or as many as --minutes allow)"
    )
    parser.add_argument("--minutes", type=float, help="end each target after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first run")
    parser.add_argument("--findings", type=Path, metavar="DIR", help="save the inputs of findings here")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="bertconv-fuzz-") as folder:
        tallies = [campaign_of(name, arguments, Path(folder)) for name in arguments.target or targets.NAMES]
    rows = [vars(tally) for tally in tallies]
    print(json.dumps(rows) if arguments.json else "\n".join([HEAD, *(tally.row() for tally in tallies)]))
    return 1 if any(tally.findings for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
