"""Start the process that reads a file's metadata, wait for its answer, and end it where it does not give one."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bertconv.errors import BertconvError, UnsafeCheckpoint, UnsupportedCheckpoint

if TYPE_CHECKING:
    import subprocess

    from bertconv.containers.stored import SourceFile

REST_SECONDS = 60.0
"""How long the child may rest, on whatever it waits for; a hang of libhdf5 uses up its processor time long before."""
MOST_BYTES = 64 << 20
"""Longest answer that is listened to."""
SCHEDSTAT = "/proc/{}/schedstat"
"""Nanoseconds that a process has computed, and that it has waited for a processor: sched-stats.rst of Linux."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from bertconv.containers.hdf5.child import main; main(*map(int, sys.argv[1].split()))"
)


def ask(file: SourceFile) -> bytes:
    """What the child says of a file: JSON, to be believed no more than the file itself.

    Raises:
        UnsafeCheckpoint: libhdf5 hangs or crashes, or answers without end; nothing of it reaches this process.
        BertconvError: the child cannot work here at all.
    """
    if file.is_remote:
        raise UnsupportedCheckpoint(
            "is HDF5 of a kind that only its own library reads, which needs a file that lies here.",
            hint="Download it, and give the path of the copy.",
            file=str(file.path),
        )
    import subprocess

    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  (an entry may be a zip file)
    own = str(Path(__file__).resolve().parents[3])
    part = f"{file.fd} {file.start} {file.size}"
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, part, *dict.fromkeys([*path, own])]
    try:
        child = subprocess.Popen(  # noqa: S603  (this interpreter, and nothing from a file)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            # guard: hdf5-session
            pass_fds=(file.fd,), env=_environment(), start_new_session=True,  # Ctrl-C is for this process alone
        )  # fmt: skip
    except OSError as error:
        raise _cannot_work(file, f"cannot be started: {error.strerror}") from error
    with child:
        try:
            answer = _listen(child)
        finally:
            child.kill()  # guard: hdf5-ended
            child.wait()  # in an interrupt the block would wait a quarter of a second only, and leave it behind
    return checked(file, answer, child.returncode)


def checked(file: SourceFile, answer: bytes | None, status: int) -> bytes:
    """What a child said, if it ended well.

    Args:
        file: the file that it was given.
        answer: what it said; None where it had not ended.
        status: its exit status, or less than zero for a signal.

    Raises:
        UnsafeCheckpoint, BertconvError: as for `ask`.
    """
    if answer is None or status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _misled(file, "hang")
    if status < 0:
        known = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        raise _misled(file, f"crash ({known})")
    if status:
        raise _cannot_work(file, f"ended with status {status}")
    return answer


def _environment() -> dict[str, str]:
    """No plugins, which are shared libraries that a file asks for by number, and no threads of numpy."""
    return {**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}  # guard: hdf5-plugins


def _listen(child: subprocess.Popen[bytes]) -> bytes | None:
    """All that it says until its end; None when it rests too long or says too much."""
    began = time.monotonic()
    answer = bytearray()
    fd = child.stdout.fileno() if child.stdout else -1
    while len(answer) <= MOST_BYTES:  # guard: hdf5-answer
        left = REST_SECONDS - rested(child.pid, began)
        if select.select([fd], [], [], max(left, 0))[0]:
            piece = os.read(fd, 1 << 20)
            if not piece:
                return bytes(answer) if _ends(child, began) else None
            answer += piece
        elif left <= 0:
            break
    return None


def _ends(child: subprocess.Popen[bytes], began: float) -> bool:
    import subprocess

    while True:
        left = REST_SECONDS - rested(child.pid, began)
        try:
            child.wait(max(left, 1))
        except subprocess.TimeoutExpired:
            if left <= 0:
                return False
        else:
            return True


def rested(pid: int, began: float) -> float:
    """Seconds in which a process neither computed nor waited for a processor: other work on the machine is no rest.

    Args:
        pid: the process.
        began: when it was started, by time.monotonic().

    Returns:
        All the time since then, where the system does not tell more.
    """
    passed = time.monotonic() - began
    try:
        computed, queued, _ = map(int, Path(SCHEDSTAT.format(pid)).read_text().split())
    except (OSError, ValueError):
        return passed
    return passed - (computed + queued) / 1e9


def _misled(file: SourceFile, what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"makes the HDF5 library {what}; the process that read it was ended.",
        hint="The file is damaged or malicious: download or save it again.",
        file=str(file.path),
    )


def _cannot_work(file: SourceFile, problem: str) -> BertconvError:
    return BertconvError(
        f"the process that reads HDF5 {problem}.",
        hint=f"Check that `{sys.executable} -c 'import h5py'` works.",
        file=str(file.path),
    )
