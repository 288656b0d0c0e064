"""scripts/canary.py: which versions it asks for, what it says of them; and that constraints.txt pins all of them."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import canary  # noqa: E402  (scripts are no package)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = canary.pins(canary.CONSTRAINTS.read_text().splitlines())


def names(requirements: list[str]) -> set[str]:
    found = (re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements)
    return {canary.normal(name) for name in found} - {"bertconv"}


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_requirement_is_pinned(extra: str | None) -> None:
    wanted = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    assert names(wanted) - PINNED.keys() == set()


def test_pins_are_nowhere_else() -> None:
    assert "==" not in str([PROJECT["dependencies"], PROJECT["optional-dependencies"]])


def test_lines_of_pip_freeze() -> None:
    lines = ["# by hand", "-e /somewhere", "torch==2.13.0+cpu", "ml_dtypes==0.6.0", "Local @ file:///x"]
    assert canary.pins(lines) == {"torch": "2.13.0", "ml-dtypes": "0.6.0"}


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    found = canary.pins(canary.lowest(["tf"]))
    assert names(PROJECT["dependencies"]) | {"keras", "optree", "tensorflow"} == found.keys()
    assert f"click>={found['click']}" in PROJECT["dependencies"]


def test_a_requirement_without_a_lowest_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy"]\n')
    monkeypatch.setattr(canary, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"numpy in pyproject\.toml has no lowest version"):
        canary.lowest()


def test_what_changed() -> None:
    before, now = {"a": "1", "b": "2", "gone": "3"}, {"a": "1", "b": "2.1", "new": "4"}
    assert canary.changes(before, now) == ["b: 2 -> 2.1", "gone: 3 -> not there", "new: not there -> 4"]


def test_what_is_written_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text("# why\nold==1\n")
    monkeypatch.setattr(canary, "CONSTRAINTS", file)
    canary.write_constraints({"torch": "2.13.0", "bertconv": "0.1.0", "a": "1"})
    assert file.read_text() == "# why\na==1\ntorch==2.13.0\n"
