"""Mutated files for every reader, at a small size, and proof that the fuzzer finds what is planted.

`python -m qa.fuzz` runs for longer. BERTCONV_FUZZ_SEED=7 adds a seed; a finding names its seed and run number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertconv.containers.stored import Header
from bertconv.errors import DamagedCheckpoint
from qa import ROOT
from qa.fuzz import runs, targets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of processes and /proc as Linux has them"),
]


TIMES = int(os.environ.get("BERTCONV_FUZZ_TIMES", "1"))
RUNS = {
    "safetensors": 2000,
    "pickle": 1000,
    "zip": 1200,
    "index": 1200,
    "config": 1200,
    "hdf5": 120,
    "keras3": 120,
    "bundle": 800,
    "msgpack": 1200,
}
"""Inputs per seed: two seconds for each target. BERTCONV_FUZZ_TIMES=10 makes ten times as many, qa.fuzz any number."""
SEEDS = [1, *([int(os.environ["BERTCONV_FUZZ_SEED"])] if os.environ.get("BERTCONV_FUZZ_SEED") else [])]


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return {name: targets.build(name) for name in targets.NAMES}


def sound(target: Any) -> list[bytes]:
    return [seed.wrap(b"".join(seed.pieces)) for seed in target.seeds]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


# The readers


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", targets.NAMES)
def test_every_mutated_file_is_refused_or_read_as_another_reader_reads_it(name: str, seed: int, tmp_path: Path) -> None:
    count = RUNS[name] * TIMES
    done = python(
        "-m", "qa.fuzz", "--target", name, "--runs", str(count), "--seed", str(seed), "--json",
        "--findings", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, f"--target {name} --seed {seed}:\n{done.stderr}"
    (tally,) = json.loads(done.stdout)
    refused = sum(tally["refused"].values())
    assert tally["runs"] == count == tally["accepted"] + refused + sum(tally["known"].values())
    assert tally["accepted"] > count // 500, "the mutations are too wild: nothing is left to compare"
    assert refused > count // 2, "the mutations are too tame"


# The fuzzer


@pytest.mark.parametrize("name", targets.NAMES)
def test_its_seeds_are_sound_so_that_mutations_start_from_what_is_read(
    built: dict[str, Any], name: str, tmp_path: Path
) -> None:
    for data in sound(built[name]):
        assert runs.examine(built[name], tmp_path / "input", data) == runs.Verdict("accepted")


@pytest.mark.parametrize("name", targets.NAMES)
def test_an_input_depends_on_seed_and_number_only_and_is_never_a_seed_itself(built: dict[str, Any], name: str) -> None:
    made = [runs.make(built[name], 3, number) for number in range(50)]
    assert made == [runs.make(built[name], 3, number) for number in range(50)]
    assert made != [runs.make(built[name], 4, number) for number in range(50)]
    assert not set(made) & set(sound(built[name]))


def shifted(header: Header) -> Header:
    """The same tensors, but the first with elements begins a byte later or earlier."""
    first = next(tensor for tensor in header.tensors if tensor.nbytes)
    step = 1 if first.offset + first.nbytes < first.file.size else -1
    moved = replace(first, offset=first.offset + step)
    return replace(header, tensors=tuple(moved if tensor is first else tensor for tensor in header.tensors))


def lost(header: Header) -> Header:
    return replace(header, tensors=header.tensors[1:])


def retyped(header: Header) -> Header:
    first = header.tensors[0]
    other = {"float32": "int32", "float16": "int16", "bfloat16": "float16", "float64": "int64"}[first.dtype]
    return replace(header, tensors=(replace(first, dtype=other), *header.tensors[1:]))


def reshaped(header: Header) -> Header:
    first = next(tensor for tensor in header.tensors if len(tensor.shape) > 1)
    turned = replace(first, shape=first.shape[::-1])
    return replace(header, tensors=tuple(turned if tensor is first else tensor for tensor in header.tensors))


WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    *(
        (name, change)
        for name in ("safetensors", "pickle", "hdf5", "keras3")
        for change in (shifted, lost, retyped, reshaped)
    ),
    ("zip", lambda found: (shifted(found[0]), found[1])),
    ("zip", lambda found: (found[0], {**found[1], "version": (0, 2)})),
    ("zip", lambda found: (found[0], {name: place for name, place in found[1].items() if name != "version"})),
    ("index", lambda found: dict(list(found.items())[1:])),
    ("index", lambda found: {**found, next(iter(found)): "other.safetensors"}),
    ("config", lambda found: found.replace(hidden_size=72)),
    ("config", lambda found: found.replace(layer_norm_eps=1)),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_a_reader_that_sees_something_else_is_found(
    built: dict[str, Any], name: str, change: Callable[[Any], Any], tmp_path: Path
) -> None:
    target = built[name]
    planted = replace(target, read=lambda path: change(target.read(path)))
    verdict = runs.examine(planted, tmp_path / "input", sound(target)[0])
    assert verdict.kind == "finding", verdict
    assert " sees " in verdict.text, verdict.text


@pytest.mark.parametrize("name", ["safetensors", "zip", "index", "config"])
def test_a_reader_that_accepts_everything_is_found(built: dict[str, Any], name: str, tmp_path: Path) -> None:
    target = built[name]
    path = tmp_path / "input"
    path.write_bytes(sound(target)[0])
    found = target.read(path)
    kinds = [verdict.kind for _, verdict in runs.runs(replace(target, read=lambda _path: found), path, 0, 0, 50)]
    assert kinds.count("finding") > 25


def raises(_path: Path) -> None:
    raise KeyError("planted")


def spins(_path: Path) -> None:
    while True:
        pass


def names_no_file(_path: Path) -> None:
    raise DamagedCheckpoint("is damaged.", hint="Fix it.")


def gives_no_hint(path: Path) -> None:
    raise DamagedCheckpoint("is damaged.", file=str(path))


@pytest.mark.parametrize(
    ("read", "reported"),
    [
        (raises, "KeyError: 'planted'"),
        (spins, "computes for more than"),
        (names_no_file, "does not name the file"),
        (gives_no_hint, "does not say what to do"),
    ],
)
def test_a_reader_with_a_planted_bug_is_found(
    built: dict[str, Any], read: Callable[[Path], None], reported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "CPU_SECONDS", 0.2)
    verdict = runs.examine(replace(built["index"], read=read), tmp_path / "input", b"{}")
    assert verdict.kind == "finding"
    assert reported in verdict.text


PLANTED = """
import json, os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from select import select
from types import SimpleNamespace
from qa.fuzz import campaign, runs, targets

folder, forked = Path(sys.argv[1]), sys.argv[2] == "forked"
waits = folder / "waits"

def no_patience(reading, *_):  # it is over as soon as an input waits for ever
    while not (ready := select(reading, [], [], 0.01)[0]) and not waits.exists():
        pass
    if not ready:
        waits.unlink()
    return ready, [], []

(runs if forked else campaign).select = SimpleNamespace(select=no_patience)
real = targets.build("index")
inputs = [runs.make(real, 3, number) for number in range(30)]
assert len(set(inputs)) == 30

def read(path):
    number = inputs.index(path.read_bytes())
    if number == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 9:
        waits.touch()
        time.sleep(1000)
    if number == 13:
        bytes(4 << 30)
    if number == 17:
        (b"x" * (300 << 20)).count(b"y")
    return real.read(path)

tally = campaign.Tally("index", 3)
build = lambda: replace(real, read=read, forked=forked)
campaign.Campaign(build, tally, folder / "input", 30, None, folder / "found").run(0)
print(json.dumps([tally.runs, tally.findings, tally.known]))
print(json.dumps([(folder / "found" / f"index-3-{n}").read_bytes() == inputs[n] for n in tally.findings]))
"""


def test_a_crash_a_hang_and_greed_are_found_kept_and_survived(tmp_path: Path) -> None:
    done = python("-c", PLANTED, str(tmp_path), "here")
    assert done.returncode == 0, done.stderr
    (runs, findings, known), kept = map(json.loads, done.stdout.splitlines())
    assert runs == 30
    assert not known
    assert sorted(findings) == ["13", "17", "5", "9"]
    assert "SIGSEGV" in findings["5"]
    assert findings["9"] == "hangs"
    assert findings["13"].startswith("MemoryError")
    assert "more memory" in findings["17"]
    assert kept == [True] * 4


def test_what_the_library_of_hdf5_is_known_to_do_is_counted_and_is_no_finding(tmp_path: Path) -> None:
    done = python("-c", PLANTED, str(tmp_path), "forked")
    assert done.returncode == 0, done.stderr
    runs, findings, known = json.loads(done.stdout.splitlines()[0])
    assert runs == 30
    assert known == {"SIGSEGV": 1, "hang": 1}
    assert sorted(findings) == ["13", "17"]


def test_a_finding_makes_the_command_fail() -> None:
    code = "import sys\nfrom dataclasses import replace\nfrom qa.fuzz import __main__, targets\nreal = targets.build\n"
    code += "targets.build = lambda name: replace(real(name), read=lambda path: {}['planted'])\n"
    code += "sys.argv += '--target index --runs 3 --seed 8'.split()\nsys.exit(__main__.main())"
    done = python("-c", code)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("KeyError: 'planted'") == 3
    assert "index, seed 8, run 2" in done.stderr
    assert "| index | 8 | 3 | 0 |  | - | 3 |" in done.stdout
