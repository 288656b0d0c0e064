"""Puts the builders of torch files on sys.path, and makes the output that hostile files must not touch."""

from __future__ import annotations

import sys
from pathlib import Path

import checkpoints as cp
import pytest

BUILDERS = Path(__file__).parents[1] / "formats" / "pytorch"
if str(BUILDERS) not in sys.path:
    sys.path.append(str(BUILDERS))


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a sound model that is one edit away from the hostile ones; it shows that those would convert."""
    from hostile_case import CONFIG, STATE

    root = tmp_path_factory.mktemp("earlier")
    folder = cp.save_weights(cp.write_config(root / "model", CONFIG), "BertModel", cp.prefixed(STATE, "bert."), "bin")
    assert cp.call("pt2tf", folder, root / "out", "--quiet") == 0
    return root / "out"
