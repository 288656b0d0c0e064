"""docs/formats.md shows the whole matrix of formats as the tables have it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bertconv.formats.output import formats

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("format_matrix", ROOT / "scripts" / "format_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_today(script: ModuleType) -> None:
    page = script.PAGE.read_text()
    assert page.count(script.BEGIN) == page.count(script.END) == 1
    assert script.with_matrix(page) == page, "run `python scripts/format_matrix.py --write`"


def test_every_format_has_its_row(script: ModuleType) -> None:
    rows = script.matrix().splitlines()
    for name, form in formats().items():
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert form.dialect.title in row
        assert script.LOADED_BY[form.dialect.name] in row


def test_it_is_put_between_its_marks(script: ModuleType) -> None:
    page = f"before {script.BEGIN} old {script.END} after"
    new = script.with_matrix(page)
    assert new.startswith(f"before {script.BEGIN}\n\n| `--to` |")
    assert new.endswith(f"|\n\n{script.END} after")
    assert "old" not in new
