"""TensorFlow is imported without its lines on stderr, unless it cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOISE = "I0000 cpu_feature_guard: this binary is optimized"
BEFORE, IMPORTED, STARTED, AFTER = (f"{NOISE} {number}" for number in range(4))

STAND_IN = f"""
import os
def write(text):
    try:
        os.write(2, text + b"\\n")
    except OSError:
        pass  # C++ does not care
write(b"{IMPORTED}")
level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
IMPORT
def zeros(shape):
    write(b"{STARTED}")
    ZEROS
"""
"""A tensorflow.py that writes past Python, as the real one does."""

CODE = f"""
import os, sys
from bertconv.verify.quiet import import_tensorflow
say = lambda text: print(text, file=sys.stderr) if sys.stderr else None
say("{BEFORE}")
files = len(os.listdir("/proc/self/fd"))
try:
    import_tensorflow()
    import_tensorflow()
finally:
    say("{AFTER}")
    print(len(os.listdir("/proc/self/fd")) - files)
import tensorflow
print(tensorflow.level)
"""


def run(folder: Path, before: str = "", imported: str = "", zeros: str = "", close: bool = False, **environment: str
        ) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Import the stand-in, which does this on import and this when it is started; stderr may be closed."""
    (folder / "tensorflow.py").write_text(
        STAND_IN.replace("IMPORT\n", f"{imported}\n").replace("    ZEROS", f"    {zeros}")
    )
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", before + CODE]
    if close:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    return subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**kept, "PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}", **environment},
    )  # fmt: skip


def test_nothing_is_shown(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [BEFORE, AFTER]


def test_no_file_stays_open(tmp_path: Path) -> None:
    assert run(tmp_path).stdout.splitlines()[0] == "0"
    assert run(tmp_path, imported="raise ImportError").stdout.splitlines()[0] == "0"


def test_the_log_level_is_the_users(tmp_path: Path) -> None:
    assert run(tmp_path).stdout.split() == ["0", "2"]
    assert run(tmp_path, TF_CPP_MIN_LOG_LEVEL="0").stdout.split() == ["0", "0"]


@pytest.mark.parametrize(("error", "shown"), [
    ({"imported": "raise ImportError('no such library')"}, [IMPORTED]),
    ({"zeros": "raise OSError('no such library')"}, [IMPORTED, STARTED]),
    ({"imported": "raise KeyboardInterrupt('no such library')"}, []),
    ({"zeros": "raise SystemExit('no such library')"}, []),
])  # fmt: skip
def test_everything_is_shown_when_it_fails(error: dict[str, str], shown: list[str], tmp_path: Path) -> None:
    """And nothing when the user stops it."""
    done = run(tmp_path, **error)
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert lines[: len(shown) + 2] == [BEFORE, *shown, AFTER]
    assert "no such library" in lines[-1]


def test_much_is_shown_whole(tmp_path: Path) -> None:
    """More than a pipe holds at a time."""
    done = run(tmp_path, imported="os.write(2, b'x' * 300_000); raise ImportError")
    assert done.stderr.count("x" * 1000) == 300


@pytest.mark.parametrize("imported", ["", "raise ImportError('no such library')"])
def test_a_process_without_stderr(imported: str, tmp_path: Path) -> None:
    """As a service may be started: there is nothing to hold back, and nothing to fail at."""
    done = run(tmp_path, imported=imported, close=True)
    assert done.returncode == (1 if imported else 0)
    assert done.stdout.split()[0] == "0"
    assert len(done.stdout.split()) == (1 if imported else 2)


@pytest.mark.parametrize("stream", ["None", "open(os.devnull, 'w')", "__import__('io').StringIO()"])
def test_another_stream_in_its_place(stream: str, tmp_path: Path) -> None:
    """As notebooks and test runners have it: what matters is the file descriptor."""
    done = run(tmp_path, before=f"import os, sys\nsys.stderr = {stream}\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stream(tmp_path: Path) -> None:
    done = run(tmp_path, before="import sys\nsys.stderr.close()\nsys.stderr = None\n")
    assert done.returncode == 0


def test_what_is_imported_already_is_left_alone(tmp_path: Path) -> None:
    done = run(tmp_path, before="import tensorflow\n")
    assert done.returncode == 0
    assert done.stdout.split() == ["0", "None"]
    assert done.stderr.splitlines() == [IMPORTED, BEFORE, AFTER]


def test_tensorflow_itself() -> None:
    code = "from bertconv.verify.quiet import import_tensorflow; import_tensorflow()"
    code += "; import tensorflow as tf; print(tf.zeros(()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tf.Tensor(0.0")
