"""A fault at the K-th read: an error that names the file, or the right output; never zeros for missing bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qa.faults.client import Server
from qa.faults.runs import (
    READ_BACK,
    READ_MODES,
    Point,
    counted,
    points_of,
    run_point,
    sample,
    verify_point,
    verify_points,
)
from qa.faults.scenes import READING, WRITING, Kind, Scene
from qa.faults.shim import Fault

COPIED = next(kind for kind in WRITING if kind.name == "pt-copied")


@pytest.mark.parametrize("kind", READING, ids=lambda kind: kind.name)
def test_a_fault_while_reading(
    kind: Kind, server: Server, scene_of: Callable[..., Scene], survey: Callable[..., None]
) -> None:
    """Also an input that is cut, written over or replaced while it is read."""
    scene = scene_of(kind, over=True)
    points = points_of(scene, counted(server, scene, "source", reads=True), READ_MODES, "source", reads=True)
    assert {point.fault.mode for point in points} == set(READ_MODES)
    survey(points, 7)


@pytest.mark.parametrize("kind", WRITING, ids=lambda kind: kind.name)
def test_a_fault_while_reading_back(
    kind: Kind, server: Server, scene_of: Callable[..., Scene], survey: Callable[..., None]
) -> None:
    scene = scene_of(kind, over=True)
    points = points_of(scene, counted(server, scene, reads=True), READ_BACK, reads=True)
    survey(points, 4)


@pytest.mark.parametrize("name", ["vocab.txt", "bertconv.json", "model.safetensors"])
def test_what_was_just_written_ends_too_early(name: str, server: Server, scene_of: Callable[..., Scene]) -> None:
    """The manifest is not made of what a read happens to give."""
    scene = scene_of(COPIED, over=True)
    calls = counted(server, scene, reads=True)
    found = [at for at, call in enumerate(calls, 1) if call.path.endswith(f"/{name}") and "open" not in call.name]
    assert found
    for at in found:
        run, problems = run_point(server, Point(scene, Fault("zero", at, reads=True)))
        assert not problems, f"{run.hit}: {problems}"


@pytest.mark.parametrize("mode", READ_BACK)
def test_a_fault_while_an_output_is_checked(
    mode: str, server: Server, scene_of: Callable[..., Scene], seed: int
) -> None:
    scene = scene_of(WRITING[3], over=False)
    points = [point for point in verify_points(server, scene) if point.fault.mode == mode]
    wrong = []
    for point in sample(seed, points, 6):
        run, problems = verify_point(server, scene, point.fault)
        wrong += [f"{point} ({run.hit}): {problem}" for problem in problems]
    assert not wrong, "\n".join([f"BERTCONV_FAULTS_SEED={seed}", *wrong])


@pytest.mark.parametrize("mode", ["truncate", "scribble", "swap"])
@pytest.mark.parametrize("kind", READING, ids=lambda kind: kind.name)
def test_an_input_changed_between_header_and_data(
    kind: Kind, mode: str, server: Server, scene_of: Callable[..., Scene]
) -> None:
    """At the first byte of weights: cut or written over it is refused; replaced, the open file is read on."""
    scene = scene_of(kind, over=True)
    calls = counted(server, scene, "source", reads=True)
    path = next(call.path for call in calls if call.path.endswith(scene.weights[-1]))
    at = [number for number, call in enumerate(calls, 1) if call.path == path and call.name != "open"][-8]
    point = Point(scene, Fault(mode, at, reads=True, value=50, other=str(scene.root / "swap")), "source")
    run, problems = run_point(server, point)
    assert not problems, f"{point}: {problems}"
    assert run.fired
    assert (run.status == 0) == (mode == "swap"), run.text
