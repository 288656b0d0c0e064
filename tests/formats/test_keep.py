"""A folder that is not ours alone: what others put there survives a save, stale weights do not, and all or nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.errors import OutputError
from bertconv.formats import staging
from bertconv.formats.destination import MANIFEST
from bertconv.formats.staging import StagedFolder

FRESH = {"model.safetensors": b"new", "config.json": b"new", "saved_model/1/graph": b"new"}
MINE = {
    "vocab.txt": b"mine",
    "notes.md": b"mine",
    "logs/run 1/events": b"mine",
    ".git/HEAD": b"mine",
    "config.json": b"old",
}
STALE = {"model.safetensors": b"old", "model-00001-of-00002.safetensors": b"old", "saved_model/2/graph.stale": b"old"}


def not_weights(name: str) -> bool:
    return not name.endswith((".safetensors", ".stale"))


def make(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def save(folder: Path, files: dict[str, bytes], keep: Callable[[str], bool] = not_weights) -> None:
    with StagedFolder(folder, keep=keep) as staged:
        for name, content in files.items():
            staged.write(name, content)
        staged.write(MANIFEST, json.dumps({"files": dict.fromkeys(files)}).encode())
        staged.commit()


def contents(folder: Path) -> dict[str, bytes]:
    """Its files but for the manifest; nothing hidden may lie beside it."""
    assert [path.name for path in folder.parent.iterdir() if ".bertconv-" in path.name] == []
    found = {name: content for name, content in cp.snapshot(folder).items() if content is not None}
    found.pop(MANIFEST)
    return found


def state(top: Path) -> dict[str, Any]:
    """Everything that can be seen of a tree: contents, targets of links, modes, times, names of one file."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(top).as_posix()] = (
            content, status.st_mode, status.st_mtime_ns if content else 0, status.st_ino, status.st_nlink,
        )  # fmt: skip
    return found


def refusal(folder: Path, keep: Callable[[str], bool] = not_weights, files: dict[str, bytes] = FRESH) -> OutputError:
    """The error, which must leave everything as it was."""
    before = state(folder.parent)
    with pytest.raises(OutputError) as caught:
        save(folder, files, keep)
    assert state(folder.parent) == before
    assert caught.value.file == str(folder)
    return caught.value


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    return tmp_path / "top" / "out"


@pytest.fixture
def used(out: Path) -> Path:
    make(out, {**MINE, **STALE})
    return out


# What stays


@pytest.mark.parametrize("exchange", [True, False])
def test_what_stays_and_what_goes(used: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(staging, "_renameat2", without_exchange)
    save(used, FRESH)
    assert contents(used) == {**MINE, **FRESH}
    assert not (used / "saved_model" / "2").exists()


def without_exchange(*_: object) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_saved_again_and_again(used: Path) -> None:
    for number in range(3):
        fresh = {f"model-{number}.safetensors": b"new"}
        save(used, fresh)
        assert contents(used) == {name: each for name, each in MINE.items() if not_weights(name)} | fresh


def test_the_manifest_of_others_is_a_file_like_any(used: Path) -> None:
    (used / MANIFEST).write_bytes(b"old")
    with StagedFolder(used, keep=not_weights) as staged:
        staged.write("model.safetensors", b"new")
        staged.commit()
    assert (used / MANIFEST).read_bytes() == b"old"


@pytest.mark.parametrize("empty", [True, False])
def test_absent_or_empty(out: Path, empty: bool) -> None:
    if empty:
        out.mkdir(mode=0o700)
    save(out, FRESH)
    assert contents(out) == FRESH
    assert out.stat().st_mode & 0o777 == (0o700 if empty else 0o755)


def test_file(out: Path) -> None:
    out.write_text("mine")
    assert "is a file" in str(refusal(out))


def test_link(out: Path) -> None:
    (out.parent / "folder").mkdir()
    out.symlink_to("folder")
    assert "symbolic link" in str(refusal(out))


def no_link(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_files_keep_mode_and_time(used: Path, monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """As the same file where it can be linked, as a copy where it cannot."""
    for number, name in enumerate(MINE):
        (used / name).chmod((0o600, 0o755, 0o444, 0o640, 0o604)[number])
        os.utime(used / name, ns=(10**18 + number, 10**18 + 123_456_789 * number))
    before = state(used)
    if code is not None:
        monkeypatch.setattr(os, "link", no_link(code))
    save(used, FRESH)
    after = state(used)
    for name in MINE.keys() - FRESH.keys():
        assert after[name][:3] == before[name][:3]
        assert (after[name] == before[name]) is (code is None)
        assert after[name][4] == 1


def test_copies_are_synced(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, exchange = os.fsync, staging._renameat2

    def spy(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    def swap(*arguments: Any) -> None:
        assert {"vocab.txt", "events", "run 1", "logs", ".git"} <= set(synced)
        exchange(*arguments)

    monkeypatch.setattr(os, "link", no_link(errno.EXDEV))
    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(staging, "_renameat2", swap)
    save(used, FRESH)


@pytest.mark.parametrize("code", [None, errno.EXDEV])
@pytest.mark.parametrize("target", ["vocab.txt", "logs", "nowhere", "../beside", "/etc"])
def test_links_stay_links(used: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, target: str) -> None:
    make(used.parent / "beside", {"theirs": b"theirs"})
    (used / "link").symlink_to(target)
    (used / "old.safetensors").symlink_to(target)
    (used / "logs" / "deep").symlink_to(target)
    if code is not None:
        monkeypatch.setattr(os, "link", no_link(code))
    save(used, FRESH)
    assert (used / "link").readlink() == (used / "logs" / "deep").readlink() == Path(target)
    assert not os.path.lexists(used / "old.safetensors")
    assert (used.parent / "beside" / "theirs").read_bytes() == b"theirs"


def test_folders_keep_mode_and_owner(used: Path) -> None:
    (used / "empty" / "deep").mkdir(parents=True)
    modes = {"": 0o2770, "logs": 0o700, "logs/run 1": 0o711, "empty/deep": 0o750}
    for name, mode in modes.items():
        (used / name).chmod(mode)
    if os.geteuid() == 0:
        os.chown(used, 1234, 2345)
        used.chmod(modes[""])
    owner = (used.stat().st_uid, used.stat().st_gid)
    save(used, FRESH)
    assert {name: (used / name).stat().st_mode & 0o7777 for name in modes} == modes
    assert (used.stat().st_uid, used.stat().st_gid) == owner


def test_files_that_are_not_regular(used: Path) -> None:
    os.mkfifo(used / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(used / "socket"))
    save(used, FRESH)
    assert (used / "pipe").is_fifo()
    assert (used / "socket").is_socket()


def test_a_file_that_is_being_written(used: Path) -> None:
    """A log that a callback holds open goes on in the same file."""
    with (used / "logs" / "run 1" / "events").open("ab") as log:
        save(used, FRESH)
        log.write(b" and more")
    assert (used / "logs" / "run 1" / "events").read_bytes() == b"mine and more"


# What is refused or fails


@pytest.mark.parametrize("code", [None, errno.EXDEV])
@pytest.mark.parametrize("fresh", ["notes.md/deep", "vocab.txt/vocab.txt", "logs", "logs/run 1", "empty"])
def test_a_file_where_there_is_a_folder(
    used: Path, monkeypatch: pytest.MonkeyPatch, fresh: str, code: int | None
) -> None:
    """Neither may vanish in silence, nor a copy land inside the folder."""
    (used / "empty").mkdir()
    if code is not None:
        monkeypatch.setattr(os, "link", no_link(code))
    refusal(used, files={fresh: b"new"})


@pytest.mark.parametrize("place", ["", "logs", "logs/run 1"])
def test_the_working_folder(used: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(used / place)
    assert "working folder" in str(refusal(used))
    with pytest.raises(OutputError, match="working folder"):
        save(Path(*[".."] * len(Path(place).parts) or "."), FRESH)
    save(used.with_name("beside"), FRESH)
    monkeypatch.chdir(used.parent)
    save(used, FRESH)


def test_the_working_folder_by_a_link(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (used.parent.parent / "link").symlink_to(used.parent)
    monkeypatch.chdir(used)
    with pytest.raises(OutputError, match="working folder"):
        save(used.parent.parent / "link" / used.name, FRESH)


def test_a_working_folder_that_is_gone(used: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from bertconv.formats.staging import StagedFolder\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "with StagedFolder(Path(sys.argv[1]), keep=lambda _: True) as staged: staged.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(used)], check=True, cwd=used.parent)
    assert cp.snapshot(used).items() >= {**MINE, **STALE}.items()


@pytest.mark.parametrize("place", ["", "logs", "logs/run 1"])
def test_a_mount_point(used: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """It could not change places with another folder, and its files would move to another disk."""
    monkeypatch.setattr(os.path, "ismount", lambda folder: Path(folder) == used / place)
    assert "mount point" in str(refusal(used))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("step", ["link", "copy", "chmod", "fsync of a copy", "exchange"])
def test_a_step_that_fails(used: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str) -> None:
    if step in {"copy", "fsync of a copy"}:
        monkeypatch.setattr(os, "link", no_link(errno.EXDEV))
    if step == "link":
        monkeypatch.setattr(os, "link", no_link(code))
        monkeypatch.setattr(shutil, "copy2", no_link(code))  # where it is tried next
    elif step == "copy":
        monkeypatch.setattr(shutil, "copy2", no_link(code))
    elif step == "chmod":
        monkeypatch.setattr(shutil, "copymode", no_link(code))
    elif step == "exchange":
        monkeypatch.setattr(staging, "_renameat2", no_link(code))
    else:
        fsync = os.fsync

        def refuse(fd: int) -> None:
            if Path(f"/proc/self/fd/{fd}").readlink().name == "vocab.txt":
                no_link(code)()
            fsync(fd)

        monkeypatch.setattr(os, "fsync", refuse)
    assert "nothing was changed" in str(refusal(used))


def test_an_error_of_the_caller(used: Path) -> None:
    def keep(name: str) -> bool:
        if name == "notes.md":
            raise ZeroDivisionError
        return True

    before = state(used.parent)
    with pytest.raises(ZeroDivisionError):
        save(used, FRESH, keep)
    assert state(used.parent) == before


UNREADABLE = """
import sys; from pathlib import Path; from bertconv.errors import OutputError
from bertconv.formats.staging import StagedFolder
try:
    with StagedFolder(Path(sys.argv[1]), keep=lambda _: True) as staged: staged.commit()
except OutputError: sys.exit(7)
"""


def test_a_folder_that_cannot_be_listed(used: Path) -> None:
    """What cannot be seen must not be lost."""
    before = state(used.parent)
    (used / "logs").chmod(0)
    done = subprocess.run([sys.executable, "-c", cp.UNPRIVILEGED + UNREADABLE, str(used)], check=False)
    (used / "logs").chmod(before["out/logs"][1] & 0o777)
    assert done.returncode == 7
    assert state(used.parent) == before


KILLED = """
import os, signal, sys; from pathlib import Path; import bertconv.formats.staging as s
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
{point}
with s.StagedFolder(Path(sys.argv[1]), keep=lambda name: not name.endswith((".safetensors", ".stale"))) as staged:
    staged.write("model.safetensors", b"new")
    staged.commit()
"""
POINTS = {
    "while linking": "link = os.link\ndef some(*a, **k): link(*a, **k); kill()\nos.link = some",
    "before the exchange": "s._renameat2 = kill",
    "after the exchange": "swap = s._renameat2\ndef swapped(*a): swap(*a); kill()\ns._renameat2 = swapped",
    "while removing the old": "import shutil; shutil.rmtree = kill",
    "between two renames": (
        "def no(*_): raise OSError(38, 'no')\ns._renameat2 = no; rename = Path.rename\n"
        "def renamed(*a): rename(*a); kill()\nPath.rename = renamed"
    ),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed(used: Path, point: str) -> None:
    """Nobody's file is lost, and the next save leaves nothing of the killed one."""
    command = [sys.executable, "-c", KILLED.format(point=POINTS[point]), str(used)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    if point == "between two renames":
        assert not used.exists()
    else:
        assert cp.snapshot(used).items() >= MINE.items()
    save(used, FRESH)
    assert contents(used) == {**MINE, **FRESH}
    assert [(used / name).stat().st_nlink for name in MINE] == [1] * len(MINE)


# Any tree

PARTS = st.lists(st.sampled_from(["a", "b", "c.stale"]), min_size=1, max_size=3).map("/".join)


def is_tree(names: set[str]) -> bool:
    return not any(one.startswith(f"{other}/") for one in names for other in names)


TREES = st.sets(PARTS, max_size=6).filter(is_tree)


@settings(deadline=None, max_examples=60)
@given(TREES, TREES, st.booleans())
def test_any_tree_over_any_other(old: set[str], new: set[str], links: bool) -> None:
    """The new files and of the old ones those that stay; refused where one side has a file and the other a folder."""
    with tempfile.TemporaryDirectory() as temp:
        out = Path(temp) / "out"
        out.mkdir()
        make(out, dict.fromkeys(old, b"old"))
        stay = {name for name in old if not_weights(name)}
        with pytest.MonkeyPatch.context() as patch:
            if not links:
                patch.setattr(os, "link", no_link(errno.EXDEV))
            if is_tree(stay | new):
                save(out, dict.fromkeys(new, b"new"))
                assert contents(out) == dict.fromkeys(stay, b"old") | dict.fromkeys(new, b"new")
            else:
                refusal(out, files=dict.fromkeys(new, b"new"))
