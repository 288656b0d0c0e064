"""Models made under a strategy of tf.distribute: what they give and learn is what a model of one device does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("mirrored_scenes.py")
NAMES = re.findall(r"^@scene\ndef (\w+)", SCRIPT.read_text(), re.MULTILINE)


def test_mirrored_strategy() -> None:
    """Two replicas, half the batch each: the weights move by the mean of the gradients of the halves' own losses."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.stdout == "".join(f"{name} as one device\n" for name in NAMES), done.stdout + done.stderr[-3000:]
