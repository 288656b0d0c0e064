"""The campaigns that docs/trust.md has its figures from: they run, and they see what is planted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertconv.verify.certificate import Change, FolderCheck
from qa import ROOT, bitflips, trust
from qa.fuzz import targets

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("BERTCONV_FUZZ_SEED", "1"))


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    kinds, wrong = bitflips.campaign(80, SEED, tmp_path)
    assert not wrong, f"seed {SEED}"
    assert kinds.total() == 80
    assert {kind.partition(":")[0] for kind in kinds} == set(bitflips.FORMATS)
    assert {kind.partition(": ")[2] for kind in kinds} == {"a tensor", "outside of tensors", "bertconv.json"}


def checked(*changes: Change) -> FolderCheck:
    return FolderCheck("out", changes, 3, 20, (), "sha256:0", "weights", {}, "0")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ((), "is not found"),
        ((Change("other", "", "has other bytes"),), "is blamed on"),
        ((Change("", "kernel:0", "is missing"),), "is blamed on"),
        ((Change("f", "", "has other bytes"),), "is found without the tensor"),
        ((Change("f", "bias:0", "has other values"),), "is found without the tensor"),
        ((Change("f", "kernel:0", "has other values"),), ""),
    ],
)
def test_a_check_that_misses_a_flip_is_seen(
    changes: tuple[Change, ...], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitflips, "check_checkpoint", lambda _: checked(*changes))
    reported = bitflips.complaint(Path("out"), Path("out/f"), "layer/kernel:0")
    assert problem in reported
    assert bool(reported) == bool(problem)


PLANTED = """
import sys
from qa import trust
if WRONG:  # once is enough for what takes long
    trust.PARTS["fuzz"] = lambda options: [trust.Row(f"mutated inputs, {name}", 100, 0) for name in trust.INPUTS]
trust.PARTS["bitflips"] = lambda options: [trust.Row("flips", options.sized(40), WRONG)]
sys.exit(trust.main())
"""


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_one_command_reruns_its_parts_and_fails_with_them(wrong: int) -> None:
    pytest.importorskip("torch")
    words = "--part fuzz --part bitflips --scale 0.0005 --seed 4 --json".split()
    planted = PLANTED.replace("WRONG", str(wrong))
    done = subprocess.run(
        [sys.executable, "-c", planted, *words], capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == wrong, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [row["what"] for row in rows] == [*(f"mutated inputs, {name}" for name in trust.INPUTS), "flips"]
    assert [row["count"] for row in rows[:2]] == [100, 100]


def test_what_is_counted_as_hostile_is_a_test() -> None:
    tests = ROOT / "tests"
    texts = "".join(path.read_text() for path in (*tests.glob("hostile/test_*.py"), tests / "formats" / "test_onnx.py"))
    for name in trust.HOSTILE:
        assert re.search(rf"^def {name}\(", texts, re.MULTILINE), name


def test_every_reader_s_fuzzer_and_hostile_files_are_counted() -> None:
    assert set(trust.INPUTS) == set(targets.NAMES)
    for path in sorted((ROOT / "tests" / "hostile").glob("test_hostile_*.py")):
        counted = any(f"def {name}(" in path.read_text() for name in trust.HOSTILE)
        assert counted or path.stem in {"test_hostile_memory", "test_hostile_hdf5_classic"}, path.name
