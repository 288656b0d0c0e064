"""Signals to a run, full disks, several writers: rounds that the tests run a few of and `python -m qa.faults` many."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import checkpoints as cp
from patience import until

from qa.faults.client import Run, Server
from qa.faults.runs import is_new, is_whole, next_run, said, scene_after, typed
from qa.faults.scenes import Scene, Tree, put_tree
from qa.faults.shim import Fault

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEARD = 0.25
"""Seconds of which a random moment is taken; what must be true afterwards does not depend on it."""


def started(server: Server, scene: Scene) -> int:
    """A run that is watched and has just begun to write; its process id."""
    scene.reset()
    server.shim.arm(scene.work, Fault("count", no_exchange=not scene.kind.exchange))
    pid = server.start(scene.arguments(), to_the_end=True)
    until(lambda: server.shim.count > 0 or is_over(pid))
    return pid


def _facts(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_over(pid: int) -> bool:
    """Whether a process has ended; the server has not waited for it yet."""
    return _facts(pid)["State"].startswith("Z")


def heard(pid: int, number: int) -> None:
    """Send a signal, and wait until the process has taken it."""
    os.kill(pid, number)
    bit = 1 << number - 1
    until(lambda: is_over(pid) or not any(int(_facts(pid)[key], 16) & bit for key in ("SigPnd", "ShdPnd")))


def signal_round(server: Server, scene: Scene, number: int, delay: float) -> tuple[Run, list[str]]:
    """A signal so many seconds after the first write; what was wrong afterwards."""
    pid = started(server, scene)
    time.sleep(delay)
    os.kill(pid, number)  # a process that has ended is there until the server waits for it
    run = server.wait(pid)
    server.shim.disarm()
    return run, stopped(scene, run, number)


def stopped(scene: Scene, run: Run, number: int) -> list[str]:
    """What is wrong with the end of a run that got a signal: stopped and clean, or it was done."""
    after = cp.snapshot(scene.work)
    problems = [] if is_whole(scene, after) else ["the destination is neither the old output nor the new one"]
    gone = run.status == -number and is_new(scene, after)  # done: Python takes its handlers away before it exits
    if run.status not in {0, 128 + number} and not gone:
        problems.append(f"exit code {run.status} after signal {number}: {said(run.text)}")
    if run.status == 0 and not is_new(scene, after):
        problems.append("FALSE SUCCESS: exit 0, and the output is not there")
    if run.status == 128 + number and not run.text.rstrip().endswith("Stopped; nothing half-written is left."):
        problems.append(f"another message: {said(run.text)}")
    if after != scene_after(scene, after):
        problems.append(f"left behind: {sorted(set(after) ^ set(scene_after(scene, after)))[:5]}")
    return problems


# Room


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[str]:
    """A file system of so many bytes mounted on a folder; yields why there is none, or nothing."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "bertconv-tests", str(place)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        yield f"there is no mount: {error}"
        return
    if done.returncode:
        yield f"file systems may not be mounted here: {done.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def disk_sizes(scene: Scene, count: int) -> list[int]:
    """From far too small to large enough, most of them around what the new output needs beside the old one."""
    page = 4096
    old, new = (
        sum(-(-len(content or b"") // page) * page + page for content in tree.values())
        for tree in (scene.old, scene.new)
    )
    coarse = [old + new * part // 8 for part in (1, 3, 5, 12)]
    fine = [old + new + page * step for step in range(-(count - 4) + 3, 3)]
    return sorted({size // page * page for size in coarse + fine if size > old + 2 * page})


def disk_round(server: Server, scene: Scene, place: Path) -> tuple[Run, list[str]]:
    """A conversion onto a disk on which an earlier output lies already."""
    if scene.over:
        put_tree(place / "made", {name.removeprefix("made/"): scene.old[name] for name in scene.old if name != "made"})
    before = cp.snapshot(place)
    run = server.run(scene.command(scene.source, place / "made" / "out", overwrite=scene.over))
    after = cp.snapshot(place)
    if run.status == 0:
        return run, [] if after == scene.new else ["FALSE SUCCESS: exit 0, and the output is not there"]
    problems = typed(run.text, 7, status=run.status)
    return run, problems + ([] if after == before else [f"left behind: {sorted(set(after) ^ set(before))[:5]}"])


def limited_round(server: Server, scene: Scene, limit: int, *, ignored: bool) -> tuple[Run, list[str]]:
    """A conversion whose files may not become longer than `limit` bytes; the signal for that is ignored, or kills."""
    scene.reset()
    run = server.run(scene.arguments(), file_size=limit, **({} if ignored else {"sigxfsz": "default"}))
    after = cp.snapshot(scene.work)
    problems = [] if is_whole(scene, after) else ["the destination is neither the old output nor the new one"]
    if run.status == 0:
        return run, problems + ([] if after == scene.new else ["FALSE SUCCESS"])
    if ignored:
        problems += typed(run.text, 7, status=run.status) + ([] if after == scene.old else ["something was left"])
    elif run.status != -signal.SIGXFSZ:
        problems.append(f"exit code {run.status}, not killed: {said(run.text)}")
    return run, problems + next_run(server, scene)


# Several at once


def writers_round(
    server: Server, scenes: Sequence[Scene], destination: Path, old: Tree
) -> tuple[list[int | None], list[str]]:
    """Every scene's conversion to one destination, all at once: exit codes, and what was wrong."""
    top = destination.parents[1]
    put_tree(top, old)
    pids = [server.start(scene.command(scene.source, destination, overwrite=True)) for scene in scenes]
    runs = [server.wait(pid) for pid in pids]
    after = cp.snapshot(top)
    winners = [scene for scene, run in zip(scenes, runs, strict=True) if run.status == 0]
    problems = [] if winners else ["nobody succeeded"]
    if not any(after == scene.new for scene in winners):
        problems.append(f"what is there is no winner's: {sorted(after)}")
    for run in runs:
        problems += typed(run.text, 7, status=run.status) if run.status else []
    return [run.status for run in runs], problems


def shuffled(seed: int, scenes: Sequence[Scene], count: int) -> list[Scene]:
    return random.Random(seed).sample(list(scenes), count)
