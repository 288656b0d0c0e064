"""Points: one fault in one run of a scene, and what must be true after it, seen from outside."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import checkpoints as cp

from qa.faults.client import Run, Server
from qa.faults.scenes import Scene, Tree, put_tree
from qa.faults.shim import Call, Fault

WRITE_MODES = ("kill", "killmid", "nospace", "eio", "short", "eintr")
READ_MODES = ("eio", "short", "eintr", "zero", "truncate", "scribble", "swap")
READ_BACK = ("eio", "short", "eintr", "zero")
TAMPERING = ("truncate", "scribble", "swap")
_ASIDE = re.compile(r"\.out\.bertconv-tmp-[0-9a-f]{12}-old")
REMOVALS = ("unlink", "rmdir")
_FOLDER = re.compile(r".*\.out\.bertconv-tmp-[0-9a-f]{12}(/1_Pooling)?")


@dataclass(frozen=True)
class Point:
    """One run of a scene with a fault.

    Attributes:
        scene: which conversion.
        fault: what happens at which call.
        side: "work" or "source": below which folder calls are counted.
    """

    scene: Scene
    fault: Fault
    side: str = "work"

    def __str__(self) -> str:
        fault = self.fault
        extra = f" value={fault.value}" if fault.value else ""
        return (
            f"{self.scene.name}: {fault.mode} at {'read' if fault.reads else 'call'} {fault.at}{extra} in {self.side}"
        )


def counted(server: Server, scene: Scene, side: str = "work", *, reads: bool = False) -> tuple[Call, ...]:
    """The calls of a run without a fault."""
    scene.reset()
    prefix = scene.work if side == "work" else scene.source
    run = server.run_with(scene.arguments(), prefix, Fault("count", reads=reads, no_exchange=not scene.kind.exchange))
    if run.status != 0 or cp.snapshot(scene.work) != scene.new:
        raise AssertionError(f"{scene.name} fails without a fault, or its output is another one: {run.text}")
    return run.calls


def verify_points(server: Server, scene: Scene) -> list[Point]:
    """The same for `bertconv verify DST`; the new output is in its place then."""
    put_tree(scene.work, scene.new)
    run = server.run_with(["verify", scene.destination], scene.work, Fault("count", reads=True))
    if run.status != 0:
        raise AssertionError(f"{scene.name} is refused without a fault: {run.text}")
    return points_of(scene, run.calls, READ_BACK, reads=True)


def points_of(
    scene: Scene, calls: Iterable[Call], modes: Iterable[str], side: str = "work", *, reads: bool = False
) -> list[Point]:
    """Every call with every fault that means something for it."""
    found, opened = [], set()
    for at, call in enumerate(calls, 1):
        again = call.path in opened
        opened |= {call.path} if "open" in call.name else set()
        for mode in filter(call.can, modes):
            if mode in TAMPERING and not _can_be_tampered_with(scene, call, again=again):
                continue
            value = {"truncate": 40 + 13 * at % 60, "scribble": 17 * at % 100}.get(mode, 0)
            fault = Fault(mode, at, reads, value, other=str(scene.root / "swap"), no_exchange=not scene.kind.exchange)
            found.append(Point(scene, fault, side))
    return found


def _can_be_tampered_with(scene: Scene, call: Call, *, again: bool) -> bool:
    """A file that is changed before it is opened is simply another file, and only weights are read more than once."""
    return call.path.rpartition("/")[2] in scene.weights and (again or "open" not in call.name)


def sample(seed: int, points: list[Point], most: int) -> list[Point]:
    """Some of the points, the same ones for a seed: of every mode equally many."""
    chance = random.Random(seed)
    modes = sorted({point.fault.mode for point in points})
    found = []
    for mode in modes:
        there = [point for point in points if point.fault.mode == mode]
        found += chance.sample(there, min(max(most // len(modes), 1), len(there)))
    return found


def run_point(server: Server, point: Point) -> tuple[Run, list[str]]:
    """The run with the fault, and what was wrong with what it left."""
    scene = point.scene
    scene.reset()
    if point.fault.reads and point.side == "source":
        scene.restore_source()
    run = server.run_with(scene.arguments(), scene.work if point.side == "work" else scene.source, point.fault)
    after = cp.snapshot(scene.work)
    problems = _reading(point, run) if point.fault.reads else _writing(point, run)
    if not _is_set_aside(point, after):
        problems += [*_model(scene, run, after), *_leftovers(point, run, after)]
    if point.fault.reads and point.side == "source":
        scene.restore_source()
    if after not in (scene.old, scene.new):  # else the next run is that of a scene without a fault
        problems += collected(server, scene)
        put_tree(scene.work, after)
        problems += next_run(server, scene)
    return run, problems


def collected(server: Server, scene: Scene) -> list[str]:
    """What is wrong after `bertconv gc`: nothing but an output is left, and it is the old one or the new one, whole."""
    run = server.run(["gc", scene.work])
    after = {name: content for name, content in cp.snapshot(scene.work).items() if name != "made" or content}
    expected = [{name: content for name, content in tree.items() if name != "made"} for tree in (scene.old, scene.new)]
    if run.status == 0 and after in expected:
        return []
    return [f"gc: exit {run.status}, {_difference(after, expected[1])}: {said(run.text)}"]


def verify_point(server: Server, scene: Scene, fault: Fault) -> tuple[Run, list[str]]:
    """`bertconv verify DST` on a sound output, with a fault at a read: it may not know, but it says nothing wrong."""
    run = server.run_with(["verify", scene.destination], scene.work, fault)
    if run.status == 0 and fault.mode != "eio":
        return run, []
    if not run.fired or fault.mode in {"short", "eintr"}:
        return run, [] if run.status == 0 else [f"exit code {run.status}: {said(run.text)}"]
    problems = [] if run.status in {1, 5} else [f"exit code {run.status}, not 1 or 5: {said(run.text)}"]
    name = run.hit.path.rpartition("/")[2] if run.hit is not None else ""
    return run, problems + ([] if name in run.text else [f"{name} is not named: {said(run.text)}"])


def next_run(server: Server, scene: Scene) -> list[str]:
    """What is wrong after a run without a fault: it must succeed, and leave the new output and nothing else."""
    run = server.run(scene.again())
    after = cp.snapshot(scene.work)
    if run.status == 0 and after == scene.new:
        return []
    return [f"the next run: exit {run.status}, {_difference(after, scene.new)}: {said(run.text)}"]


def is_new(scene: Scene, tree: Tree) -> bool:
    return _output(tree) == _output(scene.new)


def is_whole(scene: Scene, tree: Tree) -> bool:
    """The destination is the old output or the new one, byte by byte."""
    return _output(tree) in (_output(scene.old), _output(scene.new))


def said(text: str) -> str:
    """The end of what a run said, on one line."""
    return " ".join(text.split())[-400:]


def typed(text: str, *codes: int, status: int | None) -> list[str]:
    """What is wrong with an end by an error."""
    problems = [] if status in codes else [f"exit code {status}, not one of {codes}: {said(text)}"]
    if status in codes and not text.startswith("Error: "):
        problems.append(f"no message: {said(text)}")
    return problems + [
        f"{word} in: {said(text)}" for word in ("Traceback", "Exception ignored", "Fatal") if word in text
    ]


def _is_set_aside(point: Point, after: Tree) -> bool:
    """Between two renames the old output has another name, and the next run puts it back: there is no better way."""
    two_renames = point.scene.over and not point.scene.kind.exchange
    if not two_renames or point.fault.mode not in {"kill", "killmid", "nospace"} or _output(after):
        return False
    parts = {tuple(name.split("/", 2)): content for name, content in after.items() if name.count("/") > 1}
    aside = {f"made/out/{rest}": content for (_, top, rest), content in parts.items() if _ASIDE.fullmatch(top)}
    return aside == _output(point.scene.old)


def _is_left(call: Call) -> bool:
    """A failure that leaves something to the next run: what is not removed, or not listed to be removed.

    And a lock that a run does not hold is not its to remove.
    """
    return call.name in {*REMOVALS, "flock"} or ("open" in call.name and _FOLDER.fullmatch(call.path) is not None)


def _output(tree: Tree) -> Tree:
    return {name: content for name, content in tree.items() if name.startswith("made/out/")}


def _difference(found: Tree, expected: Tree) -> str:
    more, less = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    other = sorted(name for name in set(found) & set(expected) if found[name] != expected[name])
    return f"more {more[:4]}, less {less[:4]}, other {other[:4]}"


def _model(scene: Scene, run: Run, after: Tree) -> list[str]:
    """Old or new, whole; new where the run says so."""
    if not is_whole(scene, after):
        return [f"the destination is neither the old output nor the new one: {_difference(after, scene.new)}"]
    if run.status == 0 and not is_new(scene, after):
        return ["FALSE SUCCESS: exit 0, and the output is not there"]
    if "nothing was changed" in run.text and is_new(scene, after) and _output(scene.old) != _output(after):
        return [f"FALSE FAILURE: the new output is in its place: {said(run.text)}"]
    return [] if run.status is not None else ["it hung"]


def _writing(point: Point, run: Run) -> list[str]:
    """The right end of a run with a fault where it writes."""
    mode = point.fault.mode
    if not run.fired or mode in {"short", "eintr"}:
        return [] if run.status == 0 else [f"exit code {run.status}: {said(run.text)}"]
    if mode in {"kill", "killmid"}:
        return [] if run.status == -signal.SIGKILL else [f"exit code {run.status} of a killed run: {said(run.text)}"]
    name = run.hit.name if run.hit is not None else ""
    if run.status == 0 and name in {*REMOVALS, "mkdir"}:  # left to the next run; and a folder that is there already
        return []
    return typed(run.text, 7, status=run.status)


def _reading(point: Point, run: Run) -> list[str]:
    """The right end of a run with a fault where it reads: an error that names the file; or the right output."""
    mode = point.fault.mode
    if not run.fired or mode in {"short", "eintr"}:
        return [] if run.status == 0 else [f"exit code {run.status}: {said(run.text)}"]
    if run.status == 0 and mode != "eio":
        return []
    if run.status == 0 and run.hit is not None and (_is_left(run.hit) or _is_the_caches(run.hit)):
        return []
    codes = {5} if run.hit is None or not _is_the_caches(run.hit) else {8}
    if point.side == "work" or (run.hit is not None and run.hit.name == "copy_file_range"):
        codes.add(7)  # what is read there was written; and the kernel does not say which side of a copy failed
    if point.side == "work" and point.scene.kind.words[0] == "pull":
        codes.add(1)  # it holds the copy to its record as `verify DST` does
    problems = typed(run.text, *codes, status=run.status)
    name = run.hit.path.rpartition("/")[2] if run.hit is not None else ""
    if run.status == 5 and not any(each in run.text for each in (name, *_links(point.scene, name))):
        problems.append(f"{name} is not named: {said(run.text)}")
    return problems


def _is_the_caches(call: Call) -> bool:
    """A note of huggingface_hub's: which commit a branch is, and, where it needs none, what that commit holds."""
    return re.search(r"/(refs|trees)/[^/]+$", call.path) is not None


def _links(scene: Scene, name: str) -> list[str]:
    """What a file of the Hub's cache is called where it is used."""
    links = (path for path in scene.source.rglob("*") if path.is_symlink())
    return [path.name for path in links if path.readlink().name == name]


def _leftovers(point: Point, run: Run, after: Tree) -> list[str]:
    """A run that was not killed leaves what was there, or the new output."""
    if point.fault.mode in {"kill", "killmid"} and run.fired:
        return []
    if run.hit is not None and _is_left(run.hit) and point.fault.mode == "eio":
        return []
    expected = scene_after(point.scene, after)
    return [] if after == expected else [f"left behind: {_difference(after, expected)}"]


def scene_after(scene: Scene, after: Tree) -> Tree:
    """All that may be there with the output that is there."""
    return scene.new if is_new(scene, after) else scene.old
