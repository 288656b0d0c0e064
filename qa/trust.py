"""All that docs/trust.md has figures of, in one run: hostile files, mutated inputs, faults, flipped bits, guards.

    python -m qa.trust                    the sizes of docs/trust.md: some hours
    python -m qa.trust --scale 0.05       a twentieth of the inputs, a sample of faults and guards: minutes
    python -m qa.trust --part fuzz --part bitflips

Each part is a campaign or a folder of tests of its own, which can be run alone; see `--help` of qa.fuzz, qa.faults,
qa.bitflips and qa.guards. Prints one table; the exit status is 1 when a part found something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from qa import ROOT

INPUTS = {
    "safetensors": 200_000, "pickle": 200_000, "zip": 20_000, "index": 20_000, "config": 20_000, "hdf5": 5_000,
    "bundle": 200_000, "msgpack": 50_000, "keras3": 20_000,
}  # fmt: skip
"""Mutated inputs for each reader."""
FLIPS = 2_000
GUARDS_SAMPLED = 40
HOSTILE = {
    "test_hostile_torch_files": "hostile PyTorch files",
    "test_hostile_safetensors_files": "hostile safetensors files",
    "test_hostile_hdf5_files": "hostile HDF5 files",
    "test_misfits": "HDF5 files that fit no BERT",
    "test_traps_that_are_never_stepped_on": "traps in sound HDF5 files",
    "test_hostile_distributed_checkpoints": "hostile distributed checkpoints",
    "test_hostile_bundles": "hostile tensor bundles",
    "test_hostile_msgpack_files": "hostile msgpack files",
    "test_hostile_files_of_keras_3": "hostile Keras 3 files",
    "test_hostile_and_foreign_files": "hostile and foreign ONNX files",
    "test_hostile_folders": "hostile folders",
    "test_unusual_and_sound_folders": "unusual and sound folders",
    "test_hostile_destinations": "hostile destinations",
    "test_unusual_destinations": "unusual and sound destinations",
}
"""The test of which each case is one -> what is counted."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was tried, how often, how often it went wrong, and how it ended."""

    what: str
    count: int
    wrong: int
    note: str = ""


@dataclass(frozen=True)
class Options:
    """The size of a run."""

    scale: float
    seed: int
    folder: Path

    def sized(self, count: int) -> int:
        """A number of inputs."""
        return max(round(count * self.scale), 1)


def campaign(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run another campaign; what it says on standard error is shown."""
    command = [sys.executable, "-m", f"qa.{name}", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)


def hostile(options: Options) -> list[Row]:
    """The corpus, every case; the tests around it are its positive controls."""
    page = options.folder / "hostile.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", f"--junit-xml={page}", "tests/hostile",
         "tests/formats/test_onnx.py::test_hostile_and_foreign_files", "tests/source/test_hub_integrity.py"],
        cwd=ROOT, stdout=sys.stderr, check=False,
    )  # fmt: skip
    counted: dict[str, list[bool]] = {}
    for case in ET.parse(page).iter("testcase"):
        name = str(case.get("name")).partition("[")[0]
        hub = str(case.get("classname")) == "tests.source.test_hub_integrity"
        rest = "Hub servers and caches that lie" if hub else "controls: payloads fire, other readers step into traps"
        what = HOSTILE.get(name, rest)
        counted.setdefault(what, []).append(case.find("failure") is not None or case.find("error") is not None)
    return [Row(what, len(failed), sum(failed)) for what, failed in counted.items()]


def fuzz(options: Options) -> list[Row]:
    """Mutated inputs, each reader against another one."""
    rows = []
    for target, count in INPUTS.items():
        done = campaign("fuzz", "--target", target, "--runs", options.sized(count), "--seed", options.seed, "--json")
        for tally in json.loads(done.stdout):
            note = f"{tally['accepted']:,} read alike, {sum(tally['refused'].values()):,} refused"
            if tally["known"]:
                note += f", {sum(tally['known'].values()):,} ended the other reader"
            rows.append(Row(f"mutated inputs, {target}", tally["runs"], len(tally["findings"]), note))
    return rows


def faults(options: Options) -> list[Row]:
    """Faults, full disks, signals and rivals."""
    page = options.folder / "faults.json"
    every = ["--every"] if options.scale >= 1 else []
    done = campaign("faults", *every, "--seed", options.seed, "--json", page)
    print(done.stdout, file=sys.stderr)
    if not page.exists():
        return [Row("faults", 0, done.returncode, "not possible here")]
    suites: dict[str, list[dict[str, dict[str, int]]]] = {}
    for scene in json.loads(page.read_text())["scenes"]:
        suites.setdefault(scene["suite"], []).append(scene)
    return [
        Row(
            f"faults, {suite}",
            sum(sum(scene["points"].values()) for scene in scenes),
            sum(len(scene["bad"]) for scene in scenes),
            f"{len(scenes)} scenes",
        )
        for suite, scenes in suites.items()
    ]


def bitflips(options: Options) -> list[Row]:
    """One bit of an output."""
    facts = json.loads(campaign("bitflips", "--flips", options.sized(FLIPS), "--seed", options.seed, "--json").stdout)
    return [Row("flipped bits in outputs", facts["flips"], facts["missed"], "file and tensor named by `verify DST`")]


def guards(options: Options) -> list[Row]:
    """Checks, deleted one at a time."""
    sample = [] if options.scale >= 1 else ["--sample", GUARDS_SAMPLED, "--seed", options.seed]
    found = json.loads(campaign("guards", *sample, "--json").stdout)
    missed = sum(one["status"] != "killed" for one in found)
    return [Row("guards deleted", len(found), missed, "each turns a test red")]


PARTS: dict[str, Callable[[Options], list[Row]]] = {
    part.__name__: part for part in (hostile, fuzz, faults, bitflips, guards)
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given several times; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of inputs; below 1 faults are sampled")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    arguments = parser.parse_args()
    os.environ.pop("BERTCONV_FUZZ_SEED", None)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bertconv-trust-") as folder:
        for part in arguments.part or PARTS:
            began = time.monotonic()
            found = PARTS[part](Options(arguments.scale, arguments.seed, Path(folder)))
            print(f"{part}: {time.monotonic() - began:.0f} s", *found, sep="\n  ", file=sys.stderr, flush=True)
            rows += found
    if arguments.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
    else:
        print("| what | tried | went wrong | |\n|---|---|---|---|")
        print("\n".join(f"| {row.what} | {row.count:,} | {row.wrong} | {row.note} |" for row in rows))
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
