"""A process that imports the frameworks and runs nothing: each script that it is asked to run has a fork of its own.

Importing TensorFlow, torch and transformers takes longer than what most scripts of the tests do. A script finds what it
would find in a new process: its own `__main__`, arguments, folder and first place to import from; nothing of bertconv
is imported, no operation has run and no thread has started, so that a fork is sound.

Not for tests of what is imported, or of what is set before an import: those start a Python of their own.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
KERAS, ALL = ("tensorflow", "keras"), ("tensorflow", "keras", "torch", "transformers")


class WarmPython:
    """Runs scripts in forks of one process, which starts when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, *arguments: object, folder: Path, places: tuple[Path, ...] = (), needs: tuple[str, ...] = ALL
    ) -> subprocess.CompletedProcess[str]:
        """What `python SCRIPT ARGUMENT ...` or `python -c CODE ARGUMENT ...` gives in a folder.

        Args:
            arguments: as those of Python.
            folder: the current one.
            places: what modules are imported from, behind the script's own folder.
            needs: frameworks that are imported before the fork.
        """
        process = self._process = self._process or subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **QUIET},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        words = [str(argument) for argument in arguments]
        with tempfile.TemporaryDirectory() as streams:
            asked = {"words": words, "folder": str(folder), "places": [*map(str, places)], "needs": needs}
            process.stdin.write(json.dumps({**asked, "streams": streams}) + "\n")
            process.stdin.flush()
            code = process.stdout.readline()
            assert code, "it ended: see what it wrote"
            out, err = (Path(streams, name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(words, int(code), out, err)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with self._process as process:
                assert process.stdin is not None
                process.stdin.close()


# What that process does


def serve() -> None:
    """Import, and fork, for every line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.pop(0)  # the tests' own folder
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        _import(asked["needs"])
        child = os.fork()
        if not child:
            _be(asked)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def _import(frameworks: list[str]) -> None:
    for name in frameworks:
        importlib.import_module(name)
    if "transformers" in frameworks:
        from transformers import AutoModel, AutoTokenizer, BertModel  # noqa: F401  (lazy: this is what imports it)
    threads = list(Path("/proc/self/task").glob("*"))
    assert len(threads) <= 1, threads  # none where there is no such folder


def _be(asked: dict[str, Any]) -> None:
    """Become the Python that was asked for, and end."""
    code = 1
    try:
        os.chdir(asked["folder"])
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(Path(asked["streams"], name), os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _execute(asked["words"], asked["places"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001  (it must not go on as the parent)
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _execute(words: list[str], places: list[str]) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    sys.path[:0] = places
    if words[0] == "-c":
        main = sys.modules["__main__"] = ModuleType("__main__")
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
    else:
        script = Path(words[0]).absolute()
        sys.argv = words
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    serve()
