"""Being here puts this folder on sys.path, so that every test finds `checkpoints`; what several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from checkpoints import Outcome, call

os.environ.setdefault("BERTCONV_VERIFY", "weights")
"""Conversions of the tests run no framework, unless a test is about that."""


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process: `cli("inspect", folder).code`."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = call(*arguments)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
