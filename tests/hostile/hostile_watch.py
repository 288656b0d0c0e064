"""What a command opens, how much work it is and what it leaves, whatever links and FIFOs it meets."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
from hostile_case import reads_hdf5, watched
from hostile_folders import SECRET
from hostile_work import little_work
from kernel_watch import opened

LARGE = 10_000_000


def untouched(*paths: Path) -> contextlib.AbstractContextManager[list[Path]]:
    """Those files, given or below folders, that are opened meanwhile: under whatever name and by whatever link."""
    below = (each for path in paths for each in (path, *path.rglob("*")))
    return opened({each for each in below if each.is_file() and not each.is_symlink()})


def state(root: Path) -> dict[str, object]:
    """Every path with what it is and holds; of large files the size."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            facts = path.lstat()
            content: object = facts.st_size if stat.S_ISREG(facts.st_mode) else None
            if path.is_symlink():
                content = path.readlink()
            elif stat.S_ISREG(facts.st_mode) and facts.st_size < LARGE:
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (stat.S_IFMT(facts.st_mode), content)
    return found


def foreign(seen: list[str], root: Path) -> list[str]:
    """What was done beside reading the model and making an output; what became of files is for `state` to tell.

    The check of an output reads HDF5 in a process of its own.
    """
    acts = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate", "shutil.rmtree", f"open {root}/out/")
    marks = (".bertconv-tmp-", ".bertconv-lock", "/bertconv.json")

    def is_own(act: str) -> bool:
        inside = act.startswith(f"open {root}/") and any(mark in act for mark in marks)
        return inside or act.startswith(acts) or act == f"open {root}" or reads_hdf5(act)

    return [each for each in seen if not is_own(each)]


def watched_call(
    cli: Callable[..., cp.Outcome], root: Path, *words: object, unread: tuple[str, ...] = ()
) -> cp.Outcome:
    """One command, of which nothing may be seen but its own work."""
    with (
        untouched(root / "secret", root / "precious", *(root / "model" / name for name in unread)) as leaked,
        watched(root / "model") as seen,
        little_work(),
    ):
        outcome = cli(*words, "--json")
    assert leaked == [], words
    assert not foreign(seen, root), words
    assert SECRET not in outcome.out
    return outcome
