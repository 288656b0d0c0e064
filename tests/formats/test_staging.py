"""The write protocol: a destination is the old folder or the new one, whole, whatever happens, and nothing stays."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import checkpoints as cp
import pytest

from bertconv.convert import convert_checkpoint
from bertconv.errors import OutputError
from bertconv.formats import staging
from bertconv.formats.destination import MANIFEST
from bertconv.formats.staging import StagedFolder
from bertconv.mapping.table import table_for

OLD, NEW = {"weights": b"old", "deep/er": b"old"}, {"weights": b"new"}


def listing(files: dict[str, bytes]) -> bytes:
    return json.dumps({"files": {name: {} for name in files}}).encode()


def put(destination: Path, files: dict[str, bytes], **options: Any) -> None:
    """Stage these files and a manifest, and commit."""
    with StagedFolder(destination, **options) as staged:
        for name, content in files.items():
            staged.write(name, content)
        staged.write(MANIFEST, listing(files))
        staged.commit()


def holds(destination: Path, files: dict[str, bytes]) -> bool:
    """Whether it holds these files, and nothing hidden lies beside it."""
    there = {name: content for name, content in cp.snapshot(destination).items() if content is not None}
    beside = [path.name for path in destination.parent.iterdir() if ".bertconv-" in path.name]
    return there == {**files, MANIFEST: listing(files)} and beside == []


def refusal(destination: Path, **options: Any) -> OutputError:
    """The error, which must leave everything as it was."""
    top = destination.parent
    before = cp.snapshot(top)
    with pytest.raises(OutputError) as caught:
        put(destination, NEW, **options)
    assert cp.snapshot(top) == before
    assert caught.value.file == str(destination)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    return tmp_path / "top" / "out"


@pytest.fixture
def old(out: Path) -> Path:
    put(out, OLD)
    return out


# Destinations


def test_absent(out: Path) -> None:
    put(out, NEW)
    assert holds(out, NEW)
    assert out.stat().st_mode & 0o777 == 0o755


def test_empty_folder(out: Path) -> None:
    out.mkdir()
    put(out, NEW)
    assert holds(out, NEW)


def test_existing(old: Path) -> None:
    assert "--overwrite" in refusal(old).hint
    assert holds(old, OLD)


def test_overwrite(old: Path) -> None:
    put(old, NEW, overwrite=True)
    assert holds(old, NEW)


@pytest.mark.parametrize("name", ["mine.txt", "mine/deep.txt", ".hidden", "\x1b[31m"])
@pytest.mark.parametrize("manifest", [True, False])
def test_files_of_others_are_named(out: Path, name: str, manifest: bool) -> None:
    if manifest:
        put(out, OLD)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    error = refusal(out, overwrite=True)
    assert "\x1b" not in str(error)
    assert name.split("/", maxsplit=1)[0] in error.message


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"files": 3}', b"\xff", b'{"files": {"mine": 1}'])
def test_manifest_that_says_nothing(out: Path, content: bytes) -> None:
    out.mkdir()
    (out / MANIFEST).write_bytes(content)
    (out / "mine").write_text("mine")
    refusal(out, overwrite=True)


def test_folder_of_others_inside_of_ours(old: Path) -> None:
    """`deep` is ours, but not everything in it."""
    (old / "deep" / "mine").write_text("mine")
    refusal(old, overwrite=True)


def test_file(out: Path) -> None:
    out.write_text("mine")
    refusal(out, overwrite=True)


@pytest.mark.parametrize("target", ["folder", "nowhere", "out"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_link(out: Path, target: str, overwrite: bool) -> None:
    (out.parent / "folder").mkdir()
    out.symlink_to(target)
    assert "symbolic link" in str(refusal(out, overwrite=overwrite))


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda src: src, id="the source"),
        pytest.param(lambda src: src / "config.json", id="its config"),
        pytest.param(lambda src: src / "1_Pooling", id="its module"),
        pytest.param(lambda src: src.parent, id="around the source"),
        pytest.param(lambda src: src.parent / "link" / "vocab.txt", id="its vocabulary by a link"),
        pytest.param(lambda src: src.parent / "other" / ".." / "in", id="the source by another path"),
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_destination_that_is_or_holds_what_is_read(tmp_path: Path, place: Callable[[Path], Path], single: bool) -> None:
    src = with_sidecars(tmp_path / "top" / "in")
    (src.parent / "link").symlink_to(src)
    (src.parent / "other").mkdir()
    before = cp.snapshot(tmp_path)
    given = src / "model.safetensors" if single else src
    with pytest.raises(OutputError, match="is or holds what is read"):
        convert_checkpoint(given, place(src), to="tf", overwrite=True)
    assert cp.snapshot(tmp_path) == before


def with_sidecars(folder: Path) -> Path:
    cp.save(folder, "BertModel", cp.state_dict())
    (folder / "vocab.txt").write_text("[PAD]")
    cp.write_config(folder / "1_Pooling", {"word_embedding_dimension": 35})
    return folder


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("place", ["out", "deep/out", "1_Pooling/out", "2_out", "0_Transformer", "checkpoint-7"])
def test_destination_in_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, single: bool) -> None:
    """A new folder harms nothing: the source stays as it is, and the output never passes for a part of it."""
    src = with_sidecars(tmp_path / "in")
    before = cp.snapshot(src)
    monkeypatch.chdir(src)
    given = "model.safetensors" if single else "."
    for overwrite in (False, True):
        report = convert_checkpoint(given, place, to="tf-safetensors", overwrite=overwrite, verify="weights")
        assert report.sidecars == ("1_Pooling/config.json", "vocab.txt")
        assert report.not_carried == ()
        assert [note for note in report.notes if "padding rows" not in note] == []
        cp.assert_same(cp.written(src / place), cp.tf_state(cp.state_dict()))
        assert {name: before[name] for name in before} == {name: cp.snapshot(src)[name] for name in before}
        assert [path.name for path in src.rglob(".*bertconv*")] == []
    with pytest.raises(OutputError, match="not empty"):
        convert_checkpoint(given, place, to="tf", verify="weights")


@pytest.mark.parametrize("option", ["config", "table"])
def test_an_earlier_output_that_holds_what_an_option_names(tmp_path: Path, option: str) -> None:
    src, out = cp.save(tmp_path / "in", "BertModel", cp.state_dict()), tmp_path / "out"
    convert_checkpoint(src, out, to="pt", verify="weights")
    named = out / "config.json"
    if option == "table":
        named = out / "vocab.txt"
        (src / "vocab.txt").write_bytes(table_for("bert").path.read_bytes())
        convert_checkpoint(src, out, to="pt", verify="weights", overwrite=True)
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError, match="is or holds what is read"):
        convert_checkpoint(src, out, to="pt", overwrite=True, **{option: named})
    assert cp.snapshot(tmp_path) == before


def test_a_file_of_weights_is_alone_in_its_folder(tmp_path: Path) -> None:
    """Of a file without a config beside it the folder's other files are no part, so they are no inputs."""
    folder = tmp_path / "downloads"
    config = cp.write_config(tmp_path / "elsewhere", cp.config()) / "config.json"
    folder.mkdir()
    (folder / "model.ckpt").write_bytes(cp.torch_bytes(cp.torch_tensors(cp.state_dict())))
    (folder / "pytorch_model.bin").write_bytes(b"of another model")
    convert_checkpoint(folder / "model.ckpt", folder / "out", to="pt", config=config, verify="weights")
    cp.assert_same(cp.written(folder / "out"), cp.bare(cp.state_dict()))


# Parents


def test_parents_are_made(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b" / "c", NEW)
    assert holds(tmp_path / "a" / "b" / "c", NEW)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_parents_are_removed_again(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "kept").mkdir()

    def broken() -> None:
        with StagedFolder(tmp_path / "kept" / "a" / "b") as staged:
            staged.write("weights", b"new")
            raise error

    with pytest.raises(error):
        broken()
    assert cp.snapshot(tmp_path) == {"kept": None}


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    before = cp.snapshot(tmp_path)
    with pytest.raises(OutputError):
        put(tmp_path / "file" / "a" / "out", NEW)
    assert cp.snapshot(tmp_path) == before


# Two at a time, and those that were killed


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_of_another_process(out: Path) -> None:
    lock = out.parent / f".{out.name}.bertconv-lock"
    arguments = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        assert "another bertconv" in str(refusal(out))
        put(out.with_name("else"), NEW)
        other.stdin.close()
        other.wait()
    put(out, NEW)
    assert holds(out, NEW)


def test_two_at_once_in_one_process(out: Path) -> None:
    with StagedFolder(out) as staged:
        with pytest.raises(OutputError), StagedFolder(out):
            pass
        staged.write(MANIFEST, listing({}))
        staged.commit()
    assert holds(out, {})


def leftover(out: Path, name: str, suffix: str = "") -> Path:
    folder = out.parent / f".{name}.bertconv-tmp-0123456789ab{suffix}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"half")
    return folder


@pytest.mark.parametrize("overwrite", [False, True])
def test_leftovers_are_removed(out: Path, overwrite: bool) -> None:
    if overwrite:
        put(out, OLD)
    mine, other = leftover(out, out.name), leftover(out, f"{out.name}2")
    put(out, NEW, overwrite=overwrite)
    assert not mine.exists()
    assert (other / "weights").read_bytes() == b"half"


@pytest.mark.parametrize("name", ["*", "o?t", "[o]ut", "o*"])
def test_only_our_own_leftovers(out: Path, name: str) -> None:
    """A destination's name is no pattern: the others' folders may belong to runs that are alive."""
    other = leftover(out, "out")
    mine = leftover(out, name)
    put(out.with_name(name), NEW)
    assert (other / "weights").read_bytes() == b"half"
    assert not mine.exists()


def set_aside(out: Path) -> None:
    """What a kill between the two renames leaves on a file system without exchange."""
    put(out, OLD)
    out.rename(out.parent / f".{out.name}.bertconv-tmp-0123456789ab-old")
    leftover(out, out.name)


def test_folder_set_aside_is_replaced_by_request(out: Path) -> None:
    set_aside(out)
    put(out, NEW, overwrite=True)
    assert holds(out, NEW)


def test_folder_set_aside_comes_back(out: Path) -> None:
    """It is an earlier output, and so needs --overwrite as if it had never been away."""
    set_aside(out)
    with pytest.raises(OutputError):
        put(out, NEW)
    assert holds(out, OLD)


# Commit


def without_exchange(*_: object) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_file_system_without_exchange(old: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(staging, "_renameat2", refuse)
    put(old, NEW, overwrite=True)
    assert holds(old, NEW)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EXDEV])
def test_exchange_that_fails(old: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(staging, "_renameat2", refuse)
    with pytest.raises(OutputError, match="nothing was changed"):
        put(old, NEW, overwrite=True)
    assert holds(old, OLD)


@pytest.mark.parametrize("which", [1, 2])
def test_rename_that_fails_without_exchange(old: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """The old folder is in its place again when the message says that nothing was changed."""
    calls = 0
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == which:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(staging, "_renameat2", without_exchange)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="nothing was changed"):
        put(old, NEW, overwrite=True)
    monkeypatch.undo()
    assert holds(old, OLD)


def test_rename_that_fails(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, _: Path) -> Path:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    assert "nothing was changed" in str(refusal(out))


def test_write_that_fails(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    assert "No space left" in str(refusal(out))


def test_everything_is_synced_before_the_rename(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, then the folders that name them, then the exchange, then the folder that names the output."""
    events: list[str] = []
    fsync, exchange = os.fsync, staging._renameat2

    def spy(fd: int) -> None:
        events.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    def swap(*arguments: Any) -> None:
        events.append("exchange")
        exchange(*arguments)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(staging, "_renameat2", swap)
    put(old, {"weights": b"new", "deep/er": b"new"}, overwrite=True)
    before, after = events[: events.index("exchange")], events[events.index("exchange") + 1 :]
    assert before[:3] == ["weights", "er", MANIFEST]
    assert len(before) == 5
    assert after == [old.parent.name]


# Conversions that are stopped


KILL = "import os, signal\ndef kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
POINTS = {
    "before a weight": "import bertconv.saving as c; c.write_weights = kill",
    "before the check": "import bertconv.saving as c; c.verify_weights = kill",
    "before the manifest": "import bertconv.derive as c; c.manifest_bytes = kill",
    "before the config": "import bertconv.formats.staging as s; s.StagedFolder.write = kill",
    "before the exchange": "import bertconv.formats.staging as s; s._renameat2 = kill",
    "after the exchange": (
        "import bertconv.formats.staging as s; swap = s._renameat2\n"
        "def swap_and_kill(*each): swap(*each); kill()\ns._renameat2 = swap_and_kill"
    ),
    "while removing the old": "import shutil; shutil.rmtree = kill",
    "between two renames": (
        "import errno, pathlib, bertconv.formats.staging as s\ndef no(*_): raise OSError(errno.ENOSYS, 'no')\n"
        "s._renameat2 = no; rename = pathlib.Path.rename\n"
        "def rename_and_kill(*each): rename(*each); kill()\npathlib.Path.rename = rename_and_kill"
    ),
}
GONE = ("between two renames",)
REPLACED = ("after the exchange", "while removing the old")


@pytest.mark.parametrize("point", POINTS)
def test_killed_over_an_old_output(tmp_path: Path, point: str) -> None:
    """The old output or the new one, whole; and the next run leaves nothing of the killed one."""
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    out = tmp_path / "top" / "out"
    convert_checkpoint(src, out, to="pt")
    old = cp.snapshot(out)
    assert cp.run("convert", src, out, "--to", "tf", "--overwrite", before=KILL + POINTS[point]).code == -signal.SIGKILL
    if point in GONE:
        assert not out.exists()
    elif point in REPLACED:
        cp.assert_same(cp.written(out), cp.tf_state(cp.state_dict()))
    else:
        assert cp.snapshot(out) == old
    convert_checkpoint(src, out, to="tf-safetensors", overwrite=True)
    cp.assert_same(cp.written(out), cp.tf_state(cp.state_dict()))
    assert [path.name for path in out.parent.iterdir()] == ["out"]


HEAR = """
import os, signal, threading, time
from bertconv.formats import interrupts
interrupts.SAME_SECONDS = {same}
reported, telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
signal.set_wakeup_fd(telling)
def hear(signals):
    os.write(1, b'ready\\n')
    while signals:
        try:
            signals -= len(os.read(reported, 1))
            os.write(1, b'heard\\n')
        except BlockingIOError:
            time.sleep(0.001)
"""
"""Run before the command line: what calls hear() waits for so many signals, and says of each that it has come."""
ALWAYS, NEVER = 1e9, -1.0
"""Values of SAME_SECONDS: a further signal counts as the same one."""
WAITING = {
    "writing": HEAR + (
        "import bertconv.formats.ranges as r; copy, once = r.copy, threading.Lock()\n"
        "def wait(*each):\n if once.acquire(blocking=False): hear({signals})\n return copy(*each)\n"
        "r.copy = wait"
    ),
    "checking": HEAR + (
        "import bertconv.saving as c\n"
        "def wait(_, tick, *rest):\n hear({signals})\n while True: tick(1)\n"
        "c.verify_weights = wait"
    ),
}  # fmt: skip


def waiting(step: str, signals: int = 1, same: float = ALWAYS) -> str:
    """A conversion that gets to this step, and goes on with it after so many signals."""
    return WAITING[step].format(signals=signals, same=same)


@contextmanager
def started(*arguments: object, before: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A running command line and its output; it does not outlive the test."""
    process = subprocess.Popen(cp.command(arguments, before), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", WAITING)
@pytest.mark.parametrize("over", [False, True])
def test_stopped_by_a_signal(tmp_path: Path, number: signal.Signals, step: str, over: bool) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    out = tmp_path / "top" / "deep" / "out"
    if over:
        convert_checkpoint(src, out, to="pt")
    before = cp.snapshot(tmp_path)
    with started("convert", src, out, "--to", "pt", "--overwrite", before=waiting(step)) as (process, output):
        assert output.readline() == b"ready\n"
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == 128 + number
    assert b"Traceback" not in error
    assert b"nothing half-written is left" in error
    assert cp.snapshot(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    """`nohup bertconv ...` goes on after the terminal is gone."""
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    send = f"import os, signal; signal.signal({int(number)}, signal.SIG_IGN)\n"
    send += "import bertconv.saving as m; found = m.save_weights\n"
    send += f"m.save_weights = lambda *a, **k: (os.kill(os.getpid(), {int(number)}), found(*a, **k))[1]\n"
    send += "import bertconv.derive as c; c.save_weights = m.save_weights"
    done = cp.run("convert", src, tmp_path / "out", "--to", "pt", before=send)
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "out" / "model.safetensors").exists()


TRACED = """
import os, signal, sys
import bertconv.formats.workers as w
run, left = w.run_batches, {lines}
def trace(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return trace
def traced(*each):
    sys.settrace(trace)
    try:
        return run(*each)
    finally:
        sys.settrace(None)
w.run_batches = traced
"""


@pytest.mark.parametrize("lines", [*range(150, 1500, 150), 2000, 3000, 4560, 4657, 4754, 4851, 5336])
def test_stopped_anywhere_in_the_threads(tmp_path: Path, lines: int) -> None:
    """Ctrl-C after so many lines of the main thread, locks of the threads in its hands or not."""
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    before = cp.snapshot(tmp_path)
    done = cp.run("convert", src, tmp_path / "out", "--to", "tf", before=TRACED.format(lines=lines))
    if done.code == 0:  # it had fewer lines
        assert (tmp_path / "out").exists()
        return
    assert done.code == 128 + signal.SIGINT, done.err
    assert cp.snapshot(tmp_path) == before


def test_one_signal_sent_twice_is_one(tmp_path: Path) -> None:
    """As timeout(1) does: to the process, and then to its group."""
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    before = cp.snapshot(tmp_path)
    with started("convert", src, tmp_path / "out", "--to", "pt", before=waiting("checking", 3)) as (process, output):
        assert output.readline() == b"ready\n"
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            assert output.readline() == b"heard\n"
        assert process.wait() == 128 + signal.SIGINT
    assert cp.snapshot(tmp_path) == before


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict())
    slow = "\nimport bertconv.formats.staging as s; s.StagedFolder._clean_up = lambda *_: hear(2)"
    before = waiting("checking", same=NEVER) + slow
    with started("convert", src, tmp_path / "out", "--to", "pt", before=before) as (process, output):
        assert output.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert output.readline() == b"heard\n"
        assert output.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()
    convert_checkpoint(src, tmp_path / "out", to="pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
