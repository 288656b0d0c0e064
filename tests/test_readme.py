"""The README and the pages that it leads to: its two commands, its length, and no link that leads nowhere."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

import bertconv
from bertconv.cli.main import SECTIONS
from bertconv.formats.output import formats

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test"])
def test_a_command_stands_alone_and_can_be_run(script: str) -> None:
    assert f"{script}\n" in blocks("sh")
    assert os.access(ROOT / script, os.X_OK)


def test_a_user_of_tensorflow_1_finds_two_commands() -> None:
    (own,) = (block for block in blocks("sh") if "bert_model.ckpt" in block)
    assert re.findall(r"^bertconv convert bert_model.ckpt \w+/ --to (\w+)$", own, re.MULTILINE) == ["pt", "tf"]


def test_formats_that_it_names_are_there() -> None:
    named = re.findall(r"--to ([\w-]+)", README)
    assert named
    assert set(named) <= set(formats())


def test_it_is_read_to_its_end() -> None:
    assert len(README.split()) <= 800
    assert max(map(len, re.sub(r"^\||^!.*$", "", README, flags=re.MULTILINE).splitlines())) <= 120


@pytest.mark.parametrize("block", blocks("python"))
def test_python_is_python(block: str) -> None:
    ast.parse(block)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for place, anchor in LINK.findall(text):
        if "//" in place:
            continue
        there = (ROOT / page).parent / place if place else ROOT / page
        assert there.exists(), place
        assert not anchor or anchor in anchors(there), f"{place}#{anchor}"


# docs/manage.md, the index of commands

ROWS = [line for line in (ROOT / "docs" / "manage.md").read_text().splitlines() if line.count("|") == 5]


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    named = [name for row in ROWS[2:] for name in re.findall(r"`([a-z0-9-]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(name for commands in SECTIONS.values() for name in commands)


def test_functions_of_commands_are_there() -> None:
    named = [name for row in ROWS[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[3])]
    assert len(named) > 20
    assert set(named) <= set(bertconv.__all__)


def test_files_of_commands_are_there() -> None:
    table = (ROOT / "docs" / "manage.md").read_text().partition("| file |")[2]
    named = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+(?:\.py|/))`", line.split("|")[1])
    ]
    missing = [name for name in named if not (ROOT / "bertconv" / "manage" / name).exists()]
    assert len(named) > 10
    assert missing == []
