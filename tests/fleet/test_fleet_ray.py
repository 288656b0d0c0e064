"""Ray as an engine: one cluster, on which items are done, refused, lost with their worker, and done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints as cp
import pytest

from bertconv import convert_checkpoint
from bertconv.errors import RequestError
from bertconv.fleet.engines import ray as engine_of_ray
from bertconv.fleet.engines.ray import RayEngine, run
from bertconv.fleet.items import Item, write_items
from qa import ROOT

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
SMALL = {"num_hidden_layers": 1}


class Seen:
    """The scenes, run once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.items = [self.item("one", 1), self.item("two", 2), self.item("cut", 3)]
        os.truncate(root / "cut" / "model.safetensors", 5000)
        (root / "items.jsonl").write_text("".join(write_items(self.items)))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("ray_scenes.py")), str(root)], check=False,
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.out, self.err = done.stdout, done.stderr
        self.facts: dict[str, Any] = json.loads((root / "facts.json").read_bytes())

    def item(self, name: str, seed: int) -> Item:
        folder = cp.save(self.root / name, "BertModel", cp.state_dict("BertModel", seed=seed, **SMALL), **SMALL)
        return Item(str(folder), str(self.root / "out" / name), options={"to": "tf-safetensors"})

    def outcomes(self, scene: str) -> list[dict[str, Any] | None]:
        """Of the items, in their order."""
        return [self.facts[scene][item.id]["outcome"] for item in self.items]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("ray"))


@needs_ray
def test_items_are_done_as_by_single_commands(seen: Seen, tmp_path: Path) -> None:
    outcomes = seen.outcomes("first")
    assert [one and (one["state"], one["code"]) for one in outcomes] == [("done", 0), ("done", 0), ("failed", 5)]
    for item in seen.items[:2]:
        convert_checkpoint(item.src, tmp_path / "single" / Path(item.src).name, to="tf-safetensors", verify="weights")
    assert cp.snapshot(seen.root / "out") == cp.snapshot(tmp_path / "single")


@needs_ray
def test_a_worker_that_is_killed_is_lost_and_no_more_than_that(seen: Seen) -> None:
    (lost,) = seen.facts["lost"].values()
    assert lost["outcome"] is None
    assert "Ray lost its worker" in lost["why"]
    assert [one and one["state"] for one in seen.outcomes("again")] == ["kept", "kept", "failed"]


@needs_ray
def test_an_item_can_have_a_process_of_its_own(seen: Seen) -> None:
    (alone,) = seen.facts["alone"].values()
    assert alone["outcome"]["state"] == "kept"
    workers = {one["worker"] for one in seen.outcomes("first") if one}
    assert alone["outcome"]["worker"] not in workers


@needs_ray
def test_nothing_is_started_early_or_left(seen: Seen) -> None:
    assert seen.facts["slots"] == 2
    assert seen.facts["before"] == 0
    assert seen.facts["left"] == []
    assert seen.facts["processes"]
    assert seen.facts["folder"].startswith(f"/tmp/{engine_of_ray._PREFIX}")
    assert not Path(seen.facts["folder"]).exists()
    assert seen.facts["handler"]


@needs_ray
def test_standard_output_is_left_to_results(seen: Seen) -> None:
    assert seen.out == ""


def test_ray_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_of_ray, "find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"pip install 'bertconv\[ray\]'"):
        RayEngine()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked at in /proc")
def test_a_cluster_that_does_not_start_is_tried_again_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def fails(engine: RayEngine, _: object) -> None:
        engine._folder = engine_of_ray._Folder()
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        raise Exception("the node timed out.\nmore")  # noqa: TRY002  (what Ray raises)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(RayEngine, "_init", fails)
    engine = RayEngine(workers=1) if find_spec("ray") else RayEngine.__new__(RayEngine)
    engine.address, engine._folder = None, None
    shut = []
    with pytest.raises(RequestError, match="cannot be started here: the node timed out"):
        engine._connect(SimpleNamespace(shutdown=lambda: shut.append(1)))
    assert len(started) == len(shut) == engine_of_ray._STARTS
    assert engine._folder is None
    for process in started:
        process.communicate()
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_node_with_another_version_is_refused() -> None:
    with pytest.raises(RequestError, match=r"has bertconv .*, and the driver has 0\.0\.1") as caught:
        run(Item("somewhere").to_json(), False, "0.0.1")
    assert "every node" in caught.value.hint


def test_folders_of_killed_drivers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_of_ray, "_MOST_BASE", 1000)
    monkeypatch.setattr(engine_of_ray.tempfile, "tempdir", str(tmp_path))
    living = engine_of_ray._Folder()
    abandoned = tmp_path / f"{engine_of_ray._PREFIX}dead"
    (abandoned / "session").mkdir(parents=True)
    (abandoned / "lock").touch()
    (tmp_path / f"{engine_of_ray._PREFIX}link").symlink_to(living.path)
    another = engine_of_ray._Folder()
    assert {path.name for path in tmp_path.iterdir()} == {
        living.path.name, another.path.name, f"{engine_of_ray._PREFIX}link"
    }  # fmt: skip
    living.remove()
    another.remove()
    assert [path.name for path in tmp_path.iterdir()] == [f"{engine_of_ray._PREFIX}link"]
