"""docs/migrating.md: every line of its tables is true, what it says to write works, and its Python runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hub_endpoint
import keras
import migrating_compiled  # noqa: F401  (registers its cases, as the next one does)
import migrating_saved  # noqa: F401
import pytest
from migrating_page import CASES, ROWS, TEXT, Row, missing_code, tables
from tiny_models import inputs, labels
from trained_models import CLASSIFIER, compiled

import bertconv

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_writes import WritableHub

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def test_every_row_has_a_case_and_every_case_a_row() -> None:
    assert len(ROWS) > 40
    assert sorted(row.program for row in ROWS) == sorted(CASES)


@pytest.mark.parametrize("row", ROWS, ids=[row.program for row in ROWS])
def test_row(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[row.program]
    assert missing_code(row, case) == []
    case(row)
    assert row.expected == []


def test_names_are_where_the_page_says() -> None:
    import transformers

    places = {"bertconv": bertconv, "transformers": transformers}
    found = 0
    for names, place in tables(("name in 4.57", "where it is now")):
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(places[re.findall(r"`(\w+)`", place)[0]], name), name
            found += 1
    assert found > 10


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[WritableHub, None, None]:
    """In place of the real one."""
    yield from hub_endpoint.writable(WritableHub(), tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library
def test_every_block_of_the_page_runs(hub: WritableHub) -> None:
    model = compiled(optimizer=keras.optimizers.SGD(0.01))
    names: dict[str, Any] = {"model": model, "x": inputs(CLASSIFIER), "y": labels(CLASSIFIER)["labels"]}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        exec(block, names)  # noqa: S102  (of a page of ours)
    assert names["history"].epoch == [0, 1]
    assert "tf_model.h5" in hub.files("me/tuned")
