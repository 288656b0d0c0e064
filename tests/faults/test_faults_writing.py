"""A fault at the K-th call that changes something: the destination is the old output or the new one, whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import checkpoints as cp
import pytest

from qa.faults.client import Run, Server
from qa.faults.runs import REMOVALS, WRITE_MODES, Point, counted, is_new, points_of, run_point
from qa.faults.scenes import WRITING, Kind, Scene
from qa.faults.shim import Fault

BY_NAME = {kind.name: kind for kind in WRITING}
TF = BY_NAME["tf"]
PT = BY_NAME["pt-copied"]
TWO_RENAMES = BY_NAME["pt-two-renames"]


@pytest.mark.parametrize("over", [False, True], ids=["new", "over"])
@pytest.mark.parametrize("kind", WRITING, ids=lambda kind: kind.name)
def test_a_fault_while_writing(
    kind: Kind, over: bool, server: Server, scene_of: Callable[..., Scene], survey: Callable[..., None]
) -> None:
    scene = scene_of(kind, over=over)
    points = points_of(scene, counted(server, scene), WRITE_MODES)
    assert {point.fault.mode for point in points} == set(WRITE_MODES)
    survey(points, 6)


def at_call(server: Server, scene: Scene, mode: str, name: str, number: int = 1) -> Run:
    """A run with a fault at the first call of this name, or at another."""
    run, problems = run_point(server, Point(scene, Fault(mode, number, only=name)))
    assert not problems, problems
    assert run.fired
    return run


@pytest.mark.parametrize("mode", ["eio", "nospace"])
def test_no_room_for_the_staged_folder(mode: str, server: Server, scene_of: Callable[..., Scene]) -> None:
    at_call(server, scene_of(PT, over=True), mode, "mkdir")


def test_every_call_is_seen(server: Server, scene_of: Callable[..., Scene]) -> None:
    """A call that the shim missed would be a fault that nobody injects."""
    names = {call.name for kind in (TF, PT) for call in counted(server, scene_of(kind, over=True))}
    assert {
        "open",
        "flock",
        "mkdir",
        "pwrite",
        "copy_file_range",
        "write",
        "fsync",
        "renameat2",
        "unlink",
        "rmdir",
    } <= names


@pytest.mark.parametrize("mode", ["eio", "kill", "killmid"])
def test_at_the_exchange(mode: str, server: Server, scene_of: Callable[..., Scene]) -> None:
    """Killed behind it the new output is there, else the old one."""
    scene = scene_of(PT, over=True)
    scene.reset()
    server.run_with(scene.arguments(), scene.work, Fault(mode, 1, only="renameat2"))
    output = {name: content for name, content in cp.snapshot(scene.work).items() if name.startswith("made/out/")}
    expected = scene.new if mode == "killmid" else scene.old
    assert output == {name: content for name, content in expected.items() if name.startswith("made/out/")}
    at_call(server, scene, mode, "renameat2")


def test_failed_fsync_of_the_parent_is_said(server: Server, scene_of: Callable[..., Scene]) -> None:
    """The new output is in its place, and nobody knows whether it will stay there."""
    scene = scene_of(PT, over=True)
    last = sum(call.name == "fsync" for call in counted(server, scene))
    run = at_call(server, scene, "eio", "fsync", last)
    assert run.status == 7
    assert "may not survive a power cut" in run.text
    assert is_new(scene, cp.snapshot(scene.work))


def test_third_rename_where_names_cannot_be_swapped(server: Server, scene_of: Callable[..., Scene]) -> None:
    """The old output, which lies aside, is removed; the new one is in its place by then."""
    scene = scene_of(TWO_RENAMES, over=True)
    calls = [call for call in counted(server, scene) if call.name in {"rename", *REMOVALS}]
    assert [call.name for call in calls[:3]] == ["rename", "rename", "unlink"]
    run, problems = run_point(server, Point(scene, Fault("eio", 1, only="unlink", no_exchange=True)))
    assert not problems
    assert run.status == 0


def test_what_was_set_aside_is_told(server: Server, scene_of: Callable[..., Scene]) -> None:
    """Names cannot be swapped, and the old output cannot be put back either: the user must know where it is."""
    scene = scene_of(TWO_RENAMES, over=True)
    run, problems = run_point(server, Point(scene, Fault("nospace", 2, only="rename", no_exchange=True)))
    assert not problems
    assert run.status == 7
    assert "-old" in run.text
    assert "nothing was changed" not in run.text


def test_a_lock_that_fails(server: Server, scene_of: Callable[..., Scene]) -> None:
    """It is not reported as a lock that somebody else holds."""
    run = at_call(server, scene_of(PT, over=True), "eio", "flock")
    assert run.status == 7
    assert "another" not in run.text


def test_failed_removal_of_the_old_output(server: Server, scene_of: Callable[..., Scene]) -> None:
    """The new output counts; what could not be removed is removed by the next run."""
    scene = scene_of(PT, over=True)
    assert at_call(server, scene, "eio", "rmdir").status == 0


def test_a_judge_that_sees(server: Server, scene_of: Callable[..., Scene]) -> None:
    """A positive control: what these tests look for is found when it is there."""
    scene = scene_of(PT, over=True)
    wrong = {name: content for name, content in scene.new.items() if not name.endswith("vocab.txt")}
    point = Point(replace(scene, new=wrong), Fault("kill", 10_000))
    problems = "\n".join(run_point(server, point)[1])
    assert "neither the old output nor the new one" in problems
    assert "the next run" in problems
    assert Path(scene.destination, "vocab.txt").exists()
