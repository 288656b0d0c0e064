"""The pytest plugin: the fixture `bertconv_parity`, and `--bertconv-parity A B` for a test without a line of code.

Every pytest run where bertconv is installed loads this file: what it needs is imported where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bertconv.errors import BertconvError

if TYPE_CHECKING:
    from bertconv.verify.parity import Parity


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; they are also the defaults of the fixture."""
    group = parser.getgroup("bertconv", "parity of checkpoints (bertconv)")
    group.addoption(
        "--bertconv-parity", dest="bertconv_parity", nargs=2, action="append", default=[], metavar=("A", "B"),
        help="add a test: is checkpoint B the same model as A? Hub ids, folders or files; repeatable",
    )  # fmt: skip
    group.addoption(
        "--bertconv-level", dest="bertconv_level", choices=("auto", "weights", "outputs", "gradients"), default="auto",
        help="what is compared (default: auto, outputs where both frameworks are installed, else weights)",
    )  # fmt: skip
    group.addoption(
        "--bertconv-ignore", dest="bertconv_ignore", default="", metavar="WHAT",
        help="labels, tokenizer, modules, or several with commas: differences in these do not count",
    )  # fmt: skip
    group.addoption(
        "--bertconv-report", dest="bertconv_report", metavar="FILE",
        help="write an HTML page per comparison; where there are several, the test's name is put into the file's",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before -k, -m and --lf choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each pair of the command line."""
    if not config.getoption("bertconv_parity"):
        return
    pairs = _Pairs.from_parent(session, name="bertconv", nodeid="bertconv")
    collected = pairs.ihook.pytest_make_collect_report(collector=pairs)
    pairs.ihook.pytest_collectreport(report=collected)  # or pytest would say that it collected 0 items
    items.extend(collected.result)


@pytest.fixture
def bertconv_parity(request: pytest.FixtureRequest) -> Callable[..., Parity]:
    """`bertconv.testing.assert_parity`, with `--bertconv-level`, `-ignore` and `-report` as its defaults."""
    from bertconv.testing import assert_parity

    return partial(assert_parity, **_options(request.config), report=_report(request.node))


class _Pairs(pytest.Collector):
    """The pairs of the command line."""

    def collect(self) -> Iterator[pytest.Item]:
        """One test per pair; a pair given twice is compared once."""
        for a, b in dict.fromkeys(map(tuple, self.config.getoption("bertconv_parity"))):
            name = f"parity[{a},{b}]"
            # the id is given, or --lf would not find it: pytest 9 knows parameters only from the text of an id
            yield _Pair.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", a=a, b=b)


class _Pair(pytest.Item):
    """Are two checkpoints the same model?"""

    def __init__(self, *, a: str, b: str, **facts: Any) -> None:
        super().__init__(**facts)
        self.a = a
        self.b = b

    def runtest(self) -> None:
        """Compare them."""
        from bertconv.testing import assert_parity

        several = len(self.config.getoption("bertconv_parity")) > 1
        report = _report(self) if several else self.config.getoption("bertconv_report")
        assert_parity(self.a, self.b, **_options(self.config), report=report)

    def reportinfo(self) -> tuple[Path, None, str]:
        """What a failure is headed with."""
        return self.path, None, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is wrong, without a traceback: the lines of bertconv say nothing to its user."""
        if isinstance(excinfo.value, AssertionError | BertconvError | UserWarning):  # the latter under -W error
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)


def _options(config: pytest.Config) -> dict[str, Any]:
    """The options of the command line, as those of `assert_parity`."""
    ignored = config.getoption("bertconv_ignore").split(",")
    return {
        "level": config.getoption("bertconv_level"),
        "ignore": tuple(part.strip() for part in ignored if part.strip()),
    }


def _report(item: pytest.Item) -> Path | None:
    """The page of one test among several: `parity.html` -> `parity-tests-test_model-py-test_it.html`."""
    given = item.config.getoption("bertconv_report")
    if given is None:
        return None
    page = Path(given)
    return page.with_stem(f"{page.stem}-{re.sub(r'[^0-9A-Za-z_]+', '-', item.nodeid).strip('-')}")
