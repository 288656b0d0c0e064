"""Worker processes: one that dies loses its own item alone, and nothing is left behind, neither process nor file."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import checkpoints as cp
import pytest
from fleets import FORMAT, make_many

from bertconv import convert_checkpoint
from bertconv.errors import RequestError
from bertconv.fleet.engines import alone, local
from bertconv.fleet.engines.child import Child
from bertconv.fleet.engines.engine import Finished
from bertconv.fleet.engines.local import LocalEngine
from bertconv.fleet.items import Item, placed

LONG = 60.0


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    sources = make_many(tmp_path / "sources", 4)
    return placed((Item(str(path), options={"to": FORMAT}) for path in sources), str(tmp_path / "out"))


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    found = LocalEngine(2)
    yield found
    found.close(stop=True)


def wait_for(engine: LocalEngine, number: int) -> list[Finished]:
    found: list[Finished] = []
    while len(found) < number:
        found += engine.wait(LONG)
    return found


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_is_killed_loses_its_own_item_alone(engine: LocalEngine, items: list[Item]) -> None:
    for item in items[:2]:
        engine.submit(item, alone=False)
    first, second = engine.pids
    os.kill(first, signal.SIGKILL)  # it has only just begun
    ends = {one.name: one for one in wait_for(engine, 2)}
    dead, good = ends[items[0].id], ends[items[1].id]
    assert dead.outcome is None
    assert "SIGKILL" in dead.why
    assert good.outcome is not None
    assert (good.outcome.state, good.outcome.worker.rpartition(":")[2]) == ("done", str(second))
    engine.submit(items[0], alone=False)
    (again,) = wait_for(engine, 1)
    assert again.outcome is not None
    assert again.outcome.state == "done"


def test_a_worker_that_dies_idle_costs_no_item(engine: LocalEngine, items: list[Item]) -> None:
    engine.submit(items[0], alone=False)
    (pid,) = engine.pids
    wait_for(engine, 1)
    os.kill(pid, signal.SIGKILL)
    assert engine.wait(LONG) == []
    assert not is_there(pid)
    engine.submit(items[1], alone=False)
    (end,) = wait_for(engine, 1)
    assert end.outcome is not None
    assert end.outcome.state == "done"


def test_workers_are_reused_and_replaced_and_write_what_single_runs_do(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MOST_ITEMS", 2)
    engine, pids = LocalEngine(1), []
    for item in items[:3]:
        engine.submit(item, alone=False)
        pids.append(*engine.pids)
        (end,) = wait_for(engine, 1)
        assert end.outcome is not None
        assert end.outcome.state == "done"
    engine.close()
    assert pids[0] == pids[1] != pids[2]
    assert not any(map(is_there, pids))
    for item in items[:3]:
        convert_checkpoint(item.src, tmp_path / "single", to=FORMAT, overwrite=True, verify="weights")
        assert cp.snapshot(Path(item.dst)) == cp.snapshot(tmp_path / "single")


def test_an_engine_that_is_stopped_leaves_nothing(items: list[Item], tmp_path: Path) -> None:
    engine = LocalEngine(2)
    for item in items[:2]:
        engine.submit(item, alone=False)
    pids = engine.pids
    engine.close(stop=True)
    assert not any(map(is_there, pids))
    out = tmp_path / "out"
    assert [path for path in out.rglob(".*")] == []  # noqa: C416  (names with a dot are locks and staged folders)


def test_last_words_are_kept() -> None:
    child = Child()
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(EOFError):
        child.receive()
    assert "SIGSEGV" in child.why()
    child.close()


def test_a_worker_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(RequestError, match="cannot be started: Resource temporarily unavailable"):
        Child()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


# Alone


def test_an_item_alone_is_done_as_any_other(engine: LocalEngine, items: list[Item]) -> None:
    engine.submit(items[0], alone=True)
    (supervisor,) = engine.pids
    (end,) = wait_for(engine, 1)
    assert end.outcome is not None
    assert end.outcome.state == "done"
    assert not end.outcome.worker.endswith(f":{supervisor}")


@pytest.mark.parametrize(
    ("limits", "ends", "said"),
    [
        # Python says so itself, or dies of it, by where it is when its memory ends
        ({"memory": 24 << 20}, {(9, "MemoryError"), (137, "LostWorker")}, "24 MB of memory, alone too|within 24 MB"),
        ({"seconds": 0.001}, {(137, "LostWorker")}, "took longer than"),
    ],
)
def test_limits_end_the_item_and_nothing_else(
    limits: dict[str, float], ends: set[tuple[int, str]], said: str, items: list[Item]
) -> None:
    outcome = alone.run_alone(items[0], **limits)  # type: ignore[arg-type]
    assert outcome.state == "failed"
    assert (outcome.code, outcome.kind) in ends
    assert re.search(said, outcome.message)
    assert not Path(items[0].dst).exists()


def test_leftovers_of_an_item_alone_are_removed(items: list[Item]) -> None:
    place = Path(items[0].dst)
    left = place.parent / f".{place.name}.bertconv-tmp-0123456789ab"
    left.mkdir(parents=True)
    alone.run_alone(items[0], seconds=0.001)
    assert not left.exists()
