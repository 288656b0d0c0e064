"""The server under the shim, one for all tests here, and the seed of what they sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qa.faults.client import Server, serving
from qa.faults.runs import Point, run_point, sample
from qa.faults.scenes import Kind, Scene, make_scene
from qa.faults.shim import obstacle

SEED = int(os.environ.get("BERTCONV_FAULTS_SEED", "5"))
"""Of the points that are sampled; `python -m qa.faults --every` runs all of them."""


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if problem := obstacle():
        pytest.skip(problem)
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def scene_of(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Scene]:
    """Makes a scene once for all tests that ask for it."""
    folder = tmp_path_factory.mktemp("scenes")
    made: dict[tuple[str, bool], Scene] = {}

    def make(kind: Kind, *, over: bool) -> Scene:
        key = (kind.name, over)
        if key not in made:
            made[key] = make_scene(server, folder, kind, over=over)
        return made[key]

    return make


@pytest.fixture
def survey(server: Server, seed: int) -> Callable[[list[Point], int], None]:
    """Runs a sample of the points; fails with all that was wrong, and how to see it again."""

    def run(points: list[Point], most: int) -> None:
        chosen = sample(seed, points, most)
        fired, wrong = 0, []
        for point in chosen:
            result, problems = run_point(server, point)
            fired += bool(result.fired)
            wrong += [f"{point} ({result.hit}): {problem}" for problem in problems]
        listed = "\n".join(wrong)
        assert not wrong, f"BERTCONV_FAULTS_SEED={seed}, {len(chosen)} of {len(points)} points:\n{listed}"
        assert fired > len(chosen) // 2, f"only {fired} of {len(chosen)} faults happened"

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that a test may mount something on."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder
