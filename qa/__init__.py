"""Campaigns against bertconv itself: mutated inputs, faults, flipped bits, deleted checks. Not installed.

Each is a package or a module here that runs with `python -m qa.NAME` from the root of the repository; `qa.trust` runs
all of them. They build checkpoints with the helpers of the tests, which this package puts on the path.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"

if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))
