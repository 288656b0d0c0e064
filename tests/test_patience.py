"""No test depends on how busy the machine is: as far as its text shows, and what ends one that hangs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import Hangs, in_time, until

TESTS = Path(__file__).parent
CLOCKS = {
    "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "thread_time",
    "time", "time_ns", "sleep", "alarm", "setitimer",
}  # fmt: skip
"""Functions of `time` and `signal`."""
WAITS = {"wait", "join", "communicate", "acquire", "select"}
"""The last argument that these take is a time; so is any that is called timeout."""
ALLOWED = {
    "patience.py": "the one limit, and the one way to wait",
    "fleet/ray_scenes.py": "an engine is asked again until every end is there",
    "manage/test_catalog.py": "manifests that are old enough for their times to tell a change",
    "test_roundtrip.py": "HDF5 notes times in whole seconds: it waits for the next one",
    "test_scale.py": "the seconds of a modelled clock",
    "faults/test_faults_signals.py": "kill -9 at a random moment; what must be true does not depend on it",
}


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def times(tree: ast.AST) -> Iterator[int]:
    """Lines that ask a clock, sleep, or wait for a number of seconds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in {"time", "timeit"}:
            yield node.lineno
        if not isinstance(node, ast.Call):
            continue
        module, _, name = ast.unparse(node.func).rpartition(".")
        asks = module in {"time", "signal"} and name in CLOCKS
        waits = bool(module) and name in WAITS and bool(node.args) and is_number(node.args[-1])
        if asks or waits or any(word.arg == "timeout" and is_number(word.value) for word in node.keywords):
            yield node.lineno


def test_seconds_decide_nothing() -> None:
    """Count work instead, wait `until` it has happened, and leave what hangs to the guard of every test."""
    lines = {path.relative_to(TESTS).as_posix(): [*times(ast.parse(path.read_text()))] for path in TESTS.rglob("*.py")}
    assert {name: found for name, found in lines.items() if found and name not in ALLOWED} == {}
    assert all(lines[name] for name in ALLOWED), "allowed for nothing"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("assert time.perf_counter() - started < 2", True),
        ("from time import monotonic", True),
        ("time.sleep(0.1)", True),
        ("subprocess.run(words, check=True, timeout=60)", True),
        ("process.wait(10)", True),
        ("select.select([fd], [], [], 5)", True),
        ("event.wait(PATIENCE)", False),
        ("process.communicate(b'')", False),
        ("', '.join(names)", False),
        ("monkeypatch.setattr('time.sleep', print)", False),
    ],
)
def test_the_eye_of_this_test(text: str, found: bool) -> None:
    assert bool(list(times(ast.parse(text)))) == found


def test_a_test_that_hangs_is_ended() -> None:
    with pytest.raises(Hangs), in_time(0.05):
        until(lambda: False)


HANGING = """
import os, pytest
@pytest.fixture
def stuck(): os.read(os.pipe()[0], 1)
def test_call(): os.read(os.pipe()[0], 1)
def test_setup(stuck): pass
def test_next(): pass
"""


def test_every_test_is_guarded(tmp_path: Path) -> None:
    """In its fixtures too; the next test is run."""
    (tmp_path / "test_hanging.py").write_text(HANGING)
    program = "import patience, pytest, sys; patience.PATIENCE = 0.05; sys.exit(pytest.main())"
    options = ["-q", "-p", "conftest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert "1 failed, 1 passed, 1 error" in done.stdout
    assert done.stdout.count("Hangs: not over after") >= 2
