"""Forks of one process, which stand in for new ones: what a script finds, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from warm_python import WarmPython

if not hasattr(os, "fork"):
    pytest.skip("forks", allow_module_level=True)

FOUND = """
import json, os, sys
import beside
sys.modules["beside"].seen = sys.path.append("left behind")
os.environ["LEFT"] = "behind"
names = [__name__, sys.modules["__main__"].__name__]
print(json.dumps([names, sys.argv, os.getcwd(), beside.__file__, sys.stdin.read()]))
"""


def test_a_script_finds_what_it_would_find_in_a_new_process(warm: WarmPython, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "script.py").write_text(FOUND)
    folder, names, beside = str(tmp_path), ["__main__", "__main__"], str(tmp_path / "beside.py")
    for words, called in ((("script.py",), str(tmp_path / "script.py")), (("-c", FOUND), "-c")):
        done = warm.run(*words, "a", 7, folder=tmp_path, needs=())
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == [names, [called, "a", "7"], folder, beside, ""]
    left = "import os, sys; print('beside' in sys.modules, 'left behind' in sys.path, 'LEFT' in os.environ)"
    assert warm.run("-c", left, folder=tmp_path, needs=()).stdout == "False False False\n"


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('a sentence')", 1, "a sentence\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_how_a_script_ends_is_told(warm: WarmPython, tmp_path: Path, code: str, status: int, words: str) -> None:
    done = warm.run("-c", f"print('out', flush=True)\n{code}", folder=tmp_path, needs=())
    assert (done.returncode, done.stdout) == (status, "out\n")
    assert done.stderr.endswith(words)
    assert bool(done.stderr) == bool(words)
