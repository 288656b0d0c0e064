"""Signals at every call and at random moments: exit code 128+n, old or new whole, nothing left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import checkpoints as cp
import pytest
from patience import until

from qa.faults.client import Server
from qa.faults.moments import HEARD, SIGNALS, heard, is_over, signal_round, started, stopped
from qa.faults.runs import counted, is_whole, next_run
from qa.faults.scenes import WRITING, Kind, Scene
from qa.faults.shim import Fault

KINDS = [kind for kind in WRITING if kind.name in {"tf", "tf-safetensors-sharded", "pt-copied"}]
COPIED = KINDS[-1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_at_a_call(kind: Kind, server: Server, scene_of: Callable[..., Scene], seed: int) -> None:
    """From inside of the process, before the call: nobody can say that the run was over."""
    scene = scene_of(kind, over=True)
    calls = counted(server, scene)
    chance = random.Random(seed)
    for at in [len(calls), *chance.sample(range(1, len(calls)), 8)]:
        number = chance.choice(SIGNALS)
        scene.reset()
        run = server.run_with(scene.arguments(), scene.work, Fault("signal", at, value=number))
        problems = stopped(scene, run, number)
        assert not problems, f"BERTCONV_FAULTS_SEED={seed}, signal {number} at call {at}: {run.hit}: {problems}"
        assert run.status == 128 + number or not run.fired


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_at_random_moments(kind: Kind, server: Server, scene_of: Callable[..., Scene], seed: int) -> None:
    scene = scene_of(kind, over=True)
    chance = random.Random(seed)
    for _ in range(10):
        number, delay = chance.choice(SIGNALS), chance.uniform(0, HEARD)
        run, problems = signal_round(server, scene, number, delay)
        assert not problems, (
            f"BERTCONV_FAULTS_SEED={seed}, signal {number} after {delay:.4f} s: {run.status} {problems}"
        )


def paused(server: Server, scene: Scene, same_seconds: float) -> int:
    """A run of which a thread rests in the first copy of weights until the shim is disarmed; its process id."""
    scene.reset()
    server.shim.arm(scene.work, Fault("pause", 1, only="copy_file_range"))
    pid = server.start(scene.arguments(), same_seconds=same_seconds)
    until(lambda: server.shim.fired or is_over(pid))
    assert server.shim.fired
    return pid


def test_the_second_signal_ends_at_once(server: Server, scene_of: Callable[..., Scene]) -> None:
    """What is left then is taken away by the next run."""
    scene = scene_of(COPIED, over=True)
    pid = paused(server, scene, same_seconds=-1)
    heard(pid, signal.SIGINT)
    heard(pid, signal.SIGTERM)
    run = server.wait(pid)  # the thread rests to the end
    server.shim.disarm()
    assert run.status == 128 + signal.SIGTERM
    assert is_whole(scene, cp.snapshot(scene.work))
    assert next_run(server, scene) == []


def test_twice_in_a_row_is_once(server: Server, scene_of: Callable[..., Scene]) -> None:
    """As timeout(1) sends them: it cleans up."""
    scene = scene_of(COPIED, over=True)
    pid = paused(server, scene, same_seconds=1e9)
    heard(pid, signal.SIGTERM)
    heard(pid, signal.SIGTERM)
    server.shim.disarm()
    run = server.wait(pid)
    assert stopped(scene, run, signal.SIGTERM) == []
    assert run.status == 128 + signal.SIGTERM


def test_the_kill_that_nobody_hears(server: Server, scene_of: Callable[..., Scene], seed: int) -> None:
    """kill -9 at random moments; one run later everything is as if nothing had been."""
    scene = scene_of(COPIED, over=True)
    chance = random.Random(seed)
    for _ in range(6):
        delay = chance.uniform(0, HEARD)
        pid = started(server, scene)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        run = server.wait(pid)
        server.shim.disarm()
        after = cp.snapshot(scene.work)
        assert is_whole(scene, after), f"BERTCONV_FAULTS_SEED={seed}, after {delay:.4f} s"
        assert run.status in {0, -signal.SIGKILL}
        assert next_run(server, scene) == []
