"""`bertconv diff`: exit codes, what is printed, JSON, the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
from checkpoints import Outcome
from diffed import HEAD, QUERY, QUERY_ID, WORD_ID, moved, normal

from bertconv import diff_checkpoints
from bertconv.manage.difference.page import diff_page

Cli = Callable[..., Outcome]


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A, B with changes in two tensors, and C near both."""
    a, b = normal(), normal()
    b[QUERY] = b[QUERY] + np.float32(0.125)
    b[cp.WORD][5] += np.float32(0.25)
    cp.save(tmp_path / "a", HEAD, a)
    cp.save(tmp_path / "b", HEAD, b, "h5", layer_norm_eps=1e-5)
    cp.save(tmp_path / "c", HEAD, moved(a, 0.01))
    return tmp_path / "a", tmp_path / "b", tmp_path / "c"


def test_equal(cli: Cli, sides: tuple[Path, ...]) -> None:
    done = cli("diff", sides[0], sides[0])
    assert done.code == 0
    assert done.out.endswith("Equal: 46 of 46 tensors, bit for bit.\n")
    assert cli("diff", sides[0], sides[0], "--quiet").out == "Equal: 46 of 46 tensors, bit for bit.\n"


def test_different_by_layer(cli: Cli, sides: tuple[Path, ...]) -> None:
    done = cli("diff", *sides[:2])
    assert done.code == 1
    lines = [[cell.strip() for cell in line.split("|")] for line in done.out.splitlines()]
    table = {cells[0]: cells for cells in lines if len(cells) == 7}
    assert table["embeddings"][1:5] == ["5", "1 changed", "35", "0.25"]
    assert table["layer.1"][1:5] == ["16", "1 changed", "1,225", "0.125"]
    assert table["layer.0"][1:] == ["16", "equal", "", "", "", ""]
    assert "Config: layer_norm_eps is 1e-12 in A and 1e-05 in B." in done.out
    assert done.out.splitlines()[-1].startswith("2 of 46 tensors changed, most in layer.1")
    assert "embeddings.word.weight: 1 of 101 rows changed (row 5); the configs differ in layer_norm_eps." in done.out


def test_different_by_tensor(cli: Cli, sides: tuple[Path, ...]) -> None:
    done = cli("diff", *sides[:2], "--per", "tensor")
    lines = [[cell.strip() for cell in line.split("|")] for line in done.out.splitlines()]
    table = {cells[0]: cells for cells in lines if len(cells) == 9}
    assert len(table) == 46 + 1
    assert table[QUERY_ID][1:6] == ["35x35", "float32", "changed", "1,225", "0.125"]
    assert table["layer.0.query.weight"][3] == "equal"


def test_json(cli: Cli, sides: tuple[Path, ...]) -> None:
    done = cli("diff", *sides[:2], "--against-base", sides[2], "--json")
    assert done.code == 1
    facts = json.loads(done.out)
    diff = diff_checkpoints(*sides[:2], against_base=sides[2])
    assert facts["verdict"] == diff.verdict()
    assert (facts["equal"], facts["schema"]) == (False, 1)
    changed = {one["id"]: one for one in facts["tensors"] if one["state"] == "changed"}
    assert set(changed) == {QUERY_ID, WORD_ID}
    assert changed[QUERY_ID]["change"]["relative"] > 0
    assert changed[WORD_ID]["rows"]["names"]["changed"] == ["row 5"]
    assert diff.against is not None
    assert facts["against"]["whole"]["relative_b"] == diff.against.whole.relative_b
    assert {"labels", "tokenizer", "modules", "config", "layers", "left_out", "notes"} <= set(facts)


def test_a_third_checkpoint(cli: Cli, sides: tuple[Path, ...]) -> None:
    done = cli("diff", *sides[:2], "--against-base", sides[2])
    assert "From C" in done.out
    assert "A and B both come from C" in done.out
    assert f"C {sides[2]}" in done.out


def test_not_alignable(cli: Cli, sides: tuple[Path, ...], tmp_path: Path) -> None:
    cp.save(tmp_path / "other", "ElectraModel", cp.state_dict("ElectraModel"))
    done = cli("diff", sides[0], tmp_path / "other")
    assert done.code == 3
    assert "not alignable" in done.err
    told = json.loads(cli("diff", sides[0], tmp_path / "other", "--json").out)
    assert (told["ok"], told["error"]["code"], told["error"]["kind"]) == (False, 3, "MappingError")


def test_what_is_ignored_does_not_count(cli: Cli, tmp_path: Path) -> None:
    head = "BertForTokenClassification"
    state = normal(head)
    names = {str(number): f"other {number}" for number in range(11)}
    cp.save(tmp_path / "a", head, state)
    cp.save(tmp_path / "b", head, state, id2label=names, label2id={name: int(key) for key, name in names.items()})
    done = cli("diff", tmp_path / "a", tmp_path / "b")
    assert done.code == 1
    assert "the labels differ: label 0 is 'label 0' in A and 'other 0' in B" in done.out
    done = cli("diff", tmp_path / "a", tmp_path / "b", "--ignore", "labels")
    assert done.code == 0
    assert "Equal: 39 of 39 tensors, bit for bit; differences in the labels were ignored." in done.out
    assert cli("diff", tmp_path / "a", tmp_path / "b", "--ignore", "weights").code == 2


class _Page(HTMLParser):
    """Ids of the sections, and the bars by their series."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.series: dict[str, int] = {}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "section" and "id" in said:
            self.ids.append(str(said["id"]))
        if tag == "g":
            self._in = said.get("data-series") or ""
        if tag in {"rect", "circle"} and self._in and "title" not in said and said.get("class") is None:
            self.series[self._in] = self.series.get(self._in, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "g":
            self._in = ""


def test_the_page(cli: Cli, sides: tuple[Path, ...], tmp_path: Path) -> None:
    page = tmp_path / "diff.html"
    assert cli("diff", *sides[:2], "--against-base", sides[2], "--report", page, "--quiet").code == 1
    found = _Page(page.read_text(encoding="utf-8"))
    assert found.ids == ["change", "modules", "base", "layers", "tokens", "weights", "config", "beside", "origin"]
    assert found.series == {"B minus A": 6, "A minus C": 6, "B minus C": 6}
    assert cli("diff", *sides[:2], "--report", sides[0] / "config.json").code == 7


def test_the_page_of_equal_sides_and_of_hostile_names(sides: tuple[Path, ...], tmp_path: Path) -> None:
    found = _Page(diff_page(diff_checkpoints(sides[0], sides[0])))
    assert found.ids == ["layers", "weights", "beside", "origin"]
    folder = tmp_path / "<script>alert(1)<"
    cp.save(folder, HEAD, normal())
    assert "<script>alert" not in diff_page(diff_checkpoints(folder, sides[1]))


def test_help_has_examples(cli: Cli) -> None:
    done = cli("diff", "--help")
    assert "bertconv diff A B --against-base bert-base-uncased" in done.out
    assert "--ignore WHAT" in done.out
