"""The committed listings are current, and the script that writes them notices when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_script import golden

from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import load_table
from bertconv.table_files import table_names, tables_folder

WANTED = golden.every(load_dialects())


@pytest.mark.parametrize("name", sorted(WANTED))
def test_listing_is_current(name: str) -> None:
    assert (golden.GOLDEN / name).read_text() == WANTED[name], "run scripts/golden.py and look at what it changed"


def test_there_is_a_listing_for_every_class_and_no_other() -> None:
    tables = [load_table(tables_folder() / f"{name}.toml") for name in table_names()]
    assert {path.name for path in golden.GOLDEN.iterdir()} == {
        f"{head}.txt" for table in tables for head in table.heads
    }


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.setattr(golden, "GOLDEN", folder)
    monkeypatch.setattr("sys.argv", ["golden.py", *arguments])
    return golden.main()


def test_script_writes_what_it_then_finds_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "BertForPoetry.txt").write_text("a class that is no more\n")
    assert run(monkeypatch, tmp_path, "--check") == 1
    assert "BertForPoetry.txt is not current" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(WANTED)
    assert run(monkeypatch, tmp_path, "--check") == 0
