"""The process in which libhdf5 runs: what it may do, and what becomes of it when a file makes it do something else."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints as cp
import h5py
import numpy as np
import pytest
from patience import until

from bertconv.containers.hdf5 import process
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.stored import Header
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux")

SOUND = {"tensors": [], "metadata": {}, "others": []}
ENTRY = {"name": "b", "group": "", "dtype": "float32", "shape": [2], "offset": 0, "recorded": ""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a kind that only libhdf5 reads."""
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as root:
        root["layer/kernel:0"], root["b"] = np.zeros((3, 5), "f4"), np.zeros(7, "f2")
    return tmp_path / "a.h5"


def read(path: Path) -> Header:
    file = cp.open_file(path)
    try:
        return read_hdf5(file)
    finally:
        file.close()


def planted(monkeypatch: pytest.MonkeyPatch, program: str, *, confined: bool = True) -> None:
    """Another program in the place of the walk, as a file might have it that has taken libhdf5 over."""
    start = "import sys; sys.path[:] = sys.argv[2:]\nfrom bertconv.containers.hdf5 import sandbox\n"
    start += "import ctypes, json, os, socket, time\n"
    monkeypatch.setattr(process, "_PROGRAM", start + ("sandbox.confine()\n" if confined else "") + program)


def test_the_child_reads_what_was_written(path: Path) -> None:
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in read(path).tensors} == {
        "layer/kernel:0": ("float32", (3, 5)), "b": ("float16", (7,)),
    }  # fmt: skip


# A file that takes libhdf5 over


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("while True: pass", "hang"),
        ("ctypes.string_at(0)", "crash (SIGSEGV)"),
        ("os.abort()", "crash (SIGABRT)"),
        ("os.kill(os.getpid(), 9)", "hang"),
        ("os.kill(os.getpid(), 40)", "crash (signal 40)"),
        ("chunk = 'x' * (1 << 20)\nwhile True: sys.stdout.write(chunk)", "hang"),
    ],
)
def test_hangs_and_crashes_are_errors(path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str) -> None:
    planted(monkeypatch, program)
    with pytest.raises(UnsafeCheckpoint, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
        read(path)
    assert caught.value.file == str(path)
    assert caught.value.hint


@pytest.mark.parametrize("before", ["print(os.getpid(), flush=True)", "sys.stdout.close(); os.close(1)"])
def test_a_child_that_sleeps_is_ended(path: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    monkeypatch.setattr(process, "REST_SECONDS", 0.5)
    planted(monkeypatch, f"{before}; time.sleep(1000)")
    with pytest.raises(UnsafeCheckpoint, match="hang"):
        read(path)


@pytest.mark.parametrize("before", ["", "sys.stdout.close(); os.close(1); "])
def test_a_child_that_never_has_its_turn_is_waited_for(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The machine is busy: it has been waiting for a processor all the time, as the system says."""
    (tmp_path / "schedstat").write_text(f"1000 {1 << 62} 1\n")
    monkeypatch.setattr(process, "SCHEDSTAT", str(tmp_path / "schedstat"))
    monkeypatch.setattr(process, "REST_SECONDS", 0.0)
    planted(monkeypatch, f"print('[]', flush=True); {before}time.sleep(0.5)")
    with pytest.raises(UnsafeCheckpoint, match="nonsense"):  # it was heard
        read(path)


@pytest.mark.parametrize("reported", [None, "", "1 2", "a b c"])
def test_a_system_that_does_not_tell_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: str | None
) -> None:
    if reported is not None:
        (tmp_path / "schedstat").write_text(reported)
    monkeypatch.setattr(process, "SCHEDSTAT", str(tmp_path / "schedstat"))
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: 1007.0))
    assert process.rested(os.getpid(), 1000.0) == 7


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell who waits")
def test_computing_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True); input()"
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: 1007.0))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        assert process.rested(child.pid, 1000.0) < 6.6
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "reported",
    [
        "", "[]", "7", "[" * 100_000, "{", '{"tensors": 7}', '{"error": 7}', '{"error": {"kind": "SystemExit"}}',
        json.dumps({**SOUND, "metadata": 7}),
        *(
            json.dumps({**SOUND, "tensors": [ENTRY | change]})
            for change in (
                {"name": 7}, {"group": None}, {"dtype": "object"}, {"shape": [-1]}, {"shape": ["2"]}, {"shape": 2},
                {"shape": [2.0]}, {"offset": -8}, {"offset": None}, {"offset": 1.5}, {"more": 1},
            )
        ),
    ],
)  # fmt: skip
def test_nonsense_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch, reported: str) -> None:
    planted(monkeypatch, f"print({reported!r})")
    with pytest.raises(UnsafeCheckpoint, match="nonsense") as caught:
        read(path)
    assert caught.value.file == str(path)


def test_places_outside_of_the_file_are_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = path.stat().st_size
    for offset, count in ((size - 7, 2), (size, 1), (0, 1 << 60), (1 << 62, 1)):
        entry = {**ENTRY, "shape": [count], "offset": offset}
        planted(monkeypatch, f"print({json.dumps({**SOUND, 'tensors': [entry]})!r})")
        with pytest.raises(DamagedCheckpoint, match="ends at byte"):
            read(path)


@pytest.mark.parametrize(
    ("second", "sound"),
    [((40, 2), False), ((44, 1), False), ((44, 2), False), ((36, 3), False), ((40, 3), True), ((52, 3), True)],
)
def test_datasets_share_no_bytes_unless_they_are_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, second: tuple[int, int], sound: bool
) -> None:
    places = {"a": (40, 3), "b": second}
    entries = [{**ENTRY, "name": name, "shape": [count], "offset": offset} for name, (offset, count) in places.items()]
    planted(monkeypatch, f"print({json.dumps({**SOUND, 'tensors': entries})!r})")
    if sound:
        assert len(read(path).tensors) == 2
    else:
        with pytest.raises(DamagedCheckpoint, match="shares bytes"):
            read(path)


# What the process may do


TRY = """
def attempt(name, do):
    try:
        do()
        tried[name] = "done"
    except (OSError, MemoryError) as error:
        tried[name] = type(error).__name__
tried = {}
attempt("read", lambda: open(SECRET).read())
attempt("list", lambda: os.listdir("/"))
attempt("write", lambda: open(CANARY, "w"))
attempt("socket", lambda: socket.socket())
attempt("pipe", lambda: os.pipe())
attempt("memory", lambda: bytes(1 << 30))
print(json.dumps({"error": {"kind": "DamagedCheckpoint", "message": json.dumps(tried), "hint": "-", "tensor": None}}))
"""


def tried(path: Path, monkeypatch: pytest.MonkeyPatch, *, confined: bool) -> dict[str, Any]:
    (path.parent / "secret").write_text("secret")
    names = f"SECRET, CANARY = {str(path.parent / 'secret')!r}, {str(path.parent / 'canary')!r}\n"
    planted(monkeypatch, names + TRY, confined=confined)
    with pytest.raises(DamagedCheckpoint) as caught:
        read(path)
    found: dict[str, Any] = json.loads(caught.value.message)
    return found


def test_it_can_do_nothing_but_compute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(path, monkeypatch, confined=True)
    assert "done" not in found.values(), found
    assert len(found) == 6
    assert not (path.parent / "canary").exists()


def test_what_it_tries_would_work_elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(tried(path, monkeypatch, confined=False).values()) == {"done"}


LIMITED = """
import ctypes, resource
names = ("RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE")
facts = {name: resource.getrlimit(getattr(resource, name))[0] for name in names}
facts["plugins"] = os.environ.get("HDF5_PLUGIN_PRELOAD")
facts["no new privileges"] = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)
print(json.dumps({"error": {"kind": "DamagedCheckpoint", "message": json.dumps(facts), "hint": "-", "tensor": None}}))
"""


def test_it_writes_no_file_and_loads_no_filter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each protection by itself: another one may stand behind it."""
    planted(monkeypatch, LIMITED, confined=True)
    with pytest.raises(DamagedCheckpoint) as caught:
        read(path)
    assert json.loads(caught.value.message) == {
        "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 0, "plugins": "::",
        "no new privileges": int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0),  # as Landlock needs
    }  # fmt: skip


def test_landlock_alone_refuses_files() -> None:
    code = (
        "import sys; from bertconv.containers.hdf5 import sandbox; open('/proc/self/stat').close()\n"
        "if not sandbox.landlock(): sys.exit(77)\n"
        "for path, mode in (('/proc/self/stat', 'r'), (sys.argv[1], 'w')):\n"
        "    try: open(path, mode); sys.exit(path)\n"
        "    except PermissionError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "/tmp/canary"], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no Landlock")
    assert (done.returncode, done.stderr) == (0, "")


def test_limits_that_were_lower_stay_so(path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from bertconv.containers.stored import SourceFile\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (300, 300)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "from bertconv.containers.hdf5 import process; from bertconv.containers.hdf5.reader import read_hdf5\n"
        "more = '; from bertconv.containers.hdf5 import sandbox; sandbox.CPU_SECONDS = 1000; from'\n"
        "process._PROGRAM = process._PROGRAM.replace('; from', more, 1)\n"
        "print(len(read_hdf5(SourceFile(Path(sys.argv[1]))).tensors))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


# A process that cannot work


def test_a_child_that_fails_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "import no_such_module")
    with pytest.raises(BertconvError, match="ended with status 1") as caught:
        read(path)
    assert type(caught.value) is BertconvError
    assert "import h5py" in caught.value.hint


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
def test_no_interpreter_to_start(path: Path, monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(BertconvError, match="cannot be started"):
        read(path)


def test_ctrl_c_is_for_the_parent_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal signals its whole session; the child would end first, and be taken for one that crashed."""
    error = '{"error": {"kind": "DamagedCheckpoint", "hint": "-", "tensor": None, "message": str(os.getsid(0))}}'
    planted(monkeypatch, f"print(json.dumps({error}))")
    with pytest.raises(DamagedCheckpoint) as caught:
        read(path)
    assert caught.value.message != str(os.getsid(0))


def test_an_interrupt_ends_the_child(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bertconv.containers.stored import SourceFile\n"
        "from bertconv.containers.hdf5 import process; from bertconv.containers.hdf5.reader import read_hdf5\n"
        "process._PROGRAM = \"import os, time; open({!r}, 'w').write(str(os.getpid())); time.sleep(1000)\"\n"
        "read_hdf5(SourceFile(Path(sys.argv[1])))"
    )
    note = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", code.format(str(note)), path], stderr=subprocess.DEVNULL) as parent:
        try:
            until(lambda: (note.exists() and note.read_text()) or parent.poll() is not None)
            parent.send_signal(signal.SIGINT)
            assert parent.wait() == -signal.SIGINT
        finally:
            parent.kill()  # a test that fails here is no reason for the next one to
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_child_that_ends_slowly_is_not_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Popen gives an interrupted block a quarter of a second, which on a busy machine is nothing."""

    children = []

    def interrupt(child: subprocess.Popen[bytes]) -> None:
        child._sigint_wait_secs = 0
        children.append(child)
        raise KeyboardInterrupt

    planted(monkeypatch, "time.sleep(1000)")
    monkeypatch.setattr(process, "_listen", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(path)
    assert children[0].returncode == -signal.SIGKILL
