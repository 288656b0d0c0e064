"""The rows of docs/migrating.md, and what a test needs to show that one of them is true."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"
TEXT = PAGE.read_text()
HEADER = ("your program", "what you see", "what to write")
SENTENCE = re.compile(r"`(\w+): ([^`]+)`")
CODE = re.compile(r"`([^`]+)`")


@dataclass
class Row:
    """One line of a table, and the errors and warnings in it that did not come yet.

    Attributes:
        program: what a program for 4.57 has.
        seen: what comes of it here, with the sentence of the error where there is one.
        write: what to write instead.
    """

    program: str
    seen: str
    write: str
    expected: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expected = SENTENCE.findall(self.seen)

    @contextmanager
    def comes(self) -> Iterator[None]:
        """The next error or warning of the row comes in here, by its class and its words; "..." stands for any."""
        name, words = self.expected.pop(0)
        pattern = ".*".join(map(re.escape, words.split("...")))
        if name.endswith("Warning"):
            with pytest.warns(match=re.compile(pattern, re.DOTALL)) as caught:
                yield
            assert name in {each.category.__name__ for each in caught}
            return
        with pytest.raises(Exception, match=re.compile(pattern, re.DOTALL)) as error:
            yield
        assert name in {kind.__name__ for kind in error.type.__mro__}


Case = Callable[[Row], None]
CASES: dict[str, Case] = {}


def case(program: str) -> Callable[[Case], Case]:
    """Register the test of the row whose first cell this is."""

    def register(function: Case) -> Case:
        assert program not in CASES
        CASES[program] = function
        return function

    return register


def tables(header: tuple[str, ...]) -> Iterator[list[str]]:
    """The cells of every line of every table with this header."""
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = bool(cells) and (inside or tuple(cells) == header)
        if inside and tuple(cells) != header and not set(cells[0]) <= {"-", ":"}:
            yield [cell.replace("\\|", "|") for cell in cells]


ROWS = [Row(*cells) for cells in tables(HEADER)]


def missing_code(row: Row, function: Any) -> list[str]:
    """The code in what a program has, and in what to write, that the row's test has not; it may have more arguments."""
    source = _plain(inspect.getsource(function).partition("def ")[2])
    return [code for code in CODE.findall(row.program + row.write) if not re.search(_pattern(_plain(code)), source)]


def _pattern(code: str) -> str:
    ends = code.endswith(")")
    return ".*".join(map(re.escape, code.removesuffix(")").split("..."))) + ("[,)]" if ends else "")


def _plain(code: str) -> str:
    return re.sub(r"\s", "", code.replace("'", '"'))
