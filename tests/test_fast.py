"""`scripts/check --fast` runs what needs no framework, and finds that out by hiding them: tests/without_frameworks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDING = ROOT / "tests" / "without_frameworks"
FRAMEWORKS = ("tensorflow", "keras", "torch", "transformers")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{HIDING}{os.pathsep}{ROOT / 'tests'}", "BERTCONV_ONLY_INSTALLED": "1"}

PLANTED = """
import importlib.util, subprocess, sys
import pytest

NAMES = {names!r}

@pytest.mark.parametrize("name", NAMES)
def test_that_needs_one(name):
    __import__(name)

@pytest.mark.parametrize("name", NAMES)
def test_whose_child_needs_one(name):
    done = subprocess.run([sys.executable, "-c", f"import {{name}}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

@pytest.mark.slow
def test_of_a_campaign(): raise AssertionError

def test_that_needs_none():
    import numpy
    assert all(importlib.util.find_spec(name) is None for name in NAMES)
    assert not set(NAMES) & sys.modules.keys()
"""


def fast(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-m", "not slow"]
    command = [sys.executable, "-m", "pytest", "-q", *options, f"--rootdir={folder}", str(folder)]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_what_needs_a_framework_is_skipped_and_the_rest_runs(tmp_path: Path) -> None:
    reported = fast(tmp_path, inside=PLANTED.format(names=FRAMEWORKS), above="import torch\n\ndef test_it(): pass\n")
    assert "1 passed, 9 skipped, 1 deselected" in reported, reported


def test_check_hides_all_of_them() -> None:
    check = (ROOT / "scripts" / "check").read_text()
    assert "BERTCONV_ONLY_INSTALLED=1" in check
    assert '"$PWD/tests/without_frameworks' in check
    written = f"({json.dumps(FRAMEWORKS)[1:-1]})"
    for path in (HIDING / "sitecustomize.py", ROOT / "tests" / "conftest.py"):
        assert re.findall(r"^FRAMEWORKS = (.*)$", path.read_text(), re.MULTILINE) == [written]


@pytest.mark.parametrize("option", ["--help", "--fast --help"])
def test_help(option: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "check", *option.split()], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.startswith("Format, lint, types, tables, tests: what CI runs.\n")
    assert "\n  --fast  only the tests that need no framework" in done.stdout
    assert "set -e" not in done.stdout
