"""Being here puts this folder on sys.path, so that every test finds `checkpoints`; what several test files share."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from checkpoints import Outcome, call
from patience import in_time
from warm_python import WarmPython

os.environ.setdefault("BERTCONV_VERIFY", "weights")
"""Conversions of the tests run no framework, unless a test is about that."""

# a busy machine makes examples slow, which says nothing about them
hypothesis.settings.register_profile("bertconv", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("bertconv")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a script starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt themselves and their children


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with in_time():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with in_time():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    with in_time():
        return (yield)


CAMPAIGNS = tuple(Path(__file__).parent / name for name in ("faults", "hostile"))
"""Folders whose tests are samples of a campaign of qa/ or a part of `python -m qa.trust`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`scripts/check --fast` leaves out what is marked slow."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in CAMPAIGNS):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Importing frameworks and collecting 19,000 tests makes little but what stays: no cycles are looked for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What is there now stays: no collection of cycles looks at it again. Young objects are looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(3_000, 10, 20)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process: `cli("inspect", folder).code`."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = call(*arguments)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmPython]:
    """Runs scripts in new processes that need not import the frameworks."""
    process = WarmPython()
    yield process
    process.close()


ONLY_INSTALLED = "BERTCONV_ONLY_INSTALLED" in os.environ
"""What needs a framework that is not installed is skipped: `scripts/canary.py lowest` asks for it. CI has them all."""
FRAMEWORKS = ("tensorflow", "keras", "torch", "transformers")

Report = pytest.CollectReport | pytest.TestReport


def skipped_without(report: Report) -> Report:
    """The report, as that of a skip where all that is wrong is a framework that is not there."""
    missing = re.search(r"ModuleNotFoundError: No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing[1] in FRAMEWORKS:
        report.outcome = "skipped"
        report.longrepr = (report.nodeid, 0, f"Skipped: {missing[1]} is not installed")
    return report


if ONLY_INSTALLED:

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, Report]:
        return skipped_without((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, Report]:
        return skipped_without((yield))
