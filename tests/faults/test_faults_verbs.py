"""Every verb that writes a folder: old or new, whole, at a few of its calls; `python -m qa.faults` tries them all."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from bertconv.cli.main import COMMANDS, cli
from qa.faults.client import Server
from qa.faults.runs import READ_MODES, WRITE_MODES, Point, counted, points_of, run_point
from qa.faults.scenes import WRITING, Kind, Scene
from qa.faults.shim import Fault
from qa.faults.verbs import VERBS

SEVERAL_INPUTS = [kind for kind in VERBS if kind.name in {"attach", "merge"}]


def test_no_verb_is_forgotten() -> None:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    writing = {name for name, one in commands.items() if one and "overwrite" in {each.name for each in one.params}}
    assert writing - {"demo"} == {kind.words[0] for kind in (*WRITING, *VERBS)}  # which is two conversions


@pytest.mark.parametrize("number", range(len(VERBS)), ids=[kind.name for kind in VERBS])
def test_a_fault_while_a_verb_writes(
    number: int, server: Server, scene_of: Callable[..., Scene], survey: Callable[..., None]
) -> None:
    scene = scene_of(VERBS[number], over=number % 3 > 0)
    points = points_of(scene, counted(server, scene), WRITE_MODES)
    assert {point.fault.mode for point in points} == set(WRITE_MODES)
    survey(points, 6)


@pytest.mark.parametrize("kind", SEVERAL_INPUTS, ids=lambda kind: kind.name)
def test_a_fault_while_a_verb_reads(
    kind: Kind, server: Server, scene_of: Callable[..., Scene], survey: Callable[..., None]
) -> None:
    scene = scene_of(kind, over=True)
    points = points_of(scene, counted(server, scene, "source", reads=True), READ_MODES, "source", reads=True)
    survey(points, 7)


@pytest.mark.parametrize(("side", "name"), [("source", "model-00001-of-00003.safetensors"), ("work", "config.json")])
def test_a_file_that_cannot_be_opened(side: str, name: str, server: Server, scene_of: Callable[..., Scene]) -> None:
    """What the system says of it is told: it is not taken for a link or for a file that is not there."""
    scene = scene_of(VERBS[-1], over=True)
    calls = counted(server, scene, side, reads=True)
    at = [number for number, call in enumerate(calls, 1) if call.name == "open" and call.path.endswith(f"/{name}")]
    for number in at:
        run, problems = run_point(server, Point(scene, Fault("eio", number, reads=True), side))
        assert not problems
        assert name in run.text
        assert "Input/output error" in run.text
    assert at
